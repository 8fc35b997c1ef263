"""The `serve` command: settings, port, server, exit code. Light until there is a port, so that --help is quick."""

from __future__ import annotations

import dataclasses
import logging
import socket
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from specserve.engine.child import Child, start_child
from specserve.engine.errors import StartupError
from specserve.engine.model_folder import local_model_folder
from specserve.handlers.api_processes import ApiProcess, Place, fork, settled
from specserve.handlers.command_line import read_settings
from specserve.handlers.flags import UsageError
from specserve.handlers.log_lines import LineFormatter
from specserve.handlers.ports import BAD_USAGE, PortError, bind
from specserve.handlers.settings import ServerSettings

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from specserve.handlers.chat.answer_formats import FormatChoice
    from specserve.handlers.chat.prompts import Prompts
    from specserve.handlers.lifecycle import Lifecycle
    from specserve.handlers.openai.responses.store import ResponseStore
    from specserve.handlers.supervisor import Supervisor

REFUSED_HANDSHAKE = "ASGI callable returned without completing handshake."
"""What uvicorn calls an error also when a WebSocket was refused with a status, as it may be."""


def main(argv: Sequence[str] | None = None) -> int:
    try:
        settings = read_settings(argv)
        for model in settings.served:
            local_model_folder(model.model_path)  # a wrong path is told before anything is started
        settings = settled(settings)
        listeners = bind(settings)
    except UsageError as error:
        return report(error.cause, error.remedy, BAD_USAGE)
    except (StartupError, PortError) as error:
        return report(error.cause, error.remedy, error.exit_code)
    set_up_logging(settings)
    for notice in settings.notices:
        print(f"serve: {notice}", file=sys.stderr)
    settings = dataclasses.replace(settings, port=listeners[0].getsockname()[1])
    others = fork(listeners[1:], len(settings.served), lambda place: answer_too(settings, place), own=listeners[0])
    children = [
        None
        if model.load_on_first_use
        else start_child(has_own_code=model.trust_remote_code, connections=[other.engines[number] for other in others])
        for number, model in enumerate(settings.served)
    ]
    try:
        server = build(settings, listeners[0], children, others)
    except UsageError as error:
        listeners[0].close()
        for other in others:
            other.kill()
        for child in children:
            if child is not None:
                child.end()
        return report(error.cause, error.remedy, BAD_USAGE)
    return server.run()


def answer_too(settings: ServerSettings, place: Place) -> int:
    """What a further API process does."""
    from specserve.handlers.further_api import FurtherApi

    return FurtherApi(settings, place).run()


def report(cause: str, remedy: str, exit_code: int) -> int:
    print(f"serve: {cause}\n{remedy}", file=sys.stderr)
    return exit_code


def set_up_logging(settings: ServerSettings) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])
    # What no line shows is not found out: which thread, process, task and line of code wrote it.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    logging.getLogger("uvicorn.error").addFilter(lambda record: record.msg != REFUSED_HANDSHAKE)
    logging.getLogger("uvicorn").setLevel(settings.uvicorn_log_level.upper().replace("TRACE", "DEBUG"))
    logging.getLogger("specserve.requests").setLevel("INFO" if settings.enable_log_requests else "WARNING")
    if settings.disable_uvicorn_access_log:
        logging.getLogger("specserve.access").setLevel(logging.WARNING)


def build(
    settings: ServerSettings,
    listener: socket.socket,
    children: Sequence[Child | None] = (),
    others: Sequence[ApiProcess] = (),
) -> Supervisor:
    """Put the server together. The application is imported while the engine processes do their part of it.

    `children`: see `Fleet`; `others`: further API processes. Raises UsageError.
    """
    from specserve.handlers.supervisor import Supervisor

    if settings.chat_template is not None:
        from jinja2 import TemplateError, TemplateSyntaxError

        from specserve.handlers.chat.template import ChatTemplate

        try:
            ChatTemplate(settings.chat_template, {})
        except TemplateError as error:
            place = f" in line {error.lineno}" if isinstance(error, TemplateSyntaxError) else ""
            raise UsageError(
                f"--chat-template is no valid Jinja template{place}: {error.message}",
                "repair it, or leave the flag out",
            ) from error

    def create(
        lifecycle: Lifecycle,
        settings: ServerSettings,
        prompts: Prompts,
        formats: FormatChoice,
        store: ResponseStore,
    ) -> ASGIApp:
        from specserve.handlers.app import create_app

        return create_app(lifecycle, settings, prompts, formats, store)

    return Supervisor(settings, listener, create, children, others)


if __name__ == "__main__":
    sys.exit(main())
