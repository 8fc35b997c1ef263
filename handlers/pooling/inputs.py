"""Texts and token ids as what the model reads: special tokens, cuts, and what is refused, each with its place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count

from specserve.engine.api import ModelInfo, Tokenizer
from specserve.generated.errors import (
    ContextLengthExceeded,
    InvalidPrompt,
    TokenOutOfVocabulary,
    UnsupportedValue,
)
from specserve.handlers.pooling.frames import TextFrame, text_frame
from specserve.handlers.pooling.options import Cut
from specserve.handlers.text_work import check_text_length


@dataclass(frozen=True, slots=True)
class ModelInput:
    """`type_ids` are the segments of a pair, for models that have them. The last `num_unseen` tokens none sees."""

    token_ids: list[int]
    type_ids: list[int] | None = None
    num_unseen: int = 0


@dataclass(frozen=True, slots=True)
class InputReader:
    """`prefix_ids` go behind the special tokens before a text: how late interaction tells queries from documents."""

    tokenizer: Tokenizer
    model: ModelInfo
    cut: Cut
    prefix_ids: tuple[int, ...] = ()

    def texts(
        self, texts: Sequence[str], *, places: Iterable[str], add_special_tokens: bool = True
    ) -> list[ModelInput]:
        """Takes time in proportion to the texts; thread-safe. `places` name them in refusals.

        Raises InvalidPrompt, ContextLengthExceeded, UnsupportedValue.
        """
        names = list(zip(texts, places, strict=False))
        for text, place in names:
            if not text:
                raise empty_input(place)
            if self.cut.limit is None:
                check_text_length(text, self.tokenizer, self.model, param=place)
        frame = text_frame(self.tokenizer) if add_special_tokens else TextFrame()
        if self.prefix_ids:
            frame = TextFrame((*frame.before[:1], *self.prefix_ids, *frame.before[1:]), frame.behind)
        found = self.tokenizer.encode_batch(texts, add_special_tokens=False)
        return [self._framed(ids, frame, place) for ids, (_, place) in zip(found, names, strict=True)]

    def tokens(self, inputs: Sequence[Sequence[int]], *, places: Iterable[str]) -> list[ModelInput]:
        """Raises TokenOutOfVocabulary, ContextLengthExceeded, InvalidPrompt."""
        found = []
        for token_ids, place in zip(inputs, places, strict=False):
            if not token_ids:
                raise empty_input(place)
            check_vocabulary(token_ids, self.model, place)
            found.append(self._framed(token_ids, TextFrame(), place))
        return found

    def _framed(self, token_ids: Sequence[int], frame: TextFrame, place: str) -> ModelInput:
        kept = list(token_ids)
        if self.cut.limit is not None:
            kept = self.cut.kept(kept, self.room(frame.num_tokens))
        whole = frame.around(kept)
        self.cut.count(len(token_ids) + frame.num_tokens, len(whole))
        if not whole:
            raise empty_input(place)
        check_length(len(whole), self.model, place)
        return ModelInput(whole)

    def room(self, num_special: int) -> int:
        """Tokens that a cut leaves for texts. Raises UnsupportedValue when special tokens fill it."""
        limit = self.cut.limit or self.model.max_model_len
        if limit <= num_special:
            raise UnsupportedValue(
                f"truncate_prompt_tokens is {limit}, and the special tokens around a text alone are {num_special}; "
                "leave room for the text",
                param="truncate_prompt_tokens",
            )
        return limit - num_special


def places_of(name: str, is_list: bool) -> Iterable[str]:
    """`input` for one, `input.0`, `input.1` … for several."""
    return (f"{name}.{at}" for at in count()) if is_list else iter([name])


def empty_input(place: str) -> InvalidPrompt:
    return InvalidPrompt(f"{place} is empty; there is nothing to read in it, leave it out", param=place)


def check_length(num_tokens: int, model: ModelInfo, place: str) -> None:
    if num_tokens > model.max_model_len:
        raise ContextLengthExceeded(
            f"{place} has {num_tokens} tokens, the model takes {model.max_model_len} (max_model_len); shorten it, or "
            "send truncate_prompt_tokens: -1 to have it cut",
            param=place,
        )


def check_vocabulary(token_ids: Sequence[int], model: ModelInfo, place: str) -> None:
    if not 0 <= min(token_ids) <= max(token_ids) < model.vocab_size:
        at, wrong = next((at, one) for at, one in enumerate(token_ids) if not 0 <= one < model.vocab_size)
        raise TokenOutOfVocabulary(
            f"token id {wrong} is not in the vocabulary; ids go from 0 to {model.vocab_size - 1}",
            param=f"{place}.{at}",
        )
