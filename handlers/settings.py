"""ServerSettings: everything one server is started with, and what follows from it. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from specserve.engine.config import (
    NO_QUANTIZATION,
    AdapterSource,
    CacheConfig,
    EngineConfig,
    LoraConfig,
    ModelConfig,
    PoolerConfig,
    SchedulerConfig,
    SpeculativeConfig,
)
from specserve.engine.errors import InvalidParameterError
from specserve.handlers.demo import checkpoint_path, embedder_path, reranker_path
from specserve.handlers.flags import UsageError
from specserve.handlers.generation_defaults import GenerationSource
from specserve.handlers.limits import MaxTokensPolicy
from specserve.handlers.lora_modules import LoraModule

DEMO_MODEL_NAME = "specserve-demo"
DEMO_COMPANIONS = {
    f"{DEMO_MODEL_NAME}-embedder": str(embedder_path()),
    f"{DEMO_MODEL_NAME}-reranker": str(reranker_path()),
}
TASKS = {
    "auto": ("auto", "auto"),
    "generate": ("generate", "auto"),
    "embed": ("pooling", "embed"),
    "embedding": ("pooling", "embed"),
    "classify": ("pooling", "classify"),
    "score": ("pooling", "auto"),
    "reward": ("pooling", "auto"),
}
"""Values of --task, and what they are as --runner and --convert."""
RESERVED_TEMPLATE_VARIABLES = frozenset(
    """messages tools documents add_generation_prompt continue_final_message chat_template tokenize conversation
    return_dict return_tensors tokenizer_kwargs truncation padding max_length""".split()
)
"""What the server hands to chat templates itself, or what steers other servers' renderers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """One server. The fields have the names of the flags; None means: chosen by the model or the machine."""

    model: str | None = None
    """A folder or a hub id; None serves the demo model."""
    served_model_name: tuple[str, ...] = ()
    revision: str | None = None
    dtype: str = "auto"
    quantization: str = NO_QUANTIZATION
    max_model_len: int | None = None
    runner: str = "auto"
    convert: str = "auto"
    task: str = "auto"
    """An older name of the two before."""
    hf_overrides: Mapping[str, Any] | None = None
    pooler_config: PoolerConfig | None = None
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
    reasoning_parser_plugin: str | None = None
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
    api_server_count: int = 1
    api_key: tuple[str, ...] = ()
    max_requests_per_client: int | None = None
    enable_tokenizer_info_endpoint: bool = False
    shutdown_timeout: float = 30.0
    log_level: str = "info"
    uvicorn_log_level: str = "warning"
    disable_uvicorn_access_log: bool = False
    enable_log_requests: bool = False
    disable_access_log_for_endpoints: tuple[str, ...] = ()
    disable_fastapi_docs: bool = False
    sse_keep_alive_interval: float = 15.0
    """Seconds; 0 sends no comments."""
    return_tokens_as_token_ids: bool = False
    enable_force_include_usage: bool = False
    responses_store_entries: int = 1000
    responses_store_bytes: int = 64 * 1024 * 1024
    responses_store_age: float = 3600.0
    """Seconds; 0 sets no limit."""
    responses_store_path: str | None = None
    """An SQLite file; None keeps responses in memory."""
    max_background_responses: int = 64

    device: str = "auto"
    attention_backend: str = "auto"
    enforce_eager: bool = False
    num_threads: int | None = None
    load_on_first_use: bool = False
    deterministic: bool | None = None
    engine_watchdog: float = 120.0
    block_size: int | None = None
    num_gpu_blocks_override: int | None = None
    kv_cache_memory_bytes: int | None = None
    kv_cache_dtype: str = "auto"
    gpu_memory_utilization: float = 0.9
    enable_prefix_caching: bool = True
    max_num_seqs: int = 64
    max_num_batched_tokens: int | None = None
    speculative_config: SpeculativeConfig | None = None
    max_num_queued_reqs: int = 1024
    scheduling_policy: str = "fcfs"
    max_step_time_ratio: float | None = None

    enable_lora: bool = False
    lora_modules: tuple[tuple[LoraModule, ...], ...] = ()
    """One entry for each value of the flag."""
    max_loras: int = 8
    max_lora_rank: int = 16
    max_cpu_loras: int = 32
    lora_dir: tuple[str, ...] = ()
    """Folders that adapters may be loaded from while the server runs."""

    models: tuple[ServerSettings, ...] = ()
    """Several models: for each, these settings with what is its own. Empty where one is served. No flag of its own."""

    notices: tuple[str, ...] = ()
    """What the operator has to know about the flags given, a line each. No flag of its own."""

    @property
    def served(self) -> tuple[ServerSettings, ...]:
        """The settings of each model. Without any, that of the demo that chats, and beside it those that embed and
        rerank, which are loaded when they are first asked for."""
        if self.models or self.model is not None or (self.task, self.runner, self.convert) != ("auto",) * 3:
            return self.models or (self,)
        return self, *(self._beside_demo(name, folder) for name, folder in DEMO_COMPANIONS.items())

    def _beside_demo(self, name: str, folder: str) -> ServerSettings:
        """What was said of the chat model's form does not hold for another model."""
        return replace(
            self,
            model=folder,
            served_model_name=(name,),
            load_on_first_use=True,
            revision=None,
            dtype="auto",
            quantization=NO_QUANTIZATION,
            max_model_len=None,
            max_num_batched_tokens=None,
            kv_cache_dtype="auto",
            attention_backend="auto",
            hf_overrides=None,
            pooler_config=None,
        )

    @property
    def model_path(self) -> str:
        return self.model if self.model is not None else str(checkpoint_path())

    @property
    def model_names(self) -> tuple[str, ...]:
        """The names clients may use, the first of which answers carry."""
        return self.served_model_name or (self.model if self.model is not None else DEMO_MODEL_NAME,)

    @property
    def adapters(self) -> tuple[LoraModule, ...]:
        """Those that are loaded at the start."""
        return tuple(module for several in self.lora_modules for module in several)

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

    def _runner_and_convert(self) -> tuple[str, str]:
        runner, convert = TASKS[self.task]
        if "auto" not in (runner, self.runner) and runner != self.runner:
            raise UsageError(f"--task {self.task} means --runner {runner}, not {self.runner}", "keep one of them")
        if "auto" not in (convert, self.convert) and convert != self.convert:
            raise UsageError(f"--task {self.task} means --convert {convert}, not {self.convert}", "keep one of them")
        return (
            runner if self.runner == "auto" else self.runner,
            convert if self.convert == "auto" else self.convert,
        )

    def engine_config(self, num_engines: int = 1) -> EngineConfig:
        """For one of `num_engines` that share a machine. Raises UsageError when values contradict each other."""
        runner, convert = self._runner_and_convert()
        try:
            return EngineConfig(
                model=ModelConfig(
                    path=self.model_path,
                    dtype=self.dtype,
                    quantization=self.quantization,
                    max_model_len=self.max_model_len,
                    seed=self.seed,
                    device=self.device,
                    attention_backend=self.attention_backend,
                    enforce_eager=self.enforce_eager,
                    trust_remote_code=self.trust_remote_code,
                    revision=self.revision,
                    eos_token_ids=self.generation_defaults.eos_token_ids(),
                    runner=runner,
                    convert=convert,
                    hf_overrides=dict(self.hf_overrides or {}),
                    pooler=self.pooler_config or PoolerConfig(),
                ),
                cache=CacheConfig(
                    block_size=self.block_size,
                    num_blocks=self.num_gpu_blocks_override,
                    memory_bytes=self.kv_cache_memory_bytes,
                    gpu_memory_utilization=self.gpu_memory_utilization,
                    enable_prefix_caching=self.enable_prefix_caching,
                    dtype=self.kv_cache_dtype,
                ),
                scheduler=SchedulerConfig(
                    max_num_seqs=self.max_num_seqs,
                    max_num_batched_tokens=self.max_num_batched_tokens,
                    max_num_queued=self.max_num_queued_reqs,
                    policy=self.scheduling_policy,
                    max_step_time_ratio=self.max_step_time_ratio,
                ),
                lora=LoraConfig(
                    is_enabled=self.enable_lora,
                    max_loras=self.max_loras,
                    max_rank=self.max_lora_rank,
                    modules=tuple(AdapterSource(name=one.name, path=one.path) for one in self.adapters),
                ),
                speculative=self.speculative_config,
                watchdog_s=self.engine_watchdog,
                num_threads=self.num_threads,
                num_engines=num_engines,
                deterministic=self.deterministic,
                num_api_processes=self.api_server_count,
                enable_prompt_embeds=self.enable_prompt_embeds,
                log_level=self.log_level,
            )
        except InvalidParameterError as error:
            raise UsageError(error.message, "change one of them; serve --help explains every flag") from error
