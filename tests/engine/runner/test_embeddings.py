"""Prompts given as embeddings: rows of the table are as good as tokens, others are what transformers takes them for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from served_model import ServedModel, asked, siblings
from tiny_checkpoints import load_runner, oracle, write_checkpoint
from torch import Tensor

from specserve.engine.api import GenerationRequest
from specserve.engine.errors import InvalidParameterError
from specserve.engine.prompt_embeds import check_file, placeholder_ids
from specserve.engine.runner.model_runner import ModelRunner

Folder = Callable[[str], Path]
PROMPTS = [[(step * at + 7 * at + 3) % 190 + 5 for at in range(length)] for step, length in ((3, 61), (5, 17), (11, 1))]


def taking_embeddings(folder: Path) -> ModelRunner:
    return load_runner(folder, "cpu", enable_prompt_embeds=True)


@pytest.fixture(scope="module")
def runner(checkpoint: Folder) -> ModelRunner:
    return taking_embeddings(checkpoint("llama"))


def embedded(request_id: str, rows: Tensor, **params: object) -> GenerationRequest:
    data = save({"prompt": rows})
    check_file(data, rows.shape[1])
    return replace(asked(request_id, placeholder_ids(data), **params), prompt_embeds=data)


def rows_of(runner: ModelRunner, prompt: list[int]) -> Tensor:
    return runner._model.get_input_embeddings()(torch.tensor(prompt)).detach().clone()


@pytest.mark.parametrize("name", ["llama", "gemma2", "gemma3_text", "gpt2", "opt", "granite", "cohere2", "qwen3_moe"])
@pytest.mark.parametrize("token_budget", [512, 16, 7])
def test_rows_of_the_embedding_table_give_the_text_of_their_tokens(
    name: str, token_budget: int, checkpoint: Folder
) -> None:
    runner = taking_embeddings(checkpoint(name))
    params = {"logprobs": 2, "repetition_penalty": 1.0}
    tokens = [asked(f"t{at}", prompt, **params) for at, prompt in enumerate(PROMPTS)]
    rows = [embedded(f"e{at}", rows_of(runner, prompt), **params) for at, prompt in enumerate(PROMPTS)]
    want = ServedModel(runner, token_budget=token_budget).run(*tokens)
    assert ServedModel(runner, token_budget=token_budget).run(*rows) == want
    # Between tokens of others, in one batch.
    mixed = ServedModel(runner, token_budget=token_budget).run(tokens[0], rows[1], tokens[1], rows[0], rows[2])
    assert [answer.token_ids for answer in mixed] == [want[at].token_ids for at in (0, 1, 1, 0, 2)]


@pytest.mark.parametrize("name", ["llama", "qwen2", "gemma2"])
def test_rows_of_the_table_are_as_good_in_bfloat16(name: str, tmp_path: Path) -> None:
    runner = taking_embeddings(write_checkpoint(name, tmp_path, torch.bfloat16))
    tokens = [asked(f"t{at}", prompt, logprobs=2) for at, prompt in enumerate(PROMPTS)]
    rows = [embedded(f"e{at}", rows_of(runner, prompt), logprobs=2) for at, prompt in enumerate(PROMPTS)]
    assert ServedModel(runner, token_budget=16).run(*rows) == ServedModel(runner, token_budget=16).run(*tokens)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_any_rows_are_taken_as_transformers_takes_them(
    runner: ModelRunner, dtype: torch.dtype, checkpoint: Folder
) -> None:
    rows = (torch.randn(23, 64, generator=torch.Generator().manual_seed(1)) * 0.2).to(dtype)
    (answer,) = ServedModel(runner, token_budget=8).run(embedded("a", rows, logprobs=1))
    with torch.inference_mode():
        model = oracle(checkpoint("llama"))
        table = model.get_input_embeddings()
        known = torch.cat([rows.float(), table(torch.tensor(answer.token_ids))])[None]
        truth = model(inputs_embeds=known).logits[0].log_softmax(-1)[len(rows) - 1 : -1]
    assert answer.token_ids == truth.argmax(-1).tolist()
    found = [token.sampled.logprob for token in answer.logprobs]
    assert found == pytest.approx(truth.max(-1).values.tolist(), abs=1e-4)  # attention sums in another order


def test_equally_long_embeddings_are_not_taken_for_each_other(runner: ModelRunner) -> None:
    requests = [embedded(f"r{at}", torch.full((40, 64), 0.1 * at), logprobs=3) for at in range(1, 4)]
    alone = [ServedModel(runner).run(request)[0] for request in requests]
    served = ServedModel(runner)
    assert served.run(*requests) == alone
    again = [replace(request, request_id=f"again-{at}") for at, request in enumerate(requests)]
    assert served.run(*again) == alone
    assert served.stats.num_cached_tokens == 0


def test_siblings_and_preempted_ones_keep_their_embeddings(runner: ModelRunner) -> None:
    rows = rows_of(runner, PROMPTS[0])
    (want,) = ServedModel(runner).run(embedded("alone", rows, max_tokens=40))
    served = ServedModel(runner, num_blocks=16)
    answers = served.run(*siblings(embedded("a", rows, max_tokens=40), 4))
    assert served.stats.num_preemptions > 0
    assert [answer.token_ids for answer in answers] == [want.token_ids] * 4


@pytest.mark.filterwarnings("ignore:Passing `repetition_penalty`")
def test_the_repetition_penalty_sees_the_answer_only(runner: ModelRunner, checkpoint: Folder) -> None:
    rows = rows_of(runner, PROMPTS[1])
    (answer,) = ServedModel(runner).run(embedded("a", rows, repetition_penalty=1.5, max_tokens=20))
    model = oracle(checkpoint("llama"))
    want = model.generate(inputs_embeds=rows[None], repetition_penalty=1.5, max_new_tokens=20, do_sample=False)
    assert answer.token_ids == want[0].tolist()


def test_embeddings_that_overflow_are_the_callers_fault(checkpoint: Folder) -> None:
    served = ServedModel(taking_embeddings(checkpoint("gpt2")))
    with pytest.raises(InvalidParameterError, match="not finite") as caught:
        served.run(embedded("a", torch.full((3, 64), 3e38)))
    assert caught.value.param == "prompt_embeds"
