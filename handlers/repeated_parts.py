"""What clients send again with every turn, the tools of their agents: checked once, while it stays the same."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json

from specserve.generated.base import ApiModel

REPEATED = "tools"
"""The field that is looked at, of every schema that has it."""
MAX_BYTES_OF_ONE, MAX_BYTES = 1 << 17, 1 << 20
"""JSON text of the parts that are kept, each and together; what was read from it takes about ten times as much."""


@dataclass(frozen=True, slots=True)
class Part:
    """`key` is its JSON text, which differs whenever anything in it does. `value` is what was read from it, if it was
    read before, and then had no unknown keys."""

    key: tuple[type[ApiModel], bytes]
    value: Any = None

    def within(self, data: dict[str, Any]) -> dict[str, Any]:
        """The body with what is known of it already read."""
        return data if self.value is None else data | {REPEATED: self.value}


class RepeatedParts:
    """The parts that came last. Their values are shared by the requests that have them, so nobody may change them."""

    def __init__(self) -> None:
        self._values: OrderedDict[tuple[type[ApiModel], bytes], Any] = OrderedDict()
        self._num_bytes = 0

    def find(self, data: dict[str, Any], schema: type[ApiModel]) -> Part | None:
        """None when there is nothing that is worth it."""
        sent = data.get(REPEATED)
        if type(sent) is not list or not sent or REPEATED not in schema.model_fields:
            return None
        key = schema, to_json(sent)
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return Part(key, value)

    def keep(self, part: Part, body: ApiModel) -> None:
        """`body` was read from data with this part, and all of it is known."""
        num_bytes = len(part.key[1])
        if num_bytes > MAX_BYTES_OF_ONE or part.key in self._values:
            return
        self._values[part.key] = getattr(body, REPEATED)
        self._num_bytes += num_bytes
        while self._num_bytes > MAX_BYTES:
            (_, text), _ = self._values.popitem(last=False)
            self._num_bytes -= len(text)
