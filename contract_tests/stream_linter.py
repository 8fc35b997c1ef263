"""Rules for a streamed answer, as a pure function over what a client received. Knows the document, no server.

A rule yields one line per finding. All of them hold for every stream of /v1/chat/completions and /v1/completions;
a stream that ends with an error may be incomplete, but everything before the error keeps to the rules.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import jsonschema_rs

from specserve.generated import document

END_MARK = "[DONE]"
Json = Any


@dataclass(frozen=True)
class Kind:
    """What differs between the endpoints: the schema of a chunk, its `object`, and where the text of a choice is."""

    schema: str
    object: str
    is_chat: bool


KINDS = {
    "/v1/chat/completions": Kind("ChatCompletionChunk", "chat.completion.chunk", True),
    "/v1/completions": Kind("Completion", "text_completion", False),
}


@dataclass(frozen=True)
class Asked:
    """What the request says about the form of its answer."""

    num_choices: int
    include_usage: bool
    continuous_usage: bool
    logprobs: bool
    num_top: int | None
    """Most alternatives per token; None when the server may choose."""

    @classmethod
    def by(cls, body: Mapping[str, Json], kind: Kind) -> Asked:
        options = body.get("stream_options") or {}
        include = bool(options.get("include_usage"))
        if kind.is_chat:
            logprobs, num_top = bool(body.get("logprobs")), body.get("top_logprobs") or 0
        else:
            logprobs, num_top = body.get("logprobs") is not None, body.get("logprobs") or 0
        return cls(
            num_choices=int(body.get("n") or 1) * (1 if kind.is_chat else num_prompts(body)),
            include_usage=include,
            continuous_usage=include and bool(options.get("continuous_usage_stats")),
            logprobs=logprobs,
            num_top=None if num_top < 0 or body.get("logprob_token_ids") else int(num_top),
        )


def num_prompts(body: Mapping[str, Json]) -> int:
    """Of text, of token ids and embedded ones."""
    prompt, embedded = body.get("prompt"), body.get("prompt_embeds") or []
    is_batch = isinstance(prompt, list) and prompt and isinstance(prompt[0], (str, list))
    num_embedded = 1 if isinstance(embedded, str) else len(embedded)
    return num_embedded + (len(prompt) if is_batch else prompt is not None)


@dataclass
class Stream:
    """One captured stream, taken apart. `chunks` are the events before an error or the end mark."""

    kind: Kind
    asked: Asked
    frames: list[str]
    chunks: list[dict[str, Json]] = field(default_factory=list)
    error: dict[str, Json] | None = None

    @property
    def is_complete(self) -> bool:
        return self.error is None

    def pieces(self) -> dict[int, list[dict[str, Json]]]:
        """The choices of all chunks by index, in order."""
        found: dict[int, list[dict[str, Json]]] = {}
        for chunk in self.chunks:
            for choice in chunk.get("choices", []):
                found.setdefault(choice.get("index", -1), []).append(choice)
        return found


def lint(text: str, path: str, request: Mapping[str, Json]) -> list[str]:
    """Every finding in the body of one event stream, each as `rule: what is wrong`; empty when all is well.

    path      of the operation, one of KINDS
    request   the body that was sent
    """
    kind = KINDS[path]
    findings = [f"framing: {problem}" for problem in framing(text)]
    stream = Stream(kind, Asked.by(request, kind), frames_of(text))
    findings += [f"terminator: {problem}" for problem in take_apart(stream)]
    findings += [f"schema: {problem}" for problem in fits_the_schema(stream)]
    if not any(finding.startswith("schema") for finding in findings):  # the others read what the schema promises
        for name, rule in RULES.items():
            findings += [f"{name}: {problem}" for problem in rule(stream)]
    return findings


# ---- the outer form ------------------------------------------------------------------------------
def frames_of(text: str) -> list[str]:
    """The data of every event; comments carry none."""
    events = text.replace("\r\n", "\n").split("\n\n")
    data = [[line[5:].removeprefix(" ") for line in event.split("\n") if line.startswith("data:")] for event in events]
    return ["\n".join(lines) for lines in data if lines]


def framing(text: str) -> Iterator[str]:
    """Lines that clients with simple readers stumble over."""
    if text and not text.endswith("\n\n"):
        yield f"the last event is cut off: {text[-60:]!r}"
    for event in text.split("\n\n")[:-1]:
        lines = event.split("\n")
        if len(lines) > 1 or not event.startswith(("data: ", ":")):
            yield f"an event is one line that begins with 'data: ' or ':', not {event[:60]!r}"


def take_apart(stream: Stream) -> Iterator[str]:
    """The end mark once and last, at most one error and nothing but the end mark after it."""
    frames = stream.frames
    if frames.count(END_MARK) != 1:
        yield f"{frames.count(END_MARK)} end marks, there has to be one"
    elif frames[-1] != END_MARK:
        yield "the end mark is not the last event"
    for frame in frames:
        if frame == END_MARK:
            continue
        try:
            event = json.loads(frame)
        except ValueError:
            yield f"an event is no JSON: {frame[:60]!r}"
            continue
        if not isinstance(event, dict):
            yield f"an event is no object: {frame[:60]!r}"
        elif stream.error is not None:
            yield f"an event follows an error: {frame[:60]!r}"
        elif "error" in event:
            stream.error = event
        else:
            stream.chunks.append(event)


# ---- rules ---------------------------------------------------------------------------------------
@cache
def validator(schema: str) -> jsonschema_rs.Draft202012Validator:
    components = json.loads(document())["components"]
    return jsonschema_rs.Draft202012Validator({"$ref": f"#/components/schemas/{schema}", "components": components})


def fits_the_schema(stream: Stream) -> Iterator[str]:
    events = [(stream.kind.schema, chunk) for chunk in stream.chunks]
    events += [("ErrorResponse", stream.error)] if stream.error is not None else []
    for schema, event in events:
        for error in validator(schema).iter_errors(event):
            yield f"{schema} {'/'.join(map(str, error.instance_path))}: {error.message[:200]}"


def keeps_its_identity(stream: Stream) -> Iterator[str]:
    for name in ("id", "created", "model", "object", "system_fingerprint"):
        values = {json.dumps(chunk.get(name)) for chunk in stream.chunks}
        if len(values) > 1:
            yield f"{name} changes within the stream: {', '.join(sorted(values))}"
    if stream.chunks and stream.chunks[0].get("object") != stream.kind.object:
        yield f"object is {stream.chunks[0].get('object')!r}, not {stream.kind.object!r}"


def has_every_choice(stream: Stream) -> Iterator[str]:
    found, wanted = set(stream.pieces()), set(range(stream.asked.num_choices))
    if found - wanted:
        yield f"choices {sorted(found - wanted)} were not asked for"
    if wanted - found and stream.is_complete:
        yield f"choices {sorted(wanted - found)} are missing"


def begins_with_the_role(stream: Stream) -> Iterator[str]:
    for index, pieces in stream.pieces().items() if stream.kind.is_chat else ():
        roles = [piece["delta"].get("role") for piece in pieces if "delta" in piece]
        if not roles or not roles[0]:  # which one is the server's to choose
            yield f"choice {index} begins without the role"
        if any(roles[1:]):
            yield f"choice {index} tells its role twice"


def finishes_once(stream: Stream) -> Iterator[str]:
    for index, pieces in stream.pieces().items():
        at = [number for number, piece in enumerate(pieces) if piece.get("finish_reason") is not None]
        if not at and stream.is_complete:
            yield f"choice {index} has no finishing chunk"
        if len(at) > 1:
            yield f"choice {index} has {len(at)} finishing chunks"
        if at and at[0] != len(pieces) - 1:
            yield f"choice {index} goes on after its finishing chunk"
        if any(piece.get("stop_reason") is not None for number, piece in enumerate(pieces) if number not in at):
            yield f"choice {index} names a stop_reason before it finishes"


def counts_usage_as_asked(stream: Stream) -> Iterator[str]:
    asked, chunks = stream.asked, stream.chunks
    empty = [number for number, chunk in enumerate(chunks) if not chunk.get("choices")]
    if not asked.include_usage:
        if empty:
            yield "a chunk without choices, though no usage was asked for"
        if any(chunk.get("usage") is not None for chunk in chunks):
            yield "usage was not asked for"
        return
    if stream.is_complete and len(empty) != 1:
        yield f"{len(empty)} chunks without choices; the usage has one of its own"
    if empty and empty != [len(chunks) - 1]:
        yield "the usage is not the last chunk"
    for number, chunk in enumerate(chunks):
        usage, wanted = chunk.get("usage"), number in empty or asked.continuous_usage
        if "usage" not in chunk or (usage is not None) != wanted:
            yield f"chunk {number} has usage {json.dumps(usage)}, there has to be {'one' if wanted else 'null'}"
    yield from sums(stream)


def sums(stream: Stream) -> Iterator[str]:
    counts = [chunk["usage"] for chunk in stream.chunks if chunk.get("usage")]
    for usage in counts:
        if usage["total_tokens"] != usage["prompt_tokens"] + usage["completion_tokens"]:
            yield f"total_tokens is not the sum: {usage}"
        if usage["prompt_tokens"] != counts[0]["prompt_tokens"]:
            yield f"prompt_tokens changes: {usage}"
    completion = [usage["completion_tokens"] for usage in counts]
    if completion != sorted(completion):
        yield f"completion_tokens falls: {completion}"


def shapes_logprobs_as_asked(stream: Stream) -> Iterator[str]:
    for index, pieces in stream.pieces().items():
        found = [piece["logprobs"] for piece in pieces if piece.get("logprobs")]
        if found and not stream.asked.logprobs:
            yield f"choice {index} has logprobs nobody asked for"
        has_text = any(piece["delta"].get("content") if stream.kind.is_chat else piece.get("text") for piece in pieces)
        if stream.asked.logprobs and has_text and not found:
            yield f"choice {index} lacks logprobs"
        shapes = chat_logprobs(found, stream.asked) if stream.kind.is_chat else completion_logprobs(found)
        yield from (f"choice {index} {problem}" for problem in shapes)


def chat_logprobs(found: list[Json], asked: Asked) -> Iterator[str]:
    for entry in (entry for piece in found for entry in piece.get("content") or []):
        for token in (entry, *entry["top_logprobs"]):
            if not isinstance(token.get("bytes"), (list, type(None))) or token["logprob"] > 0:
                yield f"has a wrong log probability: {json.dumps(token)[:120]}"
        if asked.num_top is not None and len(entry["top_logprobs"]) > asked.num_top:
            yield f"has {len(entry['top_logprobs'])} alternatives, {asked.num_top} were asked for"


def completion_logprobs(found: list[Json]) -> Iterator[str]:
    last = 0
    for piece in found:
        lengths = {name: len(piece[name]) for name in piece if piece[name] is not None}
        if len(set(lengths.values())) > 1:
            yield f"has parallel lists of different lengths: {lengths}"
        if any(value is not None and value > 0 for value in piece.get("token_logprobs") or []):
            yield "has a log probability above 0"
        for offset in piece.get("text_offset") or []:
            if offset < last:
                yield f"has a text_offset that runs back from {last} to {offset}"
            last = offset


def tells_tool_calls_in_order(stream: Stream) -> Iterator[str]:
    for index, pieces in stream.pieces().items() if stream.kind.is_chat else ():
        opened: list[int] = []
        for call in (call for piece in pieces for call in piece["delta"].get("tool_calls") or []):
            is_new = call["index"] not in opened
            name = (call.get("function") or call.get("custom") or {}).get("name")
            if is_new and (call["index"] != len(opened) or not call.get("id") or not name):
                yield f"choice {index}: call {call['index']} begins without its id or name, or out of order"
            if not is_new and (call.get("id") or name):
                yield f"choice {index}: call {call['index']} tells its id or name twice"
            opened += [call["index"]] if is_new else []
        ends = [piece["finish_reason"] for piece in pieces if piece.get("finish_reason")]
        if "tool_calls" in ends and not opened:
            yield f"choice {index} finishes for tool calls and made none"


RULES: dict[str, Callable[[Stream], Iterator[str]]] = {
    "identity": keeps_its_identity,
    "choices": has_every_choice,
    "role": begins_with_the_role,
    "finish": finishes_once,
    "usage": counts_usage_as_asked,
    "logprobs": shapes_logprobs_as_asked,
    "tool calls": tells_tool_calls_in_order,
}
