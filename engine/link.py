"""The engine's face in an API process: a connection with the engine process, spoken to in asyncio.

Text work happens here: detokenization and stop strings, in `output_processor`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from specserve.engine.adapter_calls import AdapterCalls
from specserve.engine.api import GenerationRequest, ModelInfo, PoolingOutput, PoolingRequest, Tokenizer
from specserve.engine.batch import RequestProgress
from specserve.engine.config import EngineConfig
from specserve.engine.errors import (
    EngineDeadError,
    EngineError,
    InsufficientMemoryError,
    ModelLoadError,
    OverloadedError,
    RequestError,
    StartupError,
    UnsupportedFeatureError,
)
from specserve.engine.generation import Generation, Silence
from specserve.engine.messages import (
    LENGTH_BYTES,
    Abort,
    AdapterLoaded,
    Add,
    Command,
    Event,
    Failed,
    Heartbeat,
    Loading,
    Pool,
    Ready,
    Step,
    decode_event,
    encode_frame,
)
from specserve.engine.model_folder import transformer_folder
from specserve.engine.output_processor import OutputProcessor
from specserve.engine.pooling_calls import PoolingCalls
from specserve.engine.prompt_embeds import without_repetition
from specserve.engine.request_check import check_pooling, check_request
from specserve.engine.stats import EngineStats
from specserve.engine.tokenizer import load_tokenizer

CRASHED, HUNG = 10, 11
STARTUP_ERRORS: dict[int, type[StartupError]] = {3: ModelLoadError, 5: InsufficientMemoryError}


class EngineLink:
    """The connection with one engine process. Implements `api.Engine` once `connect` has returned."""

    def __init__(
        self, config: EngineConfig, on_progress: Callable[[str, float], None] = lambda phase, progress: None
    ) -> None:
        """`on_progress` gets a phase in words and a fraction from 0 to 1 while the model loads."""
        self._config = config
        self._folder = str(transformer_folder(Path(config.model.path))) if os.path.isdir(config.model.path) else None
        self._on_progress = on_progress
        self._writer: asyncio.StreamWriter | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._open: dict[str, Generation] = {}
        self._unsent: list[GenerationRequest] = []
        self._pooling = PoolingCalls(self._abort_pooled)
        self._adapters = AdapterCalls(self._send_behind)
        self._stats = EngineStats()
        self._silence = Silence()
        self._finished_at: deque[float] = deque(maxlen=64)
        self._model: ModelInfo | None = None
        self._tokenizer: Tokenizer | None = None
        self._outputs: OutputProcessor | None = None
        self._failure: str | None = None
        self._is_stopping = False
        self._death: asyncio.Future[int] | None = None
        self._exit_code = 0
        self._ready: asyncio.Future[ModelInfo] | None = None

    # ---- life ----------------------------------------------------------------------------------------------

    async def connect(self, connection: socket.socket) -> None:
        """Speak over `connection` and wait until the model is loaded. Raises StartupError or EngineDeadError."""
        loop = asyncio.get_running_loop()
        self._adapters.attach(loop)
        self._death, self._ready = loop.create_future(), loop.create_future()
        reader, self._writer = await asyncio.open_unix_connection(sock=connection)
        self._greet()
        self._tasks.append(asyncio.create_task(self._receive(reader)))
        early = asyncio.create_task(self._load_tokenizer(self._folder)) if self._folder else None
        try:
            model = await self._ready
            # A hub id is a folder only now that the engine has brought it here.
            tokenizer = await (early or self._load_tokenizer(model.path))
        except BaseException:
            if early is not None:
                await asyncio.wait([early])
                early.exception()  # the engine's own reason is the better one
            await self.stop()
            raise
        self._tokenizer = tokenizer
        self._outputs = OutputProcessor(tokenizer)
        self._model = model
        self._tasks.append(asyncio.create_task(self._watch()))

    def _greet(self) -> None:
        """What is sent before all else."""

    async def _load_tokenizer(self, folder: str) -> Tokenizer:
        trusted = self._config.model.trust_remote_code
        return await asyncio.to_thread(load_tokenizer, folder, trust_remote_code=trusted)

    async def stop(self, reason: str = "the server is stopping") -> None:
        """Close; requests still open end with EngineDeadError and `reason`. May be called again."""
        self._is_stopping = True
        self._fail_open(reason)
        if self._writer is not None and not self._writer.is_closing():
            self._part(self._writer)
            self._writer.close()
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()

    def _part(self, writer: asyncio.StreamWriter) -> None:
        """What is sent last."""

    async def wait_dead(self) -> int:
        """Wait until the engine has died by itself; returns the exit code that tells how."""
        if self._death is None:
            raise EngineDeadError("the engine has not been started")
        return await asyncio.shield(self._death)

    @property
    def is_connected(self) -> bool:
        """Whether `connect` has returned. Also of an engine that has died since."""
        return self._outputs is not None

    @property
    def is_loading(self) -> bool:
        return self._ready is not None and not self._ready.done()

    @property
    def has_died(self) -> bool:
        """Whether the engine ended by itself. True before any open request hears of it."""
        return self._death is not None and (self._failure is not None or self._death.done())

    # ---- api.Engine ----------------------------------------------------------------------------------------

    @property
    def model(self) -> ModelInfo:
        if self._model is None:
            raise EngineDeadError("the engine is not ready")
        return self._model

    @property
    def tokenizer(self) -> Tokenizer:
        if self._tokenizer is None:
            raise EngineDeadError("the engine is not ready")
        return self._tokenizer

    @property
    def num_open(self) -> int:
        """Requests whose last output has not been delivered."""
        return len(self._open) + len(self._pooling)

    def stats(self) -> EngineStats:
        return self._stats

    def check_health(self) -> None:
        if self._failure is not None:
            raise EngineDeadError(self._failure)
        if self._silence.seconds > self._config.watchdog_s:
            raise EngineDeadError(f"the engine has been silent for {self._silence.seconds:.0f} s")

    def generate(self, request: GenerationRequest) -> Generation:
        """See `api.Engine`. Requests added in one turn of the event loop travel in one message."""
        self.check_health()
        check_request(request, self.model)
        self._check_queue([request.request_id])
        if self._outputs is None:
            raise EngineDeadError("the engine is not ready")
        generation = Generation(request.request_id, self.abort)
        self._outputs.add(request)
        self._open[request.request_id] = generation
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._send_unsent)
        self._unsent.append(request)
        return generation

    def abort(self, request_id: str) -> None:
        """Forget an open request, here and in the engine; ended ones are ignored."""
        if self._open.pop(request_id, None) is None:
            return
        self._forget(request_id)
        before = len(self._unsent)
        self._unsent = [request for request in self._unsent if request.request_id != request_id]
        if len(self._unsent) == before:
            self._send(Abort([request_id]))

    async def pool(self, requests: Sequence[PoolingRequest]) -> list[PoolingOutput]:
        """See `api.Engine`. All inputs travel in one message."""
        self.check_health()
        for request in requests:
            check_pooling(request, self.model)
        self._check_queue([request.request_id for request in requests])
        if not requests:
            return []
        call = self._pooling.add(requests)
        self._send(Pool(list(requests)))
        return await call.wait()

    async def load_adapter(self, name: str, path: str) -> int:
        """See `api.Engine`."""
        self.check_health()
        if not self.model.accepts_adapters:
            raise UnsupportedFeatureError(
                "this model takes no adapters: it needs --enable-lora, and to be a decoder", param="base_model_name"
            )
        return await self._adapters.load(name, path)

    def drop_adapter(self, adapter_id: int) -> None:
        """See `api.Engine`."""
        self._adapters.drop(adapter_id)

    def _abort_pooled(self, request_ids: Iterable[str]) -> None:
        self._send(Abort(list(request_ids)))

    def _check_queue(self, request_ids: Sequence[str]) -> None:
        """Refuse what the queue has no room for, and ids that would be confused."""
        limits = self._config.scheduler
        num_open = self.num_open
        if self._config.num_api_processes > 1:
            num_open = max(num_open, self._stats.num_running + self._stats.num_waiting)
        queued = num_open - limits.max_num_seqs
        if queued >= limits.max_num_queued:
            raise OverloadedError(
                f"{queued} requests are queued, the limit is {limits.max_num_queued}; try again later",
                retry_after_s=self._seconds_per_request(),
            )
        for request_id in request_ids:
            if request_id not in self._open and request_id not in self._pooling:
                continue
            raise RequestError(
                f"request_id {request_id!r} is in use; choose another or wait until it has ended",
                param="request_id",
            )

    def _seconds_per_request(self) -> float:
        """At the recent pace, the time until one more request has ended and a place in the queue is free."""
        if len(self._finished_at) < 2:
            return 1.0
        took_s = self._finished_at[-1] - self._finished_at[0]
        return min(max(took_s / (len(self._finished_at) - 1), 1.0), 120.0)

    # ---- messages ------------------------------------------------------------------------------------------

    def _send(self, command: Command) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(encode_frame(command))

    def _send_unsent(self) -> None:
        requests, self._unsent = self._unsent, []
        if requests:
            self._send(Add(without_repetition(requests)))

    def _send_behind(self, command: Command) -> None:
        """After all requests that have been made before it."""
        self._send_unsent()
        self._send(command)

    async def _receive(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
                self._take(decode_event(await reader.readexactly(length)))
        except (asyncio.IncompleteReadError, ConnectionError):
            await self._note_death()

    def _take(self, event: Event) -> None:
        match event:
            case Step(progress, stats):
                self._silence.end()
                self._stats = stats
                self._deliver(progress)
            case Heartbeat(stats):
                if not self.num_open:  # beats without steps are no progress for those who wait
                    self._silence.end()
                self._stats = stats
            case Loading(phase, progress_done):
                self._on_progress(phase, progress_done)
            case Ready(model) if self._ready is not None and not self._ready.done():
                self._ready.set_result(model)
            case AdapterLoaded():
                self._adapters.take(event)
            case Failed(cause, remedy, exit_code):
                self._failure = cause
                if self._ready is not None and not self._ready.done():
                    self._ready.set_exception(STARTUP_ERRORS.get(exit_code, StartupError)(cause, remedy))

    def _deliver(self, progress: list[RequestProgress]) -> None:
        if self._outputs is None:
            return  # nothing can have been asked before the tokenizer was there
        for gained in progress:
            if gained.request_id in self._pooling:
                self._pooling.take(gained)
                continue
            try:
                processed = self._outputs.process(gained)
            except EngineError as error:
                self._open.pop(gained.request_id).put(error)
                continue
            if processed is None:
                continue  # aborted here, or nothing for its caller yet
            output, engine_goes_on = processed
            generation = self._open[gained.request_id]
            if output.finish_reason is not None:
                del self._open[gained.request_id]
                self._finished_at.append(time.monotonic())
            if engine_goes_on:  # a stop string matched, of which the engine knows nothing
                self._send(Abort([gained.request_id]))
            generation.put(output)

    def _forget(self, request_id: str) -> None:
        if self._outputs is not None:
            self._outputs.remove(request_id)

    # ---- death ---------------------------------------------------------------------------------------------

    async def _note_death(self, exit_code: int = CRASHED) -> None:
        """The channel is closed: tell everybody who waits. During `stop` that is as it should be."""
        if self._is_stopping or self._death is None or self._death.done():
            return
        # The kill closes the channel, which brings a second call here: the first one knows why.
        self._exit_code = self._exit_code or exit_code
        error = await self._cause_of_death()
        self._failure = self._failure or str(error)
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(error)
        self._fail_open(self._failure)
        if not self._death.done():
            self._death.set_result(self._exit_code)

    async def _cause_of_death(self) -> EngineError:
        """Why the channel was closed."""
        return EngineDeadError("the engine process ended")

    def _fail_open(self, reason: str) -> None:
        generations, self._open = list(self._open.values()), {}
        for generation in generations:
            self._forget(generation.request_id)
            generation.put(EngineDeadError(f"{reason}; the answer is incomplete"))
        self._pooling.fail_all(lambda: EngineDeadError(f"{reason}; the result is incomplete"))
        self._adapters.fail_all(lambda: EngineDeadError(f"{reason}; the adapter is not loaded"))

    async def _watch(self) -> None:
        """Take an engine for hung that has work and makes no step for `watchdog_s`."""
        self._silence.end()
        while True:
            await asyncio.sleep(self._silence.tick_s(self._config.watchdog_s))
            self._silence.tick()
            if self.num_open and self._silence.seconds > self._config.watchdog_s:
                self._failure = f"the engine made no progress for {self._silence.seconds:.0f} s (watchdog_s)"
                await self._note_death(HUNG)
                return
