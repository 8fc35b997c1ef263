"""The bytes of every token, as grammars need them: what a tokenizer knows, without the tokenizer."""

from __future__ import annotations

from collections.abc import Sequence

import llguidance
import msgspec

from specserve.engine.api import Tokenizer
from specserve.engine.errors import UnsupportedFeatureError

SPECIAL_MARK = b"\xff"
"""Put before a special token's bytes: 0xFF never occurs in UTF-8, so no text of a grammar is spelled with it."""


class Vocabulary(msgspec.Struct, frozen=True):
    """`tokens[i]` are the bytes of token i; empty for ids that stand for nothing. As long as a row of logits."""

    tokens: list[bytes]
    eos_token_ids: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: Tokenizer, vocab_size: int, eos_token_ids: Sequence[int]) -> Vocabulary:
        """`vocab_size` is the model's number of output rows. Raises UnsupportedFeatureError.

        Takes tens of milliseconds for a large vocabulary.
        """
        spelling = tokenizer.spelling
        if spelling is None:
            raise UnsupportedFeatureError(
                "the text of this model's tokens depends on their neighbours, so its output cannot be constrained; "
                "serve a model with a byte-level or SentencePiece tokenizer"
            )
        if not eos_token_ids:
            raise UnsupportedFeatureError(
                "this model has no end token, so an answer that may stop or go on cannot be constrained; "
                "name one as eos_token_id in generation_config.json"
            )
        ends = frozenset(eos_token_ids)
        tokens = []
        for token_id in range(vocab_size):
            spelled = tokenizer.token_bytes(token_id) if token_id < tokenizer.vocab_size else b""
            if spelled and (token_id in spelling.special_ids or token_id in ends):
                spelled = SPECIAL_MARK + spelled
            tokens.append(spelled)
        return cls(tokens, tuple(id_ for id_ in eos_token_ids if 0 <= id_ < vocab_size))

    @property
    def special_ids(self) -> dict[str, int]:
        """Special tokens by their texts, those that end an answer left out."""
        ends = frozenset(self.eos_token_ids)
        return {
            spelled[len(SPECIAL_MARK) :].decode(errors="replace"): token_id
            for token_id, spelled in enumerate(self.tokens)
            if spelled.startswith(SPECIAL_MARK) and token_id not in ends
        }

    def index(self) -> llguidance.LLTokenizer:
        """The library's own form: a trie over all tokens. Takes most of a second for 150 000 tokens, and 100 MB."""
        source = llguidance.TokenizerWrapper(_Tokens(self))
        return llguidance.LLTokenizer(source, len(self.tokens), list(self.eos_token_ids))


class _Tokens:
    """What `llguidance.TokenizerWrapper` reads. Texts are never encoded: masks need the bytes of tokens only."""

    bos_token_id = None

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.tokens = vocabulary.tokens
        self.eos_token_id = vocabulary.eos_token_ids[0]
        self.special_token_ids = [
            token_id for token_id, spelled in enumerate(vocabulary.tokens) if spelled.startswith(SPECIAL_MARK)
        ]

    def __call__(self, text: bytes) -> list[int]:
        return []
