"""The naive baseline: transformers' `generate` without a server, greedy, bf16. Prints one JSON object.

Run as `python -m benchmarks.generate FOLDER BATCH PROMPT_TOKENS NEW_TOKENS`.
"""

from __future__ import annotations

import json
import sys
import time

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel


@torch.inference_mode()
def generate(model: PreTrainedModel, batch: int, prompt: int, new: int) -> dict[str, float]:
    ids = torch.randint(300, 30000, (batch, prompt))
    start = time.perf_counter()
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, min_new_tokens=new, max_new_tokens=new
    )
    seconds = time.perf_counter() - start
    if out.shape[1] != prompt + new:
        raise RuntimeError(f"generate returned {out.shape[1]} tokens a row instead of {prompt + new}")
    return {
        "batch": batch,
        "prompt_tokens": prompt,
        "new_tokens": new,
        "output_tok_s": round(batch * new / seconds, 2),
        "total_tok_s": round(batch * (prompt + new) / seconds, 2),
    }


def main() -> None:
    folder, batch, prompt, new = sys.argv[1], *map(int, sys.argv[2:5])
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    generate(model, 1, 8, 4)
    print(json.dumps(generate(model, batch, prompt, new)), flush=True)


if __name__ == "__main__":
    main()
