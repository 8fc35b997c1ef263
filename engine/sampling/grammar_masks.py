"""What the grammars of constrained rows allow: single tokens at once, whole masks where they are needed.

The library takes 1 to 3 µs for one token and 5 to 2000 µs for the mask of a vocabulary of 150 000. So the sampler
(`constrained_rows`) asks for the tokens it has drawn, and for a mask only where none of them fits. Both say the same
of every token, so what is chosen never depends on which was asked. Masks that will probably be needed are filled while
the forward pass runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import llguidance
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from specserve.engine.batch import SampledToken
from specserve.engine.request import Request

WORD_BITS = 32
MAX_TESTS = 64
"""Single tokens of one row in one step; from there on its mask is cheaper."""
MAX_TESTS_WITHOUT_MASK = 256
"""The library may spend so much on new states (`step_lexer_fuel`) until it fills a mask, and gives up beyond. A mask
spends more than this many tokens can, so an answer whose masks could be filled can be followed without them too."""


class RowGrammar:
    """The grammar of one row, for one step; `request.matcher` stands where its answer stands.

    mask       [ceil(V / 32)] uint32, a bit for each token, lowest first; None while nobody needs it
    was_short  the tokens drawn without the mask did not suffice
    """

    def __init__(self, request: Request, vocab_size: int, eos_token_ids: Sequence[int]) -> None:
        assert request.matcher is not None
        self.request = request
        self.matcher: llguidance.LLMatcher = request.matcher
        self.mask: NDArray[np.uint32] | None = None
        self.was_short = False
        self._vocab_size = vocab_size
        self._ends = frozenset(eos_token_ids if request.params.ignore_eos else ())
        self._known: dict[int, bool] = {}
        self._filling: Future[None] | None = None

    def fill(self) -> None:
        mask = np.empty(-(-self._vocab_size // WORD_BITS), dtype=np.uint32)
        self.matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        self.mask = mask

    def fill_on(self, pool: ThreadPoolExecutor) -> None:
        """The matcher must not be used until this object was asked for something."""
        self._filling = pool.submit(self.fill)

    @property
    def is_filled(self) -> bool:
        """Waits for a mask that is being filled; one that is not begun will not be."""
        if self._filling is not None:
            if not self._filling.cancel():
                self._filling.result()
            self._filling = None
        return self.mask is not None

    def accepts(self, token_id: int) -> bool:
        """Whether the answer can go on with this token. With `ignore_eos` an end token is none."""
        if token_id in self._ends:
            return False
        if not self.is_filled and token_id not in self._known:
            if len(self._known) < MAX_TESTS:
                # A matcher that gave up says yes to end tokens.
                accepted = self.matcher.validate_tokens([token_id]) == 1 and not self.matcher.is_error()
                self._known[token_id] = accepted
            else:
                self.fill()
        if self.mask is None:
            return self._known[token_id]
        return bool(int(self.mask[token_id // WORD_BITS]) >> token_id % WORD_BITS & 1)

    def allowed_ids(self) -> NDArray[np.int64]:
        """[n] ascending. An end token that is to be ignored is among them only if it is the only one."""
        if not self.is_filled:
            self.fill()
        assert self.mask is not None
        words = np.flatnonzero(self.mask)
        bits = np.flatnonzero(np.unpackbits(self.mask[words].view(np.uint8), bitorder="little"))
        ids = words[bits // WORD_BITS] * WORD_BITS + bits % WORD_BITS
        longer = ids
        for end in self._ends:
            longer = longer[longer != end]
        return longer if len(longer) else ids

    def failure(self) -> str | None:
        """Why this answer cannot go on: its matcher gave up, and allows nothing any more."""
        if not self.matcher.is_error():
            return None
        return f"the constraint became too complex to follow ({self.matcher.get_error()[:200].strip()}); simplify it"

    def advance(self, sampled: SampledToken) -> SampledToken | str:
        """Take in the chosen token. Returns it, marked if the answer can only end now, or what is wrong with it."""
        num_tests = 0 if self.is_filled else self.request.num_tests_without_mask + 1 + len(self._known)
        self.request.num_tests_without_mask = num_tests
        self.request.wants_mask = self.was_short or num_tests >= MAX_TESTS_WITHOUT_MASK
        if not self.matcher.consume_token(sampled.token_id):
            return f"token {sampled.token_id} does not continue the constrained answer"
        return replace(sampled, ends=True) if self.matcher.is_stopped() else sampled


class StepMasks:
    """`grammars` of the constrained ones of a step's sampling rows, by row, ascending."""

    def __init__(self, grammars: dict[int, RowGrammar], filler: MaskFiller) -> None:
        self.grammars = grammars
        self._filler = filler

    def fill(self, rows: Sequence[int]) -> None:
        """The masks of these rows, where they are not there yet; on all cores, which nothing else uses now."""
        self._filler.fill([grammar for row in rows if not (grammar := self.grammars[row]).is_filled])

    def advance(self, results: list[SampledToken | str]) -> None:
        """Take in the tokens chosen for all rows, in place; failed rows stay."""
        for row, grammar in self.grammars.items():
            sampled = results[row]
            if isinstance(sampled, SampledToken):
                results[row] = grammar.advance(sampled)


class MaskFiller:
    """Fills masks for one step after the other, on a thread beside the one that computes the step."""

    def __init__(
        self, vocab_size: int, eos_token_ids: Sequence[int], num_threads: int = 1, *, fill_all_ahead: bool = False
    ) -> None:
        """`vocab_size` is the length of a row of logits and of the vocabulary that grammars were compiled for.

        num_threads     for masks that turn out to be needed once the logits are there
        fill_all_ahead  with all threads, where the forward pass leaves the cores idle
        """
        self._vocab_size = vocab_size
        self._eos_token_ids = tuple(eos_token_ids)
        self._fill_all_ahead = fill_all_ahead
        self._ahead = ThreadPoolExecutor(num_threads if fill_all_ahead else 1, thread_name_prefix="masks")
        self._late = ThreadPoolExecutor(num_threads, thread_name_prefix="late-masks")

    def begin(self, requests: Sequence[Request]) -> StepMasks | None:
        """For the requests of a step's sampling rows, before its forward pass; None when none is constrained."""
        grammars = {
            row: RowGrammar(request, self._vocab_size, self._eos_token_ids)
            for row, request in enumerate(requests)
            if request.matcher is not None
        }
        for grammar in grammars.values():
            if self._fill_all_ahead or grammar.request.wants_mask:
                grammar.fill_on(self._ahead)
        return StepMasks(grammars, self) if grammars else None

    def fill(self, grammars: Sequence[RowGrammar]) -> None:
        list(self._late.map(RowGrammar.fill, grammars))
