"""The text of a custom tool is what the JSON around it says, however that is cut."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specserve.handlers.openai.responses.sealed import PREFIX, sealed, unsealed
from specserve.handlers.openai.responses.text_argument import TextArgument

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


def read(pieces: list[str]) -> str:
    argument = TextArgument()
    return "".join([*map(argument.feed, pieces), argument.end()])


def cut(text: str, places: list[int]) -> list[str]:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[begin:end] for begin, end in pairwise(edges)]


@given(text=TEXTS, is_ascii=st.booleans(), indent=st.none() | st.integers(0, 3), places=st.lists(st.integers(0, 999)))
def test_it_is_what_json_says(text: str, is_ascii: bool, indent: int | None, places: list[int]) -> None:
    raw = json.dumps({"input": text}, ensure_ascii=is_ascii, indent=indent)
    assert read(cut(raw, places)) == text
    assert read(list(raw)) == text


@given(text=TEXTS, length=st.integers(0, 60), places=st.lists(st.integers(0, 999)))
def test_of_what_was_cut_off_it_is_a_beginning_that_does_not_depend_on_the_pieces(
    text: str, length: int, places: list[int]
) -> None:
    raw = json.dumps({"input": text})
    begun = raw[: 10 + length % max(1, len(raw) - 10)]
    found = read(cut(begun, places))
    assert found == read([begun])
    if begun.startswith('{"input": "'):
        assert text.startswith(found.rstrip("�"))


@pytest.mark.parametrize("raw", ["2 + 2", '{"expression": "2 + 2"}', "[1]", '{"input": 5}', ""])
def test_what_is_no_such_object_is_the_text_itself(raw: str) -> None:
    assert read(list(raw)) == raw


@given(text=TEXTS)
def test_reasoning_comes_out_of_its_packing_as_it_went_in(text: str) -> None:
    assert unsealed(sealed(text)) == text


@pytest.mark.parametrize("foreign", [None, "", "gAAAAABo", PREFIX, PREFIX + "!", PREFIX + "AAAA", sealed("why")[:-6]])
def test_what_another_provider_packed_is_nothing(foreign: str | None) -> None:
    assert unsealed(foreign) == ""
