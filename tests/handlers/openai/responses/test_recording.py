"""A recording gives back what was put in, from any event on."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from specserve.handlers.openai.responses.recording import BLOCK_EVENTS, Recording

TEXTS = st.lists(st.text(max_size=5), max_size=5)


def filled(texts: list[str], times: int) -> tuple[Recording, list[tuple[str, bytes]]]:
    recording = Recording()
    told = [(f"response.{at}", json.dumps({"delta": text}).encode()) for at, text in enumerate(texts * times)]
    for name, payload in told:
        recording.add(name, payload)
    return recording, told


@given(TEXTS, st.sampled_from([1, BLOCK_EVENTS, 2 * BLOCK_EVENTS - 1]), st.data())
def test_any_part_of_any_number_of_events_comes_back(texts: list[str], times: int, data: st.DataObject) -> None:
    recording, told = filled(texts, times)
    assert len(recording) == len(told)
    start = data.draw(st.integers(0, len(told) + BLOCK_EVENTS))
    stop = data.draw(st.none() | st.integers(0, len(told)))
    for one in (recording, Recording.unpacked(recording.packed())):
        assert [(event.event, event.json) for event in one.events(start, stop)] == told[start:stop]


def test_a_recording_takes_a_tenth_of_the_room_of_its_events() -> None:
    recording = Recording()
    for number in range(2000):
        event = {"type": "response.output_text.delta", "sequence_number": number, "item_id": "msg_1", "delta": "some"}
        recording.add("response.output_text.delta", json.dumps(event).encode())
    assert len(recording.packed()) < 2000 * 120 / 10
