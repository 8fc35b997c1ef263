"""The reference pages say what the contract, the field policies and the flags say, and are fresh."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from specserve.generated import document
from specserve.handlers.accepted_flags import ACCEPTED_FLAGS
from specserve.handlers.command_line import EXIT_CODES
from specserve.handlers.fields import POLICIES
from specserve.handlers.flag_table import FLAGS

ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("reference_pages", ROOT / "docs" / "generate.py")
assert _spec is not None
assert _spec.loader is not None
generate = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(generate)

DOCUMENT = json.loads(document())


def rows(page: str, heading: str | None = None) -> dict[str, list[str]]:
    """The tables of a page, or of one section, by their first cell without its marks."""
    text = generate.pages()[page]
    if heading is not None:
        text = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line.replace("\\|", "¦") for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0].strip("`"): row[1:] for row in cells}


def test_the_committed_pages_are_fresh() -> None:
    assert generate.stale_pages(ROOT / "docs" / "reference") == []


def test_touched_missing_and_left_over_pages_are_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--output", str(tmp_path)]) == 0
    assert generate.main(["--check", "--output", str(tmp_path)]) == 0
    (tmp_path / "flags.md").write_text("old")
    (tmp_path / "errors.md").unlink()
    (tmp_path / "left_over.md").write_text("")
    assert generate.stale_pages(tmp_path) == ["errors.md", "flags.md", "left_over.md"]
    capsys.readouterr()
    assert generate.main(["--check", "--output", str(tmp_path)]) == 1
    assert "stale: docs/reference/flags.md; run make docs" in capsys.readouterr().out


@pytest.mark.parametrize("schema", POLICIES, ids=lambda schema: schema.__name__)
def test_every_field_of_a_request_has_one_row_with_its_state(schema: type) -> None:
    policy, found = POLICIES[schema], rows("parameters.md", schema.__name__)
    properties = DOCUMENT["components"]["schemas"][schema.__name__]["properties"]
    assert found.keys() == properties.keys() | {"Field"}
    for name in properties:
        state, *_, meaning = found[name]
        if name in policy.without_effect:
            assert state == "no effect"
            assert policy.without_effect[name].replace("|", "¦") in meaning
        elif name in policy.refused:
            assert (state, "`unsupported_parameter`" in meaning) == ("refused", True)
        else:
            assert state == "honoured"


def test_types_bounds_and_defaults_are_those_of_the_contract() -> None:
    found = rows("parameters.md", "ChatCompletionRequest")
    assert found["temperature"][1:4] == ["number", "", "≥ 0, ≤ 2"]
    assert found["n"][1:4] == ["integer", "`1`", "≥ 1, ≤ 16384"]
    assert found["messages"][1:4] == ["list of object", "required", "not empty"]
    assert found["stop"][1] == "string or list of string"
    assert found["truncation_side"][1] == "`left` or `right`"
    assert found["cache_salt"][3].startswith("not empty, at most 128 characters, matches `")


def test_every_flag_has_a_row_with_what_help_says() -> None:
    found = rows("flags.md")
    assert found.keys() - {"Flag", "Code"} == {flag.spelling for flag in (*FLAGS, *ACCEPTED_FLAGS)} | {
        str(code) for code in EXIT_CODES
    }
    assert found["--port"] == ["`PORT`", "`8000`", "port to listen on; 0 takes a free one"]
    assert found["--api-key"][:2] == ["`KEY …`", ""]


def test_every_code_has_a_row_with_its_status_and_where_it_is_answered() -> None:
    text = generate.pages()["errors.md"]
    lines = {line.split("|")[2].strip(" `"): line for line in text.splitlines() if line.startswith("| 4")}
    lines |= {line.split("|")[2].strip(" `"): line for line in text.splitlines() if line.startswith("| 5")}
    assert lines.keys() == DOCUMENT["x-error-codes"].keys()
    for code, entry in DOCUMENT["x-error-codes"].items():
        assert lines[code].startswith(f"| {entry['status']} |")
        assert not lines[code].endswith("|  |")
