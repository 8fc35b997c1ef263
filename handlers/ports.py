"""The port: listening sockets, and what is said when it cannot be had."""

from __future__ import annotations

import errno
import socket

from specserve.handlers.settings import ServerSettings

BACKLOG = 2048
BAD_USAGE, PORT_IN_USE = 2, 4
"""Exit codes."""


class PortError(Exception):
    """The port cannot be had; the two lines for people and the exit code."""

    def __init__(self, cause: str, remedy: str, exit_code: int) -> None:
        super().__init__(cause)
        self.cause, self.remedy, self.exit_code = cause, remedy, exit_code


def bind(settings: ServerSettings) -> list[socket.socket]:
    """A listening socket for each API process: clients can connect from here on and wait for their answer.

    Among several, the kernel spreads connections. Raises PortError.
    """
    first = listen(settings.host, settings.port, is_shared=False)
    if settings.api_server_count == 1:
        return [first]
    # A port may be shared only by sockets that all say so. The one before has made sure that nobody else has it.
    port = first.getsockname()[1]
    first.close()
    return [listen(settings.host, port, is_shared=True) for _ in range(settings.api_server_count)]


def listen(host: str, port: int, *, is_shared: bool) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise PortError(
            f"--host {host} is no address: {error.strerror}", "pass 127.0.0.1, 0.0.0.0 or a name", BAD_USAGE
        ) from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortError(
                f"port {port} on {host} is in use by another process",
                f"pass another one, such as --port {port + 1 if port < 65535 else 8000}, or 0 for any free one",
                PORT_IN_USE,
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM):
            raise PortError(
                f"port {port} on {host} needs more rights than this user has", "pass a --port above 1023", BAD_USAGE
            ) from error
        raise PortError(
            f"this machine cannot listen on {host}: {error.strerror}",
            "pass one of its own addresses as --host",
            BAD_USAGE,
        ) from error
    return listener
