"""The engine's compiled grammars: made on a thread of their own, remembered by what they take. No tensors.

Steps go on while a grammar is compiled: the library gives the interpreter away meanwhile. What arrives here has
passed the check outside of the engine once; should it fail here all the same, only its own request does.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from queue import SimpleQueue

import llguidance

from specserve.engine.errors import RequestError
from specserve.engine.grammar_spec import GrammarSpec
from specserve.engine.grammars.compiler import GrammarCompiler
from specserve.engine.grammars.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

STACK_BYTES = 16 * 1024 * 1024
MAX_BYTES = 256 * 1024 * 1024
MIN_BYTES = 64 * 1024
"""What even a small grammar is counted as."""

Ready = tuple[str, llguidance.LLMatcher | str]
"""A request id, and its matcher or the reason why it cannot have one."""


class GrammarStore:
    """`want`, then `take_ready` until the request's id comes out; both from the engine's own thread.

    load_vocabulary   called once, on the compiling thread, when the first constraint arrives
    on_ready          called on that thread whenever `take_ready` has something new
    """

    def __init__(
        self,
        load_vocabulary: Callable[[], Vocabulary],
        on_ready: Callable[[], None] = lambda: None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._load_vocabulary = load_vocabulary
        self._on_ready = on_ready
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._known: OrderedDict[GrammarSpec, llguidance.LLMatcher] = OrderedDict()
        self._wanted: SimpleQueue[tuple[str, GrammarSpec]] = SimpleQueue()
        self._compiled: SimpleQueue[tuple[str, GrammarSpec, llguidance.LLMatcher | str]] = SimpleQueue()
        self._compiler: GrammarCompiler | None = None
        self._thread: threading.Thread | None = None

    def want(self, request_id: str, spec: GrammarSpec) -> llguidance.LLMatcher | None:
        """A matcher of the request's own, at the beginning of its answer, if the grammar is known; else it will be
        compiled.
        """
        known = self._known.get(spec)
        if known is not None:
            self._known.move_to_end(spec)
            return known.deep_copy()
        if self._thread is None:
            self._thread = self._start_thread()
        self._wanted.put((request_id, spec))
        return None

    def take_ready(self) -> list[Ready]:
        """What has been compiled since the last call."""
        ready: list[Ready] = []
        while not self._compiled.empty():
            request_id, spec, result = self._compiled.get()
            if isinstance(result, str):
                ready.append((request_id, result))
            else:
                self._remember(spec, result)
                ready.append((request_id, result.deep_copy()))
        return ready

    @property
    def num_bytes(self) -> int:
        """What the remembered grammars take, about."""
        return self._num_bytes

    def _remember(self, spec: GrammarSpec, matcher: llguidance.LLMatcher) -> None:
        if spec not in self._known:
            self._num_bytes += size_of(spec)
        self._known[spec] = matcher
        while self._num_bytes > self._max_bytes:
            self._num_bytes -= size_of(self._known.popitem(last=False)[0])

    def _start_thread(self) -> threading.Thread:
        before = threading.stack_size(STACK_BYTES)
        try:
            thread = threading.Thread(target=self._compile_all, daemon=True, name="grammars")
            thread.start()
        finally:
            threading.stack_size(before)
        return thread

    def _compile_all(self) -> None:
        last: tuple[GrammarSpec, llguidance.LLMatcher | str] | None = None
        while True:
            request_id, spec = self._wanted.get()
            if last is None or last[0] != spec:  # siblings ask for the same one after the other
                last = spec, self._compile(spec)
            result = last[1]
            self._compiled.put((request_id, spec, result if isinstance(result, str) else result.deep_copy()))
            self._on_ready()

    def _compile(self, spec: GrammarSpec) -> llguidance.LLMatcher | str:
        try:
            if self._compiler is None:
                self._compiler = GrammarCompiler(self._load_vocabulary())
            return self._compiler.compile(spec)
        except RequestError as error:
            return error.message
        except BaseException as error:  # a panic of the library is no Exception; this thread must live on
            logger.exception("a grammar that passed its check could not be compiled")
            return f"the constraint cannot be compiled ({type(error).__name__})"


def size_of(spec: GrammarSpec) -> int:
    return max(spec.num_bytes, MIN_BYTES) + 4 * len(spec.rules)
