"""Engines that start side by side or in turn, and what is told of each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest

from specserve.engine.config import EngineConfig
from specserve.engine.errors import EngineDeadError, ModelLoadError
from specserve.generated.errors import EngineDead
from specserve.handlers import fleet as module
from specserve.handlers.first_use import FirstUse
from specserve.handlers.fleet import Fleet, Member
from specserve.handlers.settings import ServerSettings


class FakeClient:
    """An engine that loads in three turns of the event loop, or fails; `die` ends it."""

    loading = 0
    most_loading = 0
    num_started = 0
    problems: ClassVar[list[Exception]] = []
    """Of the next starts."""

    def __init__(self, config: EngineConfig, on_progress: object, child: object = None) -> None:
        self.config, self._on_progress = config, on_progress
        self.is_stopped = self.was_started = False
        self.failure: str | None = None
        self._death: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        self.was_started = True
        FakeClient.num_started += 1
        FakeClient.loading += 1
        FakeClient.most_loading = max(FakeClient.most_loading, FakeClient.loading)
        for done in (0.2, 0.6, 0.9):
            await asyncio.sleep(0)
            self._on_progress("reading", done)  # type: ignore[operator]
        FakeClient.loading -= 1
        if FakeClient.problems:
            raise FakeClient.problems.pop(0)
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
    offered: list[str] = field(default_factory=list)

    def note_progress(self, phase: str, progress: float) -> None:
        self.progress.append((phase, progress))

    def note_loaded(self, member: Member) -> None:
        self.loaded.append(member.name)

    def note_offered(self, member: Member) -> None:
        self.offered.append(member.name)

    def note_lost(self, member: Member, others: Sequence[str]) -> None:
        assert member.problem is not None
        self.lost.append((member.name, member.problem.cause, list(others)))


@pytest.fixture(autouse=True)
def fake_engines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "EngineClient", FakeClient)
    monkeypatch.setattr(module, "GPU_DRIVER", tmp_path / "none")
    FakeClient.loading = FakeClient.most_loading = FakeClient.num_started = 0
    FakeClient.problems = []


def fleet_of(*paths: str, device: str = "auto", late: Sequence[int] = ()) -> tuple[Fleet, Notes]:
    """`late` are the places of models that wait for their first request."""
    models = [
        ServerSettings(model=path, served_model_name=(f"{path}-{at}",), device=device, load_on_first_use=at in late)
        for at, path in enumerate(paths)
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


def first_use(member: Member) -> FirstUse:
    assert member.first_use is not None
    return member.first_use


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 64}')
    return str(folder)


async def test_a_model_that_waits_for_its_first_request_is_offered_and_keeps_nobody_waiting(checkpoint: str) -> None:
    fleet, notes = fleet_of("good", checkpoint, late=[1])
    await fleet.start()
    assert (notes.loaded, FakeClient.num_started) == (["good-0"], 1)
    assert notes.offered == [fleet.members[1].name]
    assert notes.progress == [("reading", 0.2), ("reading", 0.6), ("reading", 0.9)]
    assert [member.config.num_engines for member in fleet.members] == [1, 2]
    assert (first_use(fleet.members[1]).stage, fleet.can_serve, fleet.has_died) == ("not_started", True, False)
    await fleet.stop()


async def test_all_who_ask_wait_for_one_start(checkpoint: str) -> None:
    fleet, notes = fleet_of("good", checkpoint, late=[1])
    await fleet.start()
    member = fleet.members[1]
    await asyncio.gather(*(first_use(member).start() for _ in range(5)))
    assert (FakeClient.num_started, notes.loaded) == (2, ["good-0", member.name])
    assert fleet.working == fleet.members
    await fleet.stop()


async def test_a_start_that_failed_is_tried_again_with_a_new_process_and_counts_as_no_death(checkpoint: str) -> None:
    fleet, notes = fleet_of("good", checkpoint, late=[1])
    await fleet.start()
    member, clock = fleet.members[1], [0.0]
    FakeClient.problems = [ModelLoadError("no memory for it", "free some")]
    first_use(member)._clock = lambda: clock[0]
    with pytest.raises(EngineDead, match="no memory for it; free some; a request in 10 s tries again"):
        await first_use(member).start()
    before, clock[0] = member.client, 11.0
    await first_use(member).start()
    assert member.client is not before
    assert (notes.lost, member.problem, fleet.working) == ([], None, fleet.members)
    await fleet.stop()


async def test_a_server_whose_models_all_wait_lives_until_the_one_that_was_started_dies(checkpoint: str) -> None:
    fleet, notes = fleet_of(checkpoint, late=[0])
    await fleet.start()
    ended = asyncio.create_task(fleet.wait_dead())
    await asyncio.sleep(0.01)
    assert (fleet.can_serve, fleet.has_died, ended.done()) == (True, False, False)
    await first_use(fleet.members[0]).start()
    fake(fleet.members[0]).die(11)
    await ended
    assert (notes.lost[-1][1], fleet.last_lost.exit_code) == ("it was killed", 11)


async def test_the_death_of_the_only_loaded_model_ends_a_server_whose_others_were_never_asked_for(
    checkpoint: str,
) -> None:
    fleet, _ = fleet_of("good", checkpoint, late=[1])
    await fleet.start()
    fake(fleet.members[0]).die(10)
    await fleet.wait_dead()
    assert fleet.last_lost is fleet.members[0]


async def test_a_model_under_way_keeps_a_server_alive_whose_only_other_one_dies(checkpoint: str) -> None:
    fleet, _ = fleet_of("good", checkpoint, late=[1])
    await fleet.start()
    starting = asyncio.create_task(first_use(fleet.members[1]).start())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    fake(fleet.members[0]).die(10)
    await starting
    await asyncio.sleep(0.01)
    assert not fleet.has_died
    assert not fleet._ended.is_set()
    await fleet.stop()


async def test_a_start_under_way_is_given_up_when_the_server_stops(checkpoint: str) -> None:
    fleet, _ = fleet_of("good", checkpoint, late=[1])
    await fleet.start()
    starting = asyncio.create_task(first_use(fleet.members[1]).start())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await fleet.stop()
    with pytest.raises(EngineDeadError, match="stopping"):
        await starting


async def test_a_waiting_model_whose_files_are_wrong_is_lost_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    fleet, notes = fleet_of("good", str(tmp_path / "empty"), late=[1])
    await fleet.start()
    assert (notes.offered, [cause for _, cause, _ in notes.lost]) == (
        [],
        [f"{tmp_path / 'empty'} is not a model folder: it has no config.json"],
    )
    await fleet.stop()
