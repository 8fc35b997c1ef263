"""Phrasings and turns: the small language in which behaviours are written.

A phrasing is a grammar: `;` separates wordings, `[a|b|]` picks one alternative, `{name}` is a slot. Every
behaviour has wordings for training and others that are kept out of it, so that a check can tell learning from
remembering.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Message = dict[str, Any]
Tool = dict[str, Any]

CHOICE = re.compile(r"\[([^\[\]]*)\]")
SLOT = re.compile(r"\{(\w+)\}")

BEFORE = (
    [""] * 12
    + ["Please ", "Hi, ", "Hello! ", "Hey, ", "Quick question: ", "Tell me, ", "I have a question. "]
    + ["[Could|Can] you help me? ", "OK, ", "So, ", "Now ", "Hi there! ", "Well, "]
)
AFTER = [""] * 12 + [
    " Please.",
    " Thanks!",
    " Thank you.",
    " please",
    " :)",
    " I need to know.",
    " Be brief.",
    " Answer briefly.",
]

ONE_WORD = [
    "Answer in one word.",
    "Answer with one word only.",
    "Only the answer.",
    "Just the answer, please.",
    "One word.",
]
ONE_WORD_KEPT = ["Just answer with one word.", "Only give the answer."]


@dataclass
class Turn:
    """One exchange: the user's message, what the assistant writes, and tool results in between.

    `thought` is what the assistant thinks before its last message, in dialogues with reasoning.
    """

    messages: list[Message]
    thought: str = ""
    tools: list[Tool] = field(default_factory=list)
    follow_up: Callable[[random.Random, bool], Turn] | None = None

    @property
    def answer(self) -> str:
        return str(self.messages[-1]["content"])


Behaviour = Callable[[random.Random, bool], Turn]


def expand(grammar: str, rng: random.Random, **slots: object) -> str:
    """One sentence of a grammar, with its slots filled."""
    while CHOICE.search(grammar):
        grammar = CHOICE.sub(lambda match: rng.choice(match[1].split("|")), grammar)
    return SLOT.sub(lambda match: str(slots[match[1]]), grammar)


def wording(rng: random.Random, kept_out: bool, seen: str, kept: str, **slots: object) -> str:
    """A wording from the seen or from the kept-out grammar, exactly as written there."""
    return expand(rng.choice((kept if kept_out else seen).split(";")).strip(), rng, **slots)


def ask(rng: random.Random, kept_out: bool, seen: str, kept: str, **slots: object) -> str:
    """A wording with the small noise of real users; kept-out wordings stay clean."""
    text = wording(rng, kept_out, seen, kept, **slots)
    if kept_out:
        return text
    before, after = expand(rng.choice(BEFORE), rng), rng.choice(AFTER)
    if before and not before.endswith(("! ", "? ", ". ")) and text[1:2].islower() and rng.random() < 0.7:
        text = text[0].lower() + text[1:]
    text = before + text + after
    if rng.random() < 0.06:
        text = text.lower()
    if rng.random() < 0.08:
        text = text.rstrip("?.!")
    return text


def say(
    user: str, answer: str, thought: str = "", follow_up: Callable[[random.Random, bool], Turn] | None = None
) -> Turn:
    """A plain exchange of one question and one answer."""
    return Turn([{"role": "user", "content": user}, {"role": "assistant", "content": answer}], thought, [], follow_up)


def short_or_full(
    rng: random.Random,
    kept_out: bool,
    question: str,
    full: str,
    short: str,
    thought: str,
    follow_up: Callable[[random.Random, bool], Turn] | None = None,
) -> Turn:
    """Mostly a full sentence; sometimes the user asks for one word and gets it."""
    if rng.random() < 0.15:
        return say(f"{question} {rng.choice(ONE_WORD_KEPT if kept_out else ONE_WORD)}", short, thought, follow_up)
    return say(question, full, thought, follow_up)


def capitalised(text: str) -> str:
    return text[0].upper() + text[1:]


def quoted(rng: random.Random, word: str) -> str:
    """The word bare, or in one of two kinds of quotes."""
    return rng.choice([word, word, f'"{word}"', f"'{word}'"])


_ONSETS = "b c d f g h j k l m n p r s t v w z br st tr ch".split()
_RHYMES = "a e i o u an en in or ul".split()


def made_up_word(rng: random.Random) -> str:
    """A pronounceable word that means nothing: what can only be copied, never remembered."""
    return "".join(rng.choice(_ONSETS) + rng.choice(_RHYMES) for _ in range(rng.randint(2, 3)))
