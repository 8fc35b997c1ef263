"""The index says what a scan of the whole text would, however the text has grown."""

from __future__ import annotations

import sys

from hypothesis import given, settings
from hypothesis import strategies as st

from specserve.engine.speculative.ngram_index import MAX_CANDIDATES, NgramIndex


def scan(token_ids: list[int], shortest: int, longest: int, count: int) -> list[int]:
    """The definition: the longest run at the end that occurred before, its last occurrence, and what followed."""
    length = len(token_ids)
    for n in range(longest, shortest - 1, -1):
        for place in range(length - n - 1, -1, -1):
            if token_ids[place : place + n] == token_ids[length - n :]:
                text = list(token_ids)
                for at in range(count):
                    text.append(text[place + n + at])
                return text[length:]
    return []


@settings(max_examples=200, deadline=None)
@given(data=st.data(), num_symbols=st.integers(1, 6), shortest=st.integers(1, 3), more=st.integers(0, 3))
def test_it_finds_what_a_scan_finds(data: st.DataObject, num_symbols: int, shortest: int, more: int) -> None:
    text = data.draw(st.lists(st.integers(0, num_symbols - 1), max_size=MAX_CANDIDATES))
    index, length = NgramIndex(shortest, shortest + more), 0
    while length < len(text):
        length += data.draw(st.integers(1, 20))
        count = data.draw(st.integers(1, 5))
        known = text[:length]
        assert index.propose(known, count) == scan(known, shortest, shortest + more, count)


def test_it_finds_the_same_in_a_text_longer_than_its_first_table() -> None:
    text = [n * n % 1009 for n in range(3000)]
    index = NgramIndex(2, 4)
    for length in range(1, len(text)):
        found = index.propose(text[:length], 3)
        if length in (300, 1020, 2500):
            assert found == scan(text[:length], 2, 4, 3)
    assert found == text[-1:] + [n * n % 1009 for n in range(3000, 3002)], "squares repeat after 1009"


def test_a_text_of_one_token_is_guessed_to_go_on() -> None:
    assert NgramIndex(1, 3).propose([5, 5], 4) == [5, 5, 5, 5]
    assert NgramIndex(2, 5).propose([1, 2, 3, 1, 2, 3, 1], 7) == [2, 3, 1, 2, 3, 1, 2]


def test_nothing_is_guessed_without_a_repetition_or_a_wish() -> None:
    assert NgramIndex(2, 3).propose([1, 2, 3, 4], 4) == []
    assert NgramIndex(2, 3).propose([1, 1, 1], 0) == []
    assert NgramIndex(1, 3).propose([], 4) == []


def test_of_equally_long_matches_the_last_one_counts() -> None:
    assert NgramIndex(2, 2).propose([1, 2, 7, 1, 2, 8, 1, 2], 1) == [8]


def test_a_longer_match_wins_over_a_later_one() -> None:
    assert NgramIndex(1, 3).propose([4, 1, 2, 7, 3, 2, 8, 4, 1, 2], 1) == [7]


def test_memory_is_bounded_by_the_length_of_the_text() -> None:
    """Whatever the tokens are, and however few n-grams repeat."""
    text = list(range(50_000))
    index = NgramIndex(2, 5)
    index.propose(text, 4)
    size = sum(sys.getsizeof(array) for array in (index._latest, index._before))
    assert size <= 12 * len(text) * 1.2, "with the room that a growing array keeps"
