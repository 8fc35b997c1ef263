"""Constraints through the whole engine: random weights, high temperature, batches, preemption, and other parameters."""

from __future__ import annotations

import json
import re
from typing import Any

import llguidance
import pytest
from constrained_engine import ConstrainedEngine, write_folder
from schema_cases import PERSON, SCHEMAS
from test_schemas import exact, problems

from specserve.engine.api import FinishReason, GenerationRequest
from specserve.engine.core import EngineCore
from specserve.engine.errors import GrammarError
from specserve.engine.grammar_spec import GrammarSpec
from specserve.engine.grammars.store import GrammarStore
from specserve.engine.params import SamplingParams

HOT = 1.5


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> ConstrainedEngine:
    return ConstrainedEngine(write_folder(tmp_path_factory.mktemp("model")))


def regex(engine: ConstrainedEngine, pattern: str) -> GrammarSpec:
    return engine.checked(GrammarSpec(kind="regex", source=pattern))


def hot(grammar: GrammarSpec | None, **changes: Any) -> SamplingParams:
    return SamplingParams(**{"max_tokens": 300, "temperature": HOT, "seed": 1, "grammar": grammar, **changes})


def test_with_random_weights_every_answer_that_stops_validates(engine: ConstrainedEngine) -> None:
    wanted = [
        (name, hot(engine.checked(GrammarSpec(kind="json_schema", source=json.dumps(schema))), seed=seed))
        for name, schema in SCHEMAS.items()
        for seed in range(3)
    ]
    answers = engine.answer([params for _, params in wanted])
    stopped: set[str] = set()
    for (name, _), answer in zip(wanted, answers, strict=True):
        assert answer.error is None
        if answer.reason is FinishReason.STOP:
            stopped.add(name)
            assert problems(SCHEMAS[name], exact(answer.text)) == [], (name, answer.text)
    assert len(stopped) >= 50, SCHEMAS.keys() - stopped


@pytest.mark.parametrize(
    ("kind", "source", "pattern"),
    [
        ("regex", r"\d{3}-[a-f]{2,5}", r"[0-9]{3}-[a-f]{2,5}"),
        ("choice", '["yes", "no", "perhaps, but not today"]', "yes|no|perhaps, but not today"),
        ("grammar", 'root ::= "<" [0-9]{1,9} ">"', "<[0-9]{1,9}>"),
        ("regex", " {1,3}x?", " {1,3}x?"),
    ],
)
@pytest.mark.parametrize(
    "sampling", [{"temperature": HOT}, {"temperature": 0.0}, {"top_k": 5}, {"top_p": 0.5}, {"min_p": 0.2}]
)
def test_texts_match_however_tokens_are_chosen(
    kind: Any, source: str, pattern: str, sampling: dict[str, Any], engine: ConstrainedEngine
) -> None:
    spec = engine.checked(GrammarSpec(kind=kind, source=source))
    answers = engine.answer([hot(spec, seed=seed, **sampling) for seed in range(4)])
    for answer in answers:
        assert answer.reason is FinishReason.STOP
        assert re.fullmatch(pattern, answer.text)


def test_neighbours_without_a_constraint_are_not_touched(engine: ConstrainedEngine) -> None:
    free = [hot(None, seed=seed, max_tokens=20) for seed in range(3)]
    alone = engine.answer(free)
    constrained = [hot(regex(engine, "[0-9]{30}"), seed=seed) for seed in range(4)]
    mixed = engine.answer([constrained[0], free[0], constrained[1], constrained[2], free[1], constrained[3], free[2]])
    assert [mixed[at].token_ids for at in (1, 4, 6)] == [answer.token_ids for answer in alone]
    assert all(re.fullmatch("[0-9]{30}", mixed[at].text) for at in (0, 2, 3, 5))


@pytest.mark.parametrize(
    "sampling", [{}, {"temperature": 0.0}, {"top_k": 9, "top_p": 0.9}, {"top_p": 0.7}, {"min_p": 0.1}]
)
def test_a_seeded_answer_does_not_depend_on_neighbours_or_on_masks_filled_ahead(
    sampling: dict[str, Any], engine: ConstrainedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    patterns = ["[a-z0-9 ]{40}", "([a-z]+ ){9}x", "(hello|[0-9]{3}|x y)*"]
    params = [hot(regex(engine, pattern), seed=at, max_tokens=60, **sampling) for at, pattern in enumerate(patterns)]
    together = [answer.token_ids for answer in engine.answer(params)]
    alone = [engine.answer([chosen])[0].token_ids for chosen in params]
    assert alone == together
    monkeypatch.setattr(engine.runner._masks, "_fill_all_ahead", True)
    assert [answer.token_ids for answer in engine.answer(params)] == together


def test_the_last_token_of_a_complete_answer_is_shown_and_is_no_end_token(engine: ConstrainedEngine) -> None:
    (answer,) = engine.answer([hot(regex(engine, "abc"))])
    assert (answer.text, answer.reason) == ("abc", FinishReason.STOP)
    assert not set(answer.token_ids) & set(engine.vocabulary.eos_token_ids)
    assert answer.outputs[-1].stop_reason is None


def test_an_end_token_is_taken_where_the_answer_may_go_on_and_not_shown(engine: ConstrainedEngine) -> None:
    end = engine.vocabulary.eos_token_ids[0]
    (answer,) = engine.answer([hot(regex(engine, "[0-9]+"), logit_bias={end: 100})])
    assert answer.token_ids[-1] == end
    assert re.fullmatch("[0-9]+", answer.text)
    assert len(answer.token_ids) == 2


def test_with_ignore_eos_an_answer_goes_on_while_it_can(engine: ConstrainedEngine) -> None:
    end = engine.vocabulary.eos_token_ids[0]
    (answer,) = engine.answer([hot(regex(engine, "[0-9]{1,7}"), ignore_eos=True, logit_bias={end: 100})])
    assert (len(answer.text), answer.reason) == (7, FinishReason.STOP)


def test_min_tokens_holds_back_the_end_but_cannot_lengthen_a_complete_answer(engine: ConstrainedEngine) -> None:
    end = engine.vocabulary.eos_token_ids[0]
    longer, complete = engine.answer(
        [
            hot(regex(engine, "[0-9]+"), min_tokens=9, logit_bias={end: 100}),
            hot(regex(engine, "[a-z]{3}"), min_tokens=200),
        ]
    )
    assert len(longer.token_ids) == 10
    assert re.fullmatch("[a-z]{3}", complete.text)
    assert complete.reason is FinishReason.STOP


def test_the_mask_wins_over_bans_that_leave_nothing(engine: ConstrainedEngine) -> None:
    letters = {engine.vocabulary.tokens.index(bytes([byte])): -100.0 for byte in b"abc"}
    banned = tuple((token_id,) for token_id in letters)
    answers = engine.answer(
        [
            hot(regex(engine, "[abc]{3}"), allowed_token_ids=(engine.vocabulary.tokens.index(b"z"),)),
            hot(regex(engine, "[abc]{3}"), logit_bias=letters),
            hot(regex(engine, "[abc]{3}"), bad_words_token_ids=banned),
            hot(regex(engine, "[abc]{3}"), repetition_penalty=1e30, presence_penalty=2.0, frequency_penalty=2.0),
        ]
    )
    for answer in answers:
        assert answer.error is None
        assert re.fullmatch("[abc]{3}", answer.text)


def test_a_bias_chooses_among_what_the_grammar_allows(engine: ConstrainedEngine) -> None:
    seven = engine.vocabulary.tokens.index(b"7")
    (answer,) = engine.answer([hot(regex(engine, "[0-9]{6}"), logit_bias={seven: 100})])
    assert answer.text == "777777"


def test_stop_strings_end_a_constrained_answer_early(engine: ConstrainedEngine) -> None:
    (answer,) = engine.answer([hot(regex(engine, "a{5}b{5}"), stop=("bb",))])
    assert (answer.text, answer.outputs[-1].stop_reason) == ("aaaaa", "bb")


def test_logprobs_are_those_of_the_model_not_of_the_mask(engine: ConstrainedEngine) -> None:
    (constrained,) = engine.answer([hot(regex(engine, "[0-9]{5}"), logprobs=3)])
    free_first = engine.answer([hot(None, logprobs=3, max_tokens=1, temperature=0.0)])[0]
    logprobs = constrained.outputs[0].logprobs
    free_logprobs = free_first.outputs[0].logprobs
    assert logprobs is not None
    assert free_logprobs is not None
    assert [top.token_id for top in logprobs[0].top] == [top.token_id for top in free_logprobs[0].top]
    assert logprobs[0].sampled.rank > 1, "random weights do not prefer a digit"


def test_siblings_write_answers_of_their_own(engine: ConstrainedEngine) -> None:
    params = hot(engine.checked(GrammarSpec(kind="json_schema", source=json.dumps(PERSON))), seed=None)
    prompt = list(range(10, 60))
    requests = [
        GenerationRequest(request_id=f"s{n}", prompt_token_ids=prompt, params=params, parent_id="s", index=n)
        for n in range(4)
    ]
    answers = engine.run(engine.core(), requests)
    texts = [answer.text for answer in answers.values() if answer.reason is FinishReason.STOP]
    assert len(set(texts)) > 1
    assert all(problems(PERSON, json.loads(text)) == [] for text in texts)


def test_preempted_answers_go_on_where_they_were(engine: ConstrainedEngine) -> None:
    params = [hot(regex(engine, "([a-z]{4} ){40}"), seed=seed) for seed in range(6)]
    roomy = engine.answer(params)
    core = engine.core(num_blocks=20)
    tight = engine.answer(params, core)
    assert core.stats().num_preemptions > 0
    assert [answer.text for answer in tight] == [answer.text for answer in roomy]
    assert all(re.fullmatch("([a-z]{4} ){40}", answer.text) for answer in tight)


class SlowStore(GrammarStore):
    """Grammars become ready when the test says so."""

    def __init__(self, engine: ConstrainedEngine) -> None:
        super().__init__(lambda: engine.vocabulary)
        self.engine = engine
        self.held: list[tuple[str, GrammarSpec]] = []
        self.done: list[tuple[str, llguidance.LLMatcher | str]] = []

    def want(self, request_id: str, spec: GrammarSpec) -> llguidance.LLMatcher | None:
        self.held.append((request_id, spec))
        return None

    def take_ready(self) -> list[tuple[str, llguidance.LLMatcher | str]]:
        done, self.done = self.done, []
        return done

    def finish(self) -> None:
        self.done += [(request_id, self.engine.compiler.compile(spec)) for request_id, spec in self.held]
        self.held = []


@pytest.fixture
def slow(engine: ConstrainedEngine) -> tuple[EngineCore, SlowStore]:
    core = engine.core()
    store = SlowStore(engine)
    core._grammars = store
    return core, store


def test_others_run_while_a_grammar_is_compiled(slow: tuple[EngineCore, SlowStore], engine: ConstrainedEngine) -> None:
    core, store = slow
    core.add([engine.request("waits", hot(regex(engine, "[0-9]{3}")))])
    core.add([engine.request("free", hot(None, max_tokens=5, ignore_eos=True))])
    progress = [gained for _ in range(8) for gained in core.step()]
    assert {gained.request_id for gained in progress} == {"free"}
    assert core.is_stalled
    store.finish()
    progress = [gained for _ in range(4) for gained in core.step()]
    assert {gained.request_id for gained in progress} == {"waits"}
    assert not core.has_requests


def test_an_abort_while_the_grammar_is_compiled_ends_the_request(
    slow: tuple[EngineCore, SlowStore], engine: ConstrainedEngine
) -> None:
    core, store = slow
    core.add([engine.request("gone", hot(regex(engine, "[0-9]{3}")))])
    core.abort(["gone"])
    assert not core.has_requests
    store.finish()
    assert core.step() == []


def test_a_grammar_that_fails_in_the_engine_fails_only_its_request(engine: ConstrainedEngine) -> None:
    broken = GrammarSpec(kind="regex", rules="start: missing")
    bad, good = engine.answer([hot(broken), hot(regex(engine, "[0-9]{3}"))])
    assert isinstance(bad.error, GrammarError)
    assert "unknown name" in bad.error.message
    assert re.fullmatch("[0-9]{3}", good.text)


def test_a_grammar_that_gets_too_complex_on_the_way_fails_only_its_request(engine: ConstrainedEngine) -> None:
    explosive = GrammarSpec(kind="regex", source="x{1,100000}{1,100000}")
    bad, good = engine.answer([hot(explosive, max_tokens=450, ignore_eos=True), hot(regex(engine, "[0-9]{30}"))])
    assert isinstance(bad.error, GrammarError)
    assert "too complex" in bad.error.message
    assert re.fullmatch("[0-9]{30}", good.text)


def test_an_engine_without_a_compiler_refuses(engine: ConstrainedEngine) -> None:
    core = engine.core()
    core._grammars = None
    (refused,) = core.add([engine.request("r", hot(GrammarSpec(kind="json_object")))])
    assert (refused.error, refused.is_refusal) == ("this engine compiles no grammars", True)


def test_the_store_remembers_by_bytes(engine: ConstrainedEngine) -> None:
    store = GrammarStore(lambda: engine.vocabulary, max_bytes=300_000)
    for number in range(20):
        store.want(f"r{number}", GrammarSpec(kind="regex", source=f"x{{{number}}}", num_bytes=70_000))
    ready: list[str] = []
    while len(ready) < 20:
        ready += [request_id for request_id, result in store.take_ready() if not isinstance(result, str)]
    assert store.num_bytes <= 300_000
    assert store.want("again", GrammarSpec(kind="regex", source="x{19}", num_bytes=70_000)) is not None
    assert store.want("forgotten", GrammarSpec(kind="regex", source="x{1}", num_bytes=70_000)) is None


def test_a_known_grammar_starts_at_once(engine: ConstrainedEngine) -> None:
    spec = regex(engine, "[x-z]{2}")
    engine.answer([hot(spec)])
    core = engine.core()
    core.add([engine.request("r", hot(spec))])
    assert [gained.request_id for gained in core.step()] == ["r"]


def test_white_space_cannot_fill_an_answer(engine: ConstrainedEngine) -> None:
    spaces = {
        token_id: 100.0
        for token_id, spelled in enumerate(engine.vocabulary.tokens)
        if spelled and not spelled.strip(b" \t\r\n")
    }
    spec = engine.checked(GrammarSpec(kind="json_schema", source='{"type": "array", "const": [1, 2]}'))
    (answer,) = engine.answer([hot(spec, logit_bias=spaces, max_tokens=450)])
    assert answer.reason is FinishReason.STOP
    assert json.loads(answer.text) == [1, 2]
