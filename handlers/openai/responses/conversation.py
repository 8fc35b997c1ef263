"""Items to the neutral conversation: what belongs to one turn of the assistant becomes one message."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from specserve.generated import schemas
from specserve.generated.base import ApiModel
from specserve.generated.errors import InvalidPrompt, UnsupportedValue
from specserve.handlers.chat.conversation import Message
from specserve.handlers.openai.messages import earlier_call
from specserve.handlers.openai.responses.items import Placed
from specserve.handlers.openai.responses.sealed import unsealed

INPUT = "input"
"""The one argument of a custom tool, as the model sees it."""


def to_messages(
    items: Sequence[Placed], instructions: str | None = None, before: Sequence[Message] = ()
) -> list[Message]:
    """Instructions, what came `before` as messages, and the items.

    An empty input is a user who says nothing: agents ask so to see whether the server is there.

    Raises UnsupportedValue naming the place of a part that the model cannot use, InvalidPrompt when nothing is left.
    """
    messages = Messages()
    for placed in items:
        messages.add_item(placed)
    found = [*before, *messages.done()]
    if not (found or items):
        found = [{"role": "user", "content": ""}]
    if not found:
        raise InvalidPrompt("input has no item that the model can read; send a message", param="input")
    return found if instructions is None else [{"role": "system", "content": instructions}, *found]


class Messages:
    """Collects messages. `_open` is the assistant's, as long as more of its turn may follow."""

    def __init__(self) -> None:
        self._found: list[Message] = []
        self._open: Message | None = None
        self._names: dict[str, str] = {}
        self._unanswered: list[str] = []

    def done(self) -> list[Message]:
        self._close()
        return self._found

    def add(self, message: Message) -> None:
        self._close()
        self._found.append(message)

    def add_item(self, placed: Placed) -> None:
        item, place = placed.item, placed.place
        match item:
            case schemas.MessageParam(role="assistant"):
                self._say(texts_of(item.content, place))
            case schemas.MessageParam():
                self.add({"role": item.role, "content": texts_of(item.content, place)})
            case schemas.ReasoningParam():
                self._think(item)
            case schemas.FunctionCallParam():
                self._call(item.call_id, full_name(item.name, item.namespace), item.arguments)
            case schemas.CustomToolCallParam():
                arguments = json.dumps({INPUT: item.input}, ensure_ascii=False)
                self._call(item.call_id, full_name(item.name, item.namespace), arguments)
            case schemas.FunctionCallOutputParam() | schemas.CustomToolCallOutputParam():
                self._answer(item.call_id, item.output, place)

    def _turn(self) -> Message:
        if self._open is None:
            self._open = {"role": "assistant", "content": None}
        return self._open

    def _close(self) -> None:
        if self._open is not None:
            if self._open["content"] is None and "tool_calls" not in self._open:
                self._open["content"] = ""  # only thoughts
            self._found.append(self._open)
            self._open = None

    def _say(self, content: str | list[dict[str, str]]) -> None:
        """A second message, or one after calls, is a turn of its own."""
        if self._open is not None and (self._open["content"] is not None or "tool_calls" in self._open):
            self._close()
        self._turn()["content"] = content

    def _think(self, item: schemas.ReasoningParam) -> None:
        """Thoughts come before what they lead to. Those of another provider cannot be read and are left out."""
        parts = item.content or []
        text = "\n".join(part.text for part in parts) or unsealed(item.encrypted_content)
        text = text or "\n".join(part.text for part in item.summary or [])
        if not text:
            return
        if self._open is not None and (self._open["content"] is not None or "tool_calls" in self._open):
            self._close()
        turn = self._turn()
        text = f"{turn['reasoning']}\n{text}" if "reasoning" in turn else text
        turn |= {"reasoning": text, "reasoning_content": text}

    def _call(self, call_id: str, name: str, arguments: str) -> None:
        self._turn().setdefault("tool_calls", []).append(earlier_call(call_id, name, arguments))
        self._names[call_id] = name
        self._unanswered.append(call_id)

    def _answer(self, call_id: str | None, output: str | Sequence[ApiModel], place: str) -> None:
        if call_id is None:
            call_id = self._unanswered[-1] if self._unanswered else ""
        if call_id in self._unanswered:
            self._unanswered.remove(call_id)
        content = texts_of(output, place, "output")
        if isinstance(content, list):
            content = "\n".join(part["text"] for part in content)
        message: Message = {"role": "tool", "tool_call_id": call_id, "content": content}
        if call_id in self._names:
            message["name"] = self._names[call_id]
        self.add(message)


def full_name(name: str, namespace: str | None) -> str:
    """What the model calls a tool."""
    return f"{namespace}__{name}" if namespace else name


def texts_of(content: str | Sequence[ApiModel], place: str, field: str = "content") -> str | list[dict[str, str]]:
    if isinstance(content, str):
        return content
    return [text_part(part, f"{place}.{field}.{at}") for at, part in enumerate(content)]


def text_part(part: Any, place: str) -> dict[str, str]:
    """Raises UnsupportedValue."""
    if isinstance(part, schemas.InputTextPart | schemas.EarlierTextPart):
        return {"type": "text", "text": part.text}
    if isinstance(part, schemas.RefusalPart):
        return {"type": "text", "text": part.refusal}
    raise UnsupportedValue(
        f"{place} is a part of type {part.type}, but this model reads text only; send it as text",
        param=f"{place}.type",
    )
