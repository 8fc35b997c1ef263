"""What is wrong with an adapter's folder is said before anything of it is used."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft_adapters import write_adapter
from safetensors.torch import load_file, save_file
from tiny_checkpoints import oracle

from specserve.engine.lora.adapter_config import AdapterError
from specserve.engine.lora.adapter_files import Linears, read_adapter
from specserve.engine.lora.linears import adaptable

KEY = "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"


@pytest.fixture(scope="module")
def linears(checkpoint: Callable[[str], Path]) -> Linears:
    return adaptable(oracle(checkpoint("llama")))


@pytest.fixture(scope="module")
def whole(checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    return write_adapter(checkpoint("llama"), folder, r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "adapter"))


def set_config(folder: Path, **values: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def set_weights(folder: Path, **changes: torch.Tensor | None) -> None:
    path = folder / "adapter_model.safetensors"
    weights = {key: value for key, value in (load_file(path) | changes).items() if value is not None}
    save_file(weights, path)


def reason(folder: Path, linears: Linears) -> str:
    with pytest.raises(AdapterError) as caught:
        read_adapter(folder, linears, 16)
    assert caught.value.param == "lora_path"
    return caught.value.message


def test_a_whole_folder_gives_scaled_pairs(folder: Path, linears: Linears) -> None:
    pairs = read_adapter(folder, linears, 16)
    assert len(pairs) == 8
    stored = load_file(folder / "adapter_model.safetensors")
    assert torch.equal(pairs["model.layers.1.self_attn.q_proj"].a, stored[KEY])
    assert torch.equal(pairs["model.layers.1.self_attn.q_proj"].b, stored[KEY.replace("lora_A", "lora_B")] * 2.0)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"bias": "all"}, "trained biases"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"peft_type": "IA3"}, "type IA3"),
        ({"init_lora_weights": "pissa"}, "began from changed base weights"),
        ({"layer_replication": [[0, 4]]}, "layers that are repeated"),
        ({"r": 0}, "must be a whole number of at least 1"),
        ({"lora_alpha": "much"}, "lora_alpha is 'much'"),
        ({"target_modules": "(("}, "makes no sense"),
        ({"target_modules": []}, "target_modules is empty"),
        ({"r": 32}, "has rank 32 in model.layers.0.self_attn.q_proj, the limit is 16 (--max-lora-rank)"),
        ({"r": 5}, "does not fit model.layers"),
        ({"target_modules": ["q_proj"]}, "which target_modules of its configuration leaves out"),
        ({"target_modules": ["q_proj", "v_proj", "o_proj"]}, "lacks the weights of 4 linear layers"),
    ],
)
def test_a_configuration_that_cannot_be_served(
    folder: Path, linears: Linears, values: dict[str, Any], words: str
) -> None:
    set_config(folder, **values)
    assert words in reason(folder, linears)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({KEY: None}, "only one of both matrices"),
        ({KEY: torch.zeros(4, 63)}, "does not fit model.layers.1.self_attn.q_proj"),
        ({KEY: torch.full((4, 64), float("nan"))}, "are not finite"),
        ({KEY: torch.zeros(4, 64, dtype=torch.int64)}, "has type I64"),
        ({"base_model.model.model.embed_tokens.lora_embedding_A": torch.zeros(4, 64)}, "changes embeddings"),
        ({KEY.replace("q_proj", "z_proj"): torch.zeros(4, 64)}, "belongs to no linear layer"),
    ],
)
def test_weights_that_do_not_fit(
    folder: Path, linears: Linears, changes: dict[str, torch.Tensor | None], words: str
) -> None:
    set_weights(folder, **changes)
    assert words in reason(folder, linears)


def test_damaged_and_missing_files(folder: Path, linears: Linears) -> None:
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "is damaged" in reason(folder, linears)
    weights.rename(folder / "adapter_model.bin")
    assert "only safetensors are read" in reason(folder, linears)
    (folder / "adapter_config.json").write_text("[" * 100_000)
    assert "cannot be read" in reason(folder, linears)
    (folder / "adapter_config.json").unlink()
    assert "has no adapter_config.json" in reason(folder, linears)
