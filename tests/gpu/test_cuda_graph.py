"""On a GPU: a captured decode step computes whatever batch was planned since, without a new capture."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from attention_cases import Case, steps_of
from torch import Tensor

from specserve.engine.attention.backend import AttentionBackend, LayerCache, LayerSpec
from specserve.engine.attention.reference import ReferenceBackend
from specserve.engine.attention.xformers_backend import XFormersBackend

pytestmark = pytest.mark.gpu

CASE = Case(
    "decodes",
    tuple((prompt, *[1] * 6) for prompt in (61, 5, 128, 700)),
    heads=(14, 2),
    windows=(None, 100),
    padded_rows=3,
)
"""Four sequences and three padded rows, so one row more is padded by the backend itself."""
TOLERANCE = 4e-2
"""bfloat16 results of sizes up to 4 are rounded to 8 bits."""


class DecodeStep:
    """One step through all layers with inputs in memory that stays, as a runner captures it."""

    def __init__(self, backend: AttentionBackend, caches: list[LayerCache], spec: LayerSpec, rows: int) -> None:
        self.backend, self.caches = backend, caches
        device = caches[0].keys.device
        self.query, self.key, self.value = (
            torch.zeros(rows, heads, spec.head_size, dtype=spec.dtype, device=device)
            for heads in (spec.num_heads, spec.num_kv_heads, spec.num_kv_heads)
        )

    def run(self) -> list[Tensor]:
        outputs = []
        for layer, cache in enumerate(self.caches):
            self.backend.write_kv(layer, self.key, self.value, cache)
            outputs.append(self.backend.attend(layer, self.query, cache))
        return outputs


@torch.inference_mode()
def test_replays_follow_the_plan(gpu: torch.device) -> None:
    layers = CASE.layers(torch.bfloat16)
    backend = XFormersBackend(layers, gpu, CASE.block_size)
    truth = ReferenceBackend([replace(spec, dtype=torch.float32) for spec in layers], gpu, CASE.block_size)
    batches, num_blocks = steps_of(CASE, gpu)
    caches, exact = backend.allocate(num_blocks), truth.allocate(num_blocks)
    generator = torch.Generator(gpu).manual_seed(0)

    prompt = batches[0].metadata
    backend.plan(prompt)
    truth.plan(prompt)
    for layer, spec in enumerate(layers):
        key, value = (
            torch.randn(
                sum(prompt.query_lens),
                spec.num_kv_heads,
                spec.head_size,
                generator=generator,
                device=gpu,
                dtype=spec.dtype,
            )
            for _ in range(2)
        )
        backend.write_kv(layer, key, value, caches[layer])
        truth.write_kv(layer, key.float(), value.float(), exact[layer])

    rows = len(batches[1].metadata.query_lens)
    step = DecodeStep(backend, caches, layers[0], rows)
    backend.plan(batches[1].metadata)
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # compiles the kernels, which a capture must not do
        step.run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step.run()

    for batch in batches[1:]:
        for tensor in (step.query, step.key, step.value):
            tensor.normal_(generator=generator)
        backend.plan(batch.metadata)
        graph.replay()
        truth.plan(batch.metadata)
        for layer in range(len(layers)):
            truth.write_kv(layer, step.key.float(), step.value.float(), exact[layer])
            wanted = truth.attend(layer, step.query.float(), exact[layer])
            real = len(batch.rows)
            error = (captured[layer][:real].float() - wanted[:real]).abs().max()
            assert float(error) <= TOLERANCE
