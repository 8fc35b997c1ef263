"""Who starts when: by arrival or by priority, in the place of whom, and never in vain."""

from __future__ import annotations

import pytest
from simulated_runner import Served, continuation

from specserve.engine.params import SamplingParams
from specserve.engine.request import Request


def running(served: Served) -> set[str]:
    return {request.request_id for request in served.scheduler._running}


def test_first_come_first_served_does_not_look_at_priorities() -> None:
    served = Served(max_num_seqs=1)
    served.add(*(served.request([9], priority=p, max_tokens=1) for p in (5, 0, -5)))
    assert [served.step().requests[0].request.request_id for _ in range(3)] == ["r0", "r1", "r2"]


def test_by_arrival_nobody_gives_way_to_a_newcomer() -> None:
    served = Served(max_num_seqs=1)
    served.add(served.request([9], priority=5, max_tokens=9))
    served.step()
    served.add(served.request([8], priority=-5, max_tokens=2))
    served.run()
    assert served.scheduler.stats().num_preemptions == 0


def test_a_higher_priority_takes_the_place_of_the_lowest_that_arrived_last() -> None:
    served = Served(max_num_seqs=3, policy="priority")
    served.add(*(served.request([9] * 5, priority=p, max_tokens=9) for p in (1, 3, 3)))
    served.step()
    served.add(served.request([8] * 5, priority=2, max_tokens=9))
    served.step()
    assert running(served) == {"r0", "r1", "r3"}
    served.run()
    for request_id in ("r0", "r1", "r2"):
        assert served.generated[request_id] == continuation([9] * 5, 9)
    assert served.scheduler.stats().num_preemptions == 1


def test_equal_priorities_wait_for_each_other() -> None:
    served = Served(max_num_seqs=1, policy="priority")
    served.add(served.request([9], priority=1, max_tokens=5))
    served.step()
    served.add(served.request([8], priority=1, max_tokens=5))
    served.run()
    assert served.scheduler.stats().num_preemptions == 0
    assert list(served.ended) == ["r0", "r1"]


def test_a_higher_priority_takes_blocks_from_as_many_as_it_needs() -> None:
    served = Served(num_blocks=13, block_size=4, policy="priority", prefix_caching=False)
    served.add(*(served.request([at] * 9, priority=5, max_tokens=3) for at in range(1, 5)))  # three blocks each
    served.step()
    served.add(served.request([7] * 20, priority=0, max_tokens=2))  # five blocks, and one to grow
    served.step()
    assert running(served) == {"r0", "r1", "r4"}
    served.run()
    assert len(served.ended) == 5


def test_nobody_gives_way_in_vain() -> None:
    served = Served(num_blocks=11, block_size=4, policy="priority", prefix_caching=False)
    served.add(served.request([1] * 24, priority=0, max_tokens=8), served.request([2] * 8, priority=5, max_tokens=8))
    served.step()
    assert running(served) == {"r0", "r1"}
    served.add(served.request([3] * 20, priority=1, max_tokens=2))  # would find four blocks of the five it needs
    served.step()
    assert running(served) == {"r0", "r1"}
    served.run()
    assert len(served.ended) == 3


def test_blocks_that_a_higher_priority_shares_are_not_counted_as_free() -> None:
    served = Served(num_blocks=9, block_size=4, policy="priority")
    served.add(served.request([1] * 9, priority=0, max_tokens=8))
    served.step()
    served.add(served.request([1] * 9, priority=5, max_tokens=3))
    served.step()
    assert served.cache.num_used_blocks == 4, "two shared and one for each"
    served.add(served.request([2] * 20, priority=1, max_tokens=2))  # five blocks: one and the four that are free
    served.step()
    assert running(served) == {"r0", "r1"}
    served.run()
    assert served.scheduler.stats().num_preemptions == 0


@pytest.mark.parametrize("shared", [True, False])
def test_blocks_that_siblings_share_are_counted_once(shared: bool) -> None:
    served = Served(num_blocks=9, block_size=4, policy="priority", prefix_caching=shared)
    served.add(*served.siblings([1] * 9, 2, max_tokens=3))
    served.step()
    served.step()
    for request in served.requests.values():
        request.priority = 5
    newcomer = served.request([2] * 25, priority=0, max_tokens=3)
    served.add(newcomer)
    served.step()
    assert running(served) == {newcomer.request_id}
    served.run()
    assert len(served.ended) == 3


def reporting(served: Served, length: int, max_tokens: int = 2, **options: int) -> Request:
    params = SamplingParams(max_tokens=max_tokens, prompt_logprobs=0)
    return served.request(range(1, length + 1), params, **options)  # type: ignore[arg-type]


def test_prompts_that_report_share_the_rows_of_a_step_in_order() -> None:
    served = Served(max_num_batched_tokens=64, max_reported_rows=10)
    requests = [reporting(served, 16), reporting(served, 8)]
    served.add(*requests, served.request([9] * 20))
    sizes = [[(i.request.request_id, i.num_new_tokens, len(i.reported)) for i in served.step().requests]]
    sizes += [[(i.request.request_id, i.num_new_tokens, len(i.reported)) for i in served.step().requests]]
    assert sizes == [[("r0", 10, 10), ("r2", 20, 0)], [("r2", 1, 0), ("r0", 6, 5), ("r1", 5, 5)]]
    served.run()
    for request in requests:
        served.check_reported(request)


def test_a_prompt_interrupted_in_a_block_that_others_have_cached_skips_no_position() -> None:
    served = Served(max_num_batched_tokens=7, block_size=4, max_num_seqs=1, policy="priority")
    served.add(served.request(range(1, 21)))
    served.run()
    request = reporting(served, 20)
    served.add(request)
    served.step()  # reports seven positions: the block of the fifth to the eighth is known, but not the logits
    served.add(served.request([9], priority=-1))
    served.run()
    assert request.num_preemptions == 1
    served.check_reported(request)


@pytest.mark.parametrize("max_tokens", [0, 3])
@pytest.mark.parametrize("num_prompt", [1, 2, 8, 9])
def test_every_position_is_reported_once_whatever_the_length(num_prompt: int, max_tokens: int) -> None:
    served = Served(max_num_batched_tokens=8, block_size=4)
    request = reporting(served, num_prompt, max_tokens)
    served.add(request)
    served.run()
    served.check_reported(request)
    assert len(served.generated["r0"]) == max_tokens


def test_a_sibling_that_wants_another_number_of_alternatives_computes_its_own() -> None:
    served = Served(max_num_batched_tokens=32)
    first, silent = reporting(served, 12, parent_id="p"), served.request(range(1, 13), parent_id="p", index=1)  # type: ignore[arg-type]
    other = served.request(range(1, 13), SamplingParams(max_tokens=2, prompt_logprobs=3), parent_id="p", index=2)
    served.add(first, silent, other)
    served.run()
    for request in (first, silent, other):
        served.check_reported(request)
    assert served.scheduler.stats().num_cached_tokens == 8  # two full blocks, by the one that reports nothing
