"""Whole answers, read while they come: the same choices as the folded events, with less on the way."""

from __future__ import annotations

from specserve.engine.api import GenerationOutput
from specserve.handlers.chat.answers import answer_events, answers_reader
from specserve.handlers.chat.beam_search import BeamSettings
from specserve.handlers.chat.events import ContentDelta
from specserve.handlers.chat.fold import ChoiceResult, fold
from specserve.handlers.chat.pipeline import Read, events_of
from specserve.handlers.chat.preparation import PreparedChat


async def whole_answers(
    chat: PreparedChat, *, n: int = 1, beams: BeamSettings | None = None, shows_reasoning: bool = True
) -> list[ChoiceResult]:
    """What `fold` makes of `answer_events`; raises the same."""
    if n > 1 or beams is not None or chat.use.is_forced:
        return await fold(answer_events(chat, n=n, beams=beams, shows_reasoning=shows_reasoning), n)
    answer = WholeAnswer(chat, shows_reasoning)
    stream = chat.served.engine.generate(chat.request)
    try:
        async for output in stream:
            answer.add(output)
    finally:
        await stream.aclose()
    return [answer.choice]


class WholeAnswer:
    """One choice. Up to where a mark may begin, all of it is content, and needs no parser to tell that."""

    def __init__(self, chat: PreparedChat, shows_reasoning: bool) -> None:
        self.choice = ChoiceResult(0)
        self._chat, self._shows_reasoning = chat, shows_reasoning
        self._marks = chat.marks
        self._read: Read | None = None
        if self._marks is None:
            self._read = answers_reader(chat, shows_reasoning=shows_reasoning)

    def add(self, output: GenerationOutput) -> None:
        if self._marks is not None and self._marks.search(output.text) is not None:
            self._begin_to_read()
        for event in events_of(0, output):
            if self._read is None:
                self.choice.add(event)
                continue
            for each in self._read(event):
                self.choice.add(each)

    def _begin_to_read(self) -> None:
        """What becomes of the text so far may depend on what comes, such as white space between text and calls."""
        self._marks = None
        self._read = answers_reader(self._chat, shows_reasoning=self._shows_reasoning)
        text, self.choice.text = self.choice.text, ""
        if self._read is not None and text:
            for each in self._read(ContentDelta(index=0, text=text)):
                self.choice.add(each)
