"""How much of everything one request may ask for. Plain numbers; whoever refuses names the number."""

from __future__ import annotations

from dataclasses import dataclass


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
    max_logprobs: int = 20
    """Alternatives reported per token, -1 for the whole vocabulary; -1 in a request asks for this many."""
    keep_alive_s: float = 15.0
    """A stream that has nothing to say for so long sends a comment, so that no proxy takes it for dead."""
