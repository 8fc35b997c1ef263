"""What a person in front of the server sees: a bar while it loads, a banner when it is ready, two lines when it fails.

Progress and banner go to standard output; errors and the log go to standard error.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from rich.console import Console as RichConsole
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from specserve.engine.api import ModelInfo

LINE_INTERVAL_S = 3.0
"""Without a terminal, progress is a line now and then instead of a bar."""


@contextlib.contextmanager
def while_read(stream: TextIO | None) -> Iterator[None]:
    """The reader of an output may leave (`serve | head`, a terminal that closes); the server goes on without it."""
    try:
        yield
    except OSError:
        if stream is None:
            return
        # What is still unwritten would fail once more when the interpreter ends, and change the exit code.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


@dataclass(frozen=True, slots=True)
class Shown:
    """A model of the banner. `template`: what there is to say about its chat template; `answers`: how they are read.

    `is_waiting`: it is loaded when it is first asked for; less is known of it.
    """

    name: str
    model: ModelInfo
    template: str | None = None
    answers: str | None = None
    is_waiting: bool = False


class Console:
    """Bar and panel on a terminal, plain lines anywhere else. No method fails because nobody reads them."""

    def __init__(self) -> None:
        self._rich = RichConsole() if sys.stdout is not None and sys.stdout.isatty() else None
        self._bar: Progress | None = None
        self._last_line = time.monotonic()

    def loading(self, phase: str, progress: float) -> None:
        """Phase in a few words, progress from 0 to 1."""
        if self._rich is not None:
            with while_read(sys.stdout):
                self._move_bar(self._rich, phase, progress)
        elif time.monotonic() - self._last_line >= LINE_INTERVAL_S:
            self._last_line = time.monotonic()
            self.line(f"{progress:4.0%} {phase}")

    def _move_bar(self, rich: RichConsole, phase: str, progress: float) -> None:
        if self._bar is None:
            columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn()
            self._bar = Progress(*columns, console=rich, transient=True)
            self._bar.add_task(phase, total=1.0)
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], description=phase, completed=progress)

    def ready(self, models: Sequence[Shown], *, url: str, needs_key: bool, is_public: bool, took_s: float) -> None:
        """All models that work, and a request to begin with for each."""
        self.end_bar()
        rows: list[tuple[str, str]] = []
        notes: list[tuple[str, str, str]] = []
        for shown in models:
            whose = f"{shown.name}: " if len(models) > 1 else ""
            rows += model_rows(shown)
            notes += [("note", "yellow", f"{whose}{note}") for note in shown.model.notes]
            if shown.template is not None:
                notes.append(("template", "yellow", f"{whose}{shown.template}"))
        rows.append(("URL", f"{url}/v1, documentation at /docs; ready after {took_s:.1f} s"))
        if is_public and not needs_key:
            notes.append(("warning", "bold red", "other machines can reach this server and no --api-key is set"))
        example = "\n".join(
            curl_example(shown.name, url, needs_key=needs_key, task=shown.model.tasks[0]) for shown in models
        )
        if self._rich is None:
            for label, value in rows:
                self.line(f"{label:<9} {value}")
            for label, _, note in notes:
                self.line(f"{label:<9} {note}")
            self.line(example)
            return
        text = Text()
        for label, value in rows:
            text.append(f"{label:<9} ", style="bold").append(f"{value}\n")
        for label, style, note in notes:
            text.append(f"{label:<9} ", style=style).append(f"{note}\n")
        text.rstrip()
        with while_read(sys.stdout):
            self._rich.print(Panel(text, title="specserve is ready", expand=False))
            # Outside the panel and unwrapped, so that it can be copied.
            self._rich.print(example, soft_wrap=True, markup=False, highlight=False)

    def end_bar(self) -> None:
        bar, self._bar = self._bar, None
        if bar is not None:
            with while_read(sys.stdout):
                bar.stop()

    def line(self, text: str) -> None:
        self.end_bar()
        with while_read(sys.stdout):
            print(text, flush=True)

    def problem(self, cause: str, remedy: str) -> None:
        """Cause and way out, each one line."""
        self.end_bar()
        with while_read(sys.stderr):
            print(f"serve: {one_line(cause)}\n{one_line(remedy)}", file=sys.stderr, flush=True)


def model_rows(shown: Shown) -> list[tuple[str, str]]:
    model = shown.model
    if shown.is_waiting:
        return [("model", f"{shown.name} ({model.architecture}), loaded when it is first asked for")]
    size = (
        f"{model.num_parameters / 1e9:.2f} B" if model.num_parameters >= 1e8 else f"{model.num_parameters / 1e6:.1f} M"
    )
    rows = [("model", f"{shown.name} ({model.architecture}, {size} parameters)")]
    if not model.is_generative:
        rows.append(("tasks", f"{', '.join(model.tasks)}; texts of up to {model.max_model_len} tokens"))
    if model.kv_capacity_tokens == 0:  # an encoder, which keeps nothing
        rows.append(("device", f"{model.device}, {model.dtype}"))
    else:
        sequences = model.kv_capacity_tokens / model.max_model_len
        rows += [
            ("device", f"{model.device}, {model.dtype}, attention by {model.attention_backend}"),
            (
                "KV cache",
                f"{model.kv_capacity_tokens} tokens in blocks of {model.block_size}: "
                f"{sequences:.1f} sequences of {model.max_model_len} tokens",
            ),
        ]
    if shown.answers is not None:
        rows.append(("answers", shown.answers))
    return rows


EXAMPLES: dict[str, tuple[str, dict[str, Any]]] = {
    "generate": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello!"}]}),
    "embed": ("/v1/embeddings", {"input": "Hello!"}),
    "classify": ("/classify", {"input": "Hello!"}),
}
"""What to try first, by task."""


def curl_example(name: str, url: str, *, needs_key: bool, task: str = "generate") -> str:
    key = " -H 'Authorization: Bearer YOUR_KEY'" if needs_key else ""
    path, fields = EXAMPLES.get(task, ("/pooling", {"input": "Hello!"}))
    body = json.dumps({"model": name, **fields}, ensure_ascii=False)
    return f"curl {url}{path}{key} -H 'Content-Type: application/json' -d {shlex.quote(body)}"


def one_line(text: str) -> str:
    return " ".join(text.split())
