"""What drafted tokens add to the time of a step, measured while serving. Plain Python; times come from the caller.

How much longer a step takes with more tokens depends on the machine, its load, the model, the form of its weights and
the lengths of the sequences: up to some width the weights' way from memory decides, beyond it every token costs. So
nothing is configured, and the numbers of decodes are told apart: each has sequences of its own to read.
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from statistics import median

NUM_KEPT = 8
"""Times that a median is taken over."""
PLAIN_SHARE = 0.01
"""Of the time may go into steps without drafts where drafts pay: the less they promise, the more it matters."""
PLAIN_EVERY = 64
"""Such a step comes after so many at the latest."""
RETRY_AFTER = 32
"""Steps without a measurement after which a width may be tried again, for each time that is known of it: once, a
disturbance may have made it slow."""
EXPIRES = RETRY_AFTER * NUM_KEPT
"""Steps after which the times of a width that was not measured again are forgotten."""


class StepCosts:
    """`seconds` before a step, `took` after it."""

    def __init__(self) -> None:
        self._tables: dict[int, _Table] = {}

    def seconds(self, num_decodes: int, most: int) -> list[float]:
        """Of steps of so many decodes with 0, 1, ... drafted tokens, up to `most` and as far as it can be guessed.

        Empty where a step without drafts has to show first how long it takes.
        """
        table = self._tables.get(num_decodes)
        return [] if table is None else table.seconds(num_decodes)[: most + 1]

    def plain_is_due(self, num_decodes: int, gain: float) -> bool:
        """Whether a step without drafts should show again how long it takes; they promise the share `gain` more."""
        table = self._tables.get(num_decodes)
        return table is not None and table.plain_is_due(gain)

    def took(self, num_decodes: int, num_drafted: int, seconds: float) -> None:
        self._tables.setdefault(num_decodes, _Table()).add(num_drafted, seconds)


class _Table:
    """Of one number of decodes: by size class of the number of drafted tokens; class 0 has none."""

    def __init__(self) -> None:
        self._classes: dict[int, _Recent] = {}
        self._num_steps = 0

    def add(self, num_drafted: int, seconds: float) -> None:
        self._num_steps += 1
        size = 0 if num_drafted == 0 else 1 + (num_drafted - 1).bit_length()
        recent = self._classes.get(size)
        if recent is None or (size and self._num_steps - recent.step > EXPIRES):
            recent = self._classes[size] = _Recent()
        recent.add(num_drafted, seconds, self._num_steps)

    def plain_is_due(self, gain: float) -> bool:
        """Sooner while few are known."""
        plain = self._classes[0]
        wait = min(gain / PLAIN_SHARE, PLAIN_EVERY) * len(plain.seconds) / NUM_KEPT
        return self._num_steps + 1 - plain.step > wait

    def seconds(self, num_decodes: int) -> list[float]:
        if 0 not in self._classes:
            return []
        alone = median(self._classes[0].seconds)
        points = [(0.0, alone), *((width, max(seconds, alone)) for width, seconds in self._points())]
        told = [alone]
        for (narrow, before), (wide, after) in pairwise(points):
            for width in range(len(told), int(wide) + 1):
                told.append(before + (after - before) * (width - narrow) / (wide - narrow))
        # Wider than was ever tried: as every token did so far, or as the last ones did if that was more. Half of the
        # tokens of a step are the most that a guess may be wrong about.
        (widest, last) = points[-1]
        slope = 0.0
        if len(points) > 1:
            before_width, before = points[-2]
            slope = max((last - alone) / widest, (last - before) / (widest - before_width))
        reach = len(told) - 1 + max(1, (num_decodes + int(widest)) // 2)
        return told + [last + slope * (width - widest) for width in range(len(told), reach + 1)]

    def _points(self) -> list[tuple[float, float]]:
        """(drafted tokens, seconds) of each class with drafts, both rising.

        Classes that contradict each other, a narrow one slower than a wide one, are taken for equally slow: the median
        of all their times counts.
        """
        groups: list[tuple[list[float], list[float]]] = []
        for size, recent in sorted(self._classes.items()):
            if size and self._num_steps - recent.step <= RETRY_AFTER * len(recent.seconds):
                widths, seconds = [float(median(recent.num_drafted))], list(recent.seconds)
                while groups and median(groups[-1][1]) > median(seconds):
                    narrower, others = groups.pop()
                    widths, seconds = narrower + widths, others + seconds
                groups.append((widths, seconds))
        return [(width, median(seconds)) for widths, seconds in groups for width in widths]


class _Recent:
    """The last few steps of one class, and which the last one was."""

    def __init__(self) -> None:
        self.num_drafted: deque[int] = deque(maxlen=NUM_KEPT)
        self.seconds: deque[float] = deque(maxlen=NUM_KEPT)
        self.step = 0

    def add(self, num_drafted: int, seconds: float, step: int) -> None:
        self.num_drafted.append(num_drafted)
        self.seconds.append(seconds)
        self.step = step
