"""What HTTP and the protocol cost the API process, on one thread, without sockets and without a model.

    taskset -c 0,1 python -m benchmarks.protocol [--quick] [--out] [--tokenizer FOLDER]

whole    one chat request of ten messages and three tools, answered at once with 16 tokens: from the ASGI call until
         the application returns. All the API process does is counted: routing, validation, template, tokenizer,
         the frames to and from the engine process, detokenization, the reply's JSON, the access log. `new`: no text
         was seen before; `next turn`: only the last message is new. Below each are its three large parts, and what
         is left of each run without template and tokenizer. `fake engine`: the engine answers in process, at once,
         and its tokenizer knows the ids; the template is counted. Every conversation is new, the tools are the same
         in all of them, as an agent sends them. This is the figure that has a bar. `fake engine, new tools`: those
         are new in each request too.
parts    the same work piece by piece, each repeated by itself with warm caches, and the bare libraries below it.
streamed one token of a stream: from the bytes of the engine's step message to the ASGI send of its event, per token,
         with 1 and 32 streams that gain a token in each step.
refused  the longest time the event loop does not get round while a prompt too long for the model is read and
         refused, seen by a task that does nothing but yield. `idle` is that task without a request.

Times in microseconds. `--out` writes benchmarks/results/protocol-<date>-<commit>.json.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import os
import platform
from collections.abc import Callable
from contextlib import redirect_stderr
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import uvloop
from pydantic_core import from_json
from starlette.types import ASGIApp, Message

from benchmarks.conversation import request_body
from benchmarks.fake_engine import FakeEngine, InstantTokenizer
from benchmarks.run import commit, cpu_name
from benchmarks.scripted import Call, ScriptedEngine, app_over, no_model, step_frame
from benchmarks.timing import Figures, figures, stopwatch, timed
from specserve.engine.api import GenerationRequest, Tokenizer
from specserve.engine.tokenizer import load_tokenizer
from specserve.generated import schemas
from specserve.handlers import routing
from specserve.handlers.chat.template import ChatTemplate
from specserve.handlers.demo import checkpoint_path
from specserve.handlers.interpreter import favour_event_loop, settle_memory
from specserve.handlers.openai.messages import to_conversation
from specserve.handlers.openai.tools import read_tools
from specserve.handlers.serve import set_up_logging
from specserve.handlers.settings import ServerSettings
from specserve.handlers.wire import parse_body

RESULTS = Path(__file__).parent / "results"
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
MAX_MODEL_LEN = 8192
ANSWER = "The harbour is near the museum, and the weather will be sunny on Sunday, with 23 degrees."
TEXT_BYTES, NUM_IDS = 130_000, 33_000
WARM_UP = 50


# ---- whole ---------------------------------------------------------------------------------------------------


async def whole(tokenizer: Tokenizer, runs: int, name: str, next_turn: bool, first_seed: int) -> dict[str, Figures]:
    engine = ScriptedEngine(tokenizer, MAX_MODEL_LEN)
    app = app_over(engine)
    token_ids = tokenizer.encode(ANSWER, add_special_tokens=False)[:16]
    engine.on_add = lambda requests: engine.feed(step_frame(requests, token_ids, is_last=True))
    taken = []
    with (
        stopwatch(routing, "parse_body") as parsing,
        stopwatch(ChatTemplate, "render") as rendering,
        stopwatch(type(tokenizer), "encode") as tokenizing,
    ):
        for number in range(WARM_UP + runs):
            seed = first_seed + number
            call = Call.of(CHAT, request_body(first_seed, last_seed=seed) if next_turn else request_body(seed))
            engine.elsewhere_s = 0.0
            seconds = await call.run(app)
            if call.status != 200:
                raise RuntimeError(call.answer.decode())
            taken.append(seconds - engine.elsewhere_s)
    await engine.stop()
    rest = [all_s - text_s - ids_s for all_s, text_s, ids_s in zip(taken, rendering, tokenizing, strict=True)]
    found = {
        name: taken,
        f"{name}: parse and validate": parsing,
        f"{name}: template": rendering,
        f"{name}: tokenize": tokenizing,
        f"{name}: all but template and tokenizer": rest,
    }
    return {label: figures(seconds[WARM_UP:]) for label, seconds in found.items()}


async def with_fake_engine(
    tokenizer: Tokenizer, runs: int, name: str, first_seed: int, tools_seed: int | None
) -> dict[str, Figures]:
    token_ids = tokenizer.encode(ANSWER, add_special_tokens=False)[:16]
    instant: Any = InstantTokenizer(tokenizer, list(range(900)))
    app = app_over(FakeEngine(no_model(tokenizer, MAX_MODEL_LEN), instant, tokenizer.decode(token_ids), token_ids))
    taken = []
    with stopwatch(routing, "parse_body") as parsing, stopwatch(ChatTemplate, "render") as rendering:
        for number in range(WARM_UP + runs):
            call = Call.of(CHAT, request_body(first_seed + number, tools_seed=tools_seed))
            taken.append(await call.run(app))
            if call.status != 200:
                raise RuntimeError(call.answer.decode())
    rest = [all_s - parse_s - text_s for all_s, parse_s, text_s in zip(taken, parsing, rendering, strict=True)]
    found = {
        name: taken,
        f"{name}: parse and validate": parsing,
        f"{name}: template": rendering,
        f"{name}: the rest": rest,
    }
    return {label: figures(seconds[WARM_UP:]) for label, seconds in found.items()}


def parts(tokenizer: Tokenizer, runs: int, first_seed: int) -> dict[str, Figures]:
    """Our stages, and the libraries they stand on, one by one over the bodies of `new`."""
    raw = [json.dumps(request_body(first_seed + number)).encode() for number in range(runs)]
    schema = schemas.ChatCompletionRequest
    bodies = [parse_body(each, schema)[0] for each in raw]
    conversations = [to_conversation(body, read_tools(body, hide_unused=False).shown) for body in bodies]
    template = ChatTemplate(tokenizer.chat_template or "", tokenizer.special_tokens)
    texts = [template.render(conversation) for conversation in conversations]
    reply = reply_like()
    backend: Any = getattr(tokenizer, "_backend", None)
    found = {
        "parse and validate": timed(lambda n: parse_body(raw[n], schema), runs),
        "to conversation": timed(
            lambda n: to_conversation(bodies[n], read_tools(bodies[n], hide_unused=False).shown), runs
        ),
        "template": timed(lambda n: template.render(conversations[n]), runs),
        "tokenize": timed(lambda n: tokenizer.encode(texts[n], add_special_tokens=False), runs),
        "serialise": timed(lambda n: reply.model_dump_json(exclude_unset=True).encode(), runs),
        "library: pydantic_core.from_json": timed(lambda n: from_json(raw[n]), runs),
        "library: pydantic model_validate_json": timed(lambda n: schema.model_validate_json(raw[n]), runs),
        "library: json.dumps of the reply": timed(lambda n: json.dumps(reply.model_dump()), runs),
    }
    if backend is not None:
        found["library: tokenizers encode"] = timed(lambda n: backend.encode(texts[n], add_special_tokens=False), runs)
    return found


def reply_like() -> schemas.ChatCompletion:
    message = schemas.ResponseMessage(role="assistant", content=ANSWER, refusal=None)
    choice = schemas.Choice(index=0, message=message, logprobs=None, finish_reason="stop", stop_reason=None)
    details = schemas.PromptTokensDetails(cached_tokens=0)
    usage = schemas.Usage(prompt_tokens=900, completion_tokens=16, total_tokens=916, prompt_tokens_details=details)
    return schemas.ChatCompletion(
        id="chatcmpl-0123456789abcdef0123456789abcdef",
        object="chat.completion",
        created=1_700_000_000,
        model="bench",
        choices=[choice],
        usage=usage,
        system_fingerprint="specserve-0.1.0-01234567",
    )


# ---- streamed ------------------------------------------------------------------------------------------------


class Counted:
    """Counts the events of all streams and notes when the awaited one was sent."""

    def __init__(self) -> None:
        self._num_missing = 0
        self._arrived: asyncio.Future[float] | None = None

    def expect(self, count: int) -> asyncio.Future[float]:
        self._num_missing = count
        self._arrived = asyncio.get_running_loop().create_future()
        return self._arrived

    def __call__(self, message: Message) -> None:
        if message["type"] != "http.response.body":
            return
        self._num_missing -= 1
        if self._num_missing == 0 and self._arrived is not None:
            self._arrived.set_result(perf_counter())


async def streamed(tokenizer: Tokenizer, path: str, extra: dict[str, Any], num_streams: int, steps: int) -> Figures:
    engine = ScriptedEngine(tokenizer, MAX_MODEL_LEN)
    app = app_over(engine)
    body = {"model": "bench", "stream": True, "max_tokens": 4096, **extra}
    counted = Counted()
    requests: list[GenerationRequest] = []
    all_added = asyncio.Event()

    def add(added: list[GenerationRequest]) -> None:
        requests.extend(added)
        if len(requests) == num_streams:
            all_added.set()

    engine.on_add = add
    calls = [asyncio.create_task(Call.of(path, body, on_send=counted).run(app)) for _ in range(num_streams)]
    await all_added.wait()
    all_ids = tokenizer.encode(ANSWER, add_special_tokens=False)
    token_ids = [token_id for token_id in all_ids if tokenizer.token_text(token_id).isascii()]
    taken = []
    # Text already comes with the first token; chats have an event for the role before it.
    first = counted.expect(num_streams * (2 if path == CHAT else 1))
    engine.feed(step_frame(requests, token_ids[:1], is_last=False))
    await first
    for number in range(WARM_UP + steps):
        frame = step_frame(requests, [token_ids[number % len(token_ids)]], is_last=False)
        arrived = counted.expect(num_streams)
        began = perf_counter()
        engine.feed(frame)
        taken.append((await arrived - began) / num_streams)
    engine.feed(step_frame(requests, [tokenizer.eos_token_ids[0]], is_last=True))
    await asyncio.gather(*calls)
    await engine.stop()
    return figures(taken[WARM_UP:])


# ---- refused -------------------------------------------------------------------------------------------------


class Ticker:
    """A task that yields at once, always; `longest_s` is how long it once had to wait for its turn."""

    def __init__(self) -> None:
        self.longest_s = 0.0

    async def run(self) -> None:
        last = perf_counter()
        while True:
            await asyncio.sleep(0)
            now = perf_counter()
            self.longest_s = max(self.longest_s, now - last)
            last = now


async def refused(app: ASGIApp, path: str | None, body: Callable[[int], dict[str, Any]], runs: int) -> Figures:
    """`body` gets the number of the run. Without a path nothing is asked: what the ticker sees of the machine alone."""
    gaps = []
    for number in range(runs):
        call = Call.of(path or "", body(number))
        ticker = Ticker()
        ticking = asyncio.create_task(ticker.run())
        await asyncio.sleep(0.005)
        ticker.longest_s = 0.0
        if path is None:
            await asyncio.sleep(0.05)
        else:
            await call.run(app)
            if call.status != 400 or b"context_length_exceeded" not in call.answer:
                raise RuntimeError(f"HTTP {call.status}: {call.answer[:300].decode()}")
            await asyncio.sleep(0)
        gaps.append(ticker.longest_s)
        ticking.cancel()
    return figures(gaps)


async def all_refused(tokenizer: Tokenizer, runs: int) -> dict[str, Figures]:
    engine = ScriptedEngine(tokenizer, MAX_MODEL_LEN)
    app = app_over(engine)
    sentence = "".join(json.dumps(request_body(seed)["messages"]) for seed in range(40))
    text = (sentence * (TEXT_BYTES // len(sentence) + 1))[:TEXT_BYTES]
    token_ids = [number % tokenizer.vocab_size for number in range(NUM_IDS)]
    # No text comes twice: messages are not tokenized again.
    asked: dict[str, tuple[str | None, Callable[[int], dict[str, Any]]]] = {
        "idle": (None, lambda n: {}),
        "chat, text of 130 kB": (CHAT, lambda n: {"messages": [{"role": "user", "content": f"{n} {text}"}]}),
        "completions, text of 130 kB": (COMPLETIONS, lambda n: {"prompt": f"{n} {text}"}),
        "completions, 33000 token ids": (COMPLETIONS, lambda n: {"prompt": token_ids}),
        "completions, 33000 token ids in a list": (COMPLETIONS, lambda n: {"prompt": [token_ids]}),
    }
    found = {name: await refused(app, path, body, runs) for name, (path, body) in asked.items()}
    await engine.stop()
    return found


# ---- the run -------------------------------------------------------------------------------------------------


async def measure(tokenizer: Tokenizer, scale: int) -> dict[str, dict[str, Figures]]:
    """Ten times fewer repetitions with scale 1 than with 10."""
    chat = {"messages": [{"role": "user", "content": "Tell me about the harbour."}]}
    variants: dict[str, tuple[str, dict[str, Any]]] = {
        "chat": (CHAT, chat),
        "chat with usage in each event": (
            CHAT,
            chat | {"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
        ),
        "completions": (COMPLETIONS, {"prompt": "The harbour is"}),
    }
    found: dict[str, dict[str, Figures]] = {"whole": {}, "parts": {}, "streamed": {}, "refused": {}}
    for name, tools_seed in (("fake engine", 0), ("fake engine, new tools", None)):
        found["whole"] |= await with_fake_engine(tokenizer, 50 * scale, name, 5_000_000, tools_seed)
    for name, next_turn in (("new", False), ("next turn", True)):
        found["whole"] |= await whole(tokenizer, 50 * scale, name, next_turn, first_seed=1_000_000)
    found["parts"] = parts(tokenizer, 50 * scale, first_seed=3_000_000)
    for name, (path, body) in variants.items():
        for num_streams in (1, 32):
            key = f"{name}, {num_streams} at once"
            found["streamed"][key] = await streamed(tokenizer, path, body, num_streams, 60 * scale)
    found["refused"] = await all_refused(tokenizer, 3 * scale)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", default="demo", help="a model folder; default: the demo model's")
    parser.add_argument("--quick", action="store_true", help="a tenth of the repetitions")
    parser.add_argument("--out", action="store_true", help="write a result file")
    arguments = parser.parse_args()
    with open(os.devnull, "w") as log:
        with redirect_stderr(log):
            set_up_logging(ServerSettings())
        favour_event_loop()
        settle_memory()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            folder = str(checkpoint_path()) if arguments.tokenizer == "demo" else arguments.tokenizer
            found = runner.run(measure(load_tokenizer(folder), 1 if arguments.quick else 10))
    for group, lines in found.items():
        for name, line in lines.items():
            print(json.dumps({"group": group, "name": name} | line), flush=True)
    if arguments.out:
        now = datetime.datetime.now(datetime.UTC)
        path = RESULTS / f"protocol-{now:%Y-%m-%d}-{commit()}.json"
        result = {
            "machine": {"cpu": cpu_name(), "cores": sorted(os.sched_getaffinity(0))},
            "versions": {
                "python": platform.python_version(),
                "pydantic": version("pydantic"),
                "jinja2": version("jinja2"),
                "tokenizers": version("tokenizers"),
                "uvloop": version("uvloop"),
            },
            "commit": commit(),
            "date": now.isoformat(timespec="seconds"),
            "flags": vars(arguments),
            "load_average": os.getloadavg(),
            "microseconds": found,
        }
        path.write_text(json.dumps(result, indent=1) + "\n")
        print(path)


if __name__ == "__main__":
    main()
