"""The engine's configuration: frozen sections; a component receives its own section, never the whole."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from specserve.engine.errors import InvalidParameterError

SCHEDULING_POLICIES = ("fcfs", "priority")
NO_QUANTIZATION = "none"
QUANTIZATIONS = (NO_QUANTIZATION, "int8", "int4", "fp8")
KV_CACHE_DTYPES = ("auto", "bfloat16", "float16", "int8", "fp8", "fp8_e4m3")
SPECULATIVE_METHODS = ("ngram",)
MAX_SPECULATIVE_TOKENS = 32
MAX_LOOKUP = 64
RUNNERS = ("auto", "generate", "pooling")
CONVERSIONS = ("auto", "none", "embed", "classify")
POOLING_TYPES = ("cls", "last", "mean", "max", "mean_sqrt_len", "weighted_mean", "all", "step")
"""How the vectors of tokens become one; `all` and `step` keep one for each token, or for each tagged one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolerConfig:
    """What the operator wants else than the model's files say. None: as they say.

    pooling_type        one of POOLING_TYPES
    use_activation      embeddings of length 1, softmax (sigmoid) over classes
    dimensions          length of embeddings that requests leave open, for Matryoshka models
    step_tag_id         token whose positions alone are classified (process reward models)
    returned_token_ids  columns of token-wise classes that are returned
    """

    pooling_type: str | None = None
    use_activation: bool | None = None
    dimensions: int | None = None
    step_tag_id: int | None = None
    returned_token_ids: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.pooling_type is not None and self.pooling_type not in POOLING_TYPES:
            raise InvalidParameterError(
                f"pooling_type is {self.pooling_type!r}, but must be one of {', '.join(POOLING_TYPES)}",
                param="pooler_config",
            )
        if self.dimensions is not None and self.dimensions < 1:
            raise InvalidParameterError(f"dimensions must be positive, got {self.dimensions}", param="pooler_config")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Which model, in which form. `path` is a folder or a hub id; `dtype` is auto or a torch dtype name.

    `quantization` is one of QUANTIZATIONS: what weights are rounded to when they are loaded.
    """

    path: str
    dtype: str = "auto"
    max_model_len: int | None = None
    seed: int = 0
    device: str = "auto"
    attention_backend: str = "auto"
    quantization: str = NO_QUANTIZATION
    enforce_eager: bool = False
    trust_remote_code: bool = False
    revision: str | None = None
    eos_token_ids: tuple[int, ...] | None = None
    """Replace the end tokens that the model's files name."""
    runner: str = "auto"
    """One of RUNNERS: whether the model generates or pools."""
    convert: str = "auto"
    """One of CONVERSIONS: what a generating checkpoint is made into."""
    hf_overrides: dict[str, Any] = field(default_factory=dict)
    """Replace values of config.json; objects inside of it are merged."""
    pooler: PoolerConfig = field(default_factory=PoolerConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheConfig:
    """The KV cache. `block_size` None lets the attention backend choose (16 on CPU, 64 on GPU).

    `dtype` is one of KV_CACHE_DTYPES: what keys and values are rounded to when they are written; auto keeps them.
    """

    block_size: int | None = None
    num_blocks: int | None = None
    memory_bytes: int | None = None
    gpu_memory_utilization: float = 0.9
    """Share of a GPU's memory that weights, one step's activations and the cache may take together."""
    enable_prefix_caching: bool = True
    dtype: str = "auto"

    def __post_init__(self) -> None:
        if self.dtype not in KV_CACHE_DTYPES:
            raise InvalidParameterError(
                f"KV cache dtype is {self.dtype!r}, but must be one of {', '.join(KV_CACHE_DTYPES)}",
                param="kv_cache_dtype",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerConfig:
    """Limits of one step and of the queue. None means: chosen for the device (see `runner.memory`)."""

    max_num_seqs: int = 64
    max_num_batched_tokens: int | None = None
    max_num_queued: int = 1024
    policy: str = "fcfs"
    """fcfs: in order of arrival; priority: lower `priority` first, and it may take the place of a higher one."""
    max_step_time_ratio: float | None = None
    """How many times as long as a step of answers alone one may take that also computes part of a prompt; 0: as long
    as it takes. See `prefill_budget`."""

    def __post_init__(self) -> None:
        ratio = self.max_step_time_ratio
        if ratio is not None and ratio != 0 and not 1 < ratio < math.inf:
            raise InvalidParameterError(
                f"max_step_time_ratio is {ratio:g}, but must be 0 for no limit, or above 1: a step that computes part "
                "of a prompt takes longer than one without",
                param="max_step_time_ratio",
            )
        for name in ("max_num_seqs", "max_num_queued"):
            if getattr(self, name) < 1:
                raise InvalidParameterError(f"{name} must be at least 1, got {getattr(self, name)}", param=name)
        if self.policy not in SCHEDULING_POLICIES:
            raise InvalidParameterError(
                f"scheduling policy is {self.policy!r}, but must be one of {', '.join(SCHEDULING_POLICIES)}",
                param="scheduling_policy",
            )
        if self.max_num_batched_tokens is not None and self.max_num_batched_tokens < self.max_num_seqs:
            raise InvalidParameterError(
                f"max_num_batched_tokens is {self.max_num_batched_tokens}, but each of max_num_seqs="
                f"{self.max_num_seqs} sequences needs one token a step; raise the first or lower the second",
                param="max_num_batched_tokens",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSource:
    """An adapter to load at the start: the name clients use, and its folder."""

    name: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraConfig:
    """Whether requests may ask for adapters, and limits of those.

    max_loras   different ones that compute in one step
    max_rank    width of their matrices
    """

    is_enabled: bool = False
    max_loras: int = 8
    max_rank: int = 16
    modules: tuple[AdapterSource, ...] = ()

    @property
    def num_places(self) -> int:
        return self.max_loras if self.is_enabled else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeculativeConfig:
    """Guess tokens ahead and verify several in one step; answers stay the same.

    method                  one of SPECULATIVE_METHODS
    num_speculative_tokens  most tokens that are guessed at once
    prompt_lookup_max       tokens of the longest, and
    prompt_lookup_min       of the shortest run at the end of a sequence that is looked for earlier in it
    """

    method: str = "ngram"
    num_speculative_tokens: int = 4
    prompt_lookup_max: int = 5
    prompt_lookup_min: int = 2

    def __post_init__(self) -> None:
        def check(is_good: bool, rule: str) -> None:
            if not is_good:
                raise InvalidParameterError(rule, param="speculative_config")

        check(
            self.method in SPECULATIVE_METHODS,
            f"speculative method is {self.method!r}, but must be one of {', '.join(SPECULATIVE_METHODS)}",
        )
        check(
            1 <= self.num_speculative_tokens <= MAX_SPECULATIVE_TOKENS,
            f"num_speculative_tokens is {self.num_speculative_tokens}, but must be from 1 to {MAX_SPECULATIVE_TOKENS}",
        )
        check(
            1 <= self.prompt_lookup_min <= self.prompt_lookup_max <= MAX_LOOKUP,
            f"prompt_lookup_min is {self.prompt_lookup_min} and prompt_lookup_max {self.prompt_lookup_max}, but they "
            f"must be from 1 to {MAX_LOOKUP}, the first at most the second",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Everything the engine process is started with."""

    model: ModelConfig
    cache: CacheConfig = field(default_factory=CacheConfig)
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    speculative: SpeculativeConfig | None = None
    """None: one token of an answer in each step."""
    watchdog_s: float = 120.0
    """A step that takes longer than this while work is queued counts as hung."""
    num_threads: int | None = None
    """Threads of the CPU backend; None: the cores this process may use, divided by `num_engines`."""
    num_engines: int = 1
    """Engines of one server: they share the machine's cores and what is free of its memory."""
    num_api_processes: int = 1
    """Processes that ask this engine, and share its queue."""
    enable_prompt_embeds: bool = False
    """Whether requests may bring embeddings instead of tokens."""
    deterministic: bool | None = None
    """Whether equal requests must get equal bits whatever runs beside them; None: where that costs nothing."""
    log_level: str = "warning"
    """Of the engine process, by the names of `logging`."""
