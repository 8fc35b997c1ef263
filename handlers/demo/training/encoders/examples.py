"""What the encoders learn from: questions or short queries, the passage that goes with each, and passages that do not.

All of it is put together from the tables and lines beside this module, and from names that mean nothing, so that
"the same words" is learnt as well as "words of the same meaning".
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from specserve.handlers.demo.training import facts
from specserve.handlers.demo.training.encoders import everyday, learning
from specserve.handlers.demo.training.encoders.kinds import KINDS, Kind
from specserve.handlers.demo.training.encoders.phrases import (
    ACTIONS,
    ATTRIBUTES,
    CLOSING,
    FILLER,
    MEETING,
    OPENING,
    TIMES,
)
from specserve.handlers.demo.training.encoders.relations import RELATIONS, Relation
from specserve.handlers.demo.training.encoders.synonyms import reworded
from specserve.handlers.demo.training.encoders.tables import OPPOSITES
from specserve.handlers.demo.training.grammar import capitalised, expand, made_up_word, wording


@dataclass(frozen=True, slots=True)
class Passage:
    """`key` names what is said: two passages of one key say the same, and are never put against each other."""

    text: str
    key: str


@dataclass(slots=True)
class Example:
    """`is_loose`: the two are only about the same kind of thing, which makes them near but no answer."""

    topic: str
    query: str
    right: Passage
    wrong: list[Passage] = field(default_factory=list)
    is_loose: bool = False


Maker = Callable[[random.Random, bool], Example]


def statement(relation: Relation, row: list[str], rng: random.Random) -> Passage:
    text = wording(rng, False, relation.statements, "", a=row[relation.subject], b=row[relation.value])
    return Passage(capitalised(text), f"{relation.name}/{row[relation.subject]}")


def table_fact(rng: random.Random, kept_out: bool) -> Example:
    """A fact of a table; against it the same of another row, and something else of the same row."""
    relation = rng.choices(RELATIONS, [len(one.rows) ** 0.5 for one in RELATIONS])[0]
    row, *others = rng.sample(relation.rows, 3)
    slots = {"a": row[relation.subject], "b": row[relation.value]}
    query = wording(rng, kept_out, relation.questions, relation.kept, **slots)
    wrong = [statement(relation, other, rng) for other in others]
    beside = [one for one in RELATIONS if one.rows is relation.rows and one.name != relation.name]
    if beside:
        wrong[1:] = [statement(rng.choice(beside), row, rng)]
    return Example("tables", capitalised(query), statement(relation, row, rng), wrong)


def _lines() -> list[tuple[list[str], list[str], str]]:
    found = []
    for line in [*everyday.LINES.strip().splitlines(), *learning.LINES.strip().splitlines()]:
        left, right = line.split("=>")
        questions = [one.strip() for one in left.split(";")]
        found.append((questions, [one.strip() for one in right.split(";")], questions[0]))
    return found


LINES = _lines()


def written_line(rng: random.Random, kept_out: bool) -> Example:
    """A question of the written lines with one of its answers; or two wordings of the question, or of the answer."""
    at = rng.randrange(len(LINES))
    questions, answers, key = LINES[at]
    near = LINES[(at + rng.choice([-2, -1, 1, 2])) % len(LINES)]
    wrong = [Passage(rng.choice(near[1]), near[2])]
    if kept_out:
        return Example("lines", questions[-1], Passage(rng.choice(answers), key), wrong)
    roll = rng.random()
    if roll < 0.2 and len(questions) > 2:
        first, second = rng.sample(questions[:-1], 2)
    elif roll < 0.35 and len(answers) > 1:
        first, second = rng.sample(answers, 2)
    else:
        first, second = rng.choice(questions[:-1]), rng.choice(answers)
    return Example("lines", reworded(first, rng, 0.25), Passage(reworded(second, rng, 0.25), key), wrong)


def _name(rng: random.Random) -> str:
    roll = rng.random()
    if roll < 0.25:
        return rng.choice(facts.PEOPLE)
    if roll < 0.3:
        return "".join(chr(rng.randrange(0x4E00, 0x9FA5)) for _ in range(rng.randint(2, 3)))
    made = made_up_word(rng).capitalize()
    return made if roll < 0.8 else f"{made} {made_up_word(rng).capitalize()}"


def _value(rng: random.Random) -> str:
    roll = rng.random()
    if roll < 0.3:
        return str(rng.randrange(10 ** rng.randint(1, 5)))
    if roll < 0.7:
        return rng.choice(rng.choice(KINDS).members)
    return made_up_word(rng)


def made_up_fact(rng: random.Random, kept_out: bool) -> Example:
    """An attribute of a name that nobody has heard; against it another name, another attribute."""
    name, other_name = _name(rng), _name(rng)
    (word, asked), (other_word, _) = rng.sample(ATTRIBUTES, 2)

    def said(of: str, what: str) -> Passage:
        forms = "The {w} of {n} is {v}.;{n}'s {w} is {v}.;{n} has the {w} {v}.;As {w}, {n} has {v}.;{w} of {n}: {v}"
        return Passage(capitalised(wording(rng, False, forms, "", n=of, w=what, v=_value(rng))), f"{of}/{what}")

    seen = asked + ";What is the {w} of {n}?;{n} {w};{w} of {n};Tell me {n}'s {w}.;What is {n}'s {w}?"
    kept = "I would like to know the {w} of {n}.;Which {w} does {n} have?"
    query = wording(rng, kept_out, seen, kept, n=name, w=word)
    wrong = [said(other_name, word), said(name, other_word)]
    return Example("made-up names", capitalised(query), said(name, word), wrong)


ALL_MEMBERS = [(member, kind) for kind in KINDS for member in kind.members]


def _any_word(rng: random.Random) -> str:
    roll = rng.random()
    if roll < 0.45:
        return made_up_word(rng) + rng.choice(["", "", "s", "ing", "ed", "er", "tion", "ness", "ly", "al"])
    kind = rng.choice(KINDS)
    return rng.choice(kind.members if roll < 0.75 else kind.company)


BETWEEN = ["the", "a", "and the", "of the", "with", "in", "to", "for", "is", ""]


def _inflected(word: str, rng: random.Random) -> str:
    """Now and then another form of the word, so that stems are met with several endings."""
    if rng.random() < 0.7:
        return word
    for ending in ("ing", "ed", "s"):
        if word.endswith(ending) and len(word) > len(ending) + 3:
            return word.removesuffix(ending)
    return word + rng.choice(["s", "s", "ed", "ing", "er"])


def overlap(rng: random.Random, kept_out: bool) -> Example:
    """Search words that occur in the passage; against it passages in which fewer of them do."""
    words = [_any_word(rng) for _ in range(rng.randint(2, 4))]

    def text(parts: list[str]) -> str:
        extra = [_any_word(rng) for _ in range(rng.randint(0, 4))]
        mixed = [*parts, *extra]
        rng.shuffle(mixed)
        written = [f"{rng.choice(BETWEEN)} {word}" for word in mixed]
        return capitalised(" ".join(written).strip().replace("  ", " ")) + "."

    kept = rng.sample(words, max(1, len(words) - rng.randint(1, 2)))
    wrong = [Passage(text(rng.sample(kept, max(1, len(kept) - 1)) if len(words) > 2 else kept[:1]), "less")]
    order = [_inflected(word, rng) for word in rng.sample(words, len(words))]
    query = " ".join(order) if rng.random() < 0.6 else text(order)
    key = "/".join(words)
    return Example("overlap", query, Passage(text(words), key), [Passage(one.text, key + "/less") for one in wrong])


def definition(rng: random.Random, kept_out: bool) -> Example:
    """Of which kind a thing is."""
    kind = rng.choice(KINDS)
    member, other = rng.sample(kind.members, 2)
    stranger, of = rng.choice(ALL_MEMBERS)
    seen = (
        "What is a {m}?;What kind of thing is a {m}?;{m};{m} {k};Is a {m} a {k}?;What does {m} mean?;{m} definition;"
        "Explain the word {m}.;Name a {k} such as {m}."
    )
    forms = (
        "A {m} is a {k}.;The {m} is a kind of {k}.;{m} is a {k}.;A {m} is one kind of {k}, like a {o}.;{m}s are {k}s."
    )
    query = wording(rng, kept_out, seen, "To which group does a {m} belong?", m=member, k=kind.names[0])

    def said(what: str, of: Kind) -> Passage:
        filled = wording(rng, False, forms, "", m=what, k=rng.choice(of.names), o=rng.choice(of.members))
        return Passage(capitalised(filled), f"is/{what}")

    wrong = [said(other, kind), said(stranger, of)]
    return Example("definitions", capitalised(query), said(member, kind), wrong if stranger != member else wrong[:1])


def same_kind(rng: random.Random, kept_out: bool) -> Example:
    """Two sentences about things of one kind; against them the same sentence about another kind."""
    kind = rng.choice(KINDS)
    far = rng.choice(KINDS)

    def sentence(of: Kind, grammar: str) -> str:
        slots = dict(zip("mno", rng.sample(of.members, 3), strict=True))
        company = rng.sample(of.company, min(2, len(of.company)))
        return capitalised(expand(grammar, rng, **slots, c=company[0], d=company[-1], k=rng.choice(of.names)))

    form, other = rng.sample(MEETING, 2)
    first = rng.choice(kind.names + kind.company) if rng.random() < 0.15 else sentence(kind, form)
    wrong = [Passage(sentence(far, form), f"kind/{far.names[0]}")] if far is not kind else []
    return Example("kinds", first, Passage(sentence(kind, other), f"kind/{kind.names[0]}"), wrong, is_loose=True)


ACTORS = [*(f"The {one}" for one in "man woman boy girl teacher doctor farmer".split()), *facts.PEOPLE]


def _inside(actor: str) -> str:
    return actor[0].lower() + actor[1:] if actor.startswith("The ") else actor


def paraphrase(rng: random.Random, kept_out: bool) -> Example:
    """What somebody did, told twice; against it somebody else, or something else that was done."""
    who, whom = rng.sample(ACTORS, 2)
    action, other = rng.sample(ACTIONS, 2)
    when = rng.choice(TIMES)
    slots = {"x": rng.choice(ALL_MEMBERS)[0], "y": rng.choice(ALL_MEMBERS)[0]}

    def told(by: str, done: str, share: float) -> str:
        text = wording(rng, False, done, "", **slots)
        form = rng.choice(["{p} {t} {w}.", "{W}, {q} {t}.", "{p} {t}."])
        filled = expand(form, rng, p=by, q=_inside(by), t=text, w=when, W=capitalised(when))
        return reworded(filled, rng, share)

    key = f"{who}/{action}/{slots['x']}"
    wrong = [Passage(told(who, other, 0.3), f"{who}/{other}"), Passage(told(whom, action, 0.3), f"{whom}/{action}")]
    asked = told(who, action, 0.7)
    if rng.random() < 0.25:
        done = wording(rng, False, action, "", **slots)
        asked = expand(rng.choice(["Who {t}?", "What did {q} do?", "{t}"]), rng, q=_inside(who), t=done)
    return Example("paraphrases", asked, Passage(told(who, action, 0.7), key), wrong)


def mood(rng: random.Random, kept_out: bool) -> Example:
    """Praise beside praise, complaint beside complaint."""
    first, second = (facts.POSITIVE, facts.NEGATIVE) if rng.random() < 0.5 else (facts.NEGATIVE, facts.POSITIVE)
    name, opposite = ("praise", "complaint") if first is facts.POSITIVE else ("complaint", "praise")
    one, other = rng.sample(first, 2)
    query = rng.choice([one, one, one, "positive review" if name == "praise" else "negative review"])
    return Example("moods", query, Passage(other, name), [Passage(rng.choice(second), opposite)], is_loose=True)


def word(rng: random.Random, kept_out: bool) -> Example:
    """A word and what it is in another language, or its opposite."""
    if rng.random() < 0.4:
        one, other = rng.choice(OPPOSITES)
        seen, kept = "What is the opposite of {a}?;opposite of {a};{a} antonym", "Which word means the contrary of {a}?"
        query = wording(rng, kept_out, seen, kept, a=one)
        right, wrong = (
            Passage(f"The opposite of {a} is {b}.", f"opposite/{a}") for a, b in ([one, other], rng.choice(OPPOSITES))
        )
        return Example("words", query, right, [wrong])
    english, others = rng.choice(list(facts.TRANSLATIONS.items()))
    at = rng.randrange(3)
    key = f"word/{english}"
    if rng.random() < 0.4 and not kept_out:
        return Example("words", others[at], Passage(rng.choice([english, *others]), key))
    seen = "How do you say {w} in {l}?;{w} in {l};What does {o} mean?;Translate {w} to {l}."
    kept = "Which {l} word stands for {w}?"
    query = wording(rng, kept_out, seen, kept, w=english, l=facts.LANGUAGES[at], o=others[at])
    return Example("words", query, Passage(f"The {facts.LANGUAGES[at]} word for {english} is {others[at]}.", key))


MAKERS: dict[str, tuple[float, Maker]] = {
    "tables": (26, table_fact),
    "lines": (24, written_line),
    "made-up names": (12, made_up_fact),
    "overlap": (9, overlap),
    "definitions": (7, definition),
    "kinds": (13, same_kind),
    "paraphrases": (9, paraphrase),
    "words": (3, word),
    "moods": (1, mood),
}


ARTICLE = re.compile(r"\b([Aa]) (?=[aeiou])(?!uni|eu|one|use)")
PLURALS = [(re.compile(r"(?<=[^aeiou\s])ys\b"), "ies"), (re.compile(r"(?<=sh|ch|ss)s\b"), "es")]


def spelt(text: str) -> str:
    """Filled slots mended: an before vowels, and the plurals of words in y and sh."""
    text = ARTICLE.sub(r"\1n ", text)
    for pattern, ending in PLURALS:
        text = pattern.sub(ending, text)
    return text


def _spelt(example: Example) -> Example:
    example.query = spelt(example.query)
    example.right, *example.wrong = (Passage(spelt(one.text), one.key) for one in (example.right, *example.wrong))
    return example


def _wrapped(example: Example, rng: random.Random) -> Example:
    """The small noise of real texts: words before and after a question, passages among other sentences."""
    if rng.random() < 0.12:
        example.query = rng.choice(OPENING) + example.query[0].lower() + example.query[1:]
    if rng.random() < 0.06:
        example.query += rng.choice(CLOSING)
    if rng.random() < 0.15:
        example.query = example.query.rstrip("?.")
    if rng.random() < 0.12 and not example.is_loose:
        around = [rng.choice(FILLER) for _ in range(rng.randint(1, 3))]
        around.insert(rng.randint(0, len(around)), example.right.text.rstrip(".") + ".")
        example.right = Passage(" ".join(around), example.right.key)
    return example


def stream(seed: int) -> Iterator[Example]:
    """An endless stream of examples to learn from."""
    rng = random.Random(seed)
    makers, weights = [maker for _, maker in MAKERS.values()], [weight for weight, _ in MAKERS.values()]
    while True:
        yield _wrapped(_spelt(rng.choices(makers, weights)[0](rng, False)), rng)


def kept_out(topic: str, count: int, seed: int) -> list[Example]:
    """Examples in wordings, or of names, that are never trained; each key once."""
    rng = random.Random(f"{topic}/{seed}")
    found: dict[str, Example] = {}
    for _ in range(50 * count):
        if len(found) == count:
            break
        example = _spelt(MAKERS[topic][1](rng, True))
        found.setdefault(example.right.key, example)
    return list(found.values())
