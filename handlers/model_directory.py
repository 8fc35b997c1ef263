"""Which names are served, and what stands behind a name: the engine, its chat template, its sampling defaults."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha256
from typing import NoReturn

from specserve import __version__
from specserve.engine.api import GENERATE, Engine, ModelInfo
from specserve.engine.errors import EngineDeadError
from specserve.engine.params import PoolingTask
from specserve.generated.errors import (
    EngineDead,
    MissingRequiredParameter,
    ModelNotFound,
    ServerLoading,
    UnsupportedTask,
)
from specserve.handlers.errors import cleaned
from specserve.handlers.first_use import NotStarted, OnDemand
from specserve.handlers.generation_defaults import GenerationDefaults
from specserve.handlers.served_adapters import AdaptedEngine, ServedAdapters

DOES: Mapping[str, str] = {
    GENERATE: "writes text",
    PoolingTask.EMBED: "makes one vector of a text",
    PoolingTask.CLASSIFY: "classifies texts",
    PoolingTask.TOKEN_EMBED: "makes a vector of each token",
    PoolingTask.TOKEN_CLASSIFY: "classifies tokens",
}

Fits = Callable[[ModelInfo], bool]
"""Whether a model can do what a request wants."""


@dataclass(frozen=True, slots=True)
class Source:
    """One model. The calls are made at each use: an engine is there once it is loaded, and may die.

    names      the first one is what replies call the model
    engine     None while it loads, and for a model that could not be loaded
    failure    why the model does not work any more, or never did; None while nothing is wrong
    on_demand  who starts it when it is first asked for; None where it is loaded at the start
    adapters   names of those that are loaded with it
    """

    names: Sequence[str]
    engine: Callable[[], Engine | None]
    defaults: Callable[[ModelInfo], GenerationDefaults] = lambda model: GenerationDefaults()
    failure: Callable[[], str | None] = lambda: None
    on_demand: Callable[[], OnDemand | None] = lambda: None
    adapters: Sequence[str] = ()

    @property
    def model(self) -> ModelInfo | None:
        """What is known of the model: less before its first use, nothing while it is loaded at the start."""
        if (engine := self.engine()) is not None:
            return engine.model
        waiting = self.on_demand()
        return None if waiting is None else waiting.preview


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One answer of the directory. `name` is what replies call the model: the first served name."""

    name: str
    engine: Engine
    defaults: GenerationDefaults
    system_fingerprint: str
    directory: ModelDirectory

    @property
    def about(self) -> str:
        """What it does, as the beginning of a sentence: `the model mine writes text`."""
        return f"the model {self.name} {' and '.join(DOES[task] for task in self.engine.model.tasks)}"

    def way_out(self, fits: Fits, advice: str) -> str:
        """What to do when this model is the wrong one: the names of those that fit, else `advice`."""
        names = self.directory.names_of(fits)
        return f"send model: {' or '.join(names)}" if names else advice


class ModelDirectory:
    """Names to models. Engines may still be loading: they are asked for at each use, never kept."""

    def __init__(self, *sources: Source) -> None:
        if not sources or not all(source.names for source in sources):
            raise ValueError("a model needs at least one name to be served under")
        self._sources = sources
        self._by_name = {name: source for source in reversed(sources) for name in source.names}
        self._served: dict[str, ServedModel] = {}
        self._adapters = [ServedAdapters() for _ in sources]

    @property
    def names(self) -> tuple[str, ...]:
        """All names, those of the first model first."""
        return tuple(dict.fromkeys(name for source in self._sources for name in source.names))

    @property
    def has_several(self) -> bool:
        return len(self._sources) > 1

    @property
    def listed_names(self) -> tuple[str, ...]:
        """The names of models that could answer; of a single one, its names."""
        if not self.has_several:
            return self.names
        return tuple(name for name in self.names if self._may_answer(self._by_name[name]))

    @staticmethod
    def _may_answer(source: Source) -> bool:
        return source.failure() is None and source.model is not None

    def info(self, name: str) -> ModelInfo:
        """What is known of a model by now, without starting it. Raises as `resolve`."""
        source = self._by_name.get(name)
        if source is not None and source.failure() is None and (model := source.model) is not None:
            return model
        return self.resolve(name).engine.model

    def states(self) -> dict[str, str]:
        """Each model's first name, and whether it is not_started, loading, ready or failed."""
        return {source.names[0]: self.state_of(source) for source in self._sources}

    def check_health(self) -> None:
        """Healthy is a server that can answer with one of its models. Raises EngineDeadError."""
        problem: EngineDeadError | None = None
        for source in self._sources:
            if (engine := source.engine()) is None:
                continue
            try:
                engine.check_health()
            except EngineDeadError as error:
                problem = problem or error
            else:
                return
        if problem is not None:
            raise problem

    @staticmethod
    def state_of(source: Source) -> str:
        if source.failure() is not None:
            return "failed"
        if source.engine() is not None:
            return "ready"
        waiting = source.on_demand()
        return "loading" if waiting is None else waiting.stage

    def names_of(self, fits: Fits) -> list[str]:
        """First names of the models that fit, also of those that have died: they will be asked for the reason."""
        return [source.names[0] for source in self._fitting(fits)]

    def resolve(self, name: str | None, *fits: Fits) -> ServedModel:
        """The model called so. None and the empty string mean the one model there is or, of several, the one that fits.

        When several are served and no name is given, the first of `fits` that exactly one of them meets decides.
        Raises ModelNotFound, MissingRequiredParameter, UnsupportedTask, ServerLoading, EngineDead; and NotStarted,
        after which it has to be asked again (see `first_use.with_models`).
        """
        if not name:
            return self.serve(self._meant(fits))
        owner = self._by_name.get(name) or self.owner_of_adapter(name)
        if owner is None:
            self._refuse(name)
        served = self.serve(owner)
        if name in self._by_name:
            return served
        adapted = self.adapters_of(owner).get(name) or self._refuse(name)
        changed = f"{served.system_fingerprint}-{sha256(adapted.path.encode()).hexdigest()[:8]}"
        return replace(served, name=name, engine=adapted, system_fingerprint=changed)

    def _refuse(self, name: str) -> NoReturn:
        names = (*self.names, *self.adapter_names)
        near = difflib.get_close_matches(name[:200], names, n=3, cutoff=0.5)
        advice = f"did you mean {' or '.join(near)}?" if near else f"served here: {', '.join(names[:10])}"
        raise ModelNotFound(f"the model {name[:200]!r} does not exist; {advice}", param="model")

    # ---- adapters ------------------------------------------------------------------------------------------

    @property
    def adapter_names(self) -> tuple[str, ...]:
        """Of models that could answer."""
        working = (source for source in self._sources if self.state_of(source) == "ready")
        return tuple(name for source in working for name in self.adapters_of(source))

    def adapters_of(self, source: Source) -> dict[str, AdaptedEngine]:
        """By name; whoever loads and unloads changes it."""
        return self._adapters[self._sources.index(source)].of(source.engine())

    def owner_of_adapter(self, name: str) -> Source | None:
        """Also of one that is loaded with its model, when that is first asked for."""
        for source in self._sources:
            if name in self.adapters_of(source) or (source.engine() is None and name in source.adapters):
                return source
        return None

    def sources_with_adapters(self) -> list[Source]:
        return self._fitting(lambda model: model.accepts_adapters)

    def source_called(self, name: str) -> Source:
        """Raises ModelNotFound."""
        return self._by_name.get(name) or self._refuse(name)

    def generator(self, name: str | None) -> ServedModel:
        """A model that writes text. Raises UnsupportedTask for others, and what `resolve` raises."""
        served = self.resolve(name, is_generative)
        if not is_generative(served.engine.model):
            advice = served.way_out(
                is_generative,
                "serve a generating model for that, or ask this one under /v1/embeddings, /classify, /score or /rerank",
            )
            raise UnsupportedTask(f"{served.about}; it writes none; {advice}", param="model")
        return served

    def first(self) -> ServedModel:
        """For questions that cannot name a model."""
        return self.serve(self._sources[0])

    def _fitting(self, fits: Fits) -> list[Source]:
        return [one for one in self._sources if (model := one.model) is not None and fits(model)]

    def _meant(self, fits: Sequence[Fits]) -> Source:
        if not self.has_several:
            return self._sources[0]
        found = list(self._sources)
        for one in fits:
            found = self._fitting(one)
            if len(found) == 1:
                return found[0]
        if not found:
            about = ", ".join(f"{name} is {state}" for name, state in self.states().items())
            raise UnsupportedTask(
                f"no model of this server can do that ({about}); name one, or serve one that can", param="model"
            )
        names = ", ".join(source.names[0] for source in found)
        raise MissingRequiredParameter(f"model is missing, and {len(found)} could be meant: {names}", param="model")

    def serve(self, source: Source) -> ServedModel:
        """Raises ServerLoading, EngineDead."""
        name, engine = source.names[0], source.engine()
        if (failure := source.failure()) is not None:
            others = [working for working in self.listed_names if working not in source.names]
            raise EngineDead(
                f"the model {name} does not work: {cleaned(failure)[:1000]}; the server has to be restarted for it"
                + (f"; still served: {', '.join(others[:10])}" if others else "")
            )
        if engine is None:
            if (waiting := source.on_demand()) is not None:
                raise NotStarted(waiting)
            raise ServerLoading("the model is still loading; try again soon", headers={"Retry-After": "2"})
        served = self._served.get(name)
        if served is None or served.engine is not engine:
            model = engine.model
            served = ServedModel(name, engine, source.defaults(model), fingerprint(model), self)
            self._served[name] = served
        return served


def is_generative(model: ModelInfo) -> bool:
    return model.is_generative


@lru_cache(maxsize=16)
def fingerprint(model: ModelInfo) -> str:
    """Changes when the numbers may change: version, model, device, type of numbers, attention backend."""
    parts = (model.path, model.architecture, model.device, model.dtype, model.attention_backend, model.is_deterministic)
    return f"specserve-{__version__}-{sha256(repr(parts).encode()).hexdigest()[:8]}"
