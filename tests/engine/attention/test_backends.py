"""Every attention backend computes what the reference computes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from paged_batch import (
    CPU,
    PATHS,
    PagedSequences,
    Sequences,
    assert_close,
    attend,
    num_blocks_for,
    reference,
    spec_of,
)

from specserve.engine.attention.backend import LayerSpec
from specserve.engine.attention.cpu import CpuBackend

MIXED = [(1, 1), (1, 15), (1, 16), (1, 17), (1, 31), (1, 130), (5, 5), (16, 16), (33, 50), (20, 100)]
"""(query length, length): decodes at block edges first, then whole prompts and chunks behind a context."""
DTYPES = [torch.float32, torch.bfloat16]

every_path = pytest.mark.parametrize("path", PATHS)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Unless a test asks for more: OpenMP's waiting threads crawl where other programs hold the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def compare(path: str, spec: LayerSpec, lengths: list[tuple[int, int]], block_size: int = 16) -> None:
    found = attend(PATHS[path], spec, lengths, block_size)
    assert_close(found, attend(reference, spec, lengths, block_size))


@every_path
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("heads", [(4, 4), (14, 2), (5, 1), (32, 2)], ids=str)
def test_any_head_grouping(path: str, heads: tuple[int, int], dtype: torch.dtype) -> None:
    compare(path, spec_of(heads, 64, dtype=dtype), MIXED)


@every_path
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [16, 24, 32, 64, 80, 96, 128, 256])
def test_any_head_size(path: str, size: int, dtype: torch.dtype) -> None:
    compare(path, spec_of((4, 2), size, dtype=dtype), MIXED)


@every_path
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_odd_head_sizes_are_padded(path: str, dtype: torch.dtype) -> None:
    compare(path, spec_of((2, 1), 17, value_size=7, dtype=dtype), MIXED)


@every_path
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("sizes", [(24, 16), (192, 128), (16, 40)], ids=str)
def test_values_of_another_size_than_keys(path: str, sizes: tuple[int, int], dtype: torch.dtype) -> None:
    compare(path, spec_of((4, 4), sizes[0], value_size=sizes[1], dtype=dtype), MIXED)


@every_path
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("window", [1, 7, 16, 40])
def test_window(path: str, window: int, dtype: torch.dtype) -> None:
    compare(path, spec_of((14, 2), 64, dtype=dtype, window=window), MIXED)


@every_path
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("window", [None, 20])
def test_softcap(path: str, window: int | None, dtype: torch.dtype) -> None:
    compare(path, spec_of((4, 2), 64, dtype=dtype, window=window, softcap=1.5), MIXED)


@every_path
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("window", [None, 20])
def test_sinks(path: str, window: int | None, dtype: torch.dtype) -> None:
    compare(path, spec_of((4, 2), 64, dtype=dtype, window=window, sinks=True), MIXED)


@every_path
@pytest.mark.parametrize("block_size", [16, 32, 64])
def test_any_block_size(path: str, block_size: int) -> None:
    compare(path, spec_of((14, 2), 32, window=50), MIXED, block_size)


@every_path
@pytest.mark.parametrize("lengths", [[(1, n)] for n in (1, 15, 16, 17, 31, 32, 33, 63, 64, 65)], ids=str)
def test_single_decode_at_block_edges(path: str, lengths: list[tuple[int, int]]) -> None:
    compare(path, spec_of((14, 2), 64, dtype=torch.bfloat16), lengths)


@every_path
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_long_contexts_are_split_between_threads(path: str, dtype: torch.dtype) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        compare(path, spec_of((7, 1), 64, dtype=dtype), [(1, 3001)])
        compare(path, spec_of((7, 1), 64, dtype=dtype, sinks=True, window=2000), [(1, 40), (4, 3000)])
    finally:
        torch.set_num_threads(threads)


@every_path
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_padding_tokens_are_skipped(path: str, dtype: torch.dtype) -> None:
    spec = spec_of((4, 2), 64, dtype=dtype)
    assert_close(attend(PATHS[path], spec, MIXED, padding=6), attend(reference, spec, MIXED))


@every_path
def test_layers_of_different_kinds_share_a_step(path: str) -> None:
    layers = [
        spec_of((4, 2), 64, window=20),
        spec_of((4, 2), 64),
        spec_of((4, 1), 32, dtype=torch.float16),
        spec_of((4, 4), 24, value_size=16, softcap=5.0),
    ]
    backend, truth = PATHS[path](layers, 16), reference(layers, 16)
    spans = [(length - query, length) for query, length in MIXED]
    for at, spec in enumerate(layers):
        sequences = Sequences.draw(spec, [length for _, length in MIXED], seed=at)
        answers = []
        for each in (backend, truth):
            caches = each.allocate(num_blocks_for(sequences, 16))
            paged = PagedSequences(each, spec, sequences, caches, at)
            paged.write([(0, first) for first, _ in spans])
            answers.append(torch.cat(paged.step(spans)))
        assert_close(*answers)


@every_path
def test_a_nan_of_ones_own_is_not_hidden(path: str) -> None:
    spec = spec_of((4, 2), 64, dtype=torch.bfloat16)
    sequences = Sequences.draw(spec, [30, 30])
    sequences.keys[0][3] = float("nan")
    backend = PATHS[path]([spec], 16)
    paged = PagedSequences(backend, spec, sequences, backend.allocate(num_blocks_for(sequences, 16)))
    paged.write([(0, 29), (0, 29)])
    sick, healthy = paged.step([(29, 30), (29, 30)])
    assert sick.isnan().all()
    assert not healthy.isnan().any()


@every_path
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_any_batch(path: str, data: st.DataObject) -> None:
    spec = spec_of(
        data.draw(st.sampled_from([(4, 4), (6, 2), (3, 1)])),
        data.draw(st.sampled_from([16, 40, 64])),
        dtype=data.draw(st.sampled_from(DTYPES)),
        window=data.draw(st.none() | st.integers(1, 90)),
        softcap=data.draw(st.none() | st.just(3.0)),
        sinks=data.draw(st.booleans()),
    )
    decodes = data.draw(st.lists(st.integers(1, 150), max_size=4))
    pairs = st.tuples(st.integers(2, 60), st.integers(0, 90))
    chunks = data.draw(st.lists(pairs, min_size=0 if decodes else 1, max_size=3))
    compare(path, spec, [(1, n) for n in decodes] + [(new, before + new) for new, before in chunks])


@every_path
@settings(max_examples=15, deadline=None)
@given(
    length=st.integers(1, 120),
    cuts=st.sets(st.integers(1, 119), max_size=5),
    window=st.none() | st.integers(1, 60),
)
def test_any_split_of_a_prompt_gives_the_same_output(
    path: str, length: int, cuts: set[int], window: int | None
) -> None:
    spec = spec_of((6, 2), 32, window=window)
    sequences = Sequences.draw(spec, [length])
    edges = [0, *sorted(cut for cut in cuts if cut < length), length]
    backend = PATHS[path]([spec], 16)
    answers = []
    for spans in ([(0, length)], list(pairwise(edges))):
        paged = PagedSequences(backend, spec, sequences, backend.allocate(num_blocks_for(sequences, 16)))
        answers.append(torch.cat([paged.step([span])[0] for span in spans]))
    assert_close(*answers)


def test_what_the_kernel_cannot_serve_goes_to_torch_and_is_told() -> None:
    layers = [spec_of(dtype=torch.float16), spec_of(), spec_of()]
    backend = CpuBackend(layers, CPU, 16)
    if backend.kernel is None:
        pytest.skip("; ".join(backend.describe()))
    assert backend.describe() == [
        f"CPU attention: kernel with {backend.kernel.isa} for 2 of 3 layers",
        "CPU attention: pure torch for 1 of 3 layers: float16 (the kernel takes bfloat16 and float32)",
    ]


@pytest.mark.parametrize("isa", ["torch", None])
def test_bytes_per_block_is_what_a_block_takes(isa: str | None) -> None:
    layers = [spec_of((4, 2), 64, dtype=torch.bfloat16), spec_of((4, 4), 24, value_size=16)]
    backend = CpuBackend(layers, CPU, 32, isa=isa)

    def taken(num_blocks: int) -> int:
        return sum(cache.keys.nbytes + cache.values.nbytes for cache in backend.allocate(num_blocks))

    assert taken(11) - taken(10) == backend.bytes_per_block()
