"""Token ids of pieces of text seen before: a conversation that comes back is tokenized from its new message on.

Tokenizers cut a text at its special tokens before anything else, so what stands between two of them becomes the same
ids whatever is around it. Chat templates put such tokens around every message.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from threading import Lock
from typing import Any

from tokenizers import Tokenizer as Backend

MAX_CACHED_IDS = 500_000
"""About 20 MB of ids and as much text again at most."""
LOCAL_STEPS = frozenset(["ByteLevel", "Split", "Digits", "Punctuation", "Whitespace", "WhitespaceSplit"])
"""Pre-tokenizers that do not ask where in the text a piece stands."""


class SegmentEncoder:
    """Encodes without special tokens around the text. Exactly what the backend makes of the whole; thread-safe."""

    def __init__(self, backend: Backend, special_ids: dict[str, int], max_cached_ids: int = MAX_CACHED_IDS) -> None:
        """`special_ids` are the tokens that are cut out first; see `special_ids_of`."""
        self._backend = backend
        self._special_ids = special_ids
        longest_first = sorted(special_ids, key=len, reverse=True)  # the longest of several at one place wins
        self._border = re.compile(f"({'|'.join(map(re.escape, longest_first))})")
        self._cached: dict[str, list[int]] = {}
        self._max_cached_ids = self._room = max_cached_ids
        self._lock = Lock()

    @property
    def num_cached_ids(self) -> int:
        return self._max_cached_ids - self._room

    def encode(self, text: str) -> list[int]:
        pieces = self._border.split(text)
        if len(pieces) == 1:  # no template wrote this: it is not kept
            return encode_alone(self._backend, text)
        known = {
            piece: self._cached.get(piece) or encode_alone(self._backend, piece)
            for piece in dict.fromkeys(pieces[::2])
            if piece
        }
        self._keep(known)
        ids: list[int] = []
        for number, piece in enumerate(pieces):
            if number % 2:
                ids.append(self._special_ids[piece])
            elif piece:
                ids += known[piece]
        return ids

    def _keep(self, used: dict[str, list[int]]) -> None:
        """The pieces used last stand at the end; the first ones make room."""
        with self._lock:
            for piece, ids in used.items():
                if self._cached.pop(piece, None) is None:
                    self._room -= len(ids)
                self._cached[piece] = ids
            while self._room < 0:
                oldest = next(iter(self._cached))
                self._room += len(self._cached.pop(oldest))


def encode_alone(backend: Backend, text: str, *, add_special_tokens: bool = False) -> list[int]:
    """Unlike the library's plain `encode` its batches release the interpreter lock, and these leave out offsets."""
    ids: list[int] = backend.encode_batch_fast([text], add_special_tokens=add_special_tokens)[0].ids
    return ids


def special_ids_of(backend: Backend) -> dict[str, int] | None:
    """The tokens a text may be cut at; None when pieces of it would not always become what they are in the whole.

    That is so for tokens that take white space or whole words with them, and for pre-tokenizers that treat the
    beginning of a text in their own way.
    """
    if backend.encode_special_tokens:
        return None
    pre_tokenizer = None if backend.pre_tokenizer is None else json.loads(backend.pre_tokenizer.__getstate__())
    if pre_tokenizer is not None and not all(map(is_local, steps_of(pre_tokenizer))):
        return None
    found: dict[str, int] = {}
    for token_id, token in backend.get_added_tokens_decoder().items():
        if token.normalized:  # found within the pieces, after these are normalized
            continue
        if token.lstrip or token.rstrip or token.single_word:
            return None
        found[token.content] = token_id
    return found or None


def steps_of(pre_tokenizer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if pre_tokenizer["type"] != "Sequence":
        yield pre_tokenizer
        return
    for step in pre_tokenizer["pretokenizers"]:
        yield from steps_of(step)


def is_local(step: dict[str, Any]) -> bool:
    if step["type"] == "Metaspace":
        return bool(step["prepend_scheme"] != "first")
    return step["type"] in LOCAL_STEPS
