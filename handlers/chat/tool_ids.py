"""Ids of tool calls: what OpenAI's clients are used to, or the short form that some chat templates insist on."""

from __future__ import annotations

import re
import secrets
import string
from hashlib import sha256

CALL_PREFIX = "call_"
SHORT_ID = re.compile(r"[A-Za-z0-9]{9}")
LETTERS = string.ascii_letters + string.digits


def new_call_id(*, short: bool, prefix: str = CALL_PREFIX) -> str:
    """The prefix and 24 random digits, or nine random letters and digits."""
    return "".join(secrets.choice(LETTERS) for _ in range(9)) if short else f"{prefix}{secrets.token_hex(12)}"


def short_id(call_id: str) -> str:
    """The same nine letters and digits for the same id."""
    number = int.from_bytes(sha256(call_id.encode("utf-8", "surrogatepass")).digest()[:8])
    return "".join(LETTERS[number // len(LETTERS) ** place % len(LETTERS)] for place in range(9))
