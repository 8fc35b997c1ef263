"""How likely the tokens of a request's drafts are right, from the fate of those before. Plain Python."""

from __future__ import annotations

from itertools import accumulate
from operator import mul

PRIOR_WEIGHT = 1.0
"""Drafts that the prior counts for."""
REMEMBERED = 31 / 32
"""What a further draft leaves of what is known: about 32 drafts count."""
FADES_IN = 64
"""Tokens of an answer in which what is known loses half of its weight: an answer may turn to quoting."""


class Chances:
    """Of one request. The first token of a draft and every later one have rates of their own, the latter among drafts
    that were right until then. Where nothing is known yet, a token is as likely as the one before it."""

    def __init__(self, prior: float) -> None:
        """`prior` is the rate of a first token."""
        self._prior = prior
        self._right: list[float] = []
        self._verified: list[float] = []

    @property
    def is_known(self) -> bool:
        return bool(self._verified)

    def first(self) -> float:
        return self.rates(1)[0]

    def rates(self, count: int) -> list[float]:
        """Of each of the first `count` tokens, given that those before it are right."""
        told = []
        rate = self._prior
        for at in range(count):
            if at < len(self._verified):
                rate = (self._right[at] + PRIOR_WEIGHT * rate) / (self._verified[at] + PRIOR_WEIGHT)
            told.append(rate)
        return told

    def survival(self, count: int) -> list[float]:
        """How likely the first token is right, the first two are, …: never rising."""
        return list(accumulate(self.rates(count), mul))

    def learn(self, num_drafted: int, num_accepted: int, num_tokens: int) -> None:
        """A draft `num_tokens` behind the last one."""
        weight = REMEMBERED * 0.5 ** (num_tokens / FADES_IN)
        more = num_drafted - len(self._verified)
        if more > 0:
            self._right += [0.0] * more
            self._verified += [0.0] * more
        self._right = [weight * value for value in self._right]
        self._verified = [weight * value for value in self._verified]
        for at in range(min(num_accepted + 1, num_drafted)):
            self._verified[at] += 1.0
            self._right[at] += at < num_accepted
