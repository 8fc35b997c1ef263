"""The runner on a tiny model: text does not depend on chunks, neighbours, preemption or cached prefixes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_checkpoints import batch_of, generate, load_runner, oracle, request_of, write_checkpoint
from transformers import BertConfig, BertLMHeadModel

from specserve.engine.batch import ScheduledBatch
from specserve.engine.config import EngineConfig, ModelConfig
from specserve.engine.errors import UnsupportedModelError
from specserve.engine.params import SamplingParams
from specserve.engine.runner.model_runner import ModelRunner
from specserve.engine.sampling.sampler import NOT_FINITE

Folder = Callable[[str], Path]
PROMPTS = [list(range(3, 3 + length)) for length in (40, 7, 25, 40, 1)]


@pytest.fixture(scope="module")
def runner(checkpoint: Folder) -> ModelRunner:
    return load_runner(checkpoint("llama"), "cpu")


def seeded(**params: float) -> list[SamplingParams]:
    return [
        SamplingParams(max_tokens=10, seed=at, ignore_eos=True, **params)  # type: ignore[arg-type]
        for at in range(len(PROMPTS))
    ]


def test_seeded_text_does_not_depend_on_chunks_neighbours_or_preemption(runner: ModelRunner) -> None:
    params = seeded(temperature=1.3, top_p=0.9)
    alone = [generate(runner, [prompt], [chosen])[0] for prompt, chosen in zip(PROMPTS, params, strict=True)]
    assert generate(runner, PROMPTS, params, token_budget=512) == alone
    assert generate(runner, PROMPTS, params, token_budget=16) == alone
    # Nine usable blocks hold 144 tokens; the five sequences grow to 163.
    assert generate(runner, PROMPTS, params, num_blocks=10) == alone


def test_what_another_request_left_in_a_block_does_not_matter(runner: ModelRunner) -> None:
    request = request_of("a", PROMPTS[2], [5, 6])
    before = runner.logits(batch_of((request, 0, 25)))
    runner.logits(batch_of((request_of("b", PROMPTS[0], [6, 5, 7]), 0, 40)))
    assert torch.equal(runner.logits(batch_of((request, 0, 25))), before)


def test_chunks_without_a_last_token_sample_nothing(runner: ModelRunner) -> None:
    output = runner.execute(batch_of((request_of("a", PROMPTS[0], [1, 2, 3]), 0, 30)))
    assert output.sampled == output.failed == {}


def test_logits_that_are_not_finite_fail_their_request_only(checkpoint: Folder) -> None:
    runner = load_runner(checkpoint("llama"), "cpu")
    embedding = runner._model.get_input_embeddings().weight
    embedding[77] = float("nan")
    good, bad = request_of("good", [5, 6, 7], [1]), request_of("bad", [5, 77, 7], [2])
    output = runner.execute(batch_of((good, 0, 3), (bad, 0, 3)))
    assert output.failed == {"bad": NOT_FINITE}
    assert list(output.sampled) == ["good"]


def test_logprobs_agree_with_transformers(runner: ModelRunner, checkpoint: Folder) -> None:
    request = request_of("a", PROMPTS[2], [1, 2], logprobs=3)
    sampled = runner.execute(batch_of((request, 0, 25))).sampled["a"]
    assert sampled.logprobs is not None
    with torch.inference_mode():
        logits = oracle(checkpoint("llama"))(input_ids=torch.tensor([PROMPTS[2]])).logits[0, -1]
    want = logits.log_softmax(-1).topk(3)
    assert [top.token_id for top in sampled.logprobs.top] == want.indices.tolist()
    assert [top.logprob for top in sampled.logprobs.top] == pytest.approx(want.values.tolist(), abs=1e-4)
    assert sampled.logprobs.sampled == sampled.logprobs.top[0]


def test_warm_up_leaves_no_trace(checkpoint: Folder) -> None:
    runner = load_runner(checkpoint("llama"), "cpu")
    cold = generate(runner, PROMPTS, seeded())
    runner.warm_up()
    assert generate(runner, PROMPTS, seeded()) == cold


def test_an_empty_batch_computes_nothing(runner: ModelRunner) -> None:
    assert runner.execute(ScheduledBatch()).sampled == {}


def test_info_describes_what_runs(runner: ModelRunner, checkpoint: Folder) -> None:
    info = runner.info
    assert info.architecture == "LlamaForCausalLM"
    assert (info.device, info.dtype, info.attention_backend) == ("cpu", "float32", "cpu")
    assert (info.vocab_size, info.max_model_len, info.num_blocks) == (199, 128, 48)
    assert info.eos_token_ids == (1,)
    assert info.num_parameters == sum(p.numel() for p in oracle(checkpoint("llama")).parameters())
    assert info.path == str(checkpoint("llama"))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_progress_is_told_in_phases_and_never_falls(dtype: str, checkpoint: Folder) -> None:
    told: list[tuple[str, float]] = []
    config = EngineConfig(model=ModelConfig(path=str(checkpoint("llama")), dtype=dtype, device="cpu"))
    ModelRunner.load(config, lambda *update: told.append(update))
    phases = [phase for phase, _ in told]
    assert list(dict.fromkeys(phases)) == [
        "looking for the model",
        "reading weights",
        "packing weights",
        "allocating the KV cache",
    ]
    assert [done for _, done in told] == sorted(done for _, done in told)
    assert told[-1][1] <= 1.0


def test_an_encoder_with_a_language_head_is_refused(tmp_path: Path) -> None:
    config = BertConfig(vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    BertLMHeadModel(config).save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModelError, match="looks ahead"):
        load_runner(tmp_path)


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_bfloat16_text_is_that_of_transformers_where_it_is_sure(name: str, tmp_path: Path) -> None:
    """Rounding differs between attention kernels, so only steps with a clear best token are compared."""
    folder = write_checkpoint(name, tmp_path, torch.bfloat16)
    runner = load_runner(folder, "cpu")
    if runner.info.dtype != "bfloat16":
        pytest.skip("this CPU has no bfloat16 instructions")
    ids = PROMPTS[0]
    with torch.inference_mode():
        want = oracle(folder, torch.bfloat16)(input_ids=torch.tensor([ids])).logits[0].float()
    got = runner.logits(batch_of((request_of("a", ids, [1, 2, 3]), 0, len(ids)))).float()
    best = want.topk(2).values
    sure = best[:, 0] - best[:, 1] > 0.2
    assert int(sure.sum()) > len(ids) // 2
    assert torch.equal(got.argmax(-1)[sure], want.argmax(-1)[sure])
