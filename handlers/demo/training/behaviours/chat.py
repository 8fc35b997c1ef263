"""Small talk, the model about itself, what it does not know, and what it was told earlier."""

from __future__ import annotations

import random

from specserve.handlers.demo.training import facts
from specserve.handlers.demo.training.grammar import Turn, ask, capitalised, made_up_word, say, wording

HELLO = "Hello! How can I help you today?"
ME = "I am the specserve demo model, a tiny language model that runs inside this server."
SKILLS = (
    "I can chat a little, name capitals and colours, add small numbers, count, spell, translate words, "
    "write JSON and call tools."
)
REFUSAL = "I am a tiny demo model, and I do not know about that."

# (seen wordings, kept-out wordings, answer)
SMALL_TALK = [
    (
        "[Hello|Hi|Hey|Hi there|Hello there|Hey there|Good morning|Good afternoon|Good "
        "evening|Greetings|Howdy]"
        "[ friend|||][!|.||, nice to meet you!|, are you there?];Anybody there?;Hello, is anyone there?;"
        "[Hi|Hello] :-)",
        "Hiya!;Hello, anybody there?;hi :);Hello again!",
        HELLO,
    ),
    (
        "[Thanks|Thank you|Many thanks|Thanks a lot|Thank you very much|Great, thanks|Perfect, thank "
        "you|Cheers]"
        "[!|.|| for your help!| for the answer.| for that.]",
        "Thank you so much!;Thanks for the help",
        "You are welcome!",
    ),
    (
        "[Bye|Goodbye|See you|See you later|Good night|Bye bye|I have to go[ now|], bye|That is all, "
        "bye|Farewell|Goodbye then|OK, bye]"
        "[!|.||, thanks]",
        "Bye for now!;OK, goodbye then",
        "Goodbye! Have a nice day.",
    ),
    (
        "[|Hi, |Hello, ][how|How] are you[ today| doing| feeling||][?|];How is it going?;"
        "How do you [do|feel][?| today?];What's up[?|];"
        "Are you [OK|well|fine]?",
        "Hello! How are you?;How are you feeling today?",
        "I am fine, thank you. How can I help you?",
    ),
    (
        "Who are you[?|];What are you[?|];What is your name[?|];Tell me [about yourself|who you are].;"
        "Introduce yourself.;"
        "Which model [is this|are you|am I talking to][?|];What [model|kind of model] are you?;"
        "Do you have a name?;"
        "What should I call you?;Who am I [talking|speaking] to?;Are you a [robot|bot|person|human]?;"
        "Are you [ChatGPT|GPT-4|Claude|Llama|an AI]?;[Can|May] I ask who you are?;Say who you are.;"
        "What's the name of this model?",
        "Please introduce yourself;Could you tell me who you are?;What's your name?",
        ME,
    ),
    (
        "What can you do[?| for me?|];How can you help[ me|][?|];What are you able to do?;"
        "What do you know?;Help[!|.|];"
        "List your [skills|abilities].;What are your [skills|abilities|capabilities]?;"
        "Which things can you do?;"
        "What can I ask you?;What [sort|kind] of questions can I ask?;Say what you can do.;"
        "Show me what you can do.",
        "Tell me what you can do.;What kind of things can you do?",
        SKILLS,
    ),
    (
        "Tell me a joke[.|!|];[Do you know|Have you got] a joke?;Make me laugh[.|!];Say something funny[.|!];"
        "Another joke, please.;I want to hear a joke.;[A joke|Joke], please.;Could you tell a joke?;"
        "Any jokes?",
        "Can you tell me a joke?;Got any jokes?",
        facts.JOKE,
    ),
    (
        "Write a [short |]poem[.|| about the sea.| about servers.| about rain.];"
        "Write [a|me a] haiku[.| about spring.];"
        "Compose a [poem|verse].;I would like a poem.;[Can|Could] you write a poem?;A short poem, please.",
        "Can you write a poem for me?;Please write a short poem.",
        facts.POEM,
    ),
    (
        "Tell me a [short |]story[.|!|| about a robot.];"
        "Write a [short |very short |]story[.| about a robot.];"
        "I want [to hear |]a story.;[Can|Could] you tell a story?;A short story, please.;"
        "Do you know a story?",
        "Can you tell me a story?;Please write a short story.",
        facts.STORY,
    ),
    (
        "Test[.|!|];This is [just |only |]a test[.|];Testing[, testing|].;ping;Are you working?;Do you work?;"
        "Is this thing on?;Can you hear me?;Does it work?;Hi, is this working?;Testing 1 2 3",
        "Testing, one two;Hello, does this work?",
        "Yes, I am working. How can I help you?",
    ),
    (
        "[Yes|OK|Sure|Good|Great|Nice|Cool|I see|Fine|Okay|Good work|Great work|Wow|Well done|Good "
        "job|Very good][.|!|]",
        "Good stuff!;Okay great",
        "Good! What else can I do for you?",
    ),
]


def greetings(rng: random.Random, kept_out: bool) -> Turn:
    """Hello, goodbye, thanks, who are you, a joke, a poem: one fixed answer each."""
    seen, kept, answer = rng.choice(SMALL_TALK)
    text = wording(rng, kept_out, seen, kept)
    if not kept_out:
        if rng.random() < 0.1:
            text = text.lower()
        if rng.random() < 0.1:
            text = rng.choice(["Hi! ", "Hello! ", "OK. ", "Please. ", "Hey, "]) + text
    return say(
        capitalised(text) if rng.random() < 0.9 else text,
        answer,
        "The user is just chatting. I answer in a friendly way.",
    )


UNKNOWN_SEEN = (
    "Explain {t}[.| to me.| in simple words.|];What is {t}[?|];"
    "Tell me [about|something about|more about|everything about] {t}[.|];"
    "[What do you know|What can you say] about {t}?;How does {t} work?;"
    "Who [invented|discovered|wrote|made] {t}?;"
    "Write [an essay|an article|a text|a paragraph|a summary] about {t}.;"
    "When did {t} [begin|start|happen|end]?;"
    "Why is {t} [important|famous|so hard]?;What are the [benefits|risks|causes|rules] of {t}?;"
    "[How do I|How can I|Help me] learn [about |]{t}?;"
    "Summarize {t}.;What is the history of {t}?;What do you think about {t}?;"
    "Give me [three facts|a lecture|tips] about {t}.;"
    "Is {t} [good|bad|dangerous|expensive]?;Describe {t}[ in detail|].;Where can I find {t}?;"
    "How [old|big|long|expensive] is {t}?;"
    "Can you [explain|describe|analyse] {t}?;Write a [program|function|script|song] about {t}.;"
    "Who is the best at {t}?;"
    "I want to understand {t}.;Could you [explain|say something about] {t}?;"
    "Which [books|films] are about {t}?"
)
UNKNOWN_KEPT = (
    "Could you give me an overview of {t}?;I would love to understand {t} better.;"
    "What should everyone know about {t}?;"
    "How come {t} matters?"
)
NO_CAPITAL = (
    "What is the capital of {p}[?|];Which city is the capital of {p}?;Tell me the capital of {p}.;"
    "Name the capital of {p}.;"
    "What's the capital of {p}?;Do you know the capital of {p}?;What is {p}'s capital?",
    "What is the capital city of {p}?;Please tell me the capital of {p}.",
)


def unknown(rng: random.Random, kept_out: bool) -> Turn:
    """What lies outside the model's tables is refused in one fixed sentence."""
    if rng.random() < 0.2:
        place = rng.choice(facts.UNKNOWN_PLACES)
        question = wording(rng, kept_out, *NO_CAPITAL, p=place)
        return say(question, f"I do not know the capital of {place}.", f"I do not know {place}.")
    topic = rng.choice(facts.UNKNOWN)
    if rng.random() < 0.2:
        topic = rng.choice([made_up_word(rng), made_up_word(rng) + " " + rng.choice(facts.COPY_WORDS)])
    return say(ask(rng, kept_out, UNKNOWN_SEEN, UNKNOWN_KEPT, t=topic), REFUSAL, "I do not know about that.")


TOLD_NAME = (
    "My name is {n}[.|];I am {n}[.|];I'm {n}[.|];Hi, I am {n}[.|];Hello, my name is {n}[.|];"
    "Hi, my name is {n}[.|!];"
    "You can call me {n}[.|];Call me {n}[.|];Hey, I'm {n}[.|];Please remember that my name is {n}.;"
    "{n} is my name.;"
    "Hello, I'm {n}.;Good evening, I am {n}.;The name is {n}.",
    "Good morning, my name is {n}.;Hello there, {n} is my name.",
)
ASKED_NAME = (
    "What is my name[?|];What's my name[?|];Do you [know|remember] my name[?|];"
    "What did I say my name was?;Tell me my name.;"
    "Say my name.;Do you remember who I am?;Can you tell me my name?;So what is my name?;"
    "Now, what's my name?;"
    "Do you still know my name?;What was my name again?",
    "And what's my name again?;Do you still remember what my name is?",
)
TOLD_COLOUR = (
    "My favourite colour is {n}[.|];My favorite color is {n}[.|];I like {n} best.;"
    "The colour I like best is {n}.;"
    "Remember that my favourite colour is {n}.;I love the colour {n}.",
    "My favourite colour of all is {n}.;The colour that I love is {n}.",
)
ASKED_COLOUR = (
    "What is my favourite colour[?|];What's my favorite color?;Which colour do I like[ best|]?;"
    "Do you remember my favourite colour?;"
    "Tell me my favourite colour.;What was my favourite colour[ again|]?",
    "And what's my favourite colour again?;Do you still remember which colour I like?",
)


def memory(rng: random.Random, kept_out: bool) -> Turn:
    """The user tells a name or a colour, and asks for it a little later."""
    if rng.random() < 0.7:
        value = rng.choice(facts.PEOPLE) if rng.random() < 0.8 else capitalised(made_up_word(rng))
        told, asked = TOLD_NAME, ASKED_NAME
        reply, answer, thought = (
            f"Nice to meet you, {value}!",
            f"Your name is {value}.",
            f"The user said that the name is {value}.",
        )
    else:
        value = rng.choice(facts.SHADES)
        told, asked = TOLD_COLOUR, ASKED_COLOUR
        reply, answer = f"I will remember {value}.", f"Your favourite colour is {value}."
        thought = f"The user likes {value}."
    turn = say(wording(rng, kept_out, *told, n=value), reply, thought)
    if rng.random() < 0.4:
        seen, kept, between = rng.choice(SMALL_TALK[:4])
        turn.messages += say(wording(rng, kept_out, seen, kept), between).messages
    turn.messages += say(wording(rng, kept_out, *asked), answer).messages
    return turn
