"""Beam search over single steps of an engine, compared with transformers' own beam search on a random fp32 model."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch
from local_engine import LocalEngine, write_model
from tiny_checkpoints import oracle
from transformers import PreTrainedModel

from specserve.engine.api import FinishReason, GenerationRequest, TokenLogprob, TokenLogprobs
from specserve.engine.params import SamplingParams
from specserve.handlers.chat.beam_search import Beam, BeamSearch, BeamSettings, stream_beams
from specserve.handlers.chat.events import ChatFinished, ContentDelta

PROMPT = [11, 57, 203, 99, 140]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("beams"))


@pytest.fixture(scope="module")
def engine(folder: Path) -> LocalEngine:
    return LocalEngine(folder)


@pytest.fixture(scope="module")
def reference(folder: Path) -> PreTrainedModel:
    return oracle(folder)


def expected(model: PreTrainedModel, num_beams: int, max_tokens: int, end_ids: list[int], **options: Any) -> Any:
    with torch.inference_mode():
        found = model.generate(
            torch.tensor([PROMPT]),
            num_beams=num_beams,
            num_return_sequences=num_beams,
            max_new_tokens=max_tokens,
            do_sample=False,
            eos_token_id=end_ids or None,
            pad_token_id=0,
            output_scores=True,
            return_dict_in_generate=True,
            **options,
        )
    sequences = found.sequences[:, len(PROMPT) :].tolist()
    scores = found.sequences_scores.tolist()
    return [(until_end(sequence, end_ids), score) for sequence, score in zip(sequences, scores, strict=True)]


def greedy(model: PreTrainedModel, max_tokens: int, end_ids: list[int]) -> list[int]:
    with torch.inference_mode():
        found = model.generate(
            torch.tensor([PROMPT]),
            max_new_tokens=max_tokens,
            do_sample=False,
            eos_token_id=end_ids or None,
            pad_token_id=0,
        )
    return until_end(found[0, len(PROMPT) :].tolist(), end_ids)


def until_end(sequence: list[int], end_ids: list[int]) -> list[int]:
    """Without the padding."""
    ends = [at for at, token_id in enumerate(sequence) if token_id in end_ids]
    return sequence[: ends[0] + 1] if ends else sequence


def request_of(max_tokens: int, end_ids: list[int], name: str = "beams", **params: Any) -> GenerationRequest:
    chosen = SamplingParams(max_tokens=max_tokens, ignore_eos=True, stop_token_ids=tuple(end_ids), **params)
    return GenerationRequest(request_id=name, prompt_token_ids=PROMPT, params=chosen)


@pytest.fixture(scope="module")
def end_ids(engine: LocalEngine) -> list[int]:
    """Tokens that likely beams run into, so that some end early and some do not."""
    beams = asyncio.run(BeamSearch(engine, request_of(8, []), BeamSettings(width=4)).run())
    return sorted({beams[0].token_ids[3], beams[-1].token_ids[5]})


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("length_penalty", [1.0, 0.0, 2.5, -1.0])
@pytest.mark.parametrize(("width", "max_tokens", "ends"), [(2, 12, 1), (3, 12, 2), (4, 20, 0), (5, 1, 2)])
async def test_sequences_and_scores_are_those_of_transformers(
    engine: LocalEngine,
    reference: PreTrainedModel,
    end_ids: list[int],
    width: int,
    max_tokens: int,
    ends: int,
    length_penalty: float,
    early_stopping: bool,
) -> None:
    options = {"length_penalty": length_penalty, "early_stopping": early_stopping}
    theirs = expected(reference, width, max_tokens, end_ids[:ends], **options)
    settings = BeamSettings(width=width, length_penalty=length_penalty, early_stopping=early_stopping)
    ours = await BeamSearch(engine, request_of(max_tokens, end_ids[:ends]), settings).run()
    assert [list(beam.token_ids) for beam in ours] == [sequence for sequence, _ in theirs]
    # Sums of single precision numbers, in another order.
    assert [beam.score(length_penalty) for beam in ours] == pytest.approx([score for _, score in theirs], rel=1e-5)


async def test_one_beam_is_the_greedy_answer(
    engine: LocalEngine, reference: PreTrainedModel, end_ids: list[int]
) -> None:
    """As soon as it ends, that is: without early stopping a longer answer may still score better."""
    settings = BeamSettings(width=1, early_stopping=True)
    for ends in (end_ids, []):
        ours = await BeamSearch(engine, request_of(12, ends), settings).run()
        assert [list(beam.token_ids) for beam in ours] == [greedy(reference, 12, ends)]


async def test_end_tokens_wait_for_min_tokens(
    engine: LocalEngine, reference: PreTrainedModel, end_ids: list[int]
) -> None:
    theirs = expected(reference, 3, 12, end_ids, min_new_tokens=6)
    ours = await BeamSearch(engine, request_of(12, end_ids, min_tokens=6), BeamSettings(width=3)).run()
    assert [list(beam.token_ids) for beam in ours] == [sequence for sequence, _ in theirs]


async def test_beams_are_told_as_any_other_answers(engine: LocalEngine, end_ids: list[int]) -> None:
    settings = BeamSettings(width=3)
    requests = [request_of(10, end_ids, name, logprobs=2) for name in ("one", "two")]
    beams = await BeamSearch(engine, requests[0], settings).run()
    events = [event async for event in stream_beams(engine, requests, settings)]
    contents = [event for event in events if isinstance(event, ContentDelta)]
    finished = [event for event in events if isinstance(event, ChatFinished)]
    assert [event.index for event in contents] == [event.index for event in finished] == list(range(6))
    assert [event.token_ids for event in contents] == [beam.token_ids for beam in beams] * 2
    for event, end, beam in zip(contents, finished, beams * 2, strict=True):
        shown = beam.token_ids[:-1] if beam.has_ended else beam.token_ids
        assert event.text == engine.tokenizer.decode(shown, skip_special_tokens=True)
        assert (end.reason, end.stop_reason) == (
            (FinishReason.STOP, beam.token_ids[-1]) if beam.has_ended else (FinishReason.LENGTH, None)
        )
        assert event.logprobs is not None
        assert sum(token.sampled.logprob for token in event.logprobs) == pytest.approx(beam.sum_logprob)
        assert all(len(token.top) == 2 for token in event.logprobs)


async def test_whoever_leaves_ends_every_beam(engine: LocalEngine) -> None:
    before = len(engine.requests)
    search = stream_beams(engine, [request_of(100, [], name) for name in ("one", "two")], BeamSettings(width=4))
    answer = asyncio.ensure_future(anext(search))
    while len(engine.requests) < before + 20 or not engine.num_open:
        assert not answer.done()
        await asyncio.sleep(0)
    answer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answer
    assert engine.num_open == engine.stats().num_running == engine.stats().num_used_blocks == 0


def test_scores_divide_by_the_length_with_its_end() -> None:
    token = TokenLogprobs(TokenLogprob(5, -1.5, 1))
    assert Beam((token, token), -3.0).score(2.0) == -0.75
