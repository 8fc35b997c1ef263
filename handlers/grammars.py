"""Checks constraints before a request is admitted: in a process that can be killed, once for each grammar.

Knows no wire format: callers say which field the constraint came from. What passed is remembered, so that a known
grammar costs nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import socket
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from specserve.engine.api import Engine
from specserve.engine.errors import OverloadedError, UnsupportedFeatureError
from specserve.engine.grammar_spec import GrammarSpec
from specserve.engine.grammars.check_process import LENGTH_BYTES, Budget, Check, Setup, Verdict, decode_verdict
from specserve.engine.grammars.check_process import encode_frame as encode
from specserve.engine.grammars.vocabulary import Vocabulary
from specserve.generated.errors import InvalidConstraint, ServerLoading, UnsupportedValue

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class GrammarBudget:
    """What checking may cost.

    time_s, memory_bytes   of one check
    max_parallel           checks at once; further ones wait, and time spent waiting does not count
    max_waiting            checks that wait; beyond that the server is overloaded
    cache_bytes            for verdicts, as long as they are: the least recently used one goes first
    grace_s                the process itself is killed when it says nothing for so long after a check is overdue
    """

    time_s: float = 5.0
    memory_bytes: int = 256 * 1024 * 1024
    max_parallel: int = 2
    max_waiting: int = 64
    cache_bytes: int = 32 * 1024 * 1024
    grace_s: float = 20.0


@dataclass(slots=True)
class VerdictCache:
    """Verdicts by spec, the least recently used dropped when they are too many bytes together."""

    max_bytes: int
    num_bytes: int = 0
    _verdicts: OrderedDict[GrammarSpec, Verdict] = field(default_factory=OrderedDict)

    def __len__(self) -> int:
        return len(self._verdicts)

    def get(self, spec: GrammarSpec) -> Verdict | None:
        verdict = self._verdicts.get(spec)
        if verdict is not None:
            self._verdicts.move_to_end(spec)
        return verdict

    def put(self, spec: GrammarSpec, verdict: Verdict) -> None:
        if spec not in self._verdicts:
            self.num_bytes += size_of(spec, verdict)
        self._verdicts[spec] = verdict
        while self.num_bytes > self.max_bytes:
            self.num_bytes -= size_of(*self._verdicts.popitem(last=False))


def size_of(spec: GrammarSpec, verdict: Verdict) -> int:
    """Bytes the two take, about: their texts, up to four bytes a character, and what surrounds them."""
    texts = [spec.source, *spec.parts, spec.whitespace_pattern or "", verdict.message, verdict.pointer]
    if verdict.spec is not None:
        texts += [verdict.spec.rules, *verdict.spec.widened]
    return 500 + 4 * sum(map(len, texts))


class Worker:
    """One check process and what it has been asked. Dead once `is_dead`; then somebody starts another."""

    def __init__(self, vocabulary: Vocabulary, budget: GrammarBudget) -> None:
        self._setup = Setup(vocabulary, Budget(budget.time_s, budget.memory_bytes))
        self._numbers = itertools.count()
        self._open: dict[int, asyncio.Future[Verdict]] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self.is_dead = False

    async def start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - forking takes a millisecond
                [sys.executable, "-m", "specserve.engine.grammars.check_process", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                process_group=0,
            )
        reader, self._writer = await asyncio.open_unix_connection(sock=ours)
        self._writer.write(encode(self._setup))
        self._receiving = asyncio.create_task(self._receive(reader))

    @property
    def process_id(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def check(self, spec: GrammarSpec, timeout_s: float) -> Verdict:
        """Raises TimeoutError or ConnectionError; the process is of no use after either."""
        number = next(self._numbers)
        answer: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._open[number] = answer
        try:
            self._writer.write(encode(Check(number, spec)))
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError:
            self.kill()
            raise
        finally:
            self._open.pop(number, None)

    def kill(self) -> None:
        self.is_dead = True
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._writer.close()

    async def _receive(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
                verdict = decode_verdict(await reader.readexactly(length))
                answer = self._open.get(verdict.number)
                if answer is not None and not answer.done():
                    answer.set_result(verdict)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.kill()
            for answer in self._open.values():
                if not answer.done():
                    answer.set_exception(ConnectionError("the check process ended"))


class GrammarChecker:
    """`check` is all that handlers need. The process is started by the first check and again after its death."""

    def __init__(self, engine: Callable[[], Engine | None], budget: GrammarBudget | None = None) -> None:
        self._engine = engine
        self._budget = budget or GrammarBudget()
        self._cache = VerdictCache(self._budget.cache_bytes)
        self._running: dict[GrammarSpec, asyncio.Task[Verdict]] = {}
        self._slots = asyncio.Semaphore(self._budget.max_parallel)
        self._starting = asyncio.Lock()
        self._worker: Worker | None = None
        self._vocabulary: Vocabulary | None = None
        self._others: dict[int, GrammarChecker] = {}

    def of(self, engine: Engine) -> GrammarChecker:
        """The checker for what this engine writes: this one, or another that knows the vocabulary of its model."""
        if engine is self._engine():
            return self
        if id(engine) not in self._others:  # which keeps the engine, so that its id is no other's
            self._others[id(engine)] = GrammarChecker(lambda: engine, self._budget)
        return self._others[id(engine)]

    async def check(self, spec: GrammarSpec, *, param: str) -> GrammarSpec:
        """The spec for `SamplingParams.grammar`: the same grammar, compiled once already and ready for the engine.

        param   the request field the constraint came from. Names the culprit in errors, followed by a JSON pointer
                into the schema: response_format.json_schema.schema/properties/x/format

        `widened` of the result lists pointers of what a schema that is not strict lost. Raises InvalidConstraint or
        UnsupportedValue (400), ServerLoading or OverloadedError (503).
        """
        verdict = self._cache.get(spec)
        if verdict is None:
            try:
                verdict = await asyncio.shield(self._shared_task(spec))
            except UnsupportedFeatureError as refusal:
                raise UnsupportedValue(refusal.message, param=param) from None
        if verdict.spec is not None:
            return replace(verdict.spec, param=param)
        error = UnsupportedValue if verdict.is_unsupported else InvalidConstraint
        raise error(f"{param}: {verdict.message}"[:2000], param=f"{param}{verdict.pointer}"[:500])

    async def close(self) -> None:
        """End the process."""
        if self._worker is not None:
            self._worker.kill()
        for other in self._others.values():
            await other.close()

    @property
    def process_id(self) -> int | None:
        return None if self._worker is None else self._worker.process_id

    def _shared_task(self, spec: GrammarSpec) -> asyncio.Task[Verdict]:
        """Requests that ask the same at the same time wait for one check."""
        task = self._running.get(spec)
        if task is None:
            if len(self._running) >= self._budget.max_waiting + self._budget.max_parallel:
                raise OverloadedError(f"{len(self._running)} constraints wait to be compiled; try again later")
            task = asyncio.create_task(self._judge(spec))
            self._running[spec] = task
            task.add_done_callback(lambda done: self._forget(spec, done))
        return task

    def _forget(self, spec: GrammarSpec, task: asyncio.Task[Verdict]) -> None:
        self._running.pop(spec, None)
        if not task.cancelled():
            task.exception()  # everybody who waited has it; nobody may have

    async def _judge(self, spec: GrammarSpec) -> Verdict:
        async with self._slots:
            for _ in range(2):  # a check beside this one may have brought the process down
                worker = await self._living_worker()
                with contextlib.suppress(ConnectionError):
                    try:
                        verdict = await worker.check(spec, self._budget.time_s + self._budget.grace_s)
                    except TimeoutError:
                        verdict = Verdict(0, message="the constraint could not be compiled in time; simplify it")
                    self._cache.put(spec, verdict)
                    return verdict
                logger.warning("the process that checks grammars ended; starting another")
        return Verdict(0, message="the constraint could not be checked; simplify it")

    async def _living_worker(self) -> Worker:
        async with self._starting:
            if self._worker is None or self._worker.is_dead:
                worker = Worker(await self._read_vocabulary(), self._budget)
                await worker.start()
                self._worker = worker
            return self._worker

    async def _read_vocabulary(self) -> Vocabulary:
        if self._vocabulary is None:
            engine = self._engine()
            if engine is None:
                raise ServerLoading("the model is still loading; try again soon", headers={"Retry-After": "2"})
            model = engine.model
            self._vocabulary = await asyncio.to_thread(
                Vocabulary.of, engine.tokenizer, model.vocab_size, model.eos_token_ids
            )
        return self._vocabulary
