"""Which attention backend serves a model: the first that does not refuse, else a report of all reasons."""

from __future__ import annotations

import logging
import os

import torch

from specserve.engine.attention.backend import AttentionBackend, LayerSpec
from specserve.engine.errors import UnsupportedModelError
from specserve.engine.registry import LazyRegistry

BACKENDS: LazyRegistry[type[AttentionBackend]] = LazyRegistry(
    {
        "xformers": "specserve.engine.attention.xformers_backend:XFormersBackend",
        "triton": "specserve.engine.attention.triton_backend:TritonBackend",
        "cpu": "specserve.engine.attention.cpu:CpuBackend",
        "reference": "specserve.engine.attention.reference:ReferenceBackend",
    }
)
"""In order of preference."""
OF_GPUS = ("xformers", "triton")
"""On CPUs they are not even imported, unless their kernels are interpreted there: Triton takes 0.2 s."""

logger = logging.getLogger(__name__)


def select_backend(
    name: str | None, layers: list[LayerSpec], device: torch.device, block_size: int | None
) -> AttentionBackend:
    """Construct the named backend, or for None or "auto" the first in `BACKENDS` that does not refuse.

    `block_size` None takes the backend's own default. Raises UnsupportedModelError with all reasons.
    """
    names = list(BACKENDS) if name in (None, "auto") else [str(name)]
    reasons: list[str] = []
    is_for_cpu = name in (None, "auto") and device.type == "cpu" and os.environ.get("TRITON_INTERPRET") != "1"
    for candidate in names:
        if is_for_cpu and candidate in OF_GPUS:
            reasons.append(f"{candidate}: it does not run on {device.type}")
            continue
        backend, reason = load_backend(candidate)
        if backend is not None:
            size = block_size if block_size is not None else backend.default_block_size()
            refusal = backend.refuses(layers, device, size)
            if refusal is None:
                if device.type != "cpu":  # a CPU has one backend; elsewhere a slower one steps in
                    for skipped in reasons:
                        logger.warning("attention backend not used: %s", skipped)
                return backend(layers, device, size)
            reason = refusal
        reasons.append(f"{candidate}: {reason}")
    if name in (None, "auto"):
        cause = f"no attention backend serves this model on {device} ({'; '.join(reasons)})"
        remedy = "remove the reason of one of them, or choose another device, dtype or model"
    else:
        cause = f"the attention backend asked for cannot serve this model on {device} ({'; '.join(reasons)})"
        others = ", ".join(other for other in BACKENDS if other != name)
        remedy = f"leave --attention-backend at auto, or choose one of {others}"
    raise UnsupportedModelError(cause, remedy)


def load_backend(name: str) -> tuple[type[AttentionBackend] | None, str]:
    """The backend's class, or None and why it cannot be imported."""
    try:
        return BACKENDS.load(name), ""
    except KeyError as error:
        return None, str(error.args[0])
    except Exception as error:  # a package built for another torch raises anything while it is imported
        return None, f"cannot be imported ({type(error).__name__}: {error})"
