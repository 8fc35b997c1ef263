"""What crosses the border between API process and engine process: typed msgpack frames, never pickle.

A frame is a four-byte big-endian length and one msgpack value. To the engine go commands, from it come events;
there is one `Step` event per step, whatever the number of requests.
"""

from __future__ import annotations

import msgspec

from specserve.engine.api import GenerationRequest, ModelInfo
from specserve.engine.batch import RequestProgress
from specserve.engine.stats import EngineStats


class Add(msgspec.Struct, tag="add", frozen=True):
    """Start these requests; siblings travel together."""

    requests: list[GenerationRequest]


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


class Failed(msgspec.Struct, tag="failed", frozen=True):
    """The engine is about to end. `exit_code` and the two lines are those of a StartupError, if it was one."""

    cause: str
    remedy: str
    exit_code: int


Command = Add | Abort | Stop
Event = Loading | Ready | Step | Heartbeat | Failed
