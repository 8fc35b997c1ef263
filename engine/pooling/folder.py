"""What sentence-transformers folders say beside config.json: which modules follow the model, prompts, lengths.

Also the older files of PyLate and Stanford's ColBERT. Imports no torch.

Source: the loaders of sentence-transformers 6 and its saved folders of versions 0 to 6.
"""

from __future__ import annotations

import string
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from specserve.engine.errors import UnsupportedModelError
from specserve.engine.model_folder import read_json, read_json_list

POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_weightedmean_tokens": "weighted_mean",
    "pooling_mode_lasttoken": "last",
}
"""How folders up to version 5 write it, in the order in which several are joined."""
POOLING_NAMES = {"mean_sqrt_len_tokens": "mean_sqrt_len", "weightedmean": "weighted_mean", "lasttoken": "last"}
TOKENS = "token_embeddings"
"""Modules that name this as their input work on the vectors of all tokens."""
LATE_INTERACTION_KEYS = ("query_prefix", "document_prefix", "query_length", "document_length", "do_query_expansion")
USUAL_QUERY_LENGTH = 32
"""Of late interaction, special tokens included, where a folder says nothing."""
SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")


@dataclass(frozen=True, slots=True)
class PoolingModule:
    """`modes` of engine.pooling.poolers, whose vectors are joined. `skips_prompt`: a prompt's tokens do not count."""

    modes: tuple[str, ...]
    skips_prompt: bool = False


@dataclass(frozen=True, slots=True)
class DenseModule:
    """A linear layer with an activation, in a file of its own. `weight_name` None: `linear.weight`."""

    path: Path
    activation: str
    on_tokens: bool = False
    has_residual: bool = False
    weight_name: str = "linear.weight"


@dataclass(frozen=True, slots=True)
class LayerNormModule:
    path: Path


@dataclass(frozen=True, slots=True)
class NormalizeModule:
    on_tokens: bool = False


@dataclass(frozen=True, slots=True)
class LogitScoreModule:
    """A pair's score is the logit of one token behind the prompt, less that of another if there is one."""

    true_token_id: int
    false_token_id: int | None


Module = PoolingModule | DenseModule | LayerNormModule | NormalizeModule | LogitScoreModule


@dataclass(frozen=True, slots=True)
class Expansion:
    """Late interaction fills up queries to so many tokens; `token` None is the tokenizer's mask."""

    num_tokens: int
    token: str | None = None
    is_seen: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SentenceFolder:
    """`modules` follow the transformer, in order; empty for a folder without modules.json."""

    modules: tuple[Module, ...] = ()
    is_there: bool = False
    """Whether the folder has a modules.json."""
    prompts: dict[str, str]
    default_prompt_name: str | None = None
    similarity: str = "cosine"
    max_tokens: int | None = None
    is_late_interaction: bool = False
    query_prefix: str = ""
    document_prefix: str = ""
    max_query_tokens: int | None = None
    max_document_tokens: int | None = None
    expansion: Expansion | None = None
    skipped_words: tuple[str, ...] = ()
    """Tokens of documents that late interaction does not compare."""
    activation: str | None = None
    """Of a cross-encoder's scores, by the name of its torch class."""
    truncate_dim: int | None = None

    @property
    def logit_score(self) -> LogitScoreModule | None:
        return next((module for module in self.modules if isinstance(module, LogitScoreModule)), None)

    @property
    def pooling(self) -> PoolingModule | None:
        return next((module for module in self.modules if isinstance(module, PoolingModule)), None)


def read_sentence_folder(folder: Path, transformer: Path, config: dict[str, Any]) -> SentenceFolder:
    """`config` is config.json of the transformer's folder. Raises ModelLoadError or UnsupportedModelError."""
    own = _read_if_there(folder / "config_sentence_transformers.json")
    listed = read_json_list(folder / "modules.json") if (folder / "modules.json").is_file() else []
    modules = tuple(_read_module(folder, entry) for entry in listed[1:] if not _is_marginal(entry))
    kinds = [str(entry.get("type", "")) for entry in listed]
    is_stanford = (config.get("architectures") or [""])[0] == "HF_ColBERT"
    is_late = is_stanford or any("pylate" in kind or "MultiVectorMask" in kind for kind in kinds)
    is_late = is_late or any(key in own for key in LATE_INTERACTION_KEYS)
    if is_late:
        modules = tuple(replace(one, on_tokens=True) if isinstance(one, DenseModule) else one for one in modules)
    if is_stanford and not modules:
        modules = (_stanford_dense(folder), NormalizeModule(on_tokens=True))
    elif is_late and not any(isinstance(module, NormalizeModule) for module in modules):
        modules = (*modules, NormalizeModule(on_tokens=True))
    late = _late_interaction(folder, transformer, own, listed, is_stanford) if is_late else {}
    similarity = own.get("similarity_fn_name") or "cosine"
    cross = config.get("sentence_transformers") or {}
    return SentenceFolder(
        modules=modules,
        is_there=bool(listed),
        prompts={str(name): str(text) for name, text in (own.get("prompts") or {}).items() if text is not None},
        default_prompt_name=own.get("default_prompt_name"),
        similarity=similarity if similarity in SIMILARITIES else "cosine",
        max_tokens=_max_tokens(transformer, listed),
        is_late_interaction=is_late,
        **late,
        activation=own.get("activation_fn")
        or cross.get("activation_fn")
        or config.get("sbert_ce_default_activation_function"),
        truncate_dim=own.get("truncate_dim"),
    )


def _late_interaction(
    folder: Path, transformer: Path, own: dict[str, Any], listed: list[dict[str, Any]], is_stanford: bool
) -> dict[str, Any]:
    """Fields of SentenceFolder: marks, lengths, expansion, what is skipped.

    Stanford's folders say it in artifact.metadata, PyLate's in config_sentence_transformers.json, those of
    sentence-transformers from version 6 on in the files of two modules.
    """
    if is_stanford:
        said = _read_if_there(folder / "artifact.metadata")
        return {
            "query_prefix": said.get("query_token_id") or "[unused0]",
            "document_prefix": said.get("doc_token_id") or "[unused1]",
            "max_query_tokens": said.get("query_maxlen") or USUAL_QUERY_LENGTH,
            "max_document_tokens": said.get("doc_maxlen"),
            "expansion": Expansion(
                said.get("query_maxlen") or USUAL_QUERY_LENGTH, is_seen=bool(said.get("attend_to_mask_tokens"))
            ),
            "skipped_words": tuple(string.punctuation) if said.get("mask_punctuation", True) else (),
        }
    found: dict[str, Any] = {
        "query_prefix": own.get("query_prefix") or "",
        "document_prefix": own.get("document_prefix") or "",
        "max_query_tokens": own.get("query_length"),
        "max_document_tokens": own.get("document_length"),
    }
    mask = next((entry for entry in listed if "MultiVectorMask" in str(entry.get("type"))), None)
    if mask is not None:
        said = _read_if_there(transformer / "sentence_bert_config.json")
        skips = _read_if_there(folder / str(mask.get("path", "")) / "config.json")
        wanted = said.get("query_expansion")
        if wanted:
            found["expansion"] = Expansion(int(wanted["length"]), wanted.get("token"), bool(wanted.get("attend")))
        if "document" in skips.get("skiplist_tasks", ["document"]):
            found["skipped_words"] = tuple(skips.get("skiplist_words") or ())
        found["max_query_tokens"] = said.get("query_length") or found["max_query_tokens"]
        found["max_document_tokens"] = said.get("document_length") or found["max_document_tokens"]
        return found
    if own.get("do_query_expansion") is not False:
        attends = own.get("attend_to_expansion_tokens", own.get("attend_to_mask_tokens"))
        found["expansion"] = Expansion(own.get("query_length") or USUAL_QUERY_LENGTH, is_seen=bool(attends))
    words = own.get("skiplist_words")
    found["skipped_words"] = tuple(string.punctuation if words is None else words)
    return found


def _is_marginal(entry: dict[str, Any]) -> bool:
    """Modules that change nothing of what is computed here: dropout, and which token vectors others shall skip."""
    return str(entry.get("type", "")).rsplit(".", 1)[-1] in ("Dropout", "MultiVectorMask")


def _read_module(folder: Path, entry: dict[str, Any]) -> Module:
    path = folder / str(entry.get("path", ""))
    kind = str(entry.get("type", "")).rsplit(".", 1)[-1]
    config = _read_if_there(path / "config.json") if entry.get("path") else {}
    reads = config.get("module_input_name", "sentence_embedding")
    match kind:
        case "Pooling":
            return PoolingModule(_modes(config), skips_prompt=config.get("include_prompt") is False)
        case "Dense":
            is_token_wise = reads == TOKENS or "pylate" in str(entry["type"])
            residual = bool(config.get("use_residual"))
            return DenseModule(path, _activation(config, path), is_token_wise, residual)
        case "LayerNorm":
            return LayerNormModule(path)
        case "Normalize":
            return NormalizeModule(on_tokens=reads == TOKENS)
        case "LogitScore":
            return LogitScoreModule(int(config["true_token_id"]), config.get("false_token_id"))
    raise UnsupportedModelError(
        f"{folder}/modules.json has a module of type {entry.get('type')}, which is not supported",
        "serve a model of Transformer, Pooling, Dense, LayerNorm, Normalize and LogitScore modules",
    )


def _modes(config: dict[str, Any]) -> tuple[str, ...]:
    given = config.get("pooling_mode")
    if given is None:
        given = [mode for flag, mode in POOLING_FLAGS.items() if config.get(flag)] or ["mean"]
    listed = [given] if isinstance(given, str) else list(given)
    return tuple(POOLING_NAMES.get(mode, mode) for mode in listed)


def _activation(config: dict[str, Any], path: Path) -> str:
    name = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    if not name.startswith("torch."):
        raise UnsupportedModelError(
            f"{path}/config.json names the activation {name}, which is not one of torch", "serve another model"
        )
    return name.rsplit(".", 1)[-1]


def _stanford_dense(folder: Path) -> DenseModule:
    return DenseModule(folder, "Identity", on_tokens=True)


def _max_tokens(folder: Path, listed: list[dict[str, Any]]) -> int | None:
    """What the transformer module is limited to, special tokens included."""
    kinds = ("bert", "roberta", "distilbert", "xlm-roberta", "mpnet", "camembert")
    names = [f"sentence_{kind}_config.json" for kind in kinds]
    for name in names if listed else ():
        length = _read_if_there(folder / name).get("max_seq_length")
        if isinstance(length, int) and length > 0:
            return length
    return None


def _read_if_there(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}
