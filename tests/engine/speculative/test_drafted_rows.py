"""Drafts in steps: fewer steps, the same tokens, no block more than is needed, and nobody else's turn."""

from __future__ import annotations

import pytest
from simulated_runner import EOS, Oracle, Served, continuation, next_token

from specserve.engine.api import FinishReason
from specserve.engine.params import SamplingParams

PROMPT = [3, 1, 4, 1, 5]


def test_right_drafts_save_steps_and_change_nothing_else() -> None:
    served = Served(drafter=Oracle(3))
    request = served.request(PROMPT, max_tokens=17)
    served.add(request)
    assert served.run() == 5, "one token with the prompt, then four times four"
    assert served.generated["r0"] == continuation(PROMPT, 17)
    assert served.ended["r0"].finish_reason is FinishReason.LENGTH
    stats = served.scheduler.stats()
    assert (stats.num_drafts, stats.num_draft_tokens, stats.num_accepted_tokens) == (4, 12, 12)
    assert stats.num_generated_tokens == 17


@pytest.mark.parametrize("wrong_at", [1, 2, 3, 7])
def test_wrong_drafts_cost_nothing_but_their_rows(wrong_at: int) -> None:
    served = Served(drafter=Oracle(4, wrong_at), block_size=2)
    request = served.request(PROMPT, max_tokens=30)
    served.add(request)
    while served.scheduler.has_requests:
        served.step()
        assert len(request.block_table) <= served.cache.num_blocks_for(request.num_tokens)
    assert served.generated["r0"] == continuation(PROMPT, 30)
    stats = served.scheduler.stats()
    assert stats.num_accepted_tokens < stats.num_draft_tokens
    assert stats.num_generated_tokens == 30
    assert (stats.num_accepted_tokens == 0) == (wrong_at == 1)


def test_an_end_token_among_accepted_drafts_ends_the_answer_there() -> None:
    served = Served(drafter=Oracle(8))
    answer = continuation(PROMPT, 9)
    stop = answer[5]
    assert stop not in answer[:5]
    params = SamplingParams(max_tokens=20, stop_token_ids=(stop,))
    served.add(served.request(PROMPT, params))
    served.run()
    assert served.generated["r0"] == answer[:6]
    assert (served.ended["r0"].finish_reason, served.ended["r0"].stop_reason) == (FinishReason.STOP, stop)
    assert served.scheduler.stats().num_generated_tokens == 6


def test_drafts_leave_half_of_the_budget_to_prompts() -> None:
    served = Served(drafter=Oracle(32), max_num_batched_tokens=21, max_num_seqs=4)
    served.add(served.request(PROMPT, max_tokens=100))
    served.step()
    served.add(served.request([7] * 40, max_tokens=2))
    batch = served.step()
    assert [item.num_new_tokens for item in batch.requests] == [11, 10]
    assert batch.num_tokens == 21


def test_nobody_gives_way_to_a_draft() -> None:
    """Eight blocks of two tokens: growth takes the last ones, drafts do not."""
    served = Served(num_blocks=9, block_size=2, drafter=Oracle(8), prefix_caching=False)
    first, second = served.request(PROMPT, max_tokens=4), served.request(PROMPT, max_tokens=3)
    served.add(first, second)
    served.run()
    assert served.generated == {"r0": continuation(PROMPT, 4), "r1": continuation(PROMPT, 3)}
    assert served.scheduler.stats().num_preemptions == 0


def test_tokens_of_wrong_drafts_are_never_found_in_the_prefix_cache() -> None:
    """The slots of a rejected draft are in a block that fills up in the next steps: with the right tokens."""
    served = Served(drafter=Oracle(6, wrong_at=3), block_size=4)
    served.add(served.request(PROMPT, max_tokens=20))
    served.run()
    again = [*PROMPT, *continuation(PROMPT, 19)]
    served.add(served.request(again, max_tokens=3))
    served.run()
    assert served.generated["r1"] == continuation(again, 3)
    assert served.ended["r1"].num_cached_tokens == len(again) // 4 * 4 - (len(again) % 4 == 0) * 4


def test_an_abort_during_a_drafted_step_frees_everything() -> None:
    served = Served(drafter=Oracle(4))
    request = served.request(PROMPT, max_tokens=50)
    served.add(request)
    served.step()
    batch = served.scheduler.schedule()
    assert batch.requests[0].drafts
    served.scheduler.abort(["r0"])
    assert served.scheduler.update(batch, served.runner.execute(batch)) == []
    assert served.cache.num_used_blocks == 0
    assert not served.scheduler.has_requests


def test_a_step_is_not_launched_ahead_where_a_draft_may_come() -> None:
    served = Served(drafter=Oracle(4, max_rows=2))
    served.add(served.request(PROMPT, max_tokens=50))
    served.step()
    batch = served.scheduler.schedule()
    assert served.scheduler.schedule_ahead(batch) is None
    served.take(served.scheduler.update(batch, served.runner.execute(batch)))
    served.add(served.request(PROMPT[:3], max_tokens=50))
    served.step()
    full = served.scheduler.schedule()
    assert [item.drafts for item in full.requests] == [(), ()], "no row is left for drafts"
    assert served.scheduler.schedule_ahead(full) is not None


def test_the_simulated_model_never_ends_by_itself() -> None:
    assert EOS not in {next_token(content) for content in range(500)}
