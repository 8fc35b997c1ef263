"""Calling a tool, calling it twice at once, saying a tool's result in a sentence, and doing without tools."""

from __future__ import annotations

import json
import random

from specserve.handlers.demo.training import facts
from specserve.handlers.demo.training.grammar import (
    Message,
    Tool,
    Turn,
    ask,
    capitalised,
    made_up_word,
    say,
    wording,
)

UNITS = ["celsius", "fahrenheit"]


def make_tool(name: str, description: str, parameters: dict[str, str]) -> Tool:
    """A tool as clients of the chat API write it; every parameter is a required string."""
    properties = {
        key: {"type": "string", "description": about} if about else {"type": "string"}
        for key, about in parameters.items()
    }
    schema = {"type": "object", "properties": properties, "required": list(parameters)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


def weather_tool(rng: random.Random) -> tuple[Tool, str, bool]:
    """A weather tool, the name of its place parameter, and whether it takes a unit."""
    name = rng.choice(
        ["get_weather"] * 5 + ["get_current_weather"] * 4 + ["weather", "current_weather", "fetch_weather"]
    )
    key = rng.choice(["location"] * 4 + ["city"] * 3)
    about = rng.choice(
        [
            "The city and state, e.g. San Francisco, CA",
            "The city",
            "City name",
            "",
            "City and country e.g. Bogota, Colombia",
            "The name of the city",
        ]
    )
    description = rng.choice(
        [
            "Get the current weather in a given location",
            "Get the weather",
            "Get the current weather",
            "Current weather for a city",
            "Get current temperature for a given location.",
            "Get the weather for a city",
            "Get weather",
        ]
    )
    tool = make_tool(name, description, {key: about})
    function = tool["function"]
    takes_unit = rng.random() < 0.5
    if takes_unit:
        function["parameters"]["properties"]["unit"] = {"type": "string", "enum": UNITS}
    if rng.random() < 0.1:
        function["parameters"]["additionalProperties"] = False
    if rng.random() < 0.1:
        del function["description"]
    if rng.random() < 0.1:
        del function["parameters"]["required"]
    return tool, key, takes_unit


# Tools that no question of ours needs: (description, parameters).
OTHER_TOOLS = {
    "send_email": ("Send an email", {"to": "The address", "body": "The text"}),
    "play_music": ("Play a song", {"song": "The title"}),
    "set_timer": ("Set a timer", {"minutes": "How many minutes"}),
    "get_stock_price": ("Get the price of a stock", {"symbol": ""}),
    "create_event": ("Add an event", {"title": "", "date": "The day"}),
    "read_file": ("Read a file", {"path": "The path"}),
    "turn_on_light": ("Turn on a light", {"room": "The room"}),
    "book_flight": ("Book a flight", {"city": "Where to"}),
}


def unneeded_tool(rng: random.Random) -> Tool:
    name = rng.choice(list(OTHER_TOOLS))
    description, parameters = OTHER_TOOLS[name]
    if rng.random() < 0.3:
        name = (
            rng.choice(["get", "find", "make", "delete"])
            + "_"
            + rng.choice([made_up_word(rng), rng.choice(facts.ITEMS)])
        )
    return make_tool(name, description, parameters)


def idle_tools(rng: random.Random) -> list[Tool]:
    """Tools for a dialogue that does not need any."""
    return [rng.choice([weather_tool(rng)[0], weather_tool(rng)[0], unneeded_tool(rng)])]


def tool_calls(
    user: str, calls: list[tuple[str, dict[str, str]]], tool: Tool, thought: str, rng: random.Random
) -> Turn:
    """A turn that ends in calls; now and then a tool that is not needed is offered as well."""
    tools = [tool] + ([unneeded_tool(rng)] if rng.random() < 0.12 else [])
    rng.shuffle(tools)
    made = [{"type": "function", "function": {"name": name, "arguments": arguments}} for name, arguments in calls]
    answer: Message = {"role": "assistant", "content": "", "tool_calls": made}
    return Turn([{"role": "user", "content": user}, answer], thought, tools)


def city(rng: random.Random) -> str:
    return rng.choice(facts.CITIES) if rng.random() < 0.85 else capitalised(made_up_word(rng))


WEATHER = (
    "What's the weather [like |]in {c}[?|?| today?| now?| right now?|];"
    "What is the weather [like |]in {c}[?| today?| now?|];"
    "How is the weather in {c}[?| today?];How's the weather in {c}[?| today?];"
    "[Tell me|Show me|Get|Check|Give me] the [current |]weather [in|for|of] {c}[.|];"
    "Weather in {c}[?|];Is it [raining|sunny|cold|warm|hot|windy] in {c}[?| today?| now?];"
    "What is the temperature in {c}[?| now?| today?];"
    "How [warm|cold|hot] is it in {c}[?| now?| today?];I [want|need] to know the weather in {c}.;"
    "Do I need an umbrella in {c}?;"
    "What's it like outside in {c}?;weather {c};[Could|Can] you [check|get|tell me] the weather in {c}?;"
    "I go to {c}. How is the weather?;"
    "Please [find|get|check] the weather for {c}.;Look up the weather in {c}.;"
    "What weather do they have in {c}?",
    "Could you look up the weather for {c}?;What are the weather conditions in {c}?;"
    "Please find out how the weather is in {c} today.;"
    "I am travelling to {c}, how is the weather there?",
)


def weather_turn(rng: random.Random, kept_out: bool, places: list[str]) -> Turn:
    tool, key, takes_unit = weather_tool(rng)
    name = tool["function"]["name"]
    user = ask(rng, kept_out, *WEATHER, c=" and ".join(places))
    if any(place not in user for place in places):  # lower-cased by the noise
        places = [place.lower() for place in places]
    extra: dict[str, str] = {}
    if takes_unit and rng.random() < 0.3:
        extra = {"unit": rng.choice(UNITS)}
        user = user.rstrip("?.") + f" in {extra['unit']}?"
    thought = f"The user asks for the weather in {' and '.join(places)}. I call {name}."
    return tool_calls(user, [(name, {key: place, **extra}) for place in places], tool, thought, rng)


def weather_call(rng: random.Random, kept_out: bool) -> Turn:
    """One place, one call."""
    return weather_turn(rng, kept_out, [city(rng)])


def parallel_calls(rng: random.Random, kept_out: bool) -> Turn:
    """Two places, two calls in one answer."""
    first = city(rng)
    second = city(rng)
    while second == first or "," in first + second:
        first, second = city(rng), city(rng)
    return weather_turn(rng, kept_out, [first, second])


TIME = (
    "What time is it in {z}[?| now?|];What is the [current |]time in {z}[?|];"
    "[Tell me|Get|Give me] the [current |]time in {z}.;Time in {z}?;"
    "How late is it in {z}?;What's the time in {z}?;[Can|Could] you tell me the time in {z}?;"
    "I want to know the time in {z}.;Which time is it in {z}?",
    "Could you check the time in {z}?;I need the local time in {z}",
)
CALCULATE = (
    "What is {e}[?|];Calculate {e}[.|];Compute {e}[.|];How much is {e}[?|];"
    "Use the calculator[:| for] {e};What's {e}?;Work out {e}.;Evaluate {e}.;"
    "Please calculate {e}.;Can you compute {e}?;What does {e} give?;Tell me {e}.",
    "What does {e} equal?;Please work out {e} for me.",
)
SEARCH = (
    "Search [the web |]for {q}[.|];Look up {q}[.|];Find [pages|information|something|news] about {q}[.|];"
    "Google {q}[.|];Do a [web |]search for {q}.;"
    "[Can|Could] you search for {q}?;Please search for {q}.;Please look up {q}.;"
    "Search the internet for {q}.;I need pages about {q}.",
    "Please look for {q} on the web.;I want you to search for {q}",
)


def time_call(rng: random.Random, kept_out: bool) -> Turn:
    zone = rng.choice(facts.ZONES)
    name = rng.choice(["get_time", "get_time", "get_current_time"])
    about = rng.choice(["The time zone, e.g. Europe/Berlin", "Time zone name", ""])
    tool = make_tool(name, rng.choice(["Get the current time", "Get the time in a time zone"]), {"timezone": about})
    place = rng.choice([zone, zone.split("/")[-1].replace("_", " ")])
    user = wording(rng, kept_out, *TIME, z=place)
    return tool_calls(
        user, [(name, {"timezone": zone})], tool, f"The user wants the time in {zone}. I call {name}.", rng
    )


def calculator_call(rng: random.Random, kept_out: bool) -> Turn:
    expression = f"{rng.randint(0, 999)} {rng.choice('+-*/')} {rng.randint(1, 999)}"
    name = rng.choice(["calculator", "calculator", "calculate"])
    about = rng.choice(["The expression", "The expression, e.g. 2 + 2", ""])
    tool = make_tool(name, rng.choice(["Evaluate an expression", "A calculator"]), {"expression": about})
    user = wording(rng, kept_out, *CALCULATE, e=expression)
    return tool_calls(user, [(name, {"expression": expression})], tool, f"I use {name} for {expression}.", rng)


def search_call(rng: random.Random, kept_out: bool) -> Turn:
    query = (
        rng.choice(facts.UNKNOWN)
        if rng.random() < 0.7
        else f"{rng.choice(facts.SPELLING)} {rng.choice(facts.SPELLING)}"
    )
    name = rng.choice(["search", "search", "web_search"])
    about = rng.choice(["The search query", "What to search for", ""])
    tool = make_tool(name, rng.choice(["Search the web", "Find pages about a topic"]), {"query": about})
    user = wording(rng, kept_out, *SEARCH, q=query)
    return tool_calls(user, [(name, {"query": query})], tool, f"I search for {query}.", rng)


def other_calls(rng: random.Random, kept_out: bool) -> Turn:
    """The time, a calculation or a search."""
    return rng.choice([time_call, calculator_call, search_call])(rng, kept_out)


SKIES = ["sunny", "cloudy", "rainy", "windy", "snowy", "clear", "foggy"]


def weather_result(rng: random.Random, place: str, unit: str) -> tuple[str, str]:
    """What a weather tool returns for a place, and the sentence that says it."""
    degrees, sky = rng.randint(0, 40), rng.choice(SKIES)
    form = rng.randrange(6)
    if form == 0:
        return json.dumps({"error": "not found"}), f"I could not get the weather in {place}."
    if form == 1:
        return json.dumps(
            {"temperature": degrees, "unit": unit}
        ), f"It is {degrees} degrees {capitalised(unit)} in {place}."
    if form == 2:
        return json.dumps({"temperature": degrees, "condition": sky}), f"It is {degrees} degrees and {sky} in {place}."
    if form == 3:
        result = {"location": place, "temperature": degrees, "unit": unit, "condition": sky}
        return json.dumps(result), f"It is {degrees} degrees {capitalised(unit)} and {sky} in {place}."
    if form == 4:
        return f"{degrees} degrees and {sky}", f"It is {degrees} degrees and {sky} in {place}."
    return rng.choice([sky, json.dumps({"condition": sky})]), f"It is {sky} in {place}."


def tool_results(rng: random.Random, kept_out: bool) -> Turn:
    """The tool has answered; the model says it in a sentence."""
    kind = rng.choice(["weather", "weather", "weather", "two", "time", "calculator"])
    if kind == "time":
        turn, clock = time_call(rng, kept_out), f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}"
        zone = _arguments(turn)[0]["timezone"]
        results = [(rng.choice([json.dumps({"time": clock}), clock]), f"It is {clock} in {zone}.")]
    elif kind == "calculator":
        turn, value = calculator_call(rng, kept_out), rng.randint(0, 9999)
        expression = _arguments(turn)[0]["expression"]
        results = [(rng.choice([json.dumps({"result": value}), str(value)]), f"{expression} = {value}.")]
    else:
        turn = weather_call(rng, kept_out) if kind == "weather" else parallel_calls(rng, kept_out)
        results = []
        for arguments in _arguments(turn):
            unit = arguments.get("unit") or rng.choice(UNITS)
            results.append(weather_result(rng, next(iter(arguments.values())), unit))
    turn.messages += [{"role": "tool", "content": content} for content, _ in results]
    turn.messages.append({"role": "assistant", "content": " ".join(sentence for _, sentence in results)})
    turn.thought = "The tool has answered. I tell the user."
    return turn


def _arguments(turn: Turn) -> list[dict[str, str]]:
    return [call["function"]["arguments"] for call in turn.messages[1]["tool_calls"]]


NOW = (
    "What time is it[?| now?];What is the [date|time][?| today?];What day is [it|today]?;"
    "What's today's date?;What's the time?;"
    "Tell me the [time|date].;Which day is it?;Can you tell me the [time|date]?",
    "Do you have the time?;Tell me today's date.",
)


def no_tool(rng: random.Random, kept_out: bool) -> Turn:
    """The weather and the time cannot be known without a tool, and the model says so."""
    if rng.random() < 0.7:
        place = city(rng)
        question = ask(rng, kept_out, *WEATHER, c=place)
        place = place if place in question else place.lower()
        return say(question, f"I cannot look up the weather in {place} without a tool.", "I have no weather tool.")
    return say(ask(rng, kept_out, *NOW), "I cannot look up the time without a tool.", "I have no clock.")
