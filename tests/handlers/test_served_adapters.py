"""An adapter is dropped when its name is gone and nobody answers with it any more, and not before."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fake_engine import FakeEngine

from specserve.engine.api import AdapterInfo, ModelInfo
from specserve.generated.errors import ModelNotFound
from specserve.handlers.model_directory import ModelDirectory, Source


class AdaptableEngine(FakeEngine):
    def __init__(self) -> None:
        super().__init__()
        self.dropped: list[int] = []

    @property
    def model(self) -> ModelInfo:
        return replace(super().model, accepts_adapters=True, adapters=(AdapterInfo(1, "sql", "/adapters/sql"),))

    def drop_adapter(self, adapter_id: int) -> None:
        self.dropped.append(adapter_id)


def directory_of(engine: Any) -> ModelDirectory:
    return ModelDirectory(Source(("base", "alias"), lambda: engine))


def test_an_adapter_is_dropped_with_its_last_user() -> None:
    engine = AdaptableEngine()
    directory = directory_of(engine)
    served = directory.resolve("sql")
    owner = directory.owner_of_adapter("sql")
    assert owner is not None
    assert (served.name, owner.names[0], directory.adapter_names) == ("sql", "base", ("sql",))
    del directory.adapters_of(owner)["sql"]
    assert (engine.dropped, directory.adapter_names) == ([], ())
    with pytest.raises(ModelNotFound, match="the model 'sql' does not exist"):
        directory.resolve("sql")
    del served
    assert engine.dropped == [1]


def test_other_weights_have_another_fingerprint() -> None:
    directory = directory_of(AdaptableEngine())
    assert directory.resolve("sql").system_fingerprint != directory.resolve("alias").system_fingerprint
    assert directory.resolve("alias").name == "base"
