"""Every operation we share with OpenAI takes and gives at least what the installed client's own types say.

The client's types are walked, both kinds at once: TypedDicts for what it sends, pydantic models for what it reads.
A field, a literal, a union branch, a JSON type that the document lacks is a gap; so is a request field that the
document insists on and the client may leave out, or one it does not insist on and the client always sends.
"""

import collections.abc
import json
import re
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import openai.types
import openai.types.chat
import pytest
import typing_extensions as te
from openai.pagination import SyncPage
from openai.types import responses
from openai.types.chat.completion_create_params import (
    CompletionCreateParamsNonStreaming as ChatWhole,
)
from openai.types.chat.completion_create_params import (
    CompletionCreateParamsStreaming as ChatStreamed,
)
from openai.types.completion_create_params import CompletionCreateParamsNonStreaming as Whole
from openai.types.completion_create_params import CompletionCreateParamsStreaming as Streamed
from openai.types.responses.input_token_count_params import InputTokenCountParams
from openai.types.responses.input_token_count_response import InputTokenCountResponse
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming as ResponseWhole
from openai.types.responses.response_create_params import ResponseCreateParamsStreaming as ResponseStreamed
from pydantic import BaseModel

from specserve.generated import document

DOCUMENT = json.loads(document())
JSON, EVENTS = "application/json", "text/event-stream"
TARGETS: dict[tuple[str, str, str], Any] = {
    ("post", "/v1/chat/completions", "request"): ChatWhole | ChatStreamed,
    ("post", "/v1/chat/completions", JSON): openai.types.chat.ChatCompletion,
    ("post", "/v1/chat/completions", EVENTS): openai.types.chat.ChatCompletionChunk,
    ("post", "/v1/completions", "request"): Whole | Streamed,
    ("post", "/v1/completions", JSON): openai.types.Completion,
    ("post", "/v1/completions", EVENTS): openai.types.Completion,
    ("post", "/v1/responses", "request"): ResponseWhole | ResponseStreamed,
    ("post", "/v1/responses", JSON): responses.Response,
    ("post", "/v1/responses", EVENTS): responses.ResponseStreamEvent,
    ("post", "/v1/responses/input_tokens", "request"): InputTokenCountParams,
    ("post", "/v1/responses/input_tokens", JSON): InputTokenCountResponse,
    ("get", "/v1/responses/{response_id}", JSON): responses.Response,
    ("get", "/v1/responses/{response_id}", EVENTS): responses.ResponseStreamEvent,
    ("post", "/v1/responses/{response_id}/cancel", JSON): responses.Response,
    ("get", "/v1/responses/{response_id}/input_items", JSON): responses.ResponseItemList,
    ("get", "/v1/models", JSON): SyncPage[openai.types.Model],
    ("get", "/v1/models/{model}", JSON): openai.types.Model,
}
HOSTED_ITEMS = """web_search_call tool_search_output tool_search_call shell_call_output shell_call program_output
    program mcp_list_tools mcp_call mcp_approval_response mcp_approval_request local_shell_call_output local_shell_call
    image_generation_call file_search_call computer_call_output computer_call compaction code_interpreter_call
    apply_patch_call_output apply_patch_call"""
HOSTED_EVENTS = """web_search_call shell_call_output_content shell_call_command mcp_list_tools mcp_call
    mcp_call_arguments image_generation_call file_search_call compaction code_interpreter_call
    code_interpreter_call_code audio audio.transcript refusal reasoning_summary_text reasoning_summary_part
    output_text.annotation"""
HOSTED_FIELDS = """access_programs image input_transformations prompt_cache_diagnostics tool_usage moderation"""


def one_of(names: str) -> str:
    return f"({'|'.join(names.split())})"


WAIVED = {
    rf"^/v1/responses.*{pattern}": reason
    for pattern, reason in {
        rf"<{one_of(HOSTED_ITEMS)}> lacks the object": "no hosted tool runs here, so none leaves items",
        r"(output\[\]|item)<\w*_output> lacks the object": "results of calls are sent by clients only",
        r"<additional_tools/[a-z/]*>( lacks the object|\..*)": "tools are not added by answers",
        rf"<response\.{one_of(HOSTED_EVENTS)}\.\w+> lacks the object": "answers never have such parts",
        r"<error> lacks the object": "a stream that breaks ends with response.failed",
        rf"{one_of(HOSTED_FIELDS)} is missing": "it is about something that is not offered, and optional",
        r"(cache_write_tokens_details|error\.misalignment) is missing": "it is optional, and not known here",
        r"\.(async|caller|created_by) is missing": "calls come from the model, which waits for their results",
        r"(created_at|completed_at) lacks the type number": "these are whole seconds",
        r"instructions lacks the type array": "requests have instructions as a text, and so have responses",
        r"(<namespace>.description|<mcp>.server_label) is optional": "the response repeats what was sent",
        r"(<input_image>.detail|<output_text>.annotations) is optional": "input items are listed as they were sent",
    }.items()
}
"""Pattern of "path of the operation | gap" → why it is right all the same. One that is not needed is a failure."""


def is_waived(path: str, gap: str) -> bool:
    return any(re.search(pattern, f"{path} | {gap}") for pattern in WAIVED)


# ---- one form for both sides ---------------------------------------------------------------------
@dataclass
class Shape:
    """What a value may be. `plain` are JSON types; objects are only looked into when they are compared.

    `is_open`: any object is taken, with whatever it has.
    """

    plain: set[str] = field(default_factory=set)
    literals: set[object] = field(default_factory=set)
    objects: list["Fields"] = field(default_factory=list)
    items: list[Callable[[], "Shape"]] = field(default_factory=list)
    is_open: bool = False

    def add(self, other: "Shape") -> None:
        self.plain |= other.plain
        self.literals |= other.literals
        self.objects += other.objects
        self.items += other.items
        self.is_open |= other.is_open


@dataclass
class Fields:
    """An object: name → (shape, required). `key` tells apart what has been compared already."""

    key: str
    fields: dict[str, tuple[Callable[[], Shape], bool]]

    def tags(self) -> dict[str, set[object]]:
        """The literals by which unions tell their branches apart."""
        found = {name: self.fields[name][0]().literals for name in ("type", "role", "object") if name in self.fields}
        return {name: values for name, values in found.items() if values}


def merged(shapes: typing.Iterable[Callable[[], Shape]]) -> Shape:
    whole = Shape()
    for shape in shapes:
        whole.add(shape())
    return whole


PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null", object: "any"}


def of_python(hint: Any) -> Shape:
    """From a type annotation of the client."""
    origin, arguments = te.get_origin(hint), te.get_args(hint)
    if isinstance(hint, te.TypeAliasType):
        return of_python(hint.__value__)
    if origin in (te.Annotated, te.Required, te.NotRequired):
        return of_python(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return merged([lambda part=part: of_python(part) for part in arguments])
    if origin is te.Literal:
        return Shape(literals=set(arguments))
    if hint is Any or hint in PLAIN:
        return Shape(plain={PLAIN.get(hint, "any")})
    if origin in (dict, collections.abc.Mapping):
        return Shape(plain={"map"})
    if origin in (list, collections.abc.Iterable, collections.abc.Sequence) or "SequenceNotStr" in str(origin):
        return Shape(items=[lambda: of_python(arguments[0])])
    if te.is_typeddict(hint) or (isinstance(hint, type) and issubclass(hint, BaseModel)):
        return Shape(objects=[Fields(str(hint), fields_of(hint))])
    raise AssertionError(f"a form of annotation this test does not know: {hint!r}")


def fields_of(kind: Any) -> dict[str, tuple[Callable[[], Shape], bool]]:
    if not te.is_typeddict(kind):
        return {
            info.alias or name: (lambda info=info: of_python(info.annotation), info.is_required())
            for name, info in kind.model_fields.items()
        }
    found = {}
    for name, hint in te.get_type_hints(kind, include_extras=True).items():
        mark = te.get_origin(hint)  # postponed annotations hide it from __required_keys__
        required = mark is te.Required or (mark is not te.NotRequired and name in kind.__required_keys__)
        found[name] = (lambda hint=hint: of_python(hint), required)
    return found


def of_document(schema: Any) -> Shape:
    """From a schema of the published document, in which objects list all their properties themselves."""
    while "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    shape = merged([lambda part=part: of_document(part) for part in schema.get("anyOf", []) + schema.get("oneOf", [])])
    kinds = schema.get("type", [])
    kinds = {kinds} if isinstance(kinds, str) else set(kinds)
    if "const" in schema or "enum" in schema:
        shape.literals |= {value for value in schema.get("enum", [schema.get("const")]) if value is not None}
        shape.plain |= kinds & {"null"}
        return shape
    if "array" in kinds:
        shape.items.append(lambda: of_document(schema.get("items", {})))
    shape.is_open |= schema.get("additionalProperties") is True
    if properties := schema.get("properties"):
        needed = schema.get("required", [])
        entries = {name: (lambda part=part: of_document(part), name in needed) for name, part in properties.items()}
        shape.objects.append(Fields(str(id(schema)), entries))
    elif "object" in kinds:
        shape.plain.add("map")
    shape.plain |= kinds - {"array", "object"}
    if not (kinds or shape.plain or shape.objects or shape.items or shape.literals):
        shape.plain.add("any")
    return shape


# ---- comparison ----------------------------------------------------------------------------------
def gaps(client: Shape, ours: Shape, place: str, is_request: bool, seen: set[tuple[str, str]]) -> Iterator[str]:
    """What the client's shape has and ours lacks."""
    if "any" in ours.plain:
        return
    for literal in sorted(client.literals - ours.literals, key=str):
        if PLAIN[type(literal)] not in ours.plain:
            yield f"{place} lacks the value {literal!r}"
    for plain in sorted(client.plain - ours.plain - {"any"}):
        if plain == "null" and not is_request:
            continue  # the client can read null; we need not send it
        is_known = {
            "integer": "number" in ours.plain,
            "string": not is_request and bool(ours.literals),  # the client reads any text, we send some
            "map": bool(ours.objects) or ours.is_open,
        }
        if not is_known.get(plain, False):
            yield f"{place} lacks the type {plain}"
    if client.items and not ours.items:
        yield f"{place} lacks the type array"
    elif client.items:
        yield from gaps(merged(client.items), merged(ours.items), f"{place}[]", is_request, seen)
    for theirs in client.objects:
        if not (ours.is_open and not tagged(theirs, ours.objects)):
            yield from object_gaps(theirs, ours.objects, place, is_request, seen)


def object_gaps(
    theirs: Fields, ours: list[Fields], place: str, is_request: bool, seen: set[tuple[str, str]]
) -> Iterator[str]:
    matches = counterparts(theirs, ours)
    label = "/".join(str(value) for values in theirs.tags().values() for value in sorted(values, key=str))
    here = f"{place}<{label}>" if label and len(ours) > 1 else place
    if not matches:
        yield f"{here} lacks the object {theirs.key.rsplit('.', 1)[-1]}"
        return
    pair = (theirs.key, "|".join(sorted(match.key for match in matches)))
    if pair in seen:
        return
    seen.add(pair)
    for name, (shape, is_needed) in theirs.fields.items():
        found = [match.fields[name] for match in matches if name in match.fields]
        if not found:
            yield f"{here}.{name} is missing"
            continue
        insists = all(required for _, required in found)
        if is_request and insists and not is_needed:
            yield f"{here}.{name} is required here, the client may leave it out"
        if not is_request and is_needed and not insists:
            yield f"{here}.{name} is optional here, the client relies on it"
        yield from gaps(shape(), merged([part for part, _ in found]), f"{here}.{name}", is_request, seen)


def tagged(theirs: Fields, ours: list[Fields]) -> bool:
    """Whether one of our objects says by its tags that it is theirs; an open one besides is for what nobody knows."""
    tags = theirs.tags()
    return any(
        one.tags().keys() & tags.keys()
        and all(one.tags()[name] & tags[name] for name in one.tags().keys() & tags.keys())
        for one in ours
    )


def counterparts(theirs: Fields, ours: list[Fields]) -> list[Fields]:
    """Our objects that stand for theirs: those that share its tags, or all of them when it has none."""
    tags = theirs.tags()
    fitting = []
    for candidate in ours:
        own = candidate.tags()
        if all(own[name] & tags[name] for name in own.keys() & tags.keys()):
            fitting.append(candidate)
    tagged = [candidate for candidate in fitting if candidate.tags().keys() & tags.keys()]
    return tagged or fitting


def schema_of(method: str, path: str, part: str) -> Any:
    operation = DOCUMENT["paths"][path][method]
    if part == "request":
        return operation["requestBody"]["content"][JSON]["schema"]
    content = operation["responses"]["200"]["content"][part]
    if part == JSON:
        return content["schema"]
    event = DOCUMENT["components"]["schemas"][content["itemSchema"]["$ref"].rsplit("/", 1)[1]]
    data = event["properties"]["data"]
    return data["contentSchema"] if "event" in event["properties"] else data["anyOf"][1]["contentSchema"]["anyOf"][0]


def found_gaps() -> Iterator[tuple[str, str]]:
    for (method, path, part), target in TARGETS.items():
        is_request = part == "request"
        for gap in gaps(of_python(target), of_document(schema_of(method, path, part)), part, is_request, set()):
            yield path, gap


@pytest.mark.parametrize("path", sorted({path for _, path, _ in TARGETS}))
def test_nothing_of_the_clients_types_is_missing(path: str) -> None:
    assert [gap for where, gap in found_gaps() if where == path and not is_waived(where, gap)] == []


def test_every_waiver_is_needed() -> None:
    lines = [f"{path} | {gap}" for path, gap in found_gaps()]
    assert [pattern for pattern in WAIVED if not any(re.search(pattern, line) for line in lines)] == []
    assert all(WAIVED.values())


def test_every_operation_that_openai_has_too_is_compared() -> None:
    """A path the client's own resources call, and we serve, is in the table."""
    compared = {(method, path) for method, path, _ in TARGETS}
    openais = ("/v1/chat/completions", "/v1/completions", "/v1/models", "/v1/embeddings", "/v1/responses", "/v1/audio")
    for path, item in DOCUMENT["paths"].items():
        if path.startswith(openais) and not path.endswith("/render"):
            wanted = {(method, path) for method in item if method != "delete"}  # the client reads no answer to these
            assert wanted <= compared


@pytest.mark.parametrize(
    ("spoil", "gap"),
    [
        (lambda s: s["CompletionRequest"]["properties"].pop("echo"), "request.echo is missing"),
        (
            lambda s: s["CompletionRequest"]["required"].append("suffix"),
            "request.suffix is required here, the client may leave it out",
        ),
        (
            lambda s: s["CompletionFinishReason"]["enum"].remove("length"),
            "application/json.choices[].finish_reason lacks the value 'length'",
        ),
        (lambda s: s["Completion"]["required"].remove("created"), "application/json.created is optional here"),
        (
            lambda s: s["CompletionRequest"]["properties"].update(echo={"type": "string"}),
            "request.echo lacks the type boolean",
        ),
        (
            lambda s: s["CompletionRequest"]["properties"].update(prompt={"type": "string"}),
            "request.prompt lacks the type array",
        ),
        (lambda s: s["NamedToolChoice"]["properties"]["type"].update(const="func"), "request.tool_choice"),
        (lambda s: s["TextPart"]["properties"].pop("text"), "text is missing"),
    ],
    ids=["field", "required", "value", "optional", "type", "array", "branch", "deep field"],
)
def test_a_gap_is_found(spoil: Callable[[dict[str, Any]], object], gap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spoiled = json.loads(document())
    spoiled["components"]["schemas"]["CompletionRequest"].setdefault("required", [])
    spoil(spoiled["components"]["schemas"])
    monkeypatch.setitem(globals(), "DOCUMENT", spoiled)
    assert any(gap in found for _, found in found_gaps())
