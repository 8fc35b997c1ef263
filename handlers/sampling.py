"""From request fields to `SamplingParams`: request value, else the server's default, else the neutral one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from specserve.engine.api import ModelInfo
from specserve.engine.errors import PromptTooLongError, TokenOutOfVocabularyError
from specserve.engine.params import SamplingParams
from specserve.generated.errors import InvalidParameterCombination
from specserve.generated.schemas import ChatCompletionRequest, CompletionRequest

Request = ChatCompletionRequest | CompletionRequest
NEUTRAL = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationDefaults:
    """What a request that is silent gets, as the model's authors recommend it; None leaves the neutral value."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    max_new_tokens: int | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> GenerationDefaults:
        """From the fields of a generation_config.json; what is not known here is left out."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})


def room_for_answer(num_prompt_tokens: int, model: ModelInfo, *, param: str) -> int:
    """Tokens left of the context after the prompt. Raises PromptTooLongError when there are none."""
    room = model.max_model_len - num_prompt_tokens
    if room < 1:
        raise PromptTooLongError(num_prompt_tokens, model.max_model_len, param=param)
    return room


def check_vocabulary(token_ids: Sequence[int], model: ModelInfo, *, param: str) -> None:
    """Raises TokenOutOfVocabularyError."""
    wrong = next((token_id for token_id in token_ids if not 0 <= token_id < model.vocab_size), None)
    if wrong is not None:
        raise TokenOutOfVocabularyError(
            f"token id {wrong} in {param} is not in the vocabulary; ids go from 0 to {model.vocab_size - 1}",
            param=param,
        )


def sampling_params(
    body: Request,
    defaults: GenerationDefaults,
    model: ModelInfo,
    *,
    room: int,
    max_tokens: int | None,
    logprobs: int | None,
) -> SamplingParams:
    """`max_tokens` None asks for the server's default, and without one for all the `room` there is.

    More than the room is clamped: clients send large numbers as a safety cap. Raises InvalidParameterCombination
    or TokenOutOfVocabularyError.
    """
    wanted = max_tokens if max_tokens is not None else defaults.max_new_tokens or room
    if body.min_tokens > wanted:
        raise InvalidParameterCombination(
            f"min_tokens is {body.min_tokens}, but max_tokens is {wanted}; lower the first or raise the second",
            param="min_tokens",
        )
    effective = min(wanted, room)
    stop_token_ids = tuple(body.stop_token_ids or ())
    allowed_token_ids = tuple(body.allowed_token_ids or ())
    logit_bias = {int(token_id): bias for token_id, bias in (body.logit_bias or {}).items()}
    check_vocabulary(stop_token_ids, model, param="stop_token_ids")
    check_vocabulary(allowed_token_ids, model, param="allowed_token_ids")
    check_vocabulary(list(logit_bias), model, param="logit_bias")

    def chosen(name: str) -> Any:
        for value in (getattr(body, name), getattr(defaults, name)):
            if value is not None:
                return value
        return NEUTRAL[name]

    stop = body.stop
    return SamplingParams(
        max_tokens=effective,
        temperature=chosen("temperature"),
        top_p=chosen("top_p"),
        top_k=max(chosen("top_k"), 0),
        min_p=chosen("min_p"),
        repetition_penalty=chosen("repetition_penalty"),
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        seed=None if body.seed == -1 else body.seed,
        stop=() if stop is None else (stop,) if isinstance(stop, str) else tuple(stop),
        stop_token_ids=stop_token_ids,
        include_stop_str_in_output=body.include_stop_str_in_output,
        ignore_eos=body.ignore_eos,
        min_tokens=min(body.min_tokens, effective),
        logprobs=logprobs,
        logit_bias=logit_bias,
        allowed_token_ids=allowed_token_ids,
        skip_special_tokens=body.skip_special_tokens,
        spaces_between_special_tokens=body.spaces_between_special_tokens,
    )
