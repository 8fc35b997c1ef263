"""What a model folder is served for: to generate, to embed or to classify. Goes by files and flags; imports no torch.

`--runner` and `--convert` decide where they are given; `auto` goes by modules.json and the architecture's name.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from specserve.engine.api import GENERATE
from specserve.engine.config import ModelConfig
from specserve.engine.errors import UnsupportedModelError
from specserve.engine.params import PoolingTask
from specserve.engine.pooling.folder import LogitScoreModule, SentenceFolder

CLASSIFIER, TOKEN_CLASSIFIER = "ForSequenceClassification", "ForTokenClassification"
GENERATORS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
EMBEDDERS = ("Model", "ForMaskedLM", "ForPreTraining", "HF_ColBERT")
"""Ends of architectures' names."""


class Form(StrEnum):
    """Which of transformers' classes is loaded, and what follows it."""

    GENERATOR = "generator"
    EMBEDDER = "embedder"
    CLASSIFIER = "classifier"
    TOKEN_CLASSIFIER = "token_classifier"
    TOKEN_SCORER = "token_scorer"
    """A causal language model of which one or two tokens' logits are the score of a pair."""

    @property
    def is_pooling(self) -> bool:
        return self is not Form.GENERATOR


@dataclass(frozen=True, slots=True)
class Purpose:
    form: Form
    tasks: tuple[str, ...]
    scores: LogitScoreModule | tuple[str, ...] | None = None
    """Of a token scorer: the ids, or the tokens (no, yes) that are still to be looked up."""


def find_purpose(config: dict[str, Any], folder: SentenceFolder, wanted: ModelConfig) -> Purpose:
    """`config` is config.json with its overrides. Raises UnsupportedModelError for flags that do not fit."""
    architecture = str((config.get("architectures") or [""])[0])
    form, scores = _form(config, architecture, folder, wanted)
    match form:
        case Form.GENERATOR:
            tasks: tuple[str, ...] = (GENERATE,)
        case Form.EMBEDDER if folder.is_late_interaction:
            tasks = (PoolingTask.TOKEN_EMBED,)
        case Form.EMBEDDER:
            tasks = (PoolingTask.EMBED, PoolingTask.TOKEN_EMBED)
        case Form.TOKEN_CLASSIFIER:
            tasks = (PoolingTask.TOKEN_CLASSIFY,)
        case _:
            tasks = (PoolingTask.CLASSIFY,)
    return Purpose(form, tuple(map(str, tasks)), scores)


def _form(
    config: dict[str, Any], architecture: str, folder: SentenceFolder, wanted: ModelConfig
) -> tuple[Form, LogitScoreModule | tuple[str, ...] | None]:
    if wanted.runner == "generate":
        if wanted.convert in ("embed", "classify"):
            raise UnsupportedModelError(
                f"--convert {wanted.convert} does not go with --runner generate",
                "pass --runner pooling, or leave one out",
            )
        return Form.GENERATOR, None
    if wanted.convert == "embed":
        return Form.EMBEDDER, None
    if (scores := folder.logit_score or _scored_tokens(config)) is not None:
        return Form.TOKEN_SCORER, scores
    if architecture.endswith(TOKEN_CLASSIFIER):
        return Form.TOKEN_CLASSIFIER, None
    if architecture.endswith(CLASSIFIER):
        return Form.CLASSIFIER, None
    if wanted.convert == "classify":
        raise UnsupportedModelError(
            f"{architecture} has no classifier to serve with --convert classify",
            'name the tokens whose logits are the score: --hf-overrides \'{"classifier_from_token": ["no", "yes"]}\'',
        )
    is_marked = folder.is_there or folder.is_late_interaction or wanted.runner == "pooling"
    is_embedder = architecture.endswith(EMBEDDERS) and not architecture.endswith(GENERATORS)
    return (Form.EMBEDDER if is_marked or is_embedder else Form.GENERATOR), None


def _scored_tokens(config: dict[str, Any]) -> tuple[str, ...] | None:
    tokens = config.get("classifier_from_token")
    if tokens is None:
        return None
    if not isinstance(tokens, list) or len(tokens) not in (1, 2) or not all(isinstance(t, str) for t in tokens):
        raise UnsupportedModelError(
            f"classifier_from_token is {tokens!r}", "name one token, or two: that of no and that of yes"
        )
    return tuple(tokens)
