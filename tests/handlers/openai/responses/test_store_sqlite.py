"""The file of the response store: it outlives the server, is private, and a wrong file is told at the start."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from specserve.handlers.flags import UsageError
from specserve.handlers.openai.responses.store import StoredResponse, StoreLimits
from specserve.handlers.openai.responses.store_sqlite import SCHEMA_VERSION, SqliteStore, open_store

LIMITS = StoreLimits()


def stored(response_id: str, status: str = "completed", text: str = "hi") -> StoredResponse:
    body = {"id": response_id, "status": status, "output": [], "error": None, "note": text}
    return StoredResponse(response_id, "ann", status, json.dumps(body).encode(), b'[{"id":"msg_1"}]', b"events")


async def filled(path: Path, *responses: StoredResponse) -> None:
    store = open_store(path, LIMITS)
    for one in responses:
        assert await store.put(one)
    await store.close()


async def test_a_restart_finds_everything_again(tmp_path: Path) -> None:
    path = tmp_path / "responses.sqlite"
    first, second = stored("resp_1"), stored("resp_2")
    store = open_store(path, LIMITS)
    await store.put(first)
    await store.put(second, [first])
    before = store.numbers
    await store.close()
    again = open_store(path, LIMITS)
    assert await again.chain("ann", "resp_2") == [first, second]
    assert again.numbers == before
    await again.close()


KILLED = """
import asyncio, os, pathlib, sys
from specserve.handlers.openai.responses.store import StoredResponse, StoreLimits
from specserve.handlers.openai.responses.store_sqlite import open_store
store = open_store(pathlib.Path(sys.argv[1]), StoreLimits())
asyncio.run(store.put(StoredResponse("resp_1", "ann", "completed", b"{}")))
os.kill(os.getpid(), 9)
"""


def test_a_process_that_is_killed_loses_nothing_it_kept(tmp_path: Path) -> None:
    path = tmp_path / "responses.sqlite"
    assert subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False).returncode == -9

    async def look() -> None:
        store = open_store(path, LIMITS)
        assert await store.get("ann", "resp_1") is not None
        await store.close()

    asyncio.run(look())


async def test_smaller_limits_let_the_oldest_go_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "responses.sqlite"
    await filled(path, *[stored(f"resp_{number}") for number in range(5)])
    store = open_store(path, StoreLimits(entries=2))
    assert [await store.get("ann", f"resp_{number}") is not None for number in range(5)] == [False] * 3 + [True] * 2
    await store.close()


@pytest.mark.parametrize("status", ["queued", "in_progress"])
async def test_what_a_stop_cut_off_has_failed_after_the_restart(tmp_path: Path, status: str) -> None:
    path = tmp_path / "responses.sqlite"
    await filled(path, stored("resp_1", status), stored("resp_2", "incomplete"))
    store = open_store(path, LIMITS)
    cut, whole = await store.get("ann", "resp_1"), await store.get("ann", "resp_2")
    assert cut is not None
    assert whole is not None
    assert (cut.status, whole.status) == ("failed", "incomplete")
    told = json.loads(cut.response)
    assert (told["status"], told["error"]["code"]) == ("failed", "server_error")
    assert store.numbers.num_bytes == cut.num_bytes + whole.num_bytes
    await store.close()


async def test_nobody_else_may_read_the_file_or_what_lies_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "responses.sqlite"
    path.touch(0o644)
    store = open_store(path, LIMITS)
    await store.put(stored("resp_1"))
    modes = {name: stat.S_IMODE((path.parent / name).stat().st_mode) for name in os.listdir(tmp_path)}
    assert path.name in modes
    assert set(modes.values()) == {0o600}
    await store.close()


async def test_what_was_deleted_is_not_left_in_the_file_or_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "responses.sqlite"
    store = open_store(path, LIMITS)
    await store.put(stored("resp_1", text="a secret that was told"))
    await store.put(stored("resp_2"))
    await store.delete("ann", "resp_1")
    await store.expire()
    written = b"".join((path.parent / name).read_bytes() for name in os.listdir(tmp_path))
    assert b"resp_2" in written
    assert b"a secret" not in written
    await store.close()
    assert os.listdir(tmp_path) == [path.name]


async def test_a_damaged_file_is_told_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "responses.sqlite"
    await filled(path, *[stored(f"resp_{number}", text="x" * 5000) for number in range(20)])
    raw = bytearray(path.read_bytes())
    raw[5000:40_000] = os.urandom(35_000)
    path.write_bytes(raw)
    with pytest.raises(UsageError, match="damaged") as problem:
        open_store(path, LIMITS)
    assert "another file" in problem.value.remedy


@pytest.mark.parametrize("content", [b"not a database, but long enough to be looked at as one " * 20, b"{}"])
def test_a_file_of_another_kind_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="damaged or no response store"):
        open_store(path, LIMITS)
    assert path.read_bytes() == content


def test_the_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE things (name TEXT)")
    other.close()
    with pytest.raises(UsageError, match="another program made it"):
        open_store(path, LIMITS)


async def test_a_file_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "responses.sqlite"
    await filled(path, stored("resp_1"))
    with sqlite3.connect(path) as file:
        file.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    file.close()
    with pytest.raises(UsageError, match=f"version {SCHEMA_VERSION + 1}"):
        open_store(path, LIMITS)


async def test_two_servers_do_not_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "responses.sqlite"
    store = open_store(path, LIMITS)
    with pytest.raises(UsageError, match="in use by another server"):
        open_store(path, LIMITS)
    await store.close()
    await open_store(path, LIMITS).close()


@pytest.mark.parametrize("path", [Path("/proc/nowhere/responses.sqlite"), Path("/")])
def test_a_place_that_cannot_be_written_is_told(path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be opened"):
        open_store(path, LIMITS)


async def test_a_full_disk_costs_what_was_to_be_kept_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(tmp_path / "responses.sqlite", LIMITS)
    await store.put(stored("resp_1"))
    before = store.numbers
    store._file._db.execute("PRAGMA max_page_count=10")  # SQLite then says what it says when a disk is full
    assert not await store.put(stored("resp_2", text="x" * 1_000_000))
    assert "resp_2 could not be kept: database or disk is full" in caplog.text
    assert store.numbers == before
    assert await store.get("ann", "resp_1") is not None
    await store.close()


async def test_the_event_loop_never_waits_for_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(tmp_path / "responses.sqlite", LIMITS)
    may_go_on = threading.Event()
    original = store._file.put

    def slow(*arguments: object) -> bool:
        assert may_go_on.wait(30)
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(store._file, "put", slow)
    putting = asyncio.create_task(store.put(stored("resp_1")))
    await asyncio.sleep(0)
    assert store.numbers.entries == 0  # numbers are read while the disk is busy
    assert not putting.done()
    may_go_on.set()
    assert await putting
    await store.close()


async def test_a_client_who_leaves_does_not_cut_what_is_being_kept(tmp_path: Path) -> None:
    store: SqliteStore = open_store(tmp_path / "responses.sqlite", LIMITS)
    putting = asyncio.create_task(store.put(stored("resp_1")))
    await asyncio.sleep(0)
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert await store.get("ann", "resp_1") is not None
    await store.close()
