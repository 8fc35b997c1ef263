"""Plain numbers about the engine, for metrics, tests and the start banner."""

from __future__ import annotations

import msgspec


class Totals(msgspec.Struct):
    """What the scheduler counts since start."""

    num_steps: int = 0
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_generated_tokens: int = 0
    num_preemptions: int = 0
    num_aborted: int = 0


class DraftTotals(msgspec.Struct):
    """What speculative decoding counts since start: drafts verified, their tokens, and how many of those were right."""

    num_drafts: int = 0
    num_draft_tokens: int = 0
    num_accepted_tokens: int = 0

    def count(self, num_drafted: int, num_accepted: int) -> None:
        self.num_drafts += 1
        self.num_draft_tokens += num_drafted
        self.num_accepted_tokens += num_accepted


class EngineStats(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot after one step. Token counts are totals since start; the rest is the present."""

    num_steps: int = 0
    num_running: int = 0
    num_waiting: int = 0
    num_blocks: int = 0
    num_used_blocks: int = 0
    """Blocks held by requests. Cached blocks that nobody holds count as free."""
    num_drafts: int = 0
    num_draft_tokens: int = 0
    num_accepted_tokens: int = 0
    """The last three are of speculative decoding. Mean tokens of a step with a draft: 1 + accepted / drafts."""
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_generated_tokens: int = 0
    num_preemptions: int = 0
    num_aborted: int = 0
    running_adapters: tuple[str, ...] = ()
    waiting_adapters: tuple[str, ...] = ()
    """Names of the adapters of requests that run, and of those that wait."""
    max_adapters: int = 0
