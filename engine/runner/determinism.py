"""Whether equal requests get equal bits: what was asked for, what this model can keep, and a trial that finds out.

A request is computed beside others, in chunks that depend on them, again after a preemption, or from blocks that
somebody else has filled. Its tokens and logprobs stay the same by the last bit where every row's numbers depend on
that row and the keys before it alone. The lean decoder's do by construction, on any number of threads; transformers'
modules on CPUs do with the functions of `models.same_bits`, which is tried out with the model itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from specserve.engine.attention.backend import AttentionBackend
from specserve.engine.attention.cpu import CpuBackend
from specserve.engine.batch import ScheduledBatch, ScheduledRequest
from specserve.engine.errors import UnsupportedModelError
from specserve.engine.params import SamplingParams
from specserve.engine.request import Request
from specserve.engine.runner.forward import DecoderForward, Forward, ModuleForward

WAY_OUT = "leave --deterministic out, or pass --no-deterministic"
LENGTH = 45
MATE_LENGTH = 20
CHUNKS = (1, 2, 5, 17, 1, 1, 11, 7)
"""Together LENGTH."""
Logits = Callable[[ScheduledBatch], Tensor]


MODULES_BY_DEFAULT = False
"""Whether models computed through transformers' modules pay the price unasked."""


@dataclass(frozen=True, slots=True)
class Determinism:
    """`note` is for the start banner."""

    is_on: bool
    note: str


ON = Determinism(True, "deterministic: the same bits beside any other requests")
UNASKED = Determinism(False, "deterministic: off; --deterministic has a price for this model")


def settle(
    asked: bool | None, forward: Forward, backend: AttentionBackend, try_out: Callable[[], str | None]
) -> Determinism:
    """Turn it on where it is asked for, or costs nothing. Raises UnsupportedModelError where it cannot be kept.

    `try_out` tells what differs when the model computes the same tokens in other company.
    """
    if asked is False:
        return Determinism(False, "deterministic: off, as asked for")
    if isinstance(forward, DecoderForward):
        return ON
    if asked is None and (not MODULES_BY_DEFAULT or not isinstance(backend, CpuBackend)):
        return UNASKED if isinstance(backend, CpuBackend) else Determinism(False, "deterministic: off on this backend")
    refusal = None
    if not isinstance(backend, CpuBackend):
        refusal = f"it is defined on CPUs with the attention backend cpu, and this is {backend.name}"
    elif not backend.is_all_kernel():
        refusal = "attention runs in pure torch here, whose sums depend on the batch (the lines above say why)"
    elif not isinstance(forward, ModuleForward):
        refusal = "this form of the model makes no such promise"
    else:
        difference = forward.set_deterministic(True) or try_out()
        if difference is None:
            return ON
        forward.set_deterministic(False)
        refusal = f"tried out, this model does not keep it: {difference}"
    if asked:
        raise UnsupportedModelError(f"--deterministic cannot be kept: {refusal}", WAY_OUT)
    return Determinism(False, f"deterministic: off; {refusal}")


def settle_pooling(asked: bool | None, device: torch.device) -> Determinism:
    """For models that embed and classify: texts are computed one at a time, so nothing is beside them.

    Raises UnsupportedModelError.
    """
    if not asked:
        return Determinism(False, "deterministic: off; with --deterministic texts are computed one at a time")
    if device.type != "cpu":
        raise UnsupportedModelError(f"--deterministic cannot be kept: it is defined on CPUs, not on {device}", WAY_OUT)
    return Determinism(True, "deterministic: texts are computed one at a time")


def first_difference(logits: Logits, vocab_size: int, block_size: int, num_blocks: int) -> str | None:
    """Try a model out: a sequence whole, in chunks, token by token, and beside another; None if all bits agree.

    Writes to blocks 1 and up, which nobody may hold. `num_blocks` includes the dummy block.
    """
    longest = (num_blocks - 1) // 2 * block_size
    length, mate_length = min(LENGTH, longest), min(MATE_LENGTH, longest)
    if length < 2:
        return None  # nothing can run beside it, or in chunks
    num_own = -(-length // block_size)
    own, others = list(range(1, 1 + num_own)), list(range(1 + num_own, 1 + 2 * num_own))
    request = _request("own", length, 7, vocab_size, own)
    mate = _request("mate", mate_length, 5, vocab_size, others)
    whole = logits(_batch((request, 0, length)))
    for how, rows in (
        ("computed in chunks", _in_chunks(logits, request, None)),
        ("computed in chunks beside another", _in_chunks(logits, request, mate)),
    ):
        found = torch.cat(list(rows))
        if not torch.equal(found, whole):
            differing = int((found != whole).any(-1).sum())
            return f"{differing} of {length} rows of logits differ when {how}"
    return None


def _in_chunks(logits: Logits, request: Request, mate: Request | None) -> Iterator[Tensor]:
    start = 0
    for turn, size in enumerate(CHUNKS):
        size = min(size, request.num_tokens - start)
        if size == 0:
            return
        pieces = [(request, start, size)]
        if mate is not None:
            length = mate.num_tokens
            pieces.append((mate, length - 1, 1) if turn % 3 else (mate, 0, length))
            pieces.sort(key=lambda piece: piece[2] != 1)  # single tokens come first
        found = logits(_batch(*pieces))
        first = 0
        for one, _, count in pieces:
            if one is request:
                yield found[first : first + count]
            first += count
        start += size


def _request(name: str, length: int, stride: int, vocab_size: int, blocks: list[int]) -> Request:
    ids = [(3 + stride * place * place + place) % vocab_size for place in range(length)]
    return Request(name, SamplingParams(max_tokens=1, temperature=0.0), ids, length, block_table=blocks)


def _batch(*pieces: tuple[Request, int, int]) -> ScheduledBatch:
    scheduled = [ScheduledRequest(request, start, count, False) for request, start, count in pieces]
    return ScheduledBatch(scheduled, sum(count for _, _, count in pieces))
