"""From tokens that the engine reports to the outputs that callers see."""

from __future__ import annotations

from dataclasses import replace

import msgspec.structs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trained_tokenizers import byte_level

from specserve.engine.api import (
    FinishReason,
    GenerationOutput,
    GenerationRequest,
    Tokenizer,
    TokenLogprob,
    TokenLogprobs,
)
from specserve.engine.batch import PackedLogprobs, RequestProgress
from specserve.engine.errors import EngineError, InvalidParameterError
from specserve.engine.output_processor import OutputProcessor
from specserve.engine.params import SamplingParams
from specserve.engine.tokenizer import load_tokenizer

EOS = 2


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load_tokenizer(byte_level(tmp_path_factory.mktemp("tokenizer")))


def ids_of(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False)


def request(**params: object) -> GenerationRequest:
    return GenerationRequest(
        request_id="r",
        prompt_token_ids=[5, 6, 7],
        params=SamplingParams(max_tokens=100, **params),  # type: ignore[arg-type]
        index=1,
    )


def progress(
    ids: list[int],
    finish_reason: FinishReason | None = None,
    stop_reason: int | None = None,
    *,
    error: str | None = None,
    logprobs: list[TokenLogprobs] | None = None,
) -> RequestProgress:
    return RequestProgress("r", ids, logprobs, finish_reason, stop_reason, num_cached_tokens=2, error=error)


def run(
    tokenizer: Tokenizer, wanted: GenerationRequest, steps: list[RequestProgress]
) -> tuple[list[GenerationOutput], bool]:
    processor = OutputProcessor(tokenizer)
    processor.add(wanted)
    outputs = []
    for step in steps:
        processed = processor.process(step)
        if processed is None:
            continue
        output, must_abort = processed
        outputs.append(output)
        if output.finish_reason is not None:
            assert len(processor) == 0
            return outputs, must_abort
    return outputs, False


def steps_of(tokenizer: Tokenizer, text: str, *, end: FinishReason | None = None) -> list[RequestProgress]:
    ids = ids_of(tokenizer, text)
    return [progress([token_id], end if number == len(ids) else None) for number, token_id in enumerate(ids, 1)]


def whole(outputs: list[GenerationOutput]) -> str:
    return "".join(output.text for output in outputs)


def test_outputs_join_to_the_text_and_the_last_has_the_reason(tokenizer: Tokenizer) -> None:
    text = "hello 你好 👩 world"
    outputs, must_abort = run(tokenizer, request(), steps_of(tokenizer, text, end=FinishReason.LENGTH))
    assert whole(outputs) == text
    assert [token_id for output in outputs for token_id in output.token_ids] == ids_of(tokenizer, text)
    assert [output.finish_reason for output in outputs[:-1]] == [None] * (len(outputs) - 1)
    assert outputs[-1].finish_reason is FinishReason.LENGTH
    assert not must_abort


def test_outputs_carry_index_and_usage(tokenizer: Tokenizer) -> None:
    outputs, _ = run(tokenizer, request(), steps_of(tokenizer, "a"))
    assert (outputs[0].index, outputs[0].num_prompt_tokens, outputs[0].num_cached_tokens) == (1, 3, 2)


def test_an_unfinished_character_is_flushed_at_the_end(tokenizer: Tokenizer) -> None:
    ids = ids_of(tokenizer, "👩")[:-1]
    outputs, _ = run(tokenizer, request(), [progress(ids), progress(ids[:1], FinishReason.LENGTH)])
    assert outputs[0].text == ""
    assert outputs[1].text == "\ufffd\ufffd"


def test_a_stop_string_ends_the_request_and_asks_for_an_abort(tokenizer: Tokenizer) -> None:
    steps = steps_of(tokenizer, "one two three, one")
    outputs, must_abort = run(tokenizer, request(stop=(" two t",)), steps)
    assert whole(outputs) == "one"
    assert (outputs[-1].finish_reason, outputs[-1].stop_reason) == (FinishReason.STOP, " two t")
    assert must_abort
    assert len(outputs) < len(steps)


def test_a_stop_string_is_shown_on_demand(tokenizer: Tokenizer) -> None:
    steps = steps_of(tokenizer, "one two three, one")
    outputs, _ = run(tokenizer, request(stop=(" two t",), include_stop_str_in_output=True), steps)
    assert whole(outputs) == "one two t"


def test_a_stop_string_in_the_last_step_needs_no_abort(tokenizer: Tokenizer) -> None:
    steps = steps_of(tokenizer, "one two", end=FinishReason.LENGTH)
    outputs, must_abort = run(tokenizer, request(stop=("two",)), steps)
    assert (outputs[-1].finish_reason, outputs[-1].stop_reason) == (FinishReason.STOP, "two")
    assert whole(outputs) == "one "
    assert not must_abort


def test_text_held_for_a_stop_string_is_shown_at_the_end(tokenizer: Tokenizer) -> None:
    steps = steps_of(tokenizer, "one two", end=FinishReason.LENGTH)
    outputs, _ = run(tokenizer, request(stop=("two three",)), steps)
    assert whole(outputs) == "one two"
    assert outputs[-1].stop_reason is None


def test_tokens_and_logprobs_behind_the_match_are_dropped(tokenizer: Tokenizer) -> None:
    ids = [*ids_of(tokenizer, "a"), *ids_of(tokenizer, "!"), *ids_of(tokenizer, "b")]
    assert len(ids) == 3
    logprobs = [TokenLogprobs(TokenLogprob(token_id, -0.5, 1)) for token_id in ids]
    outputs, _ = run(tokenizer, request(stop=("!",)), [progress(ids, logprobs=logprobs)])
    assert outputs[0].text == "a"
    assert outputs[0].token_ids == tuple(ids[:2])
    assert outputs[0].logprobs == tuple(logprobs[:2])


def test_no_stop_string_counts_before_min_tokens(tokenizer: Tokenizer) -> None:
    ids = ids_of(tokenizer, "!") * 4
    outputs, _ = run(tokenizer, request(stop=("!",), min_tokens=3), [progress([token_id]) for token_id in ids])
    assert whole(outputs) == "!!!"
    assert outputs[-1].finish_reason is FinishReason.STOP
    assert len(outputs) == 4


@pytest.mark.parametrize(("include", "text"), [(False, "a"), (True, "a!")])
def test_a_stop_token_counts_but_is_shown_only_on_demand(tokenizer: Tokenizer, include: bool, text: str) -> None:
    first, last = ids_of(tokenizer, "a")[0], ids_of(tokenizer, "!")[0]
    wanted = request(stop_token_ids=(last,), include_stop_str_in_output=include)
    outputs, must_abort = run(tokenizer, wanted, [progress([first]), progress([last], FinishReason.STOP, last)])
    assert whole(outputs) == text
    assert outputs[-1].token_ids == (last,)
    assert outputs[-1].stop_reason == last
    assert not must_abort


def test_an_end_token_is_hidden_even_when_special_tokens_are_shown(tokenizer: Tokenizer) -> None:
    outputs, _ = run(tokenizer, request(skip_special_tokens=False), [progress([1, EOS], FinishReason.STOP)])
    assert whole(outputs) == "<|im_start|>"
    assert outputs[-1].stop_reason is None


def test_progress_of_an_ended_request_is_ignored(tokenizer: Tokenizer) -> None:
    processor = OutputProcessor(tokenizer)
    processor.add(request(stop=("!",)))
    assert processor.process(progress(ids_of(tokenizer, "!"))) is not None
    assert processor.process(progress(ids_of(tokenizer, "a"))) is None
    assert "r" not in processor


def test_progress_of_a_removed_request_is_ignored(tokenizer: Tokenizer) -> None:
    processor = OutputProcessor(tokenizer)
    processor.add(request())
    assert "r" in processor
    processor.remove("r")
    processor.remove("r")
    assert processor.process(progress([5])) is None


def test_a_failed_request_raises_and_is_forgotten(tokenizer: Tokenizer) -> None:
    processor = OutputProcessor(tokenizer)
    processor.add(request())
    with pytest.raises(EngineError, match="not finite"):
        processor.process(progress([], error="the logits are not finite"))
    assert len(processor) == 0


@given(data=st.data(), stop=st.lists(st.sampled_from(["one", " t", "!", "e,", "好", "\n"]), max_size=2))
def test_any_grouping_of_tokens_into_steps_gives_the_same_answer(
    tokenizer: Tokenizer, data: st.DataObject, stop: list[str]
) -> None:
    ids = ids_of(tokenizer, "he one two three, 你好 👩 hello!\none")
    cuts = sorted(data.draw(st.sets(st.integers(1, len(ids) - 1))))
    bounds = list(zip([0, *cuts], [*cuts, len(ids)], strict=True))
    grouped = [progress(ids[start:end], FinishReason.LENGTH if end == len(ids) else None) for start, end in bounds]
    single = [progress([i], FinishReason.LENGTH if n == len(ids) else None) for n, i in enumerate(ids, 1)]
    wanted = request(stop=tuple(stop))
    first, _ = run(tokenizer, wanted, single)
    second, _ = run(tokenizer, wanted, grouped)
    assert whole(first) == whole(second)
    assert first[-1].stop_reason == second[-1].stop_reason
    tokens = [[token_id for output in outputs for token_id in output.token_ids] for outputs in (first, second)]
    assert tokens[0] == tokens[1]


def packed(*token_ids: int) -> PackedLogprobs:
    ids = np.array([[token_id, 9] for token_id in token_ids], dtype=np.int32)
    ranks = np.arange(2, 2 + len(token_ids), dtype=np.int32)
    return PackedLogprobs(1, ids.tobytes(), np.full(ids.shape, -1.5, dtype=np.float32).tobytes(), ranks.tobytes())


def unpacked(token_id: int, rank: int) -> TokenLogprobs:
    return TokenLogprobs(TokenLogprob(token_id, -1.5, rank), (TokenLogprob(9, -1.5, 1),))


def chunk(logprobs: PackedLogprobs, *siblings: str) -> RequestProgress:
    return msgspec.structs.replace(progress([]), prompt_logprobs=replace(logprobs, siblings=siblings))


def test_prompt_logprobs_are_collected_and_come_with_the_first_output_only(tokenizer: Tokenizer) -> None:
    last = msgspec.structs.replace(progress([70]), prompt_logprobs=packed(7))
    outputs, _ = run(tokenizer, request(prompt_logprobs=1), [chunk(packed(6)), last, progress([71])])
    assert [output.prompt_logprobs for output in outputs] == [(None, unpacked(6, 2), unpacked(7, 2)), None]


def test_prompt_logprobs_come_with_the_end_when_there_is_no_answer(tokenizer: Tokenizer) -> None:
    end = msgspec.structs.replace(progress([], FinishReason.LENGTH), prompt_logprobs=packed(6, 7))
    (output,), _ = run(tokenizer, request(prompt_logprobs=1), [end])
    assert output.prompt_logprobs == (None, unpacked(6, 2), unpacked(7, 3))
    assert (output.text, output.token_ids, output.finish_reason) == ("", (), FinishReason.LENGTH)


def test_siblings_take_the_prompts_logprobs_also_when_the_first_has_left(tokenizer: Tokenizer) -> None:
    processor = OutputProcessor(tokenizer)
    for request_id, asks in (("r", True), ("s", True), ("t", False)):
        processor.add(replace(request(prompt_logprobs=1 if asks else None), request_id=request_id))
    assert processor.process(chunk(packed(6), "s", "t", "unknown")) is None
    processor.remove("r")
    assert processor.process(chunk(packed(7), "s", "t", "unknown")) is None
    for request_id, wanted in (("s", (None, unpacked(6, 2), unpacked(7, 2))), ("t", None)):
        processed = processor.process(msgspec.structs.replace(progress([70]), request_id=request_id))
        assert processed is not None
        assert processed[0].prompt_logprobs == wanted


def test_what_embeddings_break_is_their_callers_fault(tokenizer: Tokenizer) -> None:
    with pytest.raises(InvalidParameterError, match="not finite") as caught:
        run(tokenizer, replace(request(), prompt_embeds=b"any"), [progress([], error="not finite")])
    assert caught.value.param == "prompt_embeds"
