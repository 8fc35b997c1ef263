"""Which model can do what, and what a refusal says about it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from specserve.engine.api import ModelInfo
from specserve.engine.params import PoolingTask
from specserve.generated.errors import UnsupportedTask, UnsupportedValue
from specserve.handlers.model_directory import Fits, ServedModel

OFFERS: Mapping[str, tuple[str, str]] = {
    PoolingTask.EMBED: ("embeddings", "an embedder"),
    PoolingTask.CLASSIFY: ("classes", "a sequence classifier"),
    PoolingTask.TOKEN_EMBED: ("vectors of tokens", "an embedder"),
    PoolingTask.TOKEN_CLASSIFY: ("classes of tokens", "a token classifier"),
}


def does(model: ModelInfo, *, task: PoolingTask) -> bool:
    return task in model.tasks


DOING: Mapping[PoolingTask, Fits] = {task: partial(does, task=task) for task in PoolingTask}


def check_task(served: ServedModel, task: PoolingTask, *, param: str = "model") -> None:
    """Raises UnsupportedTask unless the model can do it."""
    if task not in served.engine.model.tasks:
        offered, needed = OFFERS[task]
        advice = served.way_out(DOING[task], f"serve {needed} for that")
        raise UnsupportedTask(f"{served.about}; it offers no {offered}; {advice}", param=param)


def pools(model: ModelInfo) -> bool:
    return any(task in model.tasks for task in PoolingTask)


def is_cross_encoder(model: ModelInfo) -> bool:
    """Reads two texts at once, and says one number."""
    return PoolingTask.CLASSIFY in model.tasks and len(model.labels) == 1


def scores_pairs(model: ModelInfo) -> bool:
    """Tells how well two texts go together: by reading both, or by their vectors."""
    return is_cross_encoder(model) or bool({PoolingTask.EMBED, PoolingTask.TOKEN_EMBED} & set(model.tasks))


def check_scores(served: ServedModel) -> None:
    """Raises UnsupportedTask unless the model can tell how well two texts go together."""
    model = served.engine.model
    if scores_pairs(model):
        return
    advice = served.way_out(scores_pairs, "serve a reranker (a classifier with one label) or an embedder for that")
    many = f" into {len(model.labels)} classes" if PoolingTask.CLASSIFY in model.tasks else ""
    raise UnsupportedTask(
        f"{served.about}{many}; it offers no scores of pairs; {advice}",
        param="model",
    )


def check_dimensions(asked: int | None, model: ModelInfo, *, param: str) -> int | None:
    """How many numbers a vector is cut to, None for no cut. Raises UnsupportedValue naming what is allowed."""
    size, trained = model.embedding_size, model.matryoshka_dimensions
    if asked is None or asked == size:
        return None
    if trained is None:
        raise UnsupportedValue(
            f"{param} is {asked}, but this model's vectors have {size} numbers and it was not trained for fewer; "
            "leave it out",
            param=param,
        )
    if asked > size or (trained and asked not in trained):
        allowed = ", ".join(str(one) for one in sorted({*trained, size})) if trained else f"1 to {size}"
        raise UnsupportedValue(f"{param} is {asked}; this model takes {allowed}", param=param)
    return asked
