"""Flags about adapters: every way to name them, and what contradicts itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from specserve.handlers.command_line import read_settings
from specserve.handlers.flags import UsageError
from specserve.handlers.settings import ServerSettings


def read(*argv: str) -> ServerSettings:
    return read_settings(argv, {})


def modules(settings: ServerSettings) -> list[tuple[str, str]]:
    return [(one.name, one.path) for one in settings.engine_config().lora.modules]


def test_adapters_are_named_in_three_ways() -> None:
    several = '[{"name": "c", "path": "/c"}, {"name": "d", "path": "/d", "base_model_name": null}]'
    settings = read(
        "org/a", "--enable-lora", "--lora-modules", "a=/a=1", '{"name": "b", "path": "/b"}', several, "--max-loras", "3"
    )
    assert modules(settings) == [("a", "/a=1"), ("b", "/b"), ("c", "/c"), ("d", "/d")]
    assert (settings.engine_config().lora.max_loras, settings.engine_config().lora.max_rank) == (3, 16)


def test_adapters_of_several_models_say_which_they_belong_to(tmp_path: Path) -> None:
    given = '{"name": "sql", "path": "/sql", "base_model_name": "chat"}'
    settings = read("chat=org/a", "embed=org/b", "--enable-lora", "--lora-modules", given)
    assert [modules(one) for one in settings.served] == [[("sql", "/sql")], []]
    file = tmp_path / "config.yaml"
    file.write_text(
        "models:\n- {name: chat, model: org/a, enable-lora: true, lora-modules: [{name: sql, path: /sql}]}\n"
        "- {name: embed, model: org/b}\n"
    )
    assert [modules(one) for one in read("--config", str(file)).served] == [[("sql", "/sql")], []]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("org/a", "--lora-modules", "a=/a"), "without --enable-lora"),
        (("org/a", "--lora-dir", "/"), "no model takes adapters"),
        (("org/a", "--enable-lora", "--lora-dir", "/nowhere"), "must be a folder that is there"),
        (("org/a", "--enable-lora", "--lora-modules", "a"), "must be NAME=PATH"),
        (("org/a", "--enable-lora", "--lora-modules", "../a=/a"), "must be 1 to 200 letters"),
        (("org/a", "--enable-lora", "--lora-modules", "{"), "no valid JSON"),
        (("org/a", "--enable-lora", "--lora-modules", '{"name": "a"}'), "must have the keys name and path"),
        (("org/a", "--enable-lora", "--lora-modules", "a=/a", "a=/b"), "two adapters have the name a"),
        (("org/a", "--enable-lora", "--lora-modules", "org/a=/a"), "has the name of its model"),
        (("org/a", "--enable-lora", "--max-lora-rank", "7"), "must be one of 1, 8, 16"),
        (("org/a", "--enable-lora", "--max-cpu-loras", "1", "--lora-modules", "a=/a", "b=/b"), "allows 1"),
        (("c=org/a", "e=org/b", "--enable-lora", "--lora-modules", "a=/a"), "which of the models it belongs to"),
        (
            ("org/a", "--enable-lora", "--lora-modules", '{"name": "a", "path": "/a", "base_model_name": "b"}'),
            "belongs to b, which is not served",
        ),
    ],
)
def test_what_contradicts_itself_is_said(argv: tuple[str, ...], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(*argv)
    assert words in f"{caught.value.cause} {caught.value.remedy}"
