"""From a limit on reasoning to what the engine counts: the marks of the model's format as its tokens."""

from __future__ import annotations

from specserve.engine.api import Tokenizer
from specserve.engine.thought_limit import ThoughtLimit
from specserve.generated.errors import UnsupportedParameter
from specserve.handlers.chat.answer_formats import AnswerFormats
from specserve.handlers.chat.reasoning_formats.think import Opening

BEFORE = ("", "\n", "\n\n", " ", ".", ".\n", "x")
AFTER = ("", "\n", "\n\n", " ", "x")
"""What stands beside a mark can be in one token with a part of it."""
ANALYSIS, ANALYSIS_END = "<|channel|>analysis<|message|>", "<|end|>"


def thought_limit(
    max_tokens: int,
    formats: AnswerFormats,
    opening: Opening | None,
    tokenizer: Tokenizer,
    *,
    param: str | None = "thinking_token_budget",
) -> ThoughtLimit | None:
    """None where an answer to this prompt begins without a thought. Raises UnsupportedParameter naming `param` where
    this server does not know how its model thinks; without a `param` there is then no limit.
    """
    if formats.is_harmony:
        return ThoughtLimit(
            max_tokens=max_tokens,
            starts=spellings(tokenizer, ANALYSIS),
            ends=spellings(tokenizer, ANALYSIS_END),
            closing=plain_spelling(tokenizer, ANALYSIS_END),
        )
    think = formats.reasoning.think if formats.reasoning is not None else None
    if think is None and param is None:
        return None
    if think is None:
        raise UnsupportedParameter(
            f"{param} counts what the model thinks, but its chat template shows no reasoning; start the server with "
            "--reasoning-parser, or leave it out",
            param=param,
        )
    if opening == "closed":
        return None
    return ThoughtLimit(
        max_tokens=max_tokens,
        starts=tuple(found for mark in think.starts for found in spellings(tokenizer, mark.rstrip())),
        ends=tuple(found for mark in (*think.ends, *think.also_ends) for found in spellings(tokenizer, mark)),
        closing=plain_spelling(tokenizer, think.ends[0]),
        is_open=opening == "open" or think.always_thinks,
    )


def spellings(tokenizer: Tokenizer, mark: str) -> tuple[tuple[int, ...], ...]:
    """The tokens that a mark is spread over, in every surrounding that matters; the longest first."""
    found = {tokens_of(tokenizer, mark, before, after) for before in BEFORE for after in AFTER}
    return tuple(sorted(found, key=lambda tokens: (-len(tokens), tokens)))


def plain_spelling(tokenizer: Tokenizer, mark: str) -> tuple[int, ...]:
    """Tokens that say the mark and nothing else, wherever they stand."""
    in_text = tokens_of(tokenizer, mark, "\n", "\n")
    return in_text if tokenizer.decode(in_text) == mark else tuple(tokenizer.encode(mark, add_special_tokens=False))


def tokens_of(tokenizer: Tokenizer, mark: str, before: str, after: str) -> tuple[int, ...]:
    token_ids, starts = tokenizer.encode_with_starts(before + mark + after, add_special_tokens=False)
    ends = [*starts[1:], len(before + mark + after)]
    begin, end = len(before), len(before + mark)
    spread = zip(token_ids, starts, ends, strict=True)
    return tuple(token_id for token_id, first, last in spread if first < end and last > begin)
