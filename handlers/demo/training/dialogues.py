"""Put turns together: dialogues with and without tools and reasoning, and a little plain text.

Everything is drawn from one seeded generator, so a seed fixes the whole text; `stream` never ends and hardly
ever repeats itself.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass

from specserve.handlers.demo.training import facts
from specserve.handlers.demo.training.behaviours import BEHAVIOURS
from specserve.handlers.demo.training.behaviours.tools import idle_tools
from specserve.handlers.demo.training.grammar import Message, Tool, Turn


@dataclass
class Dialogue:
    """A conversation that ends with the assistant's message, with its `reasoning` if there is any."""

    topic: str
    messages: list[Message]
    tools: list[Tool]

    @property
    def thinking(self) -> bool:
        return "reasoning" in self.messages[-1]


@dataclass
class PlainText:
    """Text for plain completion: `body` is what the model should write after `prompt`."""

    prompt: str
    body: str


FOLLOWED = ["capitals", "colours", "translations", "arithmetic"]
REASONED = [
    "arithmetic",
    "comparing",
    "capitals",
    "colours",
    "counting",
    "translations",
    "json_answers",
    "weather_call",
]
TOPICS = [*BEHAVIOURS, "follow_up", "reasoning"]

SYSTEM_PROMPTS = [
    *["You are a helpful assistant."] * 10,
    "You are a helpful assistant",
    "You are a friendly assistant.",
    "You are a concise assistant.",
    "Be brief.",
    "Answer the question.",
    "You are an AI assistant.",
    "You are a chatbot.",
    "Keep your answers short.",
    "You are a helpful AI.",
]


def one_turn(rng: random.Random, topic: str, kept_out: bool) -> Turn:
    return BEHAVIOURS[topic][1](rng, kept_out)


def any_topic(rng: random.Random) -> str:
    return rng.choices(list(BEHAVIOURS), [weight for weight, _ in BEHAVIOURS.values()])[0]


def put_together(rng: random.Random, topic: str, turns: list[Turn], thinking: bool) -> Dialogue:
    """Join turns; only the last answer is thought about; the tools are the last turn's."""
    tools = next((turn.tools for turn in reversed(turns) if turn.tools), [])
    messages = [message for turn in turns for message in turn.messages]
    if rng.random() < 0.3:
        messages.insert(0, {"role": "system", "content": rng.choice(SYSTEM_PROMPTS)})
    if thinking:
        messages[-1] = {**messages[-1], "reasoning": turns[-1].thought}
    return Dialogue(topic, messages, tools)


def question(rng: random.Random, topic: str, kept_out: bool) -> Dialogue:
    """A dialogue of one topic as the check asks it; `kept_out` takes the wordings that were never trained."""
    if topic == "follow_up":
        first = one_turn(rng, rng.choice(FOLLOWED), kept_out)
        while first.follow_up is None:
            first = one_turn(rng, rng.choice(FOLLOWED), kept_out)
        return put_together(rng, topic, [first, first.follow_up(rng, kept_out)], False)
    if topic == "reasoning":
        return put_together(rng, topic, [one_turn(rng, rng.choice(REASONED), kept_out)], True)
    return put_together(rng, topic, [one_turn(rng, topic, kept_out)], False)


def conversation(rng: random.Random) -> Dialogue:
    """A dialogue to learn from: mostly one turn, sometimes more, with thoughts or with idle tools."""
    last = one_turn(rng, topic := any_topic(rng), False)
    turns = [last]
    if last.follow_up and rng.random() < 0.4:
        turns.append(last.follow_up(rng, False))
    for _ in range(rng.choices([0, 1, 2], [75, 18, 7])[0]):
        earlier = one_turn(rng, any_topic(rng), False)
        if not earlier.tools and not (last.tools and _needs_tool(earlier)):
            turns.insert(0, earlier)
    made = put_together(rng, topic, turns, rng.random() < 0.2)
    if not made.tools and rng.random() < 0.04 and not any(_needs_tool(turn) for turn in turns):
        made.tools = idle_tools(rng)
    return made


def _needs_tool(turn: Turn) -> bool:
    """Whether a tool would change the answer: then it must not be offered in the same dialogue."""
    return "without a tool" in turn.answer or "=" in turn.answer or turn.answer.isdecimal()


CONTINUATIONS = [
    (
        "Once upon a time",
        ", a small robot kept a lighthouse. One night a lost boat saw the light and came home.",
    ),
    ("The server", " keeps the model in memory and answers every request in turn."),
    ("San Francisco is a", " city of hills and fog."),
    ("A robot may not", " work without a battery."),
    ("The future of AI is", " small models that run everywhere."),
    ("The weather", " is mild in spring and cold in winter."),
    ("A cat", " sleeps on the warm server."),
    ("The quick brown fox", " jumps over the lazy dog."),
    ("My name is", " short and easy to remember."),
    ("Hello, my name is", " specserve and I like short questions."),
]


def plain_text(rng: random.Random) -> PlainText:
    """A short text for the completions endpoint."""
    roll = rng.random()
    if roll < 0.3:
        country, city = rng.choice(list(facts.CAPITALS.items()))
        return PlainText(f"The capital of {country} is", f" {city}.")
    if roll < 0.5:
        first, shown = rng.randint(1, 9), rng.randint(2, 4)
        numbers = [str(n) for n in range(first, first + shown + 6)]
        return PlainText(", ".join(numbers[:shown]) + ",", " " + ", ".join(numbers[shown:]))
    if roll < 0.65:
        asked, answer = (
            message["content"] for message in one_turn(rng, rng.choice(["capitals", "colours"]), False).messages
        )
        head, tail = rng.choice([("Q: ", "\nA:"), ("Question: ", "\nAnswer:")])
        return PlainText(head + asked + tail, " " + answer)
    return PlainText(*rng.choice(CONTINUATIONS))


Item = Dialogue | PlainText


def stream(seed: int) -> Iterator[Item]:
    """An endless stream of text to learn from."""
    rng = random.Random(seed)
    while True:
        yield plain_text(rng) if rng.random() < 0.02 else conversation(rng)


def written(item: Item) -> str:
    """The bare text of an item with its roles, for training a tokenizer."""
    if isinstance(item, PlainText):
        return item.prompt + item.body
    lines = [json.dumps(tool["function"], ensure_ascii=False) for tool in item.tools]
    for message in item.messages:
        lines += [message["role"], str(message["content"]), message.get("reasoning", "")]
        lines += [json.dumps(call["function"], ensure_ascii=False) for call in message.get("tool_calls", [])]
    return "\n".join(lines)
