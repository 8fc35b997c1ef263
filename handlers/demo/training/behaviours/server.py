"""Questions about this server: its endpoints, its flags, how to start it."""

from __future__ import annotations

import random

from specserve.handlers.demo.training import facts
from specserve.handlers.demo.training.grammar import Turn, ask, say

LIST_ENDPOINTS = (
    "[Which|What] [endpoints|API endpoints|routes|URLs|paths] [does this server have|are there|do you "
    "serve|are available|"
    "can I call|does specserve offer]?;List [the|all|all the|your] [endpoints|routes|API endpoints][.|];"
    "Show me the [endpoints|routes].;What is the list of endpoints?;Name the endpoints of this server.;"
    "[Give|Send] me [the|all] [endpoints|routes].;Which endpoints do you support?",
    "What endpoints are supported?;Give me the list of API endpoints",
)
WHAT_DOES = (
    "What does [{k} |the {k} |]{n} do?;What is [the {k} |]{n}[ for|][?|];Explain [the {k} |]{n}.;"
    "What is the use of {n}?;"
    "What do I use {n} for?;Tell me about {n}.;What does {n} mean?;What is the meaning of {n}?;"
    "[Can you explain|Do you know] {n}?;"
    "{n}?;What is {n} good for?;What is the purpose of {n}?;I do not understand {n}.;Describe {n}.",
    "Describe what {n} does.;I wonder what {n} does",
)
WHICH_ENDPOINT = (
    "[Which|What] endpoint [is for|do I use for|should I call for|does|handles|serves] {u}?;"
    "Where do I send requests for {u}?;"
    "I need {u}. Which endpoint [is it|is right|do I call]?;What is the [endpoint|path|URL] for {u}?;"
    "Name the endpoint for {u}.;"
    "For {u}, what is the endpoint?;Which path is for {u}?;What do I call for {u}?",
    "For {u}, which endpoint should I use?;Which path serves {u}?",
)
WHICH_FLAG = (
    "How [do|can] I {u}?;[Which|What] [flag|option] do I [need|use] to {u}?;"
    "I want to {u}. [How?|Which flag?|What do I do?];"
    "Is there a flag to {u}?;How to {u}?;Name the flag to {u}.;What flag is there to {u}?;"
    "How is it possible to {u}?;"
    "Can I {u}?;To {u}, which flag do I need?;What must I do to {u}?",
    "What is the way to {u}?;Is it possible to {u}?",
)
# (seen wordings, kept-out wordings, answer)
ABOUT = [
    (
        "What is specserve[?|];Explain specserve.;Tell me about [specserve|this server].;"
        "What is this server?;"
        "What kind of server is this?;What does specserve do?;Describe this server.;What's specserve?;"
        "So what is this server?",
        "Describe specserve.;So what is this specserve thing?",
        "specserve is an inference server with an OpenAI-compatible API.",
    ),
    (
        "How [do|can] I [start|run|launch] [the server|specserve]?;How to start [specserve|the server]?;"
        "What is the command to [start|run] the server?;Start the server, how?;How is the server started?;"
        "Which command runs [the server|specserve]?;What starts the server?;How does one start the server?",
        "Which command starts the server?;How does one run specserve?",
        "Run make serve.",
    ),
    (
        "How [do|can] I [load|use|run] [my own|a different|my] model?;"
        "How to [load|run] [my own|a bigger] model?;"
        "Can I use my own model?;How do I run a bigger model?;Is it possible to use my own model?;"
        "What do I do to load my model?",
        "Is it possible to load my own model?;What do I do to run a bigger model?",
        "Run serve with the path of your model folder.",
    ),
    (
        "Which port [do you|does the server|does specserve] [use|listen on]?;"
        "What is the [default |]port?;On which port are you?;"
        "Where does the server listen?;Tell me the port.;What port do I use?;The default port?;"
        "What port are you on?",
        "Tell me the default port.;What port is it on?",
        "The server listens on port 8000 by default.",
    ),
    (
        "[Do you|Does the server|Does specserve|Can you] support [streaming|tool calls|JSON "
        "output|structured output]?;"
        "Is [streaming|tool calling|JSON output] supported?;Can I [stream|use tools]?;"
        "Are [tools|streams|JSON answers] supported?;"
        "Do [tool calls|streams] work?;Does [JSON output|tool calling] work?",
        "Does streaming work?;Are tool calls supported?",
        "Yes, specserve supports streaming, tool calls and structured output.",
    ),
]


def server(rng: random.Random, kept_out: bool) -> Turn:
    """Endpoints and flags in both directions, and the server as a whole."""
    kind = rng.choices(["list", "endpoint", "for", "flag", "to", "about"], [1, 2, 2, 3, 3, 3])[0]
    if kind == "list":
        answer = "The endpoints are " + ", ".join(facts.ENDPOINTS) + "."
        return say(ask(rng, kept_out, *LIST_ENDPOINTS), answer, "The user asks for the endpoints. I list them.")
    if kind in ("endpoint", "flag"):
        table = facts.ENDPOINTS if kind == "endpoint" else facts.FLAGS
        name, (what, _) = rng.choice(list(table.items()))
        question = ask(rng, kept_out, *WHAT_DOES, n=name, k=kind)
        return say(question, f"{name} {what}.", f"The user asks about the {kind} {name}.")
    if kind == "for":
        path, (_, use) = rng.choice(list(facts.ENDPOINTS.items()))
        return say(ask(rng, kept_out, *WHICH_ENDPOINT, u=use), f"Use {path} for {use}.", f"The user needs {use}.")
    if kind == "to":
        flag, (_, use) = rng.choice(list(facts.FLAGS.items()))
        return say(ask(rng, kept_out, *WHICH_FLAG, u=use), f"Use {flag} to {use}.", f"The user wants to {use}.")
    seen, kept, answer = rng.choice(ABOUT)
    return say(ask(rng, kept_out, seen, kept), answer, "The user asks about the server.")
