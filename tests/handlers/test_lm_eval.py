"""EleutherAI's evaluation harness measures the same over our HTTP as with transformers in its own process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from lm_eval.api.model import LM
from lm_eval.api.task import ConfigurableTask
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.models.openai_completions import LocalCompletionsAPI
from lm_eval.tasks import TaskManager
from local_engine import write_model
from running_server import RunningServer, serving

MAX_LEN = 96
TOLERANCE = 1e-3
"""Of the log likelihood of a whole text: float32 sums in another order."""
QUESTIONS = [
    {"question": "The quick brown fox jumps over the lazy", "choices": ["dog", "world", "three", "stop"], "answer": 0},
    {"question": "one two", "choices": ["hello", "three", "war er nicht", "Straße"], "answer": 1},
    {"question": "Ein Bär läuft über die", "choices": ["fox", "x", "Straße", "你好"], "answer": 2},
    {"question": "你好，", "choices": ["hello", "🙂👨‍👩‍👧", "today", "世界。今天天气很好"], "answer": 3},
    {"question": "def add(a, b):\n    return a", "choices": ["+ b", "- b", "print", "\n\n"], "answer": 0},
    {"question": "hello " * 40, "choices": ["world", "hello", "dog", "one"], "answer": 1},
]
TEXTS = [
    {"text": "The quick brown fox jumps over the lazy dog, and it doesn't stop there."},
    {"text": "Ein Bär läuft über die Straße; 你好，世界。🙂 one two three."},
    {"text": "one two three, hello world! " * 12},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("lm_eval"))


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[RunningServer]:
    flags = ["--dtype", "float32", "--max-model-len", str(MAX_LEN), "--enable-tokenizer-info-endpoint"]
    with serving(str(folder), "--served-model-name", "tiny", *flags) as running:
        running.wait_ready()
        yield running


def tasks() -> list[ConfigurableTask]:
    def over(rows: list[dict[str, Any]]) -> Any:
        return lambda **options: {"test": Dataset.from_list(rows)}

    choice = {
        "task": "choose",
        "output_type": "multiple_choice",
        "custom_dataset": over(QUESTIONS),
        "test_split": "test",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{answer}}",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    }
    rolling = {
        "task": "read",
        "output_type": "loglikelihood_rolling",
        "custom_dataset": over(TEXTS),
        "test_split": "test",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": "byte_perplexity"}],
    }
    writing = {
        "task": "write",
        "output_type": "generate_until",
        "custom_dataset": over(QUESTIONS[:5]),
        "test_split": "test",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{choices[answer]}}",
        "generation_kwargs": {"until": ["e", "\n\n"], "max_gen_toks": 12, "do_sample": False, "temperature": 0.0},
        "metric_list": [{"metric": "exact_match"}],
    }
    return [ConfigurableTask(config=config | {"num_fewshot": 0}) for config in (choice, rolling, writing)]


def measured(model: LM) -> tuple[dict[str, Any], dict[str, list[list[Any]]]]:
    """The metrics of each task, and for each item the log likelihoods or what was written."""
    # `simple_evaluate` would also read the thousands of tasks that the harness brings.
    loaded = TaskManager(include_defaults=False).load(tasks())
    found = evaluate(lm=model, task_dict=loaded, bootstrap_iters=0, log_samples=True)
    assert found is not None
    metrics = {
        f"{task}.{name}": value
        for task, values in found["results"].items()
        for name, value in values.items()
        if isinstance(value, float) and "stderr" not in name
    }
    items: dict[str, list[list[Any]]] = {}
    for task, samples in found["samples"].items():
        ordered = sorted(samples, key=lambda sample: sample["doc_id"])
        items[task] = [[part for response in sample["resps"] for part in outcome(response[0])] for sample in ordered]
    return metrics, items


def outcome(response: Any) -> list[Any]:
    """A text; a log likelihood; or one with whether all its tokens were the likeliest."""
    return [float(part) for part in response] if isinstance(response, (tuple, list)) else [response]


@pytest.fixture(scope="module")
def expected(folder: Path) -> tuple[dict[str, Any], dict[str, list[list[Any]]]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        return measured(transformers_model(folder))


def transformers_model(folder: Path) -> LM:
    return HFLM(
        str(folder),
        device="cpu",
        dtype="float32",
        batch_size=4,
        max_length=MAX_LEN - 1,
        tokenizer=str(folder),
    )


@pytest.mark.parametrize(
    ("tokenized_requests", "batch_size", "tokenizer_backend"),
    [(True, 4, "huggingface"), (False, 3, "huggingface"), (True, 2, "remote")],
)
def test_the_harness_finds_the_likelihoods_of_transformers(
    tokenized_requests: bool,
    batch_size: int,
    tokenizer_backend: str,
    folder: Path,
    server: RunningServer,
    expected: tuple[dict[str, Any], dict[str, list[list[Any]]]],
) -> None:
    model = LocalCompletionsAPI(
        model="tiny",
        base_url=f"http://127.0.0.1:{server.port}/v1/completions",
        tokenizer=str(folder),
        tokenizer_backend=tokenizer_backend,
        tokenized_requests=tokenized_requests,
        batch_size=batch_size,
        max_length=MAX_LEN,
        max_retries=1,
    )
    metrics, items = measured(model)
    their_metrics, their_items = expected
    assert items["choose"] == [pytest.approx(one, abs=TOLERANCE) for one in their_items["choose"]]
    assert items["read"] == [pytest.approx(one, abs=TOLERANCE) for one in their_items["read"]]
    assert items["write"] == their_items["write"]
    assert metrics == pytest.approx(their_metrics, rel=1e-5)
    assert {
        "choose.acc,none",
        "choose.acc_norm,none",
        "read.byte_perplexity,none",
        "write.exact_match,none",
    } <= metrics.keys()
