"""pydantic-ai's agents over both of OpenAI's APIs: answers, typed answers, and loops of calls."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

import pytest
from demo_server import KEY, MODEL
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, PromptedOutput, ToolOutput
from pydantic_ai.messages import ModelResponse, ToolCallPart, ToolReturnPart
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from scripted_model import ScriptedServer, call, reciting

PARIS = "The capital of France is Paris."
ANNA = {"name": "Anna", "age": 31}
SUNNY = "It is sunny in Boston and rainy in Paris."
KINDS = [OpenAIChatModel, OpenAIResponsesModel]
Model = OpenAIChatModel | OpenAIResponsesModel


class Person(BaseModel):
    name: str
    age: int


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedServer]:
    two = "\n".join(call("get_weather", city=city)[0] for city in ("Boston", "Paris"))
    with reciting(
        [
            ("<tool_response>", [SUNNY]),
            ("Boston and Paris", [two]),
            ("Who is it?", [json.dumps(ANNA), *call("final_result", **ANNA)]),
        ]
    ) as started:
        yield started


@pytest.fixture(params=KINDS, ids=[kind.__name__ for kind in KINDS])
def model(request: pytest.FixtureRequest, server: ScriptedServer) -> Model:
    made: Model = request.param(MODEL, provider=OpenAIProvider(base_url=server.base_url, api_key=KEY))
    return made


async def test_an_agent_answers_and_counts(model: Model) -> None:
    result = await Agent(model).run("What is the capital of France?")
    assert result.output == PARIS
    assert result.usage.input_tokens > 0
    assert result.usage.output_tokens > 0
    last = result.all_messages()[-1]
    assert isinstance(last, ModelResponse)
    assert last.finish_reason == "stop"


async def test_a_stream_grows_to_the_answer(model: Model) -> None:
    async with Agent(model).run_stream("What is the capital of France?") as stream:
        grown = [text async for text in stream.stream_text(debounce_by=None)]
    assert grown[-1] == PARIS
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(grown))


@pytest.mark.parametrize("form", [ToolOutput, NativeOutput, PromptedOutput])
async def test_an_answer_has_the_asked_type(model: Model, form: type) -> None:
    agent = Agent(model, output_type=form(Person))
    assert (await agent.run("Who is it?")).output == Person(**ANNA)
    async with agent.run_stream("Who is it?") as stream:
        assert await stream.get_output() == Person(**ANNA)


@pytest.mark.parametrize("streams", [False, True])
async def test_a_loop_of_parallel_calls_ends_in_an_answer(model: Model, streams: bool) -> None:
    agent = Agent(model)
    asked = []

    @agent.tool_plain
    def get_weather(city: str) -> str:
        """The weather of a city."""
        asked.append(city)
        return "sunny" if city == "Boston" else "rainy"

    if streams:
        async with agent.run_stream("How is the weather in Boston and Paris?") as stream:
            output = await stream.get_output()
            messages = stream.all_messages()
    else:
        result = await agent.run("How is the weather in Boston and Paris?")
        output, messages = result.output, result.all_messages()
    assert output == SUNNY
    assert sorted(asked) == ["Boston", "Paris"]
    parts = [part for message in messages for part in message.parts]
    made = [part.tool_call_id for part in parts if isinstance(part, ToolCallPart)]
    answered = [part.tool_call_id for part in parts if isinstance(part, ToolReturnPart)]
    assert len(set(made)) == 2
    assert sorted(made) == sorted(answered)
