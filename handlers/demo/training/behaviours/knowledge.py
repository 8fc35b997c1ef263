"""Facts: capitals, colours, translations of single words, emoji, and lines in three Asian languages."""

from __future__ import annotations

import random

from specserve.handlers.demo.training import facts
from specserve.handlers.demo.training.grammar import (
    Turn,
    ask,
    capitalised,
    quoted,
    say,
    short_or_full,
    wording,
)

CAPITAL = (
    "What is the capital of {c}[?|];What's the capital [city |]of {c}[?|];"
    "Which city is the capital of {c}?;Name the capital of {c}.;"
    "Tell me the capital of {c}.;The capital of {c}[?|];"
    "[Do you know|Can you tell me|I want to know|Could you say] the capital of {c}?;"
    "capital of {c};What is {c}'s capital[ city|]?;[Give me|Say|I need] the capital of {c}.;"
    "Which city is {c}'s capital?;"
    "What city is the capital of {c}?;What capital does {c} have?;{c} - what is the capital?;"
    "What is the name of the capital of {c}?;"
    "The capital city of {c} is?;Which is the capital of {c}?;I want to know what the capital of {c} is.;"
    "What was the capital of {c} again?;"
    "Name {c}'s capital.;[Do you know|Can you say] what the capital of {c} is?",
    "Which capital belongs to {c}?;Please name {c}'s capital city.;"
    "Do you happen to know what the capital of {c} is?;"
    "I forgot the capital of {c}, what was it?",
)
AND_OF = (
    "And of {x}?;And {x}?;What about {x}?;And the one of {x}?;And for {x}?;How about {x}?;Now {x}.;And what about {x}?",
    "OK, and {x}?;Same question for {x}.",
)


def capitals(rng: random.Random, kept_out: bool) -> Turn:
    """The capital of a country, with elliptical questions about other countries to follow."""

    def follow(rng: random.Random, kept_out: bool) -> Turn:
        other = rng.choice(list(facts.CAPITALS))
        answer = f"The capital of {other} is {facts.CAPITALS[other]}."
        return say(wording(rng, kept_out, *AND_OF, x=other), answer, answer)

    country, city = rng.choice(list(facts.CAPITALS.items()))
    full = f"The capital of {country} is {city}."
    return short_or_full(rng, kept_out, ask(rng, kept_out, *CAPITAL, c=country), full, city, full, follow)


COLOUR = (
    "What {w} is {t}[?|];What is the {w} of {t}[?|];Which {w} does {t} have?;Which {w} is {t}?;"
    "Tell me the {w} of {t}.;"
    "[Do you know|Can you tell me] the {w} of {t}?;{w} of {t};Name the {w} of {t}.;{t}: which {w}?;"
    "What {w} does {t} have?;"
    "What's the {w} of {t}?;I want to know the {w} of {t}.;Say the {w} of {t}.;"
    "Can you say what {w} {t} is?;Do you know which {w} {t} has?",
    "What would you say is the {w} of {t}?;{t} has which {w}?",
)


def colours(rng: random.Random, kept_out: bool) -> Turn:
    """The colour of a thing, with elliptical questions about other things to follow."""

    def follow(rng: random.Random, kept_out: bool) -> Turn:
        other = rng.choice(list(facts.COLOURS))
        answer = f"{capitalised(other)} is {facts.COLOURS[other]}."
        return say(wording(rng, kept_out, *AND_OF, x=other), answer, answer)

    thing, colour = rng.choice(list(facts.COLOURS.items()))
    full = f"{capitalised(thing)} is {colour}."
    question = capitalised(ask(rng, kept_out, *COLOUR, t=thing, w=rng.choice(["colour", "color"])))
    return short_or_full(rng, kept_out, question, full, colour, full, follow)


TRANSLATE = (
    "How do you say {w} in {l}[?|];What is {w} in {l}[?|];Translate {w} [to|into] {l}[.|];"
    "What is the {l} word for {w}[?|];"
    "Translate the word {w} [to|into] {l}[.|];What does {w} mean in {l}?;{w} in {l};"
    "How [do|would|can] I say {w} in {l}?;"
    "Give me the {l} word for {w}.;What's {w} in {l}?;Tell me the {l} word for {w}.;"
    "Translate to {l}: {w};How is {w} called in {l}?;"
    "In {l}, what is {w}?;What is the {l} translation of {w}?;Say {w} in {l}.;{w}, in {l}?;"
    "Which {l} word means {w}?;"
    "What would you call {w} in {l}?;The {l} word for {w}?;I need {w} in {l}.",
    "What would {w} be in {l}?;I need the {l} translation of {w}.;Which word do {l} speakers use for {w}?",
)
AND_IN = (
    "And in {x}?;What about {x}?;And {x}?;Now in {x}.;In {x}?;How about {x}?;And what is it in {x}?",
    "OK, and in {x}?;Then in {x}?",
)


def translations(rng: random.Random, kept_out: bool) -> Turn:
    """One English word in another language; the same word in a further language may follow."""
    word = rng.choice(list(facts.TRANSLATIONS))

    def answer_in(index: int) -> str:
        return f"The {facts.LANGUAGES[index]} word for {word} is {facts.TRANSLATIONS[word][index]}."

    def follow(rng: random.Random, kept_out: bool) -> Turn:
        index = rng.randrange(len(facts.LANGUAGES))
        answer = answer_in(index)
        return say(wording(rng, kept_out, *AND_IN, x=facts.LANGUAGES[index]), answer, answer)

    index = rng.randrange(len(facts.LANGUAGES))
    question = ask(rng, kept_out, *TRANSLATE, w=quoted(rng, word), l=facts.LANGUAGES[index])
    full = answer_in(index)
    return short_or_full(rng, kept_out, question, full, facts.TRANSLATIONS[word][index], full, follow)


EMOJI = (
    "[Give|Show|Send] me [an|the] emoji for {n}[.|];What is the emoji for {n}[?|];"
    "Which emoji [means|is|shows|stands for] {n}?;"
    "Emoji for {n}[.|?|];{n} emoji;Answer with an emoji: {n};I need [an|the] emoji for {n}.;"
    "Express {n} as an emoji.;"
    "Can you give me [an emoji for {n}|a {n} emoji]?;What does a {n} emoji look like?;"
    "Write {n} as an emoji.;Which emoji is there for {n}?;"
    "Is there an emoji for {n}?;Use an emoji to say {n}.",
    "Reply with an emoji for {n}.;Which emoji would you use for {n}?",
)
EMOJI_SENTENCE = (
    "Write a [line|sentence] with emoji[s|].;[Give me|I want] a [line|sentence] with emoji[s|].;"
    "A line with [some |]emoji, please.;Use some emoji in a sentence.",
    "Please write a line with emoji in it.;Could you use emoji in a sentence?",
)


def emoji(rng: random.Random, kept_out: bool) -> Turn:
    """The emoji for a word; now and then a whole line with emoji."""
    if rng.random() < 0.07:
        return say(ask(rng, kept_out, *EMOJI_SENTENCE), facts.EMOJI_LINE, "I write a line with emoji.")
    name, symbol = rng.choice(list(facts.EMOJI.items()))
    return say(ask(rng, kept_out, *EMOJI, n=name), symbol, f"The emoji for {name} is {symbol}.")


# Language: (seen wordings, kept-out wordings, answer); {c} is the country, {a} its capital.
CJK_CAPITAL = {
    "zh": (
        "{c}的首都是哪里？;{c}的首都是什么？;{c}的首都叫什么？;{c}首都是哪里？;请问{c}的首都是哪里？;"
        "你知道{c}的首都吗？;{c}的首都？;告诉我{c}的首都。",
        "哪个城市是{c}的首都？;请告诉我{c}的首都是哪里。",
        "{c}的首都是{a}。",
    ),
    "ja": (
        "{c}の首都はどこですか？;{c}の首都は何ですか？;{c}の首都は？;{c}の首都を教えて。;"
        "{c}の首都はどこ？;{c}の首都を知っていますか？;{c}の首都の名前は？",
        "{c}の首都を教えてください。;{c}の首都は何という都市ですか？",
        "{c}の首都は{a}です。",
    ),
    "ko": (
        "{c}의 수도는 어디입니까?;{c}의 수도는 어디예요?;{c}의 수도는?;{c}의 수도를 알려줘.;"
        "{c}의 수도가 어디야?;{c} 수도는 어디입니까?",
        "{c}의 수도를 알려 주세요.;{c}의 수도는 무엇입니까?",
        "{c}의 수도는 {a}입니다.",
    ),
}
CJK_HELLO = [
    ("你好[！|。|]|您好[！|]|早上好[！|]|你好吗？|嗨[！|]", "大家好！;你好啊！", "你好！有什么可以帮您？"),
    (
        "こんにちは[！|。|]|おはようございます[！|。|]|こんばんは[！|。|]|はじめまして[。|]",
        "やあ、こんにちは！;どうも、こんにちは。",
        "こんにちは！ご用は何ですか？",
    ),
    (
        "안녕하세요[!|.|?|]|안녕[!|]|반갑습니다[!|.|]",
        "여보세요, 안녕하세요!;네, 안녕하세요.",
        "안녕하세요! 무엇을 도와드릴까요?",
    ),
    ("谢谢[！|。|]|多谢[！|]|谢谢你[！|。|]|非常感谢[！|]", "谢谢您！;好的，谢谢。", "不客气！"),
    (
        "ありがとう[！|。|]|ありがとうございます[！|。|]|どうもありがとう[。|]",
        "本当にありがとう！;はい、ありがとうございます。",
        "どういたしまして！",
    ),
]
CJK_LINE = (
    "Write a [sentence|line] in {l}.;[Say|Write] something in {l}[.|];A [line|sentence] in {l}, please.;"
    "[Give me|Show me|I want] a [line|sentence] in {l}.;"
    "Can you write {l}?;Do you speak {l}?;[Say|Write] a sentence in {l}.;Speak {l}.",
    "Please write me a line in {l}.;Could you say something in {l}?",
)
CJK_WORD = (
    "What is the [Chinese character|kanji|character] for {w}?;"
    "[Write|Show me] the [kanji|character] for {w}.;Which [kanji|character] means {w}?;"
    "Write {w} as a [kanji|Chinese character].;[Kanji|Character] for {w}[?|];"
    "Give me the [kanji|character] for {w}.",
    "Please write the kanji for {w}.;Which Chinese character stands for {w}?",
)


def cjk(rng: random.Random, kept_out: bool) -> Turn:
    """Short exchanges in Chinese, Japanese and Korean."""
    roll = rng.random()
    if roll < 0.5:
        language = rng.choices(list(CJK_CAPITAL), [10, 8, 6])[0]
        country, city = rng.choice(list(facts.CJK_CAPITALS[language].items()))
        seen, kept, answer = CJK_CAPITAL[language]
        text = answer.replace("{c}", country).replace("{a}", city)
        return say(wording(rng, kept_out, seen, kept, c=country), text, text)
    if roll < 0.68:
        seen, kept, answer = rng.choice(CJK_HELLO)
        return say(
            wording(rng, kept_out, f"[{_options(seen)}]", kept),
            answer,
            "The user is polite. I answer in the same language.",
        )
    if roll < 0.82:
        language, line = rng.choice(list(facts.CJK_LINES.items()))
        return say(ask(rng, kept_out, *CJK_LINE, l=language), line, f"I write a line in {language}.")
    word, sign = rng.choice(list(facts.CJK_WORDS.items()))
    return say(ask(rng, kept_out, *CJK_WORD, w=quoted(rng, word)), sign, f"The character for {word} is {sign}.")


def _options(seen: str) -> str:
    return seen
