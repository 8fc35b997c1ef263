"""Reasoning formats from files: as data, and as classes written for other servers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from specserve.handlers.chat.answer_formats import FormatChoice
from specserve.handlers.chat.answer_pieces import fold_pieces
from specserve.handlers.flags import UsageError
from specserve.handlers.settings import ServerSettings

GUIDE = (Path(__file__).parents[4] / "docs/guides/tools.md").read_text()
PLUGINS = [code for code in re.findall(r"```python\n(.*?)```", GUIDE, flags=re.DOTALL) if "ponder" in code]
ANSWER = "<ponder>why</ponder>yes"


def choice_of(folder: Path, code: str) -> FormatChoice:
    path = folder / "plugin.py"
    path.write_text(code)
    return FormatChoice.of(ServerSettings(reasoning_parser="ponder", reasoning_parser_plugin=str(path)))


@pytest.mark.parametrize("code", PLUGINS, ids=["data", "class"])
def test_the_guides_plugins_take_answers_apart_however_they_are_cut(tmp_path: Path, code: str) -> None:
    make = choice_of(tmp_path, code).for_template("").parser([], "prompt")
    assert make is not None
    for cut in range(len(ANSWER) + 1):
        parser = make()
        pieces = [*parser.feed(ANSWER[:cut]), *parser.feed(ANSWER[cut:]), *parser.finish(is_cut=False)]
        folded = fold_pieces(pieces)
        assert (folded.reasoning, folded.content) == ("why", "yes")


def test_a_class_that_raises_has_its_answer_delivered_as_content(tmp_path: Path) -> None:
    code = PLUGINS[1].replace("thought, _, answer =", "raise ValueError  #")
    make = choice_of(tmp_path, code).for_template("").parser([], "prompt")
    assert make is not None
    parser = make()
    assert fold_pieces([*parser.feed(ANSWER), *parser.finish(is_cut=False)]).content == ANSWER


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("1 / 0", "cannot be loaded: ZeroDivisionError"),
        ("", "brings no reasoning format"),
        ("REASONING_FORMATS = {'ponder': 5}", "ponder is no ThinkFormat"),
        (PLUGINS[1].replace("extract_reasoning", "extract"), "ponder has no method extract_reasoning"),
    ],
)
def test_a_file_that_is_of_no_use_is_named(tmp_path: Path, code: str, cause: str) -> None:
    with pytest.raises(UsageError) as refused:
        choice_of(tmp_path, code)
    assert cause in refused.value.cause
