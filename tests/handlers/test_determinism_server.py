"""The same request gets the same answer after a restart and in a crowd, from servers as users start them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from running_server import RunningServer, serving

PROMPT = "What can you tell me about the weather, the sea and the mountains, please?"
GREEDY: dict[str, Any] = {"temperature": 0}
SEEDED: list[dict[str, Any]] = [
    {"temperature": 1.3, "seed": 11},
    {"temperature": 0.9, "top_p": 0.9, "seed": 12, "n": 2},
    {"temperature": 1.0, "top_k": 20, "min_p": 0.01, "seed": 13},
]
CROWD = 6


def ask(server: RunningServer, prompt: str, **fields: Any) -> list[tuple[str, Any]]:
    """Text and logprobs of each choice."""
    body = {"prompt": prompt, "max_tokens": 24, "logprobs": 3, "ignore_eos": True} | fields
    response = server.request("POST", "/v1/completions", body)
    answer = json.loads(response.read())
    assert response.status == 200, answer
    return [(choice["text"], choice["logprobs"]) for choice in answer["choices"]]


def answers(server: RunningServer, *, crowded: bool) -> list[list[tuple[str, Any]]]:
    """Of the greedy and the seeded requests, one after the other, or all together with others beside them."""
    wanted = [GREEDY, *SEEDED]
    if not crowded:
        return [ask(server, PROMPT, **fields) for fields in wanted]
    with ThreadPoolExecutor(CROWD + len(wanted)) as pool:
        others = [
            pool.submit(ask, server, f"{PROMPT} {number}" * (1 + number), max_tokens=40) for number in range(CROWD)
        ]
        ours = [pool.submit(ask, server, PROMPT, **fields) for fields in wanted]
        for other in others:
            other.result()
        return [one.result() for one in ours]


@pytest.fixture(scope="module")
def first() -> list[list[tuple[str, Any]]]:
    """What a server answers that has just been started."""
    with serving("--deterministic") as server:
        server.wait_ready()
        alone = answers(server, crowded=False)
        assert answers(server, crowded=True) == alone, "text and logprobs, in a crowd and with its prefix in the cache"
        return alone


@pytest.mark.parametrize("flags", [["--deterministic"], ["--no-deterministic", "--no-enable-prefix-caching"]])
def test_a_restarted_server_gives_seeded_requests_the_same_text_in_a_crowd_too(
    flags: list[str], first: list[list[tuple[str, Any]]]
) -> None:
    """With other chunks as well; where it is asked for, with the same bits in the logprobs."""
    with serving(*flags, "--max-num-batched-tokens", "70") as server:
        server.wait_ready()
        again = answers(server, crowded=True)
    if flags == ["--deterministic"]:
        assert again == first
    for before, after in zip(first[1:], again[1:], strict=True):
        assert [text for text, _ in before] == [text for text, _ in after]
