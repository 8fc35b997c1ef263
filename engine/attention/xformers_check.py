"""Whether the installed torch, Triton and xformers fit together, told in one sentence instead of a traceback.

Three independent packages have to agree on a kernel language, an operator schema and a GPU. What is known to
break is recognised by its version number; everything else is found by attending to a few tokens and comparing
with the reference. Imports neither Triton nor xformers before `load_operators` is called.
"""

from __future__ import annotations

import logging
import re
import warnings
from importlib import metadata
from typing import TYPE_CHECKING, Any

import torch

from specserve.engine.attention.backend import AttentionBackend, AttentionMetadata, LayerSpec
from specserve.engine.attention.reference import ReferenceBackend
from specserve.engine.registry import LazyRegistry

if TYPE_CHECKING:
    from specserve.engine.attention.xformers import XFormersOperators

SUPPORTED = "torch >=2.10,<2.15 with the Triton it brings (3.6 to 3.8) and xformers 0.0.35"
INSTALL = "python -m pip install 'torch>=2.10,<2.15' 'xformers==0.0.35'"
FIRST_TRITON, LAST_TRITON = (3, 6), (3, 8)
FIRST_TORCH, LAST_TORCH = (2, 10), (2, 14)
SELF_TEST_TOLERANCE = 0.05
"""Largest error over inputs of unit variance: rounding to bfloat16 stays below 0.02, a mistake is near 1."""
CAUSE_LENGTH = 200

_OPERATORS: LazyRegistry[type[XFormersOperators]] = LazyRegistry(
    {"xformers": "specserve.engine.attention.xformers:XFormersOperators"}
)


class XFormersMisfitError(ImportError):
    """xformers cannot be imported here; the message is the whole sentence."""


def load_operators() -> XFormersOperators:
    """Import xformers. Raises XFormersMisfitError, whatever importing the package raises."""
    # At import xformers warns of a library that it cannot load and attention does not need; Triton 3.7 and
    # 3.8 warn at every compilation about the block pointers that the version pin is there for.
    logging.getLogger("xformers").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="tl.make_block_ptr is deprecated")
    try:
        return _OPERATORS.load("xformers")()
    except Exception as error:  # a package of another version may fail in any way
        raise XFormersMisfitError(misfit(f"importing xformers failed ({first_line(error)})")) from error


def versions() -> dict[str, str | None]:
    """Installed version of each of the three packages, None where it is missing. Imports none of them."""
    found: dict[str, str | None] = {}
    for package in ("torch", "triton", "xformers"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def misfit(cause: str) -> str:
    """The sentence: what is wrong, what was found, what is supported, and the command that installs it."""
    found = [f"{package} {version}" for package, version in versions().items() if version is not None]
    return f"{cause}: found {', '.join(found)}; supported are {SUPPORTED}; install them with: {INSTALL}"


def version_misfit() -> str | None:
    """The sentence for what the version numbers alone give away, or None."""
    found = versions()
    for package, purpose in (("xformers", "its kernels"), ("triton", "the compiler of xformers' kernels")):
        if found[package] is None:
            return misfit(f"{package} ({purpose}) is not installed")
    triton, torch_release = _release(found["triton"]), _release(found["torch"])
    if triton > LAST_TRITON:
        return misfit(
            f"Triton {found['triton']} has no block pointers any more, and xformers' paged kernel is written with them"
        )
    if triton < FIRST_TRITON:
        return misfit(f"Triton {found['triton']} is too old")
    if not FIRST_TORCH <= torch_release <= LAST_TORCH:
        return misfit(f"torch {found['torch']} has not been tried with xformers' operators")
    return None


def self_test(
    backend: type[AttentionBackend], layers: list[LayerSpec], device: torch.device, block_size: int
) -> str | None:
    """Attend to a few tokens with every kind of layer; the sentence if that fails or is not the reference's.

    First two prompts, then a decode and a chunk behind a prefix, so every operator runs. This also compiles
    the first kernels: a layer that does not fit a GPU's shared memory is refused here.
    """
    try:
        with torch.inference_mode():
            error = _largest_error(backend, _kinds(layers), device, block_size)
    except Exception as failure:  # the compiler, the driver and the operators raise what they like
        return misfit(f"the attention self-test failed ({first_line(failure)})")
    if not error <= SELF_TEST_TOLERANCE:  # a NaN is not below either
        return misfit(f"the attention self-test is off by {error:.2g}, the limit is {SELF_TEST_TOLERANCE}")
    return None


def first_line(error: BaseException) -> str:
    """An exception as part of a sentence: its type and the first line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = re.sub(r"\s+", " ", lines[0]) if lines else "no message"
    text = text if len(text) <= CAUSE_LENGTH else text[:CAUSE_LENGTH] + "…"
    return f"{type(error).__name__}: {text.rstrip('.')}"


def _release(version: str | None) -> tuple[int, int]:
    match = re.match(r"(\d+)\.(\d+)", version or "")
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _kinds(layers: list[LayerSpec]) -> list[LayerSpec]:
    """One layer of each kind that makes the operators take another path."""
    kinds: dict[Any, LayerSpec] = {}
    for spec in layers:
        shape = (spec.num_heads, spec.num_kv_heads, spec.head_size, spec.value_head_size)
        kinds.setdefault((shape, spec.dtype, spec.window is None, spec.has_sinks), spec)
    return list(kinds.values())


def _largest_error(
    backend: type[AttentionBackend], layers: list[LayerSpec], device: torch.device, block_size: int
) -> float:
    generator = torch.Generator().manual_seed(0)
    tested = backend(layers, device, block_size)
    reference = ReferenceBackend(layers, device, block_size)
    caches, truth = tested.allocate(4), reference.allocate(4)
    before, worst = block_size - 2, 0.0
    for query_lens, seq_lens in (([before, 3], [before, 3]), ([1, 4], [before + 1, 7])):
        step = _step(query_lens, seq_lens, block_size, device)
        tested.plan(step)
        reference.plan(step)
        for layer, spec in enumerate(layers):
            query, key, value, sinks = (
                torch.randn(*shape, generator=generator).to(device, spec.dtype)
                for shape in (
                    (sum(query_lens), spec.num_heads, spec.head_size),
                    (sum(query_lens), spec.num_kv_heads, spec.head_size),
                    (sum(query_lens), spec.num_kv_heads, spec.value_head_size),
                    (spec.num_heads,),
                )
            )
            given = sinks if spec.has_sinks else None
            tested.write_kv(layer, key, value, caches[layer])
            reference.write_kv(layer, key, value, truth[layer])
            out = tested.attend(layer, query, caches[layer], given).float()
            wanted = reference.attend(layer, query, truth[layer], given).float()
            error = float((out - wanted).abs().max())
            worst = error if error != error else max(worst, error)  # a NaN must not be lost in max
            if worst != worst:
                return worst
    return worst


def _step(query_lens: list[int], seq_lens: list[int], block_size: int, device: torch.device) -> AttentionMetadata:
    """Two sequences with two blocks each, neither in order: blocks 3 and 0, blocks 2 and 1."""
    tables = torch.tensor([[3, 0], [2, 1]])
    slots = [
        int(tables[row, position // block_size]) * block_size + position % block_size
        for row, (query_len, seq_len) in enumerate(zip(query_lens, seq_lens, strict=True))
        for position in range(seq_len - query_len, seq_len)
    ]
    starts = [0, query_lens[0], sum(query_lens)]
    return AttentionMetadata(
        query_start=torch.tensor(starts, dtype=torch.int32, device=device),
        seq_lens=torch.tensor(seq_lens, dtype=torch.int32, device=device),
        block_tables=tables.to(device, torch.int32),
        slot_mapping=torch.tensor(slots, dtype=torch.int64, device=device),
        num_decodes=sum(1 for length in query_lens if length == 1),
        query_lens=query_lens,
        seq_lens_list=seq_lens,
    )
