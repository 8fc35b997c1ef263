"""The first backend that does not refuse serves; when none does, every reason is told at once."""

from __future__ import annotations

import pytest
import torch
from paged_batch import CPU, spec_of

from specserve.engine.attention import select
from specserve.engine.attention.select import select_backend
from specserve.engine.errors import UnsupportedModelError
from specserve.engine.registry import LazyRegistry

META = torch.device("meta")


@pytest.mark.parametrize("name", ["auto", None])
def test_a_cpu_is_served_by_the_cpu_backend(name: str | None) -> None:
    backend = select_backend(name, [spec_of()], CPU, None)
    assert backend.name == "cpu"
    assert backend.block_size == type(backend).default_block_size() == 16


def test_a_device_that_no_fast_backend_knows_is_served_by_the_reference() -> None:
    assert select_backend("auto", [spec_of()], META, None).name == "reference"


def test_the_block_size_asked_for_is_used() -> None:
    assert select_backend("reference", [spec_of()], CPU, 32).block_size == 32


def test_a_named_backend_that_refuses_is_an_error_with_its_reason_and_the_others() -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        select_backend("cpu", [spec_of()], META, None)
    assert "cpu: it runs on CPUs, not on meta" in caught.value.cause
    assert "choose one of xformers, triton, reference" in caught.value.remedy


def test_an_unknown_name_is_told_with_the_known_ones() -> None:
    with pytest.raises(
        UnsupportedModelError, match="'flash' is not known; choose one of xformers, triton, cpu, reference"
    ):
        select_backend("flash", [spec_of()], CPU, None)


def test_when_all_refuse_every_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    targets = {
        "cpu": "specserve.engine.attention.cpu:CpuBackend",
        "gone": "no_such_package.attention:Backend",
    }
    monkeypatch.setattr(select, "BACKENDS", LazyRegistry(targets))
    with pytest.raises(UnsupportedModelError) as caught:
        select_backend("auto", [spec_of()], META, None)
    assert "cpu: it runs on CPUs, not on meta" in caught.value.cause
    assert "gone: cannot be imported (ModuleNotFoundError: No module named 'no_such_package')" in caught.value.cause
