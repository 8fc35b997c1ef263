"""The process in which grammars of unknown origin are compiled for the first time. Started by `handlers.grammars`.

    python -m specserve.engine.grammars.check_process FD

FD is the inherited end of a socket pair; its end-of-file ends this process. First comes the vocabulary, then one
`Check` after the other. Each is carried out in a forked child with limits of its own for time and memory: what
overruns is killed, what crashes takes only itself along, and the memory it took is gone with it.
"""

from __future__ import annotations

import os
import resource
import selectors
import signal
import socket
import sys
import time
from dataclasses import dataclass, field, replace

import msgspec

from specserve.engine.errors import GrammarError, RequestError
from specserve.engine.grammar_spec import GrammarSpec
from specserve.engine.grammars.compiler import GrammarCompiler
from specserve.engine.grammars.vocabulary import Vocabulary

LENGTH_BYTES = 4
STACK_BYTES = 4 * 1024 * 1024
"""Half of what the thread has that compiles the same grammar again: what fits here fits there."""
MIN_BYTES = 64 * 1024
"""A small grammar may fit into memory that was free already."""


class Budget(msgspec.Struct, frozen=True):
    """What one check may take; `memory_bytes` on top of the vocabulary's share."""

    time_s: float = 5.0
    memory_bytes: int = 256 * 1024 * 1024


class Setup(msgspec.Struct, frozen=True):
    """The first message."""

    vocabulary: Vocabulary
    budget: Budget


class Check(msgspec.Struct, frozen=True):
    number: int
    spec: GrammarSpec


class Verdict(msgspec.Struct, frozen=True):
    """`spec` is the one to use, None for a refusal. The refusal's words are those of a GrammarError."""

    number: int
    spec: GrammarSpec | None = None
    message: str = ""
    pointer: str = ""
    is_unsupported: bool = False


_encoder = msgspec.msgpack.Encoder()
_setups = msgspec.msgpack.Decoder(Setup)
_checks = msgspec.msgpack.Decoder(Check)
_verdicts = msgspec.msgpack.Decoder(Verdict)


def encode_frame(message: Setup | Check | Verdict) -> bytes:
    body = _encoder.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def decode_verdict(body: bytes) -> Verdict:
    return _verdicts.decode(body)


@dataclass(slots=True)
class Child:
    """A check under way. `pieces` is what it has written of its verdict."""

    number: int
    pid: int
    deadline: float
    pieces: bytearray = field(default_factory=bytearray)


class CheckProcess:
    """Reads checks, forks a child for each, sends their verdicts in the order in which they come."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._selector = selectors.DefaultSelector()
        self._children: dict[int, Child] = {}  # by the reading end of the pipe
        self._received = bytearray()
        setup = _setups.decode(self._read_first())
        self._budget = setup.budget
        self._compiler = GrammarCompiler(setup.vocabulary)
        self._own_bytes = address_space()

    def run(self) -> None:
        """Until the other side is gone."""
        self._selector.register(self._connection, selectors.EVENT_READ)
        while True:
            self._take_frames()
            for key, _ in self._selector.select(self._seconds_left()):
                if key.fileobj is self._connection:
                    piece = self._connection.recv(1 << 16)
                    if not piece:
                        self._kill_all()
                        return
                    self._received += piece
                else:
                    self._read_child(key.fd)
            self._kill_overdue()

    def _read_first(self) -> bytes:
        while True:
            frame = self._next_frame()
            if frame is not None:
                return frame
            piece = self._connection.recv(1 << 20)
            if not piece:
                raise EOFError("the other side of the channel is closed")
            self._received += piece

    def _next_frame(self) -> bytes | None:
        length = int.from_bytes(self._received[:LENGTH_BYTES], "big")
        end = LENGTH_BYTES + length
        if len(self._received) < max(end, LENGTH_BYTES):
            return None
        frame = bytes(self._received[LENGTH_BYTES:end])
        del self._received[:end]
        return frame

    def _take_frames(self) -> None:
        while (frame := self._next_frame()) is not None:
            self._start(_checks.decode(frame))

    def _start(self, check: Check) -> None:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            carry_out(check, self._compiler, writing, self._budget, self._own_bytes)  # never returns
        os.close(writing)
        self._children[reading] = Child(check.number, pid, time.monotonic() + self._budget.time_s)
        self._selector.register(reading, selectors.EVENT_READ)

    def _read_child(self, fd: int) -> None:
        child = self._children[fd]
        piece = os.read(fd, 1 << 16)
        child.pieces += piece
        if not piece:
            status = self._bury(fd)
            self._send(bytes(child.pieces) or self._refusal(child, self._obituary(status)))

    def _seconds_left(self) -> float | None:
        deadlines = [child.deadline for child in self._children.values()]
        return max(min(deadlines) - time.monotonic(), 0.0) if deadlines else None

    def _kill_overdue(self) -> None:
        now = time.monotonic()
        for fd, child in list(self._children.items()):
            if child.deadline <= now:
                os.kill(child.pid, signal.SIGKILL)
                self._bury(fd)
                self._send(self._refusal(child, self._too_slow()))

    def _kill_all(self) -> None:
        for child in self._children.values():
            os.kill(child.pid, signal.SIGKILL)

    def _bury(self, fd: int) -> int:
        """Forget a child that has ended or been killed; returns its wait status."""
        child = self._children.pop(fd)
        self._selector.unregister(fd)
        os.close(fd)
        return os.waitpid(child.pid, 0)[1]

    def _send(self, body: bytes) -> None:
        self._connection.sendall(len(body).to_bytes(LENGTH_BYTES, "big") + body)

    def _refusal(self, child: Child, message: str) -> bytes:
        return _encoder.encode(Verdict(child.number, message=message))

    def _too_slow(self) -> str:
        return (
            f"the constraint took longer than {self._budget.time_s:g} s to compile, the limit; "
            "simplify it: fewer or shorter alternatives, smaller counts, less nesting"
        )

    def _obituary(self, status: int) -> str:
        """Why a child ended without a verdict."""
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        if number in (signal.SIGXCPU, signal.SIGKILL):
            return self._too_slow()
        if number == signal.SIGSEGV:
            return "the constraint is nested too deeply to be compiled; flatten it"
        mib = self._budget.memory_bytes >> 20
        return f"the constraint needs more than {mib} MB of memory to compile, the limit; simplify it"


def carry_out(check: Check, compiler: GrammarCompiler, fd: int, budget: Budget, own_bytes: int) -> None:
    """In the child: limits, the check, its verdict into the pipe, and the end of the process."""
    try:
        os.close(sys.stderr.fileno())  # the library's last words before an abort would go to the server's log
        seconds = max(1, int(budget.time_s + 0.5))
        memory = own_bytes + budget.memory_bytes
        for kind, limit in (
            (resource.RLIMIT_CPU, seconds),
            (resource.RLIMIT_AS, memory),
            (resource.RLIMIT_STACK, STACK_BYTES),
            (resource.RLIMIT_CORE, 0),
        ):
            resource.setrlimit(kind, (limit, limit))
        verdict = judged(check, compiler)
        with os.fdopen(fd, "wb") as pipe:
            pipe.write(_encoder.encode(verdict))
    finally:
        os._exit(0)


def judged(check: Check, compiler: GrammarCompiler) -> Verdict:
    try:
        before = resident_bytes()
        spec = compiler.check(check.spec)
        return Verdict(check.number, replace(spec, num_bytes=max(resident_bytes() - before, MIN_BYTES)))
    except GrammarError as error:
        return Verdict(check.number, message=error.message, pointer=error.pointer, is_unsupported=error.is_unsupported)
    except RequestError as error:
        return Verdict(check.number, message=error.message)
    except MemoryError:
        raise  # an empty pipe tells it
    except BaseException as error:  # a panic of the library is no Exception
        return Verdict(check.number, message=f"the constraint cannot be compiled: {str(error)[:200]}")


def address_space() -> int:
    return memory_of_this_process()[0]


def resident_bytes() -> int:
    return memory_of_this_process()[1]


def memory_of_this_process() -> tuple[int, int]:
    """Bytes of address space, and of it in memory."""
    with open("/proc/self/statm", encoding="ascii") as file:
        size, resident = file.read().split()[:2]
    return int(size) * resource.getpagesize(), int(resident) * resource.getpagesize()


def main() -> None:
    # The API process decides when this one ends, by closing the channel.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.nice(5)
    try:
        CheckProcess(socket.socket(fileno=int(sys.argv[1]))).run()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


if __name__ == "__main__":
    main()
