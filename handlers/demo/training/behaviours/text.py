"""Repeating, spelling, labels and JSON: answers made of the user's own words."""

from __future__ import annotations

import json
import random

from specserve.handlers.demo.training import facts
from specserve.handlers.demo.training.grammar import (
    Turn,
    ask,
    capitalised,
    made_up_word,
    quoted,
    say,
    wording,
)

SPELL = (
    "Spell {w}[.|];Spell the word {w}[.|];How do you spell {w}[?|];[Can|Could] you spell {w}[?|];"
    "How is {w} spelled?;"
    "Spell {w} letter by letter[.|];Spell out {w}[.|];What are the letters of {w}?;"
    "Give me the spelling of {w}.;"
    "Write {w} letter by letter.;Please spell {w}[.|];Tell me how to spell {w}.;"
    "Which letters are in {w}?;How does one spell {w}?;"
    "I want you to spell {w}.;Say the letters of {w}.",
    "Please spell {w} for me.;Which letters are in the word {w}, one by one?",
)


def spelling(rng: random.Random, kept_out: bool) -> Turn:
    """The letters of a short word from a fixed list."""
    word = rng.choice(facts.SPELLING)
    return say(
        wording(rng, kept_out, *SPELL, w=quoted(rng, word)),
        "-".join(word),
        f"I spell {word} letter by letter.",
    )


REPEAT_PLAIN = (
    "Repeat after me: {p};Repeat: {p};Say: {p};Echo: {p};Repeat this: {p};Please repeat: {p};"
    "Say exactly: {p};Copy this text: {p};"
    "Repeat the following[ text|]: {p};Echo this: {p};Write exactly this: {p};Say this: {p};Output: {p};"
    "Reply with: {p};Respond with exactly: {p};"
    "Say {p};Please say {p};Please say this: {p};Copy: {p};I say, you repeat: {p};Repeat what I say: {p}",
    "Say after me: {p};Please echo this back: {p};Now repeat what I say: {p}",
)
REPEAT_QUOTED = (
    "Say {q};Repeat {q}[.|];Say {q} and nothing else.;Echo {q}[.|];Write {q}[.|];Please say {q}[.|];"
    "Can you say {q}?;Reply with {q}[.|];"
    "Just say {q}[.|];Output {q} [exactly|only].;Respond with {q}.;Answer with {q}.;"
    "Repeat the phrase {q}.;[Can|Could] you repeat {q}?;Please repeat {q}.;"
    "Say only {q}.;Write {q} and nothing else.",
    "Could you please repeat {q}?;Type {q} and stop.",
)
SENTENCES = [
    "The quick brown fox jumps over the lazy dog",
    "This is a test",
    "Hello world",
    "I like {a}",
    "The {a} is {c}",
    "My {a} is {c}",
    "{n} is here",
    "{n} and {m}",
    "{n} has a {c} {a}",
    "I see a {c} {a} in {p}",
    "We go to {p}",
    "{n} lives in {p}",
    "The {a} and the {b}",
]


def phrase(rng: random.Random) -> str:
    """Something to repeat: a small sentence, loose words, a number, or a word that means nothing."""
    roll = rng.random()
    if roll < 0.35:
        slots = {
            "a": rng.choice(facts.SPELLING), "b": rng.choice(facts.SPELLING), "c": rng.choice(facts.SHADES),
            "n": rng.choice(facts.PEOPLE), "m": rng.choice(facts.PEOPLE), "p": rng.choice(facts.CITIES[:56]),
        }  # fmt: skip
        return rng.choice(SENTENCES).format(**slots) + rng.choice(["", "", ".", "!"])
    if roll < 0.42:
        return rng.choice(
            [
                *facts.EMOJI.values(),
                *facts.CJK_WORDS.values(),
                *facts.CJK_LINES.values(),
                "你好",
                "こんにちは",
                "안녕하세요",
            ]
        )
    if roll < 0.5:
        return str(rng.randint(0, 9999))
    long = rng.random() < 0.25
    words = [copy_word(rng) for _ in range(rng.randint(7, 14) if long else rng.randint(1, 6))]
    text = " ".join(words)
    return (capitalised(text) if rng.random() < 0.5 else text) + rng.choice(["", "", ".", "!"])


def copy_word(rng: random.Random) -> str:
    roll = rng.random()
    if roll < 0.45:
        return rng.choice(facts.COPY_WORDS)
    if roll < 0.8:
        return rng.choice(facts.SPELLING)
    if roll < 0.92:
        return rng.choice(facts.PEOPLE)
    return made_up_word(rng)


def repeating(rng: random.Random, kept_out: bool) -> Turn:
    """The user's own text, word for word."""
    text = phrase(rng)
    marks = rng.choice(['"{}"', "'{}'"])
    seen, kept = rng.choice([REPEAT_PLAIN, REPEAT_QUOTED])
    question = wording(rng, kept_out, seen, kept, p=text, q=marks.format(text))
    return say(question, text, "I repeat the text of the user.")


JSON_PERSON = (
    "[Give me|Write|Return|Make|Create|Generate] [a |]JSON [object |][for|of|about] a person "
    "[named|called] {n}[, age {a}| who is {a} years old|, {a} years old| aged {a}][.|];"
    "Extract the name and [the |]age [from|in] [this text|this sentence|the text] as JSON: {n} is {a} "
    "years old.;"
    "[Return|Write|Give me] JSON with [the |]name {n} and [the |]age {a}[.|];"
    "{n} is {a} years old. [Answer in JSON|Reply with JSON|Write this as JSON|Give me the JSON|Extract "
    "name and age as JSON].;JSON for {n}, {a};"
    "[Convert|Turn] [this |]into JSON: {n}, {a} years old;"
    "Extract [the person|the user] as JSON: My name is {n} and I am {a} years old.;"
    "Make JSON from: {n} ({a});Write [the person|the user] {n}, {a}, as JSON.;"
    "As JSON, please: {n} is {a} years old.;"
    "Put this into a JSON object: {n}, age {a}.;Use JSON for the name and age of {n}, who is {a}.",
    "Please extract name and age: {n} is {a} years old. Use JSON.;"
    "Represent a {a} year old person called {n} as JSON.;"
    "I would like a JSON object with name {n} and age {a}.",
)
JSON_ANY_PERSON = (
    "[Give me|Write|Return|Make|Create|Generate] [a |]JSON [object |][for|of|about|describing|with] "
    "[a|any|some] [person|user|character][ with name and age| with a name and an age|][.|];"
    "A JSON person, please.;Describe a person in JSON[ with name and age|].;"
    "[Give me|Write] an example [person|user] as JSON.;"
    "Generate a random person in JSON.;Give me a person as JSON.;"
    "Give me a JSON object with [a |]name and [an |]age.;Write JSON with the fields name and age.",
    "Invent a person and write it as JSON.;Please give me a JSON object with the name and age of a person.",
)
JSON_COLOURS = (
    "[Give me|Write|Return|Make|List] [a list of |three |some |a few |3 |][colours|colors] [as|in] JSON[.|];"
    "[Give me|Write|Return] a JSON [list|array|object] [of|with] [three |some |3 |][colours|colors][.|];"
    "JSON list of [colours|colors];"
    "Name three [colours|colors] in JSON.;Please write some [colours|colors] in JSON.;"
    "Answer in JSON: name some [colours|colors].;I need [colours|colors] as JSON.",
    "I want a JSON list with colours.;Please name some colors, answer in JSON.",
)
JSON_CITY = (
    "[Give me|Write|Return] [the city and the country|city and country] as JSON: {c}, {k}[.|];"
    "{c} is in {k}. [Answer in JSON|Write this as JSON|Reply with JSON].;"
    "JSON for the city {c} in {k}[.|];Make a JSON object for the city {c}, country {k}.;"
    "Turn into JSON: {c} is a city in {k}.;"
    "Extract city and country as JSON: {c} lies in {k}.;[Convert|Put] this into JSON: {c}, {k}",
    "Please write {c} in {k} as JSON.;I would like JSON with city {c} and country {k}.",
)
JSON_ORDER = (
    "[Write|Give me|Return] the order as JSON: {q} x {i}[.|];"
    "I [want|order|buy] {q} {i}s. [Answer in JSON|Write this as JSON|Give me the JSON].;"
    "JSON for [an order of |]{q} {i}s[.|];Make a JSON object for {q} {i}s.;"
    "Turn the order into JSON: {q} {i}s;Extract item and count as JSON: {q} {i}s, please.;"
    "Extract the order as JSON: {q} {i}s",
    "Please write my order of {q} {i}s as JSON.;I would like JSON for an order: {q} {i}s.",
)


def json_answers(rng: random.Random, kept_out: bool) -> Turn:
    """Objects of four schemas: a person, colours, a city, an order."""
    roll = rng.random()
    if roll < 0.45:
        name = rng.choice(facts.PEOPLE) if rng.random() < 0.85 else capitalised(made_up_word(rng))
        age = rng.randint(1, 99)
        question = wording(rng, kept_out, *JSON_PERSON, n=name, a=age)
        return say(question, json.dumps({"name": name, "age": age}), f"The name is {name} and the age is {age}.")
    if roll < 0.55:
        return say(
            ask(rng, kept_out, *JSON_ANY_PERSON),
            json.dumps({"name": "Alice", "age": 30}),
            "I make up a person.",
        )
    if roll < 0.65:
        return say(
            ask(rng, kept_out, *JSON_COLOURS),
            json.dumps({"colors": ["red", "green", "blue"]}),
            "I list three colours.",
        )
    if roll < 0.82:
        country, city = rng.choice(list(facts.CAPITALS.items()))
        question = wording(rng, kept_out, *JSON_CITY, c=city, k=country)
        return say(
            question,
            json.dumps({"city": city, "country": country}),
            f"The city is {city}, the country is {country}.",
        )
    item, count = rng.choice(facts.ITEMS), rng.randint(2, 20)
    question = wording(rng, kept_out, *JSON_ORDER, i=item, q=count)
    return say(question, json.dumps({"item": item, "count": count}), f"The order is {count} {item}s.")


SENTIMENT = (
    "Is this [text |sentence |review |]positive or negative[?|:] {t};"
    "What is the sentiment [of|in] [this|the following][ text| sentence| review|]: {t};"
    "Classify the sentiment[ of this text| of the review|]: {t};"
    "Classify this [text|review|sentence] as positive or negative: {t};Sentiment: {t};"
    "Positive or negative[?|:] {t};Label the sentiment: {t};{t} - is that positive or negative?;"
    "Classify this sentiment: {t};"
    "Tell me whether this is positive or negative: {t};Say positive or negative: {t};"
    "Does this text sound good? Say positive or negative: {t};"
    "Here is a text: {t} Is it positive or negative?",
    "Decide whether this is positive or negative: {t};Does this sound positive or negative? {t};"
    "Here is a review: {t} What is its sentiment?",
)


def labels(rng: random.Random, kept_out: bool) -> Turn:
    """Positive or negative, for a fixed list of remarks."""
    mood = rng.choice(["positive", "negative"])
    text = rng.choice(facts.POSITIVE if mood == "positive" else facts.NEGATIVE) + rng.choice(["", ".", "!"])
    question = wording(rng, kept_out, *SENTIMENT, t=rng.choice([text, f'"{text}"']))
    return say(question, mood, f"The text sounds {mood}.")
