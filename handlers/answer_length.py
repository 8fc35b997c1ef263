"""How long an answer may get: the room in the context, the operator's ceiling, and what a request for more meets."""

from __future__ import annotations

from specserve.engine.api import ModelInfo
from specserve.generated.errors import ContextLengthExceeded, UnsupportedValue
from specserve.generated.schemas import ChatCompletionRequest, CompletionRequest
from specserve.handlers.generation_defaults import GenerationDefaults
from specserve.handlers.limits import MaxTokensPolicy


def answer_limit(
    body: ChatCompletionRequest | CompletionRequest,
    defaults: GenerationDefaults,
    model: ModelInfo,
    *,
    room: int,
    policy: MaxTokensPolicy,
) -> int:
    """Most tokens the answer may get. By default a request for more is clamped: clients send large numbers as a cap.

    With the policy `reject` it raises ContextLengthExceeded, or UnsupportedValue above the operator's own ceiling.
    """
    ceiling = defaults.max_tokens_ceiling
    limit = room if ceiling is None else min(room, ceiling)
    for name in ("max_completion_tokens", "max_tokens"):
        asked = getattr(body, name, None)
        if asked is None:
            continue
        if policy == "clamp" or asked <= limit:
            break
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
    return limit
