"""Load generator: closed-loop clients against an OpenAI-compatible server.

Output tokens are counted with the server's `usage`, never by event: one may hold several tokens. TTFT is the
time to the first event with text, ITL the gap between two such events divided by the tokens an event holds on
average, TPOT the time from first to last text divided by the tokens between them.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp

# Single tokens in most vocabularies, so that N words are close to N tokens.
WORDS = (
    "self return import def class from not for with the and is in if name value type file "
    "None True path data list key text code object line string set get call other raise "
    "error test result size time args to of that as"
).split()


@dataclass(frozen=True)
class Scenario:
    """`requests` are for the large model; smaller ones run `small_requests`."""

    name: str
    concurrency: int
    prompt_tokens: int
    output_tokens: int
    requests: int
    small_requests: int
    shared_prefix: int = 0


SCENARIOS = [
    Scenario("decode c1", 1, 128, 128, 2, 6),
    Scenario("decode c8", 8, 128, 128, 16, 32),
    Scenario("decode c32", 32, 128, 128, 32, 64),
    Scenario("prefill c1", 1, 1024, 16, 3, 8),
    Scenario("prefill c8", 8, 1024, 16, 8, 32),
    Scenario("prefix c8", 8, 1040, 32, 24, 32, shared_prefix=1024),
    Scenario("floor c32", 32, 1, 1, 0, 1000),
]


@dataclass
class Answer:
    """One request's times in seconds and its token counts."""

    e2e_s: float
    prompt_tokens: int
    output_tokens: int
    text_times: list[float] = field(default_factory=list)
    started: float = 0.0


def words(rng: random.Random, count: int) -> str:
    return " " + " ".join(rng.choice(WORDS) for _ in range(count))


def prompts(scenario: Scenario, count: int, seed: int) -> list[str]:
    """Fresh prompts for every seed and scenario, so that no run profits from the prefix cache of another."""
    rng = random.Random(f"{seed} {scenario.name}")
    prefix = words(rng, scenario.shared_prefix) if scenario.shared_prefix else ""
    own = max(scenario.prompt_tokens - scenario.shared_prefix, 1)
    return [prefix + words(rng, own) for _ in range(count)]


async def events(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    async for line in response.content:
        if line.startswith(b"data:") and line[5:].strip() != b"[DONE]":
            yield json.loads(line[5:])


async def ask(session: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> Answer:
    start = time.perf_counter()
    times: list[float] = []
    usage: dict[str, int] | None = None
    async with session.post(url, json=body) as response:
        if response.status != 200:
            raise RuntimeError(f"HTTP {response.status}: {(await response.text())[:300]}")
        async for event in events(response):
            if "error" in event:
                raise RuntimeError(str(event["error"])[:300])
            usage = event.get("usage") or usage
            if any(choice.get("text") for choice in event.get("choices", ())):
                times.append(time.perf_counter())
    if usage is None:
        raise RuntimeError("the stream carried no usage")
    return Answer(time.perf_counter() - start, usage["prompt_tokens"], usage["completion_tokens"], times, start)


async def run(
    url: str, model: str, scenario: Scenario, count: int, seed: int, *, keeps_connections: bool = True
) -> dict[str, Any]:
    """One run of a scenario; a failed request is counted in the result, never dropped.

    Without `keeps_connections` every request opens its own: for servers that close theirs unannounced.
    """
    queue = [
        {
            "model": model,
            "prompt": prompt,
            "max_tokens": scenario.output_tokens,
            "temperature": 0.0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        for prompt in prompts(scenario, count, seed)
    ]
    answers: list[Answer] = []
    errors: list[str] = []
    timeout = aiohttp.ClientTimeout(total=900)
    connector = aiohttp.TCPConnector(limit=0, force_close=not keeps_connections)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, read_bufsize=2**20) as session:

        async def client() -> None:
            while queue:
                try:
                    answers.append(await ask(session, f"{url}/v1/completions", queue.pop()))
                except (aiohttp.ClientError, RuntimeError, TimeoutError) as error:
                    errors.append(f"{type(error).__name__}: {error}")

        begin = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(scenario.concurrency)))
        wall = time.perf_counter() - begin
    return report(answers, errors, wall)


def percentiles(values: list[float]) -> dict[str, float] | None:
    """p50 and p99 in milliseconds; with under 100 values p99 is the maximum."""
    if not values:
        return None
    ordered = sorted(values)
    return {
        name: round(1000 * ordered[min(len(ordered) - 1, int(q * len(ordered)))], 3)
        for name, q in (("p50", 0.5), ("p99", 0.99))
    }


def report(answers: list[Answer], errors: list[str], wall: float) -> dict[str, Any]:
    prompt, out = sum(a.prompt_tokens for a in answers), sum(a.output_tokens for a in answers)
    text_events = sum(len(a.text_times) for a in answers)
    per_event = max(out / text_events, 1.0) if text_events else 1.0
    gaps = [(b - a) / per_event for x in answers for a, b in zip(x.text_times, x.text_times[1:], strict=False)]
    return {
        "requests": len(answers),
        "wall_s": round(wall, 3),
        "req_s": round(len(answers) / wall, 3),
        "prompt_tokens": prompt,
        "output_tokens": out,
        "output_tok_s": round(out / wall, 2),
        "total_tok_s": round((prompt + out) / wall, 2),
        "ttft_ms": percentiles([a.text_times[0] - a.started for a in answers if a.text_times]),
        "itl_ms": percentiles(gaps),
        "tpot_ms": percentiles(
            [
                (a.text_times[-1] - a.text_times[0]) / (a.output_tokens - 1)
                for a in answers
                if len(a.text_times) > 1 and a.output_tokens > 1
            ]
        ),
        "e2e_ms": percentiles([a.e2e_s for a in answers]),
        "tokens_per_event": round(per_event, 2),
        "errors": len(errors),
        "first_error": errors[0] if errors else None,
    }
