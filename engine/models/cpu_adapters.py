"""Adapters in the form that native/decoder.cpp computes with: narrow matrices packed as its weights are, by layer."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from specserve.engine.models.cpu_linear import (
    ADD_TO,
    BFLOAT16,
    ISA,
    LinearArgs,
    LinearWeight,
    PackedWeight,
    in_turns,
    scratch_width,
)
from specserve.engine.models.low_rank import PRODUCTS, LayerWidths, LowRank, products_of_layer
from specserve.engine.native.library import load_library


class AdapterProduct(ctypes.Structure):
    """Mirrors the struct of the same name in native/decoder.h."""

    _fields_ = (("a", LinearWeight), ("b", LinearWeight))


class AdapterLayer(ctypes.Structure):
    """Mirrors the struct of the same name in native/decoder.h."""

    _fields_ = tuple((name, AdapterProduct) for name in PRODUCTS)


class Rows(ctypes.Structure):
    """Mirrors AdapterRows in native/decoder.h."""

    _fields_ = (("layers", ctypes.c_void_p), ("first", ctypes.c_int32), ("count", ctypes.c_int32))


class PackedLowRank:
    """Both matrices in bfloat16; the rank is filled up with zeros to an even one."""

    def __init__(self, weights: LowRank) -> None:
        odd = weights.a.shape[0] % 2
        a, b = F.pad(weights.a, (0, 0, 0, odd)), F.pad(weights.b, (0, odd))
        self._a, self._b = PackedWeight(a.bfloat16()), PackedWeight(b.bfloat16())
        self.rank = a.shape[0]
        self.struct = AdapterProduct(a=self._a.struct, b=self._b.struct)

    def add_to(self, y: Tensor, x: Tensor) -> None:
        """y [T, out] float32, in place; x [T, in] bfloat16."""
        num_rows = x.shape[0]
        low = x.new_empty(num_rows, self.rank)
        scratch = x.new_empty(num_rows, scratch_width(max(x.shape[1], self.rank)))
        run = load_library().function(f"specserve_linear_{ISA}")
        for weight, given, result, form in ((self._a, x, low, BFLOAT16), (self._b, low, y, ADD_TO)):
            args = LinearArgs(
                weight=weight.struct,
                x=given.data_ptr(),
                scratch=scratch.data_ptr(),
                y=result.data_ptr(),
                x_stride=given.stride(0),
                y_stride=result.stride(0),
                m=num_rows,
                result=form,
                num_threads=torch.get_num_threads(),
            )
            run(ctypes.byref(args))


class CpuAdapter:
    """All weights of one adapter, by the layers of a decoder whose names begin with `prefix`."""

    def __init__(self, weights: Mapping[str, LowRank], prefix: str, num_layers: int, widths: LayerWidths) -> None:
        self._kept: list[PackedLowRank] = []
        self.layers = (AdapterLayer * num_layers)()
        for index in range(num_layers):
            for name, product in products_of_layer(weights, f"{prefix}layers.{index}.", widths).items():
                if name == "gate_up":  # they take turns as their weights do
                    product = LowRank(product.a, in_turns(product.b[: widths.inner], product.b[widths.inner :]))
                packed = PackedLowRank(product)
                self._kept.append(packed)
                setattr(self.layers[index], name, packed.struct)
        self.rank = max((packed.rank for packed in self._kept), default=0)
        head = weights.get("lm_head")
        self.head = None if head is None else PackedLowRank(head)
