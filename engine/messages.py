"""What crosses the border between API process and engine process: typed msgpack frames, never pickle.

A frame is a four-byte big-endian length and one msgpack value. To the engine go commands, from it come events;
there is one `Step` event per step, whatever the number of requests.
"""

from __future__ import annotations

import socket

import msgspec

from specserve.engine.api import GenerationRequest, ModelInfo, PoolingRequest
from specserve.engine.batch import RequestProgress
from specserve.engine.config import EngineConfig
from specserve.engine.stats import EngineStats


class Add(msgspec.Struct, tag="add", frozen=True):
    """Start these requests; siblings travel together. Empty `prompt_embeds` are those of the request before."""

    requests: list[GenerationRequest]


class Pool(msgspec.Struct, tag="pool", frozen=True):
    """Embed or classify these: the inputs of one call."""

    requests: list[PoolingRequest]


class LoadAdapter(msgspec.Struct, tag="load_adapter", frozen=True):
    """Read it on the side; an AdapterLoaded says when requests may ask for it."""

    adapter_id: int
    name: str
    path: str


class DropAdapter(msgspec.Struct, tag="drop_adapter", frozen=True):
    """No request will ask for it again."""

    adapter_id: int


class Abort(msgspec.Struct, tag="abort", frozen=True):
    request_ids: list[str]


class Stop(msgspec.Struct, tag="stop", frozen=True):
    """End the process once this is read."""


class Loading(msgspec.Struct, tag="loading", frozen=True):
    """`phase` is a few words for people, `progress` runs from 0 to 1."""

    phase: str
    progress: float


class Ready(msgspec.Struct, tag="ready", frozen=True):
    model: ModelInfo


class Step(msgspec.Struct, tag="step", frozen=True):
    progress: list[RequestProgress]
    stats: EngineStats


class Heartbeat(msgspec.Struct, tag="heartbeat", frozen=True):
    """Sent about once a second from inside the loop, also when idle."""

    stats: EngineStats


class AdapterLoaded(msgspec.Struct, tag="adapter_loaded", frozen=True):
    """`error` tells why it could not be loaded."""

    adapter_id: int
    error: str | None


class Failed(msgspec.Struct, tag="failed", frozen=True):
    """The engine is about to end. `exit_code` and the two lines are those of a StartupError, if it was one."""

    cause: str
    remedy: str
    exit_code: int


Command = Add | Pool | LoadAdapter | DropAdapter | Abort | Stop
Event = Loading | Ready | Step | Heartbeat | AdapterLoaded | Failed

_encoder = msgspec.msgpack.Encoder()
_commands: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
_events: msgspec.msgpack.Decoder[Event] = msgspec.msgpack.Decoder(Event)
_configs = msgspec.msgpack.Decoder(EngineConfig)

LENGTH_BYTES = 4


def encode_frame(message: Command | Event | EngineConfig) -> bytes:
    body = _encoder.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def decode_command(body: bytes) -> Command:
    return _commands.decode(body)


def decode_event(body: bytes) -> Event:
    return _events.decode(body)


def decode_config(body: bytes) -> EngineConfig:
    return _configs.decode(body)


def read_frame(connection: socket.socket) -> bytes:
    """The body of the next frame, blocking. Raises EOFError when the other side is gone."""
    return _read_exactly(connection, int.from_bytes(_read_exactly(connection, LENGTH_BYTES), "big"))


def _read_exactly(connection: socket.socket, count: int) -> bytes:
    pieces = bytearray()
    while len(pieces) < count:
        piece = connection.recv(count - len(pieces))
        if not piece:
            raise EOFError("the other side of the channel is closed")
        pieces += piece
    return bytes(pieces)
