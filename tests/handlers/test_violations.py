"""The place that is wrong is the one that is named: every example of the contract is spoiled in every place."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specserve.generated import document, schemas
from specserve.generated.base import ApiModel
from specserve.generated.errors import ApiError, BadRequest
from specserve.generated.operations import OPERATIONS
from specserve.handlers.envelopes import error_bytes
from specserve.handlers.wire import parse_body

Path = tuple[str | int, ...]
WRONG: list[Any] = [{"no such": "thing"}, [[["deep"]]], -1e300, "\u2603 no such value", None, True, -(2**70)]
PATHS = json.loads(document())["paths"]


def examples() -> Iterator[Any]:
    """(schema, valid body) for every example in the contract; together they show every field."""
    for operation in OPERATIONS.values():
        if operation.body is not None:
            content = PATHS[operation.path][operation.method.lower()]["requestBody"]["content"]["application/json"]
            for name, example in content["examples"].items():
                yield pytest.param(operation.body, example["value"], id=f"{operation.id}-{name}")


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """The way to every value within."""
    if path:
        yield path
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in entries:
        yield from places(item, (*path, key))


def holder(body: Any, path: Path) -> Any:
    for step in path[:-1]:
        body = body[step]
    return body


def refusal(body: Any, schema: type[ApiModel]) -> ApiError | None:
    try:
        parse_body(json.dumps(body).encode(), schema)
    except ApiError as error:
        return error
    return None


def is_within(param: str | None, path: Path) -> bool:
    place = ".".join(str(step) for step in path)
    return param is not None and (param == place or param.startswith(f"{place}."))


def is_optional_tag(path: Path, body: Any, schema: type[ApiModel]) -> bool:
    """Whether `path` is the tag of an entry that has one, in a list whose entries may leave it out."""
    return path[-1] == "type" and path[:1] in OPTIONAL_TAGS.get(schema, ()) and isinstance(path[1], int)


OPTIONAL_TAGS: dict[type[ApiModel], tuple[Path, ...]] = {
    schemas.MessagesRequest: (("tools",),),
    schemas.ResponseRequest: (("input",),),
}
"""Lists with one kind of entry that needs no `type`: a tool of the client's own, and a plain message."""
UNIONS_OF_LISTS = (("prompt",), ("input",))
"""Fields that take a text, token ids, or a list of either."""
QUOTED = re.compile(r"'\w+'")
"""A value of the contract, such as 'float'."""
PYTHON = re.compile(r"\b(NoneType|dict|list\[|str|int|bool|float|pydantic|\w+Error|0x\w+)\b|<class")


@pytest.mark.parametrize(("schema", "body"), list(examples()))
def test_a_wrong_value_anywhere_is_named_by_its_place(schema: type[ApiModel], body: Any) -> None:
    for path in places(body):
        for wrong in WRONG:
            spoiled = copy.deepcopy(body)
            holder(spoiled, path)[path[-1]] = wrong
            error = refusal(spoiled, schema)
            if error is None:
                continue  # the field takes this as well
            if path[:1] in UNIONS_OF_LISTS and path[1:2] == (0,) and not isinstance(body[path[0]][0], dict):
                path = path[:1]  # the first entry says what a list of prompts was meant to be, so another one is wrong
            if is_optional_tag(path, body, schema):
                path = path[:-1]  # the entry is read as the kind that needs no tag, and lacks what that needs
            assert is_within(error.param, path), (path, wrong, error.param)
            assert not PYTHON.search(QUOTED.sub("", error.message)), error.message
            assert " or " not in error.message or is_choice(error), error.message


def is_choice(error: ApiError) -> bool:
    """Shapes are told together only where the value has none of them: not where one of them was meant."""
    return error.code == "invalid_type" or "must be one of" in error.message or "' or '" in error.message


@pytest.mark.parametrize(("schema", "body"), list(examples()))
def test_a_missing_field_anywhere_is_named_by_its_place(schema: type[ApiModel], body: Any) -> None:
    for path in places(body):
        if isinstance(path[-1], int):
            continue
        spoiled = copy.deepcopy(body)
        del holder(spoiled, path)[path[-1]]
        error = refusal(spoiled, schema)
        if error is not None and is_optional_tag(path, body, schema):
            assert is_within(error.param, path[:-1]), (path, error.param)
        elif error is not None:
            assert (error.param, error.code) == (".".join(map(str, path)), "missing_required_parameter")


def test_a_tag_that_is_also_a_key_does_not_hide_the_place() -> None:
    """A call of type function has a key function; the validator names the branch the same."""
    call = {"id": 5, "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [call]}]
    error = refusal({"messages": messages}, schemas.ChatCompletionRequest)
    assert error is not None
    assert error.param == "messages.1.tool_calls.0.id"
    assert error.message == "messages.1.tool_calls.0.id must be a string, not 5"


HOSTILE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.just("\U0001f468\u200d" * 20_000),
    lambda inner: (
        st.lists(inner, max_size=40) | st.dictionaries(st.text(max_size=8) | st.just("k" * 9000), inner, max_size=8)
    ),
    max_leaves=30,
)
FIELDS = {
    schema: st.dictionaries(st.sampled_from(sorted(schema.model_fields)), HOSTILE, min_size=1, max_size=12)
    for schema in (schemas.ChatCompletionRequest, schemas.CompletionRequest)
}


@pytest.mark.parametrize("schema", FIELDS)
def test_no_body_makes_an_answer_large_or_chatty(schema: type[ApiModel]) -> None:
    @settings(max_examples=300, deadline=None)
    @given(FIELDS[schema])
    def refuse(body: dict[str, Any]) -> None:
        error = refusal(body, schema)
        if error is not None:
            assert isinstance(error, BadRequest)
            assert len(error_bytes(error)) < 8192
            assert error.param is None or len(error.param) <= 200
            quoted = json.dumps(body, ensure_ascii=False)
            assert all(found[0] in quoted for found in PYTHON.finditer(error.message))

    refuse()
