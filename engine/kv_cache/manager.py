"""Which blocks a request holds: prefix lookup, allocation, release. The tensors live in the runner.

Only full blocks are shared, only after the step that computed them: a shared block is never written again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from specserve.engine.kv_cache.blocks import BlockPool
from specserve.engine.kv_cache.hashing import extend_block_hashes, root_hash
from specserve.engine.request import Request


class KVCacheManager:
    """Block tables of requests over one pool of `num_blocks` blocks with `block_size` token slots each.

    `num_blocks` includes the dummy block 0; `num_usable_blocks` is one less.
    """

    def __init__(self, num_blocks: int, block_size: int, enable_prefix_caching: bool = True) -> None:
        if block_size < 1:
            raise ValueError(f"block_size is {block_size}, but a block holds at least one token")
        self.block_size = block_size
        self.enable_prefix_caching = enable_prefix_caching
        self.pool = BlockPool(num_blocks)
        self._epoch = 0

    @property
    def num_usable_blocks(self) -> int:
        return self.pool.num_usable

    @property
    def num_free_blocks(self) -> int:
        return self.pool.num_free

    @property
    def num_used_blocks(self) -> int:
        """Blocks held by requests, a shared one counted once."""
        return self.pool.num_used

    @property
    def capacity_tokens(self) -> int:
        """The longest sequence whose KV fits when it has the pool for itself."""
        return self.pool.num_usable * self.block_size

    def num_blocks_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)

    def num_freed_by(self, requests: Sequence[Request]) -> int:
        """Blocks that nobody would hold any more if all of `requests` gave theirs back."""
        holders = Counter(block for request in requests for block in request.block_table)
        return sum(1 for block, count in holders.items() if self.pool.num_references(block) == count)

    def _root_of(self, request: Request) -> bytes:
        adapter_id = 0 if request.adapter is None else request.adapter.adapter_id
        return root_hash(request.cache_salt, self._epoch, adapter_id)

    def get_computed_blocks(self, request: Request) -> list[int]:
        """The longest cached prefix of `request`, as blocks; nothing is held yet.

        Never more than `request.num_reusable_tokens`: the logits of the others are needed.
        """
        if not self.enable_prefix_caching:
            return []
        root = self._root_of(request)
        if request.hash_root != root:  # first seen, or waiting since before a reset
            request.hash_root = root
            request.block_hashes.clear()
        extend_block_hashes(request.block_hashes, request.token_ids, self.block_size, root)
        blocks: list[int] = []
        for block_hash in request.block_hashes[: request.num_reusable_tokens // self.block_size]:
            block = self.pool.lookup(block_hash)
            if block is None:
                break
            blocks.append(block)
        return blocks

    def allocate_slots(
        self, request: Request, num_new_tokens: int, computed_blocks: Sequence[int] = (), reserve: int = 0
    ) -> bool:
        """Extend the block table to hold `num_new_tokens` more than are computed; all or nothing.

        computed_blocks   for a request that holds nothing: from `get_computed_blocks` just now. They become
                          the head of the table, and `num_computed_tokens` counts their tokens
        reserve           blocks that must still be free afterwards

        Returns False, with nothing changed, when the free blocks do not suffice.
        """
        table = request.block_table
        num_computed = request.num_computed_tokens + len(computed_blocks) * self.block_size
        num_missing = self.num_blocks_for(num_computed + num_new_tokens) - len(table) - len(computed_blocks)
        if num_missing <= 0 and not computed_blocks:
            return True
        num_revived = sum(1 for block in computed_blocks if self.pool.num_references(block) == 0)
        if num_missing + num_revived + reserve > self.pool.num_free:
            return False
        for block in computed_blocks:  # before allocating, which may reuse any free block
            self.pool.share(block)
        table.extend(computed_blocks)
        table.extend(self.pool.allocate() for _ in range(num_missing))
        request.num_computed_tokens = num_computed
        request.num_registered_blocks += len(computed_blocks)
        return True

    def cache_full_blocks(self, request: Request) -> None:
        """Make the blocks that have been computed to the end findable. Call it after the step."""
        num_full = request.num_computed_tokens // self.block_size
        if not self.enable_prefix_caching or num_full == request.num_registered_blocks:
            return
        if request.prompt_embeds is not None:  # all of them look alike, so that nobody may find them
            return
        request.hash_root = request.hash_root or self._root_of(request)
        extend_block_hashes(request.block_hashes, request.token_ids, self.block_size, request.hash_root)
        for index in range(request.num_registered_blocks, num_full):
            self.pool.register(request.block_table[index], request.block_hashes[index])
        request.num_registered_blocks = num_full

    def trim(self, request: Request, num_tokens: int) -> None:
        """Give back the blocks that `num_tokens` tokens do not need: nothing in them is cached."""
        table = request.block_table
        while len(table) > self.num_blocks_for(num_tokens):
            self.pool.release(table.pop())

    def free(self, request: Request) -> None:
        """Give every block back, the last first, so that the sequence's head stays cached longest."""
        for block in reversed(request.block_table):
            self.pool.release(block)
        request.block_table.clear()
        request.num_registered_blocks = 0
        request.num_computed_tokens = 0

    def discard(self, request: Request) -> None:
        """Free a request whose KV may be damaged: nobody finds its blocks again."""
        for block in request.block_table:
            self.pool.forget(block)
        self.free(request)

    def reset_prefix_cache(self) -> None:
        """Let no later request find what has been cached so far; requests under way keep their blocks."""
        self._epoch += 1
