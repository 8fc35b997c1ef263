"""Hidden states of every family equal transformers' own, text by text, whatever is computed beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pooling_checkpoints import ARCHITECTURES, CAUSAL, VOCAB_SIZE, Pooling, load, oracle, write_checkpoint
from torch import Tensor

from specserve.engine.config import PoolerConfig
from specserve.engine.models import fused_encoder
from specserve.engine.params import PoolingTask

TOLERANCE = 1e-5
BFLOAT16_TOLERANCE = 3e-2
"""On vectors of length 1: rounding to 8 bits in every layer."""


@pytest.fixture(scope="module", params=ARCHITECTURES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    return request.param, write_checkpoint(request.param, tmp_path_factory.mktemp(request.param))


@torch.inference_mode()
def hidden_states(model: Any, ids: list[int], **arguments: Any) -> Tensor:
    return model(torch.tensor([ids]), **arguments).last_hidden_state[0]


def test_token_vectors_equal_transformers(family: tuple[str, Path], texts: list[list[int]]) -> None:
    name, folder = family
    model, pooling = oracle(folder), Pooling(load(folder), token_budget=None if name not in CAUSAL else 24)
    found = pooling(texts, PoolingTask.TOKEN_EMBED, use_activation=False)
    for ids, values in zip(texts, found, strict=True):
        wanted = hidden_states(model, ids).numpy()
        np.testing.assert_allclose(values, wanted, atol=TOLERANCE * max(1, abs(wanted).max()), rtol=0)


def test_embeddings_pool_them_and_have_length_one(family: tuple[str, Path], texts: list[list[int]]) -> None:
    name, folder = family
    model, pooling = oracle(folder), Pooling(load(folder), token_budget=None if name not in CAUSAL else 24)
    for ids, values in zip(texts, pooling(texts), strict=True):
        hidden = hidden_states(model, ids)
        wanted = F.normalize(hidden[-1] if name in CAUSAL else hidden.mean(0), dim=0)
        np.testing.assert_allclose(values, wanted.numpy(), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_text_does_not_feel_its_neighbours(family: tuple[str, Path], texts: list[list[int]], dtype: str) -> None:
    """Bit by bit in bfloat16; in float32 oneDNN sums the products of a single row in another order."""
    pooling = Pooling(load(family[1], dtype))
    together = pooling(texts)
    alone = [pooling([ids])[0] for ids in texts]
    for one, other in zip(together, alone, strict=True):
        if dtype == "float32":
            np.testing.assert_allclose(one, other, atol=1e-6, rtol=0)
        else:
            assert np.array_equal(one, other)


def test_bfloat16_stays_near(family: tuple[str, Path], texts: list[list[int]]) -> None:
    exact, rounded = (Pooling(load(family[1], dtype))(texts) for dtype in ("float32", "bfloat16"))
    for one, other in zip(exact, rounded, strict=True):
        assert np.abs(one - other).max() < BFLOAT16_TOLERANCE


@pytest.mark.parametrize("form", ["fused", "by oneDNN"])
@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert"])
@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_the_lean_encoders_equal_transformers_in_bfloat16(
    form: str, name: str, activation: str, tmp_path: Path, texts: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within what rounding makes of transformers' own results."""
    if form == "by oneDNN":
        monkeypatch.setattr(fused_encoder, "misfit", lambda *_: "as on a processor with AMX")
    key = "activation" if name == "distilbert" else "hidden_act"
    folder = write_checkpoint(name, tmp_path, **{key: activation})
    runner = load(folder, "bfloat16")
    if not any("CPU encoder" in note for note in runner.info.notes):
        pytest.skip("this processor has no AVX512_BF16")
    exact, rounded = oracle(folder), oracle(folder).bfloat16()
    found = Pooling(runner)(texts, PoolingTask.TOKEN_EMBED, use_activation=False)
    for ids, values in zip(texts, found, strict=True):
        wanted = hidden_states(exact, ids)
        theirs = (hidden_states(rounded, ids).float() - wanted).abs().max()
        assert np.abs(values - wanted.numpy()).max() < 1.5 * theirs + 1e-3


@pytest.mark.parametrize("num_heads", [2, 4])
def test_long_texts_are_cut_into_blocks_that_change_nothing(num_heads: int, tmp_path: Path) -> None:
    """Beside what is too short for a block of its own, and with more keys than are kept at a time."""
    folder = write_checkpoint("bert", tmp_path, num_attention_heads=num_heads, max_position_embeddings=700)
    runner = load(folder, "bfloat16")
    if not any("stay in the cache" in note for note in runner.info.notes):
        pytest.skip("this processor has no AVX512_BF16, or has AMX")
    generator = torch.Generator().manual_seed(1)
    texts = [torch.randint(5, VOCAB_SIZE, (length,), generator=generator).tolist() for length in (640, 3, 17, 257, 15)]
    pooling = Pooling(runner)
    together = pooling(texts, PoolingTask.TOKEN_EMBED, use_activation=False)
    exact, rounded = oracle(folder), oracle(folder).bfloat16()
    for ids, values in zip(texts, together, strict=True):
        assert np.array_equal(values, pooling([ids], PoolingTask.TOKEN_EMBED, use_activation=False)[0])
        wanted = hidden_states(exact, ids)
        theirs = (hidden_states(rounded, ids).float() - wanted).abs().max()
        assert np.abs(values - wanted.numpy()).max() < 1.5 * theirs + 1e-3


def test_a_token_without_an_embedding_is_refused_and_not_read(tmp_path: Path) -> None:
    runner = load(write_checkpoint("bert", tmp_path), "bfloat16")
    with pytest.raises(AssertionError, match="step that computed this request failed"):
        Pooling(runner)([[5, VOCAB_SIZE]])


@pytest.mark.parametrize("with_kernel", [True, False])
def test_a_decoder_is_read_both_ways_where_its_configuration_says_so(
    with_kernel: bool, tmp_path: Path, texts: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not with_kernel:
        monkeypatch.setenv("SPECSERVE_CPU_ISA", "torch")
    folder = write_checkpoint("llama", tmp_path, extra={"is_causal": False})
    runner = load(folder)
    assert runner.computes_whole_prompts
    model = oracle(folder)
    for ids, values in zip(texts, Pooling(runner)(texts), strict=True):
        everything = torch.zeros(1, 1, len(ids), len(ids))
        wanted = F.normalize(hidden_states(model, ids, attention_mask=everything).mean(0), dim=0)
        np.testing.assert_allclose(values, wanted.numpy(), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("with_kernel", [True, False])
def test_soft_capped_layers_may_look_both_ways(
    with_kernel: bool, tmp_path: Path, texts: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gemma 2 trained further as an encoder: its scores are capped, and a window goes both ways."""
    if not with_kernel:
        monkeypatch.setenv("SPECSERVE_CPU_ISA", "torch")
    folder = write_checkpoint("gemma2", tmp_path, extra={"is_causal": False}, attn_logit_softcapping=0.5)
    model, runner = oracle(folder), load(folder)
    assert runner.computes_whole_prompts
    for ids, values in zip(texts, Pooling(runner)(texts), strict=True):
        everything = torch.zeros(1, 1, len(ids), len(ids))
        masks = {"full_attention": everything, "sliding_attention": everything}
        wanted = F.normalize(hidden_states(model, ids, attention_mask=masks).mean(0), dim=0)
        np.testing.assert_allclose(values, wanted.numpy(), atol=TOLERANCE, rtol=0)


def test_token_types_are_heard(tmp_path: Path) -> None:
    folder = write_checkpoint("bert", tmp_path)
    ids, types = [5, 6, 7, 8], [0, 0, 1, 1]
    runner = load(folder)
    assert runner.info.has_token_types
    model = oracle(folder)
    (found,) = Pooling(runner)([ids], PoolingTask.TOKEN_EMBED, types=[types], use_activation=False)
    wanted = hidden_states(model, ids, token_type_ids=torch.tensor([types]))
    np.testing.assert_allclose(found, wanted.numpy(), atol=TOLERANCE, rtol=0)
    assert np.abs(found - hidden_states(model, ids).numpy()).max() > 0.1


@pytest.mark.parametrize("mode", ["mean", "last", "max", "weighted_mean"])
def test_chunks_of_a_decoder_pool_as_the_whole(mode: str, tmp_path: Path, texts: list[list[int]]) -> None:
    runner = load(write_checkpoint("qwen3", tmp_path), pooler=PoolerConfig(pooling_type=mode))
    whole, cut = Pooling(runner), Pooling(runner, token_budget=9)
    for one, other in zip(whole(texts), cut(texts), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6, rtol=0)
    assert cut.num_steps > 3 * whole.num_steps


def test_prefixes_are_shared_where_only_the_last_token_counts(tmp_path: Path, texts: list[list[int]]) -> None:
    folder = write_checkpoint("qwen3", tmp_path)
    long = texts[3]
    for mode, is_shared in (("last", True), ("mean", False)):
        pooling = Pooling(load(folder, pooler=PoolerConfig(pooling_type=mode)))
        (first,) = pooling.progress([long])
        again, longer = pooling.progress([long, [*long[:70], 9, 9]])
        assert first.num_cached_tokens == 0
        assert (again.num_cached_tokens > 0) == (longer.num_cached_tokens > 0) == is_shared
        assert first.pooled is not None
        assert again.pooled is not None
        np.testing.assert_allclose(again.pooled.unpack(), first.pooled.unpack(), atol=1e-6, rtol=0)
