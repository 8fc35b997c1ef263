"""How long a sequence may get, and rotary scaling that does not depend on who shares the batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_checkpoints import batch_of, load_runner, oracle, request_of, tiny_config, write_checkpoint

from specserve.engine.context_length import choose_max_model_len, model_context_length
from specserve.engine.errors import UnsupportedModelError


def rope(rope_type: str, **options: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": rope_type, "rope_theta": 10000.0, **options}}


LONGROPE = {
    "max_position_embeddings": 256,
    "original_max_position_embeddings": 32,
    **rope("longrope", short_factor=[1.0] * 8, long_factor=[1.5 + at for at in range(8)]),
}


def test_the_model_s_own_length_is_the_default() -> None:
    assert choose_max_model_len(tiny_config("llama"), None) == 512
    assert choose_max_model_len(tiny_config("gpt2"), None) == 512


def test_less_may_be_asked() -> None:
    assert choose_max_model_len(tiny_config("llama"), 100) == 100


@pytest.mark.parametrize("asked", [0, 1, 513])
def test_what_the_model_was_not_made_for_is_refused(asked: int) -> None:
    with pytest.raises(UnsupportedModelError, match=f"--max-model-len {asked}"):
        choose_max_model_len(tiny_config("llama"), asked)


@pytest.mark.parametrize("rope_type", ["linear", "dynamic", "yarn"])
def test_rotary_scaling_reaches_further(rope_type: str) -> None:
    config = tiny_config("llama", **rope(rope_type, factor=4.0, original_max_position_embeddings=512))
    assert model_context_length(config) == 2048


def test_chunked_attention_ends_with_the_first_chunk() -> None:
    assert model_context_length(tiny_config("llama4_text", attention_chunk_size=128)) == 128


@torch.inference_mode()
def test_a_long_sequence_does_not_turn_the_positions_of_a_short_one(tmp_path: Path) -> None:
    runner = load_runner(write_checkpoint("phi3", tmp_path, **LONGROPE), max_model_len=128)
    assert any("longrope" in note for note in runner.info.notes)
    short = request_of("short", list(range(3, 13)), [1])
    long = request_of("long", list(range(3, 103)), [2, 3, 4, 5, 6, 7, 8])
    alone = runner.logits(batch_of((short, 0, 10)))
    together = runner.logits(batch_of((short, 0, 10), (long, 0, 100)))[:10]
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("max_model_len", "length"), [(32, 20), (128, 100)])
@torch.inference_mode()
def test_fixed_rotary_scaling_is_that_of_transformers(max_model_len: int, length: int, tmp_path: Path) -> None:
    folder = write_checkpoint("phi3", tmp_path, **LONGROPE)
    ids = list(range(3, 3 + length))
    runner = load_runner(folder, max_model_len=max_model_len)
    got = runner.logits(batch_of((request_of("r", ids, list(range(1, 9))), 0, length)))
    want = oracle(folder)(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    torch.testing.assert_close(got, want, atol=2e-4, rtol=2e-4)


@torch.inference_mode()
def test_dynamic_scaling_is_untouched_within_the_original_length(tmp_path: Path) -> None:
    folder = write_checkpoint("llama", tmp_path, **rope("dynamic", factor=2.0))
    ids = list(range(3, 63))
    runner = load_runner(folder)
    got = runner.logits(batch_of((request_of("r", ids, [1, 2, 3, 4]), 0, 60)))
    want = oracle(folder)(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    torch.testing.assert_close(got, want, atol=2e-4, rtol=2e-4)
