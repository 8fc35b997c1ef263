"""How much of everything one request may ask for. Plain numbers; whoever refuses names the number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MaxTokensPolicy = Literal["clamp", "reject"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Defaults suit one trusted network; every number can be changed where the app is created."""

    max_body_bytes: int = 32 * 1024 * 1024
    """A larger body is refused before it is parsed, and before it is read when its length is announced."""
    body_timeout_s: float = 120.0
    """A body that is not complete by then is refused, so that slow senders cannot hold connections for ever."""
    max_open_per_client: int | None = None
    """Answers that one client may have open at once; None for as many as it likes."""
    max_choices: int = 1024
    """Prompts times n: each becomes a sequence in the engine."""
    max_answer_numbers: int = 1 << 24
    """Of one answer that consists of numbers, such as vectors: about 180 MB as JSON, 64 MB while they are made."""
    max_tokens_policy: MaxTokensPolicy = "clamp"
    """What happens when an answer of max_tokens would not fit: it gets the room there is, or the request a 400."""
    max_logprobs: int = 20
    """Alternatives reported per token, -1 for the whole vocabulary; -1 in a request asks for this many."""
    is_strict: bool = False
    """Whether a request field nobody knows is refused; else a header of the answer names it."""
    request_timeout_s: float | None = None
    """From the arrival of a request to the end of its answer, waiting included; a header may ask for less."""
    socket_age_s: float = 3600.0
    """How long a WebSocket may be open; a turn under way then is ended first."""
    keep_alive_s: float = 15.0
    """A stream that has nothing to say for so long sends a comment, so that no proxy takes it for dead."""
