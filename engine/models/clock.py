"""How the time of work on a device is told."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Clock = Callable[[Callable[[], Tensor]], float]
"""Seconds that work takes on the device, its launches not counted."""
