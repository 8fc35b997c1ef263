"""GET /health and GET /version."""

from __future__ import annotations

from collections.abc import Callable

from specserve import __version__
from specserve.engine.api import Engine
from specserve.generated import schemas
from specserve.generated.operations import ServerApi
from specserve.handlers.context import RequestContext


class Server(ServerApi[RequestContext]):
    """`engine` answers None while the model loads; routing has refused by then."""

    def __init__(self, engine: Callable[[], Engine | None]) -> None:
        self._engine = engine

    async def show_health(self, context: RequestContext) -> None:
        """Healthy means: a request sent now would be taken and would make progress."""
        engine = self._engine()
        if engine is not None:
            engine.check_health()

    async def show_version(self, context: RequestContext) -> schemas.Version:
        return schemas.Version(version=__version__)
