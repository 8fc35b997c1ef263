"""The engine process: receive, step, send, heartbeat. It begins in `start`, and ends with the API process.

Its sockets lead to API processes. The first one is this process' owner: the end of its file means that it is gone, and
ends this process.
"""

from __future__ import annotations

import dataclasses
import logging
import socket
import sys
import time

import torch

from specserve.engine.api import ModelInfo
from specserve.engine.batch import RequestProgress
from specserve.engine.channel import CRASHED, Channel
from specserve.engine.config import EngineConfig
from specserve.engine.core import EngineCore
from specserve.engine.errors import (
    InsufficientMemoryError,
    InvalidParameterError,
    StartupError,
    UnsupportedModelError,
)
from specserve.engine.grammars.store import GrammarStore
from specserve.engine.grammars.vocabulary import Vocabulary
from specserve.engine.kv_cache.manager import KVCacheManager
from specserve.engine.lora.store import AdapterStore
from specserve.engine.messages import (
    Abort,
    AdapterLoaded,
    Add,
    Command,
    DropAdapter,
    Failed,
    Heartbeat,
    LoadAdapter,
    Pool,
    Ready,
    Step,
    Stop,
)
from specserve.engine.pooling.load import find_form
from specserve.engine.prompt_embeds import with_repetition
from specserve.engine.runner.model_runner import ModelRunner
from specserve.engine.runner.pooling_runner import PoolingRunner
from specserve.engine.scheduler import Scheduler
from specserve.engine.speculative.drafter import Drafter
from specserve.engine.tokenizer import load_tokenizer

logger = logging.getLogger(__name__)

HEARTBEAT_S = 1.0


def build(config: EngineConfig, channel: Channel) -> tuple[EngineCore, ModelInfo]:
    """Load everything. Raises StartupError."""
    if find_form(config.model)[-1].form.is_pooling:
        return build_pooling(config, channel)
    runner = ModelRunner.load(config, channel.progress)
    cache = KVCacheManager(runner.info.num_blocks, runner.info.block_size, config.cache.enable_prefix_caching)
    drafter = None if config.speculative is None else Drafter(config.speculative, runner.max_draft_rows)
    scheduler = Scheduler(
        cache,
        max_num_seqs=config.scheduler.max_num_seqs,
        max_num_batched_tokens=runner.max_num_batched_tokens,
        max_model_len=runner.info.max_model_len,
        eos_token_ids=runner.info.eos_token_ids,
        policy=config.scheduler.policy,
        max_reported_rows=runner.max_reported_rows,
        prefill_budget=runner.prefill_budget,
        max_adapters=config.lora.num_places,
        drafter=drafter,
    )
    adapters, info = load_adapters(config, runner, channel)
    channel.progress("warming up", 0.95)
    runner.warm_up()
    runner.fill_cache()

    def load_vocabulary() -> Vocabulary:
        info = runner.info
        tokenizer = load_tokenizer(info.path, trust_remote_code=config.model.trust_remote_code)
        return Vocabulary.of(tokenizer, info.vocab_size, info.eos_token_ids)

    grammars = GrammarStore(load_vocabulary, channel.wake)

    def took(num_tokens: int, seconds: float) -> None:
        for learns in (runner.prefill_budget, drafter):
            if learns is not None:
                learns.took(num_tokens, seconds)

    return EngineCore(scheduler, runner, grammars, launcher=runner.launcher, took=took, adapters=adapters), info


def load_adapters(
    config: EngineConfig, runner: ModelRunner | PoolingRunner, channel: Channel
) -> tuple[AdapterStore | None, ModelInfo]:
    """Those of the start are loaded when this returns. Raises ModelLoadError, UnsupportedModelError."""
    if runner.adapter_form is None:
        if config.lora.modules:
            raise UnsupportedModelError(
                f"{runner.info.architecture} is computed whole, without a place for adapters",
                "leave out --lora-modules, or serve a decoder",
            )
        return None, runner.info
    store = AdapterStore(config.lora, runner.adapter_form, channel.wake)
    first = store.load_first(channel.progress)
    return store, dataclasses.replace(runner.info, accepts_adapters=True, adapters=first)


def build_pooling(config: EngineConfig, channel: Channel) -> tuple[EngineCore, ModelInfo]:
    if config.speculative is not None:
        logger.warning("speculative_config has no effect on %s: it generates nothing", config.model.path)
    runner = PoolingRunner.load(config, channel.progress)
    is_alone = runner.info.is_deterministic
    scheduler = Scheduler(
        runner.make_cache(config.cache.enable_prefix_caching and not is_alone),
        max_num_seqs=1 if is_alone else config.scheduler.max_num_seqs,
        max_num_batched_tokens=runner.max_num_batched_tokens,
        max_model_len=runner.info.max_model_len,
        policy=config.scheduler.policy,
        computes_whole_prompts=runner.computes_whole_prompts,
        max_adapters=config.lora.num_places,
    )
    adapters, info = load_adapters(config, runner, channel)
    channel.progress("warming up", 0.95)
    runner.warm_up()
    return EngineCore(scheduler, runner, reads_all_hidden=runner.reads_all_hidden, adapters=adapters), info


def apply(core: EngineCore, command: Command) -> list[RequestProgress]:
    """Carry out one command; returns the refusals it led to."""
    match command:
        case Add(requests):
            try:
                return core.add(with_repetition(requests))
            except InvalidParameterError as error:
                return [RequestProgress.failed(request.request_id, error.message) for request in requests]
        case Pool(requests):
            try:
                return core.pool(requests)
            except InvalidParameterError as error:
                return [RequestProgress.failed(request.request_id, error.message) for request in requests]
        case LoadAdapter(adapter_id, name, path):
            core.load_adapter(adapter_id, name, path)
        case DropAdapter(adapter_id):
            core.drop_adapter(adapter_id)
        case Abort(request_ids):
            core.abort(request_ids)
    return []


def run(core: EngineCore, channel: Channel) -> None:
    """Serve until told to stop. One event per step, and a heartbeat when a second has passed without any."""
    last_sent = time.monotonic()
    while True:
        progress: list[RequestProgress] = []
        is_busy = core.has_requests and not core.is_stalled
        for command in channel.commands(0.0 if is_busy else HEARTBEAT_S):
            if isinstance(command, Stop):
                return
            progress += apply(core, command)
        for adapter_id, error in core.take_loaded_adapters():
            channel.send(AdapterLoaded(adapter_id, error))
        stepped = core.has_requests
        if stepped:
            progress += core.step()
            stepped = not core.is_stalled
        now = time.monotonic()
        if stepped or progress:
            channel.send(Step(progress, core.stats()))
        elif now - last_sent >= HEARTBEAT_S:
            channel.send(Heartbeat(core.stats()))
        else:
            continue
        last_sent = now


def as_startup_error(error: Exception) -> StartupError:
    """Why loading failed, in two lines. What nobody foresaw also leaves its traceback in the log."""
    if isinstance(error, StartupError):
        return error
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error):
        return InsufficientMemoryError(
            "the model and its KV cache do not fit into memory",
            "serve a smaller model, pass --dtype bfloat16 or a lower --kv-cache-memory-bytes, or free memory",
        )
    logger.exception("loading failed")
    unforeseen = StartupError(
        f"loading the model failed: {type(error).__name__}: {error}", "the log above tells where; please report it"
    )
    unforeseen.exit_code = CRASHED
    return unforeseen


def main(*file_descriptors: int) -> int:
    """Serve the API processes at the other ends of the sockets; returns the exit code."""
    channel = Channel(*(socket.socket(fileno=number) for number in file_descriptors))
    try:
        config = channel.read_config()
    except (EOFError, OSError):
        return 0  # the server has changed its mind
    logging.basicConfig(
        level=config.log_level.upper(),
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s engine %(name)s %(message)s",
    )
    channel.start_reading()
    try:
        core, info = build(config, channel)
    except Exception as error:
        problem = as_startup_error(error)
        channel.send(Failed(problem.cause, problem.remedy, problem.exit_code))
        channel.finish()
        return problem.exit_code
    channel.send(Ready(info))
    try:
        run(core, channel)
    except Exception as error:
        logger.exception("the engine cannot go on")
        channel.send(Failed(f"the engine failed: {type(error).__name__}", "see its log above; restart it", CRASHED))
        channel.finish()
        return CRASHED
    return 0
