"""Weights that stay in their file: the same numbers, no memory before they are read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from specserve.engine.models.file_weights import in_new_mapping
from specserve.engine.models.load import release_files

ROWS, COLUMNS = 4096, 512
pytestmark = pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux's account of mappings")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "model.safetensors"
    generator = torch.Generator().manual_seed(0)
    tensors = {name: torch.randn(ROWS, COLUMNS, generator=generator).bfloat16() for name in ("first", "second")}
    save_file(tensors, file)
    return file


def read(path: Path, name: str) -> Tensor:
    with safe_open(path, framework="pt") as file:
        return file.get_tensor(name)


def resident_kib(tensor: Tensor) -> int:
    """Of the mapping that the tensor lies in."""
    size, is_inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        place = line.split(maxsplit=1)[0]
        if "-" in place:
            start, end = (int(word, 16) for word in place.split("-"))
            is_inside = start <= tensor.data_ptr() < end
        elif is_inside and place == "Rss:":
            size = int(line.split()[1])
    return size


def test_the_new_mapping_shows_the_same_numbers_and_holds_none_of_them(path: Path) -> None:
    old = read(path, "second")
    copy = old.clone()  # touches every page
    assert resident_kib(old) >= old.nbytes >> 10
    new = in_new_mapping(old)
    assert new is not None
    assert new.data_ptr() != old.data_ptr()
    assert resident_kib(new) == 0
    assert torch.equal(new[100:110], copy[100:110])
    assert 0 < resident_kib(new) < old.nbytes >> 11
    del old
    assert torch.equal(new, copy)


def test_a_part_of_a_tensor_is_found_at_its_place(path: Path) -> None:
    part = read(path, "first")[17:40]
    new = in_new_mapping(part)
    assert new is not None
    assert torch.equal(new, part)


def test_numbers_that_were_changed_in_memory_are_not_taken_from_the_file(path: Path) -> None:
    weights = read(path, "first")
    weights[0, 0] = 3.0
    assert in_new_mapping(weights) is None


def test_a_file_that_was_replaced_is_not_read(path: Path) -> None:
    weights = read(path, "first")
    path.rename(path.with_suffix(".old"))
    save_file({"first": torch.zeros(ROWS, COLUMNS)}, path)
    moved = in_new_mapping(weights)
    assert moved is None or torch.equal(moved, weights)
    path.with_suffix(".old").unlink()
    assert in_new_mapping(weights) is None


@pytest.mark.parametrize(
    "make", [lambda path: torch.ones(8, 8), lambda path: read(path, "first").T, lambda path: torch.empty(0)]
)
def test_what_lies_in_no_file_or_not_in_one_piece_stays_where_it_is(path: Path, make) -> None:  # type: ignore[no-untyped-def]
    assert in_new_mapping(make(path)) is None


def test_a_released_model_keeps_its_numbers_and_no_page_of_what_was_read_to_make_it(path: Path) -> None:
    model = nn.ModuleDict({name: nn.Embedding(1, 1) for name in ("first", "second")})
    with safe_open(path, framework="pt") as file:
        for name in ("first", "second"):
            model[name].weight = nn.Parameter(file.get_tensor(name), requires_grad=False)
    copies = {name: model[name].weight.clone() for name in ("first", "second")}
    old = model["first"].weight.data_ptr()
    release_files(model)
    assert str(path) not in mapping_at(old)
    assert all(resident_kib(part.weight) == 0 for part in model.values())
    rows = torch.tensor([5, 4000])
    assert all(torch.equal(model[name](rows), copies[name][rows]) for name in copies)


def mapping_at(address: int) -> str:
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(word, 16) for word in line.split()[0].split("-"))
        if start <= address < end:
            return line
    return ""
