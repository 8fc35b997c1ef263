"""Cutting a prompt that is too long, only when the request asks for it, and saying so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from specserve.engine.api import ModelInfo
from specserve.generated.errors import UnsupportedValue

HEADER = "x-truncated-prompt-tokens"
"""In the answer to a request whose prompts were cut: tokens of all its prompts before/after."""


@dataclass(slots=True)
class Truncation:
    """What a request asks for: at most `limit` tokens (None: no cut), and which side goes."""

    limit: int | None
    cuts_left: bool
    num_before: int = 0
    num_after: int = 0

    @classmethod
    def of(cls, asked: int | None, side: str | None, model: ModelInfo) -> Truncation:
        """`truncate_prompt_tokens` and `truncation_side` of a request; -1 leaves room for one token of the answer.

        Raises UnsupportedValue.
        """
        if asked is not None and (asked == 0 or asked > model.max_model_len):
            raise UnsupportedValue(
                f"truncate_prompt_tokens is {asked}; it takes 1 to {model.max_model_len} (the model's context), "
                "or -1 for as much as fits",
                param="truncate_prompt_tokens",
            )
        limit = max(model.max_model_len - 1, 1) if asked == -1 else asked
        return cls(limit, cuts_left=side != "right")

    def cut(self, token_ids: Sequence[int], *, num_leading: int = 0) -> list[int]:
        """`num_leading` special tokens at the beginning stay where the limit leaves them a place.

        A list that fits is returned as it is.
        """
        limit = self.limit
        kept = token_ids if isinstance(token_ids, list) else list(token_ids)
        if limit is not None and len(kept) > limit:
            if not self.cuts_left:
                kept = kept[:limit]
            elif num_leading < limit:
                kept = [*kept[:num_leading], *kept[len(kept) - (limit - num_leading) :]]
            else:
                kept = kept[len(kept) - limit :]
        self.num_before += len(token_ids)
        self.num_after += len(kept)
        return kept

    def report(self, headers: dict[str, str]) -> None:
        if self.num_after < self.num_before:
            headers[HEADER] = f"{self.num_before}/{self.num_after}"
