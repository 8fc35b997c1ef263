"""Keys and values of 8 bits: what is written, what is read of it, and that a row's result is its own affair."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from paged_batch import (
    CPU,
    PATHS,
    PagedSequences,
    Sequences,
    attend,
    metadata,
    num_blocks_for,
    reference,
    spec_of,
    strided,
)
from scipy.linalg import hadamard
from torch import Tensor

from specserve.engine.attention.backend import LayerSpec
from specserve.engine.attention.cpu import CpuBackend
from specserve.engine.attention.rounded_rows import (
    SCALE_BYTES,
    decode,
    encode,
    pack,
    packed_size,
    restore,
    store,
    turn,
    turned_length,
    unpack,
)
from specserve.engine.native.library import KernelUnavailableError, load_library

MIXED = [(1, 1), (1, 16), (1, 17), (1, 130), (5, 5), (33, 50), (20, 100), (70, 700)]
DTYPES = [torch.float32, torch.bfloat16]
every_path = pytest.mark.parametrize("path", PATHS)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
KERNELS = [path for path in PATHS if path != "cpu-torch"]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def int8_spec(
    heads: tuple[int, int] = (4, 2),
    size: int = 64,
    *,
    value_size: int | None = None,
    dtype: torch.dtype = torch.bfloat16,
    window: int | None = None,
    softcap: float | None = None,
    sinks: bool = False,
) -> LayerSpec:
    return spec_of(
        heads,
        size,
        value_size=value_size,
        dtype=dtype,
        window=window,
        softcap=softcap,
        sinks=sinks,
        cache_dtype=torch.int8,
    )


def assert_close(found: Tensor, wanted: Tensor) -> None:
    """float32: probabilities and queries of 16 bits; bfloat16: the rounding of results, in torch of what is read."""
    tolerance = 1e-3 if wanted.dtype == torch.float32 else 2e-2
    torch.testing.assert_close(found, wanted, atol=tolerance, rtol=tolerance)


def compare(path: str, spec: LayerSpec, lengths: list[tuple[int, int]], block_size: int = 16) -> None:
    assert_close(attend(PATHS[path], spec, lengths, block_size), attend(reference, spec, lengths, block_size))


# ---- what is written -----------------------------------------------------------------------------------------


@given(
    values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=40),
    exponent=st.integers(-100, 0),
)
def test_a_number_is_off_by_at_most_half_a_step(values: list[float], exponent: int) -> None:
    row = torch.tensor(values) * 2.0**exponent
    codes, scale = encode(row)
    step = float(scale)
    largest = float(row.abs().max())
    assert step <= largest / 127 * (1 + 2**-7) + 1e-38
    if step:
        assert float((decode(codes, scale) - row).abs().max()) <= step * 0.5001
    else:
        assert largest < 127 * 2.0**-118


def test_torch_quantizes_to_the_same_bytes_with_the_same_scale() -> None:
    rows = torch.randn(50, 3, 64, generator=torch.Generator().manual_seed(0)) * torch.logspace(-6, 6, 50)[:, None, None]
    codes, scales = encode(rows)
    for row, found, scale in zip(rows.flatten(0, 1), codes.flatten(0, 1), scales.flatten(), strict=True):
        wanted = torch.quantize_per_tensor(row, float(scale), 0, torch.qint8).int_repr()
        # torch multiplies by the inverse as well; a number in the middle between two bytes may still fall either way
        assert int((wanted.int() - found.int()).abs().max()) <= 1
        assert float((wanted != found).float().mean()) < 0.02


@given(size=st.integers(1, 40), seed=st.integers(0, 9))
def test_packing_is_undone_by_unpacking(size: int, seed: int) -> None:
    rows = torch.randn(5, 2, size, generator=torch.Generator().manual_seed(seed))
    packed = pack(rows)
    assert packed.shape == (5, 2, packed_size(size))
    assert torch.equal(unpack(packed, size, torch.float32), decode(*encode(rows)))


@pytest.mark.parametrize("size", [1, 2, 16, 24, 64, 80, 128, 17])
def test_turning_is_multiplying_by_hadamard_matrices(size: int) -> None:
    rows = torch.randn(6, 3, size, generator=torch.Generator().manual_seed(size))
    length = turned_length(size)
    matrix = torch.from_numpy(hadamard(length)).double()
    wanted = (rows.double().unflatten(-1, (-1, length)) @ matrix).flatten(-2)
    torch.testing.assert_close(turn(rows).double(), wanted, atol=1e-5, rtol=1e-5)


def test_one_large_number_costs_the_others_little() -> None:
    """As keys of some models have them in every token; the scale of plain bytes would be that number's."""
    keys = torch.randn(500, 64, generator=torch.Generator().manual_seed(0))
    keys[:, 3] += 40
    kept = restore(store(keys, torch.int8, are_keys=True), 64, torch.int8, torch.float32, are_keys=True)
    plain = decode(*encode(keys))
    assert (kept - keys).pow(2).mean() < (plain - keys).pow(2).mean() / 16


def written(backend: CpuBackend, spec: LayerSpec, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values [T, K, D] as the kernel's pages hold them, taken apart by hand."""
    num_tokens = keys.shape[0]
    (cache,) = backend.allocate(-(-num_tokens // 16))
    table = torch.arange(-(-num_tokens // 16), dtype=torch.int32)[None]
    backend.plan(metadata([num_tokens], [num_tokens], table, torch.arange(num_tokens)))
    backend.write_kv(0, strided(keys), strided(values), cache)

    def numbers(pages: Tensor, *shape: int) -> tuple[Tensor, Tensor]:
        flat = pages.flatten(0, 1).view(torch.uint8)
        scales = flat[..., -16 * SCALE_BYTES :].contiguous().view(torch.bfloat16)
        codes = flat[..., : -16 * SCALE_BYTES].contiguous().view(torch.int8)
        return codes.view(*codes.shape[:2], *shape), scales

    key_codes, key_scales = numbers(cache.keys, -1, 16, 2)  # [pages, K, D / 2, 16, 2]
    value_codes, value_scales = numbers(cache.values, 8, -1, 2)  # [pages, K, 8, Dv, 2]
    by_token = key_codes.permute(0, 3, 1, 2, 4).flatten(3).flatten(0, 1)[:num_tokens, :, : spec.head_size]
    of_values = value_codes.permute(0, 2, 4, 1, 3).flatten(0, 2)[:num_tokens, :, : spec.value_head_size]
    scales = [each.transpose(1, 2).flatten(0, 1)[:num_tokens] for each in (key_scales, value_scales)]
    return decode(by_token, scales[0]), decode(of_values, scales[1])


@pytest.mark.parametrize("path", KERNELS)
@every_dtype
@pytest.mark.parametrize("sizes", [(64, 64), (24, 40), (17, 7), (128, 128)], ids=str)
def test_the_kernel_writes_what_torch_writes_bit_for_bit(path: str, dtype: torch.dtype, sizes: tuple[int, int]) -> None:
    spec = int8_spec((4, 2), sizes[0], value_size=sizes[1], dtype=dtype)
    backend = PATHS[path]([spec], 16)
    assert isinstance(backend, CpuBackend)
    generator = torch.Generator().manual_seed(3)
    spread = torch.logspace(-40, 12, 90)[:, None, None]
    keys = (torch.randn(90, 2, sizes[0], generator=generator) * spread).to(dtype)
    values = (torch.randn(90, 2, sizes[1], generator=generator) * spread).to(dtype)
    keys[20], values[30, 1, 3], keys[40, 0, 2] = 0, float("nan"), float("inf")
    found_keys, found_values = written(backend, spec, keys, values)
    for found, rows in ((found_keys, turn(keys.float())), (found_values, values)):
        assert torch.equal(found.nan_to_num(1e30), decode(*encode(rows)).nan_to_num(1e30))
    assert found_values[30, 1].isnan().all()
    assert not found_values[30, 0].isnan().any()


# ---- what is read --------------------------------------------------------------------------------------------


@every_path
@every_dtype
@pytest.mark.parametrize("heads", [(4, 4), (14, 2), (5, 1), (32, 2)], ids=str)
def test_any_head_grouping(path: str, heads: tuple[int, int], dtype: torch.dtype) -> None:
    compare(path, int8_spec(heads, dtype=dtype), MIXED)


@every_path
@every_dtype
@pytest.mark.parametrize("sizes", [(16, 16), (17, 7), (24, 40), (80, 80), (192, 128), (256, 256)], ids=str)
def test_any_head_size(path: str, sizes: tuple[int, int], dtype: torch.dtype) -> None:
    compare(path, int8_spec((4, 2), sizes[0], value_size=sizes[1], dtype=dtype), MIXED)


@every_path
@every_dtype
def test_windows_sinks_and_soft_capping(path: str, dtype: torch.dtype) -> None:
    compare(path, int8_spec((14, 2), dtype=dtype, window=40, sinks=True), MIXED)
    compare(path, int8_spec((4, 2), dtype=dtype, window=7, softcap=1.5), MIXED)
    compare(path, int8_spec((4, 2), dtype=dtype, softcap=1.5, sinks=True), MIXED, block_size=64)


@every_path
@every_dtype
def test_attention_is_torchs_own_over_the_numbers_that_were_kept(path: str, dtype: torch.dtype) -> None:
    spec, length = int8_spec((6, 2), dtype=dtype), 300
    sequences = Sequences.draw(spec, [length])
    found = attend(PATHS[path], spec, [(length, length)])
    kept = [
        restore(store(each[0], torch.int8, are_keys=keys), 64, torch.int8, torch.float32, are_keys=keys).transpose(0, 1)
        for each, keys in ((sequences.keys, True), (sequences.values, False))
    ]
    wanted = F.scaled_dot_product_attention(
        sequences.queries[0].float().transpose(0, 1)[None],
        kept[0][None],
        kept[1][None],
        is_causal=True,
        scale=spec.scale,
        enable_gqa=True,
    )[0].transpose(0, 1)
    assert_close(found, wanted.to(dtype))


@every_path
def test_one_token_that_takes_nearly_all_does_not_hide_the_others(path: str) -> None:
    """As the first token of real models does: what is left to 2000 others still has its digits."""
    spec, length = int8_spec((2, 1), dtype=torch.float32), 2000
    sequences = Sequences.draw(spec, [length])
    query = sequences.queries[0][-1, 0]
    sequences.queries[0][-1, 1] = query
    sequences.keys[0][0, 0] = query / query.norm() ** 2 * 8 * 12  # a score of 12 above the others' 0
    sequences.values[0][0] = 0
    answers = []
    for make in (PATHS[path], reference):
        backend = make([spec], 16)
        paged = PagedSequences(backend, spec, sequences, backend.allocate(num_blocks_for(sequences, 16)))
        paged.write([(0, length - 1)])
        answers.append(paged.step([(length - 1, length)])[0])
    torch.testing.assert_close(*answers, atol=2e-6, rtol=1e-3)


@every_path
def test_a_nan_of_ones_own_is_not_hidden(path: str) -> None:
    for part in ("keys", "values"):
        spec = int8_spec()
        sequences = Sequences.draw(spec, [30, 30])
        getattr(sequences, part)[0][3] = float("nan")
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
    spec = int8_spec(
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


# ---- a row's result does not depend on what is beside it --------------------------------------------------------


@pytest.mark.parametrize("path", KERNELS)
@settings(max_examples=25, deadline=None)
@given(
    length=st.integers(1, 1200),
    cuts=st.sets(st.integers(1, 1199), max_size=6),
    window=st.none() | st.integers(1, 700),
    dtype=st.sampled_from(DTYPES),
    threads=st.sampled_from([1, 3]),
)
def test_any_split_of_a_prompt_gives_the_same_bits(
    path: str, length: int, cuts: set[int], window: int | None, dtype: torch.dtype, threads: int
) -> None:
    spec = int8_spec((6, 2), 32, dtype=dtype, window=window)
    sequences = Sequences.draw(spec, [length])
    edges = [0, *sorted(cut for cut in cuts if cut < length), length]
    backend = PATHS[path]([spec], 16)
    answers = []
    for spans, count in (([(0, length)], 1), (list(pairwise(edges)), threads)):
        torch.set_num_threads(count)
        paged = PagedSequences(backend, spec, sequences, backend.allocate(num_blocks_for(sequences, 16)))
        answers.append(torch.cat([paged.step([span])[0] for span in spans]))
    torch.set_num_threads(1)
    assert torch.equal(*answers)


@pytest.mark.parametrize("path", KERNELS)
def test_a_batch_gives_each_row_the_bits_it_has_alone(path: str) -> None:
    spec = int8_spec((14, 2))
    sequences = Sequences.draw(spec, [40, 900, 77, 513])
    backend = PATHS[path]([spec], 16)
    spans = [(keys.shape[0] - 1, keys.shape[0]) for keys in sequences.keys]
    paged = PagedSequences(backend, spec, sequences, backend.allocate(num_blocks_for(sequences, 16)))
    paged.write([(0, first) for first, _ in spans])
    together = paged.step(spans)
    for row in range(len(spans)):
        alone = paged.step([span if at == row else (0, 0) for at, span in enumerate(spans)])
        assert torch.equal(alone[0], together[row])


def test_instruction_sets_differ_by_the_rounding_of_floats_only() -> None:
    """Sums are of whole numbers, whatever the width of the registers."""
    try:
        isas = load_library().isas
    except KernelUnavailableError as error:
        pytest.skip(str(error))
    spec = int8_spec((4, 2), dtype=torch.float32)
    answers = [attend(PATHS[f"cpu-{isa}"], spec, [(1, 60), (3, 64)]) for isa in isas]
    for other in answers[1:]:
        torch.testing.assert_close(answers[0], other, atol=2e-6, rtol=2e-6)


# ---- what it takes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("isa", ["torch", None])
def test_bytes_per_block_is_what_a_block_takes(isa: str | None) -> None:
    layers = [int8_spec(), int8_spec((4, 4), 24, value_size=16, dtype=torch.float32)]
    backend = CpuBackend(layers, CPU, 32, isa=isa)

    def taken(num_blocks: int) -> int:
        return sum(cache.keys.nbytes + cache.values.nbytes for cache in backend.allocate(num_blocks))

    assert taken(11) - taken(10) == backend.bytes_per_block()


def test_a_block_takes_little_more_than_half_of_bfloat16() -> None:
    for size in (64, 128):
        plain = CpuBackend([spec_of((4, 2), size, dtype=torch.bfloat16)], CPU, 16).bytes_per_block()
        assert CpuBackend([int8_spec((4, 2), size)], CPU, 16).bytes_per_block() == plain * (size + 2) // (2 * size)
