"""The peer of the GPU's benchmark: transformers' continuous batching, at its fastest without a package of kernels."""

from __future__ import annotations

import time
import traceback
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AutoModelForCausalLM, GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig

BLOCK = 256
TORCH_ATTENTION = "torch_varlen"


def torch_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    cache: Any,
    cu_seq_lens_q: Tensor,
    cu_seq_lens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    read_index: Any,
    write_index: Any,
    scaling: float,
    **_: Any,
) -> tuple[Tensor, None]:
    """What transformers 5.17 computes with the package flash-attn, by the FlashAttention 2 inside torch."""
    keys, values = cache.update(
        key_states=key, value_states=value, layer_idx=module.layer_idx, read_index=read_index, write_index=write_index
    )
    out = torch.ops.aten._flash_attention_forward(
        query.transpose(1, 2).squeeze(0).contiguous(),
        keys.contiguous(),
        values.contiguous(),
        cu_seq_lens_q,
        cu_seq_lens_k,
        max_seqlen_q,
        max_seqlen_k,
        0.0,
        True,
        False,
        scale=scaling,
    )[0]
    return out, None


def answered(manager: Any, inputs: list[list[int]], answer: int) -> tuple[int, float]:
    """Tokens that come back for all prompts, and seconds until the last of them."""
    began = time.perf_counter()
    manager.add_requests(inputs, max_new_tokens=answer)
    tokens = 0
    for _ in inputs:
        while (found := manager.get_result(timeout=1)) is None:
            if not manager.is_running() or manager.background_thread_status.fatal_error is not None:
                raise RuntimeError(f"the generation thread ended: {manager.background_thread_status.fatal_error}")
        if found.error is not None:
            raise RuntimeError(found.error)
        tokens += len(found.generated_tokens)
    return tokens, time.perf_counter() - began


@torch.inference_mode(False)
@torch.no_grad()
def continuous_batching(
    folder: Path, device: torch.device, concurrency: int, prompt: int, answer: int
) -> dict[str, Any]:
    """transformers' own at its fastest without a package of kernels, by attention; the same work as `gpu.generated`.

    Outside of inference mode, as its generation thread is, which writes into what is made here.
    """
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="sdpa")
    model = model.to(device).eval()
    generator = torch.Generator().manual_seed(concurrency)
    inputs = [
        torch.randint(0, model.config.vocab_size, (prompt,), generator=generator).tolist()
        for _ in range(2 * concurrency)
    ]
    wanted = GenerationConfig(max_new_tokens=answer, do_sample=False, eos_token_id=-1, pad_token_id=0)
    found: dict[str, Any] = {}
    for name in ("sdpa", TORCH_ATTENTION) if device.type == "cuda" else ("sdpa",):
        try:
            if name == TORCH_ATTENTION:
                for registered in (name, f"paged|{name}"):
                    AttentionInterface.register(registered, torch_attention)
            model.set_attn_implementation(name)
            options = peer_options(concurrency, prompt, answer, name, device)
            with model.continuous_batching_context_manager(wanted, continuous_batching_config=options) as manager:
                answered(manager, inputs, answer)  # captures graphs
                tokens, seconds = answered(manager, inputs, answer)
            found[name] = {"output_tok_s": round(tokens / seconds, 1), "tokens": tokens}
        except Exception as error:  # what it takes changes from release to release
            traceback.print_exc()
            found[name] = {"failed": f"{type(error).__name__}: {error}"[:300]}
    return found


def peer_options(
    concurrency: int, prompt: int, answer: int, attention: str, device: torch.device
) -> ContinuousBatchingConfig:
    """As many places as ours, a cache that holds them all, graphs, and where no mask is needed steps ahead.

    A mask of all tokens by the whole cache is kept and copied for "sdpa", so the cache is no larger than the work.
    """
    on_gpu = device.type == "cuda"
    blocks = -(-(prompt + answer) // BLOCK) + 1
    return ContinuousBatchingConfig(
        block_size=BLOCK,
        num_blocks=2 * blocks * concurrency,
        max_batch_tokens=max(256, concurrency * prompt),
        max_requests_per_batch=concurrency,
        safety_margin=0.0,
        allow_block_sharing=False,
        use_cuda_graph=on_gpu,
        use_async_batching=on_gpu and attention != "sdpa",
        q_padding_interval_size=concurrency if on_gpu else 0,
        kv_padding_interval_size=1024 if on_gpu else 0,
    )
