"""The chat request whose cost is measured: ten messages and three tools, about 4 kB, never the same text twice."""

from __future__ import annotations

import json
import random
from typing import Any

WORDS = (
    "the a one that this please weather travel weekend flight hotel beach walk train morning evening cheap quiet "
    "would like find book tell compare around before after between daughter museum harbour ticket price minutes "
    "Lisbon Hamburg Thursday Sunday sunny rainy degrees forecast airport children breakfast with without near"
).split()
ROLES = ("system", "user", "assistant", "user", "call", "tool", "assistant", "user", "call", "tool")
SIZES = {"system": 45, "user": 28, "assistant": 36, "tool": 12}
"""Words of a message."""


def words(rng: random.Random, count: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(count)) + "."


def tool(rng: random.Random, name: str, **properties: Any) -> dict[str, Any]:
    described = {key: {"type": kind, "description": words(rng, 8)} for key, kind in properties.items()}
    parameters = {"type": "object", "properties": described, "required": list(properties)[:1]}
    return {
        "type": "function",
        "function": {"name": name, "description": words(rng, 10), "parameters": parameters},
    }


def tools(rng: random.Random) -> list[dict[str, Any]]:
    return [
        tool(rng, "get_weather", place="string", days="integer", unit="string"),
        tool(rng, "search_flights", origin="string", destination="string", date="string", num_adults="integer"),
        tool(rng, "book_room", hotel="string", nights="integer", breakfast="boolean"),
    ]


def message(rng: random.Random, role: str, number: int) -> dict[str, Any]:
    match role:
        case "call":
            arguments = json.dumps({"place": words(rng, 2), "days": rng.randrange(9), "unit": "celsius"})
            function = {"name": "get_weather", "arguments": arguments}
            call = {"id": f"call_{number}", "type": "function", "function": function}
            return {"role": "assistant", "content": None, "tool_calls": [call]}
        case "tool":
            found = [{"day": rng.choice(WORDS), "high": rng.randrange(40), "sky": words(rng, 2)} for _ in range(4)]
            return {"role": "tool", "tool_call_id": f"call_{number - 1}", "content": json.dumps(found)}
        case "user" if number == 7:  # one message in the form of parts
            texts = (words(rng, SIZES[role] // 2) for _ in range(2))
            return {"role": role, "content": [{"type": "text", "text": text} for text in texts]}
    return {"role": role, "content": words(rng, SIZES[role])}


def request_body(seed: int, *, last_seed: int | None = None, tools_seed: int | None = None) -> dict[str, Any]:
    """A new conversation and new tools for every seed.

    With `last_seed` only its last message differs from that of `seed`; with `tools_seed` the tools are those of that
    number, as an agent sends the same ones in every turn and every conversation.
    """
    rng = random.Random(seed)
    given = tools(rng if tools_seed is None else random.Random(tools_seed))
    messages = [message(rng, role, number) for number, role in enumerate(ROLES)]
    if last_seed is not None:
        messages[-1] = message(random.Random(last_seed), ROLES[-1], len(ROLES) - 1)
    return {
        "model": "bench",
        "messages": messages,
        "tools": given,
        "tool_choice": "auto",
        "temperature": 0.7,
        "top_p": 0.95,
        "max_tokens": 256,
        "seed": 7,
    }
