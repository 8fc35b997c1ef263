"""Adapters with random weights as PEFT saves them, PEFT itself as the oracle, and runners that serve them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tiny_checkpoints import oracle, request_of

from specserve.engine.adapter import Adapter
from specserve.engine.config import CacheConfig, EngineConfig, ModelConfig
from specserve.engine.config import LoraConfig as ServedLoraConfig
from specserve.engine.lora.adapter_files import read_adapter
from specserve.engine.request import Request
from specserve.engine.runner.model_runner import ModelRunner

EVERY_KIND: dict[str, dict[str, Any]] = {
    "attention": {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]},
    "everything": {"r": 8, "lora_alpha": 4, "target_modules": "all-linear"},
    "by pattern": {
        "r": 3,
        "lora_alpha": 5,
        "use_rslora": True,
        "target_modules": r".*\.[02]\..*(k_proj|o_proj|up_proj|down_proj)",
        "rank_pattern": {"down_proj": 6, r"0\.self_attn\.k_proj": 1},
        "alpha_pattern": {"up_proj": 9},
    },
    "some layers": {"r": 2, "lora_alpha": 2, "target_modules": ["gate_proj", "o_proj"], "layers_to_transform": [1, 3]},
    "head": {"r": 5, "lora_alpha": 10, "target_modules": ["lm_head", "q_proj"], "exclude_modules": r".*\.3\..*"},
}
"""By a name; each says differently which linears it changes, and by how much."""


def write_adapter(base: Path, folder: Path, *, seed: int = 0, spread: float = 0.2, **options: Any) -> Path:
    """Save an adapter of the model in `base`; its weights are as large as those of trained ones hardly ever are."""
    model = get_peft_model(oracle(base), LoraConfig(task_type="CAUSAL_LM", **options))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread)
    model.save_pretrained(folder)
    return folder


def with_adapter(base: Path, folder: Path) -> Any:
    """PEFT's own forward."""
    return PeftModel.from_pretrained(oracle(base), folder).eval()


def merged(base: Path, adapter: Path, folder: Path) -> Path:
    """A model whose weights have taken in the adapter, with the files of `base` beside it."""
    shutil.copytree(base, folder, dirs_exist_ok=True)
    with_adapter(base, adapter).merge_and_unload().save_pretrained(folder)
    return folder


def lora_runner(
    folder: Path, backend: str = "reference", *, max_rank: int = 16, dtype: str = "auto", quantization: str = "none"
) -> ModelRunner:
    config = EngineConfig(
        model=ModelConfig(
            path=str(folder),
            device="cpu",
            dtype=dtype,
            quantization=quantization,
            attention_backend=backend,
            max_model_len=128,
        ),
        cache=CacheConfig(num_blocks=64),
        lora=ServedLoraConfig(is_enabled=True, max_rank=max_rank),
    )
    return ModelRunner.load(config, lambda phase, done: None)


def load(runner: ModelRunner, folders: Mapping[str, Path], max_rank: int = 16) -> dict[str, Adapter]:
    form = runner.adapter_form
    assert form is not None
    return {
        name: Adapter(at, name, form.pack(read_adapter(folder, form.linears, max_rank)))
        for at, (name, folder) in enumerate(folders.items(), start=1)
    }


def rows_of(
    names: Sequence[str | None], adapters: Mapping[str, Adapter], prompts: Sequence[list[int]]
) -> list[Request]:
    """Requests with blocks of their own, each with the adapter of that name."""
    requests = []
    for at, (name, prompt) in enumerate(zip(names, prompts, strict=True)):
        request = request_of(f"r{at}", prompt, [1 + 4 * at + block for block in range(4)])
        request.adapter = None if name is None else adapters[name]
        requests.append(request)
    return requests
