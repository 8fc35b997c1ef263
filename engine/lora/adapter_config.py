"""adapter_config.json of a PEFT folder: which linears the adapter changes, by how much, and what is not served.

Imports no torch.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from specserve.engine.errors import InvalidParameterError

T = TypeVar("T")

CONFIG_NAME = "adapter_config.json"
MAX_CONFIG_BYTES = 1 << 20
ALL_LINEAR = "all-linear"
KEEPS_BASE = (True, False, None, "gaussian", "eva", "orthogonal")
"""Values of init_lora_weights under which training begins from the base model's own weights."""
NOT_SERVED = {
    "use_dora": "DoRA (use_dora)",
    "lora_bias": "biases of its own (lora_bias)",
    "modules_to_save": "whole layers that were trained (modules_to_save)",
    "trainable_token_indices": "tokens that were trained (trainable_token_indices)",
    "target_parameters": "parameters that are no linear layers (target_parameters)",
    "layer_replication": "layers that are repeated (layer_replication)",
    "alora_invocation_tokens": "invocation tokens (alora_invocation_tokens)",
    "use_qalora": "grouped inputs (use_qalora)",
    "use_bdlora": "block-diagonal matrices (use_bdlora)",
    "arrow_config": "routing between adapters (arrow_config)",
    "kasa_config": "KaSA (kasa_config)",
    "velora_config": "VeLoRA (velora_config)",
    "monteclora_config": "MonteCLoRA (monteclora_config)",
}
"""Keys that change what the weights mean, when they say anything, and what they are called in refusals."""


class AdapterError(InvalidParameterError):
    """An adapter cannot be loaded: what is wrong with its folder, or does not fit the model."""

    def __init__(self, message: str, *, param: str = "lora_path") -> None:
        super().__init__(message, param=param)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSettings:
    """What adapter_config.json says. `targets` are names' ends, or a regular expression for whole names."""

    rank: int
    alpha: float
    is_rank_stabilized: bool = False
    targets: Sequence[str] | str = ALL_LINEAR
    excluded: Sequence[str] | str = ()
    layers: Sequence[int] | None = None
    layer_patterns: Sequence[str] = ()
    ranks: Mapping[str, int] = field(default_factory=dict)
    alphas: Mapping[str, float] = field(default_factory=dict)
    base: str = ""
    """What it was trained on, as its author called it."""

    def covers(self, name: str, *, is_head: bool) -> bool:
        """Whether the linear called `name` is changed. `is_head`: it is the language head, which all-linear leaves."""
        if matches(self.excluded, name):
            return False
        if isinstance(self.targets, str):
            return not is_head if self.targets.lower() == ALL_LINEAR else matches(self.targets, name)
        return matches(self.targets, name) and (self.layers is None or self._layer_of(name) in self.layers)

    def _layer_of(self, name: str) -> int | None:
        found = None
        for pattern in self.layer_patterns or (r"[^.]*",):
            found = re.match(rf"(?:^|.*?\.){pattern}\.(\d+)\.", name)
            if found is not None:
                break
        return None if found is None else int(found[1])

    def rank_of(self, name: str) -> int:
        return by_pattern(self.ranks, name, self.rank)

    def scale_of(self, name: str) -> float:
        """What the product of both matrices is multiplied with."""
        rank, alpha = self.rank_of(name), by_pattern(self.alphas, name, self.alpha)
        return alpha / math.sqrt(rank) if self.is_rank_stabilized else alpha / rank


def matches(wanted: Sequence[str] | str, name: str) -> bool:
    """A regular expression stands for whole names, a list for names or their last parts."""
    if isinstance(wanted, str):
        return bool(wanted) and re.fullmatch(wanted, name) is not None
    return any(name == each or name.endswith(f".{each}") for each in wanted)


def by_pattern(values: Mapping[str, T], name: str, default: T) -> T:
    """The value of the first pattern that the end of `name` fits."""
    for pattern, value in values.items():
        if re.match(rf"(.*\.)?({pattern})$", name):
            return value
    return default


def read_adapter_config(folder: Path) -> AdapterSettings:
    """Raises AdapterError, also for what is not served."""
    path = folder / CONFIG_NAME
    if not path.is_file():
        raise AdapterError(f"{folder} has no {CONFIG_NAME}; it must be a folder as PEFT's save_pretrained writes it")
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise AdapterError(f"{path} has {path.stat().st_size} bytes, the limit is {MAX_CONFIG_BYTES}")
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(given, dict):
            raise ValueError("it is no JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise AdapterError(f"{path} cannot be read: {error}") from None
    refuse_unserved(given, path)
    try:
        return settings_of(given)
    except (TypeError, ValueError, KeyError, AttributeError, re.error) as error:
        raise AdapterError(f"{path} makes no sense: {error}") from None


def refuse_unserved(given: Mapping[str, Any], path: Path) -> None:
    kind = str(given.get("peft_type", "LORA")).upper()
    if kind != "LORA":
        raise AdapterError(f"{path} is of type {kind}; only LORA adapters are served")
    for key, what in NOT_SERVED.items():
        if given.get(key):
            raise AdapterError(f"{path} has {what}, which is not served; merge the adapter into the model instead")
    if (bias := given.get("bias", "none")) != "none":
        raise AdapterError(f"{path} trained biases (bias: {bias}), which is not served; it must be none")
    start = given.get("init_lora_weights", True)
    if start not in KEEPS_BASE:
        raise AdapterError(
            f"{path} began from changed base weights (init_lora_weights: {start}), so that it does not fit the base "
            "model; convert it with path_initial_model_for_weight_conversion of PEFT"
        )


def settings_of(given: Mapping[str, Any]) -> AdapterSettings:
    """Raises ValueError, TypeError, KeyError, AttributeError or re.error."""
    layers = given.get("layers_to_transform")
    settings = AdapterSettings(
        rank=positive(given["r"], "r"),
        alpha=finite(given.get("lora_alpha", 8), "lora_alpha"),
        is_rank_stabilized=bool(given.get("use_rslora")),
        targets=names(given["target_modules"]),
        excluded=names(given.get("exclude_modules") or ()),
        layers=None if layers in (None, []) else [layers] if isinstance(layers, int) else [int(at) for at in layers],
        layer_patterns=listed(given.get("layers_pattern") or ()),
        ranks={key: positive(rank, "rank_pattern") for key, rank in (given.get("rank_pattern") or {}).items()},
        alphas={key: finite(alpha, "alpha_pattern") for key, alpha in (given.get("alpha_pattern") or {}).items()},
        base=str(given.get("base_model_name_or_path") or "")[:200],
    )
    for pattern in (*settings.ranks, *settings.alphas, *settings.layer_patterns):
        re.compile(pattern)
    for either in (settings.targets, settings.excluded):
        if isinstance(either, str):
            re.compile(either)
    if not settings.targets:
        raise ValueError("target_modules is empty")
    return settings


def names(given: Any) -> Sequence[str] | str:
    return given if isinstance(given, str) else listed(given)


def listed(given: Any) -> tuple[str, ...]:
    found = (given,) if isinstance(given, str) else tuple(given)
    if not all(isinstance(each, str) for each in found):
        raise ValueError(f"{given!r:.100} is no list of names")
    return found


def positive(given: Any, name: str) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise ValueError(f"{name} is {given!r}, but must be a whole number of at least 1")
    return given


def finite(given: Any, name: str) -> float:
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not math.isfinite(given):
        raise ValueError(f"{name} is {given!r}, but must be a number")
    return float(given)
