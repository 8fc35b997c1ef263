"""Templates and tokenizers: where they run, and which texts are not worth it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import ceil
from typing import ParamSpec, TypeVar

from specserve.engine.api import ModelInfo, Tokenizer
from specserve.generated.errors import ContextLengthExceeded
from specserve.handlers.context import RequestContext

P = ParamSpec("P")
T = TypeVar("T")

SHORT_BYTES = 8192
"""A body of this size is worth about 2 ms. The way to a thread and back takes 0.1 ms and waits for the interpreter lock
twice, which is up to 5 ms each while the event loop is busy."""


async def text_work(context: RequestContext, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `work` returns or raises: done at once for a short body, else in a worker thread.

    It takes time in proportion to the body and must be thread-safe.
    """
    if context.num_body_bytes <= SHORT_BYTES:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)


def check_text_length(text: str, tokenizer: Tokenizer, model: ModelInfo, *, param: str) -> None:
    """Raises ContextLengthExceeded for a text that cannot fit however it is tokenized, so that it need not be."""
    longest = tokenizer.max_token_chars
    if longest is not None and len(text) > longest * model.max_model_len:
        raise ContextLengthExceeded(
            f"prompt has {len(text)} characters, which are at least {ceil(len(text) / longest)} tokens, since none has "
            f"more than {longest}; max_model_len is {model.max_model_len}; shorten it or raise --max-model-len",
            param=param,
        )
