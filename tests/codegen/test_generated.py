"""The generated types take exactly what the document says, errors carry only documented codes."""

import copy
import json
import random
from collections.abc import Iterator

import jsonschema_rs
import openai.types
import openai.types.chat
import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsBase as ChatParams
from openai.types.completion_create_params import CompletionCreateParamsBase as CompletionParams
from pydantic import BaseModel, ValidationError

from specserve.generated import document, errors, operations, schemas

DOCUMENT = json.loads(document())
REQUESTS = {
    "ChatCompletionRequest": ("/v1/chat/completions", schemas.ChatCompletionRequest),
    "CompletionRequest": ("/v1/completions", schemas.CompletionRequest),
}
HELLO = {"messages": [{"role": "user", "content": "Hello."}]}


def validator(name: str) -> jsonschema_rs.Draft202012Validator:
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    return jsonschema_rs.Draft202012Validator(schema)


def examples(path: str) -> dict[str, dict]:
    content = DOCUMENT["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    return {name: example["value"] for name, example in content["examples"].items()}


def problems(model: type[BaseModel], body: object) -> list[str]:
    try:
        model.model_validate_json(json.dumps(body))
    except ValidationError as error:
        return [".".join(map(str, e["loc"])) for e in error.errors(include_url=False)]
    return []


ACCEPTED = [
    ("ChatCompletionRequest", HELLO),
    ("ChatCompletionRequest", HELLO | {"model": None, "n": None, "stop": None, "temperature": None}),
    ("ChatCompletionRequest", HELLO | {"temperature": 0, "top_p": 1, "presence_penalty": -2, "n": 16384}),
    ("ChatCompletionRequest", HELLO | {"top_logprobs": -1, "seed": -(2**63), "top_k": -1, "min_p": 1}),
    ("ChatCompletionRequest", HELLO | {"stop": [], "logit_bias": {"7": -100, "8": 0.5}}),
    ("ChatCompletionRequest", HELLO | {"stop": ["a", "b", "c", "d"], "cache_salt": "a" * 128}),
    ("ChatCompletionRequest", HELLO | {"no_such_field": {"anything": 1}}),
    (
        "ChatCompletionRequest",
        {"messages": [{"role": "user", "content": [{"type": "input_text", "text": ""}]}]},
    ),
    ("ChatCompletionRequest", {"messages": [{"role": "assistant"}]}),
    ("CompletionRequest", {"prompt": None}),
    ("CompletionRequest", {"prompt_embeds": ["QUJD"]}),
    ("CompletionRequest", {"prompt": [0, 2**31 - 1], "logprobs": -1, "max_tokens": 0, "echo": True}),
    ("CompletionRequest", {"prompt": [[1], [2, 3]], "logprobs": 2**31 - 1, "prompt_logprobs": 300}),
    ("CompletionRequest", {"prompt": ["a"] * 1024}),
]
REFUSED = [
    ("ChatCompletionRequest", {}, "messages"),
    ("ChatCompletionRequest", {"messages": []}, "messages"),
    ("ChatCompletionRequest", HELLO | {"temperature": 2.1}, "temperature"),
    ("ChatCompletionRequest", HELLO | {"temperature": "1"}, "temperature"),
    ("ChatCompletionRequest", HELLO | {"temperature": True}, "temperature"),
    ("ChatCompletionRequest", HELLO | {"top_p": 0}, "top_p"),
    ("ChatCompletionRequest", HELLO | {"n": 0}, "n"),
    ("ChatCompletionRequest", HELLO | {"n": 16385}, "n"),
    ("ChatCompletionRequest", HELLO | {"n": True}, "n"),
    ("ChatCompletionRequest", HELLO | {"n": "1"}, "n"),
    ("ChatCompletionRequest", HELLO | {"n": 1.5}, "n"),
    ("ChatCompletionRequest", HELLO | {"seed": 2**63}, "seed"),
    ("ChatCompletionRequest", HELLO | {"stream": 1}, "stream"),
    ("ChatCompletionRequest", HELLO | {"stream": "true"}, "stream"),
    ("ChatCompletionRequest", HELLO | {"stop": ["a"] * 5}, "stop"),
    ("ChatCompletionRequest", HELLO | {"stop": [""]}, "stop"),
    ("ChatCompletionRequest", HELLO | {"max_completion_tokens": 0}, "max_completion_tokens"),
    ("ChatCompletionRequest", HELLO | {"top_logprobs": -2}, "top_logprobs"),
    ("ChatCompletionRequest", HELLO | {"prompt_logprobs": -2}, "prompt_logprobs"),
    ("ChatCompletionRequest", HELLO | {"prompt_logprobs": True}, "prompt_logprobs"),
    ("ChatCompletionRequest", HELLO | {"logprob_token_ids": [1] * 129}, "logprob_token_ids"),
    ("ChatCompletionRequest", HELLO | {"bad_words": [""]}, "bad_words"),
    ("ChatCompletionRequest", HELLO | {"bad_words": ["a"] * 129}, "bad_words"),
    ("ChatCompletionRequest", HELLO | {"logit_bias": {"seven": 1}}, "logit_bias"),
    ("ChatCompletionRequest", HELLO | {"logit_bias": {"7": 101}}, "logit_bias"),
    ("ChatCompletionRequest", HELLO | {"tools": []}, "tools"),
    ("ChatCompletionRequest", HELLO | {"parallel_tool_calls": None}, "parallel_tool_calls"),
    ("ChatCompletionRequest", HELLO | {"repetition_penalty": 0}, "repetition_penalty"),
    ("ChatCompletionRequest", HELLO | {"allowed_token_ids": []}, "allowed_token_ids"),
    ("ChatCompletionRequest", HELLO | {"cache_salt": "a/b"}, "cache_salt"),
    ("ChatCompletionRequest", {"messages": [{"role": "stranger", "content": ""}]}, "messages"),
    ("ChatCompletionRequest", {"messages": [{"role": "user", "content": []}]}, "messages"),
    (
        "ChatCompletionRequest",
        {"messages": [{"role": "user", "content": [{"type": "hologram"}]}]},
        "messages",
    ),
    ("ChatCompletionRequest", {"messages": [{"role": "tool", "content": "4"}]}, "messages"),
    ("CompletionRequest", {"prompt": []}, "prompt"),
    ("CompletionRequest", {"prompt": [-1]}, "prompt"),
    ("CompletionRequest", {"prompt": [1, "a"]}, "prompt"),
    ("CompletionRequest", {"prompt": ["a"] * 1025}, "prompt"),
    ("CompletionRequest", {"prompt": "a", "logprobs": -2}, "logprobs"),
    ("CompletionRequest", {"prompt": "a", "max_tokens": -1}, "max_tokens"),
]


@pytest.mark.parametrize(("name", "body"), ACCEPTED)
def test_bodies_that_fit_the_document_are_accepted(name, body):
    assert validator(name).is_valid(body)
    assert problems(REQUESTS[name][1], body) == []


@pytest.mark.parametrize(("name", "body", "field"), REFUSED)
def test_bodies_that_do_not_fit_are_refused_with_the_field(name, body, field):
    assert not validator(name).is_valid(body)
    found = problems(REQUESTS[name][1], body)
    assert found
    assert all(place.split(".")[0] == field for place in found)


def test_a_whole_number_written_as_a_fraction_is_left_to_the_reader_of_bodies():
    """JSON has one kind of number, so 5.0 is an integer to the document. The strict type alone refuses it, by
    a kind of error that the reader recognises and answers by reading the body again."""
    body = HELLO | {"top_k": 5.0}
    assert validator("ChatCompletionRequest").is_valid(body)
    with pytest.raises(ValidationError) as refused:
        schemas.ChatCompletionRequest.model_validate_json(json.dumps(body))
    assert [(e["type"], e["input"]) for e in refused.value.errors()] == [("int_type", 5.0)]


def test_infinity_and_not_a_number_are_refused():
    for text in ("Infinity", "NaN", "1e999"):
        raw = json.dumps(HELLO | {"length_penalty": 0}).replace('"length_penalty": 0', f'"length_penalty": {text}')
        with pytest.raises(ValidationError):
            schemas.ChatCompletionRequest.model_validate_json(raw)


VALUES = [
    None, True, False, 0, -1, 1, 2, 21, 129, 16385, 2**31, 2**63, -(2**63) - 1, 0.5, 1.5, 2.5, -2.5,
    "", "x", "text", "user", "function", "5", "a\n", "\0",
    [], ["a"], [""], ["a"] * 5, [1], [[1]], [[]], [1, "a"], [None],
    {}, {"a": 1}, {"type": "text"}, {"type": "text", "text": "x"}, {"type": "none"},
    {"role": "user", "content": "x"},
]  # fmt: skip


def places(node: object, here: tuple = ()) -> Iterator[tuple]:
    if here:
        yield here
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from places(value, (*here, key))


def spoil(body: dict, fields: list[str], rng: random.Random) -> None:
    """Change one place of a body: another value, a missing key, an unknown key."""
    if rng.random() < 0.3:
        body[rng.choice(fields)] = copy.deepcopy(rng.choice(VALUES))
        return
    *path, last = rng.choice(list(places(body)) or [("unknown",)])
    for key in path:
        body = body[key]
    chance = rng.random()
    if chance < 0.2:
        body.pop(last, None) if isinstance(body, dict) else body.pop(last)
    elif chance < 0.3 and isinstance(body, dict):
        body["unknown"] = copy.deepcopy(rng.choice(VALUES))
    else:
        body[last] = copy.deepcopy(rng.choice(VALUES))


@pytest.mark.parametrize("name", REQUESTS)
def test_type_and_document_agree_on_spoiled_examples(name):
    """The validator of JSON Schema is the oracle, over several thousand changed examples."""
    path, model = REQUESTS[name]
    oracle, rng = validator(name), random.Random(7)
    bodies, fields = (
        list(examples(path).values()),
        list(DOCUMENT["components"]["schemas"][name]["properties"]),
    )
    answers = {True: 0, False: 0}
    for _ in range(5000):
        body = copy.deepcopy(rng.choice(bodies))
        for _ in range(rng.choice((1, 1, 2))):
            spoil(body, fields, rng)
        expected = oracle.is_valid(body)
        answers[expected] += 1
        assert (problems(model, body) == []) == expected, body
    assert min(answers.values()) > 500


@pytest.mark.parametrize("name", REQUESTS)
def test_every_example_is_accepted_and_every_field_has_one(name):
    path, model = REQUESTS[name]
    shown = set()
    for body in examples(path).values():
        assert problems(model, body) == []
        shown |= body.keys()
    assert shown >= DOCUMENT["components"]["schemas"][name]["properties"].keys() - {"model"}


@pytest.mark.parametrize(
    "prompt",
    [[-1] * 32_000, [0.5] * 32_000, [1] * 31_999 + ["a"], [[-1]] * 32_000, ["a"] * 32_000],
    ids=["negative", "fractions", "late text", "nested", "too many"],
)
def test_a_long_bad_prompt_is_refused_in_a_few_words(prompt):
    """One report for each branch of the union, not one for each token and branch: those take 150 ms to write."""
    raw = json.dumps({"prompt": prompt})
    with pytest.raises(ValidationError) as refused:
        schemas.CompletionRequest.model_validate_json(raw)
    assert refused.value.error_count() <= 4


def test_field_groups_are_classes_of_their_own():
    for request in (schemas.ChatCompletionRequest, schemas.CompletionRequest):
        assert issubclass(request, schemas.SamplingExtras)
        assert issubclass(request, schemas.RequestExtras)
    assert issubclass(schemas.ChatCompletionRequest, schemas.ChatTemplateExtras)


def test_reading_a_deprecated_field_warns_nobody(recwarn):
    body = schemas.ChatCompletionRequest.model_validate(HELLO | {"max_tokens": 5})
    assert body.max_tokens == 5
    assert not recwarn
    properties = DOCUMENT["components"]["schemas"]["ChatCompletionRequest"]["properties"]
    assert properties["max_tokens"]["deprecated"] is True


# ---- the standard, as the client package knows it


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("ChatCompletionRequest", ChatParams.__annotations__),
        ("CompletionRequest", CompletionParams.__annotations__),
        ("ChatCompletion", openai.types.chat.ChatCompletion.model_fields),
        ("ChatCompletionChunk", openai.types.chat.ChatCompletionChunk.model_fields),
        ("ResponseMessage", openai.types.chat.ChatCompletionMessage.model_fields),
        ("Completion", openai.types.Completion.model_fields),
        ("Usage", openai.types.CompletionUsage.model_fields),
        ("Model", openai.types.Model.model_fields),
    ],
)
def test_no_field_of_the_client_is_unknown(name, names):
    assert set(names) <= DOCUMENT["components"]["schemas"][name]["properties"].keys()


def test_replies_without_unset_fields_are_readable_for_the_client():
    reply = schemas.ChatCompletion(
        id="chatcmpl-1",
        object="chat.completion",
        created=1,
        model="demo",
        choices=[
            schemas.Choice(
                index=0,
                message=schemas.ResponseMessage(role="assistant", content="Hi.", refusal=None, reasoning="Short."),
                logprobs=None,
                finish_reason="stop",
                stop_reason=None,
            )
        ],
        usage=schemas.Usage(prompt_tokens=1, completion_tokens=1, total_tokens=2),
    )
    sent = reply.model_dump_json(exclude_unset=True)
    assert json.loads(sent)["choices"][0]["message"]["refusal"] is None
    read = openai.types.chat.ChatCompletion.model_validate_json(sent, strict=True)
    assert read.choices[0].message.content == "Hi."
    assert validator("ChatCompletion").is_valid(json.loads(sent))

    chunk = schemas.ChatCompletionChunk(
        id="chatcmpl-1",
        object="chat.completion.chunk",
        created=1,
        model="demo",
        choices=[schemas.ChunkChoice(index=0, delta=schemas.ChoiceDelta(content="Hi."), finish_reason=None)],
    )
    read = openai.types.chat.ChatCompletionChunk.model_validate_json(chunk.model_dump_json(exclude_unset=True))
    assert read.choices[0].delta.content == "Hi."


# ---- errors and operations


@pytest.mark.parametrize("code", errors.ERRORS)
def test_an_error_is_sent_in_the_documented_envelope(code):
    error = errors.ERRORS[code]("It is so.", param="model", headers={"Retry-After": "1"})
    assert error.body() == {"error": {"message": "It is so.", "type": error.type, "param": "model", "code": code}}
    assert validator("ErrorResponse").is_valid(error.body())
    assert error.headers == {"Retry-After": "1"}
    entry = DOCUMENT["x-error-codes"][code]
    documented = DOCUMENT["components"]["responses"][entry["response"]]["x-error"]
    assert (error.status, error.type) == (documented["status"], documented["type"])
    assert (entry["status"], entry["type"]) == (error.status, error.type)
    assert error.retryable is entry["retryable"]
    assert (error.names_field, error.summary) == (entry["param"], entry["summary"])
    assert code in DOCUMENT["components"]["schemas"]["ErrorBody"]["properties"]["code"]["enum"]


def test_an_error_without_a_code_cannot_be_raised():
    for family in (errors.ApiError, errors.BadRequest, errors.ServiceUnavailable):
        with pytest.raises(TypeError, match="has no code; raise one of its subclasses"):
            family("It is so.")


def test_the_table_of_operations_is_the_document():
    documented = {
        operation["operationId"]: (method.upper(), path, operation)
        for path, item in DOCUMENT["paths"].items()
        for method, operation in item.items()
    }
    assert operations.OPERATIONS.keys() == documented.keys()
    for name, operation in operations.OPERATIONS.items():
        method, path, entry = documented[name]
        assert (operation.id, operation.method, operation.path) == (name, method, path)
        assert operation.statuses == {int(status) for status in entry["responses"]}
        assert operation.refusals == set(entry.get("x-refusals", []))
        assert operation.refusals <= errors.ERRORS.keys()
        assert {errors.ERRORS[code].status for code in operation.refusals} <= operation.statuses
        assert operation.protocol is operations.APIS[operation.tag]
        assert name in operation.protocol.__abstractmethods__
    chat = operations.OPERATIONS["create_chat_completion"]
    assert chat.body is schemas.ChatCompletionRequest
    assert chat.events
    assert chat.end_mark
    assert operations.OPERATIONS["retrieve_model"].path_params == ("model",)
    assert operations.OPERATIONS["show_health"].empty
