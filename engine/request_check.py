"""What can be said against a request without asking the engine: done in the API process, before anything is sent."""

from __future__ import annotations

from specserve.engine.api import NO_TOKEN, GenerationRequest, ModelInfo
from specserve.engine.errors import (
    InvalidParameterError,
    PromptTooLongError,
    TokenOutOfVocabularyError,
    UnsupportedFeatureError,
)

MAX_PROMPT_LOGPROBS = 1 << 21
"""Of one request, alternatives included: 20 for each of 99 000 tokens. They are about 300 MB of Python objects."""


def check_request(request: GenerationRequest, model: ModelInfo) -> None:
    """Raises RequestError naming the field at fault."""
    room = min(model.max_model_len, model.kv_capacity_tokens)
    num_tokens, is_answered = len(request.prompt_token_ids), request.params.max_tokens > 0
    if num_tokens + is_answered > room:
        raise PromptTooLongError(num_tokens, room, is_answered=is_answered)
    if request.params.prompt_logprobs is not None:
        check_prompt_logprobs(num_tokens, request.params.prompt_logprobs)
    if request.prompt_embeds is not None:
        check_embedded(request, model)
    elif num_tokens:
        check_token_ids(request, model.vocab_size)


def check_token_ids(request: GenerationRequest, vocab_size: int) -> None:
    token_ids = request.prompt_token_ids
    if not 0 <= min(token_ids) <= max(token_ids) < vocab_size:
        wrong = next(token_id for token_id in token_ids if not 0 <= token_id < vocab_size)
        raise TokenOutOfVocabularyError(
            f"token id {wrong} is not in the vocabulary, ids go from 0 to {vocab_size - 1}", param="prompt"
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
