"""instructor: typed answers through calls, JSON and JSON Schema, with another try when they are not valid."""

from __future__ import annotations

import json
from collections.abc import Iterator

import instructor
import pytest
from demo_server import KEY, MODEL
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel, field_validator
from scripted_model import ScriptedServer, call, reciting

ANNA = {"name": "Anna", "age": 31}
TYPED = [json.dumps(ANNA), *call("Person", **ANNA), *call("PartialPerson", **ANNA)]
SHOUTED = {"name": "ANNA", "age": 31}
ASK = [{"role": "user", "content": "Who is it?"}]


class Person(BaseModel):
    name: str
    age: int


class Shouted(Person):
    @field_validator("name")
    @classmethod
    def is_loud(cls, name: str) -> str:
        if not name.isupper():
            raise ValueError("the name has to be in capitals")
        return name


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedServer]:
    loud = [json.dumps(SHOUTED), *call("Shouted", **SHOUTED)]
    with reciting(
        [
            ("in capitals", loud),
            ("<tool_response>", loud),
            ("Shout it", [json.dumps(ANNA), *call("Shouted", **ANNA)]),
            ("Who is it?", TYPED),
        ]
    ) as started:
        yield started


MODES = [instructor.Mode.TOOLS, instructor.Mode.JSON, instructor.Mode.JSON_SCHEMA]


@pytest.mark.parametrize("mode", MODES, ids=[mode.name for mode in MODES])
class TestMode:
    def client(self, server: ScriptedServer, mode: instructor.Mode) -> instructor.Instructor:
        return instructor.from_openai(OpenAI(base_url=server.base_url, api_key=KEY, max_retries=0), mode=mode)

    def test_an_answer_has_the_asked_type(self, server: ScriptedServer, mode: instructor.Mode) -> None:
        found = self.client(server, mode).create(model=MODEL, messages=ASK, response_model=Person)
        assert found.model_dump() == ANNA

    async def test_so_it_has_over_the_asynchronous_client(self, server: ScriptedServer, mode: instructor.Mode) -> None:
        client = instructor.from_openai(AsyncOpenAI(base_url=server.base_url, api_key=KEY, max_retries=0), mode=mode)
        assert (await client.create(model=MODEL, messages=ASK, response_model=Person)).model_dump() == ANNA

    def test_what_grows_in_a_stream_ends_as_the_whole(self, server: ScriptedServer, mode: instructor.Mode) -> None:
        growing = list(self.client(server, mode).create_partial(model=MODEL, messages=ASK, response_model=Person))
        assert growing[-1].model_dump() == ANNA
        assert len(growing) > 2

    def test_what_its_validator_refuses_is_asked_again(self, server: ScriptedServer, mode: instructor.Mode) -> None:
        before = len(server.engine.requests)
        found = self.client(server, mode).create(
            model=MODEL, messages=[{"role": "user", "content": "Shout it"}], response_model=Shouted, max_retries=2
        )
        assert found.model_dump() == SHOUTED
        assert len(server.engine.requests) == before + 2
