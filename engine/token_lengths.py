"""How much text one token can stand for: what a text has at least in tokens is known before it is tokenized."""

from __future__ import annotations

import json
from typing import Any

from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers

from specserve.engine.segments import steps_of

COMPOSED = 4
"""As many characters at most are one after canonical composition (ᾂ: alpha and three marks)."""


def max_chars_per_token(backend: Backend) -> int | None:
    """The most characters of a text that become one token; None unless no part of a text can get lost.

    It can with unknown tokens, which stand for any number of characters, and where white space is dropped.
    """
    shrinking = shrinking_of(state_of(backend.normalizer))
    if shrinking is None or not keeps_everything(backend):
        return None
    added = backend.get_added_tokens_decoder().values()
    if any(token.lstrip or token.rstrip for token in added):
        return None
    return shrinking * max(map(len, backend.get_vocab(with_added_tokens=True)))


def state_of(part: Any) -> dict[str, Any] | None:
    """A normalizer or pre-tokenizer as `tokenizer.json` has it."""
    if part is None:
        return None
    state: dict[str, Any] = json.loads(part.__getstate__())
    return state


def shrinking_of(normalizer: dict[str, Any] | None) -> int | None:
    """How many characters may become one; None when that is not known."""
    if normalizer is None:
        return 1
    match normalizer["type"]:
        case "Sequence":
            most = 1
            for step in normalizer["normalizers"]:
                factor = shrinking_of(step)
                if factor is None:
                    return None
                most *= factor
            return most
        case "NFC":
            return COMPOSED
        case "Prepend" | "NFD":
            return 1
        case "Replace":
            pattern = normalizer["pattern"].get("String")
            return 1 if pattern is not None and len(pattern) <= len(normalizer["content"]) else None
    return None


def keeps_everything(backend: Backend) -> bool:
    """Whether each piece of a normalized text is in some token, and in no unknown one."""
    if not isinstance(backend.model, models.BPE):
        return False
    state = state_of(backend.pre_tokenizer)
    steps = [] if state is None else list(steps_of(state))
    if any(step.get("behavior") == "Removed" for step in steps):
        return False
    kinds = {step["type"] for step in steps}
    if kinds <= {"ByteLevel", "Split", "Digits"} and "ByteLevel" in kinds:
        return all(backend.token_to_id(byte) is not None for byte in pre_tokenizers.ByteLevel.alphabet())
    if kinds <= {"Metaspace", "Split", "Digits"} and backend.model.byte_fallback:
        return all(backend.token_to_id(f"<0x{byte:02X}>") is not None for byte in range(256))
    return False
