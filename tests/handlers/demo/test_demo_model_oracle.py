"""The demo model served in float32 says what transformers' own `generate` says with the same checkpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

import pytest
import torch
from running_server import RunningServer, serving
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from specserve.handlers.demo import checkpoint_path

TOLERANCE = 1e-4
"""Of a log probability in float32."""
MAX_NEW = 40
QUESTIONS = [
    "What is the capital of France?",
    "Count from 3 to 9.",
    "Spell the word river.",
    "What is 4 + 5?",
    "What colour is the sky?",
    "What can you do?",
    "你好",
    "Say something about 🙂.",
]
PROMPTS = ["The capital of France is", "one two three", "Le café, 你好 🙂", "{"]
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


class Oracle:
    """transformers, which knows nothing of us."""

    def __init__(self) -> None:
        self.model = cast(PreTrainedModel, AutoModelForCausalLM.from_pretrained(checkpoint_path(), dtype=torch.float32))
        self.model.eval()
        self.tokenizer = cast(PreTrainedTokenizerBase, AutoTokenizer.from_pretrained(checkpoint_path()))

    def prompt(self, question: str) -> list[int]:
        messages = [{"role": "user", "content": question}]
        text = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def generate(self, prompt: list[int], **options: Any) -> list[int]:
        """The new tokens, with what ended them."""
        given = torch.tensor([prompt])
        with torch.no_grad():
            found = self.model.generate(
                given,
                attention_mask=torch.ones_like(given),
                pad_token_id=self.tokenizer.pad_token_id or 0,
                **{"do_sample": False, "max_new_tokens": MAX_NEW} | options,
            )
        return [int(token_id) for token_id in found[0, len(prompt) :]]

    def log_probs(self, token_ids: list[int]) -> torch.Tensor:
        """[tokens, vocabulary]: what follows each token."""
        with torch.no_grad():
            return torch.log_softmax(self.model(torch.tensor([token_ids])).logits[0].double(), -1)

    def text(self, token_ids: list[int]) -> str:
        return str(self.tokenizer.decode(token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    @property
    def end_ids(self) -> set[int]:
        found = self.model.generation_config.eos_token_id
        return set(found) if isinstance(found, list) else {cast(int, found)}


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle()


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with serving("--dtype", "float32", "--num-threads", "1") as running:
        running.wait_ready()
        yield running


def asked(server: RunningServer, path: str, body: dict[str, Any]) -> dict[str, Any]:
    status, answer = server.answer(
        "POST", path, {"temperature": 0, "max_tokens": MAX_NEW, "return_token_ids": True} | body
    )
    assert status == 200, answer
    return cast(dict[str, Any], answer)


def streamed(server: RunningServer, path: str, body: dict[str, Any]) -> tuple[str, list[int], str]:
    """Text, tokens and finish reason of a stream."""
    sent = {"temperature": 0, "max_tokens": MAX_NEW, "return_token_ids": True, "stream": True} | body
    text, token_ids, reason = "", [], ""
    for line in server.request("POST", path, sent).read().decode().splitlines():
        if not line.startswith("data: {"):
            continue
        for choice in json.loads(line[6:])["choices"]:
            text += choice["text"] if path == COMPLETIONS else choice["delta"].get("content") or ""
            token_ids += choice.get("token_ids") or []
            reason = choice["finish_reason"] or reason
    return text, token_ids, reason


@pytest.mark.parametrize("question", QUESTIONS)
def test_greedy_answers_are_those_of_transformers(server: RunningServer, oracle: Oracle, question: str) -> None:
    prompt = oracle.prompt(question)
    expected = oracle.generate(prompt)
    body = {"messages": [{"role": "user", "content": question}]}
    whole = asked(server, CHAT, body)
    choice = whole["choices"][0]
    reason = "stop" if expected[-1] in oracle.end_ids else "length"
    assert whole["prompt_token_ids"] == prompt
    assert (choice["token_ids"], choice["finish_reason"]) == (expected, reason)
    assert choice["message"]["content"] == oracle.text(expected)
    assert whole["usage"]["completion_tokens"] == len(expected)
    assert streamed(server, CHAT, body) == (oracle.text(expected), expected, reason)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_continuations_are_those_of_transformers(server: RunningServer, oracle: Oracle, prompt: str) -> None:
    token_ids = list(oracle.tokenizer(prompt)["input_ids"])
    expected = oracle.generate(token_ids)
    continuation = oracle.text(token_ids + expected).removeprefix(prompt)
    reason = "stop" if expected[-1] in oracle.end_ids else "length"
    choice = asked(server, COMPLETIONS, {"prompt": prompt})["choices"][0]
    assert (choice["prompt_token_ids"], choice["token_ids"]) == (token_ids, expected)
    assert (choice["text"], choice["finish_reason"]) == (continuation, reason)
    assert streamed(server, COMPLETIONS, {"prompt": prompt}) == (continuation, expected, reason)


@pytest.mark.parametrize("question", QUESTIONS[:4])
def test_log_probabilities_of_answer_and_prompt_are_the_log_softmax(
    server: RunningServer, oracle: Oracle, question: str
) -> None:
    body = {"messages": [{"role": "user", "content": question}], "logprobs": True, "top_logprobs": 5}
    answer = asked(server, CHAT, body | {"prompt_logprobs": 3})
    prompt, chosen = answer["prompt_token_ids"], answer["choices"][0]["token_ids"]
    expected = oracle.log_probs(prompt + chosen)
    told = answer["choices"][0]["logprobs"]["content"]
    assert len(told) == len(chosen)
    for at, (token_id, entry) in enumerate(zip(chosen, told, strict=True), start=len(prompt) - 1):
        assert entry["logprob"] == pytest.approx(expected[at, token_id].item(), abs=TOLERANCE)
        likeliest = expected[at].topk(5).values.tolist()
        assert [top["logprob"] for top in entry["top_logprobs"]] == pytest.approx(likeliest, abs=TOLERANCE)
    first, *others = answer["prompt_logprobs"]
    assert first is None
    for at, found in enumerate(others):
        assert str(prompt[at + 1]) in found
        for token_id, entry in found.items():
            assert entry["logprob"] == pytest.approx(expected[at, int(token_id)].item(), abs=TOLERANCE)


@pytest.mark.parametrize("stop", ["Paris", "pital of Fr", " is ", ["e", "of"], "never written", "."])
@pytest.mark.parametrize("keeps", [False, True])
def test_stop_strings_end_an_answer_where_they_end_that_of_transformers(
    server: RunningServer, oracle: Oracle, stop: str | list[str], keeps: bool
) -> None:
    stops = [stop] if isinstance(stop, str) else stop
    prompt = oracle.prompt(QUESTIONS[0])
    expected = oracle.generate(prompt, stop_strings=stops, tokenizer=oracle.tokenizer)
    text = oracle.text(expected)
    ends = {text.find(one): one for one in stops if one in text}
    body = {"messages": [{"role": "user", "content": QUESTIONS[0]}], "stop": stop, "include_stop_str_in_output": keeps}
    choice = asked(server, CHAT, body)["choices"][0]
    if ends:
        at = min(ends)
        text = text[: at + len(ends[at]) if keeps else at]
        assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", ends[at])
    else:
        assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", None)
    assert (choice["message"]["content"] or "") == text
    assert choice["token_ids"] == expected
    assert streamed(server, CHAT, body) == (text, expected, "stop")


CONTROLS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"min_tokens": 30}, {"min_new_tokens": 30}),
    ({"repetition_penalty": 2.0}, {"repetition_penalty": 2.0}),
    ({"bad_words": ["Paris"]}, {"bad_words": ["Paris", " Paris"]}),
    ({"max_tokens": 3}, {"max_new_tokens": 3}),
    ({"stop_token_ids": [293]}, {"also_ends": [293]}),
    ({"ignore_eos": True}, {"eos_token_id": None}),
]


@pytest.mark.parametrize(("ours", "theirs"), CONTROLS, ids=[next(iter(ours)) for ours, _ in CONTROLS])
def test_what_bends_an_answer_bends_it_as_in_transformers(
    server: RunningServer, oracle: Oracle, ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    prompt = oracle.prompt(QUESTIONS[0])
    theirs = dict(theirs)
    if words := theirs.pop("bad_words", None):
        theirs["bad_words_ids"] = [oracle.tokenizer(word, add_special_tokens=False)["input_ids"] for word in words]
    if more := theirs.pop("also_ends", None):
        theirs["eos_token_id"] = [*oracle.end_ids, *more]
    expected = oracle.generate(prompt, **theirs)
    assert expected != oracle.generate(prompt), "the control changes nothing, so nothing is tested"
    choice = asked(server, CHAT, {"messages": [{"role": "user", "content": QUESTIONS[0]}]} | ours)["choices"][0]
    assert choice["token_ids"] == expected
    own_end = expected[-1] in oracle.end_ids
    assert choice["finish_reason"] == (
        "stop" if own_end or expected[-1] in ours.get("stop_token_ids", []) else "length"
    )
    assert choice["stop_reason"] == (expected[-1] if more else None)
