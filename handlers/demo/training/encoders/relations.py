"""What the tables say, in words: questions and statements for each pair of columns."""

from __future__ import annotations

from dataclasses import dataclass

from specserve.handlers.demo.training import facts
from specserve.handlers.demo.training.encoders import tables


@dataclass(frozen=True)
class Relation:
    """What a table says of {a}: {b}. `questions` are trained, `kept` are not; both as in `grammar`."""

    name: str
    rows: list[list[str]]
    subject: int
    value: int
    questions: str
    kept: str
    statements: str


COLOUR_ROWS = [[thing, colour] for thing, colour in facts.COLOURS.items()]
FLAG_ROWS = [[flag, does, wanted] for flag, (does, wanted) in facts.FLAGS.items()]
ENDPOINT_ROWS = [[path, does, use] for path, (does, use) in facts.ENDPOINTS.items()]
PEOPLE, ANIMALS, JOBS, FOODS, SPORTS = tables.PEOPLE, tables.ANIMALS, tables.JOBS, tables.FOODS, tables.SPORTS

RELATIONS = [
    Relation(
        "capital",
        tables.COUNTRIES,
        0,
        1,
        "What is the capital of {a}?;Which city is the capital of {a}?;capital of {a};{a} capital;"
        "Name the capital city of {a}.;"
        "What is {a}'s capital?;seat of government of {a};{b} is the capital of which country?;"
        "Where is the government of {a}?",
        "Do you know which town is the capital of {a}?",
        "{b} is the capital of {a}.;The capital of {a} is {b}.;{a}'s capital city is {b}.;"
        "{b}, the capital of {a}, is a large city.;"
        "The government of {a} sits in {b}.",
    ),
    Relation(
        "continent",
        tables.COUNTRIES,
        0,
        2,
        "On which continent is {a}?;Where is {a}?;{a} continent;In what part of the world is {a}?;Is {a} in {b}?;"
        "Where is {a} located on the map?",
        "To which continent does {a} belong?",
        "{a} is a country in {b}.;{a} lies in {b}.;{a} is on the continent of {b}.",
    ),
    Relation(
        "language",
        tables.COUNTRIES,
        0,
        3,
        "Which language is spoken in {a}?;What do people speak in {a}?;language of {a};official language {a};"
        "What language do they speak in {a}?",
        "In which tongue do people in {a} talk?",
        "People in {a} speak {b}.;The language of {a} is {b}.;{b} is spoken in {a}.",
    ),
    Relation(
        "currency",
        tables.COUNTRIES,
        0,
        4,
        "What is the currency of {a}?;money in {a};How do you pay in {a}?;Which money is used in {a}?;{a} currency",
        "Which cash do I need in {a}?",
        "The currency of {a} is the {b}.;In {a} one pays with the {b}.;The {b} is the money of {a}.",
    ),
    Relation(
        "class",
        ANIMALS,
        0,
        1,
        "What kind of animal is the {a}?;Is the {a} a {b}?;{a} animal class",
        "Which class of animals does the {a} belong to?",
        "The {a} is a {b}.;{a}s are {b}s.;A {a} belongs to the {b}s.",
    ),
    Relation(
        "eats",
        ANIMALS,
        0,
        2,
        "What does a {a} eat?;food of {a}s;What do {a}s feed on?;diet of the {a}",
        "On what does the {a} live?",
        "{a}s eat {b}.;The {a} feeds on {b}.;A {a} lives on {b}.",
    ),
    Relation(
        "lives",
        ANIMALS,
        0,
        3,
        "Where does the {a} live?;habitat of {a}s;Where do {a}s live?;home of the {a}",
        "In which place can one find a {a}?",
        "The {a} lives in the {b}.;{a}s are found in the {b}.;The home of the {a} is the {b}.",
    ),
    Relation(
        "young",
        ANIMALS,
        0,
        4,
        "What is a baby {a} called?;name of a young {a};{a} baby",
        "How do you call the young of the {a}?",
        "A young {a} is called a {b}.;The baby of a {a} is a {b}.",
    ),
    Relation(
        "habit",
        ANIMALS,
        0,
        5,
        "What is special about the {a}?;What does the {a} do?;habits of {a}s",
        "Tell me something about {a}s.",
        "The {a} {b}.;A {a} {b}.",
    ),
    Relation(
        "work",
        PEOPLE,
        0,
        2,
        "What is {a} known for?;Why is {a} famous?;Who is known for {b}?;Who made {b}?;What did {a} do?;{b};"
        "Who is behind {b}?",
        "For what do we remember {a}?",
        "{a} is known for {b}.;{a} is famous for {b}.;We owe {b} to {a}.;{b} made {a} famous.",
    ),
    Relation(
        "trade",
        PEOPLE,
        0,
        1,
        "Who was {a}?;What was the profession of {a}?;{a};Was {a} a {b}?",
        "By which work did {a} earn a living?",
        "{a} was a {b}.;The {b} {a} is known everywhere.;{a} worked as a {b}.",
    ),
    Relation(
        "origin",
        PEOPLE,
        0,
        3,
        "Where was {a} from?;From which country did {a} come?;{a} birthplace;Where was {a} born?",
        "What was the home country of {a}?",
        "{a} came from {b}.;{a} was born in {b}.",
    ),
    Relation(
        "city",
        tables.LANDMARKS,
        0,
        2,
        "Where is the {a}?;In which city is the {a}?;{a} location;Where can I see the {a}?;{a} {b}",
        "Which town must I visit to see the {a}?",
        "The {a} is in {b}.;The {a} stands in {b}.;In {b} one can visit the {a}.",
    ),
    Relation(
        "land",
        tables.LANDMARKS,
        0,
        3,
        "In which country is the {a}?;{a} country;Is the {a} in {b}?",
        "To which country must I go for the {a}?",
        "The {a} is in {b}.;{b} is the home of the {a}.;The {a} is a sight of {b}.",
    ),
    Relation(
        "sight",
        tables.LANDMARKS,
        0,
        1,
        "What is the {a}?;Tell me about the {a}.;{a}",
        "What sort of building is the {a}?",
        "The {a} is a famous {b}.;The {a} is a {b} that many tourists visit.",
    ),
    Relation(
        "place",
        tables.GEOGRAPHY,
        0,
        2,
        "Where is the {a}?;{a} location;In which part of the world is the {a}?",
        "Where on the map do I find the {a}?",
        "The {a} is in {b}.;You find the {a} in {b}.",
    ),
    Relation(
        "what",
        tables.GEOGRAPHY,
        0,
        3,
        "What is the {a}?;What is {b}?;{b};Which is {b}?;Tell me about the {a}.;Name {b}.",
        "What do you know about the {a}?",
        "The {a} is {b}.;{b} is the {a}.",
    ),
    Relation(
        "use",
        tables.USES,
        0,
        1,
        "What is a {a} for?;What do I need to {b}?;With what can I {b}?;tool to {b};How can I {b}?;use of a {a};"
        "I want to {b};What can you do with a {a}?",
        "Which thing helps to {b}?",
        "A {a} is used to {b}.;You can {b} with a {a}.;People use a {a} to {b}.;With a {a} one can {b}.",
    ),
    Relation(
        "does",
        JOBS,
        0,
        1,
        "What does a {a} do?;Who {b}?;work of a {a};job of a {a};person who {b}",
        "What is the task of a {a}?",
        "A {a} {b}.;The {a} is somebody who {b}.;{a}: a person who {b}.",
    ),
    Relation(
        "workplace",
        JOBS,
        0,
        2,
        "Where does a {a} work?;workplace of a {a};Who works in a {b}?",
        "In which place does a {a} earn money?",
        "A {a} works in a {b}.;The workplace of a {a} is the {b}.",
    ),
    Relation(
        "field",
        SPORTS,
        0,
        1,
        "Where is {a} played?;What do you play {a} on?;{a} field",
        "On what kind of ground does one play {a}?",
        "{a} is played on {b}.;For {a} one needs {b}.",
    ),
    Relation(
        "gear",
        SPORTS,
        0,
        2,
        "What do I need for {a}?;equipment for {a};{a} gear",
        "Which things must I buy for {a}?",
        "For {a} you need {b}.;{a} is played with {b}.",
    ),
    Relation(
        "team",
        SPORTS,
        0,
        3,
        "How many players are in {a}?;size of a {a} team;How many people play {a}?",
        "What is the number of players in {a}?",
        "In {a} there is {b} on a side.;A side in {a} has {b}.",
    ),
    Relation(
        "made",
        FOODS,
        0,
        1,
        "What is {a} made of?;ingredients of {a};How is {a} made?;What goes into {a}?;{a} recipe",
        "From what does one make {a}?",
        "{a} is made of {b}.;{a} is made from {b}.;You need {b} to make {a}.",
    ),
    Relation(
        "from",
        FOODS,
        0,
        2,
        "Where does {a} come from?;origin of {a};Which country is {a} from?",
        "In which country was {a} first made?",
        "{a} comes from {b}.;{a} was first made in {b}.",
    ),
    Relation(
        "colour",
        COLOUR_ROWS,
        0,
        1,
        "What colour is {a}?;What color is {a}?;colour of {a};Is {a} {b}?;Which colour does {a} have?",
        "In which colour do we see {a}?",
        "{a} is {b}.;The colour of {a} is {b}.;{a} has a {b} colour.",
    ),
    Relation(
        "unit",
        tables.UNITS,
        0,
        1,
        "What is the unit of {a}?;In what is {a} measured?;{a} unit",
        "How do physicists measure {a}?",
        "The unit of {a} is the {b}.;{a} is measured in {b}s.",
    ),
    Relation(
        "symbol",
        tables.SYMBOLS,
        0,
        1,
        "What is the chemical symbol of {a}?;symbol for {a};{a} symbol",
        "How do chemists write {a}?",
        "The symbol of {a} is {b}.;{b} stands for {a} in the periodic table.",
    ),
    Relation(
        "year",
        tables.YEARS,
        0,
        1,
        "When was {a}?;In which year was {a}?;year of {a};date of {a};When did {a} happen?",
        "At what time in history was {a}?",
        "{a} was in {b}.;In {b} there was {a}.;{a} happened in the year {b}.",
    ),
    Relation(
        "flag",
        FLAG_ROWS,
        0,
        1,
        "What does {a} do?;Which flag {b}?;{a};meaning of {a}",
        "What is the flag {a} good for?",
        "The flag {a} {b}.;{a} {b}.",
    ),
    Relation(
        "flag use",
        FLAG_ROWS,
        2,
        0,
        "How do I {a}?;{a};I want to {a}.;Which flag do I need to {a}?",
        "Can you tell me how to {a}?",
        "Use {b} to {a}.;To {a}, start the server with {b}.",
    ),
    Relation(
        "endpoint",
        ENDPOINT_ROWS,
        0,
        1,
        "What does {a} do?;Which endpoint {b}?;{a}",
        "What is the path {a} good for?",
        "The endpoint {a} {b}.;{a} {b}.",
    ),
]
