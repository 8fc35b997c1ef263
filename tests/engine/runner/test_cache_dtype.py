"""--kv-cache-dtype: logits are those of transformers with rounded keys and values, whatever else is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_checkpoints import VOCAB_SIZE, batch_of, generate, load_runner, oracle, request_of, write_checkpoint
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from specserve.engine.attention.backend import LayerSpec
from specserve.engine.attention.cache_dtype import with_cache_dtype
from specserve.engine.attention.rounded_rows import restore, store
from specserve.engine.config import CacheConfig
from specserve.engine.errors import InvalidParameterError, UnsupportedModelError
from specserve.engine.params import SamplingParams
from specserve.engine.runner.model_runner import ModelRunner

Folder = Callable[[str], Path]
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
IDS = torch.randint(3, VOCAB_SIZE, (90,), generator=torch.Generator().manual_seed(1)).tolist()


def rounded(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **rest: Any
) -> tuple[Tensor, None]:
    """torch's attention over what bytes and scales keep of keys and values."""
    size = key.shape[-1]
    key = restore(store(key, torch.int8, are_keys=True), size, torch.int8, query.dtype, are_keys=True)
    value = restore(store(value, torch.int8, are_keys=False), size, torch.int8, query.dtype, are_keys=False)
    answer: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, mask, **rest)
    return answer


@pytest.fixture(scope="module", autouse=True)
def rounding_attention() -> None:
    ALL_ATTENTION_FUNCTIONS.register("rounded_sdpa", rounded)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def logits(runner: ModelRunner, cuts: list[int]) -> Tensor:
    table = torch.randperm(40, generator=torch.Generator().manual_seed(2))[: -(-len(IDS) // 16)].add(1).tolist()
    request = request_of("a", IDS, table)
    edges = [0, *cuts, len(IDS)]
    return torch.cat([runner.logits(batch_of((request, first, last - first))) for first, last in pairwise(edges)])


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_logits_are_those_of_transformers_with_rounded_keys_and_values(kind: str, checkpoint: Folder) -> None:
    folder = checkpoint(kind)
    model = oracle(folder, torch.float32)
    model.set_attn_implementation("rounded_sdpa")
    wanted = model(input_ids=torch.tensor([IDS]), use_cache=False).logits[0]
    model.set_attn_implementation("sdpa")
    plain = model(input_ids=torch.tensor([IDS]), use_cache=False).logits[0]
    for backend in ("cpu", "reference"):
        found = logits(load_runner(folder, backend, dtype="float32", cache_dtype="int8"), [17, 60, 61])
        # Where a number lies between two bytes, another order of sums may take the other one.
        assert (found - wanted).pow(2).mean() < 0.02 * (plain - wanted).pow(2).mean()


@torch.inference_mode()
def test_a_whole_step_in_one_kernel_rounds_as_well(tmp_path: Path) -> None:
    folder = write_checkpoint("qwen2", tmp_path, torch.bfloat16)
    runner = load_runner(folder, "cpu", cache_dtype="int8")
    model = oracle(folder, torch.float32)
    exact = model(input_ids=torch.tensor([IDS]), use_cache=False).logits[0]
    model.set_attn_implementation("rounded_sdpa")
    wanted = model(input_ids=torch.tensor([IDS]), use_cache=False).logits[0]
    theirs = oracle(folder, torch.bfloat16)(input_ids=torch.tensor([IDS]), use_cache=False).logits[0].float()
    found = logits(runner, [30, 31])
    # bfloat16 loses as much as transformers' own does; beyond that only what the bytes lose is allowed.
    limit = 1.5 * (theirs - exact).pow(2).mean() + (wanted - exact).pow(2).mean()
    assert (found - exact).pow(2).mean() < 1.5 * limit


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_text_does_not_depend_on_chunks_neighbours_prefixes_or_preemption(dtype: str, checkpoint: Folder) -> None:
    runner = load_runner(checkpoint("llama"), "cpu", dtype=dtype, cache_dtype="int8")
    prompts = [IDS[:40], IDS[:7], IDS[20:45], IDS[:40], IDS[:1], IDS[:33] + IDS[60:70]]
    params = [SamplingParams(max_tokens=12, temperature=1.1, seed=at, ignore_eos=True) for at in range(len(prompts))]
    alone = [generate(runner, [prompt], [one])[0] for prompt, one in zip(prompts, params, strict=True)]
    for token_budget, num_blocks in ((512, 48), (16, 48), (64, 11)):
        assert generate(runner, prompts, params, token_budget=token_budget, num_blocks=num_blocks) == alone


def test_memory_holds_nearly_twice_the_tokens_and_the_banner_says_so(checkpoint: Folder) -> None:
    def loaded(cache_dtype: str) -> ModelRunner:
        return load_runner(checkpoint("llama"), "cpu", dtype="bfloat16", cache_dtype=cache_dtype)

    notes = [note for note in loaded("int8").info.notes if note.startswith("KV cache in int8")]
    assert notes[0].startswith("KV cache in int8: 768 tokens, ")
    assert not [note for note in loaded("auto").info.notes if "KV cache" in note]


SPECS = {0: LayerSpec(4, 2, 64, 64, torch.bfloat16, 0.125)}


@pytest.mark.parametrize("name", ["auto", "bfloat16"])
def test_what_the_model_computes_in_changes_nothing(name: str) -> None:
    assert with_cache_dtype(SPECS, name, CPU) == SPECS


@pytest.mark.parametrize("name", ["fp8", "fp8_e4m3"])
def test_8_bit_floats_are_for_gpus(name: str) -> None:
    assert with_cache_dtype(SPECS, name, CUDA)[0].cache_dtype is torch.float8_e4m3fn
    with pytest.raises(UnsupportedModelError) as refusal:
        with_cache_dtype(SPECS, name, CPU)
    assert "use --kv-cache-dtype int8" in refusal.value.remedy


def test_8_bit_floats_need_a_gpu_that_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    with pytest.raises(UnsupportedModelError, match=r"needs a GPU of compute capability 8\.9 .* this one has 8\.0"):
        with_cache_dtype(SPECS, "fp8", CUDA)


def test_bytes_with_scales_are_for_cpus() -> None:
    assert with_cache_dtype(SPECS, "int8", CPU)[0].cache_dtype is torch.int8
    with pytest.raises(UnsupportedModelError) as refusal:
        with_cache_dtype(SPECS, "int8", CUDA)
    assert "use fp8" in refusal.value.remedy


def test_a_type_the_model_does_not_compute_in_is_refused(checkpoint: Folder) -> None:
    with pytest.raises(UnsupportedModelError, match="--kv-cache-dtype is bfloat16, but the model computes in float32"):
        load_runner(checkpoint("llama"), "cpu", dtype="float32", cache_dtype="bfloat16")


def test_an_unknown_type_names_the_known_ones() -> None:
    with pytest.raises(InvalidParameterError, match="'fp4', but must be one of auto, bfloat16"):
        CacheConfig(dtype="fp4")
