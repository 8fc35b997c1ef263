"""Prompts with a suffix: marks and order of every family, as its authors publish them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trained_tokenizers
from asking import ask, refusal
from fake_engine import FakeEngine
from local_engine import LocalEngine, write_model
from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from specserve.engine.api import Tokenizer
from specserve.engine.tokenizer import load_tokenizer
from specserve.handlers.openai.fill_in_middle import FillInMiddle

PREFIX, SUFFIX = "def add(a, b):\n    return ", "\n\nprint(add(1, 2))"


def with_tokens(folder: Path, kind: str, names: list[str]) -> Tokenizer:
    trained_tokenizers.KINDS[kind](folder)
    file = str(folder / "tokenizer.json")
    backend = Backend.from_file(file)
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    backend.save(file)
    return load_tokenizer(folder)


@pytest.mark.parametrize(
    ("kind", "names", "form", "ends"),
    [
        ("byte_level", ["<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>"],
         ["<|fim_prefix|>", PREFIX, "<|fim_suffix|>", SUFFIX, "<|fim_middle|>"],
         {"<|endoftext|>", "<|fim_pad|>", "<|repo_name|>"}),
        ("byte_level", ["<fim_prefix>", "<fim_middle>", "<fim_suffix>", "<fim_pad>"],
         ["<fim_prefix>", PREFIX, "<fim_suffix>", SUFFIX, "<fim_middle>"], {"<|endoftext|>", "<fim_pad>"}),
        ("byte_level", ["<fim-prefix>", "<fim-middle>", "<fim-suffix>", "<fim-pad>"],
         ["<fim-prefix>", PREFIX, "<fim-suffix>", SUFFIX, "<fim-middle>"], {"<|endoftext|>", "<fim-pad>"}),
        ("byte_level", ["<｜fim▁hole｜>", "<｜fim▁begin｜>", "<｜fim▁end｜>"],
         ["<｜fim▁begin｜>", PREFIX, "<｜fim▁hole｜>", SUFFIX, "<｜fim▁end｜>"], set()),
        ("byte_level", ["[PREFIX]", "[SUFFIX]"], ["[SUFFIX]", SUFFIX, "[PREFIX]", PREFIX], set()),
        ("byte_level", ["<[fim-suffix]>", "<[fim-prefix]>", "<[fim-middle]>"],
         ["<[fim-suffix]>", SUFFIX, "<[fim-prefix]>", PREFIX, "<[fim-middle]>"], set()),
    ],
    ids=["qwen", "starcoder", "santacoder", "deepseek", "codestral", "seed"],
)  # fmt: skip
def test_the_prompt_has_the_familys_order(
    kind: str, names: list[str], form: list[str], ends: set[str], tmp_path: Path
) -> None:
    tokenizer = with_tokens(tmp_path, kind, names)
    fill = FillInMiddle.of(tokenizer)
    assert fill is not None
    prefix = tokenizer.encode(PREFIX, add_special_tokens=False)
    token_ids = fill.prompt(tokenizer, [], prefix, SUFFIX)
    assert tokenizer.decode(token_ids) == "".join(form)
    expected = [tokenizer.encode(piece, add_special_tokens=False) for piece in form]
    assert token_ids == [token_id for piece in expected for token_id in piece]
    assert {tokenizer.vocabulary_entry(end) for end in fill.end_ids} == ends


@pytest.mark.parametrize(
    ("names", "before", "between", "after"),
    [
        (["▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"], ["<s>", "▁<PRE>"], "▁<SUF>", ["▁<MID>"]),
        (["[PREFIX]", "[SUFFIX]"], ["<s>", "[SUFFIX]"], "[PREFIX]", []),
    ],
    ids=["codellama", "codestral"],
)
def test_a_suffix_gets_no_space_of_its_own(
    names: list[str], before: list[str], between: str, after: list[str], tmp_path: Path
) -> None:
    """The prefix begins as any text of this tokenizer, with ▁; the suffix goes on, so it must not."""
    tokenizer = with_tokens(tmp_path, "byte_fallback", names)
    fill = FillInMiddle.of(tokenizer)
    assert fill is not None
    encode = tokenizer.encode("one", add_special_tokens=False)
    entries = [tokenizer.vocabulary_entry(one) for one in fill.prompt(tokenizer, [1], encode, "two")]
    prefix, suffix = [tokenizer.vocabulary_entry(one) for one in encode], ["t", "w", "o"]
    first, second = (prefix, suffix) if between == "▁<SUF>" else (suffix, prefix)
    assert prefix[0] in ("▁", "▁o", "▁one")
    assert entries == [*before, *first, between, *second, *after]


def test_a_vocabulary_without_the_marks_has_no_form(tmp_path: Path) -> None:
    assert FillInMiddle.of(with_tokens(tmp_path, "byte_level", ["<|fim_prefix|>", "<|fim_suffix|>"])) is None


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> LocalEngine:
    """Its tokens 3 to 5 are marks: `write_model` makes the model as large as the vocabulary then is."""
    folder = tmp_path_factory.mktemp("fill")

    def marked(to: Path) -> Path:
        with_tokens(to, "byte_fallback", ["<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<fim_pad>"])
        return to

    trained_tokenizers.KINDS["marked"] = marked
    try:
        return LocalEngine(write_model(folder, "marked"))
    finally:
        del trained_tokenizers.KINDS["marked"]


async def test_the_gap_is_filled_over_the_wire(engine: LocalEngine) -> None:
    body: dict[str, Any] = {"prompt": PREFIX, "suffix": SUFFIX, "max_tokens": 5, "temperature": 0, "echo": True}
    reply = await ask(engine, body)
    request = engine.requests[-1]
    spelled = engine.tokenizer.decode(request.prompt_token_ids)
    assert spelled.replace("<s>", "").replace(" ", "") == (
        f"<fim_prefix>{PREFIX}<fim_suffix>{SUFFIX}<fim_middle>".replace(" ", "")
    )
    assert request.prompt_token_ids[0] == 1
    assert engine.tokenizer.encode("<fim_pad>", add_special_tokens=False)[0] in request.params.stop_token_ids
    assert reply["choices"][0]["text"].startswith(PREFIX)
    assert reply["usage"]["prompt_tokens"] == len(request.prompt_token_ids)
    ids = engine.tokenizer.encode(PREFIX, add_special_tokens=False)
    await ask(engine, {"prompt": [ids, ids], "suffix": SUFFIX, "max_tokens": 1, "temperature": 0})
    assert engine.requests[-1].prompt_token_ids == request.prompt_token_ids[1:]


async def test_an_empty_suffix_is_none() -> None:
    fake = FakeEngine()
    await ask(fake, {"prompt": "hello", "suffix": ""})
    assert fake.requests[0].prompt_token_ids == fake.tokenizer.encode("hello", add_special_tokens=True)


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"echo": True, "logprobs": 1}, "suffix"), ({"truncate_prompt_tokens": 3}, "truncate_prompt_tokens")],
)
async def test_what_a_gap_has_no_room_for_is_refused(fields: dict[str, Any], param: str, engine: LocalEngine) -> None:
    body = {"prompt": PREFIX, "suffix": SUFFIX} | fields
    assert await refusal(engine, body) == ("invalid_parameter_combination", param)


async def test_a_model_without_the_marks_says_so() -> None:
    assert await refusal(FakeEngine(), {"prompt": "a", "suffix": "b"}) == ("unsupported_parameter", "suffix")
