"""The input embeddings of a step in which some prompts are given as embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from specserve.engine.batch import ScheduledBatch
from specserve.engine.prompt_embeds import layout

DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}


def given_rows(data: bytes, start: int, stop: int) -> Tensor:
    """Rows [stop - start, H] of a checked safetensors file, in its own type; only these are copied."""
    at = layout(data)
    piece = bytearray(memoryview(data)[at.offset + start * at.row_bytes : at.offset + stop * at.row_bytes])
    return torch.frombuffer(piece, dtype=DTYPES[at.dtype]).view(stop - start, at.hidden_size)


def input_embeddings(batch: ScheduledBatch, token_ids: Tensor, table: nn.Module) -> Tensor | None:
    """[1, T, H] of all tokens [1, T] of the batch; None when every one of them is a token.

    Rows of prompts given as embeddings stand where `token_ids` have `NO_TOKEN`; the others come from `table`.
    """
    pieces: list[tuple[int, Tensor]] = []
    first = 0
    for item in batch.requests:
        request = item.request
        if request.prompt_embeds is not None and item.start < request.num_prompt_tokens:
            stop = min(item.start + item.num_new_tokens, request.num_prompt_tokens)
            pieces.append((first, given_rows(request.prompt_embeds, item.start, stop)))
        first += item.num_new_tokens
    if not pieces:
        return None
    rows: Tensor = table(token_ids.clamp(min=0))
    for first, given in pieces:
        rows[0, first : first + len(given)] = given.to(rows)
    return rows
