"""The stores of responses against a model that is only a list, whatever is put, asked, deleted and waited for."""

from __future__ import annotations

import asyncio
import json
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from specserve.handlers.openai.responses.store import (
    OVERHEAD_BYTES,
    MemoryStore,
    ResponseStore,
    StoredResponse,
    StoreLimits,
    items_of,
)
from specserve.handlers.openai.responses.store_shared import SharedStore, StoreService
from specserve.handlers.openai.responses.store_sqlite import SqliteStore, open_store

LIMITS = StoreLimits(entries=4, num_bytes=6 * OVERHEAD_BYTES, age_s=10.0)
OWNERS = st.sampled_from(["", "ann", "bob"])
IDS = st.sampled_from(["resp_1", "resp_2", "resp_3", "resp_4", "resp_5", "resp_6"])


def stored(response_id: str, owner: str = "", text: str = "hi", status: str = "completed") -> StoredResponse:
    """A response that says `text` to a question of the same length."""
    output = [{"type": "message", "content": text}]
    body = {"id": response_id, "status": status, "output": output, "error": None}
    asked = [{"id": f"msg_of_{response_id}", "role": "user", "content": text}]
    return StoredResponse(response_id, owner, status, json.dumps(body).encode(), json.dumps(asked).encode())


@dataclass
class Listed:
    """What the model knows of an entry."""

    chain: tuple[StoredResponse, ...]
    kept_at: float


class StoreMachine(RuleBasedStateMachine):
    """The same steps for a store and for a list of entries, oldest first, each with its whole chain."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.now = 1000.0
        self.store = self.new_store()
        self.listed: dict[tuple[str, str], Listed] = {}
        self.read: tuple[StoredResponse, ...] = ()

    def new_store(self) -> ResponseStore:
        return MemoryStore(LIMITS, lambda: self.now)

    def teardown(self) -> None:
        self.runner.run(self.store.close())
        self.runner.close()

    def counting_store(self) -> ResponseStore:
        return self.store

    def num_bytes(self) -> int:
        return sum({one.turn: one.num_bytes for entry in self.listed.values() for one in entry.chain}.values())

    def expire(self) -> None:
        assert LIMITS.age_s is not None
        self.listed = {key: one for key, one in self.listed.items() if one.kept_at >= self.now - LIMITS.age_s}

    @rule(owner=OWNERS, response_id=IDS, size=st.integers(0, 4 * OVERHEAD_BYTES), continues=st.booleans())
    def put(self, owner: str, response_id: str, size: int, continues: bool) -> None:
        earlier = self.read if continues else ()
        kept = stored(response_id, owner, "x" * (size // 2))
        done = self.runner.run(self.store.put(kept, earlier))
        self.expire()
        self.listed.pop((owner, response_id), None)
        chain = (*earlier, kept)
        assert done == (sum(one.num_bytes for one in chain) <= LIMITS.num_bytes)
        if done:
            self.listed[owner, response_id] = Listed(chain, self.now)
        while len(self.listed) > LIMITS.entries or self.num_bytes() > LIMITS.num_bytes:
            del self.listed[next(iter(self.listed))]

    @rule(owner=OWNERS, response_id=IDS)
    def look_up(self, owner: str, response_id: str) -> None:
        """What is read here may be continued later, when parts of it have gone."""
        self.expire()
        entry = self.listed.get((owner, response_id))
        assert self.runner.run(self.store.get(owner, response_id)) == (entry and entry.chain[-1])
        found = self.runner.run(self.store.chain(owner, response_id))
        assert found == (entry and list(entry.chain))
        self.read = tuple(found or ())

    @rule(owner=OWNERS, response_id=IDS)
    def find_an_item(self, owner: str, response_id: str) -> None:
        self.expire()
        own = [entry.chain[-1] for (of, _), entry in self.listed.items() if of == owner]
        having = [json.loads(kept.input_items)[0] for kept in own if kept.id == response_id]
        found = self.runner.run(self.store.item(owner, f"msg_of_{response_id}"))
        assert found == (having[-1] if having else None)

    @rule(owner=OWNERS, response_id=IDS)
    def delete(self, owner: str, response_id: str) -> None:
        self.expire()
        was_there = self.listed.pop((owner, response_id), None) is not None
        assert self.runner.run(self.store.delete(owner, response_id)) == was_there

    @rule(seconds=st.sampled_from([1.0, 6.0, 11.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.runner.run(self.store.expire())
        self.expire()

    @invariant()
    def numbers_are_those_of_the_list(self) -> None:
        numbers = self.counting_store().numbers
        assert (numbers.entries, numbers.num_bytes) == (len(self.listed), self.num_bytes())
        assert numbers.entries <= LIMITS.entries
        assert numbers.num_bytes <= LIMITS.num_bytes


class FileMachine(StoreMachine):
    """As above with a file, from which the server may be started again at any time."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        super().__init__()

    def new_store(self) -> SqliteStore:
        return open_store(Path(self.folder.name) / "responses.sqlite", LIMITS, lambda: self.now)

    @precondition(lambda self: self.listed)
    @rule()
    def start_again(self) -> None:
        self.runner.run(self.store.close())
        self.store = self.new_store()
        self.expire()

    def teardown(self) -> None:
        super().teardown()
        self.folder.cleanup()


class SharedMachine(StoreMachine):
    """As the first, asked for by another API process."""

    def new_store(self) -> ResponseStore:
        self.held = MemoryStore(LIMITS, lambda: self.now)
        here, there = socket.socketpair()
        self.serving = self.runner.get_loop().create_task(StoreService(self.held, here).run())
        return SharedStore(there)

    def counting_store(self) -> ResponseStore:
        return self.held

    def expire(self) -> None:
        self.runner.run(self.held.expire())
        super().expire()

    def teardown(self) -> None:
        self.runner.run(self.store.close())
        self.serving.cancel()
        self.runner.close()


SharedMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
StoreMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
FileMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
TestMemoryStore = StoreMachine.TestCase
TestFileStore = FileMachine.TestCase
TestSharedStore = SharedMachine.TestCase


async def test_a_conversation_is_the_input_and_output_of_every_turn() -> None:
    store = MemoryStore()
    first, second = stored("resp_1", text="one"), stored("resp_2", text="two")
    await store.put(first)
    await store.put(second, [first])
    chain = await store.chain("", "resp_2")
    assert chain is not None
    assert [item["content"] for item in items_of(chain)] == ["one", "one", "two", "two"]


async def test_a_conversation_outlives_its_deleted_beginning() -> None:
    store = MemoryStore()
    first, second = stored("resp_1", text="one"), stored("resp_2", text="two")
    await store.put(first)
    await store.put(second, [first])
    assert await store.delete("", "resp_1")
    assert await store.get("", "resp_1") is None
    assert await store.chain("", "resp_2") == [first, second]
    assert await store.delete("", "resp_2")
    assert store.numbers.num_bytes == 0


async def test_another_owner_finds_nothing_and_deletes_nothing() -> None:
    store = MemoryStore()
    await store.put(stored("resp_1", owner="ann"))
    assert await store.get("bob", "resp_1") is None
    assert await store.chain("bob", "resp_1") is None
    assert not await store.delete("bob", "resp_1")
    assert await store.get("ann", "resp_1") is not None


async def test_the_same_id_of_two_owners_is_two_responses() -> None:
    store = MemoryStore()
    hers, his = stored("resp_1", "ann", "hers"), stored("resp_1", "bob", "his")
    await store.put(hers)
    await store.put(his)
    assert (await store.get("ann", "resp_1"), await store.get("bob", "resp_1")) == (hers, his)


@pytest.mark.parametrize("limits", [StoreLimits(entries=0), StoreLimits(num_bytes=100)])
async def test_what_cannot_be_kept_is_told_and_not_kept(limits: StoreLimits) -> None:
    store = MemoryStore(limits)
    assert not await store.put(stored("resp_1"))
    assert await store.get("", "resp_1") is None
    assert store.numbers.entries == 0


async def test_without_an_age_nothing_is_too_old() -> None:
    now = [0.0]
    store = MemoryStore(StoreLimits(age_s=None), lambda: now[0])
    await store.put(stored("resp_1"))
    now[0] = 1e9
    assert await store.get("", "resp_1") is not None


async def test_a_hundred_thousand_responses_leave_a_thousand() -> None:
    store = MemoryStore()
    for number in range(100_000):
        await store.put(StoredResponse(f"resp_{number}", "", "completed", b'{"output":[]}'))
    numbers = store.numbers
    assert (numbers.entries, numbers.evicted) == (1000, 99_000)
    assert numbers.num_bytes < 1000 * 1000


async def test_whoever_waits_for_a_store_that_is_gone_is_told() -> None:
    here, there = socket.socketpair()
    store = SharedStore(there)
    asking = asyncio.create_task(store.get("", "resp_1"))
    await asyncio.sleep(0.05)
    here.close()
    with pytest.raises(RuntimeError, match="gone"):
        await asyncio.wait_for(asking, 20)
    await store.close()
