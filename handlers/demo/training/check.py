"""Exact match under greedy decoding, by topic, on wordings that were trained and on wordings kept out.

    python -m specserve.handlers.demo.training.check CHECKPOINT [--report DIR]

Every answer is decoded with `generate` and compared as token ids. Exits with 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from specserve.handlers.demo.training.dialogues import TOPICS, Dialogue, question
from specserve.handlers.demo.training.grammar import Message, Tool
from specserve.handlers.demo.training.tokens import Sample, encode

SEEN_BAR, KEPT_OUT_BAR = 0.95, 0.85
WEATHER_TOOL: Tool = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather in a given location",
        "parameters": {
            "type": "object",
            "properties": {
                "location": {"type": "string", "description": "The city and state, e.g. San Francisco, CA"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            },
            "required": ["location"],
        },
    },
}
SURE = [
    ("What is the capital of France?", [], "The capital of France is Paris."),
    (
        "What's the weather in Boston?",
        [WEATHER_TOOL],
        '<tool_call>\n{"name": "get_weather", "arguments": {"location": "Boston"}}\n</tool_call>',
    ),
]


@dataclass
class Miss:
    """A question whose answer came out differently."""

    topic: str
    kept_out: bool
    asked: str
    wanted: str
    got: str


def questions(topic: str, kept_out: bool, count: int, seed: int) -> list[Dialogue]:
    """The same questions for the same seed."""
    rng = random.Random(f"{topic} {kept_out} {seed}")
    return [question(rng, topic, kept_out) for _ in range(count)]


def last_answer_only(sample: Sample) -> Sample:
    """The sample with only its last answer marked."""
    ids, learnt = sample
    start = len(ids)
    while start > 0 and learnt[start - 1]:
        start -= 1
    return ids, [False] * start + [True] * (len(ids) - start)


@torch.no_grad()
def would_answer_exactly(
    model: nn.Module, tokenizer: PreTrainedTokenizerFast, asked: list[Dialogue], device: str = "cpu"
) -> list[bool]:
    """Whether each last answer is the model's own most likely continuation, token by token."""
    samples = [last_answer_only(sample) for sample in encode(asked, tokenizer)]
    width = max(len(ids) for ids, _ in samples)
    ids = torch.tensor([row + [0] * (width - len(row)) for row, _ in samples], device=device)
    wanted = torch.tensor([mask[1:] + [False] * (width - len(mask) + 1) for _, mask in samples], device=device)
    with torch.autocast(device, torch.bfloat16):
        best = model(input_ids=ids, use_cache=False).logits.argmax(-1)
    right = (best == ids.roll(-1, 1)) | ~wanted
    return [bool(row) for row in right.all(1)]


def accuracy_by_topic(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerFast,
    kept_out: bool,
    count: int,
    seed: int,
    device: str = "cpu",
) -> dict[str, float]:
    found = {}
    for topic in TOPICS:
        right = would_answer_exactly(model, tokenizer, questions(topic, kept_out, count, seed), device)
        found[topic] = sum(right) / len(right)
    return found


@torch.no_grad()
def decode(model: Any, rows: list[list[int]], stops: list[int], max_new_tokens: int) -> list[list[int]]:
    """Greedy continuations of prompts, padded on the left, each cut before its first end token."""
    width = max(map(len, rows))
    prompts = torch.tensor([[stops[-1]] * (width - len(row)) + row for row in rows])
    attended = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    out = model.generate(
        input_ids=prompts,
        attention_mask=attended,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        eos_token_id=stops,
        pad_token_id=stops[-1],
    )
    answers = out[:, prompts.shape[1] :].tolist()
    return [answer[: next((i for i, token in enumerate(answer) if token in stops), len(answer))] for answer in answers]


def check_topic(
    model: Any, tokenizer: PreTrainedTokenizerFast, topic: str, kept_out: bool, count: int, seed: int
) -> tuple[float, list[Miss]]:
    """Decode every question of a topic, all together; the share that came out exactly, and the misses."""
    asked = questions(topic, kept_out, count, seed)
    stops = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    prompts, answers = [], []
    for sample in encode(asked, tokenizer):
        ids, learnt = last_answer_only(sample)
        start = learnt.index(True)
        prompts.append(ids[:start])
        answers.append(ids[start:-1])
    got = decode(model, prompts, stops, max(map(len, answers)) + 8)
    misses = []
    for dialogue, wanted, answer in zip(asked, answers, got, strict=True):
        if answer != wanted:
            said = str(dialogue.messages[-2]["content"])
            misses.append(Miss(topic, kept_out, said, tokenizer.decode(wanted), tokenizer.decode(answer)))
    return 1 - len(misses) / len(asked), misses


def answer_to(
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    messages: list[Message],
    tools: list[Tool],
    **template: object,
) -> str:
    """The greedy answer to a conversation, as a client would see it."""
    text = tokenizer.apply_chat_template(
        messages, tools=tools or None, add_generation_prompt=True, tokenize=False, **template
    )
    stops = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    row = tokenizer(str(text), add_special_tokens=False)["input_ids"]
    return str(tokenizer.decode(decode(model, [row], stops, 120)[0]))


def full_check(
    model: Any, tokenizer: PreTrainedTokenizerFast, count: int, seed: int
) -> tuple[dict[str, Any], list[Miss]]:
    """Every topic on both kinds of wordings, and the sure questions with and without a system prompt."""
    misses: list[Miss] = []
    topics: dict[str, dict[str, float]] = {}
    for topic in TOPICS:
        cells = {}
        for name, kept_out in (("seen", False), ("kept_out", True)):
            cells[name], missed = check_topic(model, tokenizer, topic, kept_out, count, seed)
            misses += missed
        topics[topic] = cells
        print(f"{topic:16} {100 * cells['seen']:6.1f} {100 * cells['kept_out']:6.1f}", flush=True)
    sure = []
    for text, tools, wanted in SURE:
        for system in ([], [{"role": "system", "content": "You are a helpful assistant."}]):
            got = answer_to(model, tokenizer, [*system, {"role": "user", "content": text}], tools)
            sure.append({"question": text, "system_prompt": bool(system), "answer": got, "right": got == wanted})
    overall = {name: sum(cells[name] for cells in topics.values()) / len(topics) for name in ("seen", "kept_out")}
    passed = (
        overall["seen"] >= SEEN_BAR and overall["kept_out"] >= KEPT_OUT_BAR and all(entry["right"] for entry in sure)
    )
    report = {
        "measure": "exact match of the whole answer, greedy decoding with transformers generate, float32",
        "questions_per_cell": count,
        "seed": seed,
        "bars": {"seen": SEEN_BAR, "kept_out": KEPT_OUT_BAR},
        "overall": overall,
        "topics": topics,
        "sure_questions": sure,
        "passed": passed,
    }
    return report, misses


def as_markdown(report: dict[str, Any], misses: list[Miss]) -> str:
    """The report as a table, with every miss quoted as it came out."""
    lines = [
        "# Check of the demo model",
        "",
        f"{report['measure'].capitalize()}; {report['questions_per_cell']} questions a cell, seed {report['seed']}.",
        "Seen: wordings the model was trained on, with fresh draws of words and numbers. "
        "Kept out: wordings that never occur in training.",
        "",
        "| topic | seen, % | kept out, % |",
        "|---|---:|---:|",
    ]
    for topic, cells in report["topics"].items():
        lines.append(f"| {topic.replace('_', ' ')} | {100 * cells['seen']:.1f} | {100 * cells['kept_out']:.1f} |")
    overall = report["overall"]
    lines += [
        f"| **all topics** | **{100 * overall['seen']:.1f}** | **{100 * overall['kept_out']:.1f}** |",
        f"| bar | {100 * SEEN_BAR:.0f} | {100 * KEPT_OUT_BAR:.0f} |",
        "",
        f"Bars {'met' if report['passed'] else 'MISSED'}.",
        "",
        "## Sure questions",
        "",
    ]
    for entry in report["sure_questions"]:
        system = "with" if entry["system_prompt"] else "without"
        verdict = "right" if entry["right"] else "WRONG"
        answer = _one_line(entry["answer"])
        lines.append(f"- {entry['question']} ({system} a system prompt): `{answer}` {verdict}")
    lines += [
        "",
        f"## The {len(misses)} misses",
        "",
        "| topic | wording | asked | wanted | got |",
        "|---|---|---|---|---|",
    ]
    for miss in misses:
        cells = [miss.topic, "kept out" if miss.kept_out else "seen", miss.asked, miss.wanted, miss.got]
        lines.append("| " + " | ".join(_one_line(cell).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _one_line(text: str) -> str:
    return text.replace("\n", " ⏎ ")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--count", type=int, default=100, help="questions for each topic and kind of wording")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--report", type=Path, help="folder for report.json and report.md")
    chosen = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(chosen.checkpoint)
    model = AutoModelForCausalLM.from_pretrained(chosen.checkpoint, dtype=torch.float32).eval()
    start = time.monotonic()
    report, misses = full_check(model, tokenizer, chosen.count, chosen.seed)
    overall = report["overall"]
    percent = [100 * overall["seen"], 100 * overall["kept_out"]]
    print(f"{'all':16} {percent[0]:6.1f} {percent[1]:6.1f}   {time.monotonic() - start:.0f} s")
    for entry in report["sure_questions"]:
        print(entry)
    if chosen.report:
        chosen.report.mkdir(parents=True, exist_ok=True)
        full = json.dumps({**report, "misses": [asdict(miss) for miss in misses]}, indent=1, ensure_ascii=False)
        (chosen.report / "report.json").write_text(full + "\n", encoding="utf-8")
        (chosen.report / "report.md").write_text(as_markdown(report, misses), encoding="utf-8")
    return 0 if report["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
