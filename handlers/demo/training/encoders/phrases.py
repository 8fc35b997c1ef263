"""Wordings for names nobody knows, for what somebody did, and for sentences of which only the kind matters."""

from __future__ import annotations

# A thing one may know of somebody or something, and a question that asks for it.
ATTRIBUTES = [
    tuple(pair.split("="))
    for pair in """
name=What is {n} called?|age=How old is {n}?|birthday=When was {n} born?|address=Where does {n} live?|
job=What does {n} do for a living?|
phone number=How can I call {n}?|email address=How can I write to {n}?|
favourite colour=Which colour does {n} like best?|price=How much does {n} cost?|
weight=How heavy is {n}?|height=How tall is {n}?|length=How long is {n}?|size=How big is {n}?|
colour=What colour is {n}?|speed=How fast is {n}?|
owner=Who owns {n}?|author=Who wrote {n}?|founder=Who founded {n}?|boss=Who leads {n}?|teacher=Who teaches {n}?|
friend=Who is {n}'s friend?|wife=Whom did {n} marry?|
password=How do I log in to {n}?|room=In which room is {n}?|seat=Where does {n} sit?|capital=Which city rules {n}?|
population=How many people live in {n}?|
language=What do people speak in {n}?|currency=How do you pay in {n}?|pet=Which animal does {n} have?|
hobby=What does {n} like to do?|car=What does {n} drive?|
version=Which version of {n} is current?|port=On which port does {n} run?|code=Which code belongs to {n}?|
number=Which number does {n} have?|status=How is {n} doing?|
delivery date=When will {n} arrive?|opening time=When does {n} open?|temperature=How warm is {n}?|
material=What is {n} made of?|origin=Where does {n} come from?|
year=In which year was {n}?|purpose=What is {n} for?|taste=How does {n} taste?|winner=Who won {n}?|
result=How did {n} end?|team=For whom does {n} play?
""".replace("\n", "").split("|")
]

MEETING = """The {m} and the {n} are here.;I like the {m} more than the {n}.;We talked about {c} and the {m}.;
She thinks of the {m} all day.;
A {m} is near the {n}.;There is a {m}, a {n} and a {o}.;My friend knows everything about {c}.;{c}, {d} and a {m};
The {m} belongs to {c}.;
They saw a {m} yesterday.;A book about the {m} and {c};He wants to {c} with a {m}.;Where is my {m}?;
The best {m} of all;
A {k} like the {m};Many people like {c} and {d}.;a {m} or a {n};The {m} is a nice {k}.;Look at the {m} over there.;
Our {n} is old, the {o} is new.;
The children draw a {m} and a {n}.;{m} {c};{m}s and {n}s;I dreamt of a {m} and of {c}.;
In this picture there is a {m}.;
The {m} runs in the garden.;A {m} falls on the floor.;The {m} is big.;There is a {m} on the table.;
I wait for the {m} in the rain.;
The {m} works very well.;She takes the {m} to the house.;A {m} costs a lot of money.;
We read about the {m} in the newspaper.;
The {m} goes down the street.;He has a new {m} and an old {n}.;
The {m} of my friend was good.;Nobody knows the {m} here.""".replace("\n", "").split(";")

ACTIONS = """bought a new {x};bought a {x} and a {y};sold the old {x};lost a {x};found a {x} in the street;
repaired the broken {x};cooked dinner for the children;
ate a big pizza;drank a cup of coffee;baked a cake for the party;walked to the shop;ran through the park;
drove the car to work;travelled to Italy by train;
flew to another country;missed the bus;waited at the station;visited the grandmother;called a friend;sent a letter;
received a gift;wrote a long story;read an interesting book;
watched a funny movie;listened to loud music;played the guitar;played football with friends;won the game;
lost the match;learned a new language;taught the children mathematics;
passed a difficult test;failed the exam;started a new job;left the company;asked for more money;paid the bill;
saved money for a house;moved to a small town;built a house;
cleaned the kitchen;washed the clothes;painted the wall;planted a tree in the garden;watered the flowers;fed the cat;
walked the dog;went to bed early;slept very well;woke up late;
felt sick and tired;visited the doctor;took medicine against the pain;broke a leg;cried because of the bad news;
laughed at the joke;was angry about the noise;
was afraid of the dark;was happy about the gift;told a strange story;asked a question;answered the letter;
explained the problem;forgot the password;fixed the computer;
installed a new program;deleted the file;wrote a piece of software;took beautiful pictures;climbed a high mountain;
swam in the sea;sat by the river;
saw a {x};talked about the {x};dreamt of a {x};gave away a {x};asked for a {x};hid the {x} from the others;made a {x};
showed the {x} to the guests;carried the {x} home;
put the {x} beside the {y};likes the {x};hates the {x};needs a {x};wants a {x};teaches at a school;works in an office;
lives in a big house;earns a lot of money;speaks three languages""".replace("\n", "").split(";")

TIMES = (
    "yesterday|last week|this morning|in the evening|last summer|on Monday|two days ago|at night|after lunch|"
    "before school|on the weekend|in winter"
).split("|")
OPENING = (
    "Please tell me: |I wonder, |Can you tell me |Hi, |Hello, |Question: |I would like to know |"
    "search: |query: |Do you know "
).split("|")
CLOSING = [" Thanks!", " please", " Thank you.", " Be brief.", " I need to know."]
FILLER = """This page was last changed a week ago.|Here is some more about it.|Many people ask about this.|
It is one of the things one should know.|As everybody knows, this is not new.|
More can be found below.|The following may help you.|Let us look at it more closely.|There is much more to say.|
Some of it is told in the next part.|
Please read on for details.|This is a short introduction.|In addition, there are other things of interest.|
We hope that this answers the question.|
The text was written for beginners.|For a long time nobody knew that.|It is often talked about.|Experts agree on this.|
That is all for today.|Note:""".replace("\n", "").split("|")
