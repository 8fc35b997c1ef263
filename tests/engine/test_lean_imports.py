"""transformers imported in part computes what the whole of it computes, and leaves out what it should."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_checkpoints import oracle, write_checkpoint

from specserve.engine.child import start_child

LEFT_OUT = ("torch._dynamo", "torch.distributed.tensor", "sympy", "scipy", "sklearn", "transformers.generation.utils")
ARCHITECTURES = (
    *("llama", "qwen2_window", "qwen3", "gemma3_text", "phi3", "gpt2", "gpt_neox", "opt", "granite", "cohere2"),
    *("llama4_text", "mixtral", "gpt_oss", "deepseek_v3"),
)
"""Of each way to make masks, positions and constructors."""
TOKENS = list(range(4, 44))
"""More than the windows of those that have one."""
IMPORT = "from specserve.engine.lean_imports import import_transformers; import_transformers()\n"
LOGITS = """
import json, pathlib, sys, torch, specserve.engine.process
from transformers import AutoModelForCausalLM
from specserve.engine.config import ModelConfig
from specserve.engine.models.load import load_class, read_config

for word in sys.argv[2:]:
    folder, config = pathlib.Path(word), ModelConfig(path=word, dtype="float32", device="cpu")
    found = load_class(
        AutoModelForCausalLM, config, folder, read_config(folder, config), "", lambda *_: None, attention="eager"
    )
    with torch.inference_mode():
        logits = found.model(input_ids=torch.tensor([json.loads(sys.argv[1])]), use_cache=False).logits
    print(json.dumps(logits[0, -1].tolist()), flush=True)
print(json.dumps(list(sys.modules)))
"""


def answers_of(script: str, *words: str) -> list[Any]:
    """What a Python of its own prints, line by line."""
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_models_compute_what_whole_transformers_computes(tmp_path: Path) -> None:
    folders = [write_checkpoint(name, tmp_path / name) for name in ARCHITECTURES]
    *found, _ = answers_of(IMPORT + LOGITS, json.dumps(TOKENS), *map(str, folders))
    for name, folder, logits in zip(ARCHITECTURES, folders, found, strict=True):
        with torch.inference_mode():
            wanted = oracle(folder)(input_ids=torch.tensor([TOKENS]), use_cache=False).logits[0, -1]
        torch.testing.assert_close(
            torch.tensor(logits), wanted, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_loading_and_calling_a_model_brings_in_nothing_that_serving_never_uses(tmp_path: Path) -> None:
    folder = write_checkpoint("llama", tmp_path / "llama")
    *_, modules = answers_of(IMPORT + LOGITS, json.dumps(TOKENS), str(folder))
    assert "transformers.models.llama.modeling_llama" in modules
    assert set(LEFT_OUT) & set(modules) == set()


def test_what_was_left_out_can_be_imported_afterwards() -> None:
    script = (
        IMPORT
        + """
import json, torch, transformers.masking_utils, transformers.utils
from transformers.generation.utils import GenerationMixin
with transformers.masking_utils.TransformGetItemToIndex():
    picked = torch.func.vmap(lambda at: torch.arange(10)[at])(torch.tensor([3, 4]))
print(json.dumps([
    hasattr(GenerationMixin, "generate"), torch.compiler.disable is not None, picked.tolist(),
    transformers.utils.is_torch_distributed_available(), transformers.utils.is_scipy_available.__name__,
]))
"""
    )
    assert answers_of(script) == [[True, True, [3, 4], torch.distributed.is_available(), "is_scipy_available"]]


def test_a_transformers_that_does_not_go_with_it_is_imported_whole() -> None:
    script = """
import json, sys
from specserve.engine import lean_imports
lean_imports.FLAGS = (*lean_imports.FLAGS, "is_something_that_later_versions_lack")
lean_imports.import_transformers()
gone = not any(name.partition(".")[0] == "transformers" for name in sys.modules)
from transformers.models.llama.modeling_llama import LlamaForCausalLM
print(json.dumps([gone, hasattr(LlamaForCausalLM, "generate")]))
"""
    assert answers_of(script) == [[True, True]]


def test_versions_of_packages_under_other_names_are_found() -> None:
    script = IMPORT + "import json, transformers.utils.import_utils as it\n"
    script += 'print(json.dumps([it._is_package_available(name, True)[1] for name in ("PIL", "torch")]))'
    pytest.importorskip("PIL")
    [[pillow, found]] = answers_of(script)
    assert found == torch.__version__
    assert pillow[0].isdigit()


def test_a_process_whose_server_changes_its_mind_ends_by_itself() -> None:
    child = start_child(has_own_code=False)
    child.connection.shutdown(socket.SHUT_RDWR)
    child.connection.close()
    assert child.process.wait(60) == 0
