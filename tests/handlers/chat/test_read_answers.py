"""Events of answers: whatever pieces the engine sends, the folded result is the same."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from itertools import count, pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from specserve.engine.api import FinishReason, TokenLogprob, TokenLogprobs
from specserve.handlers.chat.answer_formats import FormatChoice
from specserve.handlers.chat.events import ChatEvent, ChatFinished, ContentDelta, ReasoningDelta
from specserve.handlers.chat.fold import ChoiceResult, fold
from specserve.handlers.chat.read_answers import AnswersReader, read_answers

TEMPLATE = "<think></think><tool_call></tool_call>"
TOOLS = [{"type": "function", "function": {"name": "f"}}]
ANSWER = (
    'Let me see.</think>\n\nSo:\n<tool_call>\n{"name": "f", "arguments": {"a": "🙂</tool_call>"}}\n</tool_call>\n'
    'and <tool_call>{"name": "g", "arguments": {"b": [1, {"c": null}]}}</tool_call> done <tool_call>{no}'
)


def logprob_of(token_id: int) -> TokenLogprobs:
    return TokenLogprobs(sampled=TokenLogprob(token_id=token_id, logprob=-1.0, rank=1))


async def engine_events(texts: list[list[str]], reason: FinishReason) -> AsyncGenerator[ChatEvent, None]:
    """Choices with these pieces, one token a piece, in turns."""
    for step in range(max(map(len, texts))):
        for index, pieces in enumerate(texts):
            if step < len(pieces):
                yield ContentDelta(
                    index=index, text=pieces[step], token_ids=(step,), logprobs=(logprob_of(step),), num_prompt_tokens=5
                )
            if step == len(pieces) - 1:
                yield ChatFinished(index=index, reason=reason)


async def read(
    texts: list[list[str]], reason: FinishReason = FinishReason.STOP, max_calls: int | None = None
) -> list[ChoiceResult]:
    parser = FormatChoice().for_template(TEMPLATE).parser(TOOLS, "assistant\n<think>\n")
    assert parser is not None
    numbers = count()
    events = read_answers(
        engine_events(texts, reason), AnswersReader(parser, lambda: f"id{next(numbers)}", max_calls=max_calls)
    )
    return await fold(events, len(texts))


def cut(text: str, places: list[int]) -> list[str]:
    return [text[start:end] for start, end in pairwise([0, *sorted(places), len(text)])]


places = st.lists(st.integers(0, len(ANSWER)), max_size=30)


@settings(max_examples=100, deadline=None)
@given(first=places, second=places)
async def test_any_pieces_of_two_choices_fold_to_the_same_answers(first: list[int], second: list[int]) -> None:
    [expected] = await read([[ANSWER]])
    assert [(call.name, call.arguments) for call in expected.calls] == [
        ("f", '{"a": "🙂</tool_call>"}'),
        ("g", '{"b": [1, {"c": null}]}'),
    ]
    texts = [cut(ANSWER, first), cut(ANSWER, second)]
    results = await read(texts)
    for result, pieces in zip(results, texts, strict=True):
        assert (result.text, result.reasoning) == (expected.text, expected.reasoning)
        assert [(call.name, call.arguments) for call in result.calls] == [
            (call.name, call.arguments) for call in expected.calls
        ]
        assert result.token_ids == list(range(len(pieces)))
        assert result.logprobs == [logprob_of(step) for step in range(len(pieces))]
        assert (result.num_prompt_tokens, result.calls_complete) == (5, True)
    assert len({call.call_id for result in results for call in result.calls}) == 4


async def test_each_choice_ends_once_and_nothing_comes_after() -> None:
    parser = FormatChoice().for_template(TEMPLATE).parser(TOOLS, "")
    assert parser is not None
    events = [
        event
        async for event in read_answers(
            engine_events([["<tool_"]], FinishReason.LENGTH), AnswersReader(parser, lambda: "id")
        )
    ]
    assert [event.text for event in events if isinstance(event, ContentDelta)] == ["", "<tool_"]
    assert isinstance(events[-1], ChatFinished)
    assert sum(isinstance(event, ChatFinished) for event in events) == 1


async def test_calls_beyond_the_limit_are_left_out() -> None:
    [result] = await read([[ANSWER]], max_calls=1)
    assert [call.name for call in result.calls] == ["f"]


async def test_thoughts_are_events_of_their_own() -> None:
    parser = FormatChoice().for_template(TEMPLATE).parser([], "<think>")
    assert parser is not None
    source = engine_events([["a", "b", "</think>", "c"]], FinishReason.STOP)
    events = [event async for event in read_answers(source, AnswersReader(parser, lambda: "id"))]
    assert [event.text for event in events if isinstance(event, ReasoningDelta)] == ["a", "b"]
    counts = [event.num_reasoning_tokens for event in events if isinstance(event, ContentDelta)]
    assert counts == [1, 1, 1, 0]
