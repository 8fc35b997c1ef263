"""The installed torch's FlashAttention takes what xformers passes to it for our prefill; needs no GPU.

torch computes shapes on its `meta` device from the operator's real schema. xformers binds to that operator
only where torch claims to have it, so this runs in a process where the claim is made.
"""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import logging, torch
logging.disable(logging.WARNING)
torch.backends.cuda.is_flash_attention_available = lambda: True
from xformers.ops.fmha import flash          # raises ImportError if torch's schema is not the expected one
from specserve.engine.attention.xformers import XFormersOperators

flash.FwOp.OPERATOR = flash._flash_fwd._init_fn  # calls torch's operator on any device
operators, meta = XFormersOperators(), torch.device("meta")
assert operators.flash_misfit(torch.device("cuda"), torch.bfloat16, 256) is None
for window in (None, 50):
    for heads in ((14, 2), (3, 3)):
        query = torch.empty(93, heads[0], 80, dtype=torch.bfloat16, device=meta)
        keys = torch.empty(130, heads[1], 80, dtype=torch.bfloat16, device=meta)
        starts = torch.empty(3, dtype=torch.int32, device=meta)
        bias = operators.prefill_bias([63, 30], [63, 67], starts, starts, window)
        out, lse = operators.flash_prefill(query, keys, keys, bias, 0.1, with_lse=True)
        assert out.shape == query.shape and out.dtype == query.dtype and out.device == meta
        assert lse.shape == query.shape[:2] and lse.dtype == torch.float32
print("fits")
"""


def test_torchs_flash_attention_takes_what_xformers_passes() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.stdout.endswith("fits\n"), done.stderr
