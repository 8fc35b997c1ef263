"""The client with a real engine process over the shipped demo model."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from safetensors.torch import load_file, save

from specserve.engine.api import FinishReason, GenerationOutput, GenerationRequest
from specserve.engine.client import EngineClient
from specserve.engine.config import CacheConfig, EngineConfig, ModelConfig, SchedulerConfig
from specserve.engine.errors import (
    EngineDeadError,
    InvalidParameterError,
    ModelLoadError,
    OverloadedError,
    PromptTooLongError,
    RequestError,
    TokenOutOfVocabularyError,
)
from specserve.engine.generation import Silence
from specserve.engine.link import CRASHED, HUNG
from specserve.engine.messages import Add, Command
from specserve.engine.params import SamplingParams
from specserve.engine.prompt_embeds import decode_prompt_embeds, placeholder_ids
from specserve.handlers.demo import checkpoint_path

QUESTION = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
ANSWER = "The capital of France is Paris."

pytestmark = pytest.mark.asyncio(loop_scope="module")


def config(**changes: object) -> EngineConfig:
    sections: dict[str, object] = {
        "model": ModelConfig(path=str(checkpoint_path()), max_model_len=512),
        "cache": CacheConfig(num_blocks=200),
        "scheduler": SchedulerConfig(max_num_seqs=8, max_num_queued=4),
        "num_threads": 2,
        "enable_prompt_embeds": True,
    }
    return EngineConfig(**(sections | changes))  # type: ignore[arg-type]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client() -> AsyncIterator[EngineClient]:
    started = EngineClient(config())
    await started.start()
    yield started
    await started.stop()


def ask(client: EngineClient, request_id: str, prompt: str = QUESTION, **params: object) -> GenerationRequest:
    ids = client.tokenizer.encode(prompt, add_special_tokens=False)
    given = {"max_tokens": 40, "temperature": 0.0} | params
    return GenerationRequest(
        request_id=request_id,
        prompt_token_ids=ids,
        params=SamplingParams(**given),  # type: ignore[arg-type]
    )


def endless(client: EngineClient, request_id: str) -> GenerationRequest:
    return ask(client, request_id, max_tokens=400, ignore_eos=True)


async def outputs(client: EngineClient, request: GenerationRequest) -> list[GenerationOutput]:
    return [output async for output in client.generate(request)]


async def read_on(stream: AsyncIterator[GenerationOutput]) -> None:
    async for _ in stream:
        pass


async def idle(client: EngineClient) -> None:
    """Wait until the engine reports no used block, for at most two seconds."""
    for _ in range(200):
        if client.stats().num_used_blocks == 0 and client.stats().num_running == 0:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"blocks are still held: {client.stats()}")


async def test_text_deltas_build_the_answer_and_the_last_has_the_reason(client: EngineClient) -> None:
    found = await outputs(client, ask(client, "whole"))
    assert "".join(output.text for output in found) == ANSWER
    assert [output.finish_reason for output in found] == [None] * (len(found) - 1) + [FinishReason.STOP]


async def test_a_stop_string_ends_the_request_in_the_engine_too(client: EngineClient) -> None:
    found = await outputs(client, ask(client, "stopped", stop=("France is",)))
    assert "".join(output.text for output in found) == "The capital of "
    assert (found[-1].finish_reason, found[-1].stop_reason) == (FinishReason.STOP, "France is")
    await idle(client)


async def test_prompt_logprobs_cross_the_border_for_every_sibling(client: EngineClient) -> None:
    request = ask(client, "prompt", prompt_logprobs=2, max_tokens=3)
    requests = [replace(request, request_id=f"p-{at}", parent_id="p", index=at) for at in range(3)]
    streams = [client.generate(one) for one in requests]
    found = [[output async for output in stream] for stream in streams]
    first, *others = [answer[0].prompt_logprobs for answer in found]
    assert first is not None
    assert [token and token.sampled.token_id for token in first] == [None, *request.prompt_token_ids[1:]]
    assert all(token is None or len(token.top) == 2 for token in first)
    assert others == [first, first]
    assert all(output.prompt_logprobs is None for answer in found for output in answer[1:])
    await idle(client)


async def test_a_prompt_without_an_answer_is_one_output(client: EngineClient) -> None:
    (found,) = await outputs(client, ask(client, "only the prompt", max_tokens=0, prompt_logprobs=0))
    assert (found.text, found.token_ids, found.finish_reason) == ("", (), FinishReason.LENGTH)
    assert found.prompt_logprobs is not None
    assert len(found.prompt_logprobs) == found.num_prompt_tokens
    await idle(client)


async def test_embeddings_of_a_question_are_answered_like_its_tokens(client: EngineClient) -> None:
    question = ask(client, "tokens")
    (table,) = (
        tensor
        for file in checkpoint_path().glob("*.safetensors")
        for name, tensor in load_file(file).items()
        if name.endswith("embed_tokens.weight")
    )
    encoded = base64.b64encode(save({"prompt": table[list(question.prompt_token_ids)]})).decode()
    data = decode_prompt_embeds(encoded, client.model)
    embedded = replace(question, prompt_embeds=data, prompt_token_ids=placeholder_ids(data))
    streams = [client.generate(replace(embedded, request_id=f"rows-{at}")) for at in range(3)]
    for stream in streams:
        found = [output async for output in stream]
        assert "".join(output.text for output in found) == ANSWER
        assert found[0].num_prompt_tokens == len(question.prompt_token_ids)
    with pytest.raises(InvalidParameterError, match="prompt_logprobs"):
        client.generate(replace(embedded, params=SamplingParams(max_tokens=1, prompt_logprobs=1)))


async def test_requests_in_one_batch_answer_as_they_do_alone(client: EngineClient) -> None:
    prompts = [QUESTION, QUESTION.replace("France", "Italy"), QUESTION.replace("France", "Spain")]
    alone = [await outputs(client, ask(client, f"alone-{i}", prompt)) for i, prompt in enumerate(prompts)]
    together = await asyncio.gather(
        *(outputs(client, ask(client, f"together-{i}", prompt)) for i, prompt in enumerate(prompts))
    )
    text = [["".join(o.text for o in found) for found in way] for way in (alone, together)]
    assert text[0] == text[1]


async def test_closing_the_stream_frees_its_blocks(client: EngineClient) -> None:
    async with aclosing(client.generate(endless(client, "left"))) as stream:
        await anext(stream)
    assert client.num_open == 0
    steps = client.stats().num_steps
    await idle(client)
    assert client.stats().num_steps - steps <= 2


async def test_a_stream_that_is_closed_before_it_began_frees_its_blocks(client: EngineClient) -> None:
    stream = client.generate(endless(client, "never-read"))
    await asyncio.sleep(0.05)
    await stream.aclose()
    await idle(client)
    unsent = client.generate(endless(client, "never-sent"))
    await unsent.aclose()
    await idle(client)


async def test_what_can_never_run_is_refused_at_the_call(client: EngineClient) -> None:
    params = SamplingParams(max_tokens=1)
    with pytest.raises(PromptTooLongError, match="512"):
        client.generate(GenerationRequest(request_id="long", prompt_token_ids=[5] * 512, params=params))
    with pytest.raises(TokenOutOfVocabularyError, match="999999"):
        client.generate(GenerationRequest(request_id="alien", prompt_token_ids=[5, 999999], params=params))


async def test_a_full_queue_refuses_with_a_hint(client: EngineClient) -> None:
    streams = [client.generate(endless(client, f"full-{i}")) for i in range(12)]
    with pytest.raises(OverloadedError, match="limit is 4") as refusal:
        client.generate(endless(client, "one-too-many"))
    assert refusal.value.retry_after_s > 0
    for stream in streams:
        await stream.aclose()
    await idle(client)


async def test_a_paused_engine_goes_on_where_it_was(client: EngineClient) -> None:
    assert client.process_id is not None
    async with aclosing(client.generate(ask(client, "paused"))) as stream:
        text = (await anext(stream)).text
        os.kill(client.process_id, signal.SIGSTOP)
        await asyncio.sleep(0.3)
        os.kill(client.process_id, signal.SIGCONT)
        text += "".join([output.text async for output in stream])
    assert text == ANSWER


async def test_a_killed_engine_fails_open_requests_and_health() -> None:
    client = EngineClient(config())
    await client.start()
    client.check_health()
    stream = client.generate(endless(client, "doomed"))
    await anext(stream)
    assert client.process_id is not None
    os.kill(client.process_id, signal.SIGKILL)
    with pytest.raises(EngineDeadError, match="SIGKILL"):
        await read_on(stream)
    assert await asyncio.wait_for(client.wait_dead(), 2) == CRASHED
    with pytest.raises(EngineDeadError, match="SIGKILL"):
        client.check_health()
    with pytest.raises(EngineDeadError):
        client.generate(endless(client, "too-late"))
    await client.stop()


async def test_a_hung_engine_is_ended_by_the_watchdog() -> None:
    client = EngineClient(config(watchdog_s=1.0))
    await client.start()
    stream = client.generate(endless(client, "hanging"))
    await anext(stream)
    assert client.process_id is not None
    os.kill(client.process_id, signal.SIGSTOP)
    with pytest.raises(EngineDeadError, match="no progress"):
        await read_on(stream)
    assert await asyncio.wait_for(client.wait_dead(), 2) == HUNG
    await client.stop()


async def test_a_bad_model_path_is_a_load_error_with_a_way_out(tmp_path: Path) -> None:
    client = EngineClient(EngineConfig(model=ModelConfig(path=str(tmp_path))))
    with pytest.raises(ModelLoadError) as error:
        await client.start()
    assert str(tmp_path) in error.value.cause
    assert error.value.remedy


async def test_the_hint_of_a_full_queue_is_the_recent_time_per_request(client: EngineClient) -> None:
    client._finished_at.clear()
    client._finished_at.extend([100.0, 104.0, 108.0])
    streams = [client.generate(endless(client, f"slow-{i}")) for i in range(12)]
    with pytest.raises(OverloadedError) as refusal:
        client.generate(endless(client, "not-now"))
    assert refusal.value.retry_after_s == 4.0
    for stream in streams:
        await stream.aclose()
    await idle(client)


async def test_requests_of_one_turn_of_the_loop_travel_in_one_message(
    client: EngineClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Command] = []
    send = client._send

    def note(command: Command) -> None:
        sent.append(command)
        send(command)

    monkeypatch.setattr(client, "_send", note)
    siblings = [replace(ask(client, f"sibling-{i}"), parent_id="p", index=i) for i in range(3)]
    texts = await asyncio.gather(*(outputs(client, sibling) for sibling in siblings))
    assert [len(command.requests) for command in sent if isinstance(command, Add)] == [3]
    assert {"".join(output.text for output in found) for found in texts} == {ANSWER}


async def test_a_used_request_id_is_refused(client: EngineClient) -> None:
    stream = client.generate(endless(client, "twice"))
    with pytest.raises(RequestError, match="twice"):
        client.generate(endless(client, "twice"))
    await stream.aclose()
    await idle(client)


async def test_an_aborted_answer_leaves_its_batch_mates_alone(client: EngineClient) -> None:
    leaver = client.generate(endless(client, "leaver"))
    stayer = asyncio.create_task(outputs(client, ask(client, "stayer")))
    await anext(leaver)
    await leaver.aclose()
    assert "".join(output.text for output in await stayer) == ANSWER


async def test_stopping_ends_open_requests_with_the_reason() -> None:
    client = EngineClient(config())
    await client.start()
    stream = client.generate(endless(client, "cut"))
    await anext(stream)
    await client.stop("closing time")
    with pytest.raises(EngineDeadError, match="closing time"):
        await read_on(stream)
    await client.stop()


async def test_time_in_which_this_process_was_suspended_is_not_the_engines_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr("specserve.engine.generation.time.monotonic", lambda: now)
    silence = Silence()
    for _ in range(3):
        now += 1.0
        silence.tick()
    assert silence.seconds == 3.0
    now += 600.0
    silence.tick()
    assert silence.seconds == 5.0
    silence.end()
    assert silence.seconds == 0.0
