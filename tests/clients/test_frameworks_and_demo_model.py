"""Each framework once against the server as users start it: a real engine, real grammars, the demo model."""

from __future__ import annotations

import json
from typing import Any

import instructor
import litellm
import pytest
from demo_server import KEY, MODEL, Server
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from openai import OpenAI
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

BOSTON = "What's the weather in Boston?"


class Person(BaseModel):
    name: str
    age: int


@tool
def get_weather(location: str) -> str:
    """The weather at a place"""
    return json.dumps({"temperature": 21, "sky": "sunny"})


def test_langchain_takes_the_demo_model_through_a_call_and_its_result(demo: Server) -> None:
    for uses_responses in (False, True):
        model = ChatOpenAI(
            model=MODEL, base_url=demo.base_url, api_key=KEY, temperature=0, use_responses_api=uses_responses
        )
        called = model.bind_tools([get_weather]).invoke(BOSTON)
        (made,) = called.tool_calls
        assert (made["name"], made["args"]) == ("get_weather", {"location": "Boston"})
        answer = model.bind_tools([get_weather]).invoke([("user", BOSTON), called, get_weather.invoke(made)])
        assert "Boston" in answer.text


@pytest.mark.parametrize("kind", [OpenAIChatModel, OpenAIResponsesModel])
async def test_pydantic_ai_takes_the_demo_model_through_its_loop(demo: Server, kind: Any) -> None:
    model = kind(MODEL, provider=OpenAIProvider(base_url=demo.base_url, api_key=KEY))
    agent = Agent(model, model_settings={"temperature": 0})
    asked = []

    @agent.tool_plain(name="get_weather")
    def weather(location: str) -> str:
        """The weather at a place"""
        asked.append(location)
        return '{"temperature": 21, "sky": "sunny"}'

    assert "Boston" in (await agent.run(BOSTON)).output
    assert asked == ["Boston"]
    typed = Agent(model, output_type=NativeOutput(Person), model_settings={"temperature": 0})
    assert (await typed.run("Invent a person.")).output.name


def test_instructor_gets_typed_answers_of_the_demo_model(demo: Server) -> None:
    ask: Any = [{"role": "user", "content": "Invent a person."}]
    for mode in (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA):
        client = instructor.from_openai(OpenAI(base_url=demo.base_url, api_key=KEY, max_retries=0), mode=mode)
        found = client.create(model=MODEL, messages=ask, response_model=Person, temperature=0, max_tokens=200)
        assert isinstance(found, Person)


def test_litellm_asks_the_demo_model_for_a_forced_call(demo: Server) -> None:
    schema = {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]}
    answer = litellm.completion(
        model=f"hosted_vllm/{MODEL}",
        api_base=demo.base_url,
        api_key=KEY,
        messages=[{"role": "user", "content": BOSTON}],
        tools=[{"type": "function", "function": {"name": "get_weather", "parameters": schema}}],
        tool_choice="required",
        temperature=0,
    )
    (made,) = answer.choices[0].message.tool_calls
    assert json.loads(made.function.arguments) == {"location": "Boston"}
