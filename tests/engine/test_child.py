"""What the engine process finds in its environment."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from specserve.engine.child import SPINNING, start_child


def environment_of_a_child() -> dict[str, str]:
    child = start_child(has_own_code=False)
    try:
        environment = Path(f"/proc/{child.process.pid}/environ")
        while not (text := environment.read_bytes()):  # the kernel is still setting the process up
            time.sleep(0.01)
        return dict(entry.split("=", 1) for entry in text.decode().split("\0") if entry)
    finally:
        child.end()


def test_waiting_threads_sleep_between_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_WAIT_POLICY", *SPINNING):
        monkeypatch.delenv(name, raising=False)
    assert environment_of_a_child().items() >= SPINNING.items()


@pytest.mark.parametrize(("name", "value"), [("GOMP_SPINCOUNT", "7"), ("THP_MEM_ALLOC_ENABLE", "0")])
def test_what_the_user_set_is_kept(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    assert environment_of_a_child()[name] == value


def test_a_wait_policy_of_the_user_is_not_overruled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    assert not SPINNING.keys() & environment_of_a_child().keys()
