"""Whether a token is accepted does not depend on how the grammar was asked; and when it is asked for a mask."""

from __future__ import annotations

import random
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import llguidance
import pytest
from grammar_rows import COMPILER, EOS, SIZE, VOCABULARY, allowed_by, constrained, matcher

from specserve.engine.batch import SampledToken
from specserve.engine.grammar_spec import GrammarSpec
from specserve.engine.request import Request
from specserve.engine.sampling.grammar_masks import (
    MAX_TESTS,
    MAX_TESTS_WITHOUT_MASK,
    MaskFiller,
    RowGrammar,
    StepMasks,
)

GRAMMARS = {
    "words": GrammarSpec(kind="regex", source="([a-h]+ ){5}"),
    "counted": GrammarSpec(kind="regex", source="([a-h ]{5,20}\n){3}"),
    "json": GrammarSpec(kind="json_object"),
    "record": GrammarSpec(
        kind="json_schema",
        source='{"properties": {"a": {"type": "string", "format": "email"}, "b": {"type": "integer", "minimum": -7}}}',
    ),
    "choice": GrammarSpec(kind="choice", source='["abc", "ab", "0 1"]'),
    "special tokens": GrammarSpec(kind="grammar", source="start: (/[a-h]+/ | <[257]>)* <[257]> /[01]/"),
    "rules": GrammarSpec(kind="grammar", source='start: "(" (start | /[0-9]{1,3}/)* ")"'),
}


def grammar_of(request: Request) -> RowGrammar:
    return RowGrammar(request, SIZE, VOCABULARY.eos_token_ids)


def begin(*requests: Request, num_threads: int = 1, fill_all_ahead: bool = False) -> StepMasks:
    filler = MaskFiller(SIZE, VOCABULARY.eos_token_ids, num_threads, fill_all_ahead=fill_all_ahead)
    masks = filler.begin(requests)
    assert masks is not None
    return masks


def accepted(grammar: RowGrammar) -> set[int]:
    return {token_id for token_id in range(SIZE) if grammar.accepts(token_id)}


@pytest.mark.parametrize("name", GRAMMARS)
def test_single_tokens_are_accepted_exactly_where_the_mask_allows_them(name: str) -> None:
    checked = COMPILER.check(GRAMMARS[name])
    for seed in range(3):
        dice, state = random.Random(seed), COMPILER.compile(checked)
        for _ in range(40):
            mask = allowed_by(state)
            assert {token_id for token_id in range(SIZE) if state.validate_tokens([token_id])} == mask
            assert state.consume_token(dice.choice(sorted(mask)))
            if state.is_stopped():
                break


def test_nothing_happens_without_a_constraint() -> None:
    filler = MaskFiller(SIZE, VOCABULARY.eos_token_ids)
    assert filler.begin([constrained(None), constrained(None)]) is None


@pytest.mark.parametrize("num_threads", [1, 3])
@pytest.mark.parametrize("fill_all_ahead", [False, True])
def test_masks_of_several_rows(num_threads: int, fill_all_ahead: bool) -> None:
    requests = [constrained("[ab]"), constrained(None), constrained("[0-9]"), constrained("x?"), constrained("[^ ]")]
    for request in requests:
        request.wants_mask = False
    masks = begin(*requests, num_threads=num_threads, fill_all_ahead=fill_all_ahead)
    masks.fill([0, 2, 3])
    assert [masks.grammars[row].is_filled for row in (0, 2, 3)] == [True] * 3
    assert fill_all_ahead or not masks.grammars[4].is_filled
    assert set(masks.grammars[0].allowed_ids().tolist()) == {ord("a"), ord("b")}
    assert set(masks.grammars[2].allowed_ids().tolist()) == set(range(48, 58))
    assert masks.grammars[3].allowed_ids().tolist() == [ord("x"), EOS]
    assert set(masks.grammars[4].allowed_ids().tolist()) == allowed_by(matcher("[^ ]"))


def test_a_mask_that_is_wanted_is_filled_unless_it_comes_too_late() -> None:
    class Pool(ThreadPoolExecutor):
        def submit(self, *call: Any, **named: Any) -> Future[Any]:  # type: ignore[override]
            future: Future[Any] = super().submit(*call, **named)
            future.exception()
            return future

    in_time, too_late = grammar_of(constrained("[ab]")), grammar_of(constrained("[ab]"))
    in_time.fill_on(Pool(1))
    assert in_time.is_filled
    busy, go_on = ThreadPoolExecutor(1), threading.Event()
    busy.submit(go_on.wait)
    too_late.fill_on(busy)
    assert not too_late.is_filled
    assert accepted(too_late) == accepted(in_time) == {ord("a"), ord("b")}
    go_on.set()


def test_after_many_single_tokens_a_row_gets_its_mask() -> None:
    request = constrained("[ab0-9]+")
    grammar = grammar_of(request)
    for token_id in range(MAX_TESTS):
        grammar.accepts(token_id)
        grammar.accepts(token_id)
    assert not grammar.is_filled
    assert accepted(grammar) == allowed_by(matcher("[ab0-9]+"))
    assert grammar.is_filled


class TestIgnoreEos:
    def test_the_end_is_accepted_only_where_nothing_else_is(self) -> None:
        can_go_on, must_end = constrained("[0-9]*", ignore_eos=True), constrained("a?", b"a", ignore_eos=True)
        assert EOS not in accepted(grammar_of(can_go_on))
        assert EOS not in grammar_of(can_go_on).allowed_ids()
        assert EOS in grammar_of(constrained("[0-9]*")).allowed_ids()
        assert accepted(grammar_of(must_end)) == set()
        assert grammar_of(must_end).allowed_ids().tolist() == [EOS]


class TestTheNextStep:
    def advanced(self, tested: int, *, was_short: bool = False, filled: bool = False) -> Request:
        request = constrained("[a-h]+")
        request.wants_mask = False
        request.num_tests_without_mask = MAX_TESTS_WITHOUT_MASK - 10
        grammar = grammar_of(request)
        grammar.was_short = was_short
        for token_id in range(tested):
            grammar.accepts(token_id)
        if filled:
            grammar.fill()
        assert grammar.advance(SampledToken(ord("a"))) == SampledToken(ord("a"))
        return request

    def test_wants_no_mask_when_this_one_needed_none(self) -> None:
        assert not self.advanced(3).wants_mask

    def test_wants_a_mask_when_this_one_did(self) -> None:
        assert self.advanced(3, was_short=True, filled=True).wants_mask

    def test_wants_a_mask_after_many_tests_without(self) -> None:
        request = self.advanced(10)
        assert request.wants_mask
        grammar = grammar_of(request)
        grammar.fill()
        grammar.advance(SampledToken(ord("a")))
        assert (request.wants_mask, request.num_tests_without_mask) == (False, 0)


class TestAdvance:
    def test_marks_an_answer_that_can_only_end(self) -> None:
        grammar = grammar_of(constrained("ab"))
        assert grammar.advance(SampledToken(ord("a"))) == SampledToken(ord("a"))
        assert grammar.advance(SampledToken(ord("b"))) == SampledToken(ord("b"), ends=True)

    def test_refuses_a_token_that_does_not_fit(self) -> None:
        assert "does not continue" in str(grammar_of(constrained("ab")).advance(SampledToken(ord("b"))))


def test_a_matcher_that_gave_up_accepts_nothing_and_says_why() -> None:
    request = constrained("[ab]")
    broken: llguidance.LLMatcher | None = request.matcher
    assert broken is not None
    assert not broken.consume_token(ord("x"))
    grammar = grammar_of(request)
    assert accepted(grammar) <= {EOS}  # which a mask of it holds
    assert not grammar_of(request).accepts(EOS)
    assert "too complex" in str(grammar.failure())
    assert grammar_of(constrained("[ab]")).failure() is None
