"""Which sequences of events a streamed response may have. Pure functions over what a client received.

Written from the protocol and not from the server: it follows the events as a client does, builds every item from its
pieces, and holds what it built against what later events claim.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import jsonschema_rs

from specserve.generated import document

Json = Any
SCHEMA = "ResponseStreamEvent"
LAST = {"response.completed": "completed", "response.incomplete": "incomplete", "response.failed": "failed"}
STATES = {"response.created", "response.queued", "response.in_progress", *LAST}
TEXTS = {
    "response.output_text": ("message", "text"),
    "response.reasoning_text": ("reasoning", "text"),
    "response.function_call_arguments": ("function_call", "arguments"),
    "response.custom_tool_call_input": ("custom_tool_call", "input"),
}
PARTS = {"message": "output_text", "reasoning": "reasoning_text"}
UNCHANGING = ("id", "object", "created_at", "model", "instructions", "tools", "tool_choice", "metadata", "temperature")


@cache
def validator() -> jsonschema_rs.Validator:
    doc = json.loads(document())
    return jsonschema_rs.validator_for({"$ref": f"#/components/schemas/{SCHEMA}", "components": doc["components"]})


@dataclass
class Item:
    """The item under way, as a client puts it together. `stage` is what of it is open."""

    id: str
    kind: str
    index: int
    text: str = ""
    logprobs: list[Json] = field(default_factory=list)
    stage: str = "item"
    final_text: str | None = None


@dataclass
class Follower:
    """Follows the events; every method yields what is wrong with one."""

    is_replay: bool = False
    first: Json = None
    last: Json = None
    open: Item | None = None
    done: list[Json] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)

    def follow(self, name: str, event: Json) -> Iterator[str]:
        if self.last is not None:
            yield f"{name} comes after the last event"
        if name in STATES:
            yield from self.state(name, event["response"])
        elif not self.seen or self.seen[-1] == "response.created" or "response.in_progress" not in self.seen:
            yield f"{name} comes before the response is in progress"
        elif name == "response.output_item.added":
            yield from self.added(event)
        elif self.open is None:
            yield f"{name} belongs to no item"
        else:
            yield from self.within(name, event, self.open)
        self.seen.append(name)

    def state(self, name: str, response: Json) -> Iterator[str]:
        before = [one for one in self.seen if one in STATES]
        allowed = {
            "response.created": before == [],
            "response.queued": before == ["response.created"],
            "response.in_progress": before in (["response.created"], ["response.created", "response.queued"]),
        }
        if not allowed.get(name, bool(before)):
            yield f"{name} comes after {before[-1] if before else 'nothing'}"
        if self.first is None:
            self.first = response
        for key in UNCHANGING:
            if response[key] != self.first[key]:
                yield f"{name} changes {key}"
        if name not in LAST:
            if (
                response["output"]
                or response["usage"] is not None
                or response["status"] not in ("queued", "in_progress")
            ):
                yield f"{name} has a response that is more than begun"
            return
        self.last = response
        yield from self.end(name, response)

    def end(self, name: str, response: Json) -> Iterator[str]:
        if response["status"] != LAST[name] and (name, response["status"]) != ("response.incomplete", "cancelled"):
            yield f"{name} with the status {response['status']}"
        if (name == "response.failed") != (response["error"] is not None):
            yield f"{name} and error {response['error']}"
        is_cut = response["incomplete_details"] is not None
        if is_cut != (response["status"] == "incomplete"):
            yield f"{name} and incomplete_details {response['incomplete_details']}"
        if (response["completed_at"] is not None) != (name == "response.completed"):
            yield f"{name} and completed_at {response['completed_at']}"
        if name == "response.failed" or response["status"] == "cancelled":
            if response["output"][: len(self.done)] != self.done:
                yield "the output is not what was streamed before the response ended"
            return
        if self.open is not None:
            yield f"{name} while an item is open"
        if response["output"] != self.done:
            yield "the output is not what was streamed"
        usage = response["usage"]
        if usage is None or usage["input_tokens"] + usage["output_tokens"] != usage["total_tokens"]:
            yield f"the usage does not add up: {usage}"

    def added(self, event: Json) -> Iterator[str]:
        item = event["item"]
        if self.open is not None:
            yield "an item is added while another is open"
        if event["output_index"] != len(self.done):
            yield f"output_index {event['output_index']} for item {len(self.done)}"
        if item["status"] != "in_progress":
            yield f"an item is added as {item['status']}"
        if any(item["id"] == other["id"] for other in self.done):
            yield f"the id {item['id']} is taken"
        if item.get("content") or item.get("arguments") or item.get("input"):
            yield "an item is added that is not empty"
        self.open = Item(item["id"], item["type"], event["output_index"])

    def within(self, name: str, event: Json, item: Item) -> Iterator[str]:
        if event["output_index"] != item.index:
            yield f"{name} has output_index {event['output_index']}, item {item.index} is open"
        if event.get("item_id", item.id) != item.id:
            yield f"{name} is about another item"
        if event.get("content_index", 0) != 0:
            yield f"{name} has content_index {event['content_index']}"
        stem, _, ending = name.rpartition(".")
        if stem in TEXTS:
            yield from self.text(name, stem, ending, event, item)
        elif name == "response.content_part.added":
            if item.stage != "item" or event["part"]["type"] != PARTS.get(item.kind) or event["part"]["text"]:
                yield f"a part {event['part']} is added to a {item.kind}"
            item.stage = "part"
        elif name == "response.content_part.done":
            if item.stage != "text done" or event["part"]["text"] != item.text:
                yield "a part is done and is not what was streamed"
            item.stage = "part done"
        elif name == "response.output_item.done":
            yield from self.item_done(event["item"], item)
        else:
            yield f"{name} is no event of an item"

    def text(self, name: str, stem: str, ending: str, event: Json, item: Item) -> Iterator[str]:
        kind, key = TEXTS[stem]
        begun = "part" if kind in PARTS else "item"
        if item.kind != kind or item.stage != begun:
            yield f"{name} in a {item.kind} whose stage is {item.stage}"
        if ending == "delta":
            item.text += event["delta"]
            item.logprobs += event.get("logprobs", [])
            if not event["delta"]:
                yield f"{name} is empty"
        elif ending == "done":
            if event[key] != item.text or event.get("logprobs", item.logprobs) != item.logprobs:
                yield f"{name} is not what its deltas add up to"
            item.stage = "text done"
        else:
            yield f"{name} is unknown"

    def item_done(self, told: Json, item: Item) -> Iterator[str]:
        if item.stage != ("part done" if item.kind in PARTS else "text done"):
            yield f"a {item.kind} is done in the stage {item.stage}"
        if told["id"] != item.id or told["type"] != item.kind:
            yield "an item is done that was not open"
        if told["status"] not in ("completed", "incomplete"):
            yield f"an item is done as {told['status']}"
        if text_of(told) != item.text:
            yield "an item is done and is not what was streamed"
        if item.kind == "message" and told["content"][0]["logprobs"] != item.logprobs:
            yield "a message is done with other log probabilities than were streamed"
        self.done.append(told)
        self.open = None


def text_of(item: Json) -> str:
    if item["type"] in PARTS:
        return "".join(part["text"] for part in item["content"])
    return str(item["arguments"] if item["type"] == "function_call" else item["input"])


def frames(text: str) -> Iterator[tuple[str, str]]:
    """Name and payload of every frame; comments are no frames."""
    for frame in text.split("\n\n"):
        lines = [line for line in frame.split("\n") if line and not line.startswith(":")]
        if lines:
            yield lines[0], "\n".join(lines[1:])


def read(text: str) -> tuple[list[Json], list[str]]:
    """The events, and what is wrong with their framing."""
    events, problems = [], []
    if text and not text.endswith("\n\n"):
        problems.append("framing: the stream ends within a frame")
    for head, data in frames(text):
        name, payload = head.removeprefix("event: "), data.removeprefix("data: ")
        if not head.startswith("event: ") or not data.startswith("data: ") or "\n" in data:
            problems.append(f"framing: a frame is not an event line and a data line: {head[:80]} {data[:80]}")
            continue
        try:
            event = json.loads(payload)
        except ValueError:
            problems.append(f"framing: no JSON: {payload[:80]}")
            continue
        if event.get("type") != name:
            problems.append(f"framing: the event {name} has the type {event.get('type')}")
        events.append(event)
    return events, problems


def lint_response(text: str, path: str, request: Mapping[str, Json]) -> list[str]:
    """Everything wrong with the stream of a response, or with one that is sent again (a path with an id).

    `request` is the body, or the query of a stream that is sent again.
    """
    events, problems = read(text)
    for event in events:
        problems += [f"schema: {event.get('type')}: {error.message[:300]}" for error in validator().iter_errors(event)]
    if problems:
        return problems
    after = request.get("starting_after")
    start = 0 if after is None else int(after) + 1
    numbers = [event["sequence_number"] for event in events]
    if numbers != list(range(start, start + len(numbers))):
        return [f"numbers: {numbers[:20]} are not dense from {start}"]
    if start:
        return []  # the beginning is with the client
    follower = Follower()
    for event in events:
        problems += [f"order: {problem}" for problem in follower.follow(event["type"], event)]
    if follower.last is None:
        problems.append("order: the stream has no last event")
    return problems
