"""The pool of KV blocks: reference counts, and an LRU list of free blocks that stay cached until reuse.

Knows block ids and hashes, neither requests nor tensors. Every operation is O(1).
"""

from __future__ import annotations

from collections import OrderedDict

DUMMY_BLOCK = 0
"""Never handed out: padded rows of a step read and write here."""


class BlockPool:
    """`num_blocks` physical blocks with ids 0 … num_blocks - 1, of which block 0 is the dummy.

    A block is *used* while its reference count is above zero and *free* otherwise. A free block may still be
    *cached*: its hash leads to it until the block is handed out again. Free blocks without a hash are handed
    out first, then the cached ones, longest free first.
    """

    def __init__(self, num_blocks: int) -> None:
        if num_blocks < 2:
            raise ValueError(f"num_blocks is {num_blocks}, but block 0 is reserved, so at least 2 are needed")
        self.num_blocks = num_blocks
        self._num_references = [0] * num_blocks
        self._hash_of: list[bytes | None] = [None] * num_blocks
        self._block_of: dict[bytes, int] = {}
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(1, num_blocks))

    @property
    def num_usable(self) -> int:
        """Blocks that can be handed out: all but the dummy."""
        return self.num_blocks - 1

    @property
    def num_free(self) -> int:
        return len(self._free)

    @property
    def num_used(self) -> int:
        return self.num_usable - len(self._free)

    def num_references(self, block: int) -> int:
        return self._num_references[block]

    def allocate(self) -> int:
        """Hand out a free block with one reference; what was cached in it is forgotten.

        Raises IndexError when no block is free: callers look at `num_free` first.
        """
        if not self._free:
            raise IndexError(f"all {self.num_usable} blocks are in use")
        block, _ = self._free.popitem(last=False)
        self.forget(block)
        self._num_references[block] = 1
        return block

    def share(self, block: int) -> None:
        """Add a holder to a used block, or take a cached free one back into use."""
        if self._num_references[block] == 0:
            del self._free[block]  # KeyError for the dummy, which is neither free nor used
        self._num_references[block] += 1

    def release(self, block: int) -> None:
        """Drop one holder; the last one frees the block. Raises ValueError for a block that nobody holds."""
        count = self._num_references[block]
        if count == 0:
            raise ValueError(f"block {block} is freed twice")
        self._num_references[block] = count - 1
        if count == 1:
            self._free[block] = None
            if self._hash_of[block] is None:
                self._free.move_to_end(block, last=False)

    def lookup(self, block_hash: bytes) -> int | None:
        """The block that holds this content, used or free."""
        return self._block_of.get(block_hash)

    def register(self, block: int, block_hash: bytes) -> None:
        """Make a used block findable. If another block is registered under this hash, that one stays."""
        if self._block_of.setdefault(block_hash, block) == block:
            self._hash_of[block] = block_hash

    def forget(self, block: int) -> None:
        """Make a block unfindable; its holders keep it."""
        block_hash = self._hash_of[block]
        if block_hash is not None:
            del self._block_of[block_hash]
            self._hash_of[block] = None
