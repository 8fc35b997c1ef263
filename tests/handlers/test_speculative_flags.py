"""`--speculative-config` in all its spellings, and what it refuses."""

from __future__ import annotations

import pytest

from specserve.engine.config import SpeculativeConfig
from specserve.handlers.command_line import read_settings
from specserve.handlers.flags import UsageError

WHOLE = '{"method": "ngram", "num_speculative_tokens": 6, "prompt_lookup_max": 4, "prompt_lookup_min": 3}'
CONFIG = SpeculativeConfig(num_speculative_tokens=6, prompt_lookup_max=4, prompt_lookup_min=3)


def config(*argv: str) -> SpeculativeConfig | None:
    return read_settings(argv, {}).engine_config().speculative


def test_nothing_is_guessed_unless_it_is_asked_for() -> None:
    assert config() is None


@pytest.mark.parametrize(
    "argv",
    [
        ["--speculative-config", WHOLE],
        [f"--speculative_config={WHOLE}"],
        ["-sc", WHOLE],
        ["-sc.method=ngram", "-sc.num_speculative_tokens=6", "-sc.prompt_lookup_max=4", "-sc.prompt_lookup_min", "3"],
        ["--spec-method", "ngram", "--spec-tokens=6", "-sc.prompt_lookup_max=4", "-sc.prompt_lookup_min=3"],
        ["--speculative-config.prompt_lookup_min=3", "-sc.prompt_lookup_max=4", "--spec-tokens", "6"],
        ["-sc", '{"prompt_lookup_max": 4, "prompt_lookup_min": 3}', "--spec_tokens", "6"],
    ],
)
def test_every_spelling_means_the_same(argv: list[str]) -> None:
    assert config(*argv) == CONFIG


def test_the_environment_takes_it_too() -> None:
    assert read_settings([], {"SPECSERVE_SPECULATIVE_CONFIG": WHOLE}).engine_config().speculative == CONFIG


def test_what_is_left_out_has_a_default_that_goes_with_the_rest() -> None:
    assert config("-sc", "{}") == SpeculativeConfig()
    assert config("-sc.prompt_lookup_max=1") == SpeculativeConfig(prompt_lookup_max=1, prompt_lookup_min=1)
    assert config("-sc.prompt_lookup_min=9") == SpeculativeConfig(prompt_lookup_max=9, prompt_lookup_min=9)


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["-sc", "ngram"], "must be a JSON object"),
        (["-sc", '{"method": "eagle3"}'], "must have the method ngram: 'eagle3' is not implemented"),
        (["--spec-method", "mtp"], "must have the method ngram: 'mtp' is not implemented"),
        (["--spec-method", "ngram", "--spec-model", "small"], "must name no model"),
        (["-sc.num_speculative_tokens=0"], "must be from 1 to 32"),
        (["-sc.num_speculative_tokens=many"], "must have a whole number in num_speculative_tokens"),
        (["-sc.prompt_lookup_min=3", "-sc.prompt_lookup_max=2"], "the first at most the second"),
        (["-sc.draft_tensor_parallel_size=1"], "'draft_tensor_parallel_size' is none of them"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_rule(argv: list[str], told: str) -> None:
    with pytest.raises(UsageError) as refusal:
        read_settings(argv, {})
    assert told in refusal.value.cause
