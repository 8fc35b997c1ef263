"""The adapters of one engine process: read on a thread of its own, found by id when a request wants one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue

from specserve.engine.adapter import Adapter
from specserve.engine.api import AdapterInfo
from specserve.engine.config import LoraConfig
from specserve.engine.errors import ModelLoadError
from specserve.engine.lora.adapter_config import AdapterError
from specserve.engine.lora.adapter_files import read_adapter
from specserve.engine.lora.linears import AdapterForm
from specserve.engine.models.low_rank import LowRank

logger = logging.getLogger(__name__)


class AdapterStore:
    """Owned by the step loop. A request holds the adapter it began with, so that dropping one harms nobody."""

    def __init__(self, config: LoraConfig, form: AdapterForm, wake: Callable[[], None]) -> None:
        """`wake` is called from the thread whenever `take_loaded` has news."""
        self._config, self._form, self._wake = config, form, wake
        self._adapters: dict[int, Adapter] = {}
        self._loading: set[int] = set()
        self._read: SimpleQueue[tuple[int, Callable[[], Adapter] | str]] = SimpleQueue()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="adapters")

    def load_first(self, progress: Callable[[str, float], None]) -> tuple[AdapterInfo, ...]:
        """Those of the configuration, numbered from 1. Raises ModelLoadError."""
        for adapter_id, module in enumerate(self._config.modules, start=1):
            progress(f"loading the adapter {module.name}", 0.95)
            try:
                self._adapters[adapter_id] = self._read_and_pack(adapter_id, module.name, module.path)()
            except AdapterError as error:
                raise ModelLoadError(
                    f"the adapter {module.name} cannot be loaded: {error.message}",
                    "correct it, or leave it out of --lora-modules",
                ) from error
        return tuple(
            AdapterInfo(adapter_id, module.name, module.path)
            for adapter_id, module in enumerate(self._config.modules, start=1)
        )

    def load(self, adapter_id: int, name: str, path: str) -> None:
        """What becomes of it is said by `take_loaded`."""
        self._loading.add(adapter_id)
        self._thread.submit(self._load, adapter_id, name, path)

    def take_loaded(self) -> list[tuple[int, str | None]]:
        """What has been read since, and may be asked for from now on: the id, and why it could not be loaded."""
        found: list[tuple[int, str | None]] = []
        try:
            while True:
                adapter_id, result = self._read.get_nowait()
                if adapter_id not in self._loading:
                    continue  # dropped before it was there
                self._loading.discard(adapter_id)
                if not isinstance(result, str):
                    self._adapters[adapter_id] = result()
                found.append((adapter_id, result if isinstance(result, str) else None))
        except Empty:
            return found

    def find(self, adapter_id: int) -> Adapter | None:
        return self._adapters.get(adapter_id)

    def drop(self, adapter_id: int) -> None:
        """Nobody will ask for it again, also if it is still being read."""
        self._loading.discard(adapter_id)
        self._adapters.pop(adapter_id, None)

    def _load(self, adapter_id: int, name: str, path: str) -> None:
        try:
            self._read.put((adapter_id, self._read_and_pack(adapter_id, name, path)))
        except AdapterError as error:
            self._read.put((adapter_id, error.message))
        except Exception as error:
            logger.exception("the adapter %s cannot be loaded", name)
            self._read.put((adapter_id, f"the adapter cannot be loaded: {type(error).__name__}"))
        self._wake()

    def _read_and_pack(self, adapter_id: int, name: str, path: str) -> Callable[[], Adapter]:
        """What the step loop has to call for it: on GPUs packing may not go on beside a step that is captured."""
        weights: Mapping[str, LowRank] = read_adapter(Path(path), self._form.linears, self._config.max_rank)
        if not self._form.packs_anywhere:
            return lambda: Adapter(adapter_id, name, self._form.pack(weights))
        adapter = Adapter(adapter_id, name, self._form.pack(weights))
        return lambda: adapter
