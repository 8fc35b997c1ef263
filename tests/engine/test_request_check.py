"""What is refused in the API process, before the engine hears of it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from specserve.engine.api import NO_TOKEN, GenerationRequest, ModelInfo
from specserve.engine.errors import (
    InvalidParameterError,
    PromptTooLongError,
    RequestError,
    TokenOutOfVocabularyError,
    UnsupportedFeatureError,
)
from specserve.engine.params import SamplingParams
from specserve.engine.request_check import MAX_PROMPT_LOGPROBS, check_request

MODEL = ModelInfo(
    path="/models/none",
    architecture="none",
    device="cpu",
    dtype="float32",
    attention_backend="none",
    vocab_size=100,
    max_model_len=64,
    eos_token_ids=(),
    block_size=4,
    num_blocks=1001,
    num_parameters=0,
    hidden_size=8,
    accepts_prompt_embeds=True,
)


def request(
    prompt: Sequence[int] = (1, 2, 3), max_tokens: int = 1, prompt_embeds: bytes | None = None, **params: object
) -> GenerationRequest:
    chosen = SamplingParams(max_tokens=max_tokens, **params)  # type: ignore[arg-type]
    return GenerationRequest(request_id="r", prompt_token_ids=prompt, params=chosen, prompt_embeds=prompt_embeds)


@pytest.mark.parametrize(
    "good",
    [
        request([1] * 63),
        request([1] * 64, max_tokens=0),
        request([0, 99]),
        request([1] * 60, prompt_logprobs=99),
        request([NO_TOKEN] * 63, prompt_embeds=b"any"),
    ],
)
def test_what_fits_is_let_through(good: GenerationRequest) -> None:
    check_request(good, MODEL)


@pytest.mark.parametrize(
    ("bad", "kind", "param", "message"),
    [
        (request([1] * 64), PromptTooLongError, None, "the limit is 63 with one token left"),
        (request([1] * 65, max_tokens=0), PromptTooLongError, None, r"the limit is 64 \(max_model_len"),
        (request([1, 100]), TokenOutOfVocabularyError, "prompt", "token id 100"),
        (request([1, -1]), TokenOutOfVocabularyError, "prompt", "token id -1"),
        (
            request([1] * 60, prompt_logprobs=MAX_PROMPT_LOGPROBS // 60),
            InvalidParameterError,
            "prompt_logprobs",
            f"the limit is {MAX_PROMPT_LOGPROBS}",
        ),
        (request([NO_TOKEN], prompt_embeds=b"", prompt_logprobs=0), InvalidParameterError, "prompt_logprobs", "tokens"),
        (request([NO_TOKEN, 5], prompt_embeds=b""), InvalidParameterError, "prompt_embeds", "not both"),
    ],
)
def test_what_does_not_is_refused_by_name(
    bad: GenerationRequest, kind: type[RequestError], param: str | None, message: str
) -> None:
    with pytest.raises(kind, match=message) as caught:
        check_request(bad, MODEL)
    assert caught.value.param == param


def test_embeddings_are_refused_where_they_are_not_taken() -> None:
    plain = ModelInfo(**{name: getattr(MODEL, name) for name in MODEL.__slots__} | {"accepts_prompt_embeds": False})
    with pytest.raises(UnsupportedFeatureError, match="--enable-prompt-embeds"):
        check_request(request([NO_TOKEN], prompt_embeds=b""), plain)
