"""Templates that come with a request, rendered in processes of their own that may be killed.

Jinja's sandbox keeps a template from reaching the server, but not from running for hours or filling the memory.
"""

from __future__ import annotations

import dataclasses
import json
import os
import select
import subprocess
import sys
import threading
import time
import weakref

from specserve.generated.errors import InvalidPrompt
from specserve.handlers.chat.conversation import Conversation
from specserve.handlers.chat.template import ContentFormat
from specserve.handlers.chat.template_process import MAX_CPU_S

MAX_WAIT_S = 20.0
"""On a machine that has no processor time to give. What a template costs is limited by `MAX_CPU_S`."""
MAX_IDLE = 2


class RequestTemplates:
    """Starts processes when they are needed and keeps a few. Thread-safe; every method blocks."""

    def __init__(self) -> None:
        self._idle: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        weakref.finalize(self, end_all, self._idle)

    def render(
        self, source: str, special_tokens: dict[str, str], content_format: ContentFormat, conversation: Conversation
    ) -> str:
        """Raises InvalidPrompt naming chat_template: no template, refuses the messages, takes too long or too much."""
        job = {
            "source": source,
            "special_tokens": special_tokens,
            "content_format": content_format,
            "conversation": dataclasses.asdict(conversation),
        }
        process = self._take()
        try:
            answer = json.loads(exchange(process, json.dumps(job).encode() + b"\n"))
        except (OSError, EOFError):
            process.kill()
            process.communicate()
            raise InvalidPrompt(
                f"chat_template was stopped: it took more than {MAX_CPU_S:g} s, or broke; send a simpler one",
                param="chat_template",
            ) from None
        except BaseException:
            process.kill()
            process.communicate()
            raise
        self._give_back(process)
        if "problem" in answer:
            raise InvalidPrompt(answer["problem"], param="chat_template")
        text: str = answer["text"]
        return text

    def _take(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        process = subprocess.Popen(
            [sys.executable, "-m", "specserve.handlers.chat.template_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PYTHONPATH": os.pathsep.join(sys.path)},  # nothing else of the server's environment, such as keys
        )
        try:
            read_line(process, time.monotonic() + MAX_WAIT_S)
        except BaseException:
            process.kill()
            process.communicate()
            raise
        return process

    def _give_back(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            if len(self._idle) < MAX_IDLE:
                self._idle.append(process)
                return
        end_all([process])


def end_all(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.kill()
        process.communicate()


def exchange(process: subprocess.Popen[bytes], line: bytes) -> bytes:
    """One line there, one line back. Raises OSError or EOFError when the process ended, TimeoutError."""
    assert process.stdin is not None
    process.stdin.write(line)
    process.stdin.flush()
    return read_line(process, time.monotonic() + MAX_WAIT_S)


def read_line(process: subprocess.Popen[bytes], deadline: float) -> bytes:
    assert process.stdout is not None
    pieces = bytearray()
    descriptor = process.stdout.fileno()
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while not pieces.endswith(b"\n"):
        if not poll.poll(max(deadline - time.monotonic(), 0) * 1000):
            raise TimeoutError
        piece = os.read(descriptor, 1 << 16)
        if not piece:
            raise EOFError
        pieces += piece
    return bytes(pieces)
