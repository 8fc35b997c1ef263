"""What the tests of clients know of the server they are pointed at."""

from __future__ import annotations

from dataclasses import dataclass

KEY = "a-key"
MODEL = "specserve-demo"
ALIAS = "another-name"
"""The same model under a second name."""


@dataclass(frozen=True)
class Server:
    root: str

    @property
    def base_url(self) -> str:
        return f"{self.root}/v1"
