"""What is set for the whole process, and taken back here."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator

import pytest

from specserve.handlers.interpreter import SWITCH_INTERVAL_S, favour_event_loop, settle_memory


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    interval_s = sys.getswitchinterval()
    yield
    sys.setswitchinterval(interval_s)
    gc.unfreeze()


def test_threads_take_short_turns() -> None:
    favour_event_loop()
    assert sys.getswitchinterval() == pytest.approx(SWITCH_INTERVAL_S)


def test_what_is_there_is_collected_once_and_then_left_alone() -> None:
    lost: list[object] = []
    lost.append(lost)
    identity = id(lost)
    del lost
    kept: list[object] = [object()]
    settle_memory()
    watched = {id(each) for each in gc.get_objects()}
    assert identity not in watched
    assert id(kept) not in watched
    assert gc.get_freeze_count() > 10_000
