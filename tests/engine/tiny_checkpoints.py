"""Tiny random models of many architectures, saved as real folders; and a way to compute steps on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from specserve.engine.api import GenerationRequest
from specserve.engine.batch import ScheduledBatch, ScheduledRequest
from specserve.engine.config import CacheConfig, EngineConfig, ModelConfig, SchedulerConfig
from specserve.engine.kv_cache.manager import KVCacheManager
from specserve.engine.params import SamplingParams
from specserve.engine.request import Request
from specserve.engine.runner.model_runner import ModelRunner
from specserve.engine.scheduler import Scheduler

VOCAB_SIZE = 199
WINDOW = 24
COMMON: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
OLD_NAMES: dict[str, Any] = {"n_embd": 64, "n_head": 4, "n_layer": 4, "n_positions": 512}
MOE: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
ALTERNATING: list[str] = ["sliding_attention", "full_attention"] * 2

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen2_window": {
        "model_type": "qwen2",
        "use_sliding_window": True,
        "sliding_window": WINDOW,
        "max_window_layers": 2,
    },
    "qwen3": {"head_dim": 16},
    "mistral": {"sliding_window": WINDOW, "head_dim": 16},
    "ministral": {"sliding_window": WINDOW, "head_dim": 16},
    "gemma": {"head_dim": 16},
    "gemma2": {"head_dim": 16, "sliding_window": WINDOW},
    "gemma3_text": {"head_dim": 16, "sliding_window": WINDOW},
    "phi": {},
    "phi3": {},
    "phi3_window": {"model_type": "phi3", "sliding_window": WINDOW},
    "phimoe": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "phimoe_window": {
        "model_type": "phimoe",
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "sliding_window": WINDOW,
    },
    "olmo": {},
    "olmo2": {},
    "olmo3": {"sliding_window": WINDOW},
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2},
    "granite": {"logits_scaling": 2.0, "residual_multiplier": 0.7, "embedding_multiplier": 3.0},
    "cohere": {"logit_scale": 1.0},
    "cohere2": {"logit_scale": 1.0, "sliding_window": WINDOW},
    "gpt2": OLD_NAMES,
    "gpt_neox": {},
    "gpt_bigcode": OLD_NAMES,
    "opt": {"ffn_dim": 96, "word_embed_proj_dim": 64},
    "starcoder2": {"sliding_window": WINDOW},
    "smollm3": {},
    "glm": {"head_dim": 16},
    "glm4": {"head_dim": 16},
    "exaone4": {"sliding_window": WINDOW},
    "helium": {"head_dim": 16},
    "nemotron": {},
    "stablelm": {},
    "llama4_text": {
        "head_dim": 16,
        "num_local_experts": 2,
        "intermediate_size_mlp": 96,
        "interleave_moe_layer_step": 2,
    },
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen2_moe": {**MOE, "shared_expert_intermediate_size": 32},
    "qwen2_moe_window": {
        "model_type": "qwen2_moe",
        **MOE,
        "shared_expert_intermediate_size": 32,
        "use_sliding_window": True,
        "sliding_window": WINDOW,
        "layer_types": ALTERNATING,
    },
    "qwen3_moe": {"head_dim": 16, "decoder_sparse_step": 1, **MOE},
    "gpt_oss": {"head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": WINDOW},
    "deepseek_v3": {
        "n_routed_experts": 8,
        "num_experts_per_tok": 2,
        "n_group": 2,
        "topk_group": 1,
        "moe_intermediate_size": 32,
        "q_lora_rank": 24,
        "kv_lora_rank": 16,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 16,
        "v_head_dim": 16,
        "num_key_value_heads": 4,
        "first_k_dense_replace": 1,
    },
    # Not served; see test_load.
    "falcon": {},
    "gptj": {**OLD_NAMES, "rotary_dim": 8},
    "qwen3_5_text": {"head_dim": 16},
}
NOT_SERVED = ("falcon", "gptj", "qwen3_5_text")
SERVED = [name for name in ARCHITECTURES if name not in NOT_SERVED]


def tiny_config(name: str, **changes: Any) -> Any:
    extra = ARCHITECTURES[name]
    options = {**COMMON, **extra, **changes}
    return AutoConfig.for_model(options.pop("model_type", name), **options)


def write_checkpoint(
    name: str, folder: Path, dtype: torch.dtype = torch.float32, *, seed: int = 0, **changes: Any
) -> Path:
    """Save a model with weights large enough for distinct logits (fresh ones give nearly equal ones)."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(tiny_config(name, **changes), dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.normal_(0.0, 0.15)
            else:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.to(dtype).save_pretrained(folder)
    return folder


def oracle(folder: Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """transformers' own forward, untouched by us."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager")
    model.generation_config.eos_token_id = None  # lengths are fixed in tests
    return model.eval()


def load_runner(
    folder: Path,
    backend: str = "reference",
    dtype: str = "auto",
    quantization: str = "none",
    cache_dtype: str = "auto",
    deterministic: bool | None = None,
    device: str = "cpu",
    **limits: int,
) -> ModelRunner:
    config = EngineConfig(
        model=ModelConfig(
            path=str(folder),
            dtype=dtype,
            quantization=quantization,
            device=device,
            attention_backend=backend,
            max_model_len=limits.get("max_model_len", 128),
        ),
        cache=CacheConfig(num_blocks=limits.get("num_blocks", 48), dtype=cache_dtype),
        scheduler=SchedulerConfig(max_num_batched_tokens=limits.get("max_num_batched_tokens")),
        enable_prompt_embeds=bool(limits.get("enable_prompt_embeds", False)),
        deterministic=deterministic,
    )
    return ModelRunner.load(config, lambda phase, done: None)


def request_of(request_id: str, token_ids: list[int], block_table: list[int], **params: Any) -> Request:
    chosen = SamplingParams(**{"max_tokens": 8, "temperature": 0.0, "ignore_eos": True, **params})
    return Request(request_id, chosen, list(token_ids), len(token_ids), block_table=block_table)


def batch_of(*pieces: tuple[Request, int, int]) -> ScheduledBatch:
    """(request, start, number of new tokens) each, single tokens first."""
    scheduled = [
        ScheduledRequest(request, start, count, start + count == request.num_tokens) for request, start, count in pieces
    ]
    return ScheduledBatch(scheduled, sum(item.num_new_tokens for item in scheduled))


def generate(
    runner: ModelRunner,
    prompts: list[list[int]],
    params: list[SamplingParams],
    *,
    token_budget: int = 32,
    num_blocks: int = 48,
) -> list[list[int]]:
    """The answers' tokens, through the real scheduler and KV manager: chunks, mixed steps, prefixes."""
    block_size = runner.info.block_size
    scheduler = Scheduler(
        KVCacheManager(num_blocks, block_size),
        max_num_seqs=16,
        max_num_batched_tokens=token_budget,
        max_model_len=runner.info.max_model_len,
        eos_token_ids=runner.info.eos_token_ids,
    )
    requests = [
        Request.of(GenerationRequest(request_id=f"r{at}", prompt_token_ids=prompt, params=chosen))
        for at, (prompt, chosen) in enumerate(zip(prompts, params, strict=True))
    ]
    assert scheduler.add(requests) == []
    while scheduler.has_requests:
        batch = scheduler.schedule()
        errors = [p.error for p in scheduler.update(batch, runner.execute(batch)) if p.error]
        assert errors == []
    return [request.token_ids[request.num_prompt_tokens :] for request in requests]
