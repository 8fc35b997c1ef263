"""Flags of other servers: what changes nothing says so, what would promise something else is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from specserve.handlers.accepted_flags import ACCEPTED
from specserve.handlers.command_line import read_settings
from specserve.handlers.flag_table import FLAGS
from specserve.handlers.flags import UsageError

VALUES = {
    "logprobs_mode": "raw_logprobs",
    "tensor_parallel_size": "1",
    "pipeline_parallel_size": "1",
    "data_parallel_size": "1",
    "api_server_count": "1",
}


@pytest.mark.parametrize("each", ACCEPTED, ids=lambda each: each.flag.name)
def test_a_flag_without_effect_says_so_and_changes_nothing(each: object) -> None:
    flag = each.flag  # type: ignore[attr-defined]
    words = [flag.spelling] if flag.is_switch else [flag.spelling, VALUES.get(flag.name, "auto")]
    settings = read_settings(words, {})
    (notice,) = settings.notices
    assert notice.startswith(f"{flag.spelling} has no effect: ")
    assert len(notice.split()) >= 7
    object.__setattr__(settings, "notices", ())
    assert settings == read_settings([], {})


def test_no_flag_is_both() -> None:
    assert not {flag.name for flag in FLAGS} & {each.flag.name for each in ACCEPTED}


def test_environment_and_file_are_told_of_too(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("swap-space: 4\nport: 9000\n")
    settings = read_settings(["--config", str(tmp_path / "c.yaml")], {"SPECSERVE_DISABLE_LOG_STATS": "1"})
    assert [notice.split()[0] for notice in settings.notices] == ["--disable-log-stats", "--swap-space"]
    assert settings.port == 9000


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["-tp", "2"], "one process computes on one device"),
        (["--load-format", "gguf"], "weights are read from safetensors"),
        (["--logprobs-mode", "processed_logprobs"], "before penalties and temperature"),
    ],
)
def test_a_value_that_asks_for_something_else_stops_the_start(argv: list[str], told: str) -> None:
    with pytest.raises(UsageError) as refusal:
        read_settings(argv, {})
    assert told in refusal.value.cause


def test_an_unknown_flag_stays_an_error_with_the_nearest_one() -> None:
    with pytest.raises(UsageError, match=r"did you mean --request-timeout\?"):
        read_settings(["--request-timeouts", "3"], {})
