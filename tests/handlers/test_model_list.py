"""Several models: words and lists that name them, what each has of its own, and mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from specserve.handlers.command_line import read_settings
from specserve.handlers.flags import UsageError
from specserve.handlers.model_list import OWN_FLAGS
from specserve.handlers.settings import ServerSettings


def read(*argv: str, **environment: str) -> ServerSettings:
    return read_settings(argv, environment)


def file_with(folder: Path, text: str) -> str:
    (folder / "config.yaml").write_text(text)
    return str(folder / "config.yaml")


@pytest.mark.parametrize(
    "argv",
    [
        ("chat=org/a", "embed=/models/b", "--max-num-seqs", "4"),
        ("--max-num-seqs", "4", "chat=org/a", "embed=/models/b"),
        ("chat=org/a", "--max-num-seqs", "4", "embed=/models/b"),
    ],
)
def test_words_name_models_and_flags_hold_for_all(argv: tuple[str, ...]) -> None:
    settings = read(*argv)
    assert [(one.model_names, one.model_path) for one in settings.served] == [
        (("chat",), "org/a"),
        (("embed",), "/models/b"),
    ]
    assert [one.engine_config(2).scheduler.max_num_seqs for one in settings.served] == [4, 4]
    assert {one.engine_config(2).num_engines for one in settings.served} == {2}


def test_one_named_model_is_an_ordinary_server_with_that_name() -> None:
    settings = read("chat=org/a")
    assert settings == read("org/a", "--served-model-name", "chat")
    assert (settings.models, settings.served) == ((), (settings,))


def test_a_path_with_an_equals_sign_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a=b").mkdir()
    assert read(str(tmp_path / "a=b")).model == str(tmp_path / "a=b")
    monkeypatch.chdir(tmp_path)
    assert read("a=b").model == "a=b"


def test_the_list_of_a_file_gives_each_model_options_of_its_own(tmp_path: Path) -> None:
    text = """
max-num-seqs: 8
dtype: float32
models:
  - {name: chat, model: org/a, max-model-len: 2K, quantization: int8, num_threads: 3}
  - {served-model-name: [embed, e], model: org/b, dtype: bfloat16, task: embed}
  - {model: org/c}
"""
    chat, embed, plain = read("--config", file_with(tmp_path, text), "--max-num-seqs", "2").served
    assert [one.model_names for one in (chat, embed, plain)] == [("chat",), ("embed", "e"), ("org/c",)]
    assert (chat.max_model_len, chat.quantization, chat.num_threads, chat.dtype) == (2048, "int8", 3, "float32")
    assert (embed.max_model_len, embed.dtype, embed.engine_config().model.convert) == (None, "bfloat16", "embed")
    assert [one.max_num_seqs for one in (chat, embed, plain)] == [2, 2, 2]


def test_models_of_the_command_line_replace_those_of_the_file(tmp_path: Path) -> None:
    config = file_with(tmp_path, "port: 1\nmodels: [{name: a, model: org/a}, {name: b, model: org/b}]")
    assert read("--config", config, "org/c").model_names == ("org/c",)
    named = read("--config", config, "c=org/c", "d=org/d")
    assert ([one.model_path for one in named.served], named.port) == (["org/c", "org/d"], 1)
    assert read("--config", config, SPECSERVE_MODEL="org/e").served[0].model == "org/e"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("org/a", "embed=org/b"), "org/a is one of 2 models and has no name"),
        (("a=org/a", "a=org/b"), "two models have the name a"),
        (("a=org/a", "b=org/b", "--served-model-name", "c"), "--served-model-name is given beside"),
        (("a=org/a", "b=org/b", "--model", "c"), "--model is given beside"),
        (("a=org/a", "org/b"), "one word too many"),
        (("a=org/a", "b=org/b", "--max-num-batched-tokens", "1"), "max_num_batched_tokens is 1"),
    ],
)
def test_mistakes_in_words_are_named(argv: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read(*argv)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models: chat", "is no list"),
        ("models: []", "is no list"),
        ("models: [org/a]", "models.0 in .* is no mapping"),
        ("models: [{name: a}]", "models.0 in .* says no model"),
        ("models: [{model: m, name: a, served-model-name: b}]", "both name and served-model-name"),
        ("models: [{model: m, port: 1}]", "models.0 in .* has an unknown key port"),
        ("models: [{model: m, chat-template: x}]", "unknown key chat-template"),
        ("models: [{model: m, max_model_len: many}]", "max_model_len in models.0 .* whole number"),
        ("models: [{model: m}]\nmodel: n", "both model and models"),
        ("models: [{model: m, name: [a, b]}, {model: n, name: b}]", "two models have the name b"),
    ],
)
def test_mistakes_in_the_list_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read("--config", file_with(tmp_path, text))


def test_what_a_model_may_have_of_its_own_reaches_its_engine() -> None:
    own = {flag.name for flag in OWN_FLAGS}
    assert {"dtype", "quantization", "num_threads", "kv_cache_memory_bytes", "gpu_memory_utilization"} <= own
    assert not own & {"port", "api_key", "chat_template", "shutdown_timeout", "log_level"}
