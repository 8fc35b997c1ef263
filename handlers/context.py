"""What a handler is told about a request besides its body, and what the server says about its own state."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Literal, Protocol

from starlette.types import Scope

from specserve.engine.api import GenerationRequest
from specserve.engine.params import SamplingParams
from specserve.handlers.deadlines import Deadline

request_log = logging.getLogger("specserve.requests")

State = Literal["loading", "ready", "draining", "failed"]


class Readiness(Protocol):
    """The server's state, read before every request. `handlers.lifecycle` implements it; tests use a plain object.

    `phase` says in a few words what happens now or, in state failed, why. `progress` runs from 0 to 1; None when
    nothing can be counted.
    """

    @property
    def state(self) -> State: ...

    @property
    def phase(self) -> str: ...

    @property
    def progress(self) -> float | None: ...

    def when_draining(self, call: Callable[[], None]) -> None:
        """`call` is called once the server takes nothing new any more."""

    def wait_for(self, work: asyncio.Task[None]) -> None:
        """A drain waits for `work` as it does for open requests, though no client may be listening to it."""


@dataclass(frozen=True, slots=True)
class RequestIdentity:
    """What a request is called in answers, headers and logs."""

    id: str
    was_sent: bool
    """Whether the client chose it, with the X-Request-Id header or the field request_id."""


# An id is repeated in headers, bodies and logs, so it must not be able to break out of any of them.
SAFE_ID = re.compile(r"[A-Za-z0-9._\-]{1,128}")
MAX_TOKENS_HEADER = "x-effective-max-tokens"
SCOPE_KEY = "specserve.request_identity"
OWNER_KEY = "specserve.owner"


def request_identity(scope: Scope) -> RequestIdentity:
    """Set by `middleware.RequestLog`, which surrounds everything."""
    identity: RequestIdentity = scope[SCOPE_KEY]
    return identity


@dataclass(slots=True)
class RequestContext:
    """One request. `response_headers` may be filled until the answer starts; `num_body_bytes` is the body's length."""

    identity: RequestIdentity
    response_headers: dict[str, str] = field(default_factory=dict)
    num_body_bytes: int = 0
    deadline: Deadline | None = None
    owner: str = ""
    """Whose key the request came with, as a digest; empty where the server has no keys, and all share what it keeps."""

    def note(self, request: GenerationRequest) -> None:
        """Tell the client how many tokens its answer may have (of several prompts, the least room counts), and the log
        what was asked for, without any text, if the operator wants to know."""
        noted, max_tokens = self.response_headers.get(MAX_TOKENS_HEADER), request.params.max_tokens
        self.response_headers[MAX_TOKENS_HEADER] = str(min(max_tokens, int(noted)) if noted else max_tokens)
        if request_log.isEnabledFor(logging.INFO):
            shown = " ".join(f"{name}={value}" for name, value in numbers_of(request.params).items())
            request_log.info(
                "request_id=%s num_prompt_tokens=%d %s", self.identity.id, len(request.prompt_token_ids), shown
            )

    def adopt_id(self, name: str | None, scope: Scope) -> None:
        """Call the request what its body calls it, unless a header did; a name that is not safe is not taken."""
        if name and not self.identity.was_sent and SAFE_ID.fullmatch(name):
            self.identity = scope[SCOPE_KEY] = RequestIdentity(name, was_sent=True)


def numbers_of(params: SamplingParams) -> dict[str, int | float | bool]:
    """What differs from the defaults and is no text."""
    found = {}
    for one in fields(params):
        value = getattr(params, one.name)
        if isinstance(value, int | float) and value != one.default:
            found[one.name] = value
    return found
