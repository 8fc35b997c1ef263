"""Reasoning as one opaque text, for clients that keep no state here and send it back with the next turn.

It is packed, not encrypted: whoever can read the answer can read it.
"""

from __future__ import annotations

import base64
import binascii
import zlib

PREFIX = "rs1."
MAX_CHARS = 4_000_000
"""Of the text inside: a packed text may be a thousand times as long as it looks."""


def sealed(text: str) -> str:
    return PREFIX + base64.urlsafe_b64encode(zlib.compress(text.encode("utf-8", "surrogatepass"))).decode()


def unsealed(packed: str | None) -> str:
    """Empty for what is not ours, or was changed on the way."""
    if packed is None or not packed.startswith(PREFIX):
        return ""
    try:
        raw = base64.b64decode(packed.removeprefix(PREFIX), altchars=b"-_", validate=True)
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(raw, MAX_CHARS)
        return data.decode() if unpacker.eof else ""
    except (binascii.Error, zlib.error, UnicodeDecodeError):
        return ""
