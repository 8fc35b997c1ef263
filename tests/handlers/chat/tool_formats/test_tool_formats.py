"""Every tool format: what a model writes gives the calls it means, whole and cut in any way."""

from __future__ import annotations

import itertools
import json
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from taking_apart import check_every_cut, check_order, cut_at, pieces_of, tool_parser, whole
from writers import MAY_BE_FOLLOWED, MAY_BE_PRECEDED, SAME, WRITERS, Calls, can_say

from specserve.handlers.chat.answer_pieces import CallArguments, FoldedAnswer, fold_pieces
from specserve.handlers.chat.tool_formats.registry import TOOL_FORMATS

LONGEST_MARK = 26
PARALLEL: Calls = [("f", {"city": "Rome", "days": 3}), ("g", {"city": "Oslo"})]
NESTED: Calls = [
    ("get_weather", {"nested": {"a": [1, {"b": None}], "c": {}}, "list": [[], [True, -1.5]], "wet": False})
]
ESCAPES: Calls = [("f", {"text": "a \"quoted\" \\ word\n\tand 'more' 🙂 é 日本", "city": "日本 👨‍👩‍👧"})]
EMPTY: Calls = [("f", {}), ("g", {})]
MARKS: Calls = [("f", {"text": '</tool_call> } ] ) [TOOL_CALLS] <|call| {"name": 1} </tool_calls>', "city": "}]"})]
CASES = {"parallel": PARALLEL, "nested": NESTED, "escapes": ESCAPES, "empty": EMPTY, "marks": MARKS}


def calls_of(answer: FoldedAnswer) -> Calls:
    return [(call.name, json.loads(call.arguments)) for call in answer.calls]


def test_every_format_has_an_oracle() -> None:
    assert {name.partition(" ")[0] for name in WRITERS} | set(SAME) == set(TOOL_FORMATS)
    for name, other in SAME.items():
        assert TOOL_FORMATS[name].example.startswith(TOOL_FORMATS[other].example[:11])


@pytest.mark.parametrize(
    ("writer", "case"),
    [(writer, case) for writer in WRITERS for case, calls in CASES.items() if can_say(writer, calls)],
)
def test_calls_come_out_as_they_went_in_however_the_text_is_cut(writer: str, case: str) -> None:
    calls = CASES[case]
    text = WRITERS[writer](calls)
    answer = whole(partial(tool_parser, writer), text)
    assert calls_of(answer) == calls
    assert answer.content == ""
    assert all(call.is_complete for call in answer.calls)
    check_every_cut(partial(tool_parser, writer), text)


@pytest.mark.parametrize("name", SAME)
def test_other_names_mean_the_same_format(name: str) -> None:
    answer = whole(partial(tool_parser, name), WRITERS[SAME[name]](PARALLEL))
    assert calls_of(answer) == PARALLEL


@pytest.mark.parametrize("name", TOOL_FORMATS)
def test_all_cuts_in_three_of_the_example_give_its_call(name: str) -> None:
    text = TOOL_FORMATS[name].example.partition(" or ")[0].replace("\\n", "\n")
    answer = whole(partial(tool_parser, name), text)
    assert calls_of(answer)[0] == ("f", {"a": 1})
    check_every_cut(partial(tool_parser, name), text, thrice=len(text) < 100)


@pytest.mark.parametrize("writer", sorted(MAY_BE_PRECEDED & MAY_BE_FOLLOWED))
def test_text_around_calls_is_content(writer: str) -> None:
    text = f"Let me see.\n\n{WRITERS[writer](PARALLEL)}\n\nThat is all."
    answer = whole(partial(tool_parser, writer), text)
    assert calls_of(answer) == PARALLEL
    assert answer.content.split() == ["Let", "me", "see.", "That", "is", "all."]
    check_every_cut(partial(tool_parser, writer), text)


@pytest.mark.parametrize("writer", sorted(MAY_BE_PRECEDED))
def test_white_space_alone_around_calls_is_no_content(writer: str) -> None:
    text = f"\n \n{WRITERS[writer](PARALLEL)}\n"
    answer = whole(partial(tool_parser, writer), text)
    assert (calls_of(answer), answer.content) == (PARALLEL, "")
    check_every_cut(partial(tool_parser, writer), text)


PLAIN = [
    "The capital of France is Paris.",
    "  Two\n\nparagraphs, 1 < 2, {curly}, [square](https://example.org) and `code`.\n",
    "functions <tool <| [TOOL <｜tool",
    '{"answer": 42, "name": "none of yours"}',
    "[1, 2, 3]",
    "",
    " ",
]


@pytest.mark.parametrize("text", PLAIN)
@pytest.mark.parametrize("name", TOOL_FORMATS)
def test_text_without_calls_is_content_to_the_letter(name: str, text: str) -> None:
    assert whole(partial(tool_parser, name), text) == FoldedAnswer(content=text)
    check_every_cut(partial(tool_parser, name), text)


@pytest.mark.parametrize("writer", WRITERS)
def test_an_answer_that_is_cut_short_is_a_beginning_of_the_whole_one(writer: str) -> None:
    text = WRITERS[writer](PARALLEL)
    complete = whole(partial(tool_parser, writer), text).calls
    for end in range(len(text)):
        answer = whole(partial(tool_parser, writer), text[:end], is_cut=True)
        assert len(answer.calls) <= 2
        for call, full in zip(answer.calls, complete, strict=False):
            assert call.name == full.name
            if call.is_complete:
                assert call.arguments == full.arguments
            # The beginning of a mark, cut off within it, is text: nobody can know.
            same = itertools.takewhile(
                lambda pair: pair[0] == pair[1], zip(call.arguments, full.arguments, strict=False)
            )
            assert len(list(same)) >= len(call.arguments) - LONGEST_MARK
    for end in range(0, len(text), 17):
        check_every_cut(partial(tool_parser, writer), text[:end], is_cut=True)


@pytest.mark.parametrize("writer", WRITERS)
def test_arguments_come_while_they_are_written(writer: str) -> None:
    long = "work and no play " * 25
    text = WRITERS[writer]([("f", {"text": long})])
    parser = tool_parser(writer)
    seen = ""
    most_behind = 0
    for at, character in enumerate(text):
        seen += "".join(piece.text for piece in parser.feed(character) if isinstance(piece, CallArguments))
        place = min(max(at + 1 - text.index("work"), 0), len(long))
        most_behind = max(most_behind, place - max(len(seen) - len('{"text": "'), 0))
    assert most_behind <= LONGEST_MARK


words = st.sampled_from(
    ["", "a", "Zürich", "two words", "🙂", "<", "</", "{", '"', "\\", "'", "\n", "x\n", "}]", "null", "3"]
)
texts = st.lists(words, max_size=4).map("".join)
values: dict[str, st.SearchStrategy[Any]] = {
    "city": texts,
    "text": texts,
    "days": st.integers(-(10**12), 10**12),
    "ratio": st.floats(allow_nan=False, allow_infinity=False, width=32).filter(lambda x: not x.is_integer()),
    "wet": st.booleans(),
    "nothing": st.none(),
    "list": st.lists(st.one_of(st.integers(), st.booleans(), st.none(), texts), max_size=3),
    "nested": st.dictionaries(
        st.sampled_from(["a", "b", "key"]), st.one_of(st.integers(), st.lists(texts, max_size=2)), max_size=2
    ),
}
calls = st.lists(
    st.tuples(st.sampled_from(["f", "g", "get_weather"]), st.fixed_dictionaries({}, optional=values)),
    min_size=1,
    max_size=3,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), wanted=calls)
@pytest.mark.parametrize("writer", WRITERS)
def test_any_calls_in_any_cut(writer: str, wanted: Calls, data: st.DataObject) -> None:
    if not can_say(writer, wanted):
        return
    text = WRITERS[writer](wanted)
    places = data.draw(st.lists(st.integers(0, len(text)), max_size=12))
    pieces = pieces_of(tool_parser(writer), cut_at(text, places))
    check_order(pieces)
    answer = fold_pieces(pieces)
    assert calls_of(answer) == wanted
    assert answer.content == ""
    assert answer == whole(partial(tool_parser, writer), text)


def fragments_of(name: str) -> list[str]:
    """The marks of a format and what stands between them, torn apart."""
    written = WRITERS[next(writer for writer in WRITERS if writer.partition(" ")[0] == name)](PARALLEL)
    parts = ["".join(part) for _, part in itertools.groupby(written, key=lambda c: (c.isalnum(), c.isspace()))]
    return [*dict.fromkeys(parts), '"', "\\", "{", "}", "[", "]", "(", ")", "'", ",", ":", "=", "null", "🙂", " ", "\n"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), is_cut=st.booleans())
@pytest.mark.parametrize("name", sorted({writer.partition(" ")[0] for writer in WRITERS}))
def test_torn_calls_fold_the_same_in_any_cut_and_lose_no_words(name: str, data: st.DataObject, is_cut: bool) -> None:
    """Rubbish made of a format's own marks. What it means is open; that cuts do not matter is not."""
    fragments = fragments_of(name)
    written = WRITERS[next(writer for writer in WRITERS if writer.partition(" ")[0] == name)](PARALLEL)
    start = written[: data.draw(st.integers(0, len(written)))]
    text = start + "".join(data.draw(st.lists(st.sampled_from(fragments), max_size=25))) + " unlostword"
    places = data.draw(st.lists(st.integers(0, len(text)), max_size=15))
    expected = whole(partial(tool_parser, name), text, is_cut=is_cut)
    for cut in (cut_at(text, places), list(text)):
        pieces = pieces_of(tool_parser(name), cut, is_cut=is_cut)
        check_order(pieces)
        assert fold_pieces(pieces) == expected
    everything = expected.content + expected.reasoning + "".join(call.arguments for call in expected.calls)
    assert "unlostword" in everything
