"""The guide tells what the registries hold, and its plugins work."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import pytest

from specserve.handlers.chat.answer_pieces import FoldedAnswer, FoldedCall, fold_pieces
from specserve.handlers.chat.reasoning_formats import registry as reasoning
from specserve.handlers.chat.tool_formats import registry as tools
from specserve.handlers.chat.tool_formats.plugins import load_plugin
from specserve.handlers.flag_table import FLAGS

GUIDE = (Path(__file__).parents[3] / "docs/guides/tools.md").read_text(encoding="utf-8")


class Described(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def families(self) -> str: ...
    @property
    def example(self) -> str: ...


def rows(heading: str) -> list[list[str]]:
    section = GUIDE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table]


@pytest.mark.parametrize(
    ("heading", "formats"), [("Tool formats", tools.FORMATS), ("Reasoning formats", reasoning.FORMATS)]
)
def test_the_tables_are_the_registries(heading: str, formats: Sequence[Described]) -> None:
    wanted = [[f"`{each.name}`", each.families, f"`{each.example}`".replace("|", "\\|")] for each in formats]
    assert rows(heading) == wanted


def test_every_flag_of_the_guide_exists() -> None:
    known = {flag.spelling for flag in FLAGS}
    named = set(re.findall(r"`(--[a-z-]+)", GUIDE))
    assert named
    assert {name.replace("--no-", "--") for name in named} <= known


def test_its_plugins_load_and_read_calls(tmp_path: Path) -> None:
    sources = [source for source in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL) if "ShoutParser" in source]
    assert len(sources) == 2
    for source in sources:
        path = tmp_path / "plugin.py"
        path.write_text(source)
        parser = load_plugin(str(path))["shout"].parser([{"function": {"name": "get_weather"}}])
        pieces = [*parser.feed("GET_WEA"), *parser.feed("THER!"), *parser.finish(is_cut=False)]
        assert fold_pieces(pieces) == FoldedAnswer(calls=[FoldedCall("get_weather", None, "{}", is_complete=True)])
