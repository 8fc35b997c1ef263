"""Rules for a streamed message: which sequences of events are legal. Pure functions over what a client received.

A stream that ends with an error may be incomplete, but everything before the error keeps to the rules.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from contract_tests.stream_linter import validator

Json = Any
SCHEMAS = {
    "message_start": "MessageStart",
    "content_block_start": "BlockStart",
    "content_block_delta": "BlockDelta",
    "content_block_stop": "BlockStop",
    "message_delta": "MessageDelta",
    "message_stop": "MessageStop",
    "error": "MessagesErrorResponse",
}
DELTAS = {
    "text": {"text_delta"},
    "thinking": {"thinking_delta", "signature_delta"},
    "tool_use": {"input_json_delta"},
}
PIECES = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}


@dataclass
class Block:
    """One block put together. `signatures` are counted, `pieces` are of its text, thoughts or input."""

    kind: str
    pieces: list[str] = field(default_factory=list)
    signatures: int = 0
    is_closed: bool = False

    @property
    def text(self) -> str:
        return "".join(self.pieces)


@dataclass
class Stream:
    """One captured stream; `events` are in order, the error, if there is one, included."""

    request: Mapping[str, Json]
    events: list[dict[str, Json]] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        return not any(event["type"] == "error" for event in self.events)

    def of_type(self, kind: str) -> list[dict[str, Json]]:
        return [event for event in self.events if event["type"] == kind]


def lint_message(text: str, path: str, request: Mapping[str, Json]) -> list[str]:
    """Every finding in the body of one event stream, each as `rule: what is wrong`; empty when all is well."""
    stream = Stream(request)
    findings = [f"framing: {problem}" for problem in read_frames(text, stream)]
    findings += [f"schema: {problem}" for problem in fits_the_schema(stream)]
    if not findings:  # the rules read what form and schema promise
        for name, rule in RULES.items():
            findings += [f"{name}: {problem}" for problem in rule(stream)]
    return findings


def read_frames(text: str, stream: Stream) -> Iterator[str]:
    """Each frame is a comment, or two lines that name the same event."""
    if text and not text.endswith("\n\n"):
        yield f"the last event is cut off: {text[-60:]!r}"
    for frame in text.split("\n\n")[:-1]:
        if frame.startswith(":"):
            continue
        name, _, data = frame.partition("\n")
        if not name.startswith("event: ") or not data.startswith("data: ") or "\n" in data:
            yield f"an event is a line with its name and one with its data, not {frame[:60]!r}"
            continue
        try:
            event = json.loads(data[6:])
        except ValueError:
            yield f"an event is no JSON: {data[:60]!r}"
            continue
        if not isinstance(event, dict) or event.get("type") != name[7:]:
            yield f"the event {name[7:]!r} has data of another type: {data[:60]!r}"
            continue
        stream.events.append(event)


def fits_the_schema(stream: Stream) -> Iterator[str]:
    for event in stream.events:
        if event["type"] not in SCHEMAS:
            yield f"there is no event {event['type']!r}"
            continue
        for error in validator(SCHEMAS[event["type"]]).iter_errors(event):
            yield f"{event['type']} {'/'.join(map(str, error.instance_path))}: {error.message[:200]}"


def keeps_the_order(stream: Stream) -> Iterator[str]:
    """Start, blocks one after the other, delta, stop; or an error, and nothing behind it."""
    types = [event["type"] for event in stream.events]
    for kind in ("message_start", "message_delta", "message_stop"):
        num = types.count(kind)
        if num > 1 or (not num and stream.is_complete):
            yield f"there are {num} {kind} events, there has to be one"
    if types and types[0] not in ("message_start", "error"):
        yield f"the first event is {types[0]}"
    if "error" in types[:-1]:
        yield "an event follows an error"
    if stream.is_complete and types[-2:] != ["message_delta", "message_stop"]:
        yield f"the last events are {types[-2:]}"
    if "message_delta" in types and any(name.startswith("content") for name in types[types.index("message_delta") :]):
        yield "a block goes on after the end of the message was told"


def blocks_of(stream: Stream) -> tuple[list[Block], list[str]]:
    """The blocks put together, and what is wrong with the way they are told."""
    blocks: list[Block] = []
    found: list[str] = []
    for event in stream.events:
        if not event["type"].startswith("content_block"):
            continue
        index = event["index"]
        is_open = bool(blocks) and index == len(blocks) - 1 and not blocks[-1].is_closed
        if event["type"] == "content_block_start":
            if index != len(blocks) or (blocks and not blocks[-1].is_closed):
                found.append(f"block {index} begins out of order, or while another one is open")
            blocks.append(Block(event["content_block"]["type"]))
            block = event["content_block"]
            if block.get("text") or block.get("thinking") or block.get("signature") or block.get("input"):
                found.append(f"block {index} begins with content")
        elif not is_open:
            found.append(f"{event['type']} for block {index}, which is not open")
        elif event["type"] == "content_block_stop":
            blocks[-1].is_closed = True
        else:
            found += add_delta(blocks[-1], event["delta"], index)
    return blocks, found


def add_delta(block: Block, delta: Json, index: int) -> Iterator[str]:
    if delta["type"] not in DELTAS[block.kind]:
        yield f"block {index} is {block.kind} and gets a {delta['type']}"
    elif delta["type"] == "signature_delta":
        block.signatures += 1
    else:
        if block.signatures:
            yield f"block {index} goes on after its signature"
        if not delta[PIECES[delta["type"]]]:
            yield f"block {index} gets an empty piece"
        block.pieces.append(delta[PIECES[delta["type"]]])


def tells_blocks_in_order(stream: Stream) -> Iterator[str]:
    blocks, found = blocks_of(stream)
    yield from found
    if not stream.is_complete:
        return
    if not blocks:
        yield "the message has no block"
    for index, block in enumerate(blocks):
        if not block.is_closed:
            yield f"block {index} is never complete"
        if block.kind == "thinking" and block.signatures != 1:
            yield f"block {index} has {block.signatures} signatures"
        if block.kind == "text" and len(blocks) > 1 and not block.text.strip():
            yield f"block {index} is an empty text beside others"


def ends_as_it_says(stream: Stream) -> Iterator[str]:
    for event in stream.of_type("message_delta"):
        reason, sequence = event["delta"]["stop_reason"], event["delta"]["stop_sequence"]
        if (reason == "stop_sequence") != (sequence is not None):
            yield f"stop_reason is {reason}, stop_sequence is {sequence!r}"
        if sequence is not None and sequence not in (stream.request.get("stop_sequences") or []):
            yield f"stop_sequence {sequence!r} was not asked for"
        blocks, _ = blocks_of(stream)
        inputs = [block.text for block in blocks if block.kind == "tool_use"]
        if reason == "tool_use" and not inputs:
            yield "the message ends for tool_use and calls none"
        if reason == "tool_use" and not all(is_object(text) for text in inputs):
            yield f"the message ends for tool_use, and an input is no JSON object: {inputs}"
    for event in stream.of_type("message_start"):
        message = event["message"]
        if message["content"] or message["stop_reason"] is not None or message["stop_sequence"] is not None:
            yield "the message begins with content or an end"


def is_object(text: str) -> bool:
    try:
        return not text or isinstance(json.loads(text), dict)
    except ValueError:
        return False


def counts_usage(stream: Stream) -> Iterator[str]:
    counts = [event["message"]["usage"] for event in stream.of_type("message_start")]
    counts += [event["usage"] for event in stream.of_type("message_delta")]
    names = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    sums = [sum(usage.get(name) or 0 for name in names) for usage in counts]
    if len(set(sums)) > 1:
        yield f"the tokens of the prompt change: {sums}"
    outputs = [usage["output_tokens"] for usage in counts]
    if outputs != sorted(outputs):
        yield f"output_tokens falls: {outputs}"
    if stream.is_complete and outputs and outputs[-1] > stream.request["max_tokens"]:
        yield f"{outputs[-1]} tokens were written, {stream.request['max_tokens']} were allowed"


RULES: dict[str, Callable[[Stream], Iterator[str]]] = {
    "order": keeps_the_order,
    "blocks": tells_blocks_in_order,
    "end": ends_as_it_says,
    "usage": counts_usage,
}
