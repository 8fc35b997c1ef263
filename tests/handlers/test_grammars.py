"""Constraints are compiled at a safe distance: whatever a client sends, it gets an answer and nobody else notices."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from fake_engine import FakeEngine

from specserve.engine.errors import OverloadedError
from specserve.engine.grammar_spec import GrammarKind, GrammarSpec
from specserve.engine.grammars.check_process import Verdict
from specserve.generated.errors import ApiError, InvalidConstraint, ServerLoading, UnsupportedValue
from specserve.handlers.grammars import GrammarBudget, GrammarChecker, VerdictCache, size_of

FAST = GrammarBudget(time_s=1.0, memory_bytes=200 * 1024 * 1024)
GOOD = GrammarSpec(kind="regex", source="[a-z]+")


def tower(height: int) -> str:
    """Each level refers to the next one twice."""
    levels = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(height)}
    return json.dumps({"$ref": "#/$defs/a0", "$defs": {**levels, f"a{height}": {"type": "integer"}}})


HOSTILE: dict[str, tuple[GrammarKind, str]] = {
    "catastrophic backtracking": ("regex", "(a+)+$"),
    "product of counts": ("regex", "a{1,100000}{1,100000}"),
    "many alternatives": ("regex", "|".join(f"w{n * 7919 % 1000003}" for n in range(50_000))),
    "deep groups": ("regex", "(" * 20_000 + "a" + ")" * 20_000),
    "exponential automaton": ("regex", "(a|b)*a(a|b){400}c"),
    "deep schema": ("json_schema", '{"items":' * 5000 + "{}" + "}" * 5000),
    "itself": ("json_schema", '{"$ref": "#"}'),
    "around in circles": (
        "json_schema",
        '{"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}',
    ),
    "a tower of references": ("json_schema", tower(20)),
    "a reference to the network": ("json_schema", '{"$ref": "http://127.0.0.1:1/schema"}'),
    "huge enum": ("json_schema", json.dumps({"enum": [f"v{n}" for n in range(100_000)]})),
    "huge count": ("json_schema", '{"type": "array", "minItems": 1000000000}'),
    "huge length": ("json_schema", '{"type": "string", "minLength": 1000000000}'),
    "slow multiples": ("json_schema", '{"type": "integer", "multipleOf": 999983}'),
    "hungry multiples": ("json_schema", '{"type": "integer", "allOf": [{"multipleOf": 9973}, {"multipleOf": 9967}]}'),
    "many properties": ("json_schema", json.dumps({"properties": {f"p{n}": {} for n in range(9000)}})),
    "left recursion": ("grammar", 'start: start start | "a" |'),
    "ambiguity": ("grammar", 'start: s\ns: s s | s s s | "a" | '),
    "deep parentheses": ("grammar", "root ::= " + "(" * 5000 + '"a"' + ")" * 5000),
    "unfinished": ("grammar", "root ::= ("),
    "surrogates": ("grammar", 'root ::= "\\ud800"'),
    "deep tag": ("structural_tag", '{"format":' + '{"type":"or","elements":[' * 200 + "1" + "]}" * 200 + "}"),
    "many texts": ("choice", json.dumps([f"w{n}" for n in range(9000)])),
}


@pytest_asyncio.fixture
async def checker() -> AsyncIterator[GrammarChecker]:
    made = GrammarChecker(FakeEngine, FAST)
    yield made
    await made.close()


async def refusal(checker: GrammarChecker, spec: GrammarSpec) -> ApiError:
    with pytest.raises(ApiError) as refused:
        await checker.check(spec, param="guided_json")
    return refused.value


async def test_hostile_constraints_get_an_answer_and_others_go_on(checker: GrammarChecker) -> None:
    await checker.check(GOOD, param="regex")
    before = checker.process_id

    async def outcome(kind: GrammarKind, source: str) -> ApiError | None:
        try:
            await checker.check(GrammarSpec(kind=kind, source=source), param="x")
        except (InvalidConstraint, UnsupportedValue) as error:
            return error
        return None

    hostile = asyncio.gather(*(outcome(*item) for item in HOSTILE.values()))
    plain = [checker.check(GrammarSpec(kind="regex", source=f"x{n}"), param="regex") for n in range(10)]
    assert all(spec.rules for spec in await asyncio.gather(*plain))
    answers = dict(zip(HOSTILE, await hostile, strict=True))
    refused = {name: error for name, error in answers.items() if error is not None}
    assert all(len(str(error)) < 800 and error.status == 400 for error in refused.values())
    assert {"deep groups", "itself", "huge enum", "hungry multiples", "deep schema"} <= set(refused)
    assert "catastrophic backtracking" not in refused, "an automaton takes it easily"
    assert checker.process_id == before, "only children may have died"


async def test_a_check_that_takes_too_long_is_killed() -> None:
    checker = GrammarChecker(FakeEngine, GrammarBudget(time_s=0.3, memory_bytes=1 << 30))
    try:
        slow = GrammarSpec(kind="json_schema", source=HOSTILE["slow multiples"][1])
        assert "longer than 0.3 s" in str(await refusal(checker, slow))
    finally:
        await checker.close()


async def test_a_check_that_needs_too_much_memory_is_killed() -> None:
    checker = GrammarChecker(FakeEngine, GrammarBudget(time_s=30, memory_bytes=64 << 20))
    try:
        hungry = GrammarSpec(kind="json_schema", source=HOSTILE["hungry multiples"][1])
        assert "more than 64 MB of memory" in str(await refusal(checker, hungry))
    finally:
        await checker.close()


async def test_the_param_leads_to_the_keyword(checker: GrammarChecker) -> None:
    schema = {"properties": {"x": {"type": "string", "format": "shoe size"}}}
    error = await refusal(checker, GrammarSpec(kind="json_schema", source=json.dumps(schema)))
    assert isinstance(error, UnsupportedValue)
    assert error.param == "guided_json/properties/x/format"


async def test_a_schema_that_is_not_strict_is_widened(checker: GrammarChecker) -> None:
    spec = GrammarSpec(kind="json_schema", source='{"items": {"format": "shoe size"}}', strict=False)
    assert (await checker.check(spec, param="x")).widened == ("/items/format",)


async def test_a_known_grammar_costs_nothing(checker: GrammarChecker) -> None:
    first = await checker.check(GOOD, param="regex")
    os.kill(checker.process_id or 0, signal.SIGKILL)
    again = await checker.check(GrammarSpec(kind="regex", source="[a-z]+"), param="regex")
    assert (again, again.rules) == (first, first.rules)
    wrong = GrammarSpec(kind="regex", source="(")
    assert str(await refusal(checker, wrong)) == str(await refusal(checker, wrong))


async def test_those_who_ask_the_same_at_once_share_one_check(checker: GrammarChecker) -> None:
    specs = await asyncio.gather(*(checker.check(GOOD, param="regex") for _ in range(5)))
    assert all(spec.rules is specs[0].rules for spec in specs)


async def test_who_leaves_does_not_end_the_check_of_others(checker: GrammarChecker) -> None:
    leaving = asyncio.create_task(checker.check(GOOD, param="regex"))
    staying = asyncio.create_task(checker.check(GOOD, param="regex"))
    await asyncio.sleep(0)
    leaving.cancel()
    assert (await staying).rules


async def test_a_process_that_died_is_replaced(checker: GrammarChecker) -> None:
    await checker.check(GOOD, param="regex")
    first = checker.process_id
    os.kill(first or 0, signal.SIGKILL)
    for pattern in ("x", "y", "z"):
        assert (await checker.check(GrammarSpec(kind="regex", source=pattern), param="regex")).rules
    assert checker.process_id != first


async def test_the_process_ends_with_its_server(checker: GrammarChecker) -> None:
    await checker.check(GOOD, param="regex")
    process_id = checker.process_id
    await checker.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process_id or 0, 0)


async def test_too_many_that_wait_are_turned_away() -> None:
    checker = GrammarChecker(FakeEngine, GrammarBudget(max_parallel=1, max_waiting=1))
    try:
        waiting = [
            asyncio.create_task(checker.check(GrammarSpec(kind="regex", source=text), param="regex")) for text in "ab"
        ]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="wait to be compiled"):
            await checker.check(GrammarSpec(kind="regex", source="c"), param="regex")
        assert all(spec.rules for spec in await asyncio.gather(*waiting))
    finally:
        await checker.close()


async def test_before_the_model_is_there_nothing_can_be_checked() -> None:
    with pytest.raises(ServerLoading):
        await GrammarChecker(lambda: None).check(GOOD, param="regex")


async def test_each_engine_has_a_checker_that_knows_its_vocabulary() -> None:
    first, second = FakeEngine(), FakeEngine()
    checker = GrammarChecker(lambda: first, FAST)
    try:
        other = checker.of(second)
        assert checker.of(first) is checker
        assert checker.of(second) is other
        assert (await checker.check(GOOD, param="regex")).rules == (await other.check(GOOD, param="regex")).rules
        assert checker.process_id != other.process_id
    finally:
        await checker.close()


async def test_a_tokenizer_whose_tokens_have_no_bytes_is_refused() -> None:
    class WithoutSpelling:
        spelling = None

    engine = FakeEngine(tokenizer=WithoutSpelling())  # type: ignore[arg-type]
    with pytest.raises(UnsupportedValue, match="depends on their neighbours"):
        await GrammarChecker(lambda: engine).check(GOOD, param="regex")


def test_the_cache_is_bounded_by_bytes_and_forgets_the_oldest() -> None:
    verdicts = [
        (spec, Verdict(0, spec))
        for n in range(20)
        if (spec := GrammarSpec(kind="regex", source=str(n), rules="x" * 900))
    ]
    one = size_of(*verdicts[0])
    cache = VerdictCache(max_bytes=5 * one + one // 2)
    for number, (spec, verdict) in enumerate(verdicts):
        cache.put(spec, verdict)
        if number > 2:
            assert cache.get(verdicts[2][0]) is verdicts[2][1], "it was asked for all the time"
    assert len(cache) == 5
    assert cache.num_bytes <= cache.max_bytes
    assert cache.get(verdicts[15][0]) is None
    assert cache.get(verdicts[19][0]) is not None


def test_neither_side_imports_torch() -> None:
    modules = "specserve.handlers.grammars, specserve.engine.grammars.check_process"
    code = f"import sys, {modules}; print(*sorted({{'torch', 'transformers', 'tokenizers'}} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
