"""One response store for several API processes: one process holds it, the others ask for it over a socket.

A call is one frame there and one back, matched by a number: a four-byte big-endian length and one msgpack value.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence
from itertools import count
from typing import Any

import msgspec

from specserve.handlers.openai.responses.store import ResponseStore, StoredResponse, StoreNumbers

logger = logging.getLogger(__name__)

LENGTH_BYTES = 4


class Put(msgspec.Struct, tag="put", frozen=True):
    kept: StoredResponse
    earlier: list[StoredResponse]


class Get(msgspec.Struct, tag="get", frozen=True):
    owner: str
    id: str


class Chain(msgspec.Struct, tag="chain", frozen=True):
    owner: str
    id: str


class Item(msgspec.Struct, tag="item", frozen=True):
    owner: str
    id: str


class Delete(msgspec.Struct, tag="delete", frozen=True):
    owner: str
    id: str


Question = Put | Get | Chain | Item | Delete


class Call(msgspec.Struct, frozen=True):
    number: int
    question: Question


class Answer(msgspec.Struct, frozen=True):
    """`value` is a bool, a list of responses, an item or None, as the question asks."""

    number: int
    value: bool | list[StoredResponse] | dict[str, Any] | None = None
    failure: str | None = None


_encoder = msgspec.msgpack.Encoder()
_calls: msgspec.msgpack.Decoder[Call] = msgspec.msgpack.Decoder(Call)
_answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def frame(message: Call | Answer) -> bytes:
    body = _encoder.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


async def read_body(reader: asyncio.StreamReader) -> bytes:
    """Raises asyncio.IncompleteReadError when the other side is gone."""
    return await reader.readexactly(int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big"))


class StoreService:
    """Answers the calls of one other API process, each as soon as it can be."""

    def __init__(self, store: ResponseStore, connection: socket.socket) -> None:
        self._store = store
        self._connection = connection
        self._calls: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until the other process is gone."""
        reader, writer = await asyncio.open_unix_connection(sock=self._connection)
        try:
            while True:
                call = asyncio.create_task(self._answer(_calls.decode(await read_body(reader)), writer))
                self._calls.add(call)
                call.add_done_callback(self._calls.discard)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, call: Call, writer: asyncio.StreamWriter) -> None:
        try:
            answer = Answer(call.number, await self._ask(call.question))
        except Exception as error:
            logger.exception("another API process' call of the response store failed")
            answer = Answer(call.number, failure=f"{type(error).__name__}: {error}")
        writer.write(frame(answer))

    async def _ask(self, question: Question) -> bool | list[StoredResponse] | dict[str, Any] | None:
        match question:
            case Put(kept, earlier):
                return await self._store.put(kept, earlier)
            case Get(owner, response_id):
                found = await self._store.get(owner, response_id)
                return None if found is None else [found]
            case Chain(owner, response_id):
                return await self._store.chain(owner, response_id)
            case Item(owner, item_id):
                return await self._store.item(owner, item_id)
            case Delete(owner, response_id):
                return await self._store.delete(owner, response_id)


class SharedStore:
    """The `ResponseStore` that a `StoreService` holds at the other end of `connection`."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._numbers = count()
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._connecting = asyncio.Lock()

    @property
    def numbers(self) -> StoreNumbers:
        """The process that holds the store reports them."""
        return StoreNumbers(0, 0, 0)

    async def put(self, kept: StoredResponse, earlier: Sequence[StoredResponse] = ()) -> bool:
        return bool(await self._call(Put(kept, list(earlier))))

    async def get(self, owner: str, response_id: str) -> StoredResponse | None:
        found = self._responses(await self._call(Get(owner, response_id)))
        return None if found is None else found[0]

    async def chain(self, owner: str, response_id: str) -> list[StoredResponse] | None:
        return self._responses(await self._call(Chain(owner, response_id)))

    async def item(self, owner: str, item_id: str) -> dict[str, Any] | None:
        found = await self._call(Item(owner, item_id))
        return found if isinstance(found, dict) else None

    async def delete(self, owner: str, response_id: str) -> bool:
        return bool(await self._call(Delete(owner, response_id)))

    async def expire(self) -> None:
        """The process that holds the store does it."""

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        if self._reading is not None:
            self._reading.cancel()

    def _responses(self, value: object) -> list[StoredResponse] | None:
        return None if value is None else msgspec.convert(value, list[StoredResponse])

    async def _call(self, question: Question) -> object:
        async with self._connecting:
            if self._writer is None:
                reader, self._writer = await asyncio.open_unix_connection(sock=self._connection)
                self._reading = asyncio.create_task(self._read(reader))
        number = next(self._numbers)
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answered
        try:
            self._writer.write(frame(Call(number, question)))
            answer = await answered
        finally:
            self._waiting.pop(number, None)
        if answer.failure is not None:
            raise RuntimeError(f"the response store failed: {answer.failure}")
        return answer.value

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                answer = _answers.decode(await read_body(reader))
                if (waiting := self._waiting.get(answer.number)) is not None and not waiting.done():
                    waiting.set_result(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(RuntimeError("the process that holds the response store is gone"))
