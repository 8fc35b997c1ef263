"""Which drafts were right: those that equal the token that is drawn anyway.

A draw depends on the logits, the request, its seed and the position only. So the tokens are those of a request without
drafts, whatever the temperature, as long as the logits are; a draft only saves the step that would have computed them.

Draft rows whose logits nobody edits and no grammar limits are drawn together with all others. What happens to the rest
depends on the tokens before: they are drawn one after the other, over a copy of the request that has those tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor

from specserve.engine.batch import SampledToken
from specserve.engine.request import Request
from specserve.engine.sampling.grammar_masks import MaskFiller, StepMasks
from specserve.engine.sampling.metadata import SamplingMetadata, needs_edit
from specserve.engine.sampling.sampler import Sampler


@dataclass(slots=True)
class DraftedRequest:
    """row     of its request among the rows of last known tokens
    drafts     k tokens
    first      of k rows that follow those of last known tokens: the one behind the first draft
    tokens     what was drawn, as far as it is known to be right
    """

    row: int
    drafts: Sequence[int]
    first: int
    tokens: list[SampledToken] = field(default_factory=list)

    @property
    def goes_on(self) -> bool:
        """Whether the last token was guessed, so that the row behind it counts."""
        num_tokens = len(self.tokens)
        if not 0 < num_tokens <= len(self.drafts):
            return False
        last = self.tokens[-1]
        return last.token_id == self.drafts[num_tokens - 1] and not last.ends

    def take(self, result: SampledToken | str) -> None:
        """A row that fails ends the draft; the next step begins with it, and reports it."""
        if isinstance(result, SampledToken):
            self.tokens.append(result)


class Verifier:
    """A sampler for steps with drafts."""

    def __init__(self, sampler: Sampler, masks: MaskFiller, eos_token_ids: tuple[int, ...]) -> None:
        self._sampler = sampler
        self._masks = masks
        self._eos_token_ids = eos_token_ids

    def sample(
        self,
        logits: Tensor,
        requests: Sequence[Request],
        drafted: Sequence[DraftedRequest],
        masks: StepMasks | None,
    ) -> list[SampledToken | str]:
        """logits [R + D, V] of R requests' last known tokens, then of all D drafts → what `Sampler.sample` gives for
        the R rows; each of `drafted` gets its tokens. float32 logits are edited in place.
        """
        at_once: list[DraftedRequest] = []
        in_turn: list[DraftedRequest] = []
        for each in drafted:
            request = requests[each.row]
            (in_turn if request.matcher is not None or needs_edit(request) else at_once).append(each)
        rows, sampling, leads = list(range(len(requests))), list(requests), [0] * len(requests)
        for each in at_once:
            rows += range(each.first, each.first + len(each.drafts))
            sampling += [requests[each.row]] * len(each.drafts)
            leads += range(1, len(each.drafts) + 1)
        chosen = logits if not in_turn else logits[torch.tensor(rows, device=logits.device)]
        metadata = SamplingMetadata.of(sampling, self._eos_token_ids)
        metadata.leads = leads
        results = self._sampler.sample(chosen, metadata, masks)
        behind = iter(results[len(requests) :])
        for each in drafted:
            each.take(results[each.row])
        for each in at_once:
            for result in [next(behind) for _ in each.drafts]:
                if not each.goes_on:
                    break
                each.take(result)
        self._draw_in_turn(logits, requests, [each for each in in_turn if each.goes_on])
        return results[: len(requests)]

    def _draw_in_turn(self, logits: Tensor, requests: Sequence[Request], drafted: Sequence[DraftedRequest]) -> None:
        """Rows of the first drafts, then of the second ones, for those whose drafts have been right so far."""
        ahead = {each.row: _ahead_of(requests[each.row]) for each in drafted}
        going = list(drafted)
        while going:
            for each in going:
                _append(ahead[each.row], each.tokens[-1].token_id)
            sampling = [ahead[each.row] for each in going]
            # The index copies: the rows may be edited.
            rows = torch.tensor([each.first + len(each.tokens) - 1 for each in going], device=logits.device)
            metadata = SamplingMetadata.of(sampling, self._eos_token_ids)
            before = [len(each.tokens) for each in going]
            results = self._sampler.sample(logits[rows], metadata, self._masks.begin(sampling))
            for each, result in zip(going, results, strict=True):
                each.take(result)
            going = [
                each for each, count in zip(going, before, strict=True) if len(each.tokens) > count and each.goes_on
            ]
        for each in drafted:
            request, final = requests[each.row], ahead[each.row]
            request.wants_mask, request.num_tests_without_mask = final.wants_mask, final.num_tests_without_mask


def _ahead_of(request: Request) -> Request:
    """The same request, with tokens and thought of its own; the matcher takes in what is drawn in any case."""
    ahead = copy(request)
    ahead.token_ids = list(request.token_ids)
    ahead.thought = copy(request.thought)
    return ahead


def _append(request: Request, token_id: int) -> None:
    request.token_ids.append(token_id)
    if request.thought is not None and not request.thought.is_over:
        request.thought.take(request.token_ids, request.num_generated_tokens)
