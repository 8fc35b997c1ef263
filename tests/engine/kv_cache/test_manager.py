"""Block tables: what a request finds, gets and gives back."""

from __future__ import annotations

import pytest

from specserve.engine.kv_cache.manager import KVCacheManager
from specserve.engine.params import SamplingParams
from specserve.engine.request import Request


def request(tokens: list[int], salt: str = "") -> Request:
    return Request("r", SamplingParams(max_tokens=9), tokens, len(tokens), cache_salt=salt)


def compute(cache: KVCacheManager, wanted: Request) -> int:
    """Take in the whole request; returns how many of its tokens were cached."""
    found = cache.get_computed_blocks(wanted)
    num_cached = len(found) * cache.block_size
    assert cache.allocate_slots(wanted, wanted.num_tokens - num_cached, found)
    wanted.num_computed_tokens = wanted.num_tokens
    cache.cache_full_blocks(wanted)
    return num_cached


def test_blocks_cover_the_tokens() -> None:
    cache = KVCacheManager(10, 4)
    wanted = request([1] * 9)
    assert compute(cache, wanted) == 0
    assert len(wanted.block_table) == 3
    assert cache.allocate_slots(wanted, 3)
    assert len(wanted.block_table) == 3
    assert cache.allocate_slots(wanted, 4)
    assert len(wanted.block_table) == 4
    assert cache.num_used_blocks == 4


def test_allocation_is_all_or_nothing() -> None:
    cache = KVCacheManager(4, 4)
    wanted = request([1] * 13)
    assert not cache.allocate_slots(wanted, 13)
    assert (wanted.block_table, cache.num_free_blocks) == ([], 3)
    assert not cache.allocate_slots(wanted, 12, reserve=1)
    assert cache.allocate_slots(wanted, 12)


def test_only_full_blocks_are_found() -> None:
    cache = KVCacheManager(10, 4)
    compute(cache, request([1, 2, 3, 4, 5, 6, 7]))
    assert compute(cache, request([1, 2, 3, 4, 5, 6, 7])) == 4


def test_the_whole_prompt_is_never_found() -> None:
    cache = KVCacheManager(10, 4)
    compute(cache, request([1] * 8))
    assert compute(cache, request([1] * 8)) == 4


def test_a_shared_block_outlives_either_holder() -> None:
    cache = KVCacheManager(10, 4)
    first, second = request([1] * 5), request([1] * 5)
    compute(cache, first)
    compute(cache, second)
    shared = first.block_table[0]
    assert second.block_table[0] == shared
    cache.free(first)
    assert cache.pool.num_references(shared) == 1
    cache.free(second)
    assert cache.num_used_blocks == 0


def test_a_cached_block_counts_as_needed_when_it_is_taken_back() -> None:
    cache = KVCacheManager(4, 4)
    first = request([1] * 9)
    compute(cache, first)
    cache.free(first)
    longer = request([1] * 13)
    found = cache.get_computed_blocks(longer)
    assert len(found) == 2
    assert not cache.allocate_slots(longer, 5, found)
    assert (cache.num_free_blocks, longer.num_computed_tokens) == (3, 0)


def test_the_end_of_a_sequence_is_evicted_before_its_beginning() -> None:
    cache = KVCacheManager(5, 4)
    first = request([1] * 16)
    compute(cache, first)
    cache.free(first)
    compute(cache, other := request([2] * 8))
    cache.free(other)
    assert compute(cache, request([1] * 9)) == 8


def test_a_request_that_computes_again_is_found_again() -> None:
    cache = KVCacheManager(5, 4)
    first = request([1] * 9)
    compute(cache, first)
    cache.free(first)
    compute(cache, other := request([2] * 16))
    cache.free(other)
    assert compute(cache, first) == 0
    cache.free(first)
    assert compute(cache, request([1] * 9)) == 8


def test_discarded_blocks_are_never_found() -> None:
    cache = KVCacheManager(10, 4)
    first = request([1] * 9)
    compute(cache, first)
    cache.discard(first)
    assert cache.num_used_blocks == 0
    assert compute(cache, request([1] * 9)) == 0


def test_a_reset_hides_everything_cached_so_far() -> None:
    cache = KVCacheManager(20, 4)
    running, waiting = request([1] * 9), request([1] * 9)
    compute(cache, running)
    cache.get_computed_blocks(waiting)
    cache.reset_prefix_cache()
    assert compute(cache, waiting) == 0
    assert compute(cache, request([1] * 9)) == 8, "what was computed since is found"
    running.token_ids += [1] * 4
    assert cache.allocate_slots(running, 4)
    running.num_computed_tokens += 4
    cache.cache_full_blocks(running)
    assert compute(cache, request([1] * 13)) == 8, "what began before the reset stays hidden"


def test_salts_separate_and_switching_off_finds_nothing() -> None:
    cache = KVCacheManager(20, 4)
    compute(cache, request([1] * 9, "a"))
    assert compute(cache, request([1] * 9, "b")) == 0
    assert compute(cache, request([1] * 9, "a")) == 8
    off = KVCacheManager(20, 4, enable_prefix_caching=False)
    compute(off, request([1] * 9))
    assert compute(off, request([1] * 9)) == 0


def test_a_block_holds_at_least_one_token() -> None:
    with pytest.raises(ValueError, match="block_size is 0"):
        KVCacheManager(4, 0)
