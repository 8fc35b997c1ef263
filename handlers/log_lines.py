"""How lines of the log look, written quickly: there is one for every request."""

from __future__ import annotations

import logging
import time


class LineFormatter(logging.Formatter):
    """`2026-01-31 23:59:59,123 INFO specserve.access message`, as the standard formatter writes it with this form.

    The clock is turned into a date and a time once a second.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")
        self._second = -1
        self._time = ""

    def format(self, record: logging.LogRecord) -> str:
        if record.exc_info or record.exc_text or record.stack_info:
            return super().format(record)
        second = int(record.created)
        if second != self._second:
            self._second, self._time = second, time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
        message = record.getMessage()
        return f"{self._time},{int(record.msecs):03d} {record.levelname} {record.name} {message}"


LINE = vars(logging.LogRecord("", logging.INFO, "", 0, "", None, None))
"""What records of one process, written in one thread, have in common."""
STARTED = LINE["created"] - LINE["relativeCreated"] / 1000


class LineRecord(logging.LogRecord):
    """A record of a finished line; process and thread, which do not change, are not asked for again."""

    def __init__(self, name: str, line: str) -> None:
        now = time.time()
        msecs = int((now - int(now)) * 1000) + 0.0
        self.__dict__ = {
            **LINE,
            "name": name,
            "msg": line,
            "created": now,
            "msecs": msecs,
            "relativeCreated": (now - STARTED) * 1000,
        }


def write_line(logger: logging.Logger, line: str) -> None:
    """As `logger.info(line)`, without what is only needed to find the line of code that wrote it."""
    if logger.isEnabledFor(logging.INFO):
        logger.handle(LineRecord(logger.name, line))
