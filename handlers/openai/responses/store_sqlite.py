"""The response store in a file, for conversations that outlive the server. The rules are those of `store`.

SQLite works on a thread of its own, so that the event loop never waits for a disk. One server has the file for
itself. Only its owner may read it, and what was deleted is overwritten.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from specserve.handlers.flags import UsageError
from specserve.handlers.openai.responses.store import StoredResponse, StoreLimits, StoreNumbers, fits, item_in

logger = logging.getLogger(__name__)

T = TypeVar("T")

APPLICATION_ID = 0x73707273
"""Says in the file's header whose file it is."""
SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE turns (
    turn INTEGER PRIMARY KEY, previous INTEGER REFERENCES turns, uses INTEGER NOT NULL, num_bytes INTEGER NOT NULL,
    owner TEXT NOT NULL, id TEXT NOT NULL, status TEXT NOT NULL,
    response BLOB NOT NULL, input_items BLOB NOT NULL, events BLOB NOT NULL);
CREATE TABLE entries (
    number INTEGER PRIMARY KEY AUTOINCREMENT, owner TEXT NOT NULL, id TEXT NOT NULL, kept_at REAL NOT NULL,
    turn INTEGER NOT NULL REFERENCES turns, UNIQUE (owner, id));
"""
COLUMNS = "id, owner, status, response, input_items, events, turn"
STOPPED = "the server stopped before this response was complete; send the request again"


def open_store(path: Path, limits: StoreLimits, now: Callable[[], float] = time.time) -> SqliteStore:
    """The store of a file, which is created where there is none. Raises UsageError with the way out."""
    where = f"--responses-store-path {path}"
    try:
        make_private(path)
    except OSError as error:
        raise UsageError(f"{where} cannot be opened: {error.strerror}", "name a file this user may write") from error
    try:
        return SqliteStore(ResponseFile(path, limits, now))
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise UsageError(f"{where} is in use by another server", "give each server a file of its own") from error
        raise UsageError(f"{where} cannot be used: {error}", "name a file this user may write") from error
    except sqlite3.DatabaseError as error:
        raise UsageError(
            f"{where} is damaged or no response store: {error}",
            "move it away to begin with an empty one, or name another file",
        ) from error


def make_private(path: Path) -> None:
    """The file exists afterwards, and only its owner may read it; what SQLite puts beside it takes after it."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    path.chmod(0o600)


class ResponseFile:
    """The file, from one thread at a time. Numbers are kept beside it, so that nobody waits to read them."""

    def __init__(self, path: Path, limits: StoreLimits, now: Callable[[], float]) -> None:
        """Raises sqlite3.DatabaseError."""
        self._limits = limits
        self._now = now
        self._db = sqlite3.connect(path, timeout=1.0, isolation_level=None, check_same_thread=False)
        try:
            self._prepare()
            with self._transaction():
                self._end_unfinished()
                self._evict_what_must_go()
        except BaseException:
            self._db.close()
            raise

    def _prepare(self) -> None:
        for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=NORMAL", "secure_delete=ON"):
            self._db.execute(f"PRAGMA {pragma}").fetchall()
        found = [self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
        if not self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            self._db.executescript(
                f"BEGIN IMMEDIATE; PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={SCHEMA_VERSION}; "
                f"{SCHEMA} COMMIT;"
            )
        elif found[0] != APPLICATION_ID:
            raise sqlite3.DatabaseError("another program made it")
        elif found[1] != SCHEMA_VERSION:
            raise sqlite3.DatabaseError(f"it has version {found[1]}, this server knows version {SCHEMA_VERSION}")
        if (state := self._db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(state)
        self.evicted = 0
        self._count()

    def _count(self) -> None:
        self.num_entries: int = self._db.execute("SELECT count(*) FROM entries").fetchone()[0]
        self.num_bytes: int = self._db.execute("SELECT coalesce(sum(num_bytes), 0) FROM turns").fetchone()[0]

    def _transaction(self) -> _Transaction:
        return _Transaction(self._db, self._count)

    def _end_unfinished(self) -> None:
        """Responses that a stop cut off in the background have failed."""
        rows = self._db.execute(f"SELECT {COLUMNS} FROM turns WHERE status IN ('queued', 'in_progress')").fetchall()
        for row in rows:
            kept = StoredResponse(*row)
            response = json.loads(kept.response)
            response |= {"status": "failed", "error": {"code": "server_error", "message": STOPPED}}
            raw = json.dumps(response, ensure_ascii=False, separators=(",", ":")).encode()
            grown = len(raw) - len(kept.response)
            self.num_bytes += grown
            self._db.execute(
                "UPDATE turns SET status = 'failed', response = ?, num_bytes = num_bytes + ? WHERE turn = ?",
                (raw, grown, kept.turn),
            )

    def put(self, kept: StoredResponse, earlier: Sequence[StoredResponse]) -> bool:
        with self._transaction():
            self._expire()
            self._drop(kept.owner, kept.id)
            if not fits(kept, earlier, self._limits):
                return False
            self._hold([*earlier, kept])
            self._db.execute("UPDATE turns SET uses = uses + 1 WHERE turn = ?", (kept.turn,))
            self._db.execute(
                "INSERT INTO entries (owner, id, kept_at, turn) VALUES (?, ?, ?, ?)",
                (kept.owner, kept.id, self._now(), kept.turn),
            )
            self.num_entries += 1
            self._evict_what_must_go()
        return True

    def chain(self, owner: str, response_id: str, *, is_whole: bool) -> list[StoredResponse] | None:
        """The turns up to an entry's, or only its own."""
        with self._transaction():
            self._expire()
            row = self._db.execute(
                "SELECT turn FROM entries WHERE owner = ? AND id = ?", (owner, response_id)
            ).fetchone()
            found: list[StoredResponse] = []
            while row is not None and row[0] is not None:
                *columns, previous = self._db.execute(
                    f"SELECT {COLUMNS}, previous FROM turns WHERE turn = ?", row
                ).fetchone()
                found.append(StoredResponse(*columns))
                row = (previous,) if is_whole else None
        return found[::-1] or None

    def item(self, owner: str, item_id: str) -> dict[str, Any] | None:
        columns = ", ".join(f"turns.{name.strip()}" for name in COLUMNS.split(","))
        with self._transaction():
            self._expire()
            rows = self._db.execute(
                f"SELECT {columns} FROM entries JOIN turns USING (turn) WHERE entries.owner = ?1 AND "
                "(instr(response, ?2) OR instr(input_items, ?2)) ORDER BY number DESC",
                (owner, item_id.encode()),
            )
            return next((found for row in rows if (found := item_in(StoredResponse(*row), item_id)) is not None), None)

    def delete(self, owner: str, response_id: str) -> bool:
        with self._transaction():
            self._expire()
            return self._drop(owner, response_id)

    def expire(self) -> None:
        """What has gone is also written over in the log that SQLite keeps beside the file."""
        with self._transaction():
            self._expire()
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        self._db.close()

    def _hold(self, chain: Sequence[StoredResponse]) -> None:
        previous: int | None = None
        for kept in chain:
            is_new = self._db.execute(
                f"INSERT OR IGNORE INTO turns ({COLUMNS}, previous, uses, num_bytes) VALUES (?,?,?,?,?,?,?,?,0,?)",
                (
                    *(kept.id, kept.owner, kept.status, kept.response, kept.input_items, kept.events, kept.turn),
                    *(previous, kept.num_bytes),
                ),
            ).rowcount
            if is_new:
                self.num_bytes += kept.num_bytes
                self._db.execute("UPDATE turns SET uses = uses + 1 WHERE turn = ?", (previous,))
            previous = kept.turn

    def _drop(self, owner: str, response_id: str) -> bool:
        row = self._db.execute(
            "DELETE FROM entries WHERE owner = ? AND id = ? RETURNING turn", (owner, response_id)
        ).fetchone()
        if row is None:
            return False
        self.num_entries -= 1
        turn = row[0]
        while turn is not None:
            uses, num_bytes, previous = self._db.execute(
                "UPDATE turns SET uses = uses - 1 WHERE turn = ? RETURNING uses, num_bytes, previous", (turn,)
            ).fetchone()
            if uses:
                break
            self._db.execute("DELETE FROM turns WHERE turn = ?", (turn,))
            self.num_bytes -= num_bytes
            turn = previous
        return True

    def _evict_what_must_go(self) -> None:
        self._expire()
        while self.num_entries > self._limits.entries or self.num_bytes > self._limits.num_bytes:
            self._evict_oldest()

    def _expire(self) -> None:
        if self._limits.age_s is None:
            return
        while True:
            row = self._db.execute("SELECT kept_at FROM entries ORDER BY number LIMIT 1").fetchone()
            if row is None or row[0] >= self._now() - self._limits.age_s:
                return
            self._evict_oldest()

    def _evict_oldest(self) -> None:
        self._drop(*self._db.execute("SELECT owner, id FROM entries ORDER BY number LIMIT 1").fetchone())
        self.evicted += 1


class _Transaction:
    """All or nothing; after nothing, the numbers are counted again."""

    def __init__(self, db: sqlite3.Connection, recount: Callable[[], None]) -> None:
        self._db, self._recount = db, recount

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            try:
                self._db.execute("COMMIT")
                return
            except sqlite3.Error:
                self._undo()
                raise
        self._undo()

    def _undo(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        self._recount()


class SqliteStore:
    """A `ResponseStore` over a `ResponseFile`. A disk that fails costs what was to be kept, and never the answer."""

    def __init__(self, file: ResponseFile) -> None:
        self._file = file
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="response-store")

    @property
    def numbers(self) -> StoreNumbers:
        return StoreNumbers(self._file.num_entries, self._file.num_bytes, self._file.evicted)

    async def put(self, kept: StoredResponse, earlier: Sequence[StoredResponse] = ()) -> bool:
        try:
            return await self._on_thread(lambda: self._file.put(kept, tuple(earlier)))
        except sqlite3.Error as error:
            logger.error("response %s could not be kept: %s", kept.id, error)
            return False

    async def get(self, owner: str, response_id: str) -> StoredResponse | None:
        found = await self._on_thread(lambda: self._file.chain(owner, response_id, is_whole=False))
        return None if found is None else found[-1]

    async def chain(self, owner: str, response_id: str) -> list[StoredResponse] | None:
        return await self._on_thread(lambda: self._file.chain(owner, response_id, is_whole=True))

    async def item(self, owner: str, item_id: str) -> dict[str, Any] | None:
        return await self._on_thread(lambda: self._file.item(owner, item_id))

    async def delete(self, owner: str, response_id: str) -> bool:
        return await self._on_thread(lambda: self._file.delete(owner, response_id))

    async def expire(self) -> None:
        try:
            await self._on_thread(self._file.expire)
        except sqlite3.Error as error:
            logger.error("responses that are too old could not be removed: %s", error)

    async def close(self) -> None:
        await self._on_thread(self._file.close)
        self._thread.shutdown()

    async def _on_thread(self, work: Callable[[], T]) -> T:
        """A cancelled wait does not stop the work: it ends in its order, whole."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
