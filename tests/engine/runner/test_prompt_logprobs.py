"""Log probabilities of prompts and answers are those of transformers, however the work is cut into steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from served_model import Answer, ServedModel, asked, siblings
from tiny_checkpoints import batch_of, load_runner, oracle, request_of, write_checkpoint
from torch import Tensor

from specserve.engine.api import FinishReason, TokenLogprob
from specserve.engine.runner.model_runner import ModelRunner
from specserve.engine.sampling.sampler import NOT_FINITE

Folder = Callable[[str], Path]
CLOSE = 1e-4
"""Attention sums in another order than transformers' own; float32 then differs in the sixth digit."""
PROMPTS = [[(step * at + 7 * at + 3) % 190 + 5 for at in range(length)] for step, length in ((3, 61), (5, 18), (11, 1))]


@pytest.fixture(scope="module")
def runner(checkpoint: Folder) -> ModelRunner:
    return load_runner(checkpoint("llama"), "cpu")


@cache
def true_logprobs(folder: Path, token_ids: tuple[int, ...]) -> Tensor:
    """[T, V]: row t says how likely each token is behind the first t + 1."""
    with torch.inference_mode():
        return oracle(folder)(input_ids=torch.tensor([token_ids])).logits[0].double().log_softmax(-1)


def check_token(found: TokenLogprob, row: Tensor) -> None:
    value = float(row[found.token_id])
    assert found.logprob == pytest.approx(value, abs=CLOSE)
    assert int((row > value + CLOSE).sum()) < found.rank <= int((row > value - CLOSE).sum()) + 1


def check_prompt(answer: Answer, folder: Path, prompt: Sequence[int], num_top: int) -> None:
    truth = true_logprobs(folder, tuple(prompt))
    assert answer.prompt_logprobs is not None
    assert len(answer.prompt_logprobs) == len(prompt)
    assert answer.prompt_logprobs[0] is None
    for token_id, found, row in zip(prompt[1:], answer.prompt_logprobs[1:], truth[:-1], strict=True):
        assert found is not None
        assert found.sampled.token_id == token_id
        check_token(found.sampled, row)
        assert [top.rank for top in found.top] == list(range(1, num_top + 1))
        best = row.topk(num_top).values.tolist()
        assert [top.logprob for top in found.top] == pytest.approx(best, abs=CLOSE)
        for top in found.top:
            check_token(top, row)


@pytest.mark.parametrize("name", ["llama", "gemma2", "granite", "gpt2", "opt", "qwen3_moe"])
@pytest.mark.parametrize("token_budget", [512, 16, 7])
def test_the_prompts_logprobs_are_those_of_transformers(name: str, token_budget: int, checkpoint: Folder) -> None:
    served = ServedModel(load_runner(checkpoint(name), "cpu"), token_budget=token_budget)
    requests = [asked(f"r{at}", prompt, prompt_logprobs=at) for at, prompt in enumerate(PROMPTS)]
    for at, (prompt, answer) in enumerate(zip(PROMPTS, served.run(*requests), strict=True)):
        check_prompt(answer, checkpoint(name), prompt, at)
        assert len(answer.token_ids) == 6


@pytest.mark.parametrize("max_reported_rows", [1, 10])
def test_steps_that_may_look_at_few_rows_report_the_same(
    runner: ModelRunner, max_reported_rows: int, checkpoint: Folder
) -> None:
    served = ServedModel(runner, max_reported_rows=max_reported_rows)
    requests = [asked(f"r{at}", prompt, prompt_logprobs=2) for at, prompt in enumerate(PROMPTS)]
    for prompt, answer in zip(PROMPTS, served.run(*requests), strict=True):
        check_prompt(answer, checkpoint("llama"), prompt, 2)


def test_the_whole_vocabulary_can_be_reported(runner: ModelRunner, checkpoint: Folder) -> None:
    size = runner.info.vocab_size
    (answer,) = ServedModel(runner).run(asked("a", PROMPTS[1], prompt_logprobs=size, logprobs=size))
    check_prompt(answer, checkpoint("llama"), PROMPTS[1], size)
    assert [len(found.top) for found in answer.logprobs] == [size] * 6


def test_neighbours_that_ask_for_nothing_get_nothing_and_the_same_text(runner: ModelRunner) -> None:
    plain = [asked(f"p{at}", prompt) for at, prompt in enumerate(PROMPTS)]
    alone = ServedModel(runner).run(*plain)
    mixed = ServedModel(runner).run(*plain, *(asked(f"r{at}", p, prompt_logprobs=1) for at, p in enumerate(PROMPTS)))
    assert mixed[:3] == alone
    assert all(answer.prompt_logprobs is None for answer in alone)
    assert [answer.token_ids for answer in mixed[3:]] == [answer.token_ids for answer in alone]


def test_cached_prefixes_are_not_read_but_left_for_others(runner: ModelRunner, checkpoint: Folder) -> None:
    served = ServedModel(runner)
    served.run(asked("before", PROMPTS[0]))
    (answer,) = served.run(asked("asking", PROMPTS[0], prompt_logprobs=1))
    check_prompt(answer, checkpoint("llama"), PROMPTS[0], 1)
    assert served.stats.num_cached_tokens == 0
    other = [9, *PROMPTS[0]]
    served.run(asked("filling", other, prompt_logprobs=1))
    served.run(asked("after", other))
    assert served.stats.num_cached_tokens == 48  # three full blocks of 16 of the 62 tokens


def test_a_preempted_request_reports_every_position_once(runner: ModelRunner, checkpoint: Folder) -> None:
    prompts = [[*PROMPTS[0], at] for at in range(20, 24)]
    requests = [asked(f"r{at}", prompt, prompt_logprobs=1, max_tokens=40) for at, prompt in enumerate(prompts)]
    alone = [ServedModel(runner).run(request)[0] for request in requests]
    served = ServedModel(runner, num_blocks=16, token_budget=8, max_reported_rows=4)
    answers = served.run(*requests)
    assert served.stats.num_preemptions > 0  # fifteen blocks of 16 hold two of the sequences when they are grown up
    for prompt, answer, want in zip(prompts, answers, alone, strict=True):
        check_prompt(answer, checkpoint("llama"), prompt, 1)
        assert answer.token_ids == want.token_ids


@pytest.mark.parametrize("n", [1, 2])
def test_a_prompt_that_gives_way_halfway_goes_on_where_it_was(runner: ModelRunner, n: int, checkpoint: Folder) -> None:
    served = ServedModel(runner, token_budget=20, max_num_seqs=1, policy="priority")
    slow = siblings(asked("slow", PROMPTS[0], prompt_logprobs=1), n)
    served.add(*slow)
    served.step()
    served.step()
    served.add(replace(asked("urgent", PROMPTS[1], prompt_logprobs=2), priority=-1))
    served.run()
    assert served.stats.num_preemptions == 1
    check_prompt(served.answers["urgent"], checkpoint("llama"), PROMPTS[1], 2)
    for request in slow:
        check_prompt(served.answers[request.request_id], checkpoint("llama"), PROMPTS[0], 1)


def test_siblings_each_get_them_while_the_prompt_is_computed_once(runner: ModelRunner, checkpoint: Folder) -> None:
    served = ServedModel(runner, token_budget=16)
    for answer in served.run(*siblings(asked("a", PROMPTS[0], prompt_logprobs=2), 3)):
        check_prompt(answer, checkpoint("llama"), PROMPTS[0], 2)
    assert served.stats.num_cached_tokens == 2 * 48


def test_siblings_get_them_when_the_first_leaves_in_the_middle(runner: ModelRunner, checkpoint: Folder) -> None:
    served = ServedModel(runner, token_budget=8)
    first, *others = siblings(asked("a", PROMPTS[0], prompt_logprobs=2), 3)
    served.add(first, *others)
    served.step()
    served.step()
    served.core.abort([first.request_id])
    served.outputs.remove(first.request_id)
    served.run()
    for sibling in others:
        check_prompt(served.answers[sibling.request_id], checkpoint("llama"), PROMPTS[0], 2)


@pytest.mark.parametrize("prompt", PROMPTS, ids=len)
def test_without_an_answer_the_prompt_is_computed_and_its_blocks_are_free(
    runner: ModelRunner, prompt: list[int], checkpoint: Folder
) -> None:
    served = ServedModel(runner, token_budget=16)
    silent, reporting = served.run(
        asked("a", prompt, max_tokens=0), asked("b", prompt, max_tokens=0, prompt_logprobs=1, logprobs=1)
    )
    assert silent == Answer(finish_reason=FinishReason.LENGTH)
    check_prompt(reporting, checkpoint("llama"), prompt, 1)
    assert (reporting.token_ids, reporting.logprobs) == ([], [])
    assert reporting.finish_reason is FinishReason.LENGTH
    assert served.stats.num_generated_tokens == 0


def test_a_prompt_without_an_answer_may_fill_the_whole_context(runner: ModelRunner, checkpoint: Folder) -> None:
    prompt = [at % 150 + 5 for at in range(runner.info.max_model_len)]
    (answer,) = ServedModel(runner).run(asked("a", prompt, max_tokens=0, prompt_logprobs=0))
    check_prompt(answer, checkpoint("llama"), prompt, 0)


@pytest.mark.parametrize("token_budget", [64, 7])
def test_answers_report_the_raw_distribution_of_transformers(
    runner: ModelRunner, token_budget: int, checkpoint: Folder
) -> None:
    named = (150, 3, 77, 3)
    options: list[dict[str, object]] = [
        {"logprobs": 4},
        {"logprobs": 0, "logprob_token_ids": named},
        {"logprobs": 2, "temperature": 1.5, "seed": 3, "repetition_penalty": 1.7, "logit_bias": {9: 8.0}},
    ]
    served = ServedModel(runner, token_budget=token_budget)
    requests = [asked(f"r{at}", PROMPTS[0], **chosen) for at, chosen in enumerate(options)]
    for request, answer in zip(requests, served.run(*requests), strict=True):
        truth = true_logprobs(checkpoint("llama"), (*PROMPTS[0], *answer.token_ids))[len(PROMPTS[0]) - 1 :]
        assert [found.sampled.token_id for found in answer.logprobs] == answer.token_ids
        for found, row in zip(answer.logprobs, truth, strict=False):
            check_token(found.sampled, row)
            for top in found.top:
                check_token(top, row)
            if request.params.logprob_token_ids:
                assert tuple(top.token_id for top in found.top) == named
            else:
                assert len(found.top) == request.params.logprobs


@pytest.mark.parametrize("token_budget", [512, 7])
def test_in_bfloat16_they_are_those_of_the_logits_that_are_computed(token_budget: int, tmp_path: Path) -> None:
    """The kernels for bfloat16 choose rows for themselves; how exact their logits are is tested elsewhere."""
    runner = load_runner(write_checkpoint("llama", tmp_path, torch.bfloat16), "cpu")
    plain, (found,) = (
        ServedModel(runner, token_budget=token_budget).run(asked("a", PROMPTS[0], **chosen))
        for chosen in ({}, {"prompt_logprobs": 3})
    )
    assert found.token_ids == plain[0].token_ids
    assert found.prompt_logprobs is not None
    known = request_of("b", PROMPTS[0], [1, 2, 3, 4])
    truth = runner.logits(batch_of((known, 0, len(PROMPTS[0])))).double().log_softmax(-1)
    for at, (one, row) in enumerate(zip(found.prompt_logprobs[1:], truth[:-1], strict=True), start=1):
        assert one is not None
        assert one.sampled.token_id == PROMPTS[0][at]
        # Cut into steps, sums are taken in another order, and bfloat16 has three digits.
        close = 1e-4 if token_budget == 512 else 0.1
        assert one.sampled.logprob == pytest.approx(float(row[PROMPTS[0][at]]), abs=close)
        assert [top.logprob for top in one.top] == pytest.approx(row.topk(3).values.tolist(), abs=close)


def test_a_prompt_whose_logits_are_not_finite_fails_alone(checkpoint: Folder) -> None:
    broken = load_runner(checkpoint("llama"), "cpu")
    broken._model.get_input_embeddings().weight[77] = float("nan")
    served = ServedModel(broken)
    good, bad = asked("good", [5, 6, 7], prompt_logprobs=1), asked("bad", [5, 77, 7], prompt_logprobs=1)
    served.add(good)
    assert served.core.add([bad]) == []
    errors = {progress.request_id: progress.error for progress in served.core.step()}
    assert errors == {"good": None, "bad": NOT_FINITE}
