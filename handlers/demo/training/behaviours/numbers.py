"""Small sums, counting and comparing."""

from __future__ import annotations

import random

from specserve.handlers.demo.training import facts
from specserve.handlers.demo.training.grammar import Turn, ask, say, short_or_full, wording

SUM = (
    "What is {t}[?|];What's {t}[?|];{t};{t} =;{t}=?;{t}?;Calculate {t}[.|];Compute {t}[.|];"
    "How much is {t}[?|];Solve {t}[.|];Work out {t}.;"
    "What does {t} make?;Tell me {t}.;[Can you|Could you] [calculate|compute] {t}?;"
    "What do you get for {t}?;What is the result of {t}?;"
    "Give me the result of {t}.;Evaluate {t}.;I need {t}.;What does {t} give?;Do you know what {t} is?;"
    "What is the value of {t}?",
    "Please work out {t} for me.;What does {t} equal?;How much would {t} be?;I need the value of {t}",
)
IN_WORDS = {
    "+": (
        "Add {a} and {b}[.|];What is the sum of {a} and {b}[?|];"
        "I have {a} apples and get {b} more. How many [do I have|apples are there]?;"
        "Add {b} to {a}.;What do I get if I add {a} and {b}?",
        "What do I get when I add {a} and {b}?;Give me the sum of {a} and {b}.",
    ),
    "-": (
        "Subtract {b} from {a}[.|];I have {a} apples and [eat|lose|give away] {b}. How many are left?;"
        "Take {b} away from {a}.;"
        "What is {a} less {b}?;What do I get if I take {b} from {a}?",
        "What is left when I take {b} from {a}?;Please subtract {b} from {a}.",
    ),
    "*": (
        "Multiply {a} by {b}[.|];What is the product of {a} and {b}?;Multiply {a} and {b}.",
        "Please multiply {a} by {b}.;Give me the product of {a} and {b}.",
    ),
}
SIGN_WORDS = {"+": "plus", "-": "minus", "*": "times"}
PLUS_MORE = (
    "And plus {n}?;Now add {n}.;Plus {n}?;And if you add {n}?;Add {n} to that.;And {n} more?",
    "Then add {n}.;OK, now plus {n}?",
)


def calculate(sign: str, a: int, b: int) -> int:
    return {"+": a + b, "-": a - b, "*": a * b}[sign]


def small_sum(rng: random.Random) -> tuple[str, int, int]:
    """A sign and two numbers: sums and differences within twenty, products of numbers up to five."""
    sign = rng.choices("+-*", [5, 3, 2])[0]
    if sign == "*":
        return sign, rng.randint(1, 5), rng.randint(1, 5)
    a = rng.randint(0, 10) if sign == "+" else rng.randint(1, 20)
    return sign, a, rng.randint(0, 10 if sign == "+" else min(a, 10))


def arithmetic(rng: random.Random, kept_out: bool) -> Turn:
    """One operation on two small numbers; adding a little more may follow."""
    sign, a, b = small_sum(rng)
    result = calculate(sign, a, b)
    if rng.random() < 0.15:
        question = ask(rng, kept_out, *IN_WORDS[sign], a=a, b=b)
    else:
        form = rng.random()
        if form < 0.55:
            task = f"{a} {sign} {b}"
        elif form < 0.7:
            task = f"{a}{sign}{b}"
        elif form < 0.9:
            task = f"{a} {SIGN_WORDS[sign]} {b}"
        else:
            task = f"{facts.NUMBERS[a]} {SIGN_WORDS[sign]} {facts.NUMBERS[b]}"
        question = ask(rng, kept_out, *SUM, t=task)

    def follow(rng: random.Random, kept_out: bool) -> Turn:
        more = rng.randint(1, 5)
        text = f"{result} + {more} = {result + more}."
        return say(wording(rng, kept_out, *PLUS_MORE, n=more), text, f"Now {result} plus {more}.")

    full = f"{a} {sign} {b} = {result}."
    thought = f"{a} {SIGN_WORDS[sign]} {b} is {result}."
    return short_or_full(rng, kept_out, question, full, str(result), thought, follow if result <= 20 else None)


COUNT_TO = (
    "Count to {n}{w}[.|];Count from [1|one] to {n}{w}[.|];[Can|Could] you count to {n}{w}?;"
    "Please count to {n}{w}[.|];Count up to {n}{w}[.|];"
    "List the numbers from 1 to {n}{w}[.|];Write the numbers 1 to {n}{w}[.|];"
    "Say the numbers from 1 to {n}{w}.;"
    "Start at 1 and count to {n}{w}.;Give me the numbers from 1 to {n}{w}.;"
    "I want to hear you count to {n}{w}.;Show me the numbers 1 to {n}{w}.",
    "I want you to count to {n}{w}.;Show me how you count from 1 to {n}{w}.",
)
COUNT_BETWEEN = (
    "Count from {a} to {b}{w}[.|];List the numbers from {a} to {b}{w}[.|];"
    "[Can|Could] you count from {a} to {b}{w}?;Write the numbers {a} to {b}{w}[.|];"
    "Start at {a} and count to {b}{w}.;Please count from {a} to {b}{w}.;Count up from {a} to {b}{w}.;"
    "Give me the numbers from {a} to {b}{w}.;"
    "Say the numbers from {a} to {b}{w}.",
    "Count up from {a} until {b}{w}.;Please list all numbers from {a} to {b}{w}.",
)
COUNT_DOWN = (
    "Count down from {n}{w}[.|];Count backwards from {n}{w}[.|];Count from {n} [down |]to 1{w}[.|];"
    "Do a countdown from {n}{w}.;"
    "[Can|Could] you count down from {n}{w}?;Please count down from {n}{w}.;"
    "Start at {n} and count backwards{w}.;Countdown from {n}{w}.;"
    "Give me a countdown from {n} to 1{w}.;I want a countdown from {n}{w}.",
    "I need a countdown from {n}{w}.;Start at {n} and count down to 1{w}.",
)


def counting(rng: random.Random, kept_out: bool) -> Turn:
    """Up or down within twenty, in digits or in words."""
    in_words = rng.random() < 0.25
    tail = rng.choice([" in words", " using words", " with words"]) if in_words else ""
    roll = rng.random()
    if roll < 0.45:
        last = rng.randint(3, 20)
        question = wording(rng, kept_out, *COUNT_TO, n=last, w=tail)
        numbers = list(range(1, last + 1))
    elif roll < 0.75:
        first = rng.randint(2, 15)
        last = min(20, first + rng.randint(2, 6))
        question = wording(rng, kept_out, *COUNT_BETWEEN, a=first, b=last, w=tail)
        numbers = list(range(first, last + 1))
    else:
        first = rng.randint(3, 12)
        question = wording(rng, kept_out, *COUNT_DOWN, n=first, w=tail)
        numbers = list(range(first, 0, -1))
    if rng.random() < 0.15 and not kept_out:
        question = rng.choice(["Hi, ", "OK, ", "Now "]) + question[0].lower() + question[1:]
    answer = ", ".join(facts.NUMBERS[n] if in_words else str(n) for n in numbers)
    return say(question, answer, f"I count from {numbers[0]} to {numbers[-1]}.")


LARGER = (
    "Which is larger, {a} or {b}?;Which number is larger, {a} or {b}?;"
    "Is {a} larger than {b}, or is {b} larger?;What is the larger number, {a} or {b}?;"
    "{a} or {b}: which is larger?;Which one is larger: {a} or {b}?;Tell me which is larger, {a} or {b}.;"
    "[Compare|Please compare] {a} and {b}.;Larger: {a} or {b}?",
    "Of {a} and {b}, which is larger?;Please tell me which number is larger: {a} or {b}",
)


def comparing(rng: random.Random, kept_out: bool) -> Turn:
    """The larger of two different numbers up to twenty."""
    a, b = rng.sample(range(1, 21), 2)
    large, small = max(a, b), min(a, b)
    question = ask(rng, kept_out, *LARGER, a=a, b=b)
    return say(
        question,
        f"{large} is larger than {small}.",
        f"{large} - {small} = {large - small}, so {large} is larger.",
    )
