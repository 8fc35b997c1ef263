"""Logits of rows with adapters are those of PEFT, whatever else is in the batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import PeftModel
from peft_adapters import EVERY_KIND, load, lora_runner, rows_of, with_adapter, write_adapter
from tiny_checkpoints import VOCAB_SIZE, batch_of, load_runner, oracle, write_checkpoint

from specserve.engine.adapter import Adapter
from specserve.engine.batch import SampledToken
from specserve.engine.models.cpu_linear import check_form
from specserve.engine.models.weight_forms import BFLOAT16
from specserve.engine.native.library import KernelUnavailableError
from specserve.engine.runner.model_runner import ModelRunner

PROMPT_LENGTHS = [19, 7, 30, 12, 25, 9, 16, 3]
NAMES = ["attention", None, "everything", "by pattern", "attention", "some layers", None, "head"]


def prompts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(3, VOCAB_SIZE, (length,), generator=generator).tolist() for length in PROMPT_LENGTHS]


@pytest.fixture(scope="module")
def folders(checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = checkpoint("llama")
    root = tmp_path_factory.mktemp("adapters")
    return {
        name: write_adapter(base, root / name.replace(" ", "-"), seed=at, **options)
        for at, (name, options) in enumerate(EVERY_KIND.items())
    }


@torch.inference_mode()
def test_logits_of_several_adapters_in_one_batch_are_those_of_peft(
    checkpoint: Callable[[str], Path], folders: dict[str, Path]
) -> None:
    base = checkpoint("llama")
    runner = lora_runner(base, "reference")
    requests = rows_of(NAMES, load(runner, folders), prompts())
    got = runner.logits(batch_of(*((request, 0, request.num_tokens) for request in requests)))
    for request, name, logits in zip(requests, NAMES, got.split(PROMPT_LENGTHS), strict=True):
        model = oracle(base) if name is None else with_adapter(base, folders[name])
        want = model(input_ids=torch.tensor([request.token_ids])).logits[0]
        torch.testing.assert_close(logits, want, atol=1e-4, rtol=1e-4)


@pytest.fixture(scope="module")
def rounded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model in bfloat16, which the lean decoder of CPUs computes."""
    return write_checkpoint("llama", tmp_path_factory.mktemp("rounded"), torch.bfloat16)


@pytest.mark.parametrize("quantization", ["none", "int8", "int4"])
@torch.inference_mode()
def test_rows_of_the_lean_decoder_depend_on_no_other_row_by_a_bit(
    rounded: Path, folders: dict[str, Path], quantization: str
) -> None:
    """Rows without adapter are those of a server that knows no adapters."""
    try:
        check_form(BFLOAT16)
    except KernelUnavailableError as error:
        pytest.skip(str(error))
    runner = lora_runner(rounded, "cpu", quantization=quantization)
    plain = load_runner(rounded, "cpu", quantization=quantization)
    assert any("CPU decoder" in note for note in runner.info.notes)
    requests = rows_of(NAMES, load(runner, folders), prompts())
    together = runner.logits(batch_of(*((request, 0, request.num_tokens) for request in requests)))
    for request, mixed in zip(requests, together.split(PROMPT_LENGTHS), strict=True):
        by_itself = plain if request.adapter is None else runner
        assert torch.equal(by_itself.logits(batch_of((request, 0, request.num_tokens))), mixed)


@torch.inference_mode()
def test_the_lean_decoder_is_as_exact_as_peft_in_bfloat16(rounded: Path, folders: dict[str, Path]) -> None:
    runner = lora_runner(rounded, "cpu")
    requests = rows_of(NAMES, load(runner, folders), prompts())
    got = runner.logits(batch_of(*((request, 0, request.num_tokens) for request in requests)))
    for request, name, logits in zip(requests, NAMES, got.split(PROMPT_LENGTHS), strict=True):
        if name is None:
            continue
        ids = torch.tensor([request.token_ids])
        truth = PeftModel.from_pretrained(oracle(rounded, torch.float32), folders[name])(input_ids=ids).logits[0]
        theirs = PeftModel.from_pretrained(oracle(rounded, torch.bfloat16), folders[name])(input_ids=ids).logits[0]
        assert truth.std() > 0.2
        assert (logits - truth).pow(2).mean() < 1.5 * (theirs.float() - truth).pow(2).mean()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    mix=st.lists(st.sampled_from([None, *EVERY_KIND]), min_size=1, max_size=len(NAMES)),
    cut=st.integers(min_value=1, max_value=29),
)
def test_any_mix_of_adapters_in_a_batch_is_each_alone(
    mix: list[str | None], cut: int, rounded: Path, folders: dict[str, Path]
) -> None:
    """In two chunks, so that single tokens and longer pieces meet in a step; in the order of the runner."""
    runner, adapters = lean(rounded, frozenset(folders.items()))
    requests = rows_of(mix, adapters, prompts()[: len(mix)])
    found: dict[str, SampledToken] = {}
    for pieces in (
        [(request, 0, min(cut, request.num_tokens)) for request in requests],
        [(request, cut, request.num_tokens - cut) for request in requests if request.num_tokens > cut],
    ):
        found |= runner.execute(batch_of(*sorted(pieces, key=lambda piece: piece[2] != 1))).sampled
    for request in requests:
        alone = runner.execute(batch_of((request, 0, request.num_tokens))).sampled
        assert alone[request.request_id].token_id == found[request.request_id].token_id


@cache
def lean(rounded: Path, folders_of: frozenset[tuple[str, Path]]) -> tuple[ModelRunner, dict[str, Adapter]]:
    runner = lora_runner(rounded, "cpu")
    return runner, load(runner, dict(sorted(folders_of)))
