"""Items of the wire: read, told apart, given ids, and put into the form in which they are listed and kept."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any, NoReturn

from specserve.generated import schemas
from specserve.generated.base import ApiModel
from specserve.generated.errors import ItemNotFound, MissingRequiredParameter
from specserve.handlers.openai.responses.reading import names_header, read_again, validated

SKIPPED_ITEMS_HEADER = "x-skipped-items"

KINDS: dict[str, type[ApiModel]] = {
    "message": schemas.MessageParam,
    "function_call": schemas.FunctionCallParam,
    "function_call_output": schemas.FunctionCallOutputParam,
    "custom_tool_call": schemas.CustomToolCallParam,
    "custom_tool_call_output": schemas.CustomToolCallOutputParam,
    "reasoning": schemas.ReasoningParam,
    "item_reference": schemas.ItemReference,
}
PREFIXES = {
    "message": "msg",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "reasoning": "rs",
}
MODEL_OF = {"input_text": "input_text", "text": "input_text"}


def new_id(kind: str) -> str:
    return f"{PREFIXES.get(kind, 'item')}_{token_hex(24)}"


@dataclass(frozen=True, slots=True)
class Placed:
    """An item and its place in the request, for errors."""

    item: ApiModel
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadItems:
    """`items` is the whole conversation, earlier turns first; `own` what this request added, as it is listed.

    `skipped` are the kinds of items the model does not get.
    """

    items: list[Placed]
    own: list[dict[str, Any]]
    skipped: list[str] = field(default_factory=list)

    def report(self, headers: dict[str, str]) -> None:
        if self.skipped:
            headers[SKIPPED_ITEMS_HEADER] = names_header(self.skipped)


async def read_items(
    sent: str | Sequence[ApiModel] | None,
    earlier: Sequence[dict[str, Any]],
    find: Callable[[str], Awaitable[dict[str, Any] | None]],
    *,
    may_be_empty: bool = False,
) -> ReadItems:
    """`earlier` are the items of the conversation that goes on, as they were listed; the request need not add any
    when it is continued so. `find` looks for an item of another conversation by its id.

    Raises what the items deserve, each with its place.
    """
    if sent is None and not may_be_empty:
        raise MissingRequiredParameter("input is missing; send a text or items", param="input")
    entries: Sequence[ApiModel] = (
        [schemas.MessageParam(role="user", content=sent)] if isinstance(sent, str) else sent or []
    )
    places = ["input"] if isinstance(sent, str) else [f"input.{at}" for at in range(len(entries))]
    known = {item["id"]: item for item in earlier if isinstance(item.get("id"), str)}
    items = [Placed(of_listed(item), "previous_response_id") for item in earlier]
    own: list[dict[str, Any]] = []
    for place, entry in zip(places, entries, strict=True):
        item = read_again(entry, KINDS, place, default=untyped_kind(entry))
        if isinstance(item, schemas.ItemReference):
            raw = known.get(item.id) or await find(item.id) or not_found(item, place)
            item = of_listed(raw)
        else:
            raw = listed(item)
            known[raw["id"]] = raw
        own.append(raw)
        items.append(Placed(item, place))
    skipped = [str(raw.get("type")) for raw, placed in zip(own, items[len(earlier) :], strict=True) if is_other(placed)]
    return ReadItems(items=items, own=own, skipped=skipped)


def untyped_kind(entry: ApiModel) -> str:
    """What an item without a type is: with an id and nothing else it is a reference."""
    return "item_reference" if entry.model_fields_set - {"type"} == {"id"} else "message"


def is_other(placed: Placed) -> bool:
    return isinstance(placed.item, schemas.OtherItem)


def not_found(reference: schemas.ItemReference, place: str) -> NoReturn:
    """Raises ItemNotFound."""
    raise ItemNotFound(
        f"{place}.id is {reference.id[:80]!r}, but no such item is stored; send the item itself", param=f"{place}.id"
    )


def of_listed(raw: dict[str, Any]) -> ApiModel:
    """An item that was listed, or is one of an answer, as if it had been sent."""
    schema = KINDS.get(str(raw.get("type")), schemas.OtherItem)
    return validated(schema, raw, "previous_response_id")


def listed(item: ApiModel) -> dict[str, Any]:
    """With an id and a status, and the content of messages as parts."""
    raw = item.model_dump(by_alias=True, exclude_none=True)
    kind = str(raw.get("type"))
    if not isinstance(raw.get("id"), str) or not raw["id"]:
        raw["id"] = new_id(kind)
    if kind not in KINDS:
        return raw
    raw.setdefault("status", "completed")
    if isinstance(item, schemas.MessageParam):
        raw["content"] = list(map(listed_part, parts_of(item)))
    elif isinstance(item, schemas.ReasoningParam):
        raw.setdefault("summary", [])
        raw.setdefault("content", [])
    elif isinstance(item, schemas.FunctionCallOutputParam):
        raw.setdefault("call_id", None)
    return raw


def parts_of(message: schemas.MessageParam) -> list[dict[str, Any]]:
    if isinstance(message.content, str):
        return [{"type": "output_text" if message.role == "assistant" else "input_text", "text": message.content}]
    return [part.model_dump(by_alias=True, exclude_none=True) for part in message.content]


def listed_part(part: dict[str, Any]) -> dict[str, Any]:
    """Texts of answers have their notes, and texts of questions have one name."""
    if part["type"] == "output_text":
        return {"annotations": [], "logprobs": [], **part}
    return {**part, "type": MODEL_OF.get(part["type"], part["type"])}
