"""The engine process: receive, step, send, heartbeat. It begins in `start`, and ends with the API process.

The end-of-file of its socket means that the API process is gone, and ends this one.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

import torch

from specserve.engine.api import ModelInfo
from specserve.engine.batch import RequestProgress
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
    Event,
    Failed,
    Heartbeat,
    LoadAdapter,
    Loading,
    Pool,
    Ready,
    Step,
    Stop,
    decode_command,
    decode_config,
    encode_frame,
    read_frame,
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
PROGRESS_INTERVAL_S = 0.05
CRASHED = 10
MAX_UNSENT_BYTES = 16 * 1024 * 1024


class Channel:
    """This side of the socket pair: a thread reads commands, so that a long load or step never hides a death.

    Sending does not wait for a reader who is busy for a moment: what the socket does not take is kept, up to
    MAX_UNSENT_BYTES. Beyond that the engine waits, because nobody reads what it makes.
    """

    def __init__(self, connection: socket.socket, end_process: Callable[[int], object] = os._exit) -> None:
        """`end_process` gets the exit code when nobody is left at the other end, or nobody can be understood."""
        self._connection = connection
        self._end_process = end_process
        self._commands: SimpleQueue[Command | None] = SimpleQueue()
        self._last_phase, self._last_progress = "", 0.0
        self._unsent = bytearray()

    def read_config(self) -> EngineConfig:
        return decode_config(read_frame(self._connection))

    def start_reading(self) -> None:
        threading.Thread(target=self._read, daemon=True, name="commands").start()

    def _read(self) -> None:
        try:
            while True:
                self._commands.put(decode_command(read_frame(self._connection)))
        except (EOFError, OSError):
            self._end_process(0)  # a forward pass under way is of no use to anybody either
        except Exception:
            logger.exception("a command cannot be read")
            self._end_process(CRASHED)  # deaf, it would only seem to work

    def send(self, event: Event) -> None:
        self._unsent += encode_frame(event)
        self.flush(wait=len(self._unsent) > MAX_UNSENT_BYTES)

    def flush(self, *, wait: bool) -> None:
        """Send what is kept: all of it, or without waiting as much as the socket takes."""
        try:
            if wait:
                self._connection.sendall(self._unsent)
                self._unsent.clear()
            while self._unsent:
                del self._unsent[: self._connection.send(self._unsent, socket.MSG_DONTWAIT)]
        except BlockingIOError:
            return
        except OSError:
            self._end_process(0)

    def progress(self, phase: str, progress: float) -> None:
        now = time.monotonic()
        if phase != self._last_phase or now - self._last_progress >= PROGRESS_INTERVAL_S:
            self._last_phase, self._last_progress = phase, now
            self.send(Loading(phase, progress))

    def wake(self) -> None:
        """End the waiting in `commands`: there is news that is no command. From any thread."""
        self._commands.put(None)

    def commands(self, wait_s: float) -> list[Command]:
        """All commands that have arrived; waits up to `wait_s` for a first one, or for `wake`."""
        found: list[Command | None] = []
        try:
            found.append(self._commands.get(timeout=wait_s) if wait_s else self._commands.get_nowait())
            while True:
                found.append(self._commands.get_nowait())
        except Empty:
            return [command for command in found if command is not None]


def build(config: EngineConfig, channel: Channel) -> tuple[EngineCore, ModelInfo]:
    """Load everything. Raises StartupError."""
    if find_form(config.model)[-1].form.is_pooling:
        return build_pooling(config, channel)
    runner = ModelRunner.load(config, channel.progress)
    cache = KVCacheManager(runner.info.num_blocks, runner.info.block_size, config.cache.enable_prefix_caching)
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
        drafter=None if config.speculative is None else Drafter(config.speculative, runner.max_draft_rows),
    )
    adapters, info = load_adapters(config, runner, channel)
    channel.progress("warming up", 0.95)
    runner.warm_up()

    def load_vocabulary() -> Vocabulary:
        info = runner.info
        tokenizer = load_tokenizer(info.path, trust_remote_code=config.model.trust_remote_code)
        return Vocabulary.of(tokenizer, info.vocab_size, info.eos_token_ids)

    grammars = GrammarStore(load_vocabulary, channel.wake)
    took = runner.prefill_budget.took if runner.prefill_budget is not None else lambda num_tokens, seconds: None
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
        if not is_busy:
            channel.flush(wait=True)
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


def main(file_descriptor: int) -> int:
    """Serve the API process at the other end of the socket; returns the exit code."""
    channel = Channel(socket.socket(fileno=file_descriptor))
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
        channel.flush(wait=True)
        return problem.exit_code
    channel.send(Ready(info))
    try:
        run(core, channel)
    except Exception as error:
        logger.exception("the engine cannot go on")
        channel.send(Failed(f"the engine failed: {type(error).__name__}", "see its log above; restart it", CRASHED))
        channel.flush(wait=True)
        return CRASHED
    return 0
