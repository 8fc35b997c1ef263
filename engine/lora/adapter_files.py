"""adapter_model.safetensors of a PEFT folder: its pairs of matrices, checked against the linears of the model."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from specserve.engine.lora.adapter_config import AdapterError, AdapterSettings, read_adapter_config
from specserve.engine.models.low_rank import LowRank

WEIGHTS_NAME = "adapter_model.safetensors"
PREFIX = "base_model.model."
COPY_ENDING = ".base_layer.weight"
PAIR = re.compile(r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight")
FLOATS = ("F32", "F16", "BF16", "F64")
OTHER_WEIGHTS = {
    "lora_embedding_": "embeddings",
    "embed": "embeddings",
    "lora_magnitude_vector": "DoRA",
    "modules_to_save": "whole layers",
    ".bias": "biases",
}
"""What the name of a tensor tells about adapters that are not served."""


@dataclass(frozen=True, slots=True)
class Linears:
    """The linears of one model that adapters may change: features in and out by name, as transformers calls them."""

    sizes: Mapping[str, tuple[int, int]]
    head: str | None = None
    """The name of the language head, if the model has one."""

    def find(self, module: str) -> str | None:
        """The model's name of a linear, which may have been trained inside of a class with one more layer around."""
        candidates = (module, module.partition(".")[2], *(f"{outer}.{module}" for outer in ("model", "transformer")))
        return next((name for name in candidates if name in self.sizes), None)


def read_adapter(folder: Path, linears: Linears, max_rank: int) -> dict[str, LowRank]:
    """Its matrices by the model's names of the linears. Raises AdapterError."""
    settings = read_adapter_config(folder)
    path = folder / WEIGHTS_NAME
    if not path.is_file():
        there = sorted(each.name for each in folder.glob("adapter_model.*"))
        raise AdapterError(
            f"{folder} has no {WEIGHTS_NAME}"
            + (f", but {', '.join(there)}; only safetensors are read: convert it" if there else "")
        )
    try:
        with safe_open(path, framework="pt") as file:
            return dict(_read(file, settings, linears, max_rank, path))
    except (SafetensorError, OSError) as error:
        raise AdapterError(f"{path} is damaged: {error}") from None


@dataclass(slots=True)
class _Pair:
    """`name` is the model's, `module` that of training; `keys` are the tensors of A and B."""

    name: str
    module: str
    keys: dict[str, str]


def _read(
    file: Any, settings: AdapterSettings, linears: Linears, max_rank: int, path: Path
) -> Iterator[tuple[str, LowRank]]:
    """All names and shapes are checked before the first tensor is read."""
    pairs: dict[str, _Pair] = {}
    for key in file.keys():  # noqa: SIM118  it is no mapping
        if _is_copy_of_base(file, key, linears):
            continue
        name, module, side = _place_of(key, linears, settings, path)
        pairs.setdefault(name, _Pair(name, module, {})).keys[side] = key
    for pair in pairs.values():
        _check_pair(file, pair, settings, linears.sizes[pair.name], max_rank)
    _check_completeness(pairs, settings, linears, path)
    for name, pair in pairs.items():
        a, b = (file.get_tensor(pair.keys[side]).float() for side in "AB")
        if not (torch.isfinite(a).all() and torch.isfinite(b).all()):
            raise AdapterError(f"the weights of {name} in {path} are not finite")
        yield name, LowRank(a.contiguous(), b * settings.scale_of(pair.module))


def _is_copy_of_base(file: Any, key: str, linears: Linears) -> bool:
    """Whether it is the language head as it was before: PEFT saves that too where the head is changed."""
    name = linears.find(key.removeprefix(PREFIX).removesuffix(COPY_ENDING)) if key.endswith(COPY_ENDING) else None
    return name is not None and tuple(file.get_slice(key).get_shape()) == linears.sizes[name][::-1]


def _place_of(key: str, linears: Linears, settings: AdapterSettings, path: Path) -> tuple[str, str, str]:
    """The model's name of the linear that a tensor belongs to, that of training, and which matrix it is."""
    found = PAIR.fullmatch(key)
    name = None if found is None else linears.find(found["module"])
    if found is None or name is None:
        what = next((words for part, words in OTHER_WEIGHTS.items() if part in key), None)
        if what is not None:
            raise AdapterError(f"{path} changes {what} ({key}); only linear layers can be changed")
        raise AdapterError(
            f"{key} in {path} belongs to no linear layer that adapters can change in this model{_trained(settings)}"
        )
    if not settings.covers(found["module"], is_head=name == linears.head):
        raise AdapterError(f"{path} has weights for {name}, which target_modules of its configuration leaves out")
    return name, found["module"], found["side"]


def _trained(settings: AdapterSettings) -> str:
    return f"; it was trained on {settings.base}" if settings.base else ""


def _check_pair(file: Any, pair: _Pair, settings: AdapterSettings, size: tuple[int, int], max_rank: int) -> None:
    """`size` is that of the linear, features in and out."""
    if pair.keys.keys() != {"A", "B"}:
        raise AdapterError(
            f"the adapter has only one of both matrices for {pair.name}: {', '.join(pair.keys.values())}"
        )
    slices = {side: file.get_slice(key) for side, key in pair.keys.items()}
    for side, one in slices.items():
        if one.get_dtype() not in FLOATS:
            raise AdapterError(f"{pair.keys[side]} has type {one.get_dtype()}; it must be one of {', '.join(FLOATS)}")
    rank, (num_in, num_out) = settings.rank_of(pair.module), size
    if rank > max_rank:
        raise AdapterError(
            f"the adapter has rank {rank} in {pair.name}, the limit is {max_rank} (--max-lora-rank); "
            "start the server with a higher one"
        )
    shapes = [tuple(slices[side].get_shape()) for side in "AB"]
    if shapes != [(rank, num_in), (num_out, rank)]:
        raise AdapterError(
            f"the adapter does not fit {pair.name}: its matrices have the shapes {shapes[0]} and {shapes[1]}, this "
            f"model and rank {rank} want {(rank, num_in)} and {(num_out, rank)}{_trained(settings)}"
        )


def _check_completeness(there: Collection[str], settings: AdapterSettings, linears: Linears, path: Path) -> None:
    """What target_modules names has to be there: half an adapter would answer wrongly without a word."""
    if not there:
        raise AdapterError(f"{path} has no weights")
    missing = [
        name for name in linears.sizes if name not in there and settings.covers(name, is_head=name == linears.head)
    ]
    if missing:
        raise AdapterError(
            f"{path} lacks the weights of {len(missing)} linear layers that its target_modules names, such as "
            f"{missing[0]}; copy or save it again"
        )
