"""The engine without processes: requests in, one step at a time, progress out. Synchronous, no text, no sockets."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from time import perf_counter
from typing import Protocol, TypeVar

from specserve.engine.adapter import Adapter
from specserve.engine.api import NO_ADAPTER, GenerationRequest, PoolingRequest
from specserve.engine.batch import Launched, RequestProgress, ScheduledBatch, StepOutput
from specserve.engine.grammar_spec import GrammarSpec
from specserve.engine.grammars.store import GrammarStore
from specserve.engine.params import PoolingParams
from specserve.engine.request import Request
from specserve.engine.scheduler import Scheduler
from specserve.engine.stats import EngineStats

logger = logging.getLogger(__name__)

Wanted = TypeVar("Wanted", GenerationRequest, PoolingRequest)

MAX_CONSECUTIVE_FAILURES = 2
"""A step that fails may be the fault of one batch; two in a row are the fault of the engine."""


class Runner(Protocol):
    """What computes a batch: `runner.ModelRunner`, or a simulation in tests."""

    def execute(self, batch: ScheduledBatch) -> StepOutput: ...


class Launcher(Protocol):
    """What can leave a step to the device, so that the next one is prepared meanwhile."""

    def launch(self, batch: ScheduledBatch, after: Launched | None) -> Launched | None:
        """Start computing; None where the batch has to be executed. `after` is the step under way, from whose tokens
        the rows of `batch` go on: such a batch can be launched because `after` could."""


class Adapters(Protocol):
    """What loads adapters and knows them: `lora.AdapterStore`."""

    def load(self, adapter_id: int, name: str, path: str) -> None: ...

    def take_loaded(self) -> list[tuple[int, str | None]]: ...

    def find(self, adapter_id: int) -> Adapter | None: ...

    def drop(self, adapter_id: int) -> None: ...


class EngineCore:
    """Schedule, execute, update: nothing else happens in a step."""

    def __init__(
        self,
        scheduler: Scheduler,
        runner: Runner,
        grammars: GrammarStore | None = None,
        reads_all_hidden: Callable[[PoolingParams], bool] = lambda params: True,
        launcher: Launcher | None = None,
        took: Callable[[int, float], None] = lambda num_tokens, seconds: None,
        adapters: Adapters | None = None,
    ) -> None:
        """Without `grammars`, constrained requests are refused, without `adapters` those that ask for one. With a
        `launcher`, a step is launched before the tokens of the one before it are known, wherever that is possible.

        `reads_all_hidden` tells whether a pooled result depends on the hidden states of all tokens, so that none of
        them may be left out because its keys are in the prefix cache. `took` is told the tokens and seconds of every
        step that was waited for before the next one began, drafts not among the tokens.
        """
        self._launcher = launcher
        self._took = took
        self._launched: Launched | None = None
        self._reads_all_hidden = reads_all_hidden
        self._grammars = grammars
        self._adapters = adapters
        self._scheduler = scheduler
        self._runner = runner
        self._num_failures = 0
        self.is_stalled = False
        """The last step found nothing to compute although requests wait; only a command or a grammar that is ready can
        change that."""

    @property
    def has_requests(self) -> bool:
        return self._scheduler.has_requests

    def add(self, requests: Sequence[GenerationRequest]) -> list[RequestProgress]:
        """Queue requests; returns an error for each that can never run. Raises InvalidParameterError.

        Those whose grammar is not known yet are held until it has been compiled.
        """
        made, refused = self._with_adapters(requests, Request.of)
        constrained = [request for request in made if request.params.grammar is not None]
        for request in constrained:
            request.is_ready = False
        refused += self._scheduler.add(made)
        for request in constrained:
            if request.params.grammar is not None and self._scheduler.find(request.request_id) is request:
                refused += self._constrain(request, request.params.grammar)
        return refused

    def pool(self, requests: Sequence[PoolingRequest]) -> list[RequestProgress]:
        """Queue texts to embed or classify; as `add`."""

        def make(request: PoolingRequest) -> Request:
            return Request.to_pool(request, needs_all_hidden=self._reads_all_hidden(request.params))

        made, refused = self._with_adapters(requests, make)
        return refused + self._scheduler.add(made)

    def _with_adapters(
        self, requests: Sequence[Wanted], make: Callable[[Wanted], Request]
    ) -> tuple[list[Request], list[RequestProgress]]:
        """Requests that hold the adapters they ask for; those whose adapter is not there are refused."""
        made: list[Request] = []
        refused: list[RequestProgress] = []
        for wanted in requests:
            request = make(wanted)
            if wanted.adapter_id != NO_ADAPTER:
                request.adapter = None if self._adapters is None else self._adapters.find(wanted.adapter_id)
                if request.adapter is None:
                    reason = "the adapter that this request asks for is not loaded"
                    refused.append(RequestProgress.failed(wanted.request_id, reason, is_refusal=True))
                    continue
            made.append(request)
        return made, refused

    def load_adapter(self, adapter_id: int, name: str, path: str) -> None:
        if self._adapters is not None:
            self._adapters.load(adapter_id, name, path)

    def drop_adapter(self, adapter_id: int) -> None:
        """Requests that compute with it keep it."""
        if self._adapters is not None:
            self._adapters.drop(adapter_id)

    def take_loaded_adapters(self) -> list[tuple[int, str | None]]:
        """Ids of those that can be asked for from now on, or cannot be loaded, with the reason."""
        return [] if self._adapters is None else self._adapters.take_loaded()

    def _constrain(self, request: Request, spec: GrammarSpec) -> list[RequestProgress]:
        if self._grammars is None:
            refusal = self._scheduler.refuse(request.request_id, "this engine compiles no grammars")
            return [] if refusal is None else [refusal]
        request.matcher = self._grammars.want(request.request_id, spec)
        if request.matcher is not None:
            self._scheduler.make_ready(request.request_id)
        return []

    def _take_grammars(self) -> list[RequestProgress]:
        """Let requests run whose grammars have been compiled; returns the refusals of the others."""
        refused: list[RequestProgress] = []
        for request_id, result in self._grammars.take_ready() if self._grammars is not None else ():
            request = self._scheduler.find(request_id)
            if request is None or request.is_ready:
                continue  # aborted meanwhile
            if isinstance(result, str):
                refusal = self._scheduler.refuse(request_id, result)
                refused += [] if refusal is None else [refusal]
            else:
                request.matcher = result
                self._scheduler.make_ready(request_id)
        return refused

    def abort(self, request_ids: Iterable[str]) -> None:
        self._scheduler.abort(request_ids)

    def step(self) -> list[RequestProgress]:
        """One round. A failing forward pass ends its own requests with an error; the engine goes on.

        Raises what the runner raised when it fails `MAX_CONSECUTIVE_FAILURES` times in a row.
        """
        refused = self._take_grammars()
        launched = self._under_way()
        is_alone = launched is None
        if launched is None:
            batch = self._scheduler.schedule()
            self.is_stalled = not batch
        else:
            batch = launched.batch
        began = perf_counter()
        try:
            if launched is None and self._launcher is not None and batch:
                launched = self._launcher.launch(batch, None)
            if launched is None:
                output = self._runner.execute(batch)
            else:
                self._look_ahead(launched)
                output = launched.result()
            if is_alone and self._launched is None:
                self._took(batch.num_tokens - batch.num_drafted, perf_counter() - began)
            self._num_failures = 0
        except Exception as error:
            self._num_failures += 1
            if self._num_failures >= MAX_CONSECUTIVE_FAILURES:
                raise
            logger.exception("step failed requests=%d tokens=%d", len(batch.requests), batch.num_tokens)
            reason = f"the step that computed this request failed ({type(error).__name__}); try again"
            output = StepOutput(failed={item.request.request_id: reason for item in batch.requests})
        return refused + self._scheduler.update(batch, output)

    def _under_way(self) -> Launched | None:
        """The step launched ahead, unless everything in it has ended meanwhile: then nobody waits for it."""
        launched, self._launched = self._launched, None
        if launched is not None and all(item.request.is_finished for item in launched.batch.requests):
            self._scheduler.update(launched.batch, StepOutput())
            return None
        return launched

    def _look_ahead(self, launched: Launched) -> None:
        ahead = self._scheduler.schedule_ahead(launched.batch)
        if ahead is not None and self._launcher is not None:
            self._launched = self._launcher.launch(ahead, launched)
            if self._launched is None:
                raise RuntimeError("a step that follows a launched one could not be launched")

    def stats(self) -> EngineStats:
        return self._scheduler.stats()
