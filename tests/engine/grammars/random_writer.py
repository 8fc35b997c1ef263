"""Writes answers at random, as a model with random weights would: any token that the mask allows."""

from __future__ import annotations

import random

import llguidance
import numpy as np
from numpy.typing import NDArray

from specserve.engine.grammars.vocabulary import Vocabulary

ENDING = 0.15
"""Chance to take an end token, or one that closes a text, where it is allowed: else strings rarely end."""


def allowed_tokens(matcher: llguidance.LLMatcher, vocab_size: int) -> NDArray[np.intp]:
    bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
    return np.flatnonzero(np.unpackbits(bits, bitorder="little")[:vocab_size])


def write(matcher: llguidance.LLMatcher, vocabulary: Vocabulary, seed: int, max_tokens: int = 600) -> bytes | None:
    """The bytes of an answer that ended; None when it was cut off."""
    dice = random.Random(seed)
    writing = matcher.deep_copy()
    closing = np.array([spelled in (b'"', b"]", b"}") for spelled in vocabulary.tokens])
    closing[list(vocabulary.eos_token_ids)] = True
    answer = bytearray()
    for _ in range(max_tokens):
        if writing.is_stopped():
            return bytes(answer)
        allowed = allowed_tokens(writing, len(vocabulary.tokens))
        if dice.random() < ENDING and len(ends := allowed[closing[allowed]]):
            allowed = ends
        token_id = int(allowed[dice.randrange(len(allowed))])
        assert writing.consume_token(token_id), writing.get_error()
        if token_id in vocabulary.eos_token_ids:
            return bytes(answer)
        answer += vocabulary.tokens[token_id]
    return None
