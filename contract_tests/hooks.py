"""Checks that the stock ones cannot make, and the one thing the document cannot know: which model is served."""

from __future__ import annotations

import json
import os
from typing import Any

import schemathesis
from schemathesis import Case, CheckContext, Response

from contract_tests.linters import LINTERS
from contract_tests.stream_linter import frames_of
from specserve.generated.errors import ERRORS
from specserve.generated.operations import OPERATIONS
from specserve.handlers.envelopes import type_in

ERROR_FRAMES = ('{"error":', '{"type":"error"')
SERVED_MODEL = os.environ.get("CONTRACT_MODEL", "specserve-demo")

ASKING = {"messages", "prompt", "input", "query", "queries", "texts"}
"""A schema with one of these fields is that of a request."""


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
def error_is_in_the_catalogue(ctx: CheckContext, response: Response, case: Case) -> None:
    """Every error of whatever status carries the envelope, and is what the catalogue says about its code."""
    if response.status_code < 400 or case.method.upper() == "HEAD":
        return
    try:
        error = response.json()["error"]
        known = ERRORS[error["code"]]
    except (ValueError, KeyError, TypeError):
        raise AssertionError(
            f"{response.status_code} without the error envelope or a code of the catalogue: {response.text[:200]!r}"
        ) from None
    envelope = OPERATIONS[case.operation.definition.raw["operationId"]].errors
    kind = type_in(envelope, known("")) if envelope else known.type
    if not error.get("message") or (response.status_code, error["type"]) != (known.status, kind):
        raise AssertionError(f"{response.status_code}: not what the catalogue says about {known.code}: {error}")
    if known.names_field != "sometimes" and (error["param"] is None) != (known.names_field == "never"):
        raise AssertionError(f"{known.code} {known.names_field} names the field at fault: {error}")
    if len(response.content) > 8192:
        raise AssertionError(f"the error body has {len(response.content)} bytes, the limit is 8192")


@schemathesis.check
def stream_keeps_the_rules(ctx: CheckContext, response: Response, case: Case) -> None:
    """Every rule of `stream_linter`, and no error: nothing breaks while a contract test runs."""
    if not response.headers.get("content-type", [""])[0].startswith("text/event-stream"):
        return
    if case.operation.path not in LINTERS:
        raise AssertionError(f"{case.operation.path} streams, and the stream linter does not know it")
    text = response.content.decode()
    findings = LINTERS[case.operation.path](text, case.operation.path, sent_body(case, response))
    findings += [f"the stream broke: {frame}" for frame in frames_of(text) if frame.startswith(ERROR_FRAMES)]
    if findings:
        raise AssertionError("the stream breaks the rules: " + "; ".join(findings[:5]))


def sent_body(case: Case, response: Response) -> dict[str, Any]:
    """What went over the wire, and not what was generated."""
    body = getattr(response.request, "body", None)
    found: dict[str, Any] = json.loads(body) if body else case.body if case.method == "POST" else case.query or {}
    return found


@schemathesis.hook
def before_load_schema(context: schemathesis.HookContext, raw_schema: dict[str, Any]) -> None:
    """Give `model` a default, or nearly every generated request ends as an unknown model; and share examples."""
    for schema in raw_schema["components"]["schemas"].values():
        properties = schema.get("properties", {})
        if "model" in properties and ASKING & properties.keys():
            properties["model"]["default"] = SERVED_MODEL
    share_examples(raw_schema)


def share_examples(raw_schema: dict[str, Any]) -> None:
    """Try the examples of a request schema at every operation that takes it, not only where they are written."""
    bodies: dict[str, list[dict[str, Any]]] = {}
    for item in raw_schema["paths"].values():
        for operation in item.values():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if content is not None:
                bodies.setdefault(content["schema"]["$ref"], []).append(content)
    for contents in bodies.values():
        every = {name: example for content in contents for name, example in content.get("examples", {}).items()}
        for content in contents:
            content["examples"] = every | content.get("examples", {})
