"""Matrices saved by torch are read without running what torch would run."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load
from torch import Tensor

from specserve.engine.torch_file import UnfitFileError, to_safetensors

DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def saved(value: object, **options: bool) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, **options)  # type: ignore[arg-type]
    return file.getvalue()


def read(data: bytes) -> Tensor:
    return load(to_safetensors(data))["prompt_embeds"]


@given(
    rows=st.integers(1, 300),
    columns=st.integers(1, 300),
    dtype=st.sampled_from(DTYPES),
    skipped=st.integers(0, 3),
    requires_grad=st.booleans(),
)
@settings(max_examples=50, deadline=None)
def test_what_is_read_is_what_was_saved(
    rows: int, columns: int, dtype: torch.dtype, skipped: int, requires_grad: bool
) -> None:
    matrix = torch.randn(rows + skipped, columns).to(dtype)[skipped:].requires_grad_(requires_grad)
    assert torch.equal(read(saved(matrix)), matrix)


@pytest.mark.parametrize(
    "value",
    [
        torch.ones(5),
        torch.ones(2, 3, 4),
        torch.ones(2, 3, dtype=torch.float64),
        torch.ones(2, 3, dtype=torch.int32),
        [torch.ones(2, 3)],
        {"prompt": torch.ones(2, 3)},
        torch.nn.Parameter(torch.ones(2, 3)),
        "text",
        torch.ones(6, 4)[:, 1:3],
        torch.ones(6, 4).T,
        torch.ones(1, 4).expand(3, 4),
        torch.empty(0, 4),
    ],
    ids=repr,
)
def test_everything_else_is_refused(value: object) -> None:
    with pytest.raises(UnfitFileError, match=r"plain|contiguous|size"):
        to_safetensors(saved(value))


class Mischief:
    """Unpickling it would be noticed."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return pytest.fail, ("the pickle was executed",)


def archive(entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as made:
        for name, data in entries.items():
            made.writestr(name, data)
    return file.getvalue()


def entries_of(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def test_nothing_in_a_file_is_run() -> None:
    entries = entries_of(saved(torch.ones(2, 3)))
    for program in (pickle.dumps(Mischief()), pickle.dumps([Mischief(), 1], protocol=2)):
        with pytest.raises(UnfitFileError, match="plain"):
            to_safetensors(archive(entries | {"archive/data.pkl": program}))


@pytest.mark.parametrize(
    "change",
    [
        {"archive/data/0": b"0" * 20},
        {"archive/data/0": b"0" * 2000},
        {"archive/byteorder": b"big"},
        {"archive/data.pkl": b"x" * 5000},
        {"archive/data.pkl": b"\x80\x02."},
        {"other/data.pkl": b"\x80\x02."},
    ],
)
def test_a_file_that_contradicts_itself_is_refused(change: dict[str, bytes]) -> None:
    with pytest.raises(UnfitFileError, match=r".+"):
        to_safetensors(archive(entries_of(saved(torch.ones(2, 3))) | change))


def test_a_file_without_its_values_or_with_packed_ones_is_refused() -> None:
    entries = entries_of(saved(torch.ones(2, 3)))
    with pytest.raises(UnfitFileError, match="plain"):
        to_safetensors(archive(entries, zipfile.ZIP_DEFLATED))
    del entries["archive/data/0"]
    with pytest.raises(UnfitFileError, match="cannot be read"):
        to_safetensors(archive(entries))


GOOD = saved(torch.ones(2, 3))


@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=8))
@settings(max_examples=300, deadline=None)
def test_a_damaged_file_is_refused_or_still_a_matrix(damages: list[tuple[int, int]]) -> None:
    data = bytearray(GOOD)
    for place, value in damages:
        data[place] = value
    try:
        found = to_safetensors(bytes(data))
    except UnfitFileError:
        return
    assert load(found)["prompt_embeds"].ndim == 2
