"""The one function registered with transformers' attention interface, and the step's context it reads.

The context is the project's single piece of module-level mutable state (see docs/ARCHITECTURE.md, section 5):
transformers hands attention only the layer's module, and not every model forwards extra keyword arguments.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from specserve.engine.attention.backend import AttentionBackend, LayerCache, LayerSpec

ATTENTION_NAME = "specserve_paged"


class LayerContext(Protocol):
    """What a forward pass does at each attention layer."""

    def layer(
        self, index: int, spec: LayerSpec, query: Tensor, key: Tensor, value: Tensor, sinks: Tensor | None
    ) -> Tensor:
        """query [T, H, D], key [T, K, D], value [T, K, Dv] → [T, H, Dv]."""


class PagedContext:
    """Serving: write this step's keys and values, then attend over the blocks."""

    def __init__(self, backend: AttentionBackend, caches: list[LayerCache], slot_of: dict[int, int]) -> None:
        self._backend, self._caches, self._slot_of = backend, caches, slot_of

    def layer(
        self, index: int, spec: LayerSpec, query: Tensor, key: Tensor, value: Tensor, sinks: Tensor | None
    ) -> Tensor:
        at = self._slot_of[index]
        self._backend.write_kv(at, key, value, self._caches[at])
        return self._backend.attend(at, query, self._caches[at], sinks)


class ProbingContext:
    """Loading: remember what each layer looks like; the values computed are not used."""

    def __init__(self) -> None:
        self.specs: dict[int, LayerSpec] = {}

    def layer(
        self, index: int, spec: LayerSpec, query: Tensor, key: Tensor, value: Tensor, sinks: Tensor | None
    ) -> Tensor:
        self.specs[index] = spec
        return query.new_zeros(query.shape[0], query.shape[1], value.shape[2])


_current: LayerContext | None = None


@contextmanager
def attention_context(context: LayerContext) -> Iterator[None]:
    """Set the context around one `model.forward`."""
    global _current
    before, _current = _current, context
    try:
        yield
    finally:
        _current = before


def paged_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention in the form transformers calls it: query [1, H, T, D], key [1, K, T, D], value [1, K, T, Dv].

    The batch is flattened to one row of T tokens, key-value heads are not repeated, and no mask is built because
    no mask function is registered under our name. Returns ([1, T, H, Dv], None).
    """
    if _current is None:
        raise RuntimeError("attention was called outside of attention_context")
    q, k, v = query[0].transpose(0, 1), key[0].transpose(0, 1), value[0].transpose(0, 1)
    spec = LayerSpec(
        num_heads=q.shape[1],
        num_kv_heads=k.shape[1],
        head_size=q.shape[2],
        value_head_size=v.shape[2],
        dtype=q.dtype,
        scale=scaling if scaling is not None else q.shape[2] ** -0.5,
        window=sliding_window,
        softcap=softcap,
        has_sinks=s_aux is not None,
        is_causal=bool(getattr(module, "is_causal", True)),
    )
    index = getattr(module, "layer_idx", None)  # which encoders need not have
    return _current.layer(-1 if index is None else int(index), spec, q, k, v, s_aux)[None], None


def register() -> None:
    """Make our attention known to transformers; calling it again changes nothing."""
    ALL_ATTENTION_FUNCTIONS.register(ATTENTION_NAME, paged_attention)
