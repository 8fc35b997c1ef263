"""Planted bugs: the real server with one fault added between its application and the client.

python -m contract_tests.planted BUG [flags of serve]
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from specserve.handlers.app import create_app
from specserve.handlers.chat.answer_formats import FormatChoice
from specserve.handlers.chat.prompts import Prompts
from specserve.handlers.command_line import read_settings
from specserve.handlers.lifecycle import Lifecycle
from specserve.handlers.openai.responses.store import ResponseStore
from specserve.handlers.serve import bind
from specserve.handlers.settings import ServerSettings
from specserve.handlers.supervisor import Supervisor

Change = Callable[[int, bytes], tuple[int, bytes]]


@dataclass(frozen=True)
class Bug:
    """`change` rewrites status and one body part of an answer; `request` may spoil the request's body before.

    `model` is the one of `tiny_models` that answers on the path, if the demo model does not.
    """

    name: str
    path: str
    symptom: str
    change: Change = lambda status, body: (status, body)
    request: Callable[[Any], int | None] = lambda body: None
    passes: tuple[str, ...] = ("as drawn", "streaming")
    model: str = ""


def drop_created(status: int, body: bytes) -> tuple[int, bytes]:
    return status, re.sub(rb'"created":\s*\d+,\s*', b"", body)


def drop_end_mark(status: int, body: bytes) -> tuple[int, bytes]:
    return status, body.replace(b"data: [DONE]\n\n", b"")


def undocumented_code(status: int, body: bytes) -> tuple[int, bytes]:
    return status, re.sub(rb'"code":\s*"(unsupported|invalid_parameter|context)\w+"', b'"code":"because"', body)


def wrong_enum(status: int, body: bytes) -> tuple[int, bytes]:
    return status, re.sub(rb'"finish_reason":\s*"\w+"', b'"finish_reason":"done"', body)


def drop_usage(status: int, body: bytes) -> tuple[int, bytes]:
    return status, re.sub(rb',"usage":\{"(?:[^{}]|\{[^{}]*\})*\}', b"", body)


FINISHING = re.compile(rb'"finish_reason":\s*"\w+"')


def is_finishing(body: bytes) -> bool:
    return body.startswith(b"data: {") and FINISHING.search(body) is not None


def drop_finishing_chunk(status: int, body: bytes) -> tuple[int, bytes]:
    return status, b"" if is_finishing(body) else body


def send_usage_twice(status: int, body: bytes) -> tuple[int, bytes]:
    return status, body * 2 if body.startswith(b"data: {") and b'"choices":[],' in body else body


def go_on_after_the_finish(status: int, body: bytes) -> tuple[int, bytes]:
    return status, body + FINISHING.sub(b'"finish_reason":null', body) if is_finishing(body) else body


def break_off_without_end_mark(status: int, body: bytes) -> tuple[int, bytes]:
    error = b'data: {"error":{"message":"It broke.","type":"server_error","param":null,"code":"engine_dead"}}\n\n'
    return status, error if is_finishing(body) else drop_end_mark(status, body)[1]


def crash_on_nested_tokens(body: Any) -> int | None:
    prompt = body.get("prompt") if isinstance(body, dict) else None
    nested = isinstance(prompt, list) and bool(prompt) and isinstance(prompt[0], list)
    return 500 if nested else None


def ignore_temperature_range(body: Any) -> int | None:
    if isinstance(body, dict) and isinstance(body.get("temperature"), (int, float)):
        body["temperature"] = min(max(body["temperature"], 0), 2)
    return None


def lose_an_event(status: int, body: bytes) -> tuple[int, bytes]:
    return status, re.sub(rb"event: response\.content_part\.added\n.*\n\n", b"", body)


def mix_up_items(status: int, body: bytes) -> tuple[int, bytes]:
    return status, re.sub(rb'("type":"response\.output_text\.delta".*?"item_id":")\w+', rb"\1msg_other", body)


BUGS = {
    bug.name: bug
    for bug in (
        Bug("chunk without a required field", "/v1/chat/completions", "created", change=drop_created),
        Bug("no end mark", "/v1/chat/completions", "0 end marks", change=drop_end_mark, passes=("streaming",)),
        Bug("no finishing chunk", "/v1/chat/completions", "finish: ", drop_finishing_chunk, passes=("streaming",)),
        Bug("usage twice", "/v1/completions", "usage: ", send_usage_twice, passes=("streaming",)),
        Bug("content after the finish", "/v1/completions", "finish: ", go_on_after_the_finish, passes=("streaming",)),
        Bug(
            "error without end mark",
            "/v1/chat/completions",
            "0 end marks",
            break_off_without_end_mark,
            passes=("streaming",),
        ),
        Bug("a lost event", "/v1/responses", "numbers: ", lose_an_event, passes=("streaming",)),
        Bug("a delta of another item", "/v1/responses", "another item", mix_up_items, passes=("streaming",)),
        Bug("undocumented refusal", "/v1/chat/completions", "catalogue", change=undocumented_code),
        Bug("wrong enum in a response", "/v1/completions", "done", change=wrong_enum),
        Bug("crash on nested token prompts", "/v1/completions", "500", request=crash_on_nested_tokens),
        Bug(
            "vectors without usage",
            "/v1/embeddings",
            "usage",
            change=drop_usage,
            passes=("as drawn",),
            model="embedder",
        ),
        Bug("range not enforced", "/v1/completions", "temperature", request=ignore_temperature_range),
    )
}


class WithBug:
    """ASGI wrapper that plants the bug."""

    def __init__(self, app: ASGIApp, bug: Bug) -> None:
        self.app, self.bug = app, bug

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != self.bug.path:
            await self.app(scope, receive, send)
            return
        raw, more = b"", True
        while more:
            message = await receive()
            raw, more = raw + message.get("body", b""), message.get("more_body", False)
        forced: int | None = None
        try:
            body = json.loads(raw)
            forced = self.bug.request(body)
            raw = json.dumps(body).encode()
        except ValueError:
            pass
        if forced is not None:
            await send({"type": "http.response.start", "status": forced, "headers": []})
            await send({"type": "http.response.body", "body": b"boom"})
            return
        scope = scope | {"headers": [(k, v) for k, v in scope["headers"] if k != b"content-length"]}
        scope["headers"].append((b"content-length", str(len(raw)).encode()))
        sent = False

        async def spoiled_receive() -> Message:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": raw, "more_body": False}

        start: Message = {}

        async def spoiled_send(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                kept = [(k, v) for k, v in message["headers"] if k.lower() != b"content-length"]
                start = message | {"headers": kept}
                return
            status, part = self.bug.change(start["status"], message.get("body", b""))
            if start["type"]:
                await send(start | {"status": status})
                start["type"] = ""
            await send(message | {"body": part})

        await self.app(scope, spoiled_receive, spoiled_send)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bug", choices=BUGS)
    arguments, flags = parser.parse_known_args()
    settings = read_settings(flags)

    def create(
        lifecycle: Lifecycle,
        settings: ServerSettings,
        prompts: Prompts,
        formats: FormatChoice,
        store: ResponseStore,
    ) -> ASGIApp:
        return WithBug(create_app(lifecycle, settings, prompts, formats, store), BUGS[arguments.bug])

    return Supervisor(settings, bind(settings)[0], create).run()


if __name__ == "__main__":
    sys.exit(main())
