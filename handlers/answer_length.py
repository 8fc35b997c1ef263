"""How long an answer may get: the room in the context, the operator's ceiling, and what a request for more meets."""

from __future__ import annotations

from dataclasses import dataclass

from specserve.engine.api import ModelInfo
from specserve.generated.errors import ContextLengthExceeded, UnsupportedValue
from specserve.handlers.generation_defaults import GenerationDefaults
from specserve.handlers.limits import MaxTokensPolicy


@dataclass(frozen=True, slots=True)
class AskedLength:
    """How many tokens the answer to a request may have, None when it does not say, and the field that says it.

    `default` is what the protocol gives a request that is silent; None leaves that to the server.
    """

    tokens: int | None
    param: str = "max_tokens"
    default: int | None = None


def answer_limit(
    length: AskedLength, defaults: GenerationDefaults, model: ModelInfo, *, room: int, policy: MaxTokensPolicy
) -> int:
    """Most tokens the answer may get. By default a request for more is clamped: clients send large numbers as a cap.

    With the policy `reject` it raises ContextLengthExceeded, or UnsupportedValue above the operator's own ceiling.
    """
    ceiling = defaults.max_tokens_ceiling
    limit = room if ceiling is None else min(room, ceiling)
    asked, name = length.tokens, length.param
    if asked is None or policy == "clamp" or asked <= limit:
        return limit
    if asked > room:
        num_prompt_tokens = model.max_model_len - room
        raise ContextLengthExceeded(
            f"{name} is {asked}, but the prompt has {num_prompt_tokens} token{'s' * (num_prompt_tokens != 1)} and "
            f"max_model_len is {model.max_model_len}, which leaves {room}; lower {name} or shorten the prompt",
            param=name,
        )
    raise UnsupportedValue(
        f"{name} is {asked}, but this server's answers have {ceiling} tokens at most; lower it", param=name
    )
