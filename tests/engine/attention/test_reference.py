"""The reference backend agrees with torch and transformers attending over whole sequences with full masks."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from paged_batch import PagedSequences, Sequences, num_blocks_for, reference, spec_of
from torch import Tensor
from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward as softcapped_attention
from transformers.models.gpt_oss.modeling_gpt_oss import eager_attention_forward as attention_with_sinks

from specserve.engine.attention.backend import LayerSpec

LENGTHS = [37, 1, 64, 16]
STEPS = [
    [(0, 20), (0, 1), (0, 0), (0, 15)],
    [(20, 36), (0, 0), (0, 40), (15, 16)],
    [(36, 37), (0, 0), (40, 64), (0, 0)],
]
"""Positions each sequence computes in each step: chunked prefill mixed with decodes."""


def mask_of(length: int, window: int | None) -> Tensor:
    """True where the query of the row sees the key of the column."""
    visible = torch.ones(length, length, dtype=torch.bool).tril()
    return visible if window is None else visible.triu(1 - window)


def paged(spec: LayerSpec, sequences: Sequences) -> list[Tensor]:
    backend = reference([spec], 16)
    cache = PagedSequences(backend, spec, sequences, backend.allocate(num_blocks_for(sequences, 16)))
    answers: list[list[Tensor]] = [[] for _ in LENGTHS]
    for spans in STEPS:
        rows = [row for row, (first, last) in enumerate(spans) if last > first]
        for row, out in zip(rows, cache.step(spans), strict=True):
            answers[row].append(out)
    return [torch.cat(parts) for parts in answers]


def whole(x: Tensor) -> Tensor:
    """[length, heads, size] → [1, heads, length, size]"""
    return x.transpose(0, 1)[None]


@pytest.mark.parametrize("heads", [(4, 4), (6, 2), (5, 1)], ids=str)
@pytest.mark.parametrize("sizes", [(64, 64), (24, 16)], ids=str)
@pytest.mark.parametrize("window", [None, 9])
def test_equals_torch(heads: tuple[int, int], sizes: tuple[int, int], window: int | None) -> None:
    spec = spec_of(heads, sizes[0], value_size=sizes[1], window=window)
    sequences = Sequences.draw(spec, LENGTHS)
    for row, found in enumerate(paged(spec, sequences)):
        q, k, v = (whole(x[row]) for x in (sequences.queries, sequences.keys, sequences.values))
        mask = mask_of(LENGTHS[row], window)
        wanted = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=spec.scale, enable_gqa=True)
        torch.testing.assert_close(found, wanted[0].transpose(0, 1), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("window", [None, 9])
def test_softcap_equals_transformers(window: int | None) -> None:
    spec = spec_of((6, 2), 32, softcap=2.0, window=window)
    sequences = Sequences.draw(spec, LENGTHS)
    module = SimpleNamespace(num_key_value_groups=3, training=False)
    for row, found in enumerate(paged(spec, sequences)):
        mask = torch.zeros(LENGTHS[row], LENGTHS[row]).masked_fill(~mask_of(LENGTHS[row], window), float("-inf"))
        q, k, v = (whole(x[row]) for x in (sequences.queries, sequences.keys, sequences.values))
        wanted, _ = softcapped_attention(module, q, k, v, mask, scaling=spec.scale, softcap=2.0)
        torch.testing.assert_close(found, wanted[0], atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("window", [None, 9])
def test_sinks_equal_transformers(window: int | None) -> None:
    spec = spec_of((6, 2), 32, sinks=True, window=window)
    sequences = Sequences.draw(spec, LENGTHS)
    module = SimpleNamespace(num_key_value_groups=3, training=False, sinks=sequences.sinks)
    for row, found in enumerate(paged(spec, sequences)):
        mask = torch.zeros(LENGTHS[row], LENGTHS[row]).masked_fill(~mask_of(LENGTHS[row], window), float("-inf"))
        q, k, v = (whole(x[row]) for x in (sequences.queries, sequences.keys, sequences.values))
        wanted, _ = attention_with_sinks(module, q, k, v, mask, scaling=spec.scale)
        torch.testing.assert_close(found, wanted[0], atol=2e-6, rtol=1e-5)
