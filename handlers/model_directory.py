"""Which names are served, and what stands behind a name: the engine, its chat template, its sampling defaults."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

from specserve import __version__
from specserve.engine.api import GENERATE, Engine, ModelInfo
from specserve.engine.params import PoolingTask
from specserve.generated.errors import ModelNotFound, ServerLoading, UnsupportedTask
from specserve.handlers.generation_defaults import GenerationDefaults

DOES: Mapping[str, str] = {
    GENERATE: "writes text",
    PoolingTask.EMBED: "makes one vector of a text",
    PoolingTask.CLASSIFY: "classifies texts",
    PoolingTask.TOKEN_EMBED: "makes a vector of each token",
    PoolingTask.TOKEN_CLASSIFY: "classifies tokens",
}


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One answer of the directory. `name` is what replies call the model: the first served name."""

    name: str
    engine: Engine
    defaults: GenerationDefaults
    system_fingerprint: str

    @property
    def about(self) -> str:
        """What it does, as the beginning of a sentence: `the model mine writes text`."""
        return f"the model {self.name} {' and '.join(DOES[task] for task in self.engine.model.tasks)}"


class ModelDirectory:
    """Names to models. The engine may still be loading: it is asked for at each use, never kept."""

    def __init__(
        self,
        names: Sequence[str],
        engine: Callable[[], Engine | None],
        *,
        defaults: Callable[[ModelInfo], GenerationDefaults] = lambda model: GenerationDefaults(),
    ) -> None:
        if not names:
            raise ValueError("a model needs at least one name to be served under")
        self.names = tuple(dict.fromkeys(names))
        self._engine = engine
        self._defaults = defaults
        self._served: ServedModel | None = None

    def resolve(self, name: str | None) -> ServedModel:
        """None and the empty string mean the first name. Raises ModelNotFound, ServerLoading."""
        if name and name not in self.names:
            near = difflib.get_close_matches(name[:200], self.names, n=3, cutoff=0.5)
            advice = f"did you mean {' or '.join(near)}?" if near else f"served here: {', '.join(self.names[:10])}"
            raise ModelNotFound(f"the model {name[:200]!r} does not exist; {advice}", param="model")
        engine = self._engine()
        if engine is None:
            raise ServerLoading("the model is still loading; try again soon", headers={"Retry-After": "2"})
        served = self._served
        if served is None or served.engine is not engine:
            served = ServedModel(self.names[0], engine, self._defaults(engine.model), fingerprint(engine.model))
            self._served = served
        return served

    def generator(self, name: str | None) -> ServedModel:
        """A model that writes text. Raises UnsupportedTask for others, and what `resolve` raises."""
        served = self.resolve(name)
        if not served.engine.model.is_generative:
            raise UnsupportedTask(
                f"{served.about}; it writes none; serve a generating model for that, or ask this one under "
                "/v1/embeddings, /classify, /score or /rerank",
                param="model",
            )
        return served


@lru_cache(maxsize=4)
def fingerprint(model: ModelInfo) -> str:
    """Changes when the numbers may change: version, model, device, type of numbers, attention backend."""
    parts = (model.path, model.architecture, model.device, model.dtype, model.attention_backend)
    return f"specserve-{__version__}-{sha256(repr(parts).encode()).hexdigest()[:8]}"
