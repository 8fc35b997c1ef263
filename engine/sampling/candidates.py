"""The most likely tokens of each row without sorting the vocabulary: exact, in two levels.

The vocabulary is cut into groups of 64. The k largest values lie in the k groups with the largest maxima, so
only those groups are looked at. The maxima are computed once per step and serve the greedy choice, the check
for finite values, logprobs and candidate lists alike.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

GROUP = 64


class GroupedLogits:
    """logits [R, V] float32 with the maxima [R, G] of groups of 64 ids; the last group may be shorter."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        self.maxima = group_maxima(logits)
        self.has_forbidden = False
        """Some logits may be -inf or nearly so, because a token is forbidden."""

    def refresh(self, rows: Tensor) -> None:
        """After an edit of these rows of the logits."""
        if len(rows) == len(self.logits):  # without a copy
            self.maxima = group_maxima(self.logits)
        else:
            self.maxima[rows] = group_maxima(self.logits[rows])

    def row_maxima(self) -> Tensor:
        """[R]; NaN where a row has one."""
        return self.maxima.amax(-1)

    def argmax(self) -> Tensor:
        """[R] int64; the lowest id among equals."""
        group = self.maxima.argmax(-1, keepdim=True)
        values, ids = self._members(None, group)
        return ids.gather(1, values.argmax(-1, keepdim=True))[:, 0]

    def top(self, rows: Tensor | None, k: int) -> tuple[Tensor, Tensor]:
        """The k largest logits of the given rows (None: all), descending, and their ids: [r, k] each."""
        num_groups, vocab_size = self.maxima.shape[1], self.logits.shape[1]
        k = min(k, vocab_size)
        if 2 * k >= num_groups:
            values, ids = (self.logits if rows is None else self.logits[rows]).topk(k, -1)
            return values, ids
        maxima = self.maxima if rows is None else self.maxima[rows]
        values, ids = self._members(rows, maxima.topk(k, -1).indices)
        best = values.topk(k, -1)
        return best.values, ids.gather(1, best.indices)

    def count_above(self, rows: Tensor | None, limits: Tensor) -> Tensor:
        """[r] int64: how many logits of each row exceed its limit [r, 1]. Looks only into groups that can hold any."""
        maxima = self.maxima if rows is None else self.maxima[rows]
        most = int((maxima > limits).sum(-1).max())
        if most == 0:
            return torch.zeros(len(limits), dtype=torch.long, device=limits.device)
        values, _ = self._members(rows, maxima.topk(most, -1).indices)
        return (values > limits).sum(-1)

    def _members(self, rows: Tensor | None, groups: Tensor) -> tuple[Tensor, Tensor]:
        """Values and ids [r, g * 64] of groups [r, g] of the rows; places past the vocabulary are -inf."""
        device, vocab_size = self.logits.device, self.logits.shape[1]
        ids = (groups[..., None] * GROUP + torch.arange(GROUP, device=device)).flatten(1)
        rows = torch.arange(len(groups), device=device) if rows is None else rows
        inside = ids.clamp(max=vocab_size - 1)
        values = self.logits.take(inside + rows[:, None] * vocab_size)  # copies no whole rows
        return values.masked_fill_(ids >= vocab_size, float("-inf")), ids


def highest(logits: Tensor) -> tuple[list[float], list[int]]:
    """Of each row of logits [R, V] the largest, NaN where it has one, and the lowest id that has it."""
    if logits.device.type == "cpu" and logits.dtype == torch.float32:  # numpy takes one pass, and keeps ids in vectors
        array = logits.numpy()
        ids = array.argmax(-1)
        return array[np.arange(len(ids)), ids].tolist(), ids.tolist()
    grouped = GroupedLogits(logits if logits.dtype == torch.float32 else logits.float())
    return grouped.row_maxima().tolist(), grouped.argmax().tolist()


def group_maxima(logits: Tensor) -> Tensor:
    num_rows, vocab_size = logits.shape
    whole = vocab_size // GROUP * GROUP
    maxima = logits[:, :whole].view(num_rows, whole // GROUP, GROUP).amax(-1)
    if whole < vocab_size:
        maxima = torch.cat([maxima, logits[:, whole:].amax(-1, keepdim=True)], -1)
    return maxima
