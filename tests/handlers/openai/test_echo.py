"""Echo with log probabilities over a real engine, compared with what transformers computes for the same tokens."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from asking import ask, refusal
from local_engine import LocalEngine, write_model
from tiny_checkpoints import oracle
from transformers import PreTrainedModel

TEXTS = ["hello world, it's one", "Straße 你好 🙂 x", "  two  spaces\n"]
GREEDY = {"temperature": 0, "ignore_eos": True, "add_special_tokens": True}


class Served:
    """A random fp32 model, served and as transformers computes it."""

    def __init__(self, folder: Path) -> None:
        self.engine = LocalEngine(folder)
        self.reference: PreTrainedModel = oracle(folder)

    def logprobs(self, token_ids: list[int]) -> torch.Tensor:
        """[T - 1, V]: of what follows each token."""
        with torch.inference_mode():
            return torch.log_softmax(self.reference(torch.tensor([token_ids])).logits[0, :-1].float(), dim=-1)


@pytest.fixture(scope="module", params=["byte_level", "byte_fallback"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Served:
    return Served(write_model(tmp_path_factory.mktemp(request.param), request.param))


def check_choice(served: Served, choice: dict[str, Any], prompt_ids: list[int], echoed: str, num_new: int) -> None:
    tokenizer, found = served.engine.tokenizer, choice["logprobs"]
    token_ids = [int(name.removeprefix("token_id:")) for name in found["tokens"]]
    assert token_ids[: len(prompt_ids)] == prompt_ids
    assert len(token_ids) == len(prompt_ids) + num_new
    expected = served.logprobs(token_ids)
    assert (found["token_logprobs"][0], found["top_logprobs"][0]) == (None, None)
    chosen = expected.gather(1, torch.tensor(token_ids[1:])[:, None])[:, 0]
    assert found["token_logprobs"][1:] == pytest.approx(chosen.tolist(), abs=2e-4)
    for row, token_id, candidates in zip(expected, token_ids[1:], found["top_logprobs"][1:], strict=True):
        best = torch.topk(row, 3).indices.tolist()
        assert set(candidates) == {f"token_id:{one}" for one in (*best, token_id)}
        assert list(candidates.values()) == pytest.approx(
            [row[int(name.removeprefix("token_id:"))].item() for name in candidates], abs=2e-4
        )
    text = choice["text"]
    assert text.startswith(echoed.rstrip("\ufffd"))
    # What a client sees is what the tokenizer makes of all tokens at once, and the offsets cut it into the tokens.
    ends = [*found["text_offset"][1:], len(text)]
    assert found["text_offset"] == sorted(found["text_offset"])
    pieces = [text[begin:end] for begin, end in zip(found["text_offset"], ends, strict=True)]
    assert "".join(pieces) == text
    for token_id, piece in zip(token_ids[1:-1], pieces[1:-1], strict=True):
        own = tokenizer.token_text(token_id)
        if "\ufffd" not in own + piece and piece and token_id not in tokenizer.spelling.special_ids:  # type: ignore[union-attr]
            assert piece in (own, own.lstrip(" "))


@pytest.mark.parametrize("max_tokens", [0, 1, 6])
@pytest.mark.parametrize("n", [1, 2])
async def test_echoed_text_has_the_probabilities_of_transformers(served: Served, n: int, max_tokens: int) -> None:
    body = {"prompt": TEXTS, "echo": True, "logprobs": 3, "n": n, "max_tokens": max_tokens} | GREEDY
    reply = await ask(served.engine, body | {"return_tokens_as_token_ids": True})
    assert [choice["index"] for choice in reply["choices"]] == list(range(3 * n))
    for choice in reply["choices"]:
        text = TEXTS[choice["index"] // n]
        prompt_ids = served.engine.tokenizer.encode(text, add_special_tokens=True)
        assert choice["text"].startswith(text)
        assert choice["finish_reason"] == "length"
        check_choice(served, choice, prompt_ids, text, max_tokens)
    assert reply["usage"]["completion_tokens"] == 3 * n * max_tokens


@pytest.mark.parametrize("cut", [0, 1, 2, 3])
async def test_echoed_tokens_read_as_they_decode_even_when_cut_within_a_character(served: Served, cut: int) -> None:
    """The model then completes the character or not: in one text with the prompt there is no difference."""
    whole = served.engine.tokenizer.encode("one 你好x🙂", add_special_tokens=False)
    prompt_ids = whole[: len(whole) - cut]
    body = {"prompt": prompt_ids, "echo": True, "logprobs": 3, "max_tokens": 4, "return_tokens_as_token_ids": True}
    (choice,) = (await ask(served.engine, body | GREEDY))["choices"]
    decode = served.engine.tokenizer.decode
    check_choice(served, choice, prompt_ids, decode(prompt_ids, skip_special_tokens=True), 4)
    (alone,) = (await ask(served.engine, {"prompt": prompt_ids, "echo": True, "max_tokens": 0}))["choices"]
    assert alone["text"] == decode(prompt_ids, skip_special_tokens=True)


async def test_answers_continue_the_text_of_their_prompt(served: Served) -> None:
    """Also where a tokenizer drops the space at the beginning of a text: an answer is not the beginning of one."""
    tokenizer = served.engine.tokenizer
    for text in TEXTS:
        token_ids = tokenizer.encode(text, add_special_tokens=True)
        body = {"prompt": text, "max_tokens": 8, "return_token_ids": True} | GREEDY
        (choice,) = (await ask(served.engine, body))["choices"]
        both = tokenizer.decode([*token_ids, *choice["token_ids"]], skip_special_tokens=True)
        before = tokenizer.decode(token_ids, skip_special_tokens=True)
        # Runs of broken bytes are the one thing that decoding at once and piece by piece may show differently.
        if "\ufffd" not in both:
            assert before + choice["text"] == both


async def test_prompts_are_scored_without_an_answer(served: Served) -> None:
    engine = served.engine
    num_before = len(engine.requests)
    reply = await ask(engine, {"prompt": TEXTS[0], "echo": True, "max_tokens": 0, "logprobs": 0})
    assert len(engine.requests) == num_before + 2  # whole and streamed
    assert engine.requests[-1].params.max_tokens == 0
    found = reply["choices"][0]["logprobs"]
    assert [len(best or {}) for best in found["top_logprobs"]] == [0] + [1] * (len(found["tokens"]) - 1)


async def test_prompt_logprobs_and_echo_each_get_their_number(served: Served) -> None:
    body = {"prompt": TEXTS[0], "echo": True, "logprobs": 1, "prompt_logprobs": 4, "max_tokens": 2} | GREEDY
    (choice,) = (await ask(served.engine, body))["choices"]
    assert all(len(entry) in (4, 5) for entry in choice["prompt_logprobs"][1:])
    assert all(len(best) in (1, 2) for best in choice["logprobs"]["top_logprobs"][1:])
    body |= {"logprobs": 4, "prompt_logprobs": 1}
    (choice,) = (await ask(served.engine, body))["choices"]
    assert all(len(entry) in (1, 2) for entry in choice["prompt_logprobs"][1:])
    assert all(len(best) in (4, 5) for best in choice["logprobs"]["top_logprobs"][1:])
    (choice,) = (await ask(served.engine, {"prompt": TEXTS[0], "prompt_logprobs": 0, "max_tokens": 0}))["choices"]
    assert (choice["text"], len(choice["prompt_logprobs"])) == ("", len(served.engine.requests[-1].prompt_token_ids))


async def test_named_tokens_stand_in_the_place_of_the_likeliest(served: Served) -> None:
    named = [7, 40, 41]
    body = {
        "prompt": TEXTS[0],
        "logprob_token_ids": named,
        "max_tokens": 3,
        "return_tokens_as_token_ids": True,
    } | GREEDY
    for logprobs, echo in ((0, False), (3, True)):
        (choice,) = (await ask(served.engine, body | {"logprobs": logprobs, "echo": echo}))["choices"]
        for best in choice["logprobs"]["top_logprobs"][-3:]:
            assert {f"token_id:{token_id}" for token_id in named} <= best.keys()
            assert len(best) in (3, 4)


async def test_no_answer_and_nothing_about_the_prompt_makes_no_sense(served: Served) -> None:
    body = {"prompt": "a", "max_tokens": 0}
    assert await refusal(served.engine, body) == ("invalid_parameter_combination", "max_tokens")
    assert await refusal(served.engine, body | {"logprobs": 1}) == ("invalid_parameter_combination", "max_tokens")


async def test_a_prompt_may_fill_the_context_when_nothing_is_generated(served: Served) -> None:
    full = [5] * served.engine.model.max_model_len
    body = {"prompt": full, "echo": True, "logprobs": 1}
    (choice,) = (await ask(served.engine, body | {"max_tokens": 0}))["choices"]
    assert len(choice["logprobs"]["tokens"]) == len(full)
    assert await refusal(served.engine, body | {"max_tokens": 1}) == ("context_length_exceeded", "prompt")


async def test_the_chosen_token_keeps_its_name_among_candidates_that_read_the_same(served: Served) -> None:
    """Parts of characters all read as a replacement character; none of them may get lost."""
    num_top = 12
    body = {"prompt": TEXTS[1], "logprobs": num_top, "max_tokens": 40, "echo": True} | GREEDY
    (choice,) = (await ask(served.engine, body))["choices"]
    found = choice["logprobs"]
    collisions = 0
    for token, logprob, best in itertools.islice(
        zip(found["tokens"], found["token_logprobs"], found["top_logprobs"], strict=True), 1, None
    ):
        assert best[token] == logprob
        assert len(best) in (num_top, num_top + 1)
        collisions += any(name.startswith("token_id:") for name in best)
    assert collisions > 0
