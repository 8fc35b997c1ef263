"""Decode steps captured once and replayed: the launches of a whole step cost the host one call.

A graph holds one batch size and one table width; a step takes the smallest that holds it, and the rows beyond its own
are padding that reads one token of the dummy block and writes nothing.
"""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor

from specserve.engine.attention.backend import AttentionBackend
from specserve.engine.attention.xformers_plan import BATCH_BUCKETS, WIDTH_BUCKET_TOKENS, batch_bucket, width_bucket
from specserve.engine.batch import ScheduledBatch, ScheduledRequest
from specserve.engine.runner.decode_rows import DecodeRows

Step = Callable[[], Tensor]
WARM_UP_RUNS = 2
"""Before a capture: kernels are compiled and libraries choose their algorithms, which a capture must not do."""
TIMED_REPLAYS = 7


class Recorder(Protocol):
    """What turns a step into one that is replayed: a CUDA graph, or a stand-in for it in tests."""

    def record(self, step: Step) -> Step:
        """Calls `step`, and returns what does the same again to the same memory and gives the same tensor."""


@contextmanager
def waiting_refused() -> Iterator[None]:
    """What makes the host wait for the device raises RuntimeError."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Synchronization debug mode is a prototype")
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


class CudaRecorder:
    """CUDA graphs that share one memory pool: only one of them is in use at a time.

    A step that waits for the device is refused before it is captured, with a RuntimeError: when a capture fails, torch
    2.11 leaves its allocator and its generator in the midst of it (pytorch/pytorch#180395).
    """

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def record(self, step: Step) -> Step:
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP_RUNS):
                step()
            with waiting_refused():
                step()
        torch.cuda.current_stream().wait_stream(side)
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            with torch.cuda.graph(graph, pool=self._pool):
                logits = step()
        except BaseException:
            torch.cuda.set_stream(stream)  # a capture that cannot be ended leaves its own in place
            raise

        def replay() -> Tensor:
            graph.replay()
            return logits

        return replay


class GraphClock:
    """Seconds that work takes when it is replayed: what the host needs for its launches does not count."""

    def __call__(self, work: Step) -> float:
        replay = CudaRecorder().record(work)
        replay()
        taken = []
        for _ in range(TIMED_REPLAYS):
            before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            before.record()
            replay()
            after.record()
            after.synchronize()
            taken.append(float(before.elapsed_time(after)) / 1e3)
        return statistics.median(taken)


class DecodeGraphs:
    """Graphs by (batch bucket, table width bucket), captured when they are first needed or by `capture`."""

    def __init__(
        self,
        decode: Callable[[Tensor, Tensor], Tensor],
        backend: AttentionBackend,
        recorder: Recorder,
        device: torch.device,
        *,
        max_num_seqs: int,
        max_model_len: int,
    ) -> None:
        """decode: token_ids, positions [B] int64 → logits [B, V], after the backend has planned the step."""
        self._decode = decode
        self._backend = backend
        self._recorder = recorder
        self._device = device
        self._max_num_seqs = max_num_seqs
        self._max_width = -(-max_model_len // backend.block_size)
        self._rows: dict[tuple[int, int], DecodeRows] = {}
        self._graphs: dict[tuple[int, int], Step] = {}

    @property
    def num_captured(self) -> int:
        return len(self._graphs)

    def capture(self, progress: Callable[[float], None]) -> None:
        """Every batch size at the smallest table width, largest first: the others find its memory in the pool."""
        sizes = [size for size in BATCH_BUCKETS if size <= batch_bucket(self._max_num_seqs)]
        width = min(self._max_width, WIDTH_BUCKET_TOKENS[0] // self._backend.block_size)
        for done, size in enumerate(reversed(sizes), 1):
            self._graph_of((size, width_bucket(width, self._backend.block_size)), ())
            progress(done / len(sizes))

    @staticmethod
    def holds(batch: ScheduledBatch) -> bool:
        """Whether the step is one of decodes alone, all of which choose a token."""
        return not batch.reports_prompt and all(
            item.num_new_tokens == 1
            and item.samples
            and item.request.prompt_embeds is None
            and item.request.adapter is None
            for item in batch.requests
        )

    def logits(self, items: Sequence[ScheduledRequest], chosen: Tensor | None = None) -> Tensor:
        """Logits [n, V] of a step that the graphs hold, in memory that the next step overwrites.

        `chosen` [n] int64 are the tokens of the rows where the host does not know them yet.
        """
        width = max(len(item.request.block_table) for item in items)
        key = (batch_bucket(len(items)), width_bucket(width, self._backend.block_size))
        return self._graph_of(key, items, chosen)()[: len(items)]

    def _graph_of(self, key: tuple[int, int], items: Sequence[ScheduledRequest], chosen: Tensor | None = None) -> Step:
        """The graph, with the step planned."""
        if key not in self._rows:
            self._rows[key] = DecodeRows(*key, self._backend.block_size, self._device)
        rows = self._rows[key]
        self._backend.plan(rows.fill(items, chosen))
        if key not in self._graphs:
            self._graphs[key] = self._recorder.record(lambda: self._decode(rows.token_ids, rows.positions))
        return self._graphs[key]
