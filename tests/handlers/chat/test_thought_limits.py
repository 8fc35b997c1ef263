"""Marks of reasoning become the tokens that a tokenizer makes of them, whatever stands beside them."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_engine import TOKENIZER
from hypothesis import given
from hypothesis import strategies as st
from trained_tokenizers import byte_level

from specserve.engine.tokenizer import load_tokenizer
from specserve.generated.errors import UnsupportedParameter
from specserve.handlers.chat.answer_formats import AnswerFormats
from specserve.handlers.chat.reasoning_formats.registry import REASONING_FORMATS
from specserve.handlers.chat.thought_limits import plain_spelling, spellings, thought_limit
from specserve.handlers.chat.tool_formats.registry import TOOL_FORMATS

QWEN = AnswerFormats(tools=None, reasoning=REASONING_FORMATS["qwen3"])


@given(st.sampled_from(["", "a", "\n", " ", "end.", "\n\n"]), st.sampled_from(["", "\n\n", " b", "c"]))
def test_a_mark_is_found_in_every_surrounding(before: str, after: str) -> None:
    token_ids = TOKENIZER.encode(f"{before}</think>{after}", add_special_tokens=False)
    found = spellings(TOKENIZER, "</think>")
    assert any(tuple(token_ids[at : at + len(each)]) == each for each in found for at in range(len(token_ids))), (
        token_ids
    )


def test_a_mark_of_several_tokens_is_closed_by_exactly_its_text(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(byte_level(tmp_path))
    closing = plain_spelling(tokenizer, "[/THINK]")
    assert len(closing) > 1
    assert tokenizer.decode(closing) == "[/THINK]"
    assert closing in spellings(tokenizer, "[/THINK]")


def test_where_nothing_is_thought_there_is_nothing_to_count() -> None:
    assert thought_limit(5, QWEN, "closed", TOKENIZER) is None
    with pytest.raises(UnsupportedParameter) as refused:
        thought_limit(5, AnswerFormats(tools=None, reasoning=None), None, TOKENIZER, param="thinking.budget_tokens")
    assert refused.value.param == "thinking.budget_tokens"


def test_the_prompt_tells_whether_the_thought_has_begun() -> None:
    opened, silent = (thought_limit(5, QWEN, opening, TOKENIZER) for opening in ("open", "none"))  # type: ignore[arg-type]
    assert opened is not None
    assert silent is not None
    assert (opened.is_open, silent.is_open, opened.max_tokens) == (True, False, 5)
    always = AnswerFormats(tools=None, reasoning=REASONING_FORMATS["deepseek_r1"])
    limit = thought_limit(5, always, "none", TOKENIZER)
    assert limit is not None
    assert limit.is_open


def test_gpt_oss_is_counted_in_its_analysis() -> None:
    limit = thought_limit(5, AnswerFormats(tools=TOOL_FORMATS["openai"], reasoning=None), None, TOKENIZER)
    assert limit is not None
    assert TOKENIZER.decode(limit.closing) == "<|end|>"
