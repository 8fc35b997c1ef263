"""Random histories of the scheduler: no leak, no double free, no shared block freed or overwritten."""

from __future__ import annotations

from collections import Counter

import hypothesis
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from simulated_runner import EOS, Oracle, Served, contents, next_token

from specserve.engine.api import FinishReason
from specserve.engine.batch import ScheduledBatch
from specserve.engine.kv_cache.blocks import DUMMY_BLOCK
from specserve.engine.params import SamplingParams
from specserve.engine.request import Phase, Request

STEMS = [[n % 5 + 1 for n in range(40)], [3] * 40, [n * n % 7 + 1 for n in range(40)]]
"""Prompts are cut from a few stems, so that prefixes are shared all the time."""


class SchedulerStates(RuleBasedStateMachine):
    @initialize(
        num_blocks=st.integers(4, 14),
        block_size=st.integers(1, 4),
        prefix_caching=st.booleans(),
        max_num_seqs=st.integers(1, 6),
        extra_budget=st.integers(0, 12),
        policy=st.sampled_from(["fcfs", "priority"]),
        max_reported_rows=st.sampled_from([None, 1, 5]),
        num_drafted=st.sampled_from([0, 0, 1, 3, 7]),
        wrong_at=st.integers(0, 4),
    )
    def start(
        self,
        num_blocks: int,
        block_size: int,
        prefix_caching: bool,
        max_num_seqs: int,
        extra_budget: int,
        policy: str,
        max_reported_rows: int | None,
        num_drafted: int,
        wrong_at: int,
    ) -> None:
        self.served = Served(
            num_blocks=num_blocks,
            block_size=block_size,
            prefix_caching=prefix_caching,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max_num_seqs + extra_budget,
            max_model_len=35,
            policy=policy,
            max_reported_rows=max_reported_rows,
            drafter=Oracle(num_drafted, wrong_at) if num_drafted else None,
        )
        self.policy, self.max_reported_rows = policy, max_reported_rows
        self.scheduler, self.cache = self.served.scheduler, self.served.cache
        self.in_flight: ScheduledBatch | None = None
        self.live: dict[str, Request] = {}
        self.num_added = 0

    @rule(
        stem=st.sampled_from(STEMS),
        num_prompt=st.integers(0, 30),
        tail=st.lists(st.integers(1, 5), max_size=3),
        max_tokens=st.integers(0, 20),
        prompt_logprobs=st.sampled_from([None, None, None, 0]),
        n=st.integers(1, 4),
        salt=st.sampled_from(["", "", "a"]),
        priority=st.sampled_from([0, 0, 0, -1, 2]),
    )
    def add(
        self,
        stem: list[int],
        num_prompt: int,
        tail: list[int],
        max_tokens: int,
        prompt_logprobs: int | None,
        n: int,
        salt: str,
        priority: int,
    ) -> None:
        self.num_added += 1
        requests = [
            self.served.request(
                stem[:num_prompt] + tail,
                SamplingParams(max_tokens=max_tokens, prompt_logprobs=prompt_logprobs),
                salt=salt,
                priority=priority,
                parent_id=f"p{self.num_added}" if n > 1 else None,
                index=index,
            )
            for index in range(n)
        ]
        self.served.add(*requests)
        num_tokens = num_prompt + len(tail)
        fits = 1 <= num_tokens <= self.scheduler.max_sequence_len - min(max_tokens, 1)
        for request in requests:
            assert (request.request_id in self.served.ended) == (not fits)
            if fits:
                self.live[request.request_id] = request

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        chosen = data.draw(st.lists(st.sampled_from(sorted(self.live)), max_size=3))
        self.scheduler.abort([*chosen, "unknown"])
        computing = {i.request.request_id for i in self.in_flight.requests} if self.in_flight else set()
        for request_id in set(chosen):
            if request_id not in computing:
                assert self.live[request_id].is_finished
            self.served.ended[request_id] = None  # type: ignore[assignment]  # anything said later is a mistake
            if request_id not in computing:
                del self.live[request_id]

    @precondition(lambda self: self.in_flight is None)
    @rule()
    def schedule(self) -> None:
        batch = self.scheduler.schedule()
        assert bool(batch) == bool(self.live), "somebody always progresses"
        assert batch.num_tokens <= self.scheduler._max_num_batched_tokens
        assert len(self.scheduler._running) <= self.scheduler._max_num_seqs
        ids = [item.request.request_id for item in batch.requests]
        assert len(set(ids)) == len(ids)
        lengths = [item.num_new_tokens for item in batch.requests]
        assert lengths == sorted(lengths, key=lambda length: length > 1), "single tokens first"
        for item in batch.requests:
            request = item.request
            assert request.phase is Phase.RUNNING
            assert item.start == request.num_computed_tokens
            end = item.start + item.num_new_tokens
            assert item.num_new_tokens >= 1
            known = end - len(item.drafts)
            assert known <= request.num_tokens
            assert item.samples == (known == request.num_tokens and request.params.max_tokens > 0)
            assert not item.drafts or (item.samples and end < request.max_num_tokens)
            assert len(request.block_table) * self.cache.block_size >= end
        num_reported = sum(len(item.reported) for item in batch.requests)
        assert self.max_reported_rows is None or num_reported <= self.max_reported_rows
        if batch:
            ranked = self.policy == "priority"
            first = min(self.scheduler._running, key=lambda r: (r.priority if ranked else 0, r.arrival))
            assert first.request_id in ids, "the first in order always progresses"
            if ranked:
                self.nobody_waits_for_a_lower_priority()
            self.in_flight = batch
        else:
            self.scheduler.update(batch, self.served.runner.execute(batch))

    @precondition(lambda self: self.in_flight is not None)
    @rule(stop=st.sampled_from([2, 5, 30]), failing=st.booleans(), choice=st.integers(0, 5))
    def update(self, stop: int, failing: bool, choice: int) -> None:
        batch, self.in_flight = self.in_flight, None
        assert batch is not None
        self.served.runner.choose = lambda content: EOS if content % stop == 0 else next_token(content)
        output = self.served.runner.execute(batch)
        if failing and choice == 0 and output.sampled:
            unlucky = sorted(output.sampled)[0]
            del output.sampled[unlucky]
            output.failed[unlucky] = "not finite"
        computed = {item.request.request_id: item.start + item.num_known_tokens for item in batch.requests}
        sampled = {name: [first, *output.further.get(name, ())] for name, first in output.sampled.items()}
        progress = self.scheduler.update(batch, output)
        self.served.take(progress)
        for item in progress:
            request = self.live[item.request_id]
            assert item.error == output.failed.get(item.request_id)
            is_drawn = item.error is None and item.request_id in sampled
            drawn = [one.token_id for one in sampled[item.request_id]] if is_drawn else []
            assert item.token_ids == drawn[: drawn.index(EOS) + 1 if EOS in drawn else None]
            if item.finish_reason is not None:
                self.served.check_reported(request)
            if item.finish_reason is FinishReason.LENGTH:
                assert request.num_tokens == request.max_num_tokens
            elif item.finish_reason is FinishReason.STOP:
                assert item.token_ids[-1] == EOS
            elif is_drawn:
                assert request.num_computed_tokens == request.num_tokens - 1
                assert request.num_computed_tokens == computed[item.request_id] + len(drawn) - 1
                assert len(request.block_table) <= self.cache.num_blocks_for(request.num_tokens)
        for request_id in list(self.live):
            if request_id in self.served.ended:
                assert self.live[request_id].is_finished
                del self.live[request_id]

    @rule(stop=st.sampled_from([5, 30]), num_steps=st.integers(1, 12))
    def several_steps(self, stop: int, num_steps: int) -> None:
        for _ in range(num_steps):
            if self.in_flight is None:
                self.schedule()
            if self.in_flight is not None:
                self.update(stop=stop, failing=False, choice=1)
            self.check()

    @rule(really=st.integers(0, 4))
    def reset_prefix_cache(self, really: int) -> None:
        if really == 0:
            self.cache.reset_prefix_cache()

    @invariant()
    def check(self) -> None:
        if hasattr(self, "cache"):
            self.counts_equal_holders()
            self.only_running_requests_hold_blocks()
            self.every_computed_slot_holds_its_own_prefix()
            self.shared_blocks_are_full_and_equal()

    def nobody_waits_for_a_lower_priority(self) -> None:
        """Unless all the blocks of lower priority would not suffice, with one more for each that then runs."""
        if not self.scheduler._waiting:
            return
        request = self.scheduler._waiting.first
        lower = [running for running in self.scheduler._running if running.priority > request.priority]
        if lower:
            blocks = {block for running in lower for block in running.block_table}
            others = [running for running in self.scheduler._running if running.priority <= request.priority]
            blocks -= {block for running in others for block in running.block_table}
            reserve = (1 << request.num_preemptions) * (len(others) + 1) if others else 0
            need = -(-request.num_tokens // self.cache.block_size) + reserve
            assert need > len(blocks) + self.cache.num_free_blocks

    def counts_equal_holders(self) -> None:
        holders = Counter(block for r in self.served.requests.values() for block in r.block_table)
        pool = self.cache.pool
        assert DUMMY_BLOCK not in holders
        assert [pool.num_references(b) for b in range(pool.num_blocks)] == [holders[b] for b in range(pool.num_blocks)]
        assert self.cache.num_used_blocks == len(holders)
        assert self.cache.num_used_blocks + self.cache.num_free_blocks == self.cache.num_usable_blocks
        if not self.live:
            assert self.cache.num_used_blocks == 0
            assert not self.scheduler.has_requests
            assert not self.scheduler._waiting.holds_siblings

    def only_running_requests_hold_blocks(self) -> None:
        for request in self.served.requests.values():
            if request.phase is Phase.RUNNING:
                assert len(request.block_table) * self.cache.block_size >= request.num_computed_tokens
                assert request.num_computed_tokens < request.num_tokens
            else:
                assert not request.block_table
                assert request.num_computed_tokens == 0
        stats = self.scheduler.stats()
        assert stats.num_running + stats.num_waiting == len(self.live)

    def every_computed_slot_holds_its_own_prefix(self) -> None:
        runner = self.served.runner
        for request in self.live.values():
            chain = contents(request.cache_salt, request.token_ids[: request.num_computed_tokens])
            assert [runner.slots[runner.slot(request, i)] for i in range(len(chain))] == chain

    def shared_blocks_are_full_and_equal(self) -> None:
        size = self.cache.block_size
        first_use: dict[int, tuple[int, list[int], str]] = {}
        for request in self.live.values():
            for index, block in enumerate(request.block_table):
                use = (index, request.token_ids[: (index + 1) * size], request.cache_salt)
                assert first_use.setdefault(block, use) == use

    def teardown(self) -> None:
        if not hasattr(self, "cache"):
            return
        if self.in_flight is not None:
            self.update(stop=30, failing=False, choice=1)
        self.served.run()
        assert self.cache.num_used_blocks == 0


TestSchedulerStates = SchedulerStates.TestCase
TestSchedulerStates.settings = settings(
    max_examples=200,
    stateful_step_count=40,
    deadline=None,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.reuse, hypothesis.Phase.generate],  # shrinking takes minutes
)
