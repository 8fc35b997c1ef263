"""LangChain's own standard tests of chat models, over both of OpenAI's APIs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from demo_server import ALIAS, KEY, MODEL
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests
from scripted_model import Script, ScriptedServer, call, reciting

# The client keeps its asynchronous connections for the whole file, and they belong to an event loop.
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.filterwarnings("ignore:The test .* is marked")]

THOUGHT = "The user greets me."
JOKE = {"setup": "Why did the cat cross the road?", "punchline": "It was the chicken's day off."}
SCRIPT: Script = [
    ("<tool_response>", ["That makes 3."]),
    ("magic_function_no_args()", call("magic_function_no_args")),
    ("magic_function(3)", call("magic_function", input=3)),
    ("Pirate greeting", call("greeting_generator", answer_style="pirate")),
    ("你好啊集团", call("unicode_customer", customer_name="你好啊集团", description="A technology company")),
    ("こんにちは", call("unicode_customer", customer_name="こんにちは株式会社", description="A company")),
    ("What is 3 + 4", call("my_adder_tool", a=3, b=4)),
    ("weather in San Francisco", call("get_weather", location="San Francisco, CA")),
    ("joke about cats", [json.dumps(JOKE), *call("Joke", **JOKE)]),
    ("<think>", [f"{THOUGHT}\n</think>\n\nHello!"]),
    ("Hello!", call("magic_function", input=1)),
]


@pytest.fixture(scope="module")
def scripted() -> Iterator[ScriptedServer]:
    with reciting(SCRIPT) as server:
        server.engine.num_cached = lambda request: len(request.prompt_token_ids) - 1
        yield server


class Standard(ChatModelIntegrationTests):
    """What the server can is said through the suite's own properties; images, audio and files are off by default."""

    @pytest.fixture(autouse=True)
    def _server(self, scripted: ScriptedServer) -> None:
        self.base_url = scripted.base_url

    @property
    def chat_model_class(self) -> type[ChatOpenAI]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        # Replies name the model by its first name, so the alias is overridden by that and not the other way round.
        return {"model": ALIAS, "base_url": self.base_url, "api_key": KEY, "stream_usage": True}

    @property
    def model_override_value(self) -> str:
        return MODEL

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True

    @property
    def supported_usage_metadata_details(self) -> Any:
        return {key: ["reasoning_output", "cache_read_input"] for key in ("invoke", "stream")}

    def ask(self, stream: bool, **options: Any) -> AIMessage:
        model = self.chat_model_class(**self.chat_model_params, **options)
        if not stream:
            answer = model.invoke("Hello")
            assert isinstance(answer, AIMessage)
            return answer
        pieces = [piece for piece in model.stream("Hello") if isinstance(piece, AIMessageChunk)]
        return sum(pieces[1:], pieces[0])

    def invoke_with_reasoning_output(self, *, stream: bool = False) -> AIMessage:
        answer = self.ask(stream, extra_body={"chat_template_kwargs": {"enable_thinking": True}})
        assert answer.usage_metadata is not None
        assert answer.usage_metadata["output_token_details"]["reasoning"] > 0
        assert answer.text.strip() == "Hello!"
        return answer

    def invoke_with_cache_read_input(self, *, stream: bool = False) -> AIMessage:
        answer = self.ask(stream)
        assert answer.usage_metadata is not None
        assert answer.usage_metadata["input_token_details"]["cache_read"] == answer.usage_metadata["input_tokens"] - 1
        return answer


class TestChatCompletions(Standard):
    """`POST /v1/chat/completions`."""


class TestResponses(Standard):
    """`POST /v1/responses`."""

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {**super().chat_model_params, "use_responses_api": True}
