"""Names for the content of KV blocks: a hash chained over everything from the sequence's beginning.

Equal hashes mean equal tokens at equal positions in the same namespace, so that the KV may be shared. The
hash is a cryptographic one: a caller who could make two prompts collide would read another caller's context.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from hashlib import blake2b

HASH_BYTES = 16


def root_hash(salt: str, epoch: int = 0, adapter_id: int = 0) -> bytes:
    """Where a namespace's chains begin: each adapter has its own. A new `epoch` makes everything before unreachable."""
    return blake2b(f"{epoch}:{adapter_id}:{salt}".encode("utf-8", "surrogatepass"), digest_size=HASH_BYTES).digest()


def hash_block(parent: bytes, token_ids: Sequence[int], extra: bytes = b"") -> bytes:
    """The hash of one full block behind `parent`, the previous block's hash or the root.

    token_ids   exactly one block of ids, each within 32 bits
    extra       what else the KV depends on, such as the content of an image
    """
    return blake2b(parent + array("i", token_ids).tobytes() + extra, digest_size=HASH_BYTES).digest()


def extend_block_hashes(hashes: list[bytes], token_ids: Sequence[int], block_size: int, root: bytes) -> None:
    """Append the hashes of the full blocks that `hashes` does not cover yet, in place."""
    for index in range(len(hashes), len(token_ids) // block_size):
        parent = hashes[-1] if hashes else root
        hashes.append(hash_block(parent, token_ids[index * block_size : (index + 1) * block_size]))
