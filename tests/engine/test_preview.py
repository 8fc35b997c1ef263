"""What is said of a model before it is loaded is true once it is loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from tiny_checkpoints import write_checkpoint

from specserve.engine.config import CacheConfig, EngineConfig, ModelConfig
from specserve.engine.errors import ModelLoadError, UnsupportedModelError
from specserve.engine.preview import NOT_LOADED, preview
from specserve.engine.runner.model_runner import ModelRunner
from specserve.engine.runner.pooling_runner import PoolingRunner
from specserve.handlers.demo import checkpoint_path

SAME = ("path", "architecture", "tasks", "labels", "max_model_len", "vocab_size", "is_decoder_reranker")
GENERATORS: dict[str, dict[str, Any]] = {
    "llama": {},
    "gpt2": {},
    "opt": {},
    "llama4_text": {"attention_chunk_size": 128},
    "qwen3": {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}},
}


def config_of(folder: Path, **flags: Any) -> EngineConfig:
    return EngineConfig(
        model=ModelConfig(path=str(folder), device="cpu", **flags), cache=CacheConfig(memory_bytes=64 << 20)
    )


def check(config: EngineConfig, runner: type[ModelRunner] | type[PoolingRunner]) -> None:
    before, loaded = preview(config.model), runner.load(config, lambda phase, done: None).info
    assert {name: getattr(before, name) for name in SAME} == {name: getattr(loaded, name) for name in SAME}
    assert before.device == NOT_LOADED


@pytest.mark.parametrize("name", GENERATORS)
def test_a_generating_model_is_known_before_it_is_loaded(name: str, tmp_path: Path) -> None:
    check(config_of(write_checkpoint(name, tmp_path, **GENERATORS[name])), ModelRunner)


def test_the_demo_model_is_known_before_it_is_loaded() -> None:
    check(config_of(checkpoint_path()), ModelRunner)
    check(config_of(checkpoint_path(), max_model_len=100), ModelRunner)


def test_models_that_embed_and_classify_are_known_before_they_are_loaded(tmp_path: Path) -> None:
    models = tiny_models.write_models(tmp_path)
    assert models
    for folder in models.values():
        config = config_of(folder)
        check(config, ModelRunner if preview(config.model).is_generative else PoolingRunner)


def test_what_cannot_be_served_is_told_as_when_it_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"has no config\.json"):
        preview(ModelConfig(path=str(tmp_path)))
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    with pytest.raises(UnsupportedModelError, match="how long a sequence may get"):
        preview(ModelConfig(path=str(tmp_path)))
    assert preview(ModelConfig(path=str(tmp_path), max_model_len=50)).max_model_len == 50


def test_looking_at_a_folder_imports_no_torch() -> None:
    script = (
        "import sys; from specserve.engine.preview import preview; from specserve.engine.config import ModelConfig\n"
        "preview(ModelConfig(path=sys.argv[1])); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(checkpoint_path())], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("False\n", "")
