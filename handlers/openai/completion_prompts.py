"""The prompts of a completion request as token ids, and how they read when they are echoed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from specserve.engine.api import ModelInfo, Tokenizer
from specserve.engine.detokenizer import Detokenizer
from specserve.engine.prompt_embeds import decode_prompt_embeds, placeholder_ids
from specserve.generated import schemas
from specserve.generated.errors import (
    InvalidParameterCombination,
    InvalidPrompt,
    MissingRequiredParameter,
    UnsupportedParameter,
)
from specserve.handlers.openai.fill_in_middle import FillInMiddle
from specserve.handlers.sampling import check_vocabulary, room_for_answer
from specserve.handlers.text_work import check_text_length
from specserve.handlers.truncation import Truncation


@dataclass(frozen=True, slots=True)
class CompletionPrompt:
    """What the model reads, and what `echo` shows of it.

    embeds  a file of embeddings instead of tokens; the ids are then only placeholders
    echo    the text as it was sent; of a prompt of token ids, or one that was cut, the text of the tokens
    starts  where in `echo` each token begins, in characters
    rest    what the beginning of an unfinished last character reads as, if no token follows to complete it
    """

    token_ids: list[int]
    echo: str = ""
    starts: list[int] = field(default_factory=list)
    rest: str = ""
    embeds: bytes | None = None


@dataclass(slots=True)
class TextPlaces:
    """Where the tokens of a text begin in it, in characters, as they come.

    A character whose bytes are spread over tokens belongs to the last of them; a special token that the text leaves
    out has no length.
    """

    detokenizer: Detokenizer
    tokenizer: Tokenizer
    end: int = 0

    def advance(self, token_id: int) -> tuple[int, str]:
        """Where this token begins, and the text that became certain with it."""
        begins = self.end
        text = self.detokenizer.append(token_id)
        self.end += len(text)
        own = self.tokenizer.token_text(token_id)
        if len(text) > len(own) and own and text.endswith(own):
            begins = self.end - len(own)  # before it is what earlier tokens left unfinished
        return begins, text


@dataclass(slots=True)
class PromptReader:
    """Reads all prompts of one request; tokenizing takes time, so `read` runs in a worker thread."""

    body: schemas.CompletionRequest
    tokenizer: Tokenizer
    model: ModelInfo
    truncation: Truncation
    fill: FillInMiddle | None = None

    @classmethod
    def of(cls, body: schemas.CompletionRequest, tokenizer: Tokenizer, model: ModelInfo) -> PromptReader:
        """Raises UnsupportedParameter or InvalidParameterCombination for what no prompt could change."""
        truncation = Truncation.of(body.truncate_prompt_tokens, body.truncation_side, model)
        reader = cls(body, tokenizer, model, truncation)
        if body.prompt_embeds:
            for name in ("echo", "prompt_logprobs", "suffix", "use_beam_search", "truncate_prompt_tokens"):
                if getattr(body, name) not in (None, False, ""):
                    raise InvalidParameterCombination(
                        f"{name} needs the prompt's tokens, which prompt_embeds does not have; leave one out",
                        param=name,
                    )
        if body.suffix:
            if body.echo and body.logprobs is not None:
                raise InvalidParameterCombination(
                    "echo together with logprobs has no place for a suffix; leave one of the three out", param="suffix"
                )
            if body.truncate_prompt_tokens is not None:
                raise InvalidParameterCombination(
                    "truncate_prompt_tokens would cut the marks around the suffix; shorten prompt and suffix instead",
                    param="truncate_prompt_tokens",
                )
        return reader

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Tokens that end the answer besides the model's own and those the request names."""
        return () if self.fill is None else self.fill.end_ids

    def read(self) -> list[CompletionPrompt]:
        """Embedded prompts come first. Raises InvalidPrompt, ContextLengthExceeded, TokenOutOfVocabularyError,
        UnsupportedParameter for a suffix, and what `decode_prompt_embeds` raises.
        """
        embedded = self.body.prompt_embeds or []
        files = [embedded] if isinstance(embedded, str) else embedded
        found = [self._read_embeds(file) for file in files]
        if self.body.suffix:
            self.fill = FillInMiddle.of(self.tokenizer)
            if self.fill is None:
                raise UnsupportedParameter(
                    "suffix needs a model with fill-in-the-middle tokens, which this one's vocabulary has not; "
                    "leave it out",
                    param="suffix",
                )
        prompt = self.body.prompt
        is_one = isinstance(prompt, str) or (prompt and isinstance(prompt[0], int))
        sent = cast(Sequence[str | list[int]], [prompt] if is_one else prompt or [])
        if not sent and not found:
            if "prompt" not in self.body.model_fields_set:
                raise MissingRequiredParameter("prompt is missing; send text or token ids to continue", param="prompt")
            raise empty_prompt()
        return found + [self._read_one(one) for one in sent]

    def _read_embeds(self, encoded: str) -> CompletionPrompt:
        data = decode_prompt_embeds(encoded, self.model)
        return CompletionPrompt(placeholder_ids(data), embeds=data)

    def _read_one(self, sent: str | list[int]) -> CompletionPrompt:
        if not sent:
            raise empty_prompt()
        if not isinstance(sent, str):
            kept = self.truncation.cut(sent)
            room_for_answer(len(kept), self.model, param="prompt", is_answered=False)
            check_vocabulary(kept, self.model, param="prompt")
        elif self.truncation.limit is None:
            check_text_length(sent, self.tokenizer, self.model, param="prompt")
        if self.body.suffix and self.fill is not None:
            check_text_length(self.body.suffix, self.tokenizer, self.model, param="suffix")
            return self._read_gap(sent, self.fill, self.body.suffix)
        if not isinstance(sent, str):
            return self._echoing(kept)
        starts: list[int] = []
        if self.body.echo and self.body.logprobs is not None:
            token_ids, starts = self.tokenizer.encode_with_starts(sent, add_special_tokens=self.body.add_special_tokens)
        else:
            token_ids = self.tokenizer.encode(sent, add_special_tokens=self.body.add_special_tokens)
        if not token_ids:
            raise empty_prompt()
        limit = self.truncation.limit
        if limit is not None and len(token_ids) > limit:
            return self._echoing(self.truncation.cut(token_ids, num_leading=self._num_leading(sent, token_ids)))
        self.truncation.cut(token_ids)
        return CompletionPrompt(token_ids, sent if self.body.echo else "", starts)

    def _read_gap(self, sent: str | list[int], fill: FillInMiddle, suffix: str) -> CompletionPrompt:
        """`echo` shows the prompt, not the suffix, which follows the answer."""
        prefix = self.tokenizer.encode(sent, add_special_tokens=False) if isinstance(sent, str) else sent
        leading: list[int] = []
        if isinstance(sent, str) and self.body.add_special_tokens:
            whole = self.tokenizer.encode(sent, add_special_tokens=True)
            leading = whole[: num_leading(whole, prefix)]
        token_ids = fill.prompt(self.tokenizer, leading, prefix, suffix)
        if not self.body.echo:
            return CompletionPrompt(token_ids)
        return CompletionPrompt(token_ids, sent if isinstance(sent, str) else self._echoing(prefix).echo)

    def _num_leading(self, sent: str, token_ids: list[int]) -> int:
        if not self.body.add_special_tokens:
            return 0
        return num_leading(token_ids, self.tokenizer.encode(sent, add_special_tokens=False))

    def _echoing(self, token_ids: list[int]) -> CompletionPrompt:
        """A prompt that reads as its tokens do."""
        if not self.body.echo:
            return CompletionPrompt(token_ids)
        detokenizer = Detokenizer(self.tokenizer, skip_special_tokens=self.body.skip_special_tokens)
        places = TextPlaces(detokenizer, self.tokenizer)
        read = [places.advance(token_id) for token_id in token_ids]
        text = "".join(text for _, text in read)
        return CompletionPrompt(token_ids, text, [begins for begins, _ in read], detokenizer.flush())


def num_leading(token_ids: Sequence[int], without: Sequence[int]) -> int:
    """How many special tokens `token_ids` has before those of the text, `without`."""
    extra = len(token_ids) - len(without)
    fits = (at for at in range(extra + 1) if list(token_ids[at : at + len(without)]) == list(without))
    return next(fits, 0)


def empty_prompt() -> InvalidPrompt:
    return InvalidPrompt("prompt is empty; send text or token ids to continue", param="prompt")
