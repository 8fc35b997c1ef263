"""A runner without a model: it writes into a KV slot what that would depend on, and reads every prefix back.

The content of a slot is a chain over salt, tokens and positions, so a request that reads a slot which
somebody else has overwritten, or which was never computed, is found out at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import count

import numpy as np

from specserve.engine.api import GenerationRequest
from specserve.engine.batch import (
    PackedLogprobs,
    RequestProgress,
    SampledToken,
    ScheduledBatch,
    ScheduledRequest,
    StepOutput,
)
from specserve.engine.config import SpeculativeConfig
from specserve.engine.kv_cache.blocks import DUMMY_BLOCK
from specserve.engine.kv_cache.manager import KVCacheManager
from specserve.engine.params import SamplingParams
from specserve.engine.prefill_budget import PrefillBudget
from specserve.engine.request import Request
from specserve.engine.scheduler import Scheduler
from specserve.engine.speculative.drafter import Drafter
from specserve.engine.speculative.step_costs import StepCosts

EOS = 0
VOCABULARY = 50
NextToken = Callable[[int], int]


def next_token(content: int) -> int:
    """A model: the next token is a function of the whole prefix. Never EOS."""
    return content % (VOCABULARY - 1) + 1


def step_content(before: int, token_id: int) -> int:
    return (before * 1_000_003 + token_id + 7) % (1 << 61)


def contents(salt: str, token_ids: Iterable[int]) -> list[int]:
    chain, content = [], hash(salt) % (1 << 61)
    for token_id in token_ids:
        content = step_content(content, token_id)
        chain.append(content)
    return chain


def continuation(prompt: list[int], num_tokens: int, salt: str = "") -> list[int]:
    """What the model generates when nothing ever goes wrong: the truth to compare with."""
    tokens = list(prompt)
    for _ in range(num_tokens):
        tokens.append(next_token(contents(salt, tokens)[-1]))
    return tokens[len(prompt) :]


class FreeRows(StepCosts):
    """A machine on which a step takes as long with drafts as without."""

    def seconds(self, num_decodes: int, most: int) -> list[float]:
        return [1.0] * (most + 1)


class Oracle(Drafter):
    """Guesses what the model would say, and is wrong at every `wrong_at`-th token; 0: never."""

    def __init__(self, num_tokens: int, wrong_at: int = 0, max_rows: int = 1000) -> None:
        super().__init__(SpeculativeConfig(num_speculative_tokens=num_tokens), max_rows)
        self._num_tokens, self._wrong_at = num_tokens, wrong_at

    def draft(self, requests: Sequence[Request], num_decodes: int, num_tokens: int) -> dict[str, list[int]]:
        drafts = {}
        for request in requests:
            length = min(self._num_tokens, request.max_num_tokens - request.num_tokens - 1, num_tokens)
            draft = continuation(request.token_ids, length, request.cache_salt)
            for at in range(length):
                if self._wrong_at and (request.num_tokens + at) % self._wrong_at == 0:
                    draft[at] = draft[at] % (VOCABULARY - 1) + 1
            drafts[request.request_id] = draft
            num_tokens -= len(draft)
        return drafts


class SimulatedRunner:
    """Slots by (block, offset); `choose` maps the last slot's content to the sampled token."""

    def __init__(self, block_size: int, choose: NextToken = next_token) -> None:
        self.block_size = block_size
        self.choose = choose
        self.slots: dict[tuple[int, int], int] = {}
        self.num_computed = 0

    def execute(self, batch: ScheduledBatch) -> StepOutput:
        written: set[tuple[int, int]] = set()
        chains: list[list[int]] = []
        for item in batch.requests:
            request = item.request
            known = request.token_ids[: item.start + item.num_known_tokens]
            chain = contents(request.cache_salt, [*known, *item.drafts])
            chains.append(chain)
            for position in range(item.start, len(chain)):
                slot = self.slot(request, position)
                assert slot not in written, "two requests write one slot"
                assert slot[0] != DUMMY_BLOCK
                written.add(slot)
                self.slots[slot] = chain[position]
                self.num_computed += 1
        output = StepOutput()
        for item, chain in zip(batch.requests, chains, strict=True):
            assert [self.slots[self.slot(item.request, i)] for i in range(len(chain))] == chain
            if item.samples:
                first, *behind = chain[len(chain) - len(item.drafts) - 1 :]
                tokens = [self.choose(first)]
                for draft, content in zip(item.drafts, behind, strict=True):
                    if draft != tokens[-1]:
                        break
                    tokens.append(self.choose(content))
                output.sampled[item.request.request_id] = SampledToken(tokens[0])
                if len(tokens) > 1:
                    output.further[item.request.request_id] = [SampledToken(token) for token in tokens[1:]]
            if item.reported:
                output.prompt_logprobs[item.request.request_id] = self.report(item)
        assert batch.reports_prompt == bool(output.prompt_logprobs)
        return output

    def report(self, item: ScheduledRequest) -> PackedLogprobs:
        """The prompt's tokens, with the rank saying which row they come from."""
        rows = [position - 1 for position in item.reported]
        assert all(item.start <= row < item.start + item.num_new_tokens for row in rows), "a row that is not computed"
        tokens = item.request.token_ids[item.reported.start : item.reported.stop]
        return PackedLogprobs(
            num_top=0,
            token_ids=np.array(tokens, dtype=np.int32).tobytes(),
            logprobs=np.zeros(len(rows), dtype=np.float32).tobytes(),
            ranks=np.array(rows, dtype=np.int32).tobytes(),
        )

    def slot(self, request: Request, position: int) -> tuple[int, int]:
        return request.block_table[position // self.block_size], position % self.block_size


class Served:
    """A scheduler with its manager and a simulated runner; collects what each request generated."""

    def __init__(
        self,
        *,
        num_blocks: int = 101,
        block_size: int = 4,
        prefix_caching: bool = True,
        max_num_seqs: int = 8,
        max_num_batched_tokens: int = 64,
        max_model_len: int = 10_000,
        policy: str = "fcfs",
        max_reported_rows: int | None = None,
        prefill_budget: PrefillBudget | None = None,
        drafter: Drafter | None = None,
    ) -> None:
        self.cache = KVCacheManager(num_blocks, block_size, prefix_caching)
        self.scheduler = Scheduler(
            self.cache,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max_num_batched_tokens,
            max_model_len=max_model_len,
            eos_token_ids=[EOS],
            policy=policy,
            max_reported_rows=max_reported_rows,
            prefill_budget=prefill_budget,
            drafter=drafter,
        )
        self.runner = SimulatedRunner(block_size)
        self.requests: dict[str, Request] = {}
        self.generated: dict[str, list[int]] = {}
        self.reported: dict[str, list[tuple[int, int]]] = {}
        self.ended: dict[str, RequestProgress] = {}
        self._ids = count()

    def request(
        self,
        prompt: Iterable[int],
        params: SamplingParams | None = None,
        *,
        salt: str = "",
        priority: int = 0,
        parent_id: str | None = None,
        index: int = 0,
        max_tokens: int = 4,
    ) -> Request:
        request_id = f"r{next(self._ids)}"
        wanted = GenerationRequest(
            request_id=request_id,
            prompt_token_ids=list(prompt),
            params=params or SamplingParams(max_tokens=max_tokens),
            cache_salt=salt,
            priority=priority,
            parent_id=parent_id,
            index=index,
        )
        self.requests[request_id] = Request.of(wanted)
        self.generated[request_id] = []
        self.reported[request_id] = []
        return self.requests[request_id]

    def add(self, *requests: Request) -> None:
        for progress in self.scheduler.add(requests):
            self.ended[progress.request_id] = progress

    def check_reported(self, request: Request) -> None:
        """Every position of the prompt but the first once, in order, from the row before it; or none at all."""
        prompt = request.token_ids[: request.num_prompt_tokens]
        wanted = [(token_id, row) for row, token_id in enumerate(prompt[1:])]
        is_reporting = request.params.prompt_logprobs is not None
        assert self.reported[request.request_id] == (wanted if is_reporting else [])

    def siblings(self, prompt: list[int], n: int, max_tokens: int = 4) -> list[Request]:
        return [self.request(prompt, parent_id="parent", index=index, max_tokens=max_tokens) for index in range(n)]

    def step(self) -> ScheduledBatch:
        batch = self.scheduler.schedule()
        self.take(self.scheduler.update(batch, self.runner.execute(batch)))
        return batch

    def take(self, progress: list[RequestProgress]) -> None:
        assert len({item.request_id for item in progress}) == len(progress), "one progress per request and step"
        for item in progress:
            assert item.request_id not in self.ended
            self.generated[item.request_id] += item.token_ids
            if item.prompt_logprobs is not None:
                rows = [
                    (logprobs.sampled.token_id, logprobs.sampled.rank) for logprobs in item.prompt_logprobs.unpack()
                ]
                for request_id in (item.request_id, *item.prompt_logprobs.siblings):
                    self.reported[request_id] += rows
            if item.finish_reason is not None or item.error is not None:
                self.ended[item.request_id] = item

    def run(self, limit: int = 10_000) -> int:
        """Step until idle; returns the number of steps."""
        for steps in range(limit):
            if not self.scheduler.has_requests:
                assert self.cache.num_used_blocks == 0
                return steps
            assert self.step(), "requests wait, but nothing is scheduled"
        raise AssertionError(f"not idle after {limit} steps")
