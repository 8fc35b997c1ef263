"""Checks that the stock ones cannot make, and the one thing the document cannot know: which model is served."""

from __future__ import annotations

import json
import os
from typing import Any

import schemathesis
from schemathesis import Case, CheckContext, Response

SERVED_MODEL = os.environ.get("CONTRACT_MODEL", "specserve-demo")
END_MARK = "[DONE]"


def error_code(response: Response) -> str | None:
    try:
        code = response.json()["error"]["code"]
    except (ValueError, KeyError, TypeError):
        return None
    return code if isinstance(code, str) else None


@schemathesis.check
def refusal_is_documented(ctx: CheckContext, response: Response, case: Case) -> None:
    """A well-formed request succeeds, or is refused with a code that its operation lists under x-refusals.

    Stands in for positive_data_acceptance, which is told statuses only and so takes any 404 or 400 for granted.
    """
    if case.meta is None or not case.meta.generation.mode.is_positive or response.status_code < 400:
        return
    if response.status_code in (401, 405):  # asked for by the checks of authentication and of methods
        return
    listed = set(case.operation.definition.raw.get("x-refusals", []))
    code = error_code(response)
    if code not in listed:
        raise AssertionError(
            f"well-formed request refused with {response.status_code} and code {code!r}, "
            f"which is not among x-refusals: {sorted(listed)}"
        )


@schemathesis.check
def error_names_a_catalogued_code(ctx: CheckContext, response: Response, case: Case) -> None:
    """Every error of whatever status carries the envelope, with a message and a string code."""
    if response.status_code < 400:
        return
    if case.method.upper() == "HEAD":
        return
    try:
        error = response.json()["error"]
    except (ValueError, KeyError, TypeError):
        raise AssertionError(f"{response.status_code} without the error envelope: {response.text[:200]!r}") from None
    if not error.get("message") or not isinstance(error.get("code"), str):
        raise AssertionError(f"{response.status_code} with an incomplete envelope: {error}")
    if len(response.content) > 8192:
        raise AssertionError(f"the error body has {len(response.content)} bytes, the limit is 8192")


@schemathesis.check
def stream_is_complete(ctx: CheckContext, response: Response, case: Case) -> None:
    """A stream whose events may be an end mark ends with it, once, and every choice finishes exactly once."""
    kind = response.headers.get("content-type", [""])[0]
    if not kind.startswith("text/event-stream"):
        return
    if END_MARK not in json.dumps(case.operation.definition.raw["responses"]["200"]) and not documented_end(case):
        return
    frames = [line.removeprefix("data: ") for line in response.text.split("\n") if line.startswith("data: ")]
    if not frames or frames[-1] != END_MARK or frames.count(END_MARK) != 1:
        raise AssertionError("the stream does not end with exactly one end mark")
    finished: dict[int, int] = {}
    identities = set()
    for frame in frames[:-1]:
        event = json.loads(frame)
        if "error" in event:
            raise AssertionError(f"the stream broke: {event['error']}")
        identities.add((event["id"], event["created"], event["model"]))
        for choice in event["choices"]:
            finished.setdefault(choice["index"], 0)
            finished[choice["index"]] += choice["finish_reason"] is not None
    if len(identities) != 1:
        raise AssertionError(f"id, created and model change within one stream: {sorted(identities)}")
    if any(count != 1 for count in finished.values()):
        raise AssertionError(f"finishing chunks per choice: {finished}; each choice has to have exactly one")


def documented_end(case: Case) -> bool:
    content = case.operation.definition.raw["responses"]["200"].get("content", {})
    schema = content.get("text/event-stream", {}).get("itemSchema", {})
    return "Event" in schema.get("$ref", "")


@schemathesis.hook
def before_load_schema(context: schemathesis.HookContext, raw_schema: dict[str, Any]) -> None:
    """Give `model` a default, or nearly every generated request ends as an unknown model."""
    for schema in raw_schema["components"]["schemas"].values():
        properties = schema.get("properties", {})
        if "model" in properties and {"messages", "prompt"} & properties.keys():
            properties["model"]["default"] = SERVED_MODEL
