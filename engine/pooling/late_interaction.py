"""What late interaction says in words, as the tokenizer's ids: marks, the token that fills up, tokens to skip."""

from __future__ import annotations

from typing import Any

from specserve.engine.api import QueryExpansion, Tokenizer
from specserve.engine.errors import UnsupportedModelError
from specserve.engine.pooling.folder import SentenceFolder

FILLERS = ("mask_token", "eos_token")
"""Names of the special tokens that fill up queries, the first one that the tokenizer has."""


def late_interaction_ids(folder: SentenceFolder, tokenizer: Tokenizer) -> dict[str, Any]:
    """The fields of ModelInfo. Raises UnsupportedModelError for a token that fills up and does not exist.

    Words that are no single token are not skipped: they would be unknown tokens, as others are too.
    """
    if not folder.is_late_interaction:
        return {}
    size = tokenizer.vocab_size
    known = {entry: at for at in range(size) if (entry := tokenizer.vocabulary_entry(at)) is not None}
    return {
        "query_prefix_ids": mark_ids(folder.query_prefix, known, tokenizer),
        "document_prefix_ids": mark_ids(folder.document_prefix, known, tokenizer),
        "query_expansion": expansion_of(folder, known, tokenizer),
        "skipped_document_ids": tuple(sorted(known[word] for word in set(folder.skipped_words) if word in known)),
    }


def mark_ids(mark: str, known: dict[str, int], tokenizer: Tokenizer) -> tuple[int, ...]:
    """A mark that the vocabulary has is one token, even where a text with its letters would not be."""
    for entry in (mark, mark.strip()):
        if entry in known:
            return (known[entry],)
    return tuple(tokenizer.encode(mark, add_special_tokens=False)) if mark.strip() else ()


def expansion_of(folder: SentenceFolder, known: dict[str, int], tokenizer: Tokenizer) -> QueryExpansion | None:
    wanted = folder.expansion
    if wanted is None:
        return None
    special = tokenizer.special_tokens
    token = wanted.token or next((special[name] for name in FILLERS if special.get(name)), None)
    if token is None or token not in known:
        raise UnsupportedModelError(
            f"queries are filled up with {token or 'a mask token'}, which the tokenizer does not have",
            "name another one in query_expansion, or set it to null",
        )
    return QueryExpansion(known[token], wanted.num_tokens, wanted.is_seen)
