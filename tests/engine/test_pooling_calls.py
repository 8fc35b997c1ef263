"""Many inputs, one await: what a call gives, how it fails, and what leaving it does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import numpy as np
import pytest

from specserve.engine.api import PoolingRequest
from specserve.engine.batch import PackedRows, RequestProgress
from specserve.engine.errors import EngineDeadError, EngineError, InvalidParameterError, RequestError
from specserve.engine.params import PoolingParams, PoolingTask
from specserve.engine.pooling_calls import PoolingCall, PoolingCalls


class Told:
    """What the engine was told to abort."""

    def __init__(self) -> None:
        self.aborted: list[str] = []
        self.calls = PoolingCalls(self.abort)

    def abort(self, request_ids: Iterable[str]) -> None:
        self.aborted += request_ids

    def call(self, *ids: str) -> PoolingCall:
        params = PoolingParams(task=PoolingTask.EMBED)
        return self.calls.add([PoolingRequest(request_id=id, prompt_token_ids=[1, 2], params=params) for id in ids])


def result(request_id: str, *values: float, cached: int = 0) -> RequestProgress:
    pooled = PackedRows.of(np.array(values, dtype=np.float32))
    return RequestProgress(request_id, [], None, None, None, cached, pooled=pooled)


async def test_outputs_come_in_the_order_of_the_inputs() -> None:
    told = Told()
    call = told.call("a", "b")
    told.calls.take(result("b", 3.0, 4.0, cached=1))
    assert not call.is_over
    assert len(told.calls) == 1
    told.calls.take(result("a", 1.0, 2.0))
    outputs = await call.wait()
    assert [output.request_id for output in outputs] == ["a", "b"]
    assert [output.data.tolist() for output in outputs] == [[1.0, 2.0], [3.0, 4.0]]
    assert [output.num_cached_tokens for output in outputs] == [0, 1]
    assert outputs[0].num_prompt_tokens == 2
    assert len(told.calls) == 0
    assert told.aborted == []


async def test_values_cross_the_channel_bit_by_bit() -> None:
    rows = np.arange(6, dtype=np.float32).reshape(2, 3) / 7
    unpacked = PackedRows.of(rows[:, ::-1]).unpack()
    assert unpacked.tobytes() == np.ascontiguousarray(rows[:, ::-1]).tobytes()
    assert unpacked.shape == (2, 3)


@pytest.mark.parametrize(("is_refusal", "kind"), [(True, RequestError), (False, EngineError)])
async def test_an_input_that_fails_ends_the_call_and_aborts_its_siblings(
    is_refusal: bool, kind: type[EngineError]
) -> None:
    told = Told()
    call = told.call("a", "b", "c")
    other = told.call("d")
    told.calls.take(result("a", 1.0))
    told.calls.take(RequestProgress.failed("b", "it is too hot", is_refusal=is_refusal))
    with pytest.raises(kind, match="too hot"):
        await call.wait()
    assert told.aborted == ["c"]
    told.calls.take(result("c", 1.0))  # it was on its way
    assert not other.is_over
    assert len(told.calls) == 1


async def test_leaving_a_call_aborts_what_is_not_finished() -> None:
    told = Told()
    waiting = asyncio.create_task(told.call("a", "b").wait())
    await asyncio.sleep(0)
    told.calls.take(result("a", 1.0))
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert told.aborted == ["b"]
    assert len(told.calls) == 0


async def test_a_dead_engine_ends_all_calls() -> None:
    told = Told()
    calls = [told.call("a", "b"), told.call("c")]
    told.calls.fail_all(lambda: EngineDeadError("it is gone"))
    for call in calls:
        with pytest.raises(EngineDeadError, match="gone"):
            await call.wait()
    assert told.aborted == []
    assert len(told.calls) == 0


async def test_two_inputs_cannot_have_one_id() -> None:
    with pytest.raises(InvalidParameterError):
        Told().call("a", "a")
