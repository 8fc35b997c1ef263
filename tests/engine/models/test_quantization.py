"""Weights rounded on load: products as exact as the rounding says, in whole models too, whatever is computed beside."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_checkpoints import VOCAB_SIZE, batch_of, generate, load_runner, oracle, request_of, write_checkpoint
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from specserve.engine.config import ModelConfig
from specserve.engine.errors import UnsupportedModelError
from specserve.engine.models import cpu_linear, quantization
from specserve.engine.models.cpu_linear import CpuProduct
from specserve.engine.models.linear import replace_linears
from specserve.engine.models.load import load_model
from specserve.engine.models.quantization import KEPT, Quantization
from specserve.engine.models.weight_forms import INT4, INT8, WholeNumbers
from specserve.engine.native.library import KernelUnavailableError
from specserve.engine.params import SamplingParams

FORMS = [INT8, INT4]
PROMPT = torch.randint(3, VOCAB_SIZE, (90,), generator=torch.Generator().manual_seed(1)).tolist()


@pytest.fixture(scope="module", autouse=True)
def kernel() -> None:
    try:
        for form in FORMS:
            cpu_linear.check_form(form)
    except KernelUnavailableError as error:
        pytest.skip(str(error))


def nothing(done: float) -> None:
    pass


def rounded_activations(x: Tensor, group: int) -> Tensor:
    """What the kernel multiplies: int8 in groups. float32 decides which way a tie goes."""
    groups = F.pad(x, (0, -x.shape[1] % group)).float().unflatten(1, (-1, group))
    largest = groups.abs().amax(-1, keepdim=True).clamp_min(1e-30)
    factors = torch.full_like(largest, 127) / largest  # "127 / largest" would round twice
    return ((groups * factors).round().double() * largest / 127).flatten(1)[:, : x.shape[1]]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
@settings(max_examples=30, deadline=None)
@given(rows=st.integers(0, 40), num_out=st.integers(1, 80), num_in=st.integers(1, 200), bias=st.booleans())
def test_products_are_those_of_the_rounded_numbers(
    form: WholeNumbers, rows: int, num_out: int, num_in: int, bias: bool
) -> None:
    torch.manual_seed(rows + num_out + num_in)
    x, weight = torch.randn(rows, num_in).bfloat16(), (torch.randn(num_out, num_in) / num_in**0.5).bfloat16()
    shift = torch.randn(num_out).bfloat16() if bias else None
    got = CpuProduct(weight, shift, form)(x)
    want = F.linear(
        rounded_activations(x, form.group), form.rounded(weight).double(), None if shift is None else shift.double()
    )
    torch.testing.assert_close(got.double(), want, atol=1e-5, rtol=2**-8)  # bfloat16 keeps 8 bits


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
@pytest.mark.parametrize("rows", [1, 12, 33, 256])
def test_activations_lose_less_than_a_hundredth(form: WholeNumbers, rows: int) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(rows, 896).bfloat16(), torch.randn(160, 896).bfloat16()
    want = F.linear(x.float(), form.rounded(weight))
    assert float((CpuProduct(weight, None, form)(x).float() - want).norm() / want.norm()) < 0.01


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
@settings(max_examples=50, deadline=None)
@given(size=st.floats(1e-20, 1e20), seed=st.integers(0, 1000))
def test_a_weight_is_moved_by_half_a_step_at_most_and_never_cut_off(form: WholeNumbers, size: float, seed: int) -> None:
    weight = torch.randn(5, 2 * form.group, generator=torch.Generator().manual_seed(seed)) * size
    numbers, scales = form.quantize(weight)
    largest = weight.unflatten(1, (2, -1)).abs().amax(-1)
    assert numbers.abs().max() <= form.most
    assert torch.all(scales.float() * form.most <= largest * (1 + 2**-6))
    step = scales.float().repeat_interleave(form.group, dim=1)
    assert torch.all((form.rounded(weight) - weight).abs() <= 0.5001 * step)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_a_row_does_not_depend_on_the_rows_beside_it(form: WholeNumbers) -> None:
    torch.manual_seed(0)
    product, x = CpuProduct(torch.randn(130, 72).bfloat16(), None, form), torch.randn(200, 72).bfloat16()
    whole = product(x)
    for count in (1, 2, 11, 12, 13, 63, 64, 150):
        assert torch.equal(product(x[:count]), whole[:count])
    assert torch.equal(product(x[:, None].expand(-1, 3, -1)[5:9])[:, 1], whole[5:9])


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_stays_so_and_in_its_row(form: WholeNumbers, value: float) -> None:
    x = torch.ones(3, 100).bfloat16()
    x[1, 70] = value
    y = CpuProduct(torch.ones(40, 100).bfloat16(), None, form)(x)
    assert not y[1].isfinite().any()
    torch.testing.assert_close(y[[0, 2]], torch.full((2, 40), 100.0).bfloat16())


@torch.inference_mode()
def test_layers_that_a_model_keeps_in_float32_are_left_so() -> None:
    model = nn.Sequential(nn.Linear(64, 40), nn.Linear(64, 40).bfloat16())
    model.get_output_embeddings = lambda: None
    x = torch.randn(3, 64)
    want = model[0](x)
    rounded = Quantization("int8")
    assert replace_linears(model, nothing, rounded) is None
    torch.testing.assert_close(model[0](x), want, atol=1e-5, rtol=1e-5)
    assert rounded.notes(5200) == ["quantized on load: 0.0 M in int8 of 0.0 M parameters"]


def with_rounded_weights(model: PreTrainedModel, form: WholeNumbers) -> PreTrainedModel:
    """transformers' own forward in float32, with the weights that the quantized ones stand for."""
    head = model.get_output_embeddings()
    head.weight = nn.Parameter(head.weight.detach().clone())  # not the embedding's, where they were one
    for name, layer in model.named_modules():
        if type(layer) not in (nn.Linear, Conv1D) or name.split(".")[-1] in KEPT:
            continue
        weight = layer.weight.detach().bfloat16()
        weight = weight.T if isinstance(layer, Conv1D) else weight
        rounded = (INT8 if layer is head else form).rounded(weight)
        layer.weight = nn.Parameter(rounded.T if isinstance(layer, Conv1D) else rounded)
    return model


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "gemma2", "gpt2", "phi3", "qwen2_moe"])
@torch.inference_mode()
def test_logits_are_those_of_the_rounded_weights(name: str, form: WholeNumbers, tmp_path: Path) -> None:
    """Within what int8 activations and bfloat16 take away: a twentieth of the logits' spread, in the mean.

    A tenth where experts are chosen: some tokens are on the edge between two.
    """
    folder = write_checkpoint(name, tmp_path, torch.bfloat16)
    runner = load_runner(folder, "cpu", quantization=form.name)
    assert any(f"in {form.name}" in note for note in runner.info.notes)
    assert any("CPU decoder" in note for note in runner.info.notes) == (name in ("llama", "qwen2", "qwen3"))
    got = runner.logits(batch_of((request_of("r", PROMPT, list(range(1, 9))), 0, len(PROMPT)))).float()
    truth = with_rounded_weights(oracle(folder, torch.float32), form)(input_ids=torch.tensor([PROMPT])).logits[0]
    plain = oracle(folder, torch.float32)(input_ids=torch.tensor([PROMPT])).logits[0]
    assert (got - truth).std() < (0.1 if "moe" in name else 0.05) * truth.std()
    if form is INT4:
        assert (got - truth).std() < 0.5 * (plain - truth).std(), "the weights were rounded otherwise"


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_text_does_not_depend_on_batches_chunks_and_threads(form: WholeNumbers, tmp_path: Path) -> None:
    folder = write_checkpoint("llama", tmp_path, torch.bfloat16, tie_word_embeddings=True)
    runner = load_runner(folder, "cpu", quantization=form.name)
    prompts = [PROMPT, PROMPT[7:40], [7, 8, 9]]
    params = [SamplingParams(max_tokens=30, temperature=0.0, ignore_eos=True, logprobs=3)] * len(prompts)
    threads = torch.get_num_threads()
    alone = [generate(runner, [ids], params[:1], token_budget=128)[0] for ids in prompts]
    whole = runner.logits(batch_of((request_of("whole", PROMPT, list(range(1, 9))), 0, len(PROMPT))))
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            for budget in (128, 17):
                assert generate(runner, prompts, params, token_budget=budget) == alone
            request = request_of("pieces", PROMPT, list(range(9, 17)))
            pieces = [runner.logits(batch_of((request, at, n))) for at, n in ((0, 50), (50, 39), (89, 1))]
            assert torch.equal(torch.cat(pieces), whole)
    finally:
        torch.set_num_threads(threads)


def test_the_note_counts_what_was_rounded(tmp_path: Path) -> None:
    runner = load_runner(write_checkpoint("qwen2_moe", tmp_path, torch.bfloat16), "cpu", quantization="int4")
    (note,) = [note for note in runner.info.notes if "quantized" in note]
    assert "in int4" in note
    assert "in int8" in note, "the head"
    assert f"of {runner.info.num_parameters / 1e6:.1f} M parameters" in note


def test_a_tied_embedding_stays_plain_and_progress_ends_at_one() -> None:
    embedding, head = nn.Embedding(50, 16), nn.Linear(16, 50, bias=False)
    head.weight = embedding.weight
    model = nn.Sequential(embedding, head).bfloat16()
    model.get_output_embeddings = lambda: head
    seen: list[float] = []
    assert replace_linears(model, seen.append, Quantization("int4")) is None
    assert embedding.weight.dtype == torch.bfloat16
    assert model[1].weight.device.type == "meta"
    assert seen[-1] == 1.0


class TestWhatIsRefused:
    def load(self, folder: Path, **options: str) -> tuple[torch.dtype, tuple[str, ...]]:
        loaded = load_model(ModelConfig(path=str(folder), device="cpu", **options), lambda phase, done: None)
        return loaded.dtype, loaded.notes

    def test_float32_models_run_in_bfloat16_with_a_note(self, tmp_path: Path) -> None:
        dtype, notes = self.load(write_checkpoint("llama", tmp_path), quantization="int8")
        assert dtype == torch.bfloat16
        assert any("--quantization int8" in note and "bfloat16" in note for note in notes)

    @pytest.mark.parametrize("dtype", ["float32", "float16", "half"])
    def test_another_type_that_was_asked_for(self, tmp_path: Path, dtype: str) -> None:
        with pytest.raises(UnsupportedModelError) as raised:
            self.load(write_checkpoint("llama", tmp_path), quantization="int4", dtype=dtype)
        assert "--quantization int4" in raised.value.cause
        assert "--dtype" in raised.value.remedy

    def test_a_processor_without_the_instructions(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SPECSERVE_CPU_ISA", "avx2")
        with pytest.raises(UnsupportedModelError) as raised:
            self.load(write_checkpoint("llama", tmp_path, torch.bfloat16), quantization="int8")
        assert "--quantization int8 cannot be had here" in raised.value.cause
        assert "AVX512_BF16" in raised.value.remedy

    def test_a_kernel_that_computes_something_else(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cpu_linear, "SELF_TEST_TOLERANCE", 0.0)
        with pytest.raises(UnsupportedModelError, match="off by"):
            self.load(write_checkpoint("llama", tmp_path, torch.bfloat16), quantization="int8")

    def test_an_unknown_form_lists_the_known_ones(self, tmp_path: Path) -> None:
        with pytest.raises(UnsupportedModelError) as raised:
            self.load(write_checkpoint("llama", tmp_path, torch.bfloat16), quantization="int5")
        assert "int8, int4" in raised.value.remedy

    def test_a_gpu(self) -> None:
        with pytest.raises(UnsupportedModelError) as raised:
            quantization.check(Quantization("int8"), torch.device("cuda"), torch.bfloat16)
        assert "CPU" in raised.value.cause
