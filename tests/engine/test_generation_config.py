"""What a model's authors recommend: sampling defaults and end tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from specserve.engine.errors import ModelLoadError
from specserve.engine.generation_config import read_eos_token_ids, read_generation_defaults


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
