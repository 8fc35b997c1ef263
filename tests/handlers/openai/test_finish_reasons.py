"""Why an answer ended: cause × route × streamed or whole × n, over the engine's own scheduling and text work."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import pytest
from core_engine import CoreEngine
from fake_engine import TOKENIZER, FakeEngine, app_over, client_of

from specserve.engine.api import FinishReason, GenerationOutput, GenerationRequest
from specserve.engine.errors import EngineDeadError
from specserve.handlers.limits import Limits

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "hello"}]},
    COMPLETIONS: {"prompt": "hello", "max_tokens": 100},
}
END = TOKENIZER.eos_token_ids[0]
PARIS, MORE = "The capital of France is Paris.", " It is so."


def ids(text: str) -> list[int]:
    return TOKENIZER.encode(text, add_special_tokens=False)


SCRIPT = [*ids(PARIS), END, *ids(MORE), END]
NUM_PARIS = len(ids(PARIS))
OF, PERIOD = ids(" of")[0], ids(".")[0]


@dataclass(frozen=True)
class Cause:
    """`text`, `reason` and `stop_reason` of every choice of a request with `fields`.

    `room` is the number of tokens that the model's context leaves for the answer; `says` is another answer than the
    script's; `arguments` are those of the tools it calls.
    """

    name: str
    fields: dict[str, Any]
    text: str
    reason: str
    stop_reason: str | int | None = None
    room: int | None = None
    paths: tuple[str, ...] = (CHAT, COMPLETIONS)
    num_tokens: int | None = None
    says: str | None = None
    arguments: tuple[str, ...] = ()


CAUSES = [
    Cause("end token", {}, PARIS, "stop", num_tokens=NUM_PARIS + 1),
    Cause("end token as the last that is allowed", {"max_tokens": NUM_PARIS + 1}, PARIS, "stop"),
    Cause("end token that is a stop token too", {"stop_token_ids": [END]}, PARIS, "stop"),
    Cause("stop token", {"stop_token_ids": [OF]}, "The capital", "stop", OF),
    Cause(
        "stop token kept", {"stop_token_ids": [OF], "include_stop_str_in_output": True}, "The capital of", "stop", OF
    ),
    Cause("stop token at the limit", {"stop_token_ids": [OF], "max_tokens": 3}, "The capital", "stop", OF),
    Cause("stop string", {"stop": "France"}, "The capital of ", "stop", "France"),
    Cause("stop string at the end of the text", {"stop": ["zzz", "."]}, PARIS[:-1], "stop", "."),
    Cause("stop string over tokens", {"stop": "al of Fr"}, "The capit", "stop", "al of Fr"),
    Cause("stop string that comes first", {"stop": ["Paris", "of"]}, "The capital ", "stop", "of"),
    Cause("stop string within another", {"stop": ["capital of France", "pital"]}, "The ca", "stop", "pital"),
    Cause("stop string that never comes", {"stop": ["never", "Paris!"]}, PARIS, "stop"),
    Cause(
        "stop string kept",
        {"stop": "al of Fr", "include_stop_str_in_output": True},
        "The capital of Fr",
        "stop",
        "al of Fr",
    ),
    Cause("stop string at the limit", {"stop": "of", "max_tokens": 3}, "The capital ", "stop", "of"),
    Cause("stop string half done at the limit", {"stop": "of France", "max_tokens": 3}, "The capital of", "length"),
    Cause("max_tokens", {"max_tokens": 3}, "The capital of", "length", num_tokens=3),
    Cause("max_tokens 1", {"max_tokens": 1}, "The", "length", num_tokens=1),
    Cause("max_completion_tokens", {"max_completion_tokens": 3}, "The capital of", "length", paths=(CHAT,)),
    Cause("full text at the limit", {"max_tokens": NUM_PARIS}, PARIS, "length", num_tokens=NUM_PARIS),
    Cause("context full", {"max_tokens": None}, "The capital of France", "length", room=4, num_tokens=4),
    Cause("context full before the limit", {"max_tokens": 50}, "The capital of France", "length", room=4),
    Cause("room for one token", {"max_tokens": 50}, "The", "length", room=1),
    Cause("min_tokens over a stop string", {"stop": "The", "min_tokens": 2}, PARIS, "stop"),
    Cause("min_tokens over a stop token", {"stop_token_ids": [OF], "min_tokens": 3}, PARIS.replace(" of", ""), "stop"),
    Cause("min_tokens over the end token", {"min_tokens": NUM_PARIS + 1}, PARIS + MORE, "stop"),
    Cause("min_tokens that are the limit", {"min_tokens": 3, "max_tokens": 3}, "The capital of", "length"),
    Cause("ignore_eos", {"ignore_eos": True, "max_tokens": NUM_PARIS + 3}, PARIS + " It is", "length"),
    Cause("ignore_eos with a stop string", {"ignore_eos": True, "stop": " so"}, PARIS + " It is", "stop", " so"),
    Cause(
        "ignore_eos with the end token as a stop token",
        {"ignore_eos": True, "stop_token_ids": [END]},
        PARIS,
        "stop",
        END,
    ),
    Cause("prompt only", {"max_tokens": 0, "echo": True}, "hello", "length", paths=(COMPLETIONS,), num_tokens=0),
    Cause("prompt and answer", {"max_tokens": 2, "echo": True}, "helloThe capital", "length", paths=(COMPLETIONS,)),
]


TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
TOOLS: dict[str, Any] = {"tools": [TOOL], "max_tokens": None}
ROME = '{"city": "Rome"}'
CALL = f'<tool_call>\n{{"name": "get_weather", "arguments": {ROME}}}\n</tool_call>'
NUM_TO_ROME = len(ids(CALL[: CALL.index("Rome")]))


def calling(name: str, says: str, text: str, reason: str, *arguments: str, **fields: Any) -> Cause:
    stop = fields.get("stop")
    return Cause(name, TOOLS | fields, text, reason, stop, paths=(CHAT,), says=says, arguments=arguments)


CAUSES += [
    calling("tool call", CALL, "", "tool_calls", ROME),
    calling("two tool calls", f"{CALL}\n{CALL}", "", "tool_calls", ROME, ROME),
    calling("only one tool call", f"{CALL}\n{CALL}", "", "tool_calls", ROME, parallel_tool_calls=False),
    calling("text before a tool call", f"Wait. {CALL}", "Wait.", "tool_calls", ROME),
    calling("tool call before a stop string", f"{CALL} Done.", "", "tool_calls", ROME, stop="Done"),
    calling("end of a tool call as the stop string", f"{CALL} Done.", "", "tool_calls", ROME, stop="</tool_call>"),
    calling("tool call cut by max_tokens", CALL, "", "length", '{"city": "', max_tokens=NUM_TO_ROME),
    calling("tool call cut by a stop string", CALL, "", "stop", '{"city": "', stop="Rome"),
    calling("no tool call", "It rains.", "It rains.", "stop"),
    calling("tool call that is not asked for", CALL, CALL, "stop", tool_choice="none"),
]


def num_prompt_tokens(path: str) -> int:
    return 1 if path == COMPLETIONS else 9


def put_together(chunks: list[dict[str, Any]], n: int) -> list[dict[str, Any]]:
    """The choices of a stream as a client adds them up; the stream linter has seen to their order."""
    found: list[dict[str, Any]] = [{"text": "", "arguments": []} for _ in range(n)]
    for piece in (piece for chunk in chunks for piece in chunk["choices"]):
        choice = found[piece["index"]]
        choice["text"] += piece["text"] if "text" in piece else piece["delta"].get("content") or ""
        for call in piece.get("delta", {}).get("tool_calls", []):
            if call["index"] == len(choice["arguments"]):
                choice["arguments"].append("")
            choice["arguments"][call["index"]] += call["function"].get("arguments") or ""
        if piece["finish_reason"] is not None:
            choice |= {"finish_reason": piece["finish_reason"], "stop_reason": piece.get("stop_reason")}
    return found


async def outcome(path: str, cause: Cause, n: int, stream: bool) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The choices and the usage."""
    room = {} if cause.room is None else {"max_model_len": num_prompt_tokens(path) + cause.room}
    body = BODIES[path] | cause.fields | {"n": n, "stream": stream}
    if stream:
        body |= {"stream_options": {"include_usage": True}}
    script = SCRIPT if cause.says is None else [*ids(cause.says), END]
    async with client_of(app_over(CoreEngine(script, **room))) as client:  # type: ignore[arg-type]
        reply = await client.post(path, json=body)
    assert reply.status_code == 200, reply.text
    if stream:
        chunks = [json.loads(frame[6:]) for frame in reply.text.split("\n\n") if frame.startswith("data: {")]
        return put_together(chunks, n), chunks[-1]["usage"]
    whole = reply.json()
    choices = [
        {
            "text": choice["message"]["content"] or "" if path == CHAT else choice["text"],
            "arguments": [call["function"]["arguments"] for call in choice.get("message", {}).get("tool_calls") or []],
            "finish_reason": choice["finish_reason"],
            "stop_reason": choice.get("stop_reason"),
        }
        for choice in whole["choices"]
    ]
    return choices, whole["usage"]


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize(
    ("path", "cause"),
    [pytest.param(path, cause, id=f"{path[4:8]}: {cause.name}") for cause in CAUSES for path in cause.paths],
)
async def test_every_cause_has_its_reason_streamed_and_whole(path: str, cause: Cause, n: int) -> None:
    whole, usage = await outcome(path, cause, n, stream=False)
    streamed, streamed_usage = await outcome(path, cause, n, stream=True)
    expected = {
        "text": cause.text,
        "arguments": list(cause.arguments),
        "finish_reason": cause.reason,
        "stop_reason": cause.stop_reason,
    }
    assert whole == [expected] * n
    assert streamed == whole
    assert streamed_usage == usage
    if cause.num_tokens is not None:
        assert usage["completion_tokens"] == n * cause.num_tokens


class GivesUp(FakeEngine):
    """Ends its requests by itself after two tokens, as if they had been aborted."""

    async def _outputs(self, request: GenerationRequest) -> AsyncGenerator[GenerationOutput, None]:
        num_said = 0
        async for output in super()._outputs(request):
            if num_said == 2:
                yield GenerationOutput(
                    request_id=output.request_id,
                    index=output.index,
                    text="",
                    token_ids=(),
                    finish_reason=FinishReason.ABORT,
                )
                return
            num_said += 1
            yield output


BREAKS: dict[str, dict[str, Any]] = {
    "death before the first token": {"engine": {"dies_after": 0}},
    "death after the first token": {"engine": {"dies_after": 1}},
    "death before the last token": {"engine": {"dies_after": NUM_PARIS}},
    "abort": {"kind": GivesUp},
    "overload that is noticed late": {"engine": {"refusal": EngineDeadError("gone")}},
    "death after silence": {
        "engine": {"dies_after": 0, "pause_s": 0.03},
        "limits": Limits(keep_alive_s=0.01),
    },
}


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("name", BREAKS)
async def test_an_answer_that_breaks_has_one_terminal_record(name: str, path: str, n: int) -> None:
    """Before the header a status, after it one error event and the end mark; never a finish reason."""
    options = BREAKS[name]

    def engine() -> FakeEngine:
        made: FakeEngine = options.get("kind", FakeEngine)(**options.get("engine", {}))
        return made

    async with client_of(app_over(engine(), limits=options.get("limits"))) as client:
        whole = await client.post(path, json=BODIES[path] | {"n": n})
    async with client_of(app_over(engine(), limits=options.get("limits"))) as client:
        streamed = await client.post(path, json=BODIES[path] | {"n": n, "stream": True})
    assert (whole.status_code, whole.json()["error"]["code"]) == (503, "engine_dead")
    if streamed.status_code != 200:
        assert streamed.json()["error"]["code"] == "engine_dead"
        return
    assert name not in ("death before the first token", "overload that is noticed late")
    events = [frame[6:] for frame in streamed.text.split("\n\n") if frame.startswith("data: ")]
    assert json.loads(events[-2])["error"] == whole.json()["error"]
    assert events[-1] == "[DONE]"
    assert '"finish_reason":"' not in streamed.text
