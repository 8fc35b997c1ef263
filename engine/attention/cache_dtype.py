"""--kv-cache-dtype: what keys and values are rounded to when they are written, for each layer of a model."""

from __future__ import annotations

import dataclasses

import torch

from specserve.engine.attention.backend import LayerSpec
from specserve.engine.errors import UnsupportedModelError

FLAG = "--kv-cache-dtype"
FLOAT8_CAPABILITY = (8, 9)
"""Of the first GPUs that turn 8-bit floats into wider ones by an instruction."""


def with_cache_dtype(specs: dict[int, LayerSpec], name: str, device: torch.device) -> dict[int, LayerSpec]:
    """The layers with what `name`, one of config.KV_CACHE_DTYPES, makes of their cache.

    Raises UnsupportedModelError where it cannot be had.
    """
    if name == "auto":
        return specs
    if name in ("bfloat16", "float16"):
        computed = {str(spec.dtype).removeprefix("torch.") for spec in specs.values()}
        if computed != {name}:
            raise UnsupportedModelError(
                f"{FLAG} is {name}, but the model computes in {', '.join(sorted(computed))}",
                f"leave it at auto, which keeps keys and values as they are, or pass --dtype {name}",
            )
        return specs
    if name == "int8":
        if device.type != "cpu":
            raise UnsupportedModelError(f"{FLAG} int8 is for CPUs, not for {device}", "use fp8 there, or leave it out")
        return _rounded(specs, torch.int8)
    if device.type == "cpu":
        raise UnsupportedModelError(
            f"{FLAG} {name} is for NVIDIA GPUs; CPUs have no instructions for 8-bit floats",
            f"use {FLAG} int8: as small, more precise and faster on a CPU",
        )
    capability = torch.cuda.get_device_capability(device) if torch.cuda.is_available() else FLOAT8_CAPABILITY
    if capability < FLOAT8_CAPABILITY:
        raise UnsupportedModelError(
            f"{FLAG} {name} needs a GPU of compute capability 8.9 or higher (RTX 40, L4, H100 and newer), this one has "
            f"{capability[0]}.{capability[1]}",
            f"leave {FLAG} at auto",
        )
    return _rounded(specs, torch.float8_e4m3fn)


def _rounded(specs: dict[int, LayerSpec], dtype: torch.dtype) -> dict[int, LayerSpec]:
    return {index: dataclasses.replace(spec, cache_dtype=dtype) for index, spec in specs.items()}


def refuse_without_cache(name: str) -> None:
    """For models that keep no keys and values. Raises UnsupportedModelError unless `name` is auto."""
    if name != "auto":
        raise UnsupportedModelError(
            f"{FLAG} is {name}, but this model computes whole texts and keeps no keys and values", "leave it out"
        )


def capacity_note(specs: dict[int, LayerSpec], num_tokens: int, num_bytes: int) -> list[str]:
    """One line for the start banner where keys and values are rounded."""
    dtypes = {spec.cache_dtype for spec in specs.values()} - {None}
    if not dtypes:
        return []
    names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))
    per_token = num_bytes / num_tokens / 1024
    return [f"KV cache in {names}: {num_tokens} tokens, {num_bytes / (1 << 20):.0f} MiB ({per_token:.1f} KiB a token)"]
