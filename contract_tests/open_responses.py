"""The acceptance checks of Open Responses against any server, in our own words and all at once, as its suite runs them.

    python -m contract_tests.open_responses --base-url http://127.0.0.1:8000/v1 --api-key KEY --model NAME

Every response and every event is held against the specification's shapes and against the document that the server
publishes. A server that reads no images and files has to refuse them with a 400 that names the part. Ends with 1 if a
check failed.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import httpx2
from jsonschema import Draft202012Validator

from contract_tests.open_responses_shapes import EVENTS, LAST_EVENTS, RESPONSE

Json = Any
PATIENCE_S = 300.0
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "Get the weather for a city",
    "parameters": {
        "type": "object",
        "properties": {"location": {"type": "string", "description": "City and state, e.g. San Francisco, CA"}},
        "required": ["location"],
    },
}
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)
PAGE = "data:application/pdf;base64," + base64.b64encode(b"%PDF-1.1\n1 0 obj\n<< /Type /Catalog >>\nendobj\n").decode()


class Failed(Exception):
    """A check cannot go on."""


def user(text: str) -> Json:
    return {"type": "message", "role": "user", "content": text}


@dataclass(frozen=True)
class Target:
    """A server, and what its answers are held against. `problems_of` names every place that is wrong."""

    base_url: str
    key: str
    model: str

    @cached_property
    def client(self) -> httpx2.Client:
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx2.Client(base_url=self.base_url, headers=headers, timeout=PATIENCE_S)

    @cached_property
    def published(self) -> Mapping[str, Json]:
        """The document of the server; an empty one if it publishes none."""
        reply = self.client.get(f"{self.base_url.removesuffix('/v1')}/openapi.json")
        found: Mapping[str, Json] = reply.json() if reply.status_code == 200 else {}
        return found

    def problems_of(self, kind: str, value: Json) -> Iterator[str]:
        """`kind` is Response, or ResponseStreamEvent."""
        asked = RESPONSE if kind == "Response" else EVENTS.get(value.get("type"))
        if asked is None:
            yield f"there is no event called {value.get('type')}"
            return
        for error in Draft202012Validator(asked).iter_errors(value):
            yield f"{kind} {value.get('type', '')}: {error.json_path}: {error.message[:200]}"
        if schemas := self.published.get("components", {}).get("schemas"):
            own = {"$ref": f"#/components/schemas/{kind}", "components": {"schemas": schemas}}
            for error in Draft202012Validator(own).iter_errors(value):
                yield f"{kind} {value.get('type', '')} against the server's own document: {error.message[:200]}"

    def post(self, body: Json) -> httpx2.Response:
        return self.client.post("/responses", json={"model": self.model, **body})

    def answer(self, **body: Json) -> Json:
        """A whole response, of the right shape. Raises Failed."""
        reply = self.post(body)
        if reply.status_code != 200:
            raise Failed(f"HTTP {reply.status_code}: {reply.text[:300]}")
        if problems := list(self.problems_of("Response", reply.json())):
            raise Failed("; ".join(problems))
        return reply.json()

    def stream(self, **body: Json) -> list[Json]:
        """The events of a stream, of the right shapes, numbered from 0, with one last event. Raises Failed."""
        with self.client.stream("POST", "/responses", json={"model": self.model, "stream": True, **body}) as reply:
            text = reply.read().decode()
            if reply.status_code != 200:
                raise Failed(f"HTTP {reply.status_code}: {text[:300]}")
        events, problems = [], []
        for frame in text.split("\n\n"):
            lines = dict(line.split(": ", 1) for line in frame.split("\n") if line and not line.startswith(":"))
            if lines.get("data", "[DONE]") == "[DONE]":
                continue
            event = json.loads(lines["data"])
            events.append(event)
            problems += self.problems_of("ResponseStreamEvent", event)
            if lines.get("event") != event.get("type"):
                problems.append(f"the event line says {lines.get('event')}, the data {event.get('type')}")
        if [event["sequence_number"] for event in events] != list(range(len(events))):
            problems.append("the sequence numbers have gaps")
        if not events or [event["type"] in LAST_EVENTS for event in events].index(True) != len(events) - 1:
            problems.append("the stream does not end with its only last event")
        if problems:
            raise Failed("; ".join(problems))
        return events


Check = Callable[[Target], Iterator[str]]


def completed(response: Json) -> Iterator[str]:
    if not response["output"]:
        yield "there are no output items"
    if response["status"] != "completed":
        yield f"the status is {response['status']}, not completed"


def calls(response: Json) -> list[Json]:
    return [item for item in response["output"] if item["type"] == "function_call"]


def basic_response(target: Target) -> Iterator[str]:
    yield from completed(target.answer(input=[user("Please say hello.")]))


def streaming_response(target: Target) -> Iterator[str]:
    yield from completed(target.stream(input=[user("Count from 2 to 7.")])[-1]["response"])


def system_prompt(target: Target) -> Iterator[str]:
    system = {"type": "message", "role": "system", "content": "You are a helpful sailor who likes the sea."}
    yield from completed(target.answer(input=[system, user("Hello there.")]))


def tool_calling(target: Target) -> Iterator[str]:
    response = target.answer(input=[user("What's the weather in San Francisco?")], tools=[WEATHER])
    if not calls(response):
        yield "the output has no function_call"


def tool_calling_streaming(target: Target) -> Iterator[str]:
    events = target.stream(input=[user("What's the weather in San Francisco?")], tools=[WEATHER])
    told = {(event["type"], (event.get("item") or {}).get("type")) for event in events}
    for wanted in (
        ("response.output_item.added", "function_call"),
        ("response.function_call_arguments.delta", None),
        ("response.function_call_arguments.done", None),
        ("response.output_item.done", "function_call"),
    ):
        if wanted not in told:
            yield f"there is no {wanted[0]} of a function call"
    [ended] = [event["arguments"] for event in events if event["type"] == "response.function_call_arguments.done"]
    deltas = [event["delta"] for event in events if event["type"] == "response.function_call_arguments.delta"]
    if "".join(deltas) != ended or "location" not in json.loads(ended):
        yield f"the deltas of the arguments are {deltas}, the whole is {ended}"


def function_call_roundtrip(target: Target) -> Iterator[str]:
    first = target.answer(
        input="Get the temperature in San Francisco.",
        tools=[WEATHER],
        tool_choice={"type": "function", "name": "get_weather"},
    )
    if not calls(first):
        yield "the first response has no function_call, though one was demanded"
        return
    result = {"type": "function_call_output", "call_id": calls(first)[0]["call_id"], "output": "17 degrees and windy"}
    yield from completed(target.answer(previous_response_id=first["id"], input=[result]))


def multi_turn(target: Target) -> Iterator[str]:
    earlier = {"type": "message", "role": "assistant", "content": "Nice to meet you, Anna!"}
    yield from completed(target.answer(input=[user("My name is Anna."), earlier, user("What is my name?")]))


def previous_response_id(target: Target) -> Iterator[str]:
    first = target.answer(input="My name is Peter.")
    second = target.answer(previous_response_id=first["id"], input="What is my name?")
    yield from completed(first)
    yield from completed(second)
    if second["previous_response_id"] != first["id"]:
        yield f"previous_response_id is {second['previous_response_id']}, not {first['id']}"
    if second["usage"]["input_tokens"] <= first["usage"]["input_tokens"] + first["usage"]["output_tokens"]:
        yield "the second turn read no more than the first"


def with_part(target: Target, part: Json) -> Iterator[str]:
    """Either the model can use the part, or it is refused by name."""
    question = {"type": "input_text", "text": "Say in one sentence what this is."}
    body = {"input": [{"type": "message", "role": "user", "content": [question, part]}]}
    reply = target.post(body)
    if reply.status_code == 200:
        yield from target.problems_of("Response", reply.json())
        yield from completed(reply.json())
        return
    if reply.status_code != 400:
        yield f"HTTP {reply.status_code}: {reply.text[:300]}"
        return
    error = reply.json()["error"]
    if not str(error["param"]).startswith(("input.0.content.1", "input[0].content[1]")):
        yield f"the refusal names {error['param']}, not the part input.0.content.1"
    if part["type"] not in error["message"] and part["type"].removeprefix("input_") not in error["message"]:
        yield f"the refusal does not say what it refuses: {error['message']}"


def image_input(target: Target) -> Iterator[str]:
    yield from with_part(target, {"type": "input_image", "image_url": PIXEL})


def file_input(target: Target) -> Iterator[str]:
    yield from with_part(target, {"type": "input_file", "filename": "page.pdf", "file_data": PAGE})


CHECKS: dict[str, Check] = {
    check.__name__.replace("_", "-"): check
    for check in (
        basic_response,
        streaming_response,
        system_prompt,
        tool_calling,
        tool_calling_streaming,
        function_call_roundtrip,
        image_input,
        file_input,
        multi_turn,
        previous_response_id,
    )
}


def run(target: Target, names: tuple[str, ...] = tuple(CHECKS)) -> dict[str, list[str]]:
    """What is wrong, by check. All of them begin at the same moment."""
    with ThreadPoolExecutor(len(names)) as pool:
        return dict(zip(names, pool.map(lambda name: run_one(target, name), names), strict=True))


def run_one(target: Target, name: str) -> list[str]:
    try:
        return list(CHECKS[name](target))
    except Failed as failure:
        return [str(failure)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-url", required=True, help="with /v1")
    parser.add_argument("--api-key", default="none")
    parser.add_argument("--model", default="specserve-demo")
    parser.add_argument("--only", nargs="+", choices=CHECKS, default=tuple(CHECKS), metavar="CHECK")
    chosen = parser.parse_args()
    found = run(Target(chosen.base_url.rstrip("/"), chosen.api_key, chosen.model), tuple(chosen.only))
    for name, problems in found.items():
        print(f"{'failed' if problems else 'passed'} {name}")
        for problem in problems:
            print(f"       {problem}")
    return 1 if any(found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
