"""Lines of the log are those of the standard formatter."""

from __future__ import annotations

import logging
import sys
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from specserve.handlers.log_lines import LineFormatter, write_line

STANDARD = logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s")


@given(st.lists(st.floats(0, 2**32), min_size=1), st.text(), st.sampled_from([logging.INFO, logging.ERROR, 17]))
def test_a_line_is_the_standard_formatters(times: list[float], text: str, level: int) -> None:
    formatter = LineFormatter()
    for created in times:
        record = logging.LogRecord("specserve.x", level, "", 0, "%s: %d", (text, 7), None)
        record.created, record.msecs = created, int((created - int(created)) * 1000) + 0.0
        assert formatter.format(record) == STANDARD.format(record)


def test_a_traceback_follows_its_line() -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        record = logging.LogRecord("specserve.x", logging.ERROR, "", 0, "it is", None, sys.exc_info())
    assert LineFormatter().format(record) == STANDARD.format(record)
    assert "ValueError: broken" in LineFormatter().format(record)


def test_a_line_is_written_as_it_is_and_only_where_its_level_is_wanted(caplog: Any) -> None:
    logger = logging.getLogger("specserve.test-lines")
    caplog.set_level(logging.INFO, logger.name)
    write_line(logger, "100 % of %s")
    caplog.set_level(logging.WARNING, logger.name)
    write_line(logger, "nobody asked")
    assert [record.getMessage() for record in caplog.records] == ["100 % of %s"]
