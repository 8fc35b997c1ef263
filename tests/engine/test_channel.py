"""The engine process' connections with one API process, and with several."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from queue import SimpleQueue

import pytest

from specserve.engine.api import FinishReason, GenerationRequest
from specserve.engine.batch import RequestProgress
from specserve.engine.channel import CRASHED, Channel
from specserve.engine.messages import (
    Abort,
    Add,
    Command,
    Event,
    Heartbeat,
    Loading,
    Step,
    Stop,
    decode_event,
    encode_frame,
    read_frame,
)
from specserve.engine.params import SamplingParams
from specserve.engine.stats import EngineStats


def asked(*request_ids: str) -> Add:
    params = SamplingParams(max_tokens=4)
    return Add([GenerationRequest(request_id=each, prompt_token_ids=[1], params=params) for each in request_ids])


def gained(request_id: str, finish_reason: FinishReason | None = None) -> RequestProgress:
    return RequestProgress(request_id, [7], None, finish_reason, None, 0)


class Three:
    """The engine's side of three connections, and the three API processes' ends."""

    def __init__(self) -> None:
        pairs = [socket.socketpair() for _ in range(3)]
        self.ends = [ours for ours, _ in pairs]
        self.exits: list[int] = []
        self.channel = Channel(*(theirs for _, theirs in pairs), end_process=self.exits.append)
        self.channel.start_reading()
        for end in self.ends:
            end.settimeout(20)

    def say(self, number: int, command: Command) -> list[Command]:
        """What reaches the engine of a command."""
        self.ends[number].sendall(encode_frame(command))
        return self.channel.commands(20)

    def event(self, number: int) -> Event:
        return decode_event(read_frame(self.ends[number]))

    def progress(self, number: int) -> list[str]:
        event = self.event(number)
        assert isinstance(event, Step)
        return [one.request_id for one in event.progress]

    def close(self) -> None:
        for end in self.ends:
            end.close()


@pytest.fixture
def three() -> Iterator[Three]:
    made = Three()
    yield made
    made.close()


def ids_of(commands: list[Command]) -> list[list[str]]:
    return [
        [one.request_id for one in command.requests] if isinstance(command, Add) else list(command.request_ids)
        for command in commands
        if isinstance(command, (Add, Abort))
    ]


def test_each_api_process_hears_of_its_own_requests(three: Three) -> None:
    assert ids_of(three.say(0, asked("a", "b"))) == [["a", "b"]]
    assert ids_of(three.say(1, asked("c"))) == [["c"]]
    three.channel.send(Step([gained("b"), gained("c"), gained("a")], EngineStats(num_running=3)))
    assert three.progress(0) == ["b", "a"]
    assert three.progress(1) == ["c"]
    assert three.event(2) == Step([], EngineStats(num_running=3))


def test_an_api_process_without_progress_hears_of_steps_now_and_then_only(
    three: Three, monkeypatch: pytest.MonkeyPatch
) -> None:
    three.say(0, asked("a"))
    now = 1000.0
    monkeypatch.setattr("specserve.engine.channel.time.monotonic", lambda: now)
    for number in range(20):
        now = 1000.0 + number / 16
        three.channel.send(Step([gained("a")], EngineStats(num_steps=number)))
    assert [three.progress(0) for _ in range(20)] == [["a"]] * 20
    heard = [three.event(1) for _ in range(5)]
    assert heard == [Step([], EngineStats(num_steps=number)) for number in (0, 4, 8, 12, 16)]


def test_all_hear_how_loading_and_waiting_go_on(three: Three) -> None:
    three.channel.send(Loading("weights", 0.5))
    three.channel.send(Heartbeat(EngineStats()))
    for number in range(3):
        assert [three.event(number), three.event(number)] == [Loading("weights", 0.5), Heartbeat(EngineStats())]


def test_an_open_id_is_that_of_one_api_process(three: Three) -> None:
    three.say(0, asked("same"))
    assert ids_of(three.say(1, asked("same", "other"))) == [["other"]]
    refusal = three.event(1)
    assert isinstance(refusal, Step)
    assert [(one.request_id, one.is_refusal) for one in refusal.progress] == [("same", True)]
    assert "in use" in (refusal.progress[0].error or "")
    three.channel.send(Step([gained("same", FinishReason.STOP)], EngineStats()))
    assert three.progress(0) == ["same"]
    assert ids_of(three.say(1, asked("same"))) == [["same"]]


def test_nobody_can_end_the_requests_of_others_or_the_engine(three: Three) -> None:
    three.say(0, asked("a"))
    assert ids_of(three.say(2, Abort(["a", "unknown"]))) == [[]]
    assert three.say(1, Stop()) == []
    assert ids_of(three.say(0, Abort(["a"]))) == [["a"]]
    assert three.say(0, Stop()) == [Stop()]


def test_the_requests_of_an_api_process_that_is_gone_are_aborted(three: Three) -> None:
    three.say(0, asked("a"))
    three.say(1, asked("b", "c"))
    three.ends[1].close()
    assert ids_of(three.channel.commands(20)) == [["b", "c"]]
    three.channel.send(Step([gained("b"), gained("a")], EngineStats()))
    assert three.progress(0) == ["a"]
    assert three.progress(2) == []
    assert three.exits == []
    assert ids_of(three.say(2, asked("b"))) == [["b"]]


def test_one_that_does_not_read_is_cut_off_and_the_others_go_on(three: Three, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specserve.engine.channel.MAX_UNSENT_BYTES", 300_000)
    heard: SimpleQueue[Event] = SimpleQueue()

    def read(number: int) -> None:
        for _ in range(30):
            heard.put(three.event(number))

    readers = [threading.Thread(target=read, args=(number,), daemon=True) for number in (0, 2)]
    for reader in readers:
        reader.start()
    for number in range(30):
        three.channel.send(Loading("x" * 100_000, 0.5))
        while heard.qsize() < 2 * number + 2:
            three.channel.commands(0.01)
    for reader in readers:
        reader.join(20)
    assert heard.qsize() == 60
    received = 0
    while data := three.ends[1].recv(1_000_000):
        received += len(data)
    assert received < 30 * 100_000
    assert three.exits == []


def test_the_process_ends_when_the_other_side_is_gone_or_makes_no_sense() -> None:
    for last_words, exit_code in ((b"", 0), (b"\x00\x00\x00\x02no", CRASHED)):
        ours, theirs = socket.socketpair()
        ends: SimpleQueue[int] = SimpleQueue()
        Channel(theirs, end_process=ends.put).start_reading()
        ours.sendall(last_words)
        ours.close()
        assert ends.get(timeout=20) == exit_code


def test_the_process_ends_when_nobody_is_left_to_send_to() -> None:
    ours, theirs = socket.socketpair()
    ends: list[int] = []
    ours.close()
    channel = Channel(theirs, end_process=ends.append)
    channel.send(Loading("x", 0.5))
    channel.commands(0.01)
    assert set(ends) == {0}


def test_sending_does_not_wait_for_a_reader_who_is_busy() -> None:
    ours, theirs = socket.socketpair()
    channel = Channel(theirs)
    event = Loading("x" * 100_000, 0.5)
    for _ in range(50):  # far more than the socket holds
        channel.send(event)
    ours.settimeout(20)
    flushing = threading.Thread(target=channel.finish)
    flushing.start()
    assert [decode_event(read_frame(ours)) for _ in range(50)] == [event] * 50
    flushing.join(20)


def test_a_reader_who_never_comes_back_makes_the_engine_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specserve.engine.channel.MAX_UNSENT_BYTES", 1_000_000)
    ours, theirs = socket.socketpair()
    channel = Channel(theirs)

    def send_all() -> None:
        for _ in range(30):
            channel.send(Loading("x" * 100_000, 0.5))
        channel.finish()

    sending = threading.Thread(target=send_all, daemon=True)
    sending.start()
    time.sleep(0.2)
    assert sending.is_alive()
    ours.settimeout(20)
    for _ in range(30):
        read_frame(ours)
    sending.join(20)
    assert not sending.is_alive()
