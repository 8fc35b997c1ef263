"""The xformers backend computes what the reference computes; its kernels run in Triton's interpreter.

The kernel source is the one that runs on a GPU, only the compiler differs. Not covered here: bfloat16 (which
the interpreter multiplies wrongly), FlashAttention itself, speed. tests/gpu is for those.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from attention_cases import CASES, DECODES, MIXED, PREFILL_CASES, Case, largest_error, steps_of
from flash_stand_in import flash_forward
from greedy import SHORTFALL, generated_by, generated_by_transformers, largest_shortfall, tiny_llama

from specserve.engine.attention import xformers_check
from specserve.engine.attention.backend import LayerSpec
from specserve.engine.attention.xformers_backend import XFormersBackend
from specserve.engine.attention.xformers_check import load_operators
from specserve.engine.attention.xformers_plan import DecodeBatch

pytestmark = pytest.mark.interpreted

CPU = torch.device("cpu")
TOLERANCE = {torch.float32: 5e-6, torch.float16: 3e-3}
"""float32: other order of summation. float16: results of size 1 to 4 are rounded to 11 bits, and so are the
weights before they multiply the values."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_agrees_with_the_reference(case: Case) -> None:
    assert largest_error(XFormersBackend, case, torch.float32, CPU) <= TOLERANCE[torch.float32]


@pytest.mark.parametrize("case", CASES[::3], ids=lambda case: case.name)
def test_agrees_with_the_reference_in_half_precision(case: Case) -> None:
    assert largest_error(XFormersBackend, case, torch.float16, CPU) <= TOLERANCE[torch.float16]


@pytest.mark.parametrize("case", PREFILL_CASES, ids=lambda case: case.name)
def test_prefill_gives_flash_attention_what_it_is_documented_to_take(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    operators = xformers_check.load_operators()
    flash = sys.modules[type(operators).__module__].flash
    calls: list[bool] = []

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(True)
        return flash_forward(*args, **kwargs)

    monkeypatch.setattr(flash.FwOp, "OPERATOR", counted)
    monkeypatch.setattr(type(operators), "flash_misfit", lambda *_: None)
    assert largest_error(XFormersBackend, case, torch.float16, CPU) <= TOLERANCE[torch.float16]
    assert calls


def test_a_context_that_fills_half_of_its_table_fills_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = Case("", MIXED, heads=(28, 4), head_size=128).layers(torch.float16)
    backend = XFormersBackend(layers, CPU, 64)
    monkeypatch.setattr(backend, "_multiprocessors", 132)
    found = {}
    for size, tokens in ((1, 2048), (1, 32768), (8, 8192), (32, 32768), (128, 8192), (1024, 2048)):
        batch = DecodeBatch(load_operators(), size, tokens // 64, None, 64, CPU)
        found[size, tokens] = backend.num_splits(batch, 4)
    assert found == {(1, 2048): 8, (1, 32768): 64, (8, 8192): 32, (32, 32768): 10, (128, 8192): 2, (1024, 2048): 1}


def test_decode_steps_rewrite_the_same_memory() -> None:
    case = Case("decodes", DECODES, windows=(None, 40), padded_rows=1)
    backend = XFormersBackend(case.layers(torch.float32), CPU, case.block_size)
    batches, num_blocks = steps_of(case, CPU)
    backend.allocate(num_blocks)
    seen = set()
    for batch in batches[1:3]:
        backend.plan(batch.metadata)
        seen.add(tuple(address for window in (None, 40) for address in addresses(backend, window)))
    assert len(batches[1].spans) == len(batches[2].spans)
    assert len(seen) == 1


def addresses(backend: XFormersBackend, window: int | None) -> list[int]:
    bias = backend._decodes[window].bias
    read = [bias.k_seqinfo.seqlen, bias.k_seqinfo.seqstart, bias.block_tables, backend.slots]
    return [id(bias), *(tensor.data_ptr() for tensor in read)]


def test_a_kernel_launched_again_after_plan_sees_the_new_step() -> None:
    """What a CUDA graph does: launch with what was captured, after other numbers were written into it."""
    case = Case("decodes", DECODES, padded_rows=1)
    layers = case.layers(torch.float32)
    backend = XFormersBackend(layers, CPU, case.block_size)
    batches, num_blocks = steps_of(case, CPU)
    cache = backend.allocate(num_blocks)[0]
    cache.keys.normal_()
    cache.values.normal_()
    query = torch.randn(4, layers[0].num_heads, layers[0].head_size)
    backend.plan(batches[1].metadata)
    captured = backend._decodes[None].bias
    for batch in batches[1:3]:
        backend.plan(batch.metadata)
        again = backend._operators.paged_decode(query, cache.keys, cache.values, captured, layers[0].scale, 1)[0]
        torch.testing.assert_close(again, backend.attend(0, query, cache), atol=5e-6, rtol=0)


def test_greedy_tokens_are_those_of_transformers() -> None:
    model = tiny_llama(torch.float32, CPU)
    assert generated_by(XFormersBackend, model) == generated_by_transformers(model)


def test_greedy_tokens_in_half_precision_are_nearly_the_best() -> None:
    model = tiny_llama(torch.float16, CPU)
    assert largest_shortfall(model, generated_by(XFormersBackend, model)) < SHORTFALL[torch.float16]


def test_bytes_per_block_is_what_a_block_takes() -> None:
    layers = [*Case("", MIXED, head_size=80).layers(torch.float16), *Case("", MIXED).layers(torch.float32)]
    backend = XFormersBackend(layers, CPU, 64)

    def taken(num_blocks: int) -> int:
        return sum(cache.keys.nbytes + cache.values.nbytes for cache in backend.allocate(num_blocks))

    assert taken(11) - taken(10) == backend.bytes_per_block()


def test_serves_what_it_can() -> None:
    layers = [
        spec
        for case in (Case("", MIXED, heads=(14, 2)), Case("", MIXED, sinks=True, windows=(9,), head_size=96))
        for spec in case.layers(torch.float16)
    ]
    assert XFormersBackend.refuses(layers, CPU, 64) is None


def test_a_kernel_that_computes_something_else_is_refused_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    operators = type(xformers_check.load_operators())
    honest = operators.paged_decode

    def wrong(*args: Any, **kwargs: Any) -> Any:
        out, lse = honest(*args, **kwargs)
        return out * 1.1, lse

    monkeypatch.setattr(operators, "paged_decode", wrong)
    reason = XFormersBackend.refuses(Case("", MIXED).layers(torch.float16), CPU, 64)
    assert reason is not None
    assert reason.startswith("the attention self-test is off by ")
    assert "\n" not in reason


def test_a_kernel_that_raises_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("at 247:21:\n            K_block_ptr = tl.make_block_ptr(\n  ^")

    monkeypatch.setattr(type(xformers_check.load_operators()), "paged_decode", broken)
    reason = XFormersBackend.refuses(Case("", MIXED).layers(torch.float16), CPU, 64)
    assert reason is not None
    assert reason.startswith("the attention self-test failed (RuntimeError: at 247:21:)")
    assert "\n" not in reason


def test_bfloat16_is_refused_in_the_interpreter() -> None:
    reason = XFormersBackend.refuses(Case("", MIXED).layers(torch.bfloat16), CPU, 64)
    assert reason == "Triton's interpreter multiplies bfloat16 wrongly; use float16 or float32 there"


def test_describe_tells_what_is_not_as_fast_as_it_could_be() -> None:
    layers: list[LayerSpec] = Case("", MIXED, head_size=80).layers(torch.float16)
    assert XFormersBackend(layers, CPU, 64).describe() == [
        "xformers attention: paged split-K decode and FlashAttention 2 prefill, blocks of 64",
        "xformers attention: prefill of 1 of 1 layers in torch, not FlashAttention 2: it does not run on cpu",
        "xformers attention: heads of 1 of 1 layers are padded in the cache",
    ]
