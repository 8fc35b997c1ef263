"""The fields that constrain an answer: all generations lead to one constraint, and never to two."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from fake_engine import FakeEngine, app_over, client_of

from specserve.engine.grammar_spec import GrammarSpec

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
WRONG = "invalid_constraint"
ANY_OBJECT = {"type": "json_object"}
FORMATS: dict[str, tuple[str, Any]] = {
    "chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello."}]}),
    "completions": ("/v1/completions", {"prompt": "Hello"}),
}


class Server:
    def __init__(self, engine: FakeEngine, client: httpx2.AsyncClient, path: str, body: dict[str, Any]) -> None:
        self.engine, self.client, self.path, self.body = engine, client, path, body

    async def ask(self, **fields: Any) -> httpx2.Response:
        return await self.client.post(self.path, json=self.body | fields)

    async def grammar(self, **fields: Any) -> GrammarSpec | None:
        response = await self.ask(**fields)
        assert response.status_code == 200, response.text
        return self.engine.requests[-1].params.grammar

    async def refusal(self, **fields: Any) -> tuple[str, str, str]:
        before = len(self.engine.requests)
        response = await self.ask(**fields)
        error = response.json()["error"]
        assert response.status_code == 400, error
        assert len(self.engine.requests) == before
        return error["code"], error["param"], error["message"]


@pytest_asyncio.fixture(params=FORMATS)
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Server]:
    engine = FakeEngine()
    async with client_of(app_over(engine)) as client:
        yield Server(engine, client, *FORMATS[request.param])


def json_schema(schema: Any, **more: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "s", "schema": schema, **more}}


async def test_every_generation_of_fields_gives_the_same_grammar(server: Server) -> None:
    groups: list[list[dict[str, Any]]] = [
        [
            {"response_format": json_schema(SCHEMA, strict=True)},
            {"structured_outputs": {"json": SCHEMA}},
            {"structured_outputs": {"json": json.dumps(SCHEMA)}},
            {"guided_json": SCHEMA},
            {"guided_json": json.dumps(SCHEMA)},
        ],
        [{"structured_outputs": {"regex": "[0-9]+"}}, {"guided_regex": "[0-9]+"}],
        [{"structured_outputs": {"choice": ["a", "b"]}}, {"guided_choice": ["a", "b"]}],
        [{"structured_outputs": {"grammar": 'root ::= "x"'}}, {"guided_grammar": 'root ::= "x"'}],
        [
            {"response_format": {"type": "json_object"}},
            {"response_format": {"type": "json_schema", "json_schema": {"name": "any"}}},
            {"structured_outputs": {"json_object": True}},
        ],
    ]
    seen = set()
    for group in groups:
        rules = {spec.rules for fields in group if (spec := await server.grammar(**fields)) is not None}
        assert len(rules) == 1
        seen |= rules
    assert len(seen) == len(groups)


async def test_text_and_silence_are_no_constraint(server: Server) -> None:
    assert await server.grammar() is None
    assert await server.grammar(response_format={"type": "text"}, structured_outputs=None) is None


async def test_both_forms_of_a_structural_tag_are_taken(server: Server) -> None:
    older = {
        "type": "structural_tag",
        "structures": [{"begin": "<call>", "schema": {"type": "object"}, "end": "</call>"}],
        "triggers": ["<call>"],
    }
    tag = {
        "type": "tag",
        "begin": "<call>",
        "content": {"type": "json_schema", "json_schema": SCHEMA},
        "end": "</call>",
    }
    newer = {"type": "structural_tag", "format": {"type": "triggered_tags", "triggers": ["<call>"], "tags": [tag]}}
    for sent in (
        {"response_format": older},
        {"response_format": newer},
        {"structured_outputs": {"structural_tag": json.dumps(newer)}},
    ):
        spec = await server.grammar(**sent)
        assert spec is not None
        assert "<call>" in spec.rules


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        (
            {"response_format": {"type": "json_object"}, "structured_outputs": {"regex": "a"}},
            "structured_outputs.regex",
        ),
        ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs.choice"),
        ({"structured_outputs": {"json_object": True, "json": {}}}, "structured_outputs.json"),
        ({"guided_regex": "a", "guided_choice": ["a"]}, "guided_choice"),
        ({"structured_outputs": {"regex": "a"}, "guided_regex": "a"}, "guided_regex"),
        (
            {"structured_outputs": {"json": {}, "disable_any_whitespace": True, "whitespace_pattern": " "}},
            "structured_outputs.whitespace_pattern",
        ),
        ({"guided_whitespace_pattern": " "}, "guided_whitespace_pattern"),
        ({"guided_whitespace_pattern": " ", "guided_regex": "a"}, "guided_whitespace_pattern"),
        (
            {"structured_outputs": {"choice": ["a"], "whitespace_pattern": " "}},
            "structured_outputs.whitespace_pattern",
        ),
        (
            {"structured_outputs": {"regex": "a", "disable_any_whitespace": True}},
            "structured_outputs.disable_any_whitespace",
        ),
        (
            {"structured_outputs": {"json_object": True, "disable_additional_properties": True}},
            "structured_outputs.disable_additional_properties",
        ),
    ],
)
async def test_what_does_not_go_together_is_refused(fields: dict[str, Any], param: str, server: Server) -> None:
    code, named, _ = await server.refusal(**fields)
    assert (code, named) == ("invalid_parameter_combination", param)


@pytest.mark.parametrize(
    ("fields", "code", "param", "words"),
    [
        ({"structured_outputs": {}}, WRONG, "structured_outputs", "names no constraint"),
        (
            {"structured_outputs": {"json_object": False}},
            WRONG,
            "structured_outputs.json_object",
            "true",
        ),
        ({"structured_outputs": {"choice": []}}, "empty_array", "structured_outputs.choice", "at least 1"),
        ({"structured_outputs": {"regex": "("}}, WRONG, "structured_outputs.regex", "unclosed group"),
        ({"structured_outputs": {"json": "{"}}, WRONG, "structured_outputs.json", "not valid JSON"),
        ({"structured_outputs": {"grammar": " "}}, WRONG, "structured_outputs.grammar", "blank"),
        (
            {"structured_outputs": {"structural_tag": "{}"}},
            WRONG,
            "structured_outputs.structural_tag/format",
            "needs a format",
        ),
        ({"guided_json": {"$ref": "#"}}, WRONG, "guided_json", "no text can meet"),
        (
            {"response_format": json_schema({"properties": {"x": {"format": "shoe"}}}, strict=True)},
            "unsupported_value",
            "response_format.json_schema.schema/properties/x/format",
            "shoe",
        ),
        (
            {"structured_outputs": {"json": {"items": {"not": {}}}}},
            "unsupported_value",
            "structured_outputs.json/items/not",
            "not is not supported",
        ),
        (
            {"response_format": {"type": "structural_tag", "format": {"type": "dream"}}},
            "unsupported_value",
            "response_format/format/type",
            "dream",
        ),
    ],
)
async def test_what_is_wrong_is_named(
    fields: dict[str, Any], code: str, param: str, words: str, server: Server
) -> None:
    found_code, found_param, message = await server.refusal(**fields)
    assert (found_code, found_param) == (code, param)
    assert words in message


async def test_a_stream_is_refused_before_it_begins(server: Server) -> None:
    response = await server.ask(stream=True, guided_regex="(")
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize("strict", [False, None])
async def test_a_schema_that_is_not_strict_says_in_a_header_what_it_lost(strict: bool | None, server: Server) -> None:
    schema = {"properties": {"größe": {"format": "shoe"}, "b": {"not": {}}}}
    response = await server.ask(response_format=json_schema(schema, strict=strict))
    assert response.status_code == 200
    pointers = "/properties/gr%C3%B6%C3%9Fe/format,/properties/b/not"
    assert response.headers["x-widened-schema-keywords"] == pointers
    kept = await server.ask(response_format=json_schema(SCHEMA, strict=strict))
    assert "x-widened-schema-keywords" not in kept.headers


async def test_options_reach_the_grammar(server: Server) -> None:
    schema = {"type": "object", "properties": {"a": {}}}
    plain = await server.grammar(guided_json=schema)
    compact = await server.grammar(structured_outputs={"json": schema, "disable_any_whitespace": True})
    spaced = await server.grammar(guided_json=schema, guided_whitespace_pattern="[ ]")
    closed = await server.grammar(structured_outputs={"json": schema, "disable_additional_properties": True})
    merged = await server.grammar(
        response_format={"type": "json_object"}, structured_outputs={"disable_any_whitespace": True}
    )
    rules = [spec.rules for spec in (plain, compact, spaced, closed, merged) if spec is not None]
    assert len(set(rules)) == 5
    assert '"whitespace_flexible": false' in rules[1]
    assert '"whitespace_flexible": false' in rules[4]
    assert '"additionalProperties": false' in rules[3]
