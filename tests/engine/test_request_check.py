"""What is refused in the API process, before the engine hears of it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from specserve.engine.api import NO_TOKEN, GenerationRequest, ModelInfo, PoolingRequest
from specserve.engine.errors import (
    InputTooLongError,
    InvalidParameterError,
    PromptTooLongError,
    RequestError,
    TokenOutOfVocabularyError,
    UnsupportedFeatureError,
)
from specserve.engine.params import PoolingParams, PoolingTask, SamplingParams
from specserve.engine.request_check import MAX_PROMPT_LOGPROBS, check_pooling, check_request

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
        (
            request([1] * 65, max_tokens=0),
            PromptTooLongError,
            None,
            "64: this model's maximum context length is 64 tokens",
        ),
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


def pooling_model(**changes: object) -> ModelInfo:
    values = {name: getattr(MODEL, name) for name in MODEL.__slots__}
    values |= {"tasks": ("embed", "token_embed"), "embedding_size": 8, "num_blocks": 1, **changes}
    return ModelInfo(**values)


def text(*token_ids: int, types: list[int] | None = None, **params: object) -> PoolingRequest:
    chosen = PoolingParams(**{"task": PoolingTask.EMBED, **params})  # type: ignore[arg-type]
    return PoolingRequest(request_id="r", prompt_token_ids=token_ids, params=chosen, token_type_ids=types)


def test_a_text_may_fill_the_whole_context_of_a_pooling_model() -> None:
    check_pooling(text(*range(64)), pooling_model())
    with pytest.raises(InputTooLongError, match="65 tokens, the limit is 64"):
        check_pooling(text(*range(65)), pooling_model())


@pytest.mark.parametrize(
    ("wanted", "changes", "param"),
    [
        (text(1, task=PoolingTask.CLASSIFY), {}, "task"),
        (text(), {}, "input"),
        (text(1, 100), {}, "input"),
        (text(-1), {}, "input"),
        (text(1, 2, types=[0]), {}, "token_type_ids"),
        (text(1, 2, types=[0, 2]), {}, "token_type_ids"),
        (text(1, dimensions=4), {}, "dimensions"),
        (text(1, dimensions=9), {"matryoshka_dimensions": ()}, "dimensions"),
        (text(1, dimensions=3), {"matryoshka_dimensions": (2, 4)}, "dimensions"),
    ],
)
def test_what_a_pooling_model_cannot_do_is_refused_by_name(
    wanted: PoolingRequest, changes: dict[str, object], param: str
) -> None:
    with pytest.raises(RequestError) as refusal:
        check_pooling(wanted, pooling_model(**changes))
    assert refusal.value.param == param


@pytest.mark.parametrize(("dimensions", "allowed"), [(1, ()), (8, ()), (4, (2, 4))])
def test_matryoshka_models_shorten_embeddings(dimensions: int, allowed: tuple[int, ...]) -> None:
    check_pooling(text(1, dimensions=dimensions), pooling_model(matryoshka_dimensions=allowed))


def test_only_embeddings_can_be_shortened() -> None:
    with pytest.raises(InvalidParameterError, match="only embeddings"):
        PoolingParams(task=PoolingTask.CLASSIFY, dimensions=3)


def test_a_pooling_model_generates_no_text() -> None:
    with pytest.raises(UnsupportedFeatureError, match="embed, token_embed"):
        check_request(request(), pooling_model())
