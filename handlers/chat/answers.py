"""The answers to a prepared request as events: text, reasoning and calls taken apart, for every protocol alike."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial

from specserve.handlers.chat.beam_search import BeamSettings, stream_beams
from specserve.handlers.chat.events import ChatEvent
from specserve.handlers.chat.json_calls import read_calls
from specserve.handlers.chat.larger_pieces import larger_pieces
from specserve.handlers.chat.pipeline import siblings, stream_chat
from specserve.handlers.chat.preparation import PreparedChat
from specserve.handlers.chat.read_answers import AnswersReader, read_answers
from specserve.handlers.chat.tool_ids import CALL_PREFIX, new_call_id


def answer_events(
    chat: PreparedChat,
    *,
    n: int = 1,
    beams: BeamSettings | None = None,
    shows_reasoning: bool = True,
    id_prefix: str = CALL_PREFIX,
    stream_interval: int | None = None,
) -> AsyncGenerator[ChatEvent, None]:
    """`n` sampled answers, or those of a search with beams; `stream_interval` tokens at a time if that is asked for.

    `id_prefix` is what the ids of calls begin with, unless the template wants short ones. What the engine refuses is
    raised here, before anything was sent. Closing the events aborts what is unfinished.
    """
    engine = chat.served.engine
    read = answers_reader(chat, shows_reasoning=shows_reasoning, id_prefix=id_prefix)
    if beams is not None or (stream_interval or 1) > 1:
        if beams is not None:
            events = stream_beams(engine, [chat.request], beams)
        else:
            events = larger_pieces(stream_chat(engine, siblings(chat.request, n)), stream_interval or 1)
        if read is not None:
            events = read_answers(events, read)
    else:
        events = stream_chat(engine, siblings(chat.request, n), read)
    if not chat.use.is_forced:
        return events
    new_id = partial(new_call_id, short=chat.short_ids, prefix=id_prefix)
    return read_calls(events, lambda index: chat.use.reader(index, new_id))


def answers_reader(chat: PreparedChat, *, shows_reasoning: bool, id_prefix: str = CALL_PREFIX) -> AnswersReader | None:
    """What takes the texts of the answers apart; None when all of them is content."""
    if chat.parser is None:
        return None
    new_id = partial(new_call_id, short=chat.short_ids, prefix=id_prefix)
    max_calls = None if chat.use.parallel else 1
    return AnswersReader(chat.parser, new_id, max_calls=max_calls, shows_reasoning=shows_reasoning)
