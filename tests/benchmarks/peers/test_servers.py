"""Settings of the peers, and what each is started with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoConfig, DynamicCache, Qwen2Config, Qwen2ForCausalLM

from benchmarks.peers.rows import ROWS
from benchmarks.peers.servers import SettingsError, kv_bytes_of_a_token, read_settings, recipes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "model"
    Qwen2Config(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=8,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
    ).save_pretrained(place)
    return place


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    for name in ("vllm", "llama", "infinity", "small.gguf", "openmp.so"):
        (tmp_path / name).touch()
    path = tmp_path / "settings.yaml"
    path.write_text(
        json.dumps(
            {
                "vllm": {"executable": "vllm", "preload": ["openmp.so"], "version": "1"},
                "llama-server": {"executable": "llama", "models": {"small": "small.gguf"}},
                "infinity": {"executable": "infinity"},
            }
        )
    )
    return path


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("vlm: {executable: vllm}", "'vlm'; known are vllm"),
        ("vllm: {executable: nowhere/vllm}", "nowhere/vllm, which does not exist"),
        ("vllm: {version: 1}", "vllm names no executable"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=named):
        read_settings(path)


def test_every_row_of_a_model_is_taken_by_each_peer_once(settings: Path, folder: Path) -> None:
    found = recipes("small", folder, read_settings(settings), "0,1", ())
    for row in ROWS:
        if row.model == "small":
            takers = [recipe.peer for recipe in found if recipe.takes(row.name)]
            assert sorted(takers) == ["llama-server", "specserve", "vllm"]


def test_a_model_gets_the_peers_that_can_serve_it(settings: Path, folder: Path) -> None:
    peers = read_settings(settings)
    assert {recipe.peer for recipe in recipes("large", folder, peers, "0,1", ())} == {"specserve", "vllm"}
    assert {recipe.peer for recipe in recipes("encoder", folder, peers, "0,1", ())} == {"specserve", "vllm", "infinity"}
    assert [recipe.name for recipe in recipes("small", folder, {}, "0,1", ())] == ["specserve"]


def test_paths_of_settings_start_at_their_file(settings: Path, folder: Path) -> None:
    vllm = recipes("small", folder, read_settings(settings), "4,5", ())[1]
    assert vllm.command[0] == str(settings.parent / "vllm")
    assert vllm.environment["LD_PRELOAD"] == str(settings.parent / "openmp.so")
    assert vllm.environment["VLLM_CPU_OMP_THREADS_BIND"] == "4-5"


def test_more_flags_go_to_ours_alone(settings: Path, folder: Path) -> None:
    ours, *others = recipes("small", folder, read_settings(settings), "0,1", ("--max-num-seqs", "7"))
    assert ours.command[-2:] == ("--max-num-seqs", "7")
    assert not any("--max-num-seqs" in recipe.command for recipe in others)


def test_a_tokens_keys_and_values_are_as_large_as_in_transformers(folder: Path) -> None:
    model = Qwen2ForCausalLM(AutoConfig.from_pretrained(folder)).bfloat16()
    cache = DynamicCache()
    model(model.dummy_inputs["input_ids"][:1] % 50, past_key_values=cache)
    layers = [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]
    assert kv_bytes_of_a_token(folder) == sum(tensor.nbytes for tensor in layers) // cache.get_seq_length()
