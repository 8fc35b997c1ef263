"""Reference counts, and the order in which free blocks are handed out again."""

from __future__ import annotations

import pytest

from specserve.engine.kv_cache.blocks import DUMMY_BLOCK, BlockPool


def test_the_dummy_block_is_never_handed_out() -> None:
    pool = BlockPool(5)
    assert sorted(pool.allocate() for _ in range(4)) == [1, 2, 3, 4]
    assert DUMMY_BLOCK == 0
    with pytest.raises(IndexError, match="all 4 blocks"):
        pool.allocate()


def test_the_dummy_block_cannot_be_shared_or_released() -> None:
    pool = BlockPool(3)
    with pytest.raises(KeyError):
        pool.share(DUMMY_BLOCK)
    with pytest.raises(ValueError, match="block 0 is freed twice"):
        pool.release(DUMMY_BLOCK)


def test_a_block_is_free_when_its_last_holder_lets_go() -> None:
    pool = BlockPool(3)
    block = pool.allocate()
    pool.share(block)
    pool.release(block)
    assert (pool.num_used, pool.num_free, pool.num_references(block)) == (1, 1, 1)
    pool.release(block)
    assert (pool.num_used, pool.num_free) == (0, 2)


def test_freeing_twice_is_an_error() -> None:
    pool = BlockPool(3)
    block = pool.allocate()
    pool.release(block)
    with pytest.raises(ValueError, match=f"block {block} is freed twice"):
        pool.release(block)


def test_a_cached_block_is_found_until_it_is_handed_out_again() -> None:
    pool = BlockPool(2)
    block = pool.allocate()
    pool.register(block, b"h")
    pool.release(block)
    assert pool.lookup(b"h") == block
    pool.share(block)
    assert pool.num_free == 0
    pool.release(block)
    assert pool.allocate() == block
    assert pool.lookup(b"h") is None


def test_free_blocks_are_reused_longest_free_first_and_those_without_content_before_all() -> None:
    pool = BlockPool(5)
    blocks = [pool.allocate() for _ in range(4)]
    for block in blocks[:3]:
        pool.register(block, bytes([block]))
    for block in (blocks[1], blocks[0], blocks[2], blocks[3]):
        pool.release(block)
    assert [pool.allocate() for _ in range(4)] == [blocks[3], blocks[1], blocks[0], blocks[2]]


def test_a_block_used_again_counts_as_fresh() -> None:
    pool = BlockPool(3)
    first, second = pool.allocate(), pool.allocate()
    for block in (first, second):
        pool.register(block, bytes([block]))
        pool.release(block)
    pool.share(first)
    pool.release(first)
    assert pool.allocate() == second


def test_the_first_block_registered_under_a_hash_stays() -> None:
    pool = BlockPool(3)
    first, second = pool.allocate(), pool.allocate()
    pool.register(first, b"h")
    pool.register(second, b"h")
    assert pool.lookup(b"h") == first
    pool.forget(second)
    assert pool.lookup(b"h") == first
    pool.forget(first)
    assert pool.lookup(b"h") is None


def test_a_pool_needs_a_block_besides_the_dummy() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        BlockPool(1)
