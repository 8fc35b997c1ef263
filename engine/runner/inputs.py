"""One step's batch as tensors: flat token ids and positions, and what attention needs to know."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from specserve.engine.adapter import AdapterRows
from specserve.engine.attention.backend import AttentionMetadata
from specserve.engine.batch import ScheduledBatch, ScheduledRequest
from specserve.engine.request import Request
from specserve.engine.sampling.verification import DraftedRequest


@dataclass(frozen=True, slots=True)
class PromptRows:
    """P rows whose logits tell how likely the prompt's next token was.

    rows       [P] int64   index in T
    token_ids  [P] int64   the prompt's tokens that follow the rows
    requests   whose rows they are, and how many of them each has
    """

    rows: Tensor
    token_ids: Tensor
    requests: list[tuple[Request, int]]


@dataclass(frozen=True, slots=True)
class StepInputs:
    """T tokens of B sequences, R of which are sampled.

    token_ids    [1, T] int64   sequences one after the other, in the batch's order
    positions    [1, T] int64   each token's place in its own sequence
    sample_rows  [R] int64      index in T of the last known token of every sequence that is sampled
    sampling     those R requests, in the same order
    prompt       rows of prompts whose logprobs are reported, if any
    adapters     rows in T that adapters apply to; those that lie side by side are one entry
    draft_rows   [D] int64      index in T of all drafts, if any
    drafted      the requests they belong to, in this order
    """

    token_ids: Tensor
    positions: Tensor
    sample_rows: Tensor
    sampling: list[Request]
    attention: AttentionMetadata
    prompt: PromptRows | None = None
    adapters: Sequence[AdapterRows] = ()
    draft_rows: Tensor | None = None
    drafted: Sequence[DraftedRequest] = ()


def build_inputs(batch: ScheduledBatch, block_size: int, device: torch.device) -> StepInputs:
    """Raises ValueError when a block table is too short for the tokens scheduled."""
    scheduled = batch.requests
    query_lens = [item.num_new_tokens for item in scheduled]
    seq_lens = [item.start + item.num_new_tokens for item in scheduled]
    num_seqs, num_tokens = len(scheduled), sum(query_lens)
    query_start = np.zeros(num_seqs + 1, dtype=np.int32)
    np.cumsum(query_lens, out=query_start[1:])

    width = max((-(-length // block_size) for length in seq_lens), default=0)
    block_tables = np.zeros((num_seqs, width), dtype=np.int32)
    token_ids = np.empty(num_tokens, dtype=np.int64)
    for row, item in enumerate(scheduled):
        num_blocks = -(-seq_lens[row] // block_size)
        table = item.request.block_table
        if len(table) < num_blocks:
            raise ValueError(
                f"request {item.request.request_id} has {len(table)} blocks of {block_size} tokens, "
                f"{num_blocks} are needed for {seq_lens[row]} tokens"
            )
        block_tables[row, :num_blocks] = table[:num_blocks]
        known = item.request.token_ids
        if item.num_new_tokens == 1:
            token_ids[query_start[row]] = known[item.start]
        else:
            token_ids[query_start[row] : query_start[row + 1]] = [*known[item.start : seq_lens[row]], *item.drafts]

    # Token t of sequence b has the position start[b] + (t - query_start[b]).
    owner = np.repeat(np.arange(num_seqs), query_lens)
    shift = np.array([item.start for item in scheduled], dtype=np.int64) - query_start[:-1]
    positions = np.arange(num_tokens, dtype=np.int64) + shift[owner]
    blocks = block_tables[owner, positions // block_size].astype(np.int64)
    slot_mapping = blocks * block_size + positions % block_size

    samples = np.array([item.samples for item in scheduled], dtype=bool)
    last_known = query_start[1:] - np.array([1 + len(item.drafts) for item in scheduled], dtype=np.int32)
    draft_rows, drafted = find_drafts(scheduled, query_start[1:].tolist())
    num_decodes = next((row for row, length in enumerate(query_lens) if length != 1), num_seqs)

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(device)

    return StepInputs(
        token_ids=tensor(token_ids)[None],
        positions=tensor(positions)[None],
        sample_rows=tensor(last_known[samples].astype(np.int64)),
        sampling=[item.request for item in scheduled if item.samples],
        attention=AttentionMetadata(
            query_start=tensor(query_start),
            seq_lens=tensor(np.array(seq_lens, dtype=np.int32)),
            block_tables=tensor(block_tables),
            slot_mapping=tensor(slot_mapping),
            num_decodes=num_decodes,
            query_lens=query_lens,
            seq_lens_list=seq_lens,
        ),
        prompt=prompt_rows(scheduled, query_start.tolist(), device) if batch.reports_prompt else None,
        adapters=adapter_rows(scheduled),
        draft_rows=torch.tensor(draft_rows, device=device) if drafted else None,
        drafted=drafted,
    )


def find_drafts(scheduled: Sequence[ScheduledRequest], ends: Sequence[int]) -> tuple[list[int], list[DraftedRequest]]:
    """Index in T of each draft, where the tokens of the sequences end at `ends`; and whose they are."""
    rows: list[int] = []
    drafted: list[DraftedRequest] = []
    num_sampling = sum(item.samples for item in scheduled)
    row = 0
    for item, end in zip(scheduled, ends, strict=True):
        if item.drafts:
            drafted.append(DraftedRequest(row, item.drafts, num_sampling + len(rows)))
            rows += range(end - len(item.drafts), end)
        row += item.samples
    return rows, drafted


def sorted_by_adapter(batch: ScheduledBatch) -> ScheduledBatch:
    """The same step, so that the rows of an adapter lie side by side among the single tokens and among the chunks."""
    if all(item.request.adapter is None for item in batch.requests):
        return batch

    def place(item: ScheduledRequest) -> tuple[bool, int]:
        adapter = item.request.adapter
        return item.num_new_tokens != 1, 0 if adapter is None else adapter.adapter_id

    return dataclasses.replace(batch, requests=sorted(batch.requests, key=place))


def adapter_rows(scheduled: Sequence[ScheduledRequest]) -> list[AdapterRows]:
    found: list[AdapterRows] = []
    row = 0
    for item in scheduled:
        start, row = row, row + item.num_new_tokens
        if item.request.adapter is None:
            continue
        weights = item.request.adapter.weights
        if found and found[-1].weights is weights and found[-1].stop == start:
            start = found.pop().start
        found.append(AdapterRows(weights, start, row))
    return found


def prompt_rows(scheduled: Sequence[ScheduledRequest], query_start: Sequence[int], device: torch.device) -> PromptRows:
    rows: list[int] = []
    token_ids: list[int] = []
    requests: list[tuple[Request, int]] = []
    for first, item in zip(query_start, scheduled, strict=False):
        if item.reported:
            shift = first - item.start - 1  # position p is told by the row of position p - 1
            rows += range(item.reported.start + shift, item.reported.stop + shift)
            token_ids += item.request.token_ids[item.reported.start : item.reported.stop]
            requests.append((item.request, len(item.reported)))
    return PromptRows(torch.tensor(rows, device=device), torch.tensor(token_ids, device=device), requests)
