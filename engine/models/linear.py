"""One linear layer for every model: y = x Wᵀ + b, with the weight in the form the device multiplies fastest.

On CPUs that is a packed layout: ours for bfloat16 (cpu_linear), oneDNN's for the rest (onednn_linear). The packed
form serves any number of rows; the plain weight is dropped, so that weights are held once (a tied embedding keeps
its own plain copy).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from specserve.engine.models import cpu_linear, fp8_linear, onednn_linear
from specserve.engine.models.cpu_linear import CpuProduct
from specserve.engine.models.fp8_linear import Fp8Product
from specserve.engine.models.onednn_linear import OneDnnProduct
from specserve.engine.models.quantization import Quantization, language_head
from specserve.engine.models.weight_forms import BFLOAT16, Fp8, WeightForm
from specserve.engine.native.library import KernelUnavailableError

Product = CpuProduct | OneDnnProduct | Fp8Product
TRIED_ROWS = (1, 2, 3, 5, 8, 16, 33, 64, 130, 512)
MOST_TRIED_PRODUCTS = 10**10
"""A tenth of a second of multiplying for each shape and number of rows."""


class Linear(nn.Module):
    """x [..., in] → [..., out]. `weight` [out, in] is given in the plain form, and `product` made of it if any.

    With a product, `weight` is a tensor of the same shape and type on the meta device: model code may look at
    its type, and computing with it fails loudly.
    """

    weight: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None, product: Product | None = None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.product = product
        if product is None:
            self.weight = nn.Parameter(weight, requires_grad=False)
        else:
            self.weight = torch.empty(weight.shape, dtype=weight.dtype, device="meta")
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.product is None:
            return F.linear(x, self.weight, self.bias)
        return self.product(x)

    def extra_repr(self) -> str:
        form = "plain" if self.product is None else type(self.product).__name__
        return f"{self.in_features} → {self.out_features}, {self.weight.dtype}, {form}"


class Packing:
    """How weights of one type are packed on one device; `refusal` says why they are not."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        """Runs the self-tests of the forms that come into question."""
        self.refusal: str | None = None
        self._has_kernel = False
        if device.type != "cpu":
            self.refusal = f"weights are packed on CPUs only, not on {device}"
            return
        if dtype == torch.bfloat16:
            try:
                cpu_linear.self_test()
                self._has_kernel = True
            except KernelUnavailableError:
                pass
        self._onednn_refusal = onednn_linear.refusal(dtype)
        if not self._has_kernel:
            self.refusal = self._onednn_refusal

    def product(self, weight: Tensor, bias: Tensor | None, form: WeightForm = BFLOAT16) -> Product | None:
        """Forms other than bfloat16 have been checked to work here (`quantization.check`)."""
        if isinstance(form, Fp8):
            return Fp8Product(weight, bias) if fp8_linear.fits(weight) else None
        if form is not BFLOAT16:
            return CpuProduct(weight, bias, form)
        if self._has_kernel and weight.shape[1] % 2 == 0:
            return CpuProduct(weight, bias)
        return OneDnnProduct(weight, bias) if self.refusal is None and self._onednn_refusal is None else None


def set_deterministic(model: nn.Module, value: bool) -> str | None:
    """Whether a row's products must not depend, by a bit, on how many rows there are. Where one still does: which.

    Our own never do. oneDNN's are tried out, one of each shape, as nothing is promised of them.
    """
    tried: set[tuple[int, int, torch.dtype]] = set()
    for module in model.modules():
        if not isinstance(module, Linear) or not isinstance(module.product, OneDnnProduct):
            continue
        module.product.is_deterministic = value
        shape = (module.out_features, module.in_features, module.weight.dtype)
        if value and shape not in tried:
            tried.add(shape)
            if (num_rows := _differing_rows(module, module.product)) is not None:
                return f"oneDNN computes {num_rows} rows of a layer {module.extra_repr()} otherwise than more of them"
    return None


def _differing_rows(layer: Linear, product: OneDnnProduct) -> int | None:
    """So many rows get other bits than as part of the most."""
    counts = [rows for rows in TRIED_ROWS if rows * layer.in_features * layer.out_features <= MOST_TRIED_PRODUCTS]
    most = max(counts, default=TRIED_ROWS[0])
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(most, layer.in_features, generator=generator).to(layer.weight.dtype)
    wanted = product(x)
    for rows in counts:
        if not torch.equal(product(x[:rows]), wanted[:rows]) or not torch.equal(product(x[-rows:]), wanted[-rows:]):
            return rows
    return None


def replace_linears(
    model: nn.Module, progress: Callable[[float], None], quantization: Quantization | None = None
) -> str | None:
    """Swap every nn.Linear and Conv1D of `model` for ours, in place, packing weights where that is possible.

    Returns why nothing was packed, or None. Subclasses of nn.Linear are left alone: they do something else.
    """
    places: dict[nn.Linear | Conv1D, list[tuple[nn.Module, str]]] = {}  # a module may hang in two of them
    for parent in model.modules():
        for name, child in parent.named_children():
            if type(child) in (nn.Linear, Conv1D):
                places.setdefault(child, []).append((parent, name))
    total = sum(child.weight.numel() for child in places) or 1
    packings: dict[torch.dtype, Packing] = {}
    quantization = quantization or Quantization()
    head = language_head(model) if quantization.is_wanted else None
    done = 0
    while places:  # emptied on the way, so that each plain weight is freed before the next is packed
        child, parents = places.popitem()
        weight = child.weight.detach()
        weight = weight.T.contiguous() if isinstance(child, Conv1D) else weight
        if weight.dtype not in packings:
            packings[weight.dtype] = Packing(weight.dtype, weight.device)
        bias = None if child.bias is None else child.bias.detach()
        form = quantization.form_of(parents[0][1], child, head)
        ours = Linear(weight, bias, packings[weight.dtype].product(weight, bias, form))
        quantization.count(form, weight.numel())
        for parent, name in parents:
            setattr(parent, name, ours)
        done += weight.numel()
        progress(done / total)
    reasons = sorted({packing.refusal for packing in packings.values() if packing.refusal is not None})
    return "; ".join(reasons) if reasons else None
