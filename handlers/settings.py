"""ServerSettings: the only reader of flags, environment variables and the configuration file. Imports no torch."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from specserve import __version__
from specserve.engine.config import SCHEDULING_POLICIES, CacheConfig, EngineConfig, ModelConfig, SchedulerConfig
from specserve.engine.errors import InvalidParameterError
from specserve.engine.generation_config import HONOURED_FIELDS
from specserve.handlers.demo import checkpoint_path
from specserve.handlers.flags import (
    Flag,
    Parser,
    UsageError,
    integer,
    json_object,
    one_of,
    positive_seconds,
    positive_size,
    read_environment,
    read_file,
    seconds,
    switch,
)
from specserve.handlers.generation_defaults import GenerationSource, check_override, generation_source
from specserve.handlers.limits import MaxTokensPolicy

ENVIRONMENT_PREFIX = "SPECSERVE"
DEMO_MODEL_NAME = "specserve-demo"
RESERVED_TEMPLATE_VARIABLES = frozenset(
    """messages tools documents add_generation_prompt continue_final_message chat_template tokenize conversation
    return_dict return_tensors tokenizer_kwargs truncation padding max_length""".split()
)
"""What the server hands to chat templates itself, or what steers other servers' renderers."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """One server. The fields have the names of the flags; None means: chosen by the model or the machine."""

    model: str | None = None
    """A folder or a hub id; None serves the demo model."""
    served_model_name: tuple[str, ...] = ()
    revision: str | None = None
    dtype: str = "auto"
    max_model_len: int | None = None
    seed: int = 0
    trust_remote_code: bool = False
    chat_template: str | None = None
    """The template's text: a file given by the flag has been read."""
    chat_template_content_format: Literal["auto", "string", "openai"] = "auto"
    default_chat_template_kwargs: Mapping[str, Any] | None = None
    trust_request_chat_template: bool = False
    response_role: str = "assistant"
    exclude_tools_when_tool_choice_none: bool = False
    enable_auto_tool_choice: bool = True
    tool_call_parser: str = "auto"
    tool_parser_plugin: str | None = None
    reasoning_parser: str = "auto"
    reasoning_field: Literal["both", "reasoning", "reasoning_content"] = "both"
    generation_config: str = "auto"
    """auto, vllm (ignore the model's file) or a folder."""
    override_generation_config: Mapping[str, Any] | None = None
    max_logprobs: int = 20
    max_tokens_policy: MaxTokensPolicy = "clamp"
    strict_params: bool = False
    request_timeout: float = 0.0
    """Seconds; 0 sets no limit."""
    enable_prompt_embeds: bool = False

    host: str = "127.0.0.1"
    port: int = 8000
    api_key: tuple[str, ...] = ()
    max_requests_per_client: int | None = None
    enable_tokenizer_info_endpoint: bool = False
    shutdown_timeout: float = 30.0
    log_level: str = "info"
    uvicorn_log_level: str = "warning"
    disable_uvicorn_access_log: bool = False

    device: str = "auto"
    attention_backend: str = "auto"
    enforce_eager: bool = False
    num_threads: int | None = None
    engine_watchdog: float = 120.0
    block_size: int | None = None
    num_gpu_blocks_override: int | None = None
    kv_cache_memory_bytes: int | None = None
    enable_prefix_caching: bool = True
    max_num_seqs: int = 64
    max_num_batched_tokens: int | None = None
    max_num_queued_reqs: int = 1024
    scheduling_policy: str = "fcfs"

    @property
    def model_path(self) -> str:
        return self.model if self.model is not None else str(checkpoint_path())

    @property
    def model_names(self) -> tuple[str, ...]:
        """The names clients may use, the first of which answers carry."""
        return self.served_model_name or (self.model if self.model is not None else DEMO_MODEL_NAME,)

    @property
    def names_formats(self) -> bool:
        """Whether the formats of answers are not all left to the chat template."""
        chosen = (self.tool_call_parser, self.reasoning_parser, self.tool_parser_plugin)
        return chosen != ("auto", "auto", None)

    @property
    def url(self) -> str:
        """Where a client on this machine finds the server."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{self.port}"

    @property
    def is_public(self) -> bool:
        """Whether other machines can connect."""
        return self.host not in ("127.0.0.1", "::1", "localhost")

    @property
    def generation_defaults(self) -> GenerationSource:
        return GenerationSource(self.generation_config, self.override_generation_config)

    def engine_config(self) -> EngineConfig:
        """Raises UsageError when values contradict each other."""
        try:
            return EngineConfig(
                model=ModelConfig(
                    path=self.model_path,
                    dtype=self.dtype,
                    max_model_len=self.max_model_len,
                    seed=self.seed,
                    device=self.device,
                    attention_backend=self.attention_backend,
                    enforce_eager=self.enforce_eager,
                    trust_remote_code=self.trust_remote_code,
                    revision=self.revision,
                    eos_token_ids=self.generation_defaults.eos_token_ids(),
                ),
                cache=CacheConfig(
                    block_size=self.block_size,
                    num_blocks=self.num_gpu_blocks_override,
                    memory_bytes=self.kv_cache_memory_bytes,
                    enable_prefix_caching=self.enable_prefix_caching,
                ),
                scheduler=SchedulerConfig(
                    max_num_seqs=self.max_num_seqs,
                    max_num_batched_tokens=self.max_num_batched_tokens,
                    max_num_queued=self.max_num_queued_reqs,
                    policy=self.scheduling_policy,
                ),
                watchdog_s=self.engine_watchdog,
                num_threads=self.num_threads,
                enable_prompt_embeds=self.enable_prompt_embeds,
                log_level=self.log_level,
            )
        except InvalidParameterError as error:
            raise UsageError(error.message, "change one of them; serve --help explains every flag") from error


DEFAULTS = ServerSettings()


def model_len(text: str) -> int | None:
    """`auto` and -1 mean the model's own length."""
    if text in ("auto", "-1"):
        return None
    return positive_size(text)


def template(text: str) -> str:
    """A Jinja template in one line, or the content of the file it names."""
    if "{{" in text or "{%" in text or "{#" in text:
        return text
    try:
        return Path(text).expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ValueError(f"it is neither a template nor a file that can be read ({reason})") from error


def generation_override(text: str) -> dict[str, Any]:
    values = json_object()(text)
    check_override(values)
    return values


def name(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty")
    return text


def one_key(text: str) -> str:
    """HTTP headers carry printable ASCII; another key could never be sent."""
    if not text.isascii() or not text.isprintable() or not text.strip() or " " in text:
        raise ValueError("must be printable ASCII without spaces")
    return text


MODEL, SERVER, ENGINE, CACHE, SCHEDULER = "Model", "Server", "Engine", "KV cache", "Scheduler"
LEVELS = ("critical", "error", "warning", "info", "debug")


def flag(
    setting: str,
    group: str,
    help: str,
    parse: Callable[[str], Any] = str,
    metavar: str = "TEXT",
    many: bool = False,
    is_secret: bool = False,
) -> Flag:
    default = getattr(DEFAULTS, setting)
    if default not in (None, ()) and parse is not switch:
        help = f"{help} (default {default:g})" if isinstance(default, float) else f"{help} (default {default})"
    return Flag(name=setting, group=group, help=help, parse=parse, metavar=metavar, many=many, is_secret=is_secret)


FLAGS = (
    flag("model", MODEL, "the same as the positional MODEL: a folder or a hub id", name, "MODEL"),
    flag(
        "served_model_name",
        MODEL,
        "names clients may use; the first is reported. Default: MODEL as given",
        name,
        "NAME",
        many=True,
    ),
    flag("revision", MODEL, "branch, tag or commit of a hub id", name, "REV"),
    flag(
        "dtype",
        MODEL,
        "auto takes the checkpoint's own",
        one_of("auto", "bfloat16", "float16", "float32", "half", "float"),
        "TYPE",
    ),
    flag(
        "max_model_len",
        MODEL,
        "tokens of prompt and answer together, such as 8K (8192). Default: the model's own",
        model_len,
        "SIZE",
    ),
    flag("seed", MODEL, "for requests that name no seed", integer(0, 2**63 - 1), "N"),
    flag("trust_remote_code", MODEL, "run Python code that comes with the model", switch),
    flag(
        "chat_template", MODEL, "a Jinja file or a template in one line, instead of the model's own", template, "FILE"
    ),
    flag(
        "chat_template_content_format",
        MODEL,
        "how templates get message content: string, openai (a list of parts) or auto, as the template reads it",
        one_of("auto", "string", "openai"),
        "FORM",
    ),
    flag(
        "default_chat_template_kwargs",
        MODEL,
        "JSON object of variables for the chat template; those of a request win",
        json_object(without=RESERVED_TEMPLATE_VARIABLES),
        "JSON",
    ),
    flag(
        "trust_request_chat_template",
        MODEL,
        "render templates that requests bring in chat_template, in a limited process",
        switch,
    ),
    flag("response_role", MODEL, "the role of chat answers", name, "ROLE"),
    flag(
        "exclude_tools_when_tool_choice_none",
        MODEL,
        "leave tools out of the prompt when tool_choice is none",
        switch,
    ),
    flag("enable_auto_tool_choice", MODEL, "find tool calls in answers (on by default)", switch),
    flag(
        "tool_call_parser",
        MODEL,
        "how the model writes tool calls, such as hermes; auto goes by the chat template, none looks for none",
        name,
        "NAME",
    ),
    flag("tool_parser_plugin", MODEL, "a Python file that brings more values for --tool-call-parser", name, "FILE"),
    flag(
        "reasoning_parser",
        MODEL,
        "how the model writes its reasoning, such as deepseek_r1; auto goes by the chat template, none leaves it in",
        name,
        "NAME",
    ),
    flag(
        "reasoning_field",
        MODEL,
        "what clients get reasoning as: reasoning, reasoning_content or both",
        one_of("both", "reasoning", "reasoning_content"),
        "FIELD",
    ),
    flag(
        "generation_config",
        MODEL,
        "where sampling defaults come from: auto (the model's generation_config.json), vllm (built in) or a folder",
        generation_source,
        "SOURCE",
    ),
    flag(
        "override_generation_config",
        MODEL,
        f"JSON object that replaces single sampling defaults: {', '.join(HONOURED_FIELDS)}",
        generation_override,
        "JSON",
    ),
    flag("max_logprobs", MODEL, "most alternatives a request may ask for per token; -1: all tokens", integer(-1), "N"),
    flag("enable_prompt_embeds", MODEL, "take prompts as embeddings (prompt_embeds in completions)", switch),
    flag(
        "max_tokens_policy",
        MODEL,
        "a max_tokens that does not fit the context is lowered (clamp) or the request refused (reject)",
        one_of("clamp", "reject"),
        "POLICY",
    ),
    flag("strict_params", SERVER, "refuse request fields nobody knows, instead of naming them in a header", switch),
    flag(
        "request_timeout",
        SERVER,
        "seconds after which a request ends with a 504, or its stream with an error; 0 sets no limit",
        seconds,
        "S",
    ),
    flag("host", SERVER, "address to listen on; 0.0.0.0 lets other machines in", name, "ADDRESS"),
    flag("port", SERVER, "port to listen on; 0 takes a free one", integer(0, 65535), "PORT"),
    flag(
        "api_key", SERVER, "bearer tokens that open /v1; also VLLM_API_KEY", one_key, "KEY", many=True, is_secret=True
    ),
    flag("enable_tokenizer_info_endpoint", SERVER, "show tokenizer and chat template at /tokenizer_info", switch),
    flag(
        "max_requests_per_client",
        SERVER,
        "open answers per API key, or per address without keys; more are refused with 429",
        integer(1),
        "N",
    ),
    flag("shutdown_timeout", SERVER, "seconds that running answers get to finish after SIGTERM", seconds, "S"),
    flag("log_level", SERVER, "how much is logged", one_of(*LEVELS), "LEVEL"),
    flag("uvicorn_log_level", SERVER, "how much the HTTP server itself logs", one_of(*LEVELS, "trace"), "LEVEL"),
    flag("disable_uvicorn_access_log", SERVER, "no log line per request", switch),
    flag("device", ENGINE, "auto takes a GPU if there is one", name, "DEVICE"),
    flag("attention_backend", ENGINE, "auto, or one by name: xformers, cpu, reference", name, "NAME"),
    flag("enforce_eager", ENGINE, "never capture CUDA graphs", switch),
    flag("num_threads", ENGINE, "threads on a CPU. Default: the physical cores this process may use", integer(1), "N"),
    flag(
        "engine_watchdog",
        ENGINE,
        "seconds without progress after which a busy engine counts as hung",
        positive_seconds,
        "S",
    ),
    flag("block_size", CACHE, "tokens of a KV block. Default: the attention backend's own", integer(1, 1024), "N"),
    flag("num_gpu_blocks_override", CACHE, "number of KV blocks, on CPUs too", positive_size, "N"),
    flag("kv_cache_memory_bytes", CACHE, "memory of the KV cache; 2G is 2 GiB", positive_size, "SIZE"),
    flag("enable_prefix_caching", CACHE, "reuse the KV of shared prompt beginnings (on by default)", switch),
    flag("max_num_seqs", SCHEDULER, "sequences computed together", integer(1), "N"),
    flag(
        "max_num_batched_tokens",
        SCHEDULER,
        "tokens of one step. Default: 512 on CPUs, 4096 on GPUs",
        positive_size,
        "SIZE",
    ),
    flag("max_num_queued_reqs", SCHEDULER, "waiting requests; more are refused with 503", integer(1), "N"),
    flag(
        "scheduling_policy",
        SCHEDULER,
        "fcfs: first come, first served, and priority in requests has no effect; priority: lower values first, also "
        "in the place of running ones",
        one_of(*SCHEDULING_POLICIES),
        "POLICY",
    ),
)


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=110)


def parser() -> Parser:
    codes = "\n".join(f"  {code:>3}  {meaning}" for code, meaning in EXIT_CODES.items())
    made = Parser(
        FLAGS,
        prog="serve",
        usage="serve [MODEL] [flags]",
        description="Serve a model over the OpenAI API. Without MODEL the built-in demo model answers.",
        epilog=f"exit codes:\n{codes}\n\nEvery flag can also be set as {ENVIRONMENT_PREFIX}_<FLAG> in the environment "
        "or as 'flag: value'\nin --config FILE.yaml. The command line wins, then the environment, then the file.",
        formatter_class=HelpFormatter,
    )
    made.add_argument("positional_model", nargs="?", metavar="MODEL", help="a model folder or a hub id")
    made.add_argument("--config", action="append", metavar="FILE.yaml", help="read flags from a YAML file")
    made.add_argument("-h", "--help", action="help", help="show this and end")
    made.add_argument("-v", "--version", action="version", version=f"specserve {__version__}")
    return made


def read_settings(argv: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> ServerSettings:
    """Settings from command line, environment, file and defaults, in that order of precedence.

    Raises UsageError; SystemExit(0) after --help or --version.
    """
    given = parser().read(sys.argv[1:] if argv is None else argv)
    files = given.pop("config", [])
    if len(files) > 1:
        raise UsageError(f"--config is given {len(files)} times", "put everything into one file")
    positional = given.pop("positional_model", None)
    if positional is not None:
        if given.get("model", positional) != positional:
            raise UsageError(
                f"two models are given, {positional} and --model {given['model']}", "keep one; a server has one model"
            )
        given["model"] = positional
    from_file = read_file(FLAGS, files[0]) if files else {}
    from_environment = read_environment(FLAGS, environment, ENVIRONMENT_PREFIX)
    if key := environment.get("VLLM_API_KEY"):
        by_name = {flag.name: flag for flag in FLAGS}
        from_environment.setdefault("api_key", by_name["api_key"].value_of(key, "VLLM_API_KEY"))
    settings = ServerSettings(**(from_file | from_environment | given))
    if settings.num_gpu_blocks_override is not None and settings.kv_cache_memory_bytes is not None:
        raise UsageError(
            "--num-gpu-blocks-override and --kv-cache-memory-bytes both set the size of the KV cache", "keep one"
        )
    settings.engine_config()
    return settings
