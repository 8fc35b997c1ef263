"""Decode steps that are left to a GPU: their tokens are chosen there, and the next step starts from them there."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from specserve.engine.batch import Launched, SampledToken, ScheduledBatch, StepOutput
from specserve.engine.request import Request
from specserve.engine.runner.cuda_graphs import DecodeGraphs
from specserve.engine.sampling.metadata import SamplingMetadata
from specserve.engine.sampling.sampler import NOT_FINITE, Sampler


class LaunchedStep:
    """Tokens on their way: `token_ids` [n] stay on the device for the next step, a copy comes to the host."""

    def __init__(self, batch: ScheduledBatch, token_ids: Tensor, finite: Tensor) -> None:
        self.batch = batch
        self.token_ids = token_ids
        packed = torch.where(finite, token_ids, -1)
        self._arrived: torch.cuda.Event | None = None
        if token_ids.device.type == "cuda":
            self._host = torch.empty(packed.shape, dtype=packed.dtype, pin_memory=True)
            self._host.copy_(packed, non_blocking=True)
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrived.record()
        else:
            self._host = packed

    def result(self) -> StepOutput:
        if self._arrived is not None:
            self._arrived.synchronize()
        output = StepOutput()
        for item, token_id in zip(self.batch.requests, self._host.tolist(), strict=True):
            if token_id < 0:
                output.failed[item.request.request_id] = NOT_FINITE
            else:
                output.sampled[item.request.request_id] = SampledToken(token_id)
        return output


class DecodeLauncher:
    """Launches the batches that captured graphs hold and the device can sample by itself."""

    def __init__(self, graphs: DecodeGraphs, sampler: Sampler, eos_token_ids: tuple[int, ...]) -> None:
        self._graphs = graphs
        self._sampler = sampler
        self._eos_token_ids = eos_token_ids

    @torch.inference_mode()
    def launch(self, batch: ScheduledBatch, after: Launched | None) -> LaunchedStep | None:
        """None where the batch has to be executed. The rows of `batch` are rows of `after`, in its order."""
        assert after is None or isinstance(after, LaunchedStep)
        if not self._graphs.holds(batch):
            return None
        requests = [item.request for item in batch.requests]
        metadata = SamplingMetadata.of(requests, self._eos_token_ids)
        if metadata.edited or metadata.logprobs or any(request.matcher is not None for request in requests):
            return None
        chosen = None if after is None else _rows_of(after, requests)
        logits = self._graphs.logits(batch.requests, chosen)
        token_ids, finite = self._sampler.choose(logits, metadata, lead=0 if after is None else 1)
        return LaunchedStep(batch, token_ids, finite)


def _rows_of(after: LaunchedStep, requests: Sequence[Request]) -> Tensor:
    """The tokens of the given requests, which are in `after` in the same order."""
    if len(requests) == len(after.batch.requests):
        return after.token_ids
    places = {id(item.request): row for row, item in enumerate(after.batch.requests)}
    rows = torch.tensor([places[id(request)] for request in requests])
    return after.token_ids[rows.to(after.token_ids.device, non_blocking=True)]
