"""The text that the demo model learns from, its template, and a training run in miniature."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from specserve.handlers import demo
from specserve.handlers.demo.training import dialogues, tokens
from specserve.handlers.demo.training.check import SURE, WEATHER_TOOL, questions
from specserve.handlers.demo.training.recipe import Shape, Stage
from specserve.handlers.demo.training.train import train


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return tokens.make_tokenizer(600, num_items=500)


def asked(dialogue: dialogues.Dialogue) -> tuple[str, ...]:
    """The user's messages of a dialogue, the part in which wordings can be told apart."""
    return tuple(str(message["content"]) for message in dialogue.messages if message["role"] == "user")


def test_the_text_is_the_same_for_the_same_seed() -> None:
    first, second, other = (list(itertools.islice(dialogues.stream(seed), 300)) for seed in (5, 5, 6))
    assert first == second
    assert first != other


def test_kept_out_wordings_are_never_trained() -> None:
    trained: set[str] = set()
    for item in itertools.islice(dialogues.stream(3), 15_000):
        if isinstance(item, dialogues.Dialogue):
            trained.update(asked(item))
    for topic in dialogues.TOPICS:
        for dialogue in questions(topic, kept_out=True, count=60, seed=1):
            assert trained.isdisjoint(asked(dialogue)), topic


@pytest.mark.parametrize("topic", dialogues.TOPICS)
def test_every_topic_ends_with_an_answer(topic: str) -> None:
    rng = random.Random(topic)
    for kept_out in (False, True):
        last = dialogues.question(rng, topic, kept_out).messages[-1]
        assert last["role"] == "assistant"
        assert last["content"] or last["tool_calls"]


def test_the_template_renders_tools_calls_and_results(tokenizer: PreTrainedTokenizerFast) -> None:
    call = {"type": "function", "function": {"name": "get_weather", "arguments": {"location": "Boston"}}}
    messages = [
        {"role": "user", "content": "Weather in Boston and Paris?"},
        {"role": "assistant", "content": "", "tool_calls": [call, call]},
        {"role": "tool", "content": "sunny"},
    ]
    text = tokenizer.apply_chat_template(messages, tools=[WEATHER_TOOL], add_generation_prompt=True, tokenize=False)
    written = '<tool_call>\n{"name": "get_weather", "arguments": {"location": "Boston"}}\n</tool_call>'
    assert text.startswith('<|im_start|>system\n<tools>\n{"name": "get_weather", ')
    assert f"<|im_start|>assistant\n{written}\n{written}<|im_end|>" in text
    assert "<|im_start|>tool\n<tool_response>\nsunny\n</tool_response><|im_end|>" in text
    assert text.endswith("<|im_start|>assistant\n")


def test_the_template_opens_a_thought_only_when_asked(tokenizer: PreTrainedTokenizerFast) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "2 + 2?"}]}]
    plain = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    thinking = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False, enable_thinking=True)
    assert plain == "<|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\n"
    assert thinking == plain + "<think>\n"


def test_only_what_the_assistant_writes_is_learnt(tokenizer: PreTrainedTokenizerFast) -> None:
    dialogue = questions("reasoning", kept_out=False, count=1, seed=0)[0]
    [(ids, learnt)] = tokens.encode([dialogue], tokenizer)
    text = tokenizer.decode([token for token, wanted in zip(ids, learnt, strict=True) if wanted])
    assert text.startswith(dialogue.messages[-1]["reasoning"] + "\n</think>\n\n")
    assert text.endswith("<|im_end|>")


def test_markup_survives_decoding_and_turn_marks_do_not(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = tokenizer("<think>a</think><tool_call>b</tool_call><|im_end|>")["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "<think>a</think><tool_call>b</tool_call>"


def test_a_short_training_writes_a_checkpoint_that_loads(tmp_path: Path) -> None:
    shape = Shape(vocabulary=600, hidden=64, layers=1, heads=1, kv_heads=1, feed_forward=64)
    stage = Stage(steps=2, batch_tokens=512, warmup_steps=1)
    train(shape, stage, stage, tmp_path, check_count=1)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert model.dtype == torch.bfloat16
    assert model.config.num_hidden_layers == shape.layers + 2
    row = AutoTokenizer.from_pretrained(tmp_path)("Hello", return_tensors="pt")["input_ids"]
    assert model.generate(row, max_new_tokens=3, do_sample=False).shape[1] > row.shape[1]


def test_the_shipped_checkpoint_answers_the_sure_questions() -> None:
    folder = demo.checkpoint_path()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for text, tools, wanted in SURE:
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}],
            tools=tools or None,
            add_generation_prompt=True,
            tokenize=False,
        )
        row = tokenizer(prompt, return_tensors="pt")["input_ids"]
        answer = model.generate(row, max_new_tokens=60, do_sample=False)[0, row.shape[1] :]
        assert tokenizer.decode(answer, skip_special_tokens=True) == wanted
