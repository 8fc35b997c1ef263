"""Answers of gpt-oss: thoughts and remarks first, then a call or the final message."""

from __future__ import annotations

from collections.abc import Sequence

from specserve.handlers.chat.call_grammars.pieces import (
    Format,
    WrittenTool,
    either,
    optional,
    repeat,
    sequence,
    text,
    up_to,
)

NEXT = "<|end|><|start|>assistant"


def harmony_answer(tools: Sequence[WrittenTool], final: Format | None) -> Format:
    """`final` is the constraint of the last message, None for any text. An answer ends with its call."""
    before = [sequence(text(f"<|channel|>{channel}<|message|>"), up_to(NEXT)) for channel in ("analysis", "commentary")]
    last = sequence(text("<|channel|>final<|message|>"), {"type": "any_text"} if final is None else final)
    calls = [
        sequence(text(f"{header}<|message|>"), tool.arguments)
        for tool in tools
        for header in (
            f"<|channel|>commentary to=functions.{tool.name} <|constrain|>json",
            f" to=functions.{tool.name}<|channel|>commentary <|constrain|>json",
        )
    ]
    return sequence(optional(repeat(either(*before), text(""))), either(last, *calls))
