"""A small vocabulary with grammars over it, and requests that are somewhere inside of one."""

from __future__ import annotations

from typing import Any

import llguidance
import numpy as np
from naive_sampling import request

from specserve.engine.grammar_spec import GrammarSpec
from specserve.engine.grammars.compiler import GrammarCompiler
from specserve.engine.grammars.vocabulary import Vocabulary
from specserve.engine.request import Request

EOS = 256
WORDS = [bytes([first, second]) for first in b"abcdefgh01 " for second in b"abcdefgh0123456789 "]
VOCABULARY = Vocabulary([*(bytes([byte]) for byte in range(256)), b"\xff</s>", b"\xff<x>", *WORDS, *[b""] * 41], (EOS,))
SIZE = len(VOCABULARY.tokens)
COMPILER = GrammarCompiler(VOCABULARY)


def matcher(pattern: str) -> llguidance.LLMatcher:
    return COMPILER.compile(GrammarSpec(kind="regex", source=pattern))


def allowed_by(grammar: llguidance.LLMatcher) -> set[int]:
    """By the library's own mask, computed on a copy."""
    mask = np.frombuffer(grammar.deep_copy().compute_bitmask(), dtype=np.uint8)
    return set(np.flatnonzero(np.unpackbits(mask, count=SIZE, bitorder="little")).tolist())


def constrained(pattern: str | None, answer: bytes = b"", **params: Any) -> Request:
    """A request whose answer already has these bytes, a token each."""
    made = request(answer=tuple(answer), **params)
    if pattern is not None:
        made.matcher = matcher(pattern)
        assert all(made.matcher.consume_token(byte) for byte in answer)
    return made
