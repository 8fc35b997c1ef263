"""A machine for oneself, on machines whose users agree on lock files."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO


class Quiet:
    """Holds lock files, taken in their order, from one measurement to the next, but lets them go every `at_most_s`.

    So that others do not wait for a whole comparison, and every measurement does not wait for others. Nothing is
    released in the middle of a measurement.
    """

    def __init__(self, locks: Sequence[Path], at_most_s: float) -> None:
        self._paths, self._at_most_s = locks, at_most_s
        self._held: list[IO[str]] = []
        self._since = 0.0

    def __enter__(self) -> None:
        if self._held:
            return
        for path in self._paths:
            self._held.append(path.open("a"))
            fcntl.flock(self._held[-1], fcntl.LOCK_EX)
        self._since = time.monotonic()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None or time.monotonic() - self._since >= self._at_most_s:
            self.release()

    def release(self) -> None:
        while self._held:
            self._held.pop().close()
