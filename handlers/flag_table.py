"""Every flag of `serve` that sets something: its spelling, its values and what its help says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from specserve.engine.config import CONVERSIONS, KV_CACHE_DTYPES, QUANTIZATIONS, RUNNERS, SCHEDULING_POLICIES
from specserve.engine.generation_config import HONOURED_FIELDS
from specserve.handlers.flag_values import (
    existing_folder,
    generation_override,
    model_len,
    name,
    one_key,
    paths,
    rank,
    template,
)
from specserve.handlers.flags import (
    Flag,
    integer,
    json_object,
    number,
    one_of,
    positive_seconds,
    positive_size,
    seconds,
    share,
    switch,
)
from specserve.handlers.generation_defaults import generation_source
from specserve.handlers.lora_modules import lora_modules
from specserve.handlers.pooler_config import FIELDS as POOLER_FIELDS
from specserve.handlers.pooler_config import pooler_config
from specserve.handlers.settings import RESERVED_TEMPLATE_VARIABLES, TASKS, ServerSettings
from specserve.handlers.speculative_config import KEYS, speculative_config

DEFAULTS = ServerSettings()


MODEL, SERVER, ENGINE, CACHE, SCHEDULER = "Model", "Server", "Engine", "KV cache", "Scheduler"
LORA = "Adapters"
LEVELS = ("critical", "error", "warning", "info", "debug")


def flag(
    setting: str,
    group: str,
    help: str,
    parse: Callable[[str], Any] = str,
    metavar: str = "TEXT",
    many: bool = False,
    is_secret: bool = False,
    short: str | None = None,
    keys: tuple[tuple[str, str], ...] = (),
) -> Flag:
    default = getattr(DEFAULTS, setting)
    if default not in (None, ()) and parse is not switch:
        help = f"{help} (default {default:g})" if isinstance(default, float) else f"{help} (default {default})"
    return Flag(
        name=setting,
        group=group,
        help=help,
        parse=parse,
        metavar=metavar,
        many=many,
        is_secret=is_secret,
        short=short,
        keys=keys,
    )


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
        "quantization",
        MODEL,
        "what weights are rounded to on load: on CPUs int8, or int4 with a language head of int8; on GPUs fp8",
        one_of(*QUANTIZATIONS),
        "FORM",
    ),
    flag(
        "max_model_len",
        MODEL,
        "tokens of prompt and answer together, such as 8K (8192). Default: the model's own",
        model_len,
        "SIZE",
    ),
    flag(
        "runner",
        MODEL,
        "generate, or pooling: embed and classify. auto goes by modules.json and the architecture",
        one_of(*RUNNERS),
        "KIND",
    ),
    flag(
        "convert",
        MODEL,
        "what a generating checkpoint is made into: embed, or classify (see classifier_from_token)",
        one_of(*CONVERSIONS),
        "KIND",
    ),
    flag("task", MODEL, "older name of --runner and --convert together", one_of(*TASKS), "KIND"),
    flag(
        "hf_overrides",
        MODEL,
        "JSON object that replaces values of config.json; objects inside of it are merged",
        json_object(),
        "JSON",
    ),
    flag(
        "pooler_config",
        MODEL,
        f"JSON object for embedders and classifiers, instead of what the model's files say: {', '.join(POOLER_FIELDS)}",
        pooler_config,
        "JSON",
    ),
    flag("seed", MODEL, "for requests that name no seed", integer(0, 2**63 - 1), "N"),
    flag("trust_remote_code", MODEL, "run Python code that comes with the model", switch),
    flag(
        "chat_template",
        MODEL,
        "a Jinja file, a template in one line, or the name of one of ours",
        template,
        "FILE",
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
        "reasoning_parser_plugin", MODEL, "a Python file that brings more values for --reasoning-parser", name, "FILE"
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
        "api_server_count",
        SERVER,
        "processes that answer requests, for when one is what limits",
        integer(1, 64),
        "N",
        short="-asc",
    ),
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
    flag("enable_log_requests", SERVER, "log the numbers of every request: prompt tokens, sampling; no text", switch),
    flag(
        "disable_access_log_for_endpoints",
        SERVER,
        "paths without a log line, such as /health,/version",
        paths,
        "PATHS",
    ),
    flag("disable_fastapi_docs", SERVER, "no /docs, /redoc and /openapi.json", switch),
    flag(
        "sse_keep_alive_interval",
        SERVER,
        "seconds without an event after which a stream sends a comment; 0 sends none",
        seconds,
        "S",
    ),
    flag(
        "return_tokens_as_token_ids",
        SERVER,
        "write tokens in log probabilities as token_id:N, unless a request says otherwise",
        switch,
    ),
    flag(
        "enable_force_include_usage",
        SERVER,
        "every chunk of every stream carries the usage so far, whatever the request says",
        switch,
    ),
    flag(
        "responses_store_entries",
        SERVER,
        "responses kept for previous_response_id and for fetching; the oldest goes first, 0 keeps none",
        integer(0),
        "N",
    ),
    flag(
        "responses_store_bytes",
        SERVER,
        "memory, or room in the file, that kept responses may take",
        positive_size,
        "SIZE",
    ),
    flag("responses_store_age", SERVER, "seconds after which a kept response is forgotten; 0: never", seconds, "S"),
    flag(
        "responses_store_path",
        SERVER,
        "an SQLite file for kept responses, which outlives the server. Default: memory",
        name,
        "FILE",
    ),
    flag(
        "max_background_responses",
        SERVER,
        "responses made with background at once; more are refused with 503",
        integer(1),
        "N",
    ),
    flag("device", ENGINE, "auto takes a GPU if there is one", name, "DEVICE"),
    flag("attention_backend", ENGINE, "auto, or one by name: xformers, triton, cpu, reference", name, "NAME"),
    flag("enforce_eager", ENGINE, "never capture CUDA graphs", switch),
    flag("num_threads", ENGINE, "threads on a CPU. Default: the physical cores this process may use", integer(1), "N"),
    flag("load_on_first_use", ENGINE, "load the model when a request first asks for it", switch),
    flag(
        "engine_watchdog",
        ENGINE,
        "seconds without progress after which a busy engine counts as hung",
        positive_seconds,
        "S",
    ),
    flag(
        "deterministic",
        ENGINE,
        "a request's tokens and logprobs are the same by the last bit beside any other requests, or the server refuses "
        "to start. Default: where that costs nothing; the banner says where",
        switch,
    ),
    flag("block_size", CACHE, "tokens of a KV block. Default: the attention backend's own", integer(1, 1024), "N"),
    flag("num_gpu_blocks_override", CACHE, "number of KV blocks, on CPUs too", positive_size, "N"),
    flag("kv_cache_memory_bytes", CACHE, "memory of the KV cache; 2G is 2 GiB", positive_size, "SIZE"),
    flag(
        "kv_cache_dtype",
        CACHE,
        "what keys and values are rounded to: int8 on CPUs, fp8 (e4m3) on GPUs. auto keeps them as they are",
        one_of(*KV_CACHE_DTYPES),
        "TYPE",
    ),
    flag(
        "gpu_memory_utilization",
        CACHE,
        "share of a GPU's memory for weights, activations and KV cache together; CPUs: no effect",
        share,
        "SHARE",
    ),
    flag("enable_prefix_caching", CACHE, "reuse the KV of shared prompt beginnings (on by default)", switch),
    flag("max_num_seqs", SCHEDULER, "sequences computed together", integer(1), "N"),
    flag(
        "max_num_batched_tokens",
        SCHEDULER,
        "tokens of one step. Default: 512 on CPUs, 4096 on GPUs",
        positive_size,
        "SIZE",
    ),
    flag(
        "speculative_config",
        SCHEDULER,
        f"JSON object: guess tokens ahead and verify them together; answers stay the same. Keys: {', '.join(KEYS)}",
        speculative_config,
        "JSON",
        short="-sc",
        keys=(
            ("--spec-method", "method"),
            ("--spec-tokens", "num_speculative_tokens"),
            ("--spec-model", "model"),
        ),
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
    flag(
        "max_step_time_ratio",
        SCHEDULER,
        "how many times as long a step may take that computes part of a prompt beside answers, as one of the answers "
        "alone; 0: as long as it takes. Default: 2.5 on CPUs, 0 on GPUs, where nothing else is offered",
        number,
        "RATIO",
    ),
    flag("enable_lora", LORA, "requests may name adapters as their model", switch),
    flag(
        "lora_modules",
        LORA,
        'adapters to load at the start: NAME=PATH, {"name": ..., "path": ..., "base_model_name": ...} or a list',
        lora_modules,
        "JSON",
        many=True,
    ),
    flag("max_loras", LORA, "different adapters that compute in one step; requests for more wait", integer(1), "N"),
    flag("max_lora_rank", LORA, "largest rank of an adapter", rank, "N"),
    flag("max_cpu_loras", LORA, "adapters that are loaded at once", integer(1), "N"),
    flag(
        "lora_dir",
        LORA,
        "folders that POST /v1/load_lora_adapter may load from; without one the route is off",
        existing_folder,
        "DIR",
        many=True,
    ),
)
