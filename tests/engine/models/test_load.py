"""Model folders: what loads, in which type, and how everything that does not is told in two lines."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_checkpoints import NOT_SERVED, generate, load_runner, oracle, write_checkpoint
from transformers import AutoModelForCausalLM

from specserve.engine.config import ModelConfig
from specserve.engine.errors import ModelLoadError, StartupError, UnsupportedModelError
from specserve.engine.models.load import LoadedModel, choose_device, choose_dtype, load_model
from specserve.engine.params import SamplingParams

Folder = Callable[[str], Path]
CPU = torch.device("cpu")
PROMPT = list(range(5, 25))
GREEDY = SamplingParams(max_tokens=6, temperature=0.0, ignore_eos=True)


def load(folder: Path | str, **options: Any) -> LoadedModel:
    return load_model(ModelConfig(path=str(folder), device="cpu", **options), lambda phase, done: None)


def refusal(folder: Path | str, **options: Any) -> StartupError:
    with pytest.raises(StartupError) as raised:
        load(folder, **options)
    assert "\n" not in raised.value.cause
    assert "\n" not in raised.value.remedy
    return raised.value


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def expected(folder: Path, dtype: torch.dtype = torch.float32) -> list[int]:
    ids = torch.tensor([PROMPT])
    out = oracle(folder, dtype).generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=6)
    return out[0, len(PROMPT) :].tolist()


@pytest.fixture
def llama(checkpoint: Folder, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(checkpoint("llama"), tmp_path / "llama"))


class TestWhatLoads:
    def test_progress_is_told_in_phases_up_to_one(self, checkpoint: Folder) -> None:
        told: list[tuple[str, float]] = []
        load_model(ModelConfig(path=str(checkpoint("llama")), device="cpu"), lambda *update: told.append(update))
        assert [phase for phase, _ in told if phase != "looking for the model"]
        assert {phase for phase, _ in told} == {"looking for the model", "reading weights"}
        assert [done for _, done in told] == sorted(done for _, done in told)
        assert told[-1][1] == 1.0

    def test_tied_embeddings_give_the_same_text(self, tmp_path: Path) -> None:
        folder = write_checkpoint("llama", tmp_path, tie_word_embeddings=True)
        assert "lm_head.weight" not in load_file(folder / "model.safetensors")
        assert generate(load_runner(folder), [PROMPT], [GREEDY]) == [expected(folder)]

    def test_sharded_checkpoints_load(self, checkpoint: Folder, tmp_path: Path) -> None:
        model = AutoModelForCausalLM.from_pretrained(checkpoint("llama"))
        model.save_pretrained(tmp_path, max_shard_size="100KB")
        assert len(list(tmp_path.glob("*.safetensors"))) > 2
        assert generate(load_runner(tmp_path), [PROMPT], [GREEDY]) == [expected(checkpoint("llama"))]

    def test_bfloat16_checkpoints_compute_like_transformers_in_bfloat16(self, tmp_path: Path) -> None:
        folder = write_checkpoint("llama", tmp_path, torch.bfloat16)
        runner = load_runner(folder, "cpu")
        if runner.info.dtype != "bfloat16":
            pytest.skip("this CPU has no bfloat16 instructions")
        assert generate(runner, [PROMPT], [GREEDY]) == [expected(folder, torch.bfloat16)]

    def test_dtype_can_be_chosen(self, checkpoint: Folder) -> None:
        assert load(checkpoint("llama"), dtype="bfloat16").model.dtype == torch.bfloat16

    def test_end_tokens_come_from_the_generation_config_first(self, llama: Path) -> None:
        edit_json(llama / "generation_config.json", eos_token_id=[7, 9])
        assert load(llama).eos_token_ids == (7, 9)
        (llama / "generation_config.json").unlink()
        assert load(llama).eos_token_ids == (1,)


class TestDtype:
    class Config:
        def __init__(self, dtype: torch.dtype | None) -> None:
            self.dtype = dtype

    def choose(
        self, monkeypatch: pytest.MonkeyPatch, declared: torch.dtype | None, stored: torch.dtype, bf16: bool
    ) -> tuple[torch.dtype, int]:
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: bf16)
        dtype, notes = choose_dtype("auto", self.Config(declared), stored, CPU)
        return dtype, len(notes)

    def test_auto_keeps_float32_and_bfloat16(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.choose(monkeypatch, torch.float32, torch.float32, True) == (torch.float32, 0)
        assert self.choose(monkeypatch, torch.bfloat16, torch.bfloat16, True) == (torch.bfloat16, 0)

    def test_auto_reads_the_weights_when_the_config_is_silent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.choose(monkeypatch, None, torch.bfloat16, True) == (torch.bfloat16, 0)

    def test_float16_runs_in_bfloat16_on_cpus_with_a_note(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.choose(monkeypatch, torch.float16, torch.float16, True) == (torch.bfloat16, 1)

    def test_cpus_without_bfloat16_run_float32_with_a_note(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.choose(monkeypatch, torch.bfloat16, torch.bfloat16, False) == (torch.float32, 1)

    def test_gpus_keep_float16(self) -> None:
        assert choose_dtype("auto", self.Config(torch.float16), torch.float16, torch.device("cuda")) == (
            torch.float16,
            [],
        )

    def test_an_unknown_type_lists_the_known_ones(self) -> None:
        with pytest.raises(UnsupportedModelError, match=r"int8 .*\n.*auto .*bfloat16"):
            choose_dtype("int8", self.Config(None), torch.float32, CPU)


class TestWhatDoesNotLoad:
    def test_a_missing_path(self) -> None:
        error = refusal("/no/such/folder")
        assert isinstance(error, ModelLoadError)
        assert "/no/such/folder does not exist" in error.cause

    def test_a_file(self, llama: Path) -> None:
        assert "is a file" in refusal(llama / "config.json").cause

    def test_a_folder_without_a_config(self, tmp_path: Path) -> None:
        assert "no config.json" in refusal(tmp_path).cause

    def test_a_hub_id_without_a_network(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        error = refusal("nobody/no-such-model")
        assert "cannot be reached" in error.cause
        assert "pass a folder" in error.remedy

    def test_a_damaged_config(self, llama: Path) -> None:
        (llama / "config.json").write_text("{")
        assert "config.json cannot be read" in refusal(llama).cause

    def test_no_weights(self, llama: Path) -> None:
        (llama / "model.safetensors").rename(llama / "pytorch_model.bin")
        error = refusal(llama)
        assert "no model.safetensors" in error.cause
        assert "pytorch_model.bin" in error.cause

    @pytest.mark.parametrize("keep", [4, 1000, -100])
    def test_truncated_weights(self, llama: Path, keep: int) -> None:
        content = (llama / "model.safetensors").read_bytes()
        (llama / "model.safetensors").write_bytes(content[:keep])
        assert "model.safetensors is damaged" in refusal(llama).cause

    def test_a_missing_shard(self, checkpoint: Folder, tmp_path: Path) -> None:
        AutoModelForCausalLM.from_pretrained(checkpoint("llama")).save_pretrained(tmp_path, max_shard_size="100KB")
        gone = sorted(tmp_path.glob("*.safetensors"))[1]
        gone.unlink()
        error = refusal(tmp_path)
        assert "lacks 1 of" in error.cause
        assert gone.name in error.cause

    def test_missing_tensors(self, llama: Path) -> None:
        tensors = load_file(llama / "model.safetensors")
        del tensors["model.layers.1.mlp.up_proj.weight"]
        save_file(tensors, llama / "model.safetensors", metadata={"format": "pt"})
        assert "lacks 1 weights of LlamaForCausalLM: model.layers.1.mlp.up_proj.weight" in refusal(llama).cause

    def test_tensors_of_another_shape(self, llama: Path) -> None:
        edit_json(llama / "config.json", intermediate_size=128)
        assert isinstance(refusal(llama), ModelLoadError)

    def test_an_unknown_model_type(self, llama: Path) -> None:
        edit_json(llama / "config.json", model_type="neverheard")
        error = refusal(llama)
        assert isinstance(error, UnsupportedModelError)
        assert "'neverheard'" in error.cause

    def test_an_architecture_that_does_not_generate(self, llama: Path) -> None:
        edit_json(llama / "config.json", architectures=["LlamaForSequenceClassification"])
        assert "LlamaForSequenceClassification" in refusal(llama).cause

    def test_a_quantized_checkpoint(self, llama: Path) -> None:
        edit_json(llama / "config.json", quantization_config={"quant_method": "awq", "bits": 4})
        assert "quantized (awq)" in refusal(llama).cause

    @pytest.mark.parametrize("name", NOT_SERVED)
    def test_architectures_with_attention_of_their_own(self, name: str, checkpoint: Folder) -> None:
        error = refusal(checkpoint(name))
        assert isinstance(error, UnsupportedModelError)
        assert "attention" in error.cause
        assert "another architecture" in error.remedy

    @pytest.mark.parametrize("device", ["tpu", "mps", *([] if torch.cuda.is_available() else ["cuda"])])
    def test_a_device_that_is_not_here(self, device: str) -> None:
        with pytest.raises(UnsupportedModelError, match=f"--device {device}"):
            choose_device(device)
