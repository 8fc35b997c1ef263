"""Flags that say what a model is for: their older names, and what does not go together."""

from __future__ import annotations

import pytest

from specserve.engine.config import PoolerConfig
from specserve.handlers.command_line import read_settings
from specserve.handlers.flags import UsageError


@pytest.mark.parametrize(
    ("argv", "runner", "convert"),
    [
        ([], "auto", "auto"),
        (["--task", "embed"], "pooling", "embed"),
        (["--task", "embedding"], "pooling", "embed"),
        (["--task", "classify"], "pooling", "classify"),
        (["--task", "score"], "pooling", "auto"),
        (["--task", "generate"], "generate", "auto"),
        (["--task", "score", "--convert", "classify"], "pooling", "classify"),
        (["--runner", "pooling", "--convert", "none"], "pooling", "none"),
    ],
)
def test_the_old_task_flag_is_runner_and_convert(argv: list[str], runner: str, convert: str) -> None:
    model = read_settings(argv, {}).engine_config().model
    assert (model.runner, model.convert) == (runner, convert)


@pytest.mark.parametrize(
    "argv", [["--task", "embed", "--runner", "generate"], ["--task", "embed", "--convert", "classify"]]
)
def test_flags_that_contradict_each_other_stop_the_start(argv: list[str]) -> None:
    with pytest.raises(UsageError, match="keep one"):
        read_settings(argv, {})


def test_pooler_config_takes_the_names_of_other_servers() -> None:
    text = '{"seq_pooling_type": "LAST", "normalize": false, "dimensions": 8, "returned_token_ids": [1, 2]}'
    config = read_settings(["--pooler-config", text, "--hf-overrides", '{"is_matryoshka": true}'], {}).engine_config()
    assert config.model.pooler == PoolerConfig(
        pooling_type="last", use_activation=False, dimensions=8, returned_token_ids=(1, 2)
    )
    assert config.model.hf_overrides == {"is_matryoshka": True}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("mean", "must be a JSON object"),
        ('{"pooling_type": "median"}', "must be one of cls, last"),
        ('{"pooling": "mean"}', "'pooling' is none of them"),
        ('{"dimensions": "8"}', "int in dimensions"),
        ('{"dimensions": 0}', "dimensions must be positive"),
        ('{"returned_token_ids": 3}', "list of token ids"),
    ],
)
def test_a_wrong_pooler_config_is_told_with_the_rule(text: str, told: str) -> None:
    with pytest.raises(UsageError) as refusal:
        read_settings(["--pooler-config", text], {})
    assert told in refusal.value.cause
