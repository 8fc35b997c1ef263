"""GET /health and GET /version."""

from __future__ import annotations

from urllib.parse import quote

from specserve import __version__
from specserve.generated import schemas
from specserve.generated.operations import ServerApi
from specserve.handlers.context import RequestContext
from specserve.handlers.model_directory import ModelDirectory

STATES_HEADER = "x-model-states"


class Server(ServerApi[RequestContext]):
    """While the model loads, routing refuses before anything here is asked."""

    def __init__(self, directory: ModelDirectory) -> None:
        self._directory = directory

    async def show_health(self, context: RequestContext) -> None:
        """Healthy means: a request sent now would be taken and would make progress.

        Of several models, one that works is enough; a header tells how each of them is.
        """
        self._directory.check_health()
        if self._directory.has_several:
            states = (f"{quote(name)}={state}" for name, state in self._directory.states().items())
            context.response_headers[STATES_HEADER] = ", ".join(states)

    async def show_version(self, context: RequestContext) -> schemas.Version:
        return schemas.Version(version=__version__)
