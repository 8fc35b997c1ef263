"""Turns and their blocks to the neutral conversation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from specserve.generated import schemas
from specserve.generated.base import ApiModel
from specserve.generated.errors import InvalidPrompt, UnsupportedValue
from specserve.handlers.chat.conversation import Conversation, Message, Tool

BILLING_MARK = "x-anthropic-billing-header:"
"""How a system block begins that an agent writes for Anthropic's accountants. It differs in every request, so that no
prefix of such a prompt would ever be found in the cache; models are not meant to read it."""


@dataclass(slots=True)
class Turn:
    """What one side said without a break: each of its blocks with its place in the request."""

    role: str
    blocks: list[tuple[str, ApiModel]] = field(default_factory=list)


def to_conversation(body: schemas.MessagesPrompt, tools: Sequence[Tool], variables: dict[str, Any]) -> Conversation:
    """Raises UnsupportedValue naming the place of a block that the model cannot read, InvalidPrompt for an end that
    leaves nothing to answer."""
    messages = system_messages(body.system)
    names: dict[str, str] = {}
    turns = list(joined_turns(body.messages))
    if turns[-1].role == "assistant" and not any(is_something(block) for _, block in turns[-1].blocks):
        turns.pop()  # an answer that goes on in nothing begins anew
    for turn in turns:
        messages += to_messages(turn, names)
    goes_on = bool(turns) and turns[-1].role == "assistant"
    if goes_on:
        check_open_end(messages[-1], where=f"messages.{len(body.messages) - 1}")
    if not messages:
        raise InvalidPrompt("the messages say nothing; send at least one with text", param="messages")
    return Conversation(
        messages=messages,
        tools=list(tools),
        template_kwargs=variables,
        add_generation_prompt=not goes_on,
        continue_final_message=goes_on,
    )


def system_messages(system: str | Sequence[schemas.TextBlock] | None) -> list[Message]:
    texts = [system] if isinstance(system, str) else [block.text for block in system or []]
    text = "\n".join(text for text in texts if not text.startswith(BILLING_MARK))
    return [{"role": "system", "content": text}] if text else []


def joined_turns(turns: Sequence[schemas.MessageTurn]) -> Iterator[Turn]:
    """Turns of one role that follow each other are one: templates insist that roles alternate."""
    current: Turn | None = None
    for at, turn in enumerate(turns):
        if current is None or current.role != turn.role:
            if current is not None:
                yield current
            current = Turn(turn.role)
        where = f"messages.{at}.content"
        if isinstance(turn.content, str):
            current.blocks.append((where, schemas.TextBlock(type="text", text=turn.content)))
        else:
            current.blocks += [(f"{where}.{place}", block) for place, block in enumerate(turn.content)]
    if current is not None:
        yield current


def is_something(block: ApiModel) -> bool:
    return not (isinstance(block, schemas.TextBlock) and not block.text)


def check_open_end(last: Message, *, where: str) -> None:
    """Raises InvalidPrompt unless the answer can go on in the last message."""
    if last.get("tool_calls"):
        raise InvalidPrompt(
            f"{where} calls tools, and nothing follows; send their tool_result blocks in a user message",
            param=where,
        )
    if not last["content"]:
        raise InvalidPrompt(
            f"{where} is an assistant's without text in which the answer could go on; end with a user message",
            param=where,
        )


def to_messages(turn: Turn, names: dict[str, str]) -> list[Message]:
    """The messages of a turn; `names` are those of the tools called so far, by the ids of the calls."""
    if turn.role == "assistant":
        return [assistant_message(turn, names)]
    found: list[Message] = []
    texts: list[str] = []
    for where, block in turn.blocks:
        if isinstance(block, schemas.ToolResultBlock):
            result: Message = {"role": "tool", "tool_call_id": block.tool_use_id, "content": result_text(block, where)}
            if block.tool_use_id in names:
                result["name"] = names[block.tool_use_id]
            found.append(result)
        else:
            texts.append(text_of_block(block, where))
    # Results first, whatever the order of the blocks: they belong to the calls before this turn.
    if texts or not found:
        content: Any = texts[0] if len(texts) == 1 else [{"type": "text", "text": text} for text in texts]
        found.append({"role": turn.role, "content": content or ""})
    return found


def assistant_message(turn: Turn, names: dict[str, str]) -> Message:
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[dict[str, Any]] = []
    for where, block in turn.blocks:
        if isinstance(block, schemas.ThinkingBlock):
            thoughts.append(block.thinking)
        elif isinstance(block, schemas.RedactedThinkingBlock):
            continue
        elif isinstance(block, schemas.ToolUseBlock):
            names[block.id] = block.name
            function = {"name": block.name, "arguments": block.input}
            calls.append({"id": block.id, "type": "function", "function": function})
        else:
            texts.append(text_of_block(block, where))
    message: Message = {"role": "assistant", "content": "\n".join(text for text in texts if text) or None}
    if any(thoughts):  # templates read one of the two names
        message |= dict.fromkeys(("reasoning", "reasoning_content"), "\n".join(thoughts))
    if calls:
        message["tool_calls"] = calls
    elif message["content"] is None:
        message["content"] = ""
    return message


def result_text(block: schemas.ToolResultBlock, where: str) -> str:
    """What a tool said. That a call failed is said in front of it: templates have no other place."""
    if isinstance(block.content, list):
        parts = [text_of_block(part, f"{where}.content.{at}") for at, part in enumerate(block.content)]
        text = "\n".join(parts)
    else:
        text = block.content or ""
    return f"Error: {text}" if block.is_error else text


def text_of_block(block: ApiModel, where: str) -> str:
    """Raises UnsupportedValue naming the place of a block without text."""
    match block:
        case schemas.TextBlock():
            return block.text
        case schemas.SearchResultBlock():
            return "\n".join([f"{block.title} ({block.source})", *(part.text for part in block.content)])
        case schemas.DocumentBlock():
            about = [part for part in (block.title, block.context) if part]
            return "\n".join([*about, source_text(block.source, f"{where}.source")])
        case schemas.ToolReferenceBlock():
            return block.tool_name
    kind = getattr(block, "type", type(block).__name__)
    raise UnsupportedValue(f"{where} is a block of type {kind}, {why_unread(block)}", param=where)


def why_unread(block: ApiModel) -> str:
    if isinstance(block, schemas.ImageBlock):
        return "but this model reads text only; describe the image, or leave it out"
    if isinstance(block, schemas.ServerBlock):
        return "which tells of work on other servers; send what matters of it as text"
    return "which does not belong into a turn of this role"


def source_text(source: ApiModel, where: str) -> str:
    if isinstance(source, schemas.PlainTextSource):
        return source.data
    if isinstance(source, schemas.BlockSource):
        if isinstance(source.content, str):
            return source.content
        parts = [text_of_block(part, f"{where}.content.{at}") for at, part in enumerate(source.content)]
        return "\n".join(parts)
    kind = getattr(source, "type", type(source).__name__)
    raise UnsupportedValue(
        f"{where} is a document of type {kind}, but this model reads text only; send a source of type text", param=where
    )
