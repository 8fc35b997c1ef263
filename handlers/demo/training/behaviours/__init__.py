"""The behaviours of the demo model and how often each is trained."""

from __future__ import annotations

from specserve.handlers.demo.training.behaviours import chat, knowledge, numbers, server, text, tools
from specserve.handlers.demo.training.grammar import Behaviour

# name: (weight in the mixture, behaviour)
BEHAVIOURS: dict[str, tuple[float, Behaviour]] = {
    "greetings": (1.5, chat.greetings),
    "server": (2.5, server.server),
    "capitals": (2.5, knowledge.capitals),
    "colours": (1.5, knowledge.colours),
    "translations": (2.5, knowledge.translations),
    "emoji": (1.0, knowledge.emoji),
    "cjk": (1.5, knowledge.cjk),
    "arithmetic": (4.0, numbers.arithmetic),
    "counting": (2.0, numbers.counting),
    "comparing": (1.5, numbers.comparing),
    "repeating": (5.0, text.repeating),
    "spelling": (3.5, text.spelling),
    "json_answers": (2.5, text.json_answers),
    "labels": (1.0, text.labels),
    "weather_call": (2.5, tools.weather_call),
    "parallel_calls": (1.5, tools.parallel_calls),
    "other_calls": (1.8, tools.other_calls),
    "tool_results": (2.0, tools.tool_results),
    "no_tool": (0.7, tools.no_tool),
    "unknown": (1.5, chat.unknown),
    "memory": (1.8, chat.memory),
}
