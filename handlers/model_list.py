"""Several models in one server: words such as chat=MODEL, or the list `models` of the configuration file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from specserve.handlers.flag_table import CACHE, ENGINE, FLAGS, LORA, MODEL, SCHEDULER
from specserve.handlers.flags import UsageError, settings_of
from specserve.handlers.lora_modules import modules_of_model
from specserve.handlers.settings import ServerSettings

OF_THE_SERVER = frozenset(
    """chat_template chat_template_content_format default_chat_template_kwargs trust_request_chat_template
    response_role exclude_tools_when_tool_choice_none enable_auto_tool_choice tool_call_parser tool_parser_plugin
    reasoning_parser reasoning_parser_plugin reasoning_field max_logprobs max_tokens_policy strict_params
    lora_dir max_cpu_loras""".split()
)
"""Flags about models that hold for all of them: how conversations are written and answers are read."""
OWN_FLAGS = tuple(
    flag for flag in FLAGS if flag.group in (MODEL, ENGINE, CACHE, SCHEDULER, LORA) and flag.name not in OF_THE_SERVER
)
EXAMPLE = "write '- {name: chat, model: PATH}' for each"

Entry = Mapping[str, Any]
"""What one model has of its own, by setting; `model` and `served_model_name` are always there."""


def is_named_model(word: str) -> bool:
    """chat=MODEL, and no path that happens to contain an equals sign."""
    name, equals, model = word.partition("=")
    return bool(name and equals and model) and "/" not in name and not Path(word).exists()


def read_words(words: Sequence[str]) -> list[Entry]:
    """Of the command line's models; empty for a single one without a name. Raises UsageError."""
    plain = [word for word in words if not is_named_model(word)]
    if plain and len(words) > 1:
        raise UsageError(
            f"{plain[0]} is one of {len(words)} models and has no name",
            f"write NAME={plain[0]}, such as chat={plain[0]}",
        )
    split = [word.partition("=") for word in words if word not in plain]
    return [{"served_model_name": (name,), "model": model} for name, _, model in split]


def read_entries(content: object, path: str) -> list[Entry]:
    """Of the list `models` in a configuration file. Raises UsageError."""
    if not isinstance(content, list) or not content:
        raise UsageError(f"models in {path} is no list of models", EXAMPLE)
    return [read_entry(one, f"models.{at} in {path}") for at, one in enumerate(content)]


def read_entry(content: object, place: str) -> Entry:
    if not isinstance(content, dict):
        raise UsageError(f"{place} is no mapping", EXAMPLE)
    given = dict(content)
    if "name" in given:
        if {"served-model-name", "served_model_name"} & given.keys():
            raise UsageError(f"{place} has both name and served-model-name", "keep one of them")
        given["served_model_name"] = given.pop("name")
    found = settings_of(OWN_FLAGS, given, place, place)
    if "model" not in found:
        raise UsageError(f"{place} says no model", "add model: a folder or a hub id")
    return {"served_model_name": (found["model"],)} | found


def with_models(shared: ServerSettings, entries: Sequence[Entry], given: Mapping[str, Any]) -> ServerSettings:
    """The settings of a server with these models, each with the `shared` ones where it has none of its own.

    One entry makes an ordinary server of one model. `given` is what was set for all. Raises UsageError.
    """
    if not entries:
        return shared
    for name in ("model", "served_model_name"):
        if given.get(name):
            raise UsageError(
                f"--{name.replace('_', '-')} is given beside models that have names of their own",
                "leave it out, and write NAME=MODEL for each model",
            )
    models = tuple(dataclasses.replace(shared, **entry) for entry in entries)
    if shared.adapters and len(models) > 1:
        models = tuple(
            with_adapters(model, entry, models, shared) for model, entry in zip(models, entries, strict=True)
        )
    names = [name for model in models for name in dict.fromkeys(model.model_names)]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise UsageError(f"two models have the name {twice[0]}", "give each a name of its own")
    return models[0] if len(models) == 1 else dataclasses.replace(shared, models=models)


def with_adapters(
    model: ServerSettings, entry: Entry, models: Sequence[ServerSettings], shared: ServerSettings
) -> ServerSettings:
    """Of adapters that were given for all models, those that say that they belong to this one."""
    if "lora_modules" in entry:
        return model
    all_names = [name for one in models for name in one.model_names]
    return dataclasses.replace(model, lora_modules=(modules_of_model(shared.adapters, model.model_names, all_names),))
