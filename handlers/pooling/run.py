"""All inputs of a request to the engine at once, and what it made of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from secrets import token_hex

import numpy as np
from numpy.typing import NDArray

from specserve.engine.api import Engine, PoolingRequest
from specserve.engine.params import PoolingParams, PoolingTask
from specserve.generated import schemas
from specserve.generated.errors import UnsupportedValue
from specserve.handlers.context import RequestContext
from specserve.handlers.model_directory import ServedModel
from specserve.handlers.pooling.inputs import ModelInput
from specserve.handlers.pooling.options import PoolingOptions

Numbers = NDArray[np.float32]
PER_TOKEN = (PoolingTask.TOKEN_EMBED, PoolingTask.TOKEN_CLASSIFY)


class NotANumberError(RuntimeError):
    """A fault of the model: its weights or its type of numbers."""


@dataclass(frozen=True, slots=True)
class PoolingIdentity:
    """What a reply is called. `engine_id` is unique, whatever the client calls it."""

    id: str
    created: int
    model: str
    engine_id: str = field(default_factory=lambda: token_hex(16))

    @classmethod
    def of(cls, prefix: str, context: RequestContext, served: ServedModel) -> PoolingIdentity:
        return cls(f"{prefix}-{context.identity.id}", int(time.time()), served.name)


@dataclass(slots=True)
class TokenCount:
    num_tokens: int = 0
    num_cached: int = 0

    def usage(self) -> schemas.PoolingUsage:
        return schemas.PoolingUsage(
            prompt_tokens=self.num_tokens,
            total_tokens=self.num_tokens,
            completion_tokens=0,
            prompt_tokens_details=schemas.PromptTokensDetails(cached_tokens=self.num_cached),
        )


@dataclass(frozen=True, slots=True)
class PoolingRun:
    """What the requests to the engine that one answer needs have in common; `count` adds up their tokens."""

    engine: Engine
    identity: PoolingIdentity
    options: PoolingOptions
    count: TokenCount = field(default_factory=TokenCount)

    async def pool(
        self, task: PoolingTask, inputs: Sequence[ModelInput], *, dimensions: int | None = None, name: str = ""
    ) -> list[Numbers]:
        """One array for each input: [size], or [tokens, size] of tasks per token. Cancelling it aborts all.

        `name` tells several calls of one answer apart. Raises what `Engine.pool` raises.
        """
        params = PoolingParams(task=task, use_activation=self.options.use_activation, dimensions=dimensions)
        requests = [
            PoolingRequest(
                request_id=f"{self.identity.engine_id}{name}-{at}",
                prompt_token_ids=one.token_ids,
                params=params,
                token_type_ids=one.type_ids,
                num_unseen_tokens=one.num_unseen,
                cache_salt=self.options.cache_salt,
                priority=self.options.priority,
            )
            for at, one in enumerate(inputs)
        ]
        outputs = await self.engine.pool(requests)
        for at, output in enumerate(outputs):
            if not np.isfinite(output.data).all():
                raise NotANumberError(f"the model made something else than finite numbers of input {at}")
            self.count.num_tokens += output.num_prompt_tokens
            self.count.num_cached += output.num_cached_tokens
        return [output.data for output in outputs]

    def activated(self, use_activation: bool | None) -> PoolingRun:
        """The same, whatever the request says about its activation."""
        return replace(self, options=replace(self.options, use_activation=use_activation))


def check_answer_size(task: PoolingTask, inputs: Sequence[ModelInput], size: int, *, limit: int, param: str) -> None:
    """Raises UnsupportedValue for an answer of more than `limit` numbers, which would fill the memory."""
    num_rows = sum(len(one.token_ids) for one in inputs) if task in PER_TOKEN else len(inputs)
    if num_rows * size > limit:
        raise UnsupportedValue(
            f"{len(inputs)} inputs with {num_rows} rows of {size} numbers are {num_rows * size} numbers, "
            f"the limit is {limit}; send fewer inputs at once",
            param=param,
        )
