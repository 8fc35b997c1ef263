"""Edits of single rows of logits before a token is chosen: bias, allowed ids, lengths of answer and thought, penalties.

Each works on the ids it touches, never on a dense table of the vocabulary, and only on rows that ask for it.
`PROCESSORS` is the order of application; a new one is a function and a line there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from specserve.engine.request import Request

LogitsProcessor = Callable[[Tensor, Request, Sequence[int]], None]
"""(logits [V] float32 of one row, its request, the model's end tokens): edits the logits in place."""

NEVER = float("-inf")
HUGE = 1e30
"""Penalised logits stay within this, so that the most extreme penalty and temperature still give numbers."""


def add_logit_bias(logits: Tensor, request: Request, eos_token_ids: Sequence[int]) -> None:
    """Ids outside of the vocabulary are ignored: the front refuses them, where the field can be named."""
    vocab_size = len(logits)
    bias = {id_: value for id_, value in request.params.logit_bias.items() if 0 <= id_ < vocab_size}
    if bias:
        ids = torch.tensor(list(bias), device=logits.device)
        logits[ids] += torch.tensor(list(bias.values()), dtype=logits.dtype, device=logits.device)


def keep_allowed_ids(logits: Tensor, request: Request, eos_token_ids: Sequence[int]) -> None:
    if request.params.allowed_token_ids:
        ids = _ids(request.params.allowed_token_ids, logits)
        kept = logits[ids]
        logits.fill_(NEVER)
        logits[ids] = kept


def forbid_early_end(logits: Tensor, request: Request, eos_token_ids: Sequence[int]) -> None:
    """No end token before `min_tokens`: stop ids and, unless they are ignored anyway, the model's own."""
    params = request.params
    if request.num_generated_tokens < params.min_tokens:
        ends = params.stop_token_ids if params.ignore_eos else (*params.stop_token_ids, *eos_token_ids)
        logits[_ids(ends, logits)] = NEVER


def forbid_bad_words(logits: Tensor, request: Request, eos_token_ids: Sequence[int]) -> None:
    """Forbid the last token of each sequence whose beginning the answer ends with; the prompt does not count.

    If no other token is left, all of them stay allowed: an answer can avoid a text, but not be nothing.
    """
    sequences = request.params.bad_words_token_ids
    if not sequences:
        return
    answer = request.token_ids[request.num_prompt_tokens :]
    last = [ids[-1] for ids in sequences if len(ids) == 1 or answer[1 - len(ids) :] == list(ids[:-1])]
    if not last:
        return
    ids = _ids(last, logits)
    kept = logits[ids]
    logits[ids] = NEVER
    if float(logits.max()) == NEVER:
        logits[ids] = kept


def apply_repetition_penalty(logits: Tensor, request: Request, eos_token_ids: Sequence[int]) -> None:
    """Divide positive and multiply negative logits of every token seen, in the prompt or in the answer.

    Source: Keskar et al. 2019 (CTRL), section 4.1, with the sign correction customary since.
    """
    penalty = request.params.repetition_penalty
    if penalty != 1.0:
        ids = _ids(request.token_ids, logits)
        seen = logits[ids]
        factor = min(max(penalty, 1 / HUGE), HUGE)
        # An id that occurs twice is written twice, with the same value.
        punished = torch.where(seen > 0, seen / factor, seen * factor).clamp_(-HUGE, HUGE)
        logits[ids] = torch.where(seen == NEVER, seen, punished)


def apply_answer_penalties(logits: Tensor, request: Request, eos_token_ids: Sequence[int]) -> None:
    """presence_penalty once, frequency_penalty per occurrence, for tokens of the answer only."""
    params = request.params
    if params.presence_penalty or params.frequency_penalty:
        answer = request.token_ids[request.num_prompt_tokens :]
        unique, counts = np.unique(np.asarray(answer, dtype=np.int64), return_counts=True)
        reduction = torch.from_numpy(counts * params.frequency_penalty + params.presence_penalty)
        logits[torch.from_numpy(unique).to(logits.device)] -= reduction.to(logits)


def close_thought(logits: Tensor, request: Request, eos_token_ids: Sequence[int]) -> None:
    """Only the next token of the mark that ends the thought, once that has been as long as it may be."""
    if request.thought is not None and not request.thought.is_over:
        forced = request.thought.forced(request.num_generated_tokens)
        if forced is not None and 0 <= forced < len(logits):
            logits.fill_(NEVER)
            logits[forced] = 0.0


PROCESSORS: tuple[LogitsProcessor, ...] = (
    add_logit_bias,
    keep_allowed_ids,
    forbid_early_end,
    forbid_bad_words,
    apply_repetition_penalty,
    apply_answer_penalties,
    close_thought,
)


def edit_logits(logits: Tensor, requests: Sequence[Request], rows: Sequence[int], eos_token_ids: Sequence[int]) -> None:
    """Run every processor over the given rows of logits [R, V] float32, in place."""
    for row in rows:
        for processor in PROCESSORS:
            processor(logits[row], requests[row], eos_token_ids)


def _ids(token_ids: Sequence[int], logits: Tensor) -> Tensor:
    """As an index; ids the model has no row for are left out."""
    ids = np.asarray(token_ids, dtype=np.int64)
    return torch.from_numpy(ids[(ids >= 0) & (ids < logits.shape[-1])]).to(logits.device)
