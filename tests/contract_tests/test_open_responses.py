"""The acceptance checks of Open Responses pass with the demo model, and each of them can fail."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from running_server import serving

from contract_tests.open_responses import CHECKS, Target, calls, completed, run
from contract_tests.open_responses_shapes import EVENTS, RESPONSE

KEY = "a-key"


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    with serving("--api-key", KEY) as server:
        server.wait_ready()
        yield Target(f"http://127.0.0.1:{server.port}/v1", KEY, "specserve-demo")


@pytest.fixture(scope="module")
def found(target: Target) -> dict[str, list[str]]:
    return run(target)


@pytest.mark.parametrize("name", CHECKS)
def test_the_server_passes(found: dict[str, list[str]], name: str) -> None:
    assert found[name] == []


def test_a_named_function_is_called_with_what_was_asked_for(target: Target) -> None:
    """The demo model has answers to the suite's questions, not only outputs."""
    response = target.answer(
        input="Use the weather tool to get the temperature in Paris.",
        tools=[
            {
                "type": "function",
                "name": "get_weather",
                "parameters": {"type": "object", "properties": {"location": {"type": "string"}}},
            }
        ],
        tool_choice={"type": "function", "name": "get_weather"},
    )
    [call] = calls(response)
    assert call["arguments"] == '{"location": "Paris"}'
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "11 degrees and rainy"}
    second = target.answer(previous_response_id=response["id"], input=[result])
    assert second["output"][0]["content"][0]["text"] == "It is 11 degrees and rainy in Paris."


def test_every_key_that_is_missing_or_of_the_wrong_type_is_seen(target: Target) -> None:
    response = target.answer(input="hello")
    for key in RESPONSE["required"]:
        without = {name: value for name, value in response.items() if name != key}
        assert list(target.problems_of("Response", without)), key
        if RESPONSE["properties"][key]:
            assert list(target.problems_of("Response", {**response, key: {"wrong": 1}})), key


def test_every_event_that_lacks_a_key_is_seen(target: Target) -> None:
    events = target.stream(input=[{"role": "user", "content": "hello"}])
    assert {event["type"] for event in events} <= EVENTS.keys()
    for event in events:
        for key in EVENTS[event["type"]]["required"]:
            spoiled = copy.deepcopy(event)
            del spoiled[key]
            assert list(target.problems_of("ResponseStreamEvent", spoiled)), (event["type"], key)


@pytest.mark.parametrize("response", [{"output": [], "status": "completed"}, {"output": [{}], "status": "incomplete"}])
def test_an_answer_without_output_or_that_is_not_complete_is_seen(response: dict[str, Any]) -> None:
    assert list(completed(response))
