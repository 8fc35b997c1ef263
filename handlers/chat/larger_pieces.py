"""Fewer, larger pieces of a stream, for clients that ask for so many tokens at a time."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from specserve.handlers.chat.events import ChatEvent, ContentDelta


async def larger_pieces(events: AsyncGenerator[ChatEvent, None], num_tokens: int) -> AsyncGenerator[ChatEvent, None]:
    """The events of the engine with the text of each choice held until it has `num_tokens` tokens, or ends.

    The first piece of a choice comes at once.
    """
    held: dict[int, ContentDelta] = {}
    begun: set[int] = set()
    async with aclosing(events):
        async for event in events:
            if isinstance(event, ContentDelta):
                piece = joined(held.pop(event.index), event) if event.index in held else event
                if event.index in begun and len(piece.token_ids) < num_tokens:
                    held[event.index] = piece
                    continue
                begun.add(event.index)
                yield piece
                continue
            if event.index in held:
                yield held.pop(event.index)
            yield event


def joined(first: ContentDelta, second: ContentDelta) -> ContentDelta:
    """Two neighbours as one; the prompt's part stands in the first."""
    logprobs = None if second.logprobs is None else (*(first.logprobs or ()), *second.logprobs)
    return replace(
        first, text=first.text + second.text, token_ids=(*first.token_ids, *second.token_ids), logprobs=logprobs
    )
