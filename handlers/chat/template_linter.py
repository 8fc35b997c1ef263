"""What of a conversation a model will not see: renders small conversations and looks for what they say.

A template that drops tools or refuses a system role is no error, but whoever wonders why the model ignores
its instructions should not have to read Jinja.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from specserve.generated.errors import InvalidPrompt
from specserve.handlers.chat.conversation import Conversation, Message, Tool

SYSTEM, QUESTION, ANSWER, SECOND = "lint-system", "lint-question", "lint-answer", "lint-second"
NAME, ARGUMENT, RESULT, THOUGHT, DOCUMENT = "lint_tool", "lint-argument", "lint-result", "lint-thought", "lint-document"
ASK: Message = {"role": "user", "content": QUESTION}
TOOL: Tool = {
    "type": "function",
    "function": {
        "name": NAME,
        "description": "Looks something up.",
        "parameters": {"type": "object", "properties": {"key": {"type": "string"}}, "required": ["key"]},
    },
}
CALL: Message = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"id": "lintcall1", "type": "function", "function": {"name": NAME, "arguments": {"key": ARGUMENT}}}],
}


def turns(*messages: Message) -> Conversation:
    return Conversation(messages=list(messages))


@dataclass(frozen=True, slots=True)
class Probe:
    """A conversation and what its prompt must show; `plural` is what a template is said to drop, `one` to refuse."""

    what: str
    conversation: Conversation
    shows: Sequence[str]
    is_minor: bool = False
    """Most templates know nothing of it: told on request, not at start."""


PROBES = (
    Probe("user messages", turns(ASK), [QUESTION]),
    Probe("system messages", turns({"role": "system", "content": SYSTEM}, ASK), [SYSTEM, QUESTION]),
    Probe("developer messages", turns({"role": "developer", "content": SYSTEM}, ASK), [SYSTEM, QUESTION]),
    Probe(
        "earlier turns",
        turns(ASK, {"role": "assistant", "content": ANSWER}, {"role": "user", "content": SECOND}),
        [QUESTION, ANSWER, SECOND],
    ),
    Probe("two user messages in a row", turns(ASK, {"role": "user", "content": SECOND}), [QUESTION, SECOND], True),
    Probe(
        "content parts",
        turns({"role": "user", "content": [{"type": "text", "text": QUESTION}, {"type": "text", "text": SECOND}]}),
        [QUESTION, SECOND],
    ),
    Probe("tools", Conversation(messages=[ASK], tools=[TOOL]), [NAME, QUESTION]),
    Probe("tool calls", Conversation(messages=[ASK, CALL, ASK], tools=[TOOL]), [ARGUMENT], True),
    Probe(
        "tool results",
        Conversation(
            messages=[ASK, CALL, {"role": "tool", "tool_call_id": "lintcall1", "name": NAME, "content": RESULT}],
            tools=[TOOL],
        ),
        [ARGUMENT, RESULT],
    ),
    Probe(
        "continued messages",
        Conversation(
            messages=[ASK, {"role": "assistant", "content": ANSWER}],
            add_generation_prompt=False,
            continue_final_message=True,
        ),
        [ANSWER],
    ),
    Probe(
        "earlier reasoning",
        turns(ASK, {"role": "assistant", "content": ANSWER, "reasoning": THOUGHT, "reasoning_content": THOUGHT}, ASK),
        [THOUGHT],
        True,
    ),
    Probe(
        "documents",
        Conversation(messages=[ASK], documents=[{"title": "t", "text": DOCUMENT}]),
        [DOCUMENT],
        True,
    ),
)


@dataclass(frozen=True, slots=True)
class Findings:
    """What the template does with which kinds of messages. The minor ones are in the lists, but not in `line`."""

    drops: list[str] = field(default_factory=list)
    refuses: list[str] = field(default_factory=list)
    minor: frozenset[str] = frozenset()

    @property
    def line(self) -> str | None:
        """`drops tools; refuses system messages`, or None when there is nothing to tell."""
        told = (("drops", self.drops), ("refuses", self.refuses))
        parts = [
            f"{verb} {listed(major)}"
            for verb, found in told
            if (major := [what for what in found if what not in self.minor])
        ]
        return "; ".join(parts) or None


def listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def lint(render: Callable[[Conversation], str]) -> Findings:
    """Renders every probe, which takes milliseconds. `render` raises InvalidPrompt as a template does."""
    found = Findings(minor=frozenset(probe.what for probe in PROBES if probe.is_minor))
    for probe in PROBES:
        try:
            text = render(probe.conversation)
        except InvalidPrompt:
            found.refuses.append(probe.what)
            continue
        if not all(words in text for words in probe.shows):
            found.drops.append(probe.what)
    return found
