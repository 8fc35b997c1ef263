"""The scheduler, step by step, with a runner that checks every KV slot it reads."""

from __future__ import annotations

import pytest
from simulated_runner import EOS, Served, continuation

from specserve.engine.api import FinishReason
from specserve.engine.batch import SampledToken, ScheduledBatch, StepOutput
from specserve.engine.errors import InvalidParameterError
from specserve.engine.params import SamplingParams
from specserve.engine.request import Phase
from specserve.engine.scheduler import Scheduler


def shape(batch: ScheduledBatch) -> list[tuple[str, int, int, bool]]:
    return [(i.request.request_id, i.start, i.num_new_tokens, i.samples) for i in batch.requests]


def sample(served: Served, *token_ids: int) -> list[list[int]]:
    """Let the only request generate these tokens; returns what each step reported."""
    reported = []
    for token_id in token_ids:
        served.runner.choose = lambda _, token_id=token_id: token_id
        batch = served.scheduler.schedule()
        progress = served.scheduler.update(batch, served.runner.execute(batch))
        served.take(progress)
        reported.append(progress[0].token_ids)
    return reported


def test_decodes_come_before_prefill_chunks() -> None:
    served = Served()
    served.add(served.request([1, 2, 3]))
    served.step()
    served.add(served.request([4, 5, 6, 7]))
    assert shape(served.step()) == [("r0", 3, 1, True), ("r1", 0, 4, True)]


def test_a_chunk_of_one_token_stands_with_the_decodes() -> None:
    served = Served(max_num_batched_tokens=8)
    served.add(served.request([1] * 9), served.request([2] * 5))
    assert shape(served.step()) == [("r0", 0, 8, False)]
    assert shape(served.step()) == [("r0", 8, 1, True), ("r1", 0, 5, True)]


def test_a_long_prompt_is_computed_in_chunks_and_samples_at_its_end() -> None:
    served = Served(max_num_batched_tokens=10)
    served.add(served.request(range(1, 26), max_tokens=1))
    assert [shape(served.step()) for _ in range(3)] == [
        [("r0", 0, 10, False)],
        [("r0", 10, 10, False)],
        [("r0", 20, 5, True)],
    ]
    assert served.generated["r0"] == continuation(list(range(1, 26)), 1)


def test_the_token_budget_is_never_exceeded_and_always_used() -> None:
    served = Served(max_num_batched_tokens=16, max_num_seqs=4)
    served.add(*(served.request([i] * 13, max_tokens=6) for i in range(1, 7)))
    sizes = []
    while served.scheduler.has_requests:
        batch = served.step()
        assert batch.num_tokens == sum(item.num_new_tokens for item in batch.requests)
        sizes.append(batch.num_tokens)
    assert max(sizes) == 16
    assert sizes[:3] == [16, 16, 16]


def test_decoding_goes_on_while_a_long_prompt_is_computed() -> None:
    served = Served(max_num_batched_tokens=8)
    served.add(served.request([1, 2], max_tokens=10))
    served.step()
    served.add(served.request([3] * 50))
    for _ in range(5):
        assert shape(served.step())[0][0] == "r0"
    assert len(served.generated["r0"]) == 6


def test_no_more_than_max_num_seqs_run_at_once() -> None:
    served = Served(max_num_seqs=2)
    served.add(*(served.request([i] * 3) for i in range(1, 6)))
    while served.scheduler.has_requests:
        served.step()
        assert served.scheduler.stats().num_running <= 2
    assert len(served.ended) == 5


def test_lower_priority_values_are_admitted_first_and_equal_ones_in_order_of_arrival() -> None:
    served = Served(max_num_seqs=1, policy="priority")
    served.add(*(served.request([9], priority=p, max_tokens=1) for p in (5, 0, 5, -1)))
    order = [served.step().requests[0].request.request_id for _ in range(4)]
    assert order == ["r3", "r1", "r0", "r2"]


def test_an_urgent_newcomer_is_prefilled_before_an_earlier_unfinished_prompt() -> None:
    served = Served(max_num_batched_tokens=8, policy="priority")
    served.add(served.request([1] * 40))
    served.step()
    served.add(served.request([2] * 6, priority=-1))
    assert shape(served.step()) == [("r1", 0, 6, True), ("r0", 8, 2, False)]


def test_an_end_token_stops_without_a_stop_reason() -> None:
    served = Served()
    served.add(served.request([1], max_tokens=9))
    sample(served, 5, EOS)
    assert served.generated["r0"] == [5, EOS]
    assert (served.ended["r0"].finish_reason, served.ended["r0"].stop_reason) == (FinishReason.STOP, None)


def test_an_end_token_merged_into_the_stop_tokens_still_has_no_stop_reason() -> None:
    served = Served()
    served.add(served.request([1], SamplingParams(max_tokens=9, stop_token_ids=(7, EOS))))
    sample(served, EOS)
    assert served.ended["r0"].stop_reason is None


def test_a_stop_token_is_the_stop_reason() -> None:
    served = Served()
    served.add(served.request([1], SamplingParams(max_tokens=9, stop_token_ids=(7,))))
    sample(served, 5, 7)
    assert (served.ended["r0"].finish_reason, served.ended["r0"].stop_reason) == (FinishReason.STOP, 7)


def test_ignore_eos_ignores_end_tokens_only() -> None:
    served = Served()
    served.add(served.request([1], SamplingParams(max_tokens=9, stop_token_ids=(7,), ignore_eos=True)))
    sample(served, EOS, EOS, 7)
    assert served.generated["r0"] == [EOS, EOS, 7]
    assert served.ended["r0"].stop_reason == 7


def test_nothing_stops_a_sequence_before_min_tokens() -> None:
    served = Served()
    served.add(served.request([1], SamplingParams(max_tokens=9, min_tokens=3, stop_token_ids=(7,))))
    sample(served, EOS, 7)
    assert not served.ended
    sample(served, EOS)
    assert served.ended["r0"].finish_reason is FinishReason.STOP


def test_max_tokens_ends_with_length() -> None:
    served = Served()
    served.add(served.request([1, 2], max_tokens=3))
    served.run()
    assert len(served.generated["r0"]) == 3
    assert served.ended["r0"].finish_reason is FinishReason.LENGTH


def test_the_models_length_ends_with_length() -> None:
    served = Served(max_model_len=10)
    served.add(served.request([1] * 8, max_tokens=100))
    served.run()
    assert len(served.generated["r0"]) == 2
    assert served.ended["r0"].finish_reason is FinishReason.LENGTH


def test_a_sequence_that_fills_the_whole_pool_ends_with_length() -> None:
    served = Served(num_blocks=4, block_size=4)
    assert served.scheduler.max_sequence_len == 12
    served.add(served.request([1] * 5, max_tokens=100))
    served.run()
    assert len(served.generated["r0"]) == 7
    assert served.ended["r0"].finish_reason is FinishReason.LENGTH


@pytest.mark.parametrize(
    ("num_tokens", "max_model_len", "words"),
    [
        (0, 100, ["no tokens"]),
        (12, 100, ["12 tokens", "3 blocks of 4", "shorten"]),
        (10, 10, ["10 tokens", "limit is 9", "--max-model-len"]),
    ],
)
def test_a_prompt_that_can_never_fit_is_refused_with_numbers(
    num_tokens: int, max_model_len: int, words: list[str]
) -> None:
    served = Served(num_blocks=4, block_size=4, max_model_len=max_model_len)
    served.add(served.request([1] * num_tokens), served.request([2], max_tokens=1))
    message = served.ended["r0"].error
    assert message is not None
    assert all(word in message for word in words), message
    served.run()
    assert served.ended["r1"].error is None


def test_an_id_in_use_is_refused_before_anything_is_queued() -> None:
    served = Served()
    first = served.request([1])
    served.add(first)
    with pytest.raises(InvalidParameterError, match="r0"):
        served.scheduler.add([served.request([2]), first])
    assert served.scheduler.stats().num_waiting == 1


def test_fewer_batched_tokens_than_sequences_are_refused() -> None:
    with pytest.raises(InvalidParameterError, match="max_num_batched_tokens=4"):
        Served(max_num_seqs=8, max_num_batched_tokens=4)


def test_an_abort_frees_at_once_when_nothing_is_being_computed() -> None:
    served = Served()
    served.add(served.request([1] * 9), served.request([2] * 9))
    served.step()
    served.scheduler.abort(["r0", "unknown"])
    assert served.cache.num_used_blocks == 3
    served.run()
    assert served.generated["r0"] == continuation([1] * 9, 1)
    assert served.scheduler.stats().num_aborted == 1


def test_an_abort_during_a_step_frees_after_it_and_reports_nothing() -> None:
    served = Served()
    served.add(served.request([1] * 9))
    batch = served.scheduler.schedule()
    served.scheduler.abort(["r0"])
    served.scheduler.abort(["r0"])
    assert served.cache.num_used_blocks == 3
    assert served.scheduler.update(batch, served.runner.execute(batch)) == []
    assert served.cache.num_used_blocks == 0
    assert not served.scheduler.has_requests
    assert served.scheduler.stats().num_aborted == 1


def test_a_waiting_request_can_be_aborted() -> None:
    served = Served(max_num_seqs=1)
    served.add(served.request([1]), served.request([2]))
    served.step()
    served.scheduler.abort(["r1"])
    served.run()
    assert set(served.ended) == {"r0"}


def test_siblings_share_the_blocks_of_their_prompt() -> None:
    served = Served(block_size=4)
    prompt = list(range(1, 11))
    served.add(*served.siblings(prompt, 4))
    assert len(served.step().requests) == 1
    assert shape(served.step()) == [
        ("r0", 10, 1, True),
        ("r1", 8, 2, True),
        ("r2", 8, 2, True),
        ("r3", 8, 2, True),
    ]
    tables = [request.block_table for request in served.requests.values()]
    assert len({tuple(table[:2]) for table in tables}) == 1
    assert len({table[2] for table in tables}) == 4
    assert served.cache.num_used_blocks == 6
    served.run()
    assert all(tokens == continuation(prompt, 4) for tokens in served.generated.values())
    assert [r.num_cached_tokens for r in served.requests.values()] == [0, 8, 8, 8]


def test_siblings_of_a_cached_prompt_start_together() -> None:
    served = Served()
    served.add(served.request(range(1, 11)))
    served.run()
    served.add(*served.siblings(list(range(1, 11)), 3))
    assert len(served.step().requests) == 3


def test_siblings_simply_compute_without_a_prefix_cache() -> None:
    served = Served(prefix_caching=False)
    served.add(*served.siblings(list(range(1, 11)), 3))
    assert shape(served.step()) == [("r0", 0, 10, True), ("r1", 0, 10, True), ("r2", 0, 10, True)]
    served.run()


def test_siblings_with_a_prompt_shorter_than_a_block_start_together() -> None:
    served = Served(block_size=4)
    served.add(*served.siblings([1, 2, 3, 4], 2))
    assert len(served.step().requests) == 2


def test_siblings_survive_the_abort_of_the_first() -> None:
    served = Served(max_num_batched_tokens=8)
    prompt = list(range(1, 21))
    served.add(*served.siblings(prompt, 3))
    served.step()
    served.scheduler.abort(["r0"])
    served.run()
    assert served.generated["r1"] == served.generated["r2"] == continuation(prompt, 4)
    assert served.requests["r2"].num_cached_tokens == 16


def test_a_held_sibling_can_be_aborted() -> None:
    served = Served()
    served.add(*served.siblings(list(range(1, 21)), 3))
    served.scheduler.abort(["r1"])
    served.run()
    assert set(served.ended) == {"r0", "r2"}


def test_a_later_request_finds_the_blocks_of_an_equal_prefix() -> None:
    served = Served(block_size=4)
    prompt = list(range(1, 14))
    served.add(served.request(prompt))
    served.run()
    served.add(served.request([*prompt, 30, 31]))
    assert shape(served.step()) == [("r1", 12, 3, True)]
    assert served.requests["r1"].num_cached_tokens == 12
    stats = served.scheduler.stats()
    assert (stats.num_prompt_tokens, stats.num_cached_tokens) == (28, 12)


def test_a_cached_prompt_still_computes_its_last_token() -> None:
    served = Served(block_size=4)
    served.add(served.request(range(1, 9)))
    served.run()
    served.add(served.request(range(1, 9)))
    assert shape(served.step()) == [("r1", 4, 4, True)]


def test_a_conversation_finds_the_answer_it_received() -> None:
    served = Served(block_size=4)
    prompt = [1, 2, 3]
    served.add(served.request(prompt, max_tokens=6))
    served.run()
    turn = prompt + served.generated["r0"]
    served.add(served.request([*turn, 40, 41]))
    served.step()
    assert served.requests["r1"].num_cached_tokens == 8


def test_a_salt_separates_namespaces() -> None:
    served = Served(block_size=4)
    for salt in ("", "a", "b", "a"):
        served.add(served.request(range(1, 14), salt=salt))
        served.run()
    assert [r.num_cached_tokens for r in served.requests.values()] == [0, 0, 0, 12]


def test_without_prefix_caching_nothing_is_found() -> None:
    served = Served(prefix_caching=False)
    for _ in range(2):
        served.add(served.request(range(1, 14)))
        served.run()
    assert served.scheduler.stats().num_cached_tokens == 0


def test_a_preempted_request_recomputes_its_tokens() -> None:
    served = Served(num_blocks=8, block_size=4, prefix_caching=False)
    prompts = [[1] * 7, [2] * 7]
    served.add(*(served.request(prompt, max_tokens=16) for prompt in prompts))
    served.run()
    assert served.requests["r1"].num_preemptions >= 1
    assert served.requests["r0"].num_preemptions == 0
    assert served.runner.num_computed > 2 * (7 + 15)
    for number, prompt in enumerate(prompts):
        assert served.generated[f"r{number}"] == continuation(prompt, 16)


def test_a_preempted_request_waits_at_the_head_of_the_queue() -> None:
    served = Served(num_blocks=8, block_size=4, max_num_seqs=2)
    served.add(*(served.request([n] * 7, max_tokens=16) for n in (1, 2, 3)))
    while served.requests["r1"].phase is not Phase.WAITING or served.requests["r1"].num_preemptions == 0:
        served.step()
    while served.requests["r1"].phase is Phase.WAITING:
        served.step()
    assert served.requests["r2"].phase is Phase.WAITING
    served.run()


def test_a_preempted_request_usually_finds_its_blocks_by_hash() -> None:
    served = Served(num_blocks=9, block_size=4)
    served.add(served.request([1] * 4, max_tokens=9), served.request([2] * 17, max_tokens=8))
    while not served.requests["r1"].num_preemptions:
        served.step()
    before = served.runner.num_computed
    served.run()
    recomputed = served.runner.num_computed - before
    assert recomputed < 17
    assert served.requests["r1"].num_cached_tokens == 0, "recomputation is not a cache hit"
    assert served.generated["r1"] == continuation([2] * 17, 8)


def test_the_oldest_is_never_preempted_and_nobody_thrashes() -> None:
    served = Served(num_blocks=25, block_size=4, max_num_seqs=16, max_num_batched_tokens=32)
    served.add(*(served.request([n] * (3 + n), max_tokens=60) for n in range(1, 17)))
    previous = -1
    while served.scheduler.has_requests:
        oldest = next(r for r in served.requests.values() if not r.is_finished)
        served.step()
        progress = oldest.num_computed_tokens
        assert oldest.is_finished or oldest.num_preemptions == 0 or progress > previous
        previous = progress
    assert served.scheduler.stats().num_preemptions > 0
    assert max(r.num_preemptions for r in served.requests.values()) <= 5  # log2 of the pool's blocks, about
    for n in range(1, 17):
        assert served.generated[f"r{n - 1}"] == continuation([n] * (3 + n), 60)


def test_a_failed_request_ends_with_an_error_and_leaves_nothing_to_find() -> None:
    served = Served(block_size=4)
    served.add(served.request(range(1, 14)), served.request([9] * 3))
    batch = served.scheduler.schedule()
    output = served.runner.execute(batch)
    del output.sampled["r0"]
    output.failed["r0"] = "the logits are not finite"
    progress = served.scheduler.update(batch, output)
    assert [(item.request_id, item.error) for item in progress] == [
        ("r0", "the logits are not finite"),
        ("r1", None),
    ]
    served.take(progress)
    served.run()
    served.add(served.request(range(1, 14)))
    served.run()
    assert served.requests["r2"].num_cached_tokens == 0


def test_a_sampled_token_carries_its_logprobs_only_if_there_are_any() -> None:
    served = Served()
    served.add(served.request([1]))
    batch = served.scheduler.schedule()
    progress = served.scheduler.update(batch, StepOutput({"r0": SampledToken(3)}))
    assert progress[0].logprobs is None


def test_a_missing_sample_is_the_runners_fault() -> None:
    served = Served()
    served.add(served.request([1]))
    batch = served.scheduler.schedule()
    with pytest.raises(KeyError):
        served.scheduler.update(batch, StepOutput())


def test_scheduling_twice_without_an_update_is_a_mistake() -> None:
    served = Served()
    served.add(served.request([1]))
    served.scheduler.schedule()
    with pytest.raises(RuntimeError, match="update"):
        served.scheduler.schedule()


def test_an_idle_scheduler_schedules_nothing() -> None:
    assert not Served().scheduler.schedule()


def test_stats_count_what_happened() -> None:
    served = Served(num_blocks=11)
    served.add(served.request([1] * 5, max_tokens=3), served.request([2] * 5, max_tokens=3))
    served.step()
    stats = served.scheduler.stats()
    assert (stats.num_running, stats.num_waiting, stats.num_blocks, stats.num_used_blocks) == (2, 0, 10, 4)
    served.run()
    stats = served.scheduler.stats()
    assert (stats.num_steps, stats.num_prompt_tokens, stats.num_generated_tokens) == (3, 10, 6)
    assert (stats.num_running, stats.num_used_blocks) == (0, 0)


def test_the_scheduler_imports_no_torch() -> None:
    assert "torch" not in vars(__import__(Scheduler.__module__, fromlist=["_"]))
