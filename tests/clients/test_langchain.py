"""LangChain's own standard tests of chat models, over both of OpenAI's APIs."""

from __future__ import annotations

from typing import Any

import pytest
from demo_server import ALIAS, KEY, MODEL, Server
from langchain_core.messages import AIMessage
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests

LONG_PROMPT = "one two three four five six seven eight nine ten " * 10


class Standard(ChatModelIntegrationTests):
    """What the server can is said through the suite's own properties; images, audio and files are off by default."""

    @pytest.fixture(autouse=True)
    def _server(self, demo: Server) -> None:
        self.base_url = demo.base_url

    @property
    def chat_model_class(self) -> type[ChatOpenAI]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": MODEL, "base_url": self.base_url, "api_key": KEY}

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True

    @property
    def supports_model_override(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return ALIAS

    @property
    def supported_usage_metadata_details(self) -> Any:
        return {"invoke": ["reasoning_output", "cache_read_input"], "stream": ["reasoning_output", "cache_read_input"]}


class TestChatCompletions(Standard):
    """`POST /v1/chat/completions`."""

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {**super().chat_model_params, "stream_usage": True}


class TestResponses(Standard):
    """`POST /v1/responses`."""

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {**super().chat_model_params, "use_responses_api": True}
