"""Edits of logits equal those of transformers or their definition, and touch only rows that ask."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from naive_sampling import request
from torch import Tensor
from transformers import (
    MinNewTokensLengthLogitsProcessor,
    NoBadWordsLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
)

from specserve.engine.sampling.logits_processors import edit_logits

VOCAB_SIZE = 50
NEVER = float("-inf")


@pytest.fixture
def logits() -> Tensor:
    return torch.randn(2, VOCAB_SIZE, generator=torch.Generator().manual_seed(0)) * 3


def edited(logits: Tensor, eos: tuple[int, ...] = (), **options: Any) -> Tensor:
    """The second row edited, the first one not."""
    out = logits.clone()
    edit_logits(out, [request(), request(**options)], [1], eos)
    assert torch.equal(out[0], logits[0])
    return out[1]


def test_repetition_penalty_is_that_of_transformers(logits: Tensor) -> None:
    history = [3, 8, 3, 11, 8]
    got = edited(logits, prompt=(3, 8, 3), answer=(11, 8), repetition_penalty=1.3)
    want = RepetitionPenaltyLogitsProcessor(1.3)(torch.tensor([history]), logits[1:].clone())[0]
    torch.testing.assert_close(got, want)


def test_presence_and_frequency_penalties_count_the_answer_only(logits: Tensor) -> None:
    got = edited(logits, prompt=(3, 3, 4), answer=(3, 5, 5), presence_penalty=0.5, frequency_penalty=0.25)
    want = logits[1].clone()
    want[3] -= 0.5 + 0.25
    want[5] -= 0.5 + 0.5
    torch.testing.assert_close(got, want)


def test_penalties_without_an_answer_change_nothing(logits: Tensor) -> None:
    assert torch.equal(edited(logits, presence_penalty=1.0, frequency_penalty=1.0), logits[1])


def test_negative_penalties_reward(logits: Tensor) -> None:
    assert float(edited(logits, answer=(5,), presence_penalty=-1.0)[5] - logits[1, 5]) == pytest.approx(1.0)


def test_logit_bias_is_added(logits: Tensor) -> None:
    got = edited(logits, logit_bias={4: 10.0, 9: -100.0, VOCAB_SIZE: 5.0})
    want = logits[1].clone()
    want[4] += 10.0
    want[9] -= 100.0
    torch.testing.assert_close(got, want)


def test_only_allowed_ids_stay(logits: Tensor) -> None:
    got = edited(logits, allowed_token_ids=(2, 7, VOCAB_SIZE + 1))
    assert torch.nonzero(got > NEVER).flatten().tolist() == [2, 7]
    assert torch.equal(got[[2, 7]], logits[1, [2, 7]])


def forbidden(logits: Tensor, **options: Any) -> list[int]:
    got = edited(logits, **options)
    is_kept = got > NEVER
    assert torch.equal(got[is_kept], logits[1][is_kept])
    return torch.nonzero(~is_kept).flatten().tolist()


@pytest.mark.parametrize("answer", [(), (4,), (9, 4), (4, 5), (4, 4, 5), (5, 4, 5, 6), (6, 6), (30,)])
def test_bad_words_are_those_of_transformers(logits: Tensor, answer: tuple[int, ...]) -> None:
    words = [[7], [4, 5], [4, 5, 6], [6, 6], [8, 8, 8, 8, 8, 8], [4, 9], [30, 31]]
    # transformers looks at prompt and answer; a prompt that is no part of any word leaves the answer.
    history = torch.tensor([[1, 2, 3, *answer]])
    want = NoBadWordsLogitsProcessor(words, eos_token_id=None)(history, logits[1:].clone())[0]
    options = {"answer": answer, "bad_words_token_ids": tuple(map(tuple, words))}
    assert forbidden(logits, **options) == torch.nonzero(want == NEVER).flatten().tolist()


def test_a_bad_word_that_begins_in_the_prompt_is_none(logits: Tensor) -> None:
    assert forbidden(logits, prompt=(3, 4), bad_words_token_ids=((4, 5),)) == []


@given(
    words=st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4).map(tuple), min_size=1, max_size=6),
    answer=st.lists(st.integers(0, 3), max_size=6),
)
def test_bad_words_forbid_exactly_what_would_complete_one(words: list[tuple[int, ...]], answer: list[int]) -> None:
    logits = torch.zeros(2, VOCAB_SIZE)
    got = forbidden(logits, answer=tuple(answer), bad_words_token_ids=tuple(words))
    assert got == [token for token in range(VOCAB_SIZE) if any((*answer, token)[-len(w) :] == w for w in words)]


def test_bad_words_never_leave_nothing(logits: Tensor) -> None:
    everything = tuple((token,) for token in range(VOCAB_SIZE))
    assert forbidden(logits, bad_words_token_ids=everything) == []
    others = [token for token in range(VOCAB_SIZE) if token not in (2, 7)]
    assert forbidden(logits, bad_words_token_ids=((2,), (7,)), allowed_token_ids=(2, 7)) == others
    assert forbidden(logits, bad_words_token_ids=((2,),), allowed_token_ids=(2, 7)) == sorted([*others, 2])


@pytest.mark.parametrize(("num_answer", "masked"), [(0, True), (2, True), (3, False)])
def test_end_tokens_wait_for_min_tokens(logits: Tensor, num_answer: int, masked: bool) -> None:
    answer = tuple(range(20, 20 + num_answer))
    got = edited(logits, eos=(1, 2), prompt=(5,), answer=answer, min_tokens=3, stop_token_ids=(9,))
    processor = MinNewTokensLengthLogitsProcessor(1, 3, [1, 2, 9], device="cpu")
    want = processor(torch.tensor([[5, *answer]]), logits[1:].clone())[0]
    assert torch.equal(got, want)
    assert bool((got[[1, 2, 9]] == NEVER).all()) is masked


def test_ignored_end_tokens_may_come_early(logits: Tensor) -> None:
    got = edited(logits, eos=(1,), min_tokens=3, stop_token_ids=(9,), ignore_eos=True)
    assert torch.nonzero(got == NEVER).flatten().tolist() == [9]


def test_bias_comes_before_penalties(logits: Tensor) -> None:
    logits[1, 4] = -1.0
    got = edited(logits, prompt=(4,), logit_bias={4: 3.0}, repetition_penalty=2.0)
    assert float(got[4]) == pytest.approx(1.0)  # (-1 + 3) / 2, not (-1 * 2) + 3
