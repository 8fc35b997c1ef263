"""Prompts with a suffix: the model writes what stands between the two, if its vocabulary has tokens for that.

Each family of code models was trained on its own marks and order. Sources: the model cards and papers of SantaCoder,
StarCoder and StarCoder2, Granite, CodeGemma, Qwen2.5-Coder, DeepSeek-Coder, Code Llama (Rozière et al. 2023, section
2.3), Codestral (mistral-common) and Seed-Coder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from specserve.engine.api import Tokenizer

ANCHOR = "☺"
"""A character that no suffix begins with, to keep a tokenizer from putting a space before the suffix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """How a family writes a prompt with a gap.

    prefix_first    begin prefix hole suffix middle
    suffix first    hole suffix begin prefix middle
    ends            tokens, as far as the vocabulary has them, with which the middle may end besides the model's own
    bare_suffix     the suffix has no space put before it, though the tokenizer would
    """

    begin: str
    hole: str
    middle: str | None
    prefix_first: bool = True
    ends: tuple[str, ...] = ()
    bare_suffix: bool = False


FAMILIES = (
    # Qwen2.5-Coder, CodeGemma, Granite 3 and later
    Marks(
        begin="<|fim_prefix|>",
        hole="<|fim_suffix|>",
        middle="<|fim_middle|>",
        ends=("<|endoftext|>", "<|fim_pad|>", "<|file_separator|>", "<|file_sep|>", "<|repo_name|>"),
    ),
    # StarCoder, StarCoder2, Granite Code
    Marks(
        begin="<fim_prefix>",
        hole="<fim_suffix>",
        middle="<fim_middle>",
        ends=("<|endoftext|>", "<fim_pad>", "<file_sep>", "<repo_name>"),
    ),
    # SantaCoder
    Marks(begin="<fim-prefix>", hole="<fim-suffix>", middle="<fim-middle>", ends=("<|endoftext|>", "<fim-pad>")),
    # DeepSeek-Coder
    Marks(begin="<｜fim▁begin｜>", hole="<｜fim▁hole｜>", middle="<｜fim▁end｜>"),
    # Code Llama
    Marks(begin="▁<PRE>", hole="▁<SUF>", middle="▁<MID>", ends=("▁<EOT>",), bare_suffix=True),
    # Codestral
    Marks(begin="[PREFIX]", hole="[SUFFIX]", middle=None, prefix_first=False, bare_suffix=True),
    # Seed-Coder
    Marks(begin="<[fim-prefix]>", hole="<[fim-suffix]>", middle="<[fim-middle]>", prefix_first=False),
)


@dataclass(frozen=True, slots=True)
class FillInMiddle:
    """One family's marks as tokens of a vocabulary."""

    marks: Marks
    begin: int
    hole: int
    middle: tuple[int, ...]
    end_ids: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> FillInMiddle | None:
        """None when the vocabulary has the marks of no family."""
        for marks in FAMILIES:
            names = [name for name in (marks.begin, marks.hole, marks.middle) if name is not None]
            found = [token_of(tokenizer, name) for name in names]
            if None in found:
                continue
            begin, hole, *middle = [token_id for token_id in found if token_id is not None]
            ends = [token_of(tokenizer, name) for name in marks.ends]
            return cls(marks, begin, hole, tuple(middle), tuple(token_id for token_id in ends if token_id is not None))
        return None

    def prompt(self, tokenizer: Tokenizer, leading: Sequence[int], prefix: Sequence[int], suffix: str) -> list[int]:
        """`leading` are the special tokens that begin every prompt."""
        after = encode_bare(tokenizer, suffix) if self.marks.bare_suffix else encode(tokenizer, suffix)
        if self.marks.prefix_first:
            return [*leading, self.begin, *prefix, self.hole, *after, *self.middle]
        return [*leading, self.hole, *after, self.begin, *prefix, *self.middle]


def token_of(tokenizer: Tokenizer, name: str) -> int | None:
    """The token that is written so, if it is one token."""
    token_ids = encode(tokenizer, name)
    if len(token_ids) != 1 or tokenizer.token_text(token_ids[0]).replace("▁", " ") != name.replace("▁", " "):
        return None
    return token_ids[0]


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False)


def encode_bare(tokenizer: Tokenizer, text: str) -> list[int]:
    """The tokens of a text that goes on in another one."""
    anchor, both = encode(tokenizer, ANCHOR), encode(tokenizer, ANCHOR + text)
    return both[len(anchor) :] if both[: len(anchor)] == anchor else encode(tokenizer, text)
