"""From command line, environment and configuration file to ServerSettings: the only reader of any of them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence

from specserve import __version__
from specserve.handlers.accepted_flags import ACCEPTED_FLAGS, take_notices
from specserve.handlers.flag_parser import Parser
from specserve.handlers.flag_table import FLAGS
from specserve.handlers.flags import UsageError, read_environment, read_file
from specserve.handlers.lora_modules import check_modules
from specserve.handlers.model_list import is_named_model, read_entries, read_words, with_models
from specserve.handlers.settings import ServerSettings

ENVIRONMENT_PREFIX = "SPECSERVE"
EXIT_CODES = {
    0: "clean stop, all open streams finished",
    2: "unknown flag or bad value, on the command line, in the environment or in the file",
    3: "model not found, damaged or not supported",
    4: "port in use",
    5: "not enough memory for the weights or one sequence",
    10: "the engine process died",
    11: "the engine process hung and was ended",
    12: "--shutdown-timeout passed and streams were cut",
    130: "forced by a second SIGINT",
    143: "forced by a second SIGTERM",
}


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=110)


def parser() -> Parser:
    codes = "\n".join(f"  {code:>3}  {meaning}" for code, meaning in EXIT_CODES.items())
    made = Parser(
        (*FLAGS, *ACCEPTED_FLAGS),
        prog="serve",
        usage="serve [MODEL | NAME=MODEL ...] [flags]",
        description="Serve a model over the OpenAI API. Without MODEL the built-in demo model answers.",
        epilog=f"exit codes:\n{codes}\n\nEvery flag can also be set as {ENVIRONMENT_PREFIX}_<FLAG> in the environment "
        "or as 'flag: value'\nin --config FILE.yaml. The command line wins, then the environment, then the file.",
        formatter_class=HelpFormatter,
    )
    made.add_argument(
        "positional_model",
        nargs="?",
        metavar="MODEL",
        help="a model folder or a hub id; several are given as chat=MODEL embed=MODEL",
    )
    made.add_argument("--config", action="append", metavar="FILE.yaml", help="read flags from a YAML file")
    made.add_argument("-h", "--help", action="help", help="show this and end")
    made.add_argument("-v", "--version", action="version", version=f"specserve {__version__}")
    return made


def read_settings(argv: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> ServerSettings:
    """Settings from command line, environment, file and defaults, in that order of precedence.

    Raises UsageError; SystemExit(0) after --help or --version.
    """
    given = parser().read(sys.argv[1:] if argv is None else argv, is_named_model)
    files = given.pop("config", [])
    if len(files) > 1:
        raise UsageError(f"--config is given {len(files)} times", "put everything into one file")
    positional, more = given.pop("positional_model", None), given.pop("more", [])
    entries = read_words([positional, *more]) if positional is not None else []
    if positional is not None and not entries:
        if given.get("model", positional) != positional:
            raise UsageError(
                f"two models are given, {positional} and --model {given['model']}",
                "keep one, or name each: chat=MODEL embed=MODEL",
            )
        given["model"] = positional
    flags = (*FLAGS, *ACCEPTED_FLAGS)
    from_file = read_file(flags, files[0], {"models": read_entries}) if files else {}
    from_environment = read_environment(flags, environment, ENVIRONMENT_PREFIX)
    if key := environment.get("VLLM_API_KEY"):
        by_name = {flag.name: flag for flag in FLAGS}
        from_environment.setdefault("api_key", by_name["api_key"].value_of(key, "VLLM_API_KEY"))
    listed = from_file.pop("models", [])
    if listed and "model" in from_file:
        raise UsageError(f"{files[0]} has both model and models", "put the model into the list")
    found = from_file | from_environment | given
    if not entries and "model" not in found:
        entries = listed
    settings = with_models(ServerSettings(notices=take_notices(found), **found), entries, found)
    for one in settings.served:
        check_model(one, len(settings.served))
    check_adapters(settings)
    return settings


def check_adapters(settings: ServerSettings) -> None:
    """Raises UsageError when flags about adapters contradict each other or the models."""
    if settings.lora_dir and not any(model.enable_lora for model in settings.served):
        raise UsageError("--lora-dir is given, but no model takes adapters", "add --enable-lora")
    names = [name for model in settings.served for name in model.model_names]
    seen: set[str] = set()
    for model in settings.served:
        check_modules(model.adapters, model.model_names)
        if model.adapters and not model.enable_lora:
            raise UsageError("--lora-modules is given without --enable-lora", "add --enable-lora")
        if len(model.adapters) > settings.max_cpu_loras:
            raise UsageError(
                f"--lora-modules names {len(model.adapters)} adapters, --max-cpu-loras allows {settings.max_cpu_loras}",
                "raise it",
            )
        for module in model.adapters:
            if module.name in seen or module.name in names:
                raise UsageError(f"the name {module.name} of an adapter is taken", "give it another one")
            seen.add(module.name)


def check_model(settings: ServerSettings, num_models: int) -> None:
    """Raises UsageError when values contradict each other."""
    if settings.num_gpu_blocks_override is not None and settings.kv_cache_memory_bytes is not None:
        raise UsageError(
            "--num-gpu-blocks-override and --kv-cache-memory-bytes both set the size of the KV cache", "keep one"
        )
    settings.engine_config(num_models)
