"""Block hashes depend on everything before them, and on nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specserve.engine.kv_cache.hashing import HASH_BYTES, extend_block_hashes, hash_block, root_hash

TOKENS = st.lists(st.integers(0, 2**31 - 1), max_size=40)


def hashes(tokens: list[int], salt: str = "") -> list[bytes]:
    found: list[bytes] = []
    extend_block_hashes(found, tokens, 4, root_hash(salt))
    return found


@given(first=TOKENS, second=TOKENS)
def test_hashes_are_equal_exactly_as_far_as_the_tokens_are(first: list[int], second: list[int]) -> None:
    for index, (one, other) in enumerate(zip(hashes(first), hashes(second), strict=False)):
        end = (index + 1) * 4
        assert (one == other) == (first[:end] == second[:end])


@given(tokens=TOKENS, cut=st.integers(0, 40))
def test_hashing_goes_on_where_it_stopped(tokens: list[int], cut: int) -> None:
    found: list[bytes] = []
    for part in (tokens[:cut], tokens):
        extend_block_hashes(found, part, 4, root_hash(""))
    assert found == hashes(tokens)
    assert len(found) == len(tokens) // 4


def test_salts_and_epochs_separate_chains() -> None:
    roots = [root_hash(""), root_hash("a"), root_hash("", 1), root_hash("1:"), root_hash("a", 1), root_hash("\ud800")]
    assert len(set(roots)) == len(roots)
    assert hashes([1, 2, 3, 4], "a") != hashes([1, 2, 3, 4], "b")


def test_other_content_separates_blocks() -> None:
    assert hash_block(b"p", [1], b"image") != hash_block(b"p", [1])
    assert len(hash_block(b"p", [1])) == HASH_BYTES


def test_ids_beyond_32_bits_are_an_error() -> None:
    with pytest.raises(OverflowError):
        hash_block(b"p", [2**31])
