"""The fields that all pooling requests share, read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from specserve.engine.api import ModelInfo
from specserve.generated.errors import InvalidParameterCombination, UnsupportedValue
from specserve.handlers.truncation import HEADER

NAMES_OF_ACTIVATION = ("use_activation", "activation", "normalize", "softmax")
"""The current name of the same thing, and those it had before."""


class PoolingFields(Protocol):
    """What the group PoolingExtras adds to a request."""

    @property
    def truncate_prompt_tokens(self) -> int | None: ...
    @property
    def truncation_side(self) -> Literal["left", "right"] | None: ...
    @property
    def use_activation(self) -> bool | None: ...
    @property
    def activation(self) -> bool | None: ...
    @property
    def normalize(self) -> bool | None: ...
    @property
    def softmax(self) -> bool | None: ...
    @property
    def priority(self) -> int | None: ...
    @property
    def cache_salt(self) -> str | None: ...


@dataclass(slots=True)
class Cut:
    """How many tokens an input may keep (None: no cut), from which end they go, and what happened so far."""

    limit: int | None = None
    cuts_left: bool = False
    num_before: int = 0
    num_after: int = 0

    @classmethod
    def of(cls, asked: int | None, side: Literal["left", "right"] | None, model: ModelInfo) -> Cut:
        """-1 keeps as many as the model takes. Raises UnsupportedValue."""
        if asked is not None and (asked == 0 or asked > model.max_model_len):
            raise UnsupportedValue(
                f"truncate_prompt_tokens is {asked}; it takes 1 to {model.max_model_len} (the model's context), "
                "or -1 for as much as fits",
                param="truncate_prompt_tokens",
            )
        return cls(model.max_model_len if asked == -1 else asked, cuts_left=side == "left")

    def kept(self, token_ids: Sequence[int], limit: int) -> list[int]:
        """At most `limit` of the tokens."""
        if len(token_ids) <= limit:
            return list(token_ids)
        return list(token_ids[len(token_ids) - limit :] if self.cuts_left else token_ids[:limit])

    def count(self, before: int, after: int) -> None:
        self.num_before += before
        self.num_after += after

    def report(self, headers: dict[str, str]) -> None:
        if self.num_after < self.num_before:
            headers[HEADER] = f"{self.num_before}/{self.num_after}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolingOptions:
    """`use_activation` None is what the model's authors chose."""

    cut: Cut
    use_activation: bool | None = None
    cache_salt: str = ""
    priority: int = 0

    @classmethod
    def of(cls, body: PoolingFields, model: ModelInfo) -> PoolingOptions:
        """Raises UnsupportedValue, InvalidParameterCombination."""
        return cls(
            cut=Cut.of(body.truncate_prompt_tokens, body.truncation_side, model),
            use_activation=asked_activation(body),
            cache_salt=body.cache_salt or "",
            priority=body.priority or 0,
        )


def asked_activation(body: PoolingFields) -> bool | None:
    sent = {name: value for name in NAMES_OF_ACTIVATION if (value := getattr(body, name)) is not None}
    if len(set(sent.values())) > 1:
        raise InvalidParameterCombination(
            f"{' and '.join(sent)} are names of the same thing and contradict each other; send use_activation only",
            param=next(iter(sent)),
        )
    return next(iter(sent.values()), None)
