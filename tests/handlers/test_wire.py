"""What is wrong with a body is told in plain words, with the place in `param`."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from specserve.generated.base import ApiModel
from specserve.generated.errors import ApiError, InvalidRequest, RequestTooLarge
from specserve.generated.schemas import ChatCompletionRequest, CompletionRequest
from specserve.handlers.wire import parse_body, parse_query

HELLO = [{"role": "user", "content": "hello"}]


def refusal(body: Any, schema: Any = ChatCompletionRequest) -> ApiError:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(ApiError) as refused:
        parse_body(raw, schema)
    return refused.value


@pytest.mark.parametrize(
    ("fields", "param", "message", "code"),
    [
        ({"temperature": 3}, "temperature", "temperature must be at most 2, not 3", "decimal_above_max_value"),
        ({"temperature": "hot"}, "temperature", 'temperature must be a number, not "hot"', "invalid_type"),
        ({"n": 1.5}, "n", "n must be an integer, not 1.5", "invalid_type"),
        ({"n": True}, "n", "n must be an integer, not true", "invalid_type"),
        ({"top_p": 0}, "top_p", "top_p must be greater than 0, not 0", "decimal_below_min_value"),
        ({"stream": "yes"}, "stream", 'stream must be true or false, not "yes"', "invalid_type"),
        ({"seed": 2**63}, "seed", f"seed must be at most {2**63 - 1}, not {2**63}", "integer_above_max_value"),
        ({"stop": ["a", ""]}, "stop.1", 'stop.1 must have at least 1 character, not ""', "string_below_min_length"),
        (
            {"stop": list("abcde")},
            "stop",
            "stop must have at most 4 entries, not an array of 5",
            "array_above_max_length",
        ),
        ({"stop": 5}, "stop", "stop must be a string or must be an array, not 5", "invalid_type"),
        ({"logit_bias": {"x": 1}}, "logit_bias.x", "must match the pattern", "invalid_value"),
        ({"reasoning_effort": "huge"}, "reasoning_effort", "must be 'none', 'minimal'", "invalid_value"),
        ({"messages": []}, "messages", "messages must have at least 1 entry, not an array of 0", "empty_array"),
        ({"messages": None}, "messages", "messages must be an array, not null", "invalid_type"),
    ],
)
def test_a_violation_names_the_field_the_rule_and_the_value(
    fields: dict[str, Any], param: str, message: str, code: str
) -> None:
    error = refusal({"messages": HELLO} | fields)
    assert (error.status, error.code, error.param) == (400, code, param)
    assert message in error.message


@pytest.mark.parametrize(
    ("message", "param", "said"),
    [
        ({"role": "user"}, "messages.0.content", "messages.0.content is required"),
        ({"content": "hi"}, "messages.0.role", "messages.0.role is required"),
        ({"role": "boss", "content": "hi"}, "messages.0.role", 'not "boss"'),
        ({"role": "user", "content": 5}, "messages.0.content", "must be a string or must be an array, not 5"),
        (
            {"role": "user", "content": [{"type": "text", "text": 7}]},
            "messages.0.content.0.text",
            "must be a string, not 7",
        ),
        ({"role": "user", "content": [{"type": "smell"}]}, "messages.0.content.0.type", 'not "smell"'),
        ({"role": "user", "content": [{"text": "x"}]}, "messages.0.content.0.type", "is required"),
        ("hello", "messages.0", 'must be an object, not "hello"'),
    ],
)
def test_the_place_is_named_without_the_branches_of_unions(message: Any, param: str, said: str) -> None:
    error = refusal({"messages": [message]})
    assert error.param == param
    assert said in error.message


def test_of_several_wrong_messages_the_first_is_named() -> None:
    wrong = [{"role": "user", "content": 1}, {"role": "user", "content": [{"type": "text", "text": 2}]}]
    assert refusal({"messages": HELLO + wrong}).param == "messages.1.content"


def test_the_prompt_is_judged_as_what_it_was_meant_to_be() -> None:
    assert refusal({"prompt": [1, 2, "x"]}, CompletionRequest).param == "prompt.2"
    assert refusal({"prompt": ["a", "b", 3]}, CompletionRequest).param == "prompt.2"
    assert refusal({"prompt": [1, 2, 3, None]}, CompletionRequest).param == "prompt.3"
    assert refusal({"prompt": [[1], [2, -3]]}, CompletionRequest).param == "prompt.1.1"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"  ",
        b"{",
        b"nonsense",
        b'{"n": NaN}',
        b'{"n": Infinity}',
        b'{"a": "\\ud800"}',
        b"\x00",
        b"\xff{}",
        b"{}{}",
    ],
)
def test_bytes_that_are_no_json_are_refused(raw: bytes) -> None:
    assert isinstance(refusal(raw), InvalidRequest)


@pytest.mark.parametrize("raw", [b"[]", b"5", b'"text"', b"null"])
def test_json_that_is_no_object_is_refused(raw: bytes) -> None:
    assert "must be a JSON object" in refusal(raw).message


def test_a_very_deep_body_is_too_large() -> None:
    assert isinstance(refusal(b'{"a":' * 5000 + b"1" + b"}" * 5000), RequestTooLarge)


@pytest.mark.parametrize("digits", [40, 4000, 50_000])
def test_a_very_large_number_is_refused_and_not_repeated(digits: int) -> None:
    error = refusal(b'{"messages": [{"role": "user", "content": "a"}], "seed": 1' + b"0" * digits + b"}")
    assert error.code in ("integer_above_max_value", "invalid_request")  # beyond some length it is no JSON either
    assert len(error.message) < 300


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": [{"type": "x" * 100_000}]}] * 50},
        {"messages": [5] * 12_000},
        {"messages": HELLO, "temperature": "x" * 100_000, "n": "y" * 100_000, "seed": "z" * 100_000},
        {"messages": HELLO, "logit_bias": {"x" * 50_000 + str(i): "a" for i in range(40)}},
    ],
)
def test_a_refusal_stays_small_and_speaks_no_python(body: Any) -> None:
    text = json.dumps(refusal(body).body())
    assert len(text) < 8000
    for word in ("pydantic", "Pydantic", "http", "Traceback", "list[", "dict", "NoneType"):
        assert word not in text


def test_a_whole_number_with_a_decimal_point_is_an_integer() -> None:
    body, _ = parse_body(
        b'{"messages": [{"role": "user", "content": "a"}], "n": 2.0, "seed": 1e3}', ChatCompletionRequest
    )
    assert (body.n, body.seed) == (2, 1000)


@pytest.mark.parametrize("prompt", [["a"] * 1025, [[5]] * 1025])
def test_of_too_many_prompts_it_is_their_number_that_is_told(prompt: list[Any]) -> None:
    error = refusal({"prompt": prompt}, CompletionRequest)
    assert (error.code, error.param) == ("array_above_max_length", "prompt")
    assert error.message == "prompt must have at most 1024 entries, not an array of 1025"


def test_a_wrong_token_in_a_long_prompt_is_told_by_its_place() -> None:
    error = refusal({"prompt": [5] * 1500 + ["a"]}, CompletionRequest)
    assert (error.code, error.param) == ("invalid_type", "prompt.1500")


class Page(ApiModel):
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None
    stream: bool = False
    include: Annotated[list[str], Field(default_factory=list)]


@pytest.mark.parametrize(
    ("raw", "sent", "ignored"),
    [
        ("", {}, []),
        ("limit=5&order=asc", {"limit": 5, "order": "asc"}, []),
        ("after=12&stream=true", {"after": "12", "stream": True}, []),
        ("include[]=a&include%5B%5D=b&include=c", {"include": ["a", "b", "c"]}, []),
        ("limit=1&limit=2", {"limit": 2}, []),
        ("limt=5&after=", {"after": ""}, ["limt"]),
        ("after=a%20b%2Fc+d", {"after": "a b/c d"}, []),
    ],
)
def test_a_query_is_read_by_the_types_of_its_fields(raw: str, sent: dict[str, Any], ignored: list[str]) -> None:
    query, unknown = parse_query(raw.encode(), Page)
    assert query.model_dump(exclude_unset=True) == sent
    assert unknown == ignored


@pytest.mark.parametrize(
    ("raw", "param", "code"),
    [
        ("limit=0", "limit", "integer_below_min_value"),
        ("limit=101", "limit", "integer_above_max_value"),
        ("limit=many", "limit", "invalid_type"),
        ("limit=1e2", "limit", "invalid_type"),
        ("stream=1", "stream", "invalid_type"),
        ("stream=yes", "stream", "invalid_type"),
        ("order=up", "order", "invalid_value"),
    ],
)
def test_a_wrong_query_names_the_parameter(raw: str, param: str, code: str) -> None:
    with pytest.raises(ApiError) as refused:
        parse_query(raw.encode(), Page)
    assert (refused.value.status, refused.value.param, refused.value.code) == (400, param, code)
