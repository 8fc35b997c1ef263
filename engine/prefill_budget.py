"""How many prompt tokens a step may hold while answers are being written: as many as its time allows.

A step that computes part of a prompt makes every stream beside it wait, so it may take at most `ratio` times a step of
the streams alone. Both times are measured while serving: nothing is configured for a machine, and nothing is tried out
at start. Plain Python; times come from the caller.
"""

from __future__ import annotations

from collections import deque
from statistics import median

NUM_KEPT = 7
"""Times that a median is taken over: one slow step among them changes nothing."""
LEAST_TOKENS = 8
"""Of a prompt, however slow it is: so every prompt ends."""
FIRST_TOKENS = 16
"""Of the first prompt beside streams, before it is known what its tokens take."""
LEAST_SECONDS = 1e-9
"""That a token of a prompt takes: clocks may tell none."""
TRUSTED_STEPS = 128
"""After so many steps with prompts it is measured again what the streams alone take."""


class PrefillBudget:
    """`tokens` before each step, `took` after it.

    The limit holds beside a single prompt, and while at least twice as many answers are being written as prompts wait.
    Where more wait, all are served best by large pieces of prompts: each step of a small one costs a pass over the
    weights, which the streams' tokens in a large one get for nothing.
    """

    def __init__(self, ratio: float) -> None:
        """`ratio` is above 1."""
        self._ratio = ratio
        self._alone: dict[int, _Recent] = {}  # by size class of the number of streams
        self._beside = _Recent()  # seconds that a prompt's token adds to a step of streams
        self._unmixed = _Recent()  # seconds for each token of steps of prompts only
        self._num_streams = 0

    def tokens(self, num_streams: int, num_prompts: int, most: int) -> int:
        """Prompt tokens of the next step, up to `most`, beside one token for each of `num_streams`.

        0 where it is not known yet how long the streams take alone: the step shows it.
        """
        self._num_streams = num_streams
        if num_streams == 0 or num_prompts == 0 or num_prompts > max(1, num_streams // 2):
            return most
        alone = self._alone.setdefault(num_streams.bit_length(), _Recent())
        if alone.age >= TRUSTED_STEPS or not alone:
            return 0
        alone.age += 1
        for_each = self._beside or self._unmixed
        if not for_each:
            return min(FIRST_TOKENS, most)
        room = (self._ratio - 1) * alone.median() / max(for_each.median(), LEAST_SECONDS)
        return min(max(int(room), LEAST_TOKENS), most)

    def took(self, num_tokens: int, seconds: float) -> None:
        """The step that `tokens` was asked for had `num_tokens`, the streams' included."""
        num_streams = self._num_streams
        num_prompt_tokens = num_tokens - num_streams
        if num_streams and not num_prompt_tokens:
            self._alone.setdefault(num_streams.bit_length(), _Recent()).add(seconds)
        elif num_streams:
            alone = self._alone.get(num_streams.bit_length())
            if alone:
                self._beside.add(max(seconds - alone.median(), 0.0) / num_prompt_tokens)
        elif num_prompt_tokens:
            self._unmixed.add(seconds / num_prompt_tokens)


class _Recent:
    """The last few values of one kind, and how often they were relied upon since."""

    def __init__(self) -> None:
        self._values: deque[float] = deque(maxlen=NUM_KEPT)
        self.age = 0

    def __bool__(self) -> bool:
        return bool(self._values)

    def add(self, value: float) -> None:
        self._values.append(value)
        self.age = 0

    def median(self) -> float:
        return median(self._values)
