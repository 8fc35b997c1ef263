"""From requests to one stream of events: starts every choice, merges what they say, ends them all together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace

from specserve.engine.api import Engine, FinishReason, GenerationOutput, GenerationRequest
from specserve.engine.errors import EngineDeadError, EngineError
from specserve.handlers.chat.events import ChatEvent, ChatFinished, ContentDelta

Stream = AsyncGenerator[GenerationOutput, None]
Read = Callable[[ChatEvent], Iterable[ChatEvent]]


def siblings(request: GenerationRequest, n: int) -> list[GenerationRequest]:
    """`n` requests for the same prompt; the engine computes it once and gives each index its own random numbers.

    A single one is no sibling.
    """
    if n == 1:
        return [request]
    return [
        replace(request, request_id=f"{request.request_id}-{index}", parent_id=request.request_id, index=index)
        for index in range(n)
    ]


def stream_chat(
    engine: Engine, requests: Sequence[GenerationRequest], read: Read | None = None
) -> AsyncGenerator[ChatEvent, None]:
    """Events of all choices as they come; the index of a choice is its place in `requests`.

    `read` makes others of them: done here, it costs no generator of its own for every token.
    What the engine refuses is raised here, before anything was sent. Closing the events aborts what is unfinished.
    """
    streams: list[Stream] = []
    try:
        for request in requests:
            streams.append(engine.generate(request))
    except Exception:
        for stream in streams:
            asyncio.ensure_future(stream.aclose())  # noqa: RUF006 - it only sends an abort
        raise
    return _events_of_one(streams[0], read) if len(streams) == 1 else _events_of_all(streams, read)


async def _events_of_one(stream: Stream, read: Read | None) -> AsyncGenerator[ChatEvent, None]:
    """Nothing to merge: no task, no queue."""
    try:
        async for output in stream:
            for event in events_of(0, output):
                if read is None:
                    yield event
                    continue
                for each in read(event):
                    yield each
    finally:
        await stream.aclose()


async def _events_of_all(streams: list[Stream], read: Read | None) -> AsyncGenerator[ChatEvent, None]:
    outputs = _merge(streams)
    async with aclosing(outputs):
        async for index, output in outputs:
            for event in events_of(index, output):
                for each in (event,) if read is None else read(event):
                    yield each


def events_of(index: int, output: GenerationOutput) -> Iterable[ChatEvent]:
    """Raises EngineDeadError behind the text when the engine gave up."""
    delta = ContentDelta(
        index=index,
        text=output.text,
        token_ids=output.token_ids,
        logprobs=output.logprobs,
        num_prompt_tokens=output.num_prompt_tokens,
        num_cached_tokens=output.num_cached_tokens,
        prompt_logprobs=output.prompt_logprobs,
    )
    if output.finish_reason is None:
        return (delta,)
    return _last_events_of(delta, output)


def _last_events_of(delta: ContentDelta, output: GenerationOutput) -> Iterator[ChatEvent]:
    yield delta
    if output.finish_reason is FinishReason.ABORT:
        raise EngineDeadError("the engine gave up this request; the answer is incomplete")
    if output.finish_reason is not None:
        yield ChatFinished(index=delta.index, reason=output.finish_reason, stop_reason=output.stop_reason)


async def _merge(streams: list[Stream]) -> AsyncGenerator[tuple[int, GenerationOutput], None]:
    """Outputs of all streams with the stream's place; the first error ends everything."""
    arrived: asyncio.Queue[tuple[int, GenerationOutput | Exception | None]] = asyncio.Queue()

    async def pump(index: int, stream: Stream) -> None:
        try:
            async for output in stream:
                arrived.put_nowait((index, output))
            arrived.put_nowait((index, None))
        except Exception as error:
            arrived.put_nowait((index, error))

    pumps = [asyncio.create_task(pump(index, stream)) for index, stream in enumerate(streams)]
    try:
        num_open = len(streams)
        while num_open:
            index, item = await arrived.get()
            if isinstance(item, GenerationOutput):
                yield index, item
            elif item is None:
                num_open -= 1
            else:
                raise item if isinstance(item, EngineError) else RuntimeError("a stream broke") from item
    finally:
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        for stream in streams:
            await stream.aclose()
