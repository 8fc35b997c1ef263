"""Masks forbid exactly what their matchers do not allow, in their own rows, whatever was done to the logits before."""

from __future__ import annotations

from typing import Any

import llguidance
import numpy as np
import pytest
import torch

from specserve.engine.grammar_spec import GrammarSpec
from specserve.engine.grammars.compiler import GrammarCompiler
from specserve.engine.grammars.vocabulary import Vocabulary
from specserve.engine.params import SamplingParams
from specserve.engine.request import Request
from specserve.engine.sampling.candidates import GroupedLogits
from specserve.engine.sampling.grammar_masks import FORBIDDEN, NOTHING_LEFT, MaskFiller, StepMasks
from specserve.engine.sampling.logits_processors import HUGE

EOS = 256
VOCABULARY = Vocabulary([*(bytes([byte]) for byte in range(256)), b"\xff</s>", b"ab", b"12", *[b""] * 41], (EOS,))
SIZE = len(VOCABULARY.tokens)
COMPILER = GrammarCompiler(VOCABULARY)


def matcher(pattern: str) -> llguidance.LLMatcher:
    return COMPILER.compile(GrammarSpec(kind="regex", source=pattern))


def request(pattern: str | None, **params: Any) -> Request:
    made = Request("r", SamplingParams(max_tokens=9, **params), [1], 1)
    made.matcher = None if pattern is None else matcher(pattern)
    return made


def begin(*requests: Request, num_threads: int = 1) -> StepMasks:
    masks = MaskFiller(SIZE, VOCABULARY.eos_token_ids, num_threads).begin(requests)
    assert masks is not None
    return masks


def allowed(masks: StepMasks, place: int) -> set[int]:
    words = masks.allowed()[place].numpy()
    return set(np.flatnonzero(np.unpackbits(words.view(np.uint8), count=SIZE, bitorder="little")).tolist())


def test_nothing_happens_without_a_constraint() -> None:
    assert MaskFiller(SIZE, VOCABULARY.eos_token_ids).begin([request(None), request(None)]) is None


@pytest.mark.parametrize("num_threads", [1, 2])
def test_only_constrained_rows_change_and_only_where_it_is_forbidden(num_threads: int) -> None:
    masks = begin(request("[ab]+"), request(None), request("[0-9]{2}"), request("x?"), num_threads=num_threads)
    logits = torch.randn(4, SIZE)
    before = logits.clone()
    masks.apply(GroupedLogits(logits))
    wanted = [{ord("a"), ord("b"), 257}, set(range(SIZE)), {*range(48, 58), 258}, {ord("x"), EOS}]
    for row, tokens in enumerate(wanted):
        kept = logits[row] == before[row]
        assert set(kept.nonzero()[:, 0].tolist()) == tokens
        assert bool((logits[row][~kept] < NOTHING_LEFT).all())
    alone = before.clone()
    for row in masks.rows:
        masks.apply_row(GroupedLogits(alone), row)
    assert torch.equal(alone, logits)


@pytest.mark.parametrize("value", [HUGE, -HUGE, float("-inf"), 0.0])
def test_what_is_forbidden_stays_below_everything_that_is_allowed(value: float) -> None:
    logits = torch.full((1, SIZE), value)
    logits[0, ord("a")] = -HUGE  # as low as penalties can push
    begin(request("a")).apply(GroupedLogits(logits))
    assert logits[0].argmax().item() == ord("a")
    assert logits[0].sort(descending=True).values[1].item() <= FORBIDDEN / 2
    assert bool(torch.isfinite(logits[0, ord("a")]))


def test_ignore_eos_forbids_the_end_unless_nothing_else_is_left() -> None:
    can_go_on, must_end = request("[0-9]*", ignore_eos=True), request("a?", ignore_eos=True)
    assert must_end.matcher is not None
    assert must_end.matcher.consume_token(ord("a"))
    masks = begin(can_go_on, must_end, request("[0-9]*"))
    assert EOS not in allowed(masks, 0)
    assert allowed(masks, 1) == {EOS}
    assert EOS in allowed(masks, 2)


def test_a_matcher_that_gave_up_fails_its_row_only() -> None:
    broken, sound = request("[ab]"), request("[cd]")
    assert broken.matcher is not None
    broken.matcher.consume_token(ord("x"))
    masks = begin(broken, sound)
    assert allowed(masks, 1) == {ord("c"), ord("d")}
    assert masks.failures().keys() == {0}
