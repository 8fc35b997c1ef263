"""Engines that start side by side or in turn, and what is told of each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from specserve.engine.config import EngineConfig
from specserve.engine.errors import EngineDeadError, ModelLoadError
from specserve.handlers import fleet as module
from specserve.handlers.fleet import Fleet, Member
from specserve.handlers.settings import ServerSettings


class FakeClient:
    """An engine that loads in three turns of the event loop, or fails; `die` ends it."""

    loading = 0
    most_loading = 0

    def __init__(self, config: EngineConfig, on_progress: object) -> None:
        self.config, self._on_progress = config, on_progress
        self.is_stopped = False
        self.failure: str | None = None
        self._death: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        FakeClient.loading += 1
        FakeClient.most_loading = max(FakeClient.most_loading, FakeClient.loading)
        for done in (0.2, 0.6, 0.9):
            await asyncio.sleep(0)
            self._on_progress("reading", done)  # type: ignore[operator]
        FakeClient.loading -= 1
        if self.config.model.path == "damaged":
            raise ModelLoadError("the weights are cut off", "fetch them again")
        if self.config.model.path == "dying":
            raise EngineDeadError("it died")
        if self.config.model.path == "odd":
            raise RuntimeError("nobody thought of this")

    async def wait_dead(self) -> int:
        return await self._death

    @property
    def has_died(self) -> bool:
        return self.failure is not None

    def check_health(self) -> None:
        if self.failure is not None:
            raise EngineDeadError(self.failure)

    def die(self, code: int) -> None:
        self.failure = "it was killed"
        self._death.set_result(code)

    async def stop(self, reason: str = "") -> None:
        self.is_stopped = True

    def kill(self) -> None:
        self.is_stopped = True


@dataclass
class Notes:
    """A `Watcher` that writes everything down."""

    progress: list[tuple[str, float]] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    lost: list[tuple[str, str, list[str]]] = field(default_factory=list)

    def note_progress(self, phase: str, progress: float) -> None:
        self.progress.append((phase, progress))

    def note_loaded(self, member: Member) -> None:
        self.loaded.append(member.name)

    def note_lost(self, member: Member, others: Sequence[str]) -> None:
        assert member.problem is not None
        self.lost.append((member.name, member.problem.cause, list(others)))


@pytest.fixture(autouse=True)
def fake_engines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "EngineClient", FakeClient)
    monkeypatch.setattr(module, "GPU_DRIVER", tmp_path / "none")
    FakeClient.loading = FakeClient.most_loading = 0


def fleet_of(*paths: str, device: str = "auto") -> tuple[Fleet, Notes]:
    models = [
        ServerSettings(model=path, served_model_name=(f"{path}-{at}",), device=device) for at, path in enumerate(paths)
    ]
    notes = Notes()
    return Fleet(models, notes), notes


def fake(member: Member) -> FakeClient:
    assert isinstance(member.client, FakeClient)
    return member.client


async def test_engines_load_side_by_side_and_know_with_how_many_they_share() -> None:
    fleet, notes = fleet_of("good", "good", "good")
    await fleet.start()
    assert (FakeClient.most_loading, notes.loaded) == (3, ["good-0", "good-1", "good-2"])
    assert [fake(member).config.num_engines for member in fleet.members] == [3, 3, 3]
    assert [done for _, done in notes.progress] == sorted(done for _, done in notes.progress)
    await fleet.stop()
    assert all(fake(member).is_stopped for member in fleet.members)


@pytest.mark.parametrize(("device", "most"), [("auto", 1), ("cuda", 1), ("cpu", 2)])
async def test_where_a_gpu_is_they_take_turns_unless_none_uses_it(
    device: str, most: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "driver").touch()
    monkeypatch.setattr(module, "GPU_DRIVER", tmp_path / "driver")
    fleet, notes = fleet_of("good", "good", device=device)
    await fleet.start()
    assert (FakeClient.most_loading, len(notes.loaded)) == (most, 2)
    await fleet.stop()


async def test_those_that_cannot_be_loaded_are_told_with_who_is_left() -> None:
    fleet, notes = fleet_of("damaged", "good", "dying", "odd")
    await fleet.start()
    assert notes.loaded == ["good-1"]
    assert [name for name, _, _ in notes.lost] == ["damaged-0", "dying-2", "odd-3"]
    assert [member.exit_code for member in fleet.members] == [3, 10, 10, 10]
    assert "nobody thought of this" in notes.lost[-1][1]
    assert notes.lost[-1][2] == ["good-1"]
    assert ([member.name for member in fleet.working], fleet.has_died) == (["good-1"], False)
    await fleet.stop()


async def test_the_fleet_lives_as_long_as_one_works_and_the_last_one_tells_the_exit_code() -> None:
    fleet, notes = fleet_of("good", "good", "damaged")
    await fleet.start()
    ended = asyncio.create_task(fleet.wait_dead())
    await asyncio.sleep(0)
    fake(fleet.members[1]).die(10)
    await asyncio.sleep(0.01)
    assert (ended.done(), fleet.has_died, notes.lost[-1]) == (False, False, ("good-1", "it was killed", ["good-0"]))
    fake(fleet.members[0]).die(11)
    await ended
    assert (fleet.has_died, fleet.last_lost.name, fleet.last_lost.exit_code) == (True, "good-0", 11)
    assert notes.lost[-1] == ("good-0", "it was killed", [])


async def test_a_single_model_tells_its_progress_in_its_own_words() -> None:
    fleet, notes = fleet_of("good")
    await fleet.start()
    assert notes.progress == [("reading", 0.2), ("reading", 0.6), ("reading", 0.9)]
    assert fake(fleet.members[0]).config.num_engines == 1
    await fleet.stop()
