"""The steps of a training: rates, clipping, and a line in the log every now and then."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor, nn

from specserve.handlers.demo.training.encoders.recipe import Course

LOG_EVERY_S = 20


class Progress:
    """Writes to the terminal and to `path`."""

    def __init__(self, path: Path, name: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._name = path, name
        self._losses: list[float] = []
        self._num_tokens = 0
        self._parts: list[tuple[torch.optim.Optimizer, float]] = []
        self._start = self._logged = time.monotonic()
        self.took_s = 0.0

    def note(self, line: str) -> None:
        print(line, flush=True)
        with self._path.open("a", encoding="utf-8") as log:
            print(line, file=log)

    def steps(self, course: Course, parts: list[tuple[torch.optim.Optimizer, float]]) -> Iterator[int]:
        self._parts = parts
        for step in range(course.steps):
            for optimizer, rate in parts:
                for group in optimizer.param_groups:
                    group["lr"] = rate * course.rate_factor(step)
            yield step
        self.took_s = time.monotonic() - self._start
        self.note(f"{self._name}: {course.steps} steps, {self._num_tokens / 1e6:.2f} M tokens, {self.took_s:.0f} s")

    def learn(self, model: nn.Module, loss: Tensor, num_tokens: int, step: int) -> None:
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, _ in self._parts:
            optimizer.step()
            optimizer.zero_grad()
        self._losses.append(loss.item())
        self._num_tokens += num_tokens
        if (now := time.monotonic()) - self._logged > LOG_EVERY_S:
            self._logged, passed = now, now - self._start
            speed = self._num_tokens / passed
            self.note(f"{self._name} step {step + 1} {passed:.0f} s {speed:.0f} tokens/s loss {mean(self._losses):.4f}")
            self._losses = []
