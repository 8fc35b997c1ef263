"""Where templates and tokenizers run: on the event loop when the text is short, else in a worker thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from specserve.handlers.context import RequestContext

P = ParamSpec("P")
T = TypeVar("T")

SHORT_BYTES = 8192
"""A body of this size is worth about 2 ms. The way to a thread and back takes 0.1 ms and waits for the interpreter lock
twice, which is up to 5 ms each while the event loop is busy."""


async def text_work(context: RequestContext, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `work` returns or raises. It takes time in proportion to the body and must be thread-safe."""
    if context.num_body_bytes <= SHORT_BYTES:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)
