"""Whole sequences side by side without padding: the kernel and torch's attention against the definition."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from specserve.engine.attention.backend import LayerSpec
from specserve.engine.attention.cpu_kernel import Kernel
from specserve.engine.attention.reference import attend_one_sequence
from specserve.engine.attention.sequences import SequenceAttention

TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
"""Rounding of each type over values of size 1."""
LENGTHS = [1, 16, 130, 7, 33, 600]
"""600: longer than what the kernel sums up by itself."""


def draw(lengths: list[int], heads: tuple[int, int], size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(sum(lengths))
    counts = (heads[0], heads[1], heads[1])
    query, key, value = (torch.randn(sum(lengths), n, size, generator=generator).to(dtype) for n in counts)
    return query, key, value


def truth(lengths: list[int], spec: LayerSpec, tensors: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    pieces = zip(*(torch.split(tensor, lengths) for tensor in tensors), strict=True)
    return torch.cat([attend_one_sequence(q, k, v, spec, None) for q, k, v in pieces])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("with_kernel", [True, False])
@pytest.mark.parametrize("window", [None, 1, 20, 1000])
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("heads", [(3, 3), (4, 2)])
def test_each_token_sees_its_own_sequence(
    dtype: torch.dtype, with_kernel: bool, window: int | None, is_causal: bool, heads: tuple[int, int]
) -> None:
    spec = LayerSpec(*heads, 32, 32, dtype, 0.2, window=window, is_causal=is_causal)
    attention = SequenceAttention(Kernel() if with_kernel else None)
    for lengths in (LENGTHS[:2], LENGTHS):  # the second step needs more pages than the first
        tensors = draw(lengths, heads, 32, dtype)
        attention.plan(lengths)
        found = attention.layer(0, spec, *tensors, None)
        torch.testing.assert_close(found, truth(lengths, spec, tensors), atol=TOLERANCES[dtype], rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_sequence_does_not_feel_its_neighbours(dtype: torch.dtype) -> None:
    spec = LayerSpec(4, 4, 32, 32, dtype, 0.2, is_causal=False)
    attention = SequenceAttention(Kernel())
    query, key, value = draw(LENGTHS, (4, 4), 32, dtype)
    attention.plan(LENGTHS)
    together = torch.split(attention.layer(0, spec, query, key, value, None), LENGTHS)
    start = 0
    for length, beside in zip(LENGTHS, together, strict=True):
        attention.plan([length])
        part = slice(start, start + length)
        assert torch.equal(attention.layer(0, spec, query[part], key[part], value[part], None), beside)
        start += length


def test_a_decoder_can_be_read_as_an_encoder() -> None:
    spec = LayerSpec(2, 1, 16, 16, torch.float32, 0.25)
    tensors = draw(LENGTHS, (2, 1), 16, torch.float32)
    attention = SequenceAttention(Kernel(), ignores_order=True)
    attention.plan(LENGTHS)
    both_ways = LayerSpec(2, 1, 16, 16, torch.float32, 0.25, is_causal=False)
    found = attention.layer(0, spec, *tensors, None)
    torch.testing.assert_close(found, truth(LENGTHS, both_ways, tensors), atol=1e-5, rtol=0)
