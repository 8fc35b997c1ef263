"""What a folder is served for, as its files and the flags say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from specserve.engine.config import ModelConfig
from specserve.engine.errors import UnsupportedModelError
from specserve.engine.pooling.folder import LogitScoreModule, SentenceFolder
from specserve.engine.pooling.purpose import Form, find_purpose

PLAIN = SentenceFolder(prompts={})
SENTENCES = SentenceFolder(prompts={}, is_there=True)
LATE = SentenceFolder(prompts={}, is_late_interaction=True)
SCORING = SentenceFolder(prompts={}, is_there=True, modules=(LogitScoreModule(2, 1),))


def purpose(architecture: str, folder: SentenceFolder = PLAIN, **flags: Any) -> Form:
    config = {"architectures": [architecture]} | flags.pop("config", {})
    return find_purpose(config, folder, ModelConfig(path=str(Path()), **flags)).form


@pytest.mark.parametrize(
    ("architecture", "folder", "form"),
    [
        ("Qwen3ForCausalLM", PLAIN, Form.GENERATOR),
        ("GPT2LMHeadModel", PLAIN, Form.GENERATOR),
        ("Qwen3ForCausalLM", SENTENCES, Form.EMBEDDER),
        ("Qwen3ForCausalLM", SCORING, Form.TOKEN_SCORER),
        ("BertModel", PLAIN, Form.EMBEDDER),
        ("BertModel", LATE, Form.EMBEDDER),
        ("NomicBertModel", PLAIN, Form.EMBEDDER),
        ("MPNetForMaskedLM", PLAIN, Form.EMBEDDER),
        ("BertForSequenceClassification", PLAIN, Form.CLASSIFIER),
        ("XLMRobertaForSequenceClassification", SENTENCES, Form.CLASSIFIER),
        ("BertForTokenClassification", PLAIN, Form.TOKEN_CLASSIFIER),
    ],
)
def test_files_decide_where_no_flag_does(architecture: str, folder: SentenceFolder, form: Form) -> None:
    assert purpose(architecture, folder) is form


@pytest.mark.parametrize(
    ("architecture", "flags", "form"),
    [
        ("Qwen3ForCausalLM", {"runner": "pooling"}, Form.EMBEDDER),
        ("Qwen3ForCausalLM", {"convert": "embed"}, Form.EMBEDDER),
        ("Qwen3ForCausalLM", {"runner": "generate"}, Form.GENERATOR),
        ("BertForSequenceClassification", {"convert": "embed"}, Form.EMBEDDER),
        ("Qwen3ForCausalLM", {"config": {"classifier_from_token": ["no", "yes"]}}, Form.TOKEN_SCORER),
        ("Qwen3ForCausalLM", {"runner": "generate", "config": {"classifier_from_token": ["y"]}}, Form.GENERATOR),
    ],
)
def test_flags_decide_first(architecture: str, flags: dict[str, Any], form: Form) -> None:
    assert purpose(architecture, **flags) is form


@pytest.mark.parametrize(
    "flags",
    [
        {"runner": "generate", "convert": "embed"},
        {"convert": "classify"},
        {"config": {"classifier_from_token": "yes"}},
        {"config": {"classifier_from_token": ["a", "b", "c"]}},
    ],
)
def test_what_does_not_go_together_stops_the_start(flags: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedModelError):
        purpose("Qwen3ForCausalLM", **flags)


def test_late_interaction_gives_token_vectors_only() -> None:
    found = find_purpose({"architectures": ["BertModel"]}, LATE, ModelConfig(path="."))
    assert found.tasks == ("token_embed",)
