"""With drafts and without: the same tokens, log probabilities and ends, whatever a request asks for.

The model is the lean decoder, whose logits do not depend on what is computed beside a row, where the processor has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simulated_runner import FreeRows
from tiny_checkpoints import load_runner, write_checkpoint
from trained_tokenizers import byte_level

from specserve.engine.api import FinishReason, GenerationRequest, TokenLogprobs
from specserve.engine.config import SpeculativeConfig
from specserve.engine.core import EngineCore
from specserve.engine.errors import EngineError
from specserve.engine.grammar_spec import GrammarSpec
from specserve.engine.grammars.compiler import GrammarCompiler
from specserve.engine.grammars.store import GrammarStore
from specserve.engine.grammars.vocabulary import Vocabulary
from specserve.engine.kv_cache.manager import KVCacheManager
from specserve.engine.output_processor import OutputProcessor
from specserve.engine.params import SamplingParams
from specserve.engine.request import Request
from specserve.engine.scheduler import Scheduler
from specserve.engine.speculative.drafter import Drafter
from specserve.engine.speculative.step_costs import StepCosts
from specserve.engine.thought_limit import ThoughtLimit
from specserve.engine.tokenizer import load_tokenizer

MAX_MODEL_LEN, VOCAB_SIZE = 160, 448
TEXTS = [
    "one two three one two three one two",
    "{{{{{{{{",
    '{"a": 1, "b": 2, "a": 1, "b": 2, "a": 1',
    "hello hello",
    "x",
]


@dataclass
class Answer:
    text: str = ""
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprobs, ...] = ()
    prompt_logprobs: tuple[TokenLogprobs | None, ...] | None = None
    reason: FinishReason | None = None
    stop_reason: int | str | None = None
    error: str = ""


@dataclass
class Arrival:
    at_step: int
    request: GenerationRequest
    aborted_after: int | None = None
    """So many tokens."""


class Model:
    """A runner over random weights, with a real tokenizer and grammars."""

    def __init__(self, folder: Path) -> None:
        byte_level(folder)
        self.tokenizer = load_tokenizer(folder)
        end = self.tokenizer.eos_token_ids[0]
        write_checkpoint("llama", folder, torch.bfloat16, vocab_size=VOCAB_SIZE, eos_token_id=end, seed=3)
        self.runner = load_runner(folder, "cpu", max_model_len=MAX_MODEL_LEN, num_blocks=100)
        self.vocabulary = Vocabulary.of(self.tokenizer, VOCAB_SIZE, self.runner.info.eos_token_ids)
        self.store = GrammarStore(lambda: self.vocabulary)

    def request(
        self, name: str, text: str, max_tokens: int, wishes: dict[str, Any], index: int = 0
    ) -> GenerationRequest:
        params = {"max_tokens": max_tokens, "ignore_eos": True, **wishes}
        if "min_tokens" in params:
            params["min_tokens"] = min(params["min_tokens"], max_tokens)
        if "grammar" in params:
            params |= {"grammar": GrammarCompiler(self.vocabulary).check(params["grammar"]), "ignore_eos": False}
        ids = self.tokenizer.encode(text, add_special_tokens=False)
        return GenerationRequest(request_id=name, prompt_token_ids=ids, params=SamplingParams(**params), index=index)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, bfloat16_kernel: None) -> Model:
    return Model(tmp_path_factory.mktemp("random"))


class Guesser(Drafter):
    """What would be drafted, or for some requests a text that is known to come: the tiny model repeats itself rarely.

    Every third token of a known text is wrong where `is_wrong`.
    """

    def __init__(self, known: dict[str, tuple[int, ...]], *, is_wrong: bool, costs: StepCosts | None = None) -> None:
        config = SpeculativeConfig(num_speculative_tokens=5, prompt_lookup_min=1)
        super().__init__(config, 16, FreeRows() if costs is None else costs)
        self._known, self._is_wrong = known, is_wrong

    def _propose(self, request: Request, record: Any, count: int) -> list[int]:
        known = self._known.get(request.request_id)
        if known is None:
            return super()._propose(request, record, count)
        at = request.num_generated_tokens
        draft = list(known[at : at + count])
        return [7 if self._is_wrong and (at + each) % 3 == 2 else token_id for each, token_id in enumerate(draft)]


class Moods(StepCosts):
    """Times without rhyme or reason: what is drafted changes from step to step."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = Random(seed)

    def seconds(self, num_decodes: int, most: int) -> list[float]:
        return [self._random.random() for _ in range(self._random.randint(0, most + 1))]


def play(
    model: Model, arrivals: list[Arrival], drafter: Drafter | None, *, num_blocks: int = 100, budget: int = 64
) -> tuple[dict[str, Answer], Scheduler]:
    info = model.runner.info
    scheduler = Scheduler(
        KVCacheManager(num_blocks, info.block_size),
        max_num_seqs=4,
        max_num_batched_tokens=budget,
        max_model_len=MAX_MODEL_LEN,
        eos_token_ids=info.eos_token_ids,
        drafter=drafter,
    )
    core = EngineCore(scheduler, model.runner, model.store)
    texts = OutputProcessor(model.tokenizer)
    answers: dict[str, Answer] = {}
    limits = {arrival.request.request_id: arrival.aborted_after for arrival in arrivals}
    coming, step = sorted(arrivals, key=lambda arrival: arrival.at_step), 0
    while core.has_requests or coming:
        new = [arrival.request for arrival in coming if arrival.at_step <= step]
        coming = [arrival for arrival in coming if arrival.at_step > step]
        for request in new:
            texts.add(request)
            answers[request.request_id] = Answer()
        step += 1
        for gained in core.add(new) + core.step():
            answer = answers[gained.request_id]
            try:
                processed = texts.process(gained)
            except EngineError as error:
                answer.error = error.message
                continue
            if processed is None:
                continue
            output, engine_goes_on = processed
            answer.text += output.text
            answer.token_ids += output.token_ids
            answer.logprobs += output.logprobs or ()
            answer.prompt_logprobs = answer.prompt_logprobs or output.prompt_logprobs
            answer.reason, answer.stop_reason = output.finish_reason, output.stop_reason
            limit = limits[gained.request_id]
            # Also where the end has come with these tokens: how many come at once is what drafts change.
            is_left = limit is not None and len(answer.token_ids) >= limit
            if is_left:
                texts.remove(gained.request_id)
                answer.token_ids, answer.logprobs = answer.token_ids[:limit], answer.logprobs[:limit]
                answer.reason = answer.stop_reason = None
                answer.text = ""  # how much of it has come by then is another matter
            if engine_goes_on or is_left:
                core.abort([gained.request_id])
    assert scheduler.stats().num_used_blocks == 0
    return answers, scheduler


WISHES: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "seeded": {"seed": 5},
    "without a seed": {},
    "cold": {"seed": 6, "temperature": 0.3},
    "top_k": {"seed": 7, "top_k": 5},
    "top_p": {"seed": 8, "top_p": 0.7, "min_p": 0.05},
    "logprobs": {"temperature": 0.0, "logprobs": 3, "prompt_logprobs": 1},
    "some logprobs": {"temperature": 0.0, "logprobs": 0, "logprob_token_ids": (5, 60, 9)},
    "penalties": {"temperature": 0.0, "presence_penalty": 0.6, "frequency_penalty": 0.4, "repetition_penalty": 1.1},
    "seeded penalties": {"seed": 9, "frequency_penalty": -0.5, "logprobs": 1},
    "bias": {"temperature": 0.0, "logit_bias": {9: 4.0, 40: -3.0}},
    "allowed": {"seed": 2, "allowed_token_ids": (20, 21, 22)},
    "bad words": {"temperature": 0.0, "bad_words_token_ids": ((33,), (40, 41), (20,))},
    "not before": {"seed": 4, "min_tokens": 12, "temperature": 2.0, "ignore_eos": False},
    "stop strings": {"seed": 3, "stop": ("a", "ne"), "include_stop_str_in_output": True},
    "stop ids": {"seed": 3, "stop_token_ids": (20, 33, 60)},
    "thought": {
        "seed": 1,
        "thought": ThoughtLimit(max_tokens=6, ends=((21, 22), (22,)), closing=(21, 22), is_open=True),
    },
}
REGEX = GrammarSpec(kind="regex", source="([a-c]{2}-){3,9}[0-9]+")
CONSTRAINED: dict[str, dict[str, Any]] = {
    "json": {"temperature": 0.0, "grammar": GrammarSpec(kind="json_object")},
    "seeded json": {"seed": 4, "grammar": GrammarSpec(kind="json_object"), "presence_penalty": 0.3},
    "regex": {"seed": 5, "grammar": REGEX, "top_k": 20, "logprobs": 1},
}
WISHES |= CONSTRAINED


@pytest.mark.parametrize("is_wrong", [False, True])
@pytest.mark.parametrize("wish", WISHES)
def test_drafts_change_nothing_of_an_answer_but_its_steps(model: Model, wish: str, is_wrong: bool) -> None:
    def arrivals() -> list[Arrival]:
        return [
            Arrival(2 * at, model.request(f"r{at}", text, 40, WISHES[wish], at)) for at, text in enumerate(TEXTS[:3])
        ]

    alone, without = play(model, arrivals(), None)
    drafter = Guesser({name: answer.token_ids for name, answer in alone.items()}, is_wrong=is_wrong)
    with_drafts, scheduler = play(model, arrivals(), drafter)
    assert with_drafts == alone
    stats = scheduler.stats()
    assert stats.num_accepted_tokens > 0
    assert stats.num_steps < without.stats().num_steps
    assert (stats.num_accepted_tokens < stats.num_draft_tokens) >= is_wrong


ARRIVALS = st.lists(
    st.tuples(
        st.integers(0, 10),
        st.sampled_from(TEXTS),
        st.sampled_from(sorted(WISHES)),
        st.integers(1, 50),
        st.sampled_from([None, None, None, 4, 11]),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chosen=ARRIVALS, is_wrong=st.booleans(), knows=st.booleans(), num_blocks=st.integers(11, 40), data=st.data())
def test_so_do_arrivals_aborts_preemptions_and_neighbours(
    model: Model,
    chosen: list[tuple[int, str, str, int, int | None]],
    is_wrong: bool,
    knows: bool,
    num_blocks: int,
    data: st.DataObject,
) -> None:
    def arrivals() -> list[Arrival]:
        return [
            Arrival(step, model.request(f"r{at}", text, max_tokens, WISHES[wish], at), aborted_after)
            for at, (step, text, wish, max_tokens, aborted_after) in enumerate(chosen)
        ]

    budget = data.draw(st.integers(4, 40))
    alone, _ = play(model, arrivals(), None, num_blocks=num_blocks, budget=budget)
    known = {name: answer.token_ids for name, answer in alone.items()} if knows else {}
    drafter = Guesser(known, is_wrong=is_wrong, costs=data.draw(st.builds(Moods, st.integers(0, 99)) | st.none()))
    assert play(model, arrivals(), drafter, num_blocks=num_blocks, budget=budget)[0] == alone


def test_a_text_that_repeats_is_guessed_from_itself(model: Model) -> None:
    """No hints: greedy answers of the random model run into circles, and the index finds them."""
    arrivals = [Arrival(0, model.request("r", "hello " * 4, 120, {"temperature": 0.0, "logit_bias": {33: 30.0}}))]
    alone, _ = play(model, arrivals, None)
    with_drafts, scheduler = play(model, arrivals, Drafter(SpeculativeConfig(), 16, FreeRows()))
    assert with_drafts == alone
    stats = scheduler.stats()
    assert stats.num_accepted_tokens > 80
    assert stats.num_steps < 40
