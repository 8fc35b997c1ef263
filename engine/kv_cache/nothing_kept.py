"""The cache of models that keep nothing between steps: whoever asks for blocks gets none and may run."""

from __future__ import annotations

from specserve.engine.kv_cache.manager import KVCacheManager


class NothingKept(KVCacheManager):
    """For encoders, which compute every text whole in one step."""

    def __init__(self, max_model_len: int) -> None:
        super().__init__(num_blocks=2, block_size=max_model_len, enable_prefix_caching=False)

    def num_blocks_for(self, num_tokens: int) -> int:
        return 0

    @property
    def num_usable_blocks(self) -> int:
        return 0
