"""What can be said against a request without asking the engine: done in the API process, before anything is sent."""

from __future__ import annotations

from collections.abc import Sequence

from specserve.engine.api import NO_TOKEN, GenerationRequest, ModelInfo, PoolingRequest
from specserve.engine.errors import (
    InputTooLongError,
    InvalidParameterError,
    PromptTooLongError,
    TokenOutOfVocabularyError,
    UnsupportedFeatureError,
)

MAX_PROMPT_LOGPROBS = 1 << 21
"""Of one request, alternatives included: 20 for each of 99 000 tokens. They are about 300 MB of Python objects."""


def check_request(request: GenerationRequest, model: ModelInfo) -> None:
    """Raises RequestError naming the field at fault."""
    if not model.is_generative:
        raise UnsupportedFeatureError(
            f"this model does not generate text; it is served for {', '.join(model.tasks)}", param="model"
        )
    room = min(model.max_model_len, model.kv_capacity_tokens)
    num_tokens, is_answered = len(request.prompt_token_ids), request.params.max_tokens > 0
    if num_tokens + is_answered > room:
        raise PromptTooLongError(num_tokens, room, is_answered=is_answered)
    if request.params.prompt_logprobs is not None:
        check_prompt_logprobs(num_tokens, request.params.prompt_logprobs)
    if request.prompt_embeds is not None:
        check_embedded(request, model)
    elif num_tokens:
        check_token_ids(request.prompt_token_ids, model.vocab_size)


def check_pooling(request: PoolingRequest, model: ModelInfo) -> None:
    """Raises RequestError naming the field at fault."""
    task, num_tokens = request.params.task, len(request.prompt_token_ids)
    if task not in model.tasks:
        raise UnsupportedFeatureError(
            f"this model does not {task}; it is served for {', '.join(model.tasks)}", param="task"
        )
    if num_tokens == 0:
        raise InvalidParameterError("input has no tokens, at least 1 is needed", param="input")
    if num_tokens > model.max_model_len:
        raise InputTooLongError(num_tokens, model.max_model_len)
    check_token_ids(request.prompt_token_ids, model.vocab_size, "input")
    types = request.token_type_ids
    if types is not None and (len(types) != num_tokens or not all(kind in (0, 1) for kind in types)):
        raise InvalidParameterError(
            f"token_type_ids are {len(types)} numbers for {num_tokens} tokens; each token needs 0 or 1",
            param="token_type_ids",
        )
    if not 0 <= request.num_unseen_tokens < num_tokens:
        raise InvalidParameterError(
            f"num_unseen_tokens is {request.num_unseen_tokens} of {num_tokens} tokens; at least one must be seen",
            param="num_unseen_tokens",
        )
    if request.params.dimensions is not None:
        check_dimensions(request.params.dimensions, model)


def check_dimensions(dimensions: int, model: ModelInfo) -> None:
    allowed = model.matryoshka_dimensions
    if allowed is None:
        raise UnsupportedFeatureError(
            f"dimensions is {dimensions}, but this model was not trained for shortened (Matryoshka) embeddings; "
            f"leave it out to get all {model.embedding_size}",
            param="dimensions",
        )
    if dimensions > model.embedding_size or (allowed and dimensions not in allowed):
        named = f"one of {', '.join(map(str, allowed))}" if allowed else f"from 1 to {model.embedding_size}"
        raise InvalidParameterError(f"dimensions is {dimensions}, but must be {named}", param="dimensions")


def check_token_ids(token_ids: Sequence[int], vocab_size: int, param: str = "prompt") -> None:
    if not 0 <= min(token_ids) <= max(token_ids) < vocab_size:
        wrong = next(token_id for token_id in token_ids if not 0 <= token_id < vocab_size)
        raise TokenOutOfVocabularyError(
            f"token id {wrong} is not in the vocabulary, ids go from 0 to {vocab_size - 1}", param=param
        )


def check_prompt_logprobs(num_tokens: int, num_top: int) -> None:
    """An answer that would fill the memory is refused."""
    count = num_tokens * (num_top + 1)
    if count > MAX_PROMPT_LOGPROBS:
        raise InvalidParameterError(
            f"prompt_logprobs {num_top} for a prompt of {num_tokens} tokens are {count} log probabilities, "
            f"the limit is {MAX_PROMPT_LOGPROBS}; ask for fewer or send a shorter prompt",
            param="prompt_logprobs",
        )


def check_embedded(request: GenerationRequest, model: ModelInfo) -> None:
    """The file itself is checked where it is decoded, in `prompt_embeds`."""
    if not model.accepts_prompt_embeds:
        raise UnsupportedFeatureError(
            "prompt_embeds needs a server that was started with --enable-prompt-embeds", param="prompt_embeds"
        )
    if request.params.prompt_logprobs is not None:
        raise InvalidParameterError(
            "prompt_logprobs needs a prompt of tokens, not prompt_embeds; leave one out", param="prompt_logprobs"
        )
    if any(token_id != NO_TOKEN for token_id in request.prompt_token_ids):
        raise InvalidParameterError("a prompt is tokens or prompt_embeds, not both", param="prompt_embeds")
