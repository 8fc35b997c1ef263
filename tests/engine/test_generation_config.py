"""What a model's authors recommend: sampling defaults and end tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from specserve.engine.errors import ModelLoadError
from specserve.engine.generation_config import (
    HONOURED_FIELDS,
    problem_with,
    read_eos_token_ids,
    read_generation_defaults,
)


def folder(path: Path, generation: Any = None, **config: Any) -> Path:
    (path / "config.json").write_text(json.dumps(config))
    if generation is not None:
        (path / "generation_config.json").write_text(json.dumps(generation))
    return path


def test_sampling_fields_are_read_by_their_names(tmp_path: Path) -> None:
    generation = {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": None, "max_length": 9, "do_sample": True}
    assert read_generation_defaults(folder(tmp_path, generation)) == {"temperature": 0.6, "top_p": 0.95, "top_k": 20}


def test_no_sampling_means_temperature_zero(tmp_path: Path) -> None:
    assert read_generation_defaults(folder(tmp_path, {"do_sample": False, "temperature": 0.6})) == {"temperature": 0.0}


def test_without_the_file_nothing_is_recommended(tmp_path: Path) -> None:
    assert read_generation_defaults(tmp_path) == {}


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text("[1]")
    with pytest.raises(ModelLoadError, match="holds a list, not a JSON object"):
        read_generation_defaults(tmp_path)


def test_an_override_replaces_single_fields_and_null_removes_them(tmp_path: Path) -> None:
    path = folder(tmp_path, {"temperature": 0.6, "top_p": 0.95, "top_k": 20})
    assert read_generation_defaults(path, {"top_p": 0.5, "top_k": None, "frequency_penalty": 1}) == {
        "temperature": 0.6,
        "top_p": 0.5,
        "frequency_penalty": 1,
    }
    assert read_generation_defaults(None, {"top_p": 0.5}) == {"top_p": 0.5}


def test_an_override_of_the_temperature_turns_sampling_on_again(tmp_path: Path) -> None:
    path = folder(tmp_path, {"do_sample": False})
    assert read_generation_defaults(path, {"temperature": 0.5}) == {"temperature": 0.5}
    assert read_generation_defaults(path, {"temperature": 0.5, "do_sample": False}) == {"temperature": 0.0}
    assert read_generation_defaults(path, {"do_sample": True}) == {}


def test_values_out_of_range_are_left_out_of_the_file_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = folder(tmp_path, {"temperature": 7, "top_k": "many", "min_p": 0.1})
    assert read_generation_defaults(path) == {"min_p": 0.1}
    assert "temperature of generation_config.json is left out: 7 must be in [0, 2]" in caplog.text
    assert "top_k of generation_config.json is left out" in caplog.text


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("temperature", [0, 0.7, 2], [-0.1, 2.1, "1", True, 10**400, float("nan")]),
        ("top_p", [0.1, 1], [0, 1.1]),
        ("top_k", [-1, 0, 50], [-2, 1.5, True]),
        ("min_p", [0, 1], [-0.1, 1.1]),
        ("repetition_penalty", [0.1, 2], [0, -1]),
        ("presence_penalty", [-2, 2], [2.1]),
        ("frequency_penalty", [-2, 2], [-2.1]),
        ("max_new_tokens", [1, 9], [0, -1, 1.5]),
        ("do_sample", [True, False], [1, "yes"]),
        ("eos_token_id", [0, [5, 6]], [-1, [], "2", [1.5], True]),
    ],
)
def test_every_honoured_field_knows_its_range(name: str, good: list[Any], bad: list[Any]) -> None:
    assert name in HONOURED_FIELDS
    assert [value for value in [None, *good] if problem_with(name, value)] == []
    assert [value for value in bad if not problem_with(name, value)] == []


@pytest.mark.parametrize(
    ("generation", "config", "expected"),
    [
        ({"eos_token_id": [5, 6]}, {"eos_token_id": 7}, (5, 6)),
        ({"eos_token_id": 5}, {"eos_token_id": 7}, (5,)),
        ({}, {"eos_token_id": 7}, (7,)),
        (None, {"eos_token_id": 0}, (0,)),
        (None, {"text_config": {"eos_token_id": [8, 9]}}, (8, 9)),
        (None, {}, ()),
    ],
)
def test_end_tokens_come_from_the_first_place_that_names_them(
    generation: Any, config: dict[str, Any], expected: tuple[int, ...], tmp_path: Path
) -> None:
    assert read_eos_token_ids(folder(tmp_path, generation, **config)) == expected
