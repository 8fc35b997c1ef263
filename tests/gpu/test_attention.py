"""On a GPU: every backend agrees with the reference, in the data types that models are served in.

What the CPU's tests cannot show: bfloat16, compiled kernels, FlashAttention 2 itself. The cases are theirs,
and a few that would take the interpreter too long. Written without a GPU at hand, and not yet run on one.
"""

from __future__ import annotations

import pytest
import torch
from attention_cases import CASES, FLOAT8_CASES, PREFILL_CASES, Case, largest_error
from greedy import SHORTFALL, generated_by, largest_shortfall, tiny_llama

from specserve.engine.attention.backend import AttentionBackend, LayerSpec
from specserve.engine.attention.select import BACKENDS, load_backend, select_backend
from specserve.engine.attention.xformers_backend import XFormersBackend

pytestmark = pytest.mark.gpu

TOLERANCE = {torch.float32: 1e-2, torch.float16: 4e-3, torch.bfloat16: 4e-2}
"""Results have sizes up to 4. float16 and bfloat16: weights and results are rounded to 11 and 8 bits.
float32: Triton multiplies in TF32, which rounds inputs to 11 bits before scores are formed."""
LARGE_CASES = (
    Case(
        "many sequences of all lengths",
        tuple((1 + 137 * row % 2900, 1, 1) for row in range(70)),
        heads=(28, 4),
        head_size=128,
    ),
    Case("a context of 9000 tokens in chunks", ((4000, 4000, 1000, 1, 1),), heads=(8, 2), head_size=128),
    Case("a long window", ((5000, 300, 1, 1), (900, 1, 1, 1)), heads=(8, 2), windows=(None, 4096)),
    Case("heads of 512", ((60, 1, 7, 1), (9, 5, 1, 1)), head_size=512),
)
DTYPES = [torch.bfloat16, torch.float16]


def backends(case: Case, dtype: torch.dtype, device: torch.device) -> list[type[AttentionBackend]]:
    """All but the reference that do not refuse the case; xformers has to be among them."""
    found = []
    for name in BACKENDS:
        backend, reason = load_backend(name)
        assert backend is not None, reason
        refusal = backend.refuses(case.layers(dtype), device, case.block_size)
        assert refusal is None or backend is not XFormersBackend, refusal
        if refusal is None and name != "reference":
            found.append(backend)
    return found


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", [*CASES, *PREFILL_CASES, *LARGE_CASES], ids=lambda case: case.name)
def test_agrees_with_the_reference(case: Case, dtype: torch.dtype, gpu: torch.device) -> None:
    for backend in backends(case, dtype, gpu):
        assert largest_error(backend, case, dtype, gpu) <= TOLERANCE[dtype], backend.name


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", FLOAT8_CASES, ids=lambda case: case.name)
def test_8_bit_floats_are_read_as_the_reference_reads_them(case: Case, dtype: torch.dtype, gpu: torch.device) -> None:
    backend = select_backend("auto", case.layers(dtype), gpu, None)
    assert backend.name == "triton"
    assert largest_error(type(backend), case, dtype, gpu) <= TOLERANCE[dtype]


@pytest.mark.parametrize("case", CASES[:4], ids=lambda case: case.name)
def test_float32_agrees_to_tf32(case: Case, gpu: torch.device) -> None:
    assert largest_error(XFormersBackend, case, torch.float32, gpu) <= TOLERANCE[torch.float32]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_prefill_is_done_by_flash_attention(dtype: torch.dtype, gpu: torch.device) -> None:
    assert XFormersBackend(CASES[0].layers(dtype), gpu, 64).describe() == [
        "xformers attention: paged split-K decode and FlashAttention 2 prefill, blocks of 64"
    ]


def test_xformers_is_the_first_choice(gpu: torch.device) -> None:
    assert select_backend("auto", CASES[0].layers(torch.bfloat16), gpu, None).name == "xformers"


def test_a_model_with_softcap_is_served_by_another_backend(gpu: torch.device) -> None:
    capped = LayerSpec(4, 2, 64, 64, torch.bfloat16, 0.125, softcap=50.0)
    assert select_backend("auto", [capped], gpu, None).name == "triton"


@pytest.mark.parametrize("dtype", [torch.float32, *DTYPES], ids=str)
def test_greedy_decoding_chooses_what_transformers_would(dtype: torch.dtype, gpu: torch.device) -> None:
    model = tiny_llama(dtype, gpu)
    assert largest_shortfall(model, generated_by(XFormersBackend, model)) < SHORTFALL[dtype]
