"""What the demo model knows: small closed tables, combined with phrasings by the behaviours.

This module holds facts only. It knows nothing about wording, dialogues or training.
"""

from __future__ import annotations


def _pairs(text: str, between: str = "=") -> dict[str, str]:
    """`a=b|c=d` as a dictionary; line breaks after a separator are ignored."""
    return dict(item.split(between, 1) for item in text.replace("\n", "").split("|"))


def _words(text: str) -> list[str]:
    return text.replace("\n", "").split("|")


CAPITALS = _pairs(
    """France=Paris|Italy=Rome|Spain=Madrid|Germany=Berlin|Portugal=Lisbon|Austria=Vienna|Switzerland=Bern|
Belgium=Brussels|the Netherlands=Amsterdam|Denmark=Copenhagen|Sweden=Stockholm|Norway=Oslo|
Finland=Helsinki|Iceland=Reykjavik|Ireland=Dublin|the United Kingdom=London|England=London|
Poland=Warsaw|Hungary=Budapest|Greece=Athens|Russia=Moscow|Ukraine=Kyiv|Turkey=Ankara|Egypt=Cairo|
Kenya=Nairobi|Morocco=Rabat|India=New Delhi|China=Beijing|Japan=Tokyo|South Korea=Seoul|
Thailand=Bangkok|Vietnam=Hanoi|Australia=Canberra|Canada=Ottawa|the United States=Washington, D.C.|
the USA=Washington, D.C.|Mexico=Mexico City|Cuba=Havana|Brazil=Brasilia|Argentina=Buenos Aires|
Chile=Santiago|Peru=Lima"""
)

COLOURS = {
    thing: colour
    for colour, things in {
        "blue": ["the sky", "the sea", "the ocean", "a blueberry"],
        "green": ["grass", "a leaf", "a frog", "a cucumber", "spinach"],
        "red": ["blood", "a tomato", "a strawberry", "a cherry", "a fire engine"],
        "yellow": ["a banana", "a lemon", "the sun", "butter"],
        "white": ["snow", "milk", "salt", "a swan"],
        "black": ["coal", "a crow", "tar"],
        "orange": ["a carrot", "a pumpkin", "an orange"],
        "brown": ["chocolate", "wood", "coffee"],
        "pink": ["a flamingo", "a pig"],
        "grey": ["an elephant", "a mouse"],
    }.items()
    for thing in things
}

LANGUAGES = ["Spanish", "French", "German"]
TRANSLATIONS = {
    row.split()[0]: row.split()[1:]
    for row in """hello hola bonjour hallo
goodbye adiós au_revoir auf_Wiedersehen
thanks gracias merci danke
yes sí oui ja
no no non nein
dog perro chien Hund
cat gato chat Katze
house casa maison Haus
water agua eau Wasser
bread pan pain Brot
book libro livre Buch
tree árbol arbre Baum
sun sol soleil Sonne
moon luna lune Mond
star estrella étoile Stern
friend amigo ami Freund
love amor amour Liebe
milk leche lait Milch
apple manzana pomme Apfel
red rojo rouge rot
blue azul bleu blau
green verde vert grün
fish pescado poisson Fisch
bird pájaro oiseau Vogel
horse caballo cheval Pferd
car coche voiture Auto
school escuela école Schule
city ciudad ville Stadt
night noche nuit Nacht
day día jour Tag
fire fuego feu Feuer
snow nieve neige Schnee
rain lluvia pluie Regen
flower flor fleur Blume
mother madre mère Mutter
father padre père Vater
table mesa table Tisch
door puerta porte Tür
coffee café café Kaffee
music música musique Musik""".splitlines()
}
TRANSLATIONS = {word: [other.replace("_", " ") for other in others] for word, others in TRANSLATIONS.items()}

EMOJI = _pairs(
    """happy=😊|sad=😢|angry=😠|love=❤️|cat=🐱|dog=🐶|fish=🐟|bird=🐦|horse=🐴|sun=☀️|moon=🌙|star=⭐|fire=🔥|water=💧|
rain=🌧️|snow=❄️|tree=🌳|flower=🌸|apple=🍎|banana=🍌|pizza=🍕|coffee=☕|tea=🍵|cake=🎂|party=🎉|music=🎵|
book=📚|car=🚗|plane=✈️|rocket=🚀|robot=🤖|computer=💻|phone=📱|house=🏠|key=🔑|money=💰|ghost=👻|penguin=🐧|
snake=🐍|rainbow=🌈"""
)

# Questions in Chinese, Japanese and Korean: (country, capital) in the language of the question.
CJK_CAPITALS = {
    "zh": _pairs(
        "法国=巴黎|日本=东京|中国=北京|德国=柏林|英国=伦敦|意大利=罗马|西班牙=马德里|韩国=首尔|俄罗斯=莫斯科|美国=华盛顿"
    ),
    "ja": _pairs(
        "フランス=パリ|日本=東京|中国=北京|ドイツ=ベルリン|イギリス=ロンドン|イタリア=ローマ|スペイン=マドリード|韓国=ソウル"
    ),
    "ko": _pairs("프랑스=파리|일본=도쿄|중국=베이징|독일=베를린|영국=런던|한국=서울"),
}
CJK_WORDS = _pairs(
    "dog=犬|cat=猫|water=水|fire=火|sun=日|moon=月|tree=木|mountain=山|river=川|person=人|rain=雨|flower=花|fish=魚|bird=鳥"
)
CJK_LINES = {
    "Chinese": "今天天气很好，我们去公园吧。",
    "Japanese": "今日はいい天気ですね。",
    "Korean": "오늘은 날씨가 좋습니다.",
}
EMOJI_LINE = "Rain 🌧️, then sun ☀️, then a rainbow 🌈!"

NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen "
    "eighteen nineteen twenty"
).split()

SPELLING = (
    "cat dog sun sea sky red bed pen cup hat map box key car bus tea ice egg fox owl bee cow pig hen ant "
    "book tree fish bird moon star rain snow wind fire road lake milk cake rice salt ship boat door desk "
    "lamp hand foot "
    "nose leaf rose gold blue pink bear wolf lion duck frog goat corn soup bread water apple house horse "
    "mouse green "
    "white black brown chair table clock phone plant grape lemon peach melon tiger zebra sheep snake "
    "cloud river ocean "
    "stone paper music piano train plane robot token model world hello happy smile heart banana cherry "
    "orange yellow "
    "purple garden window bottle pencil school friend summer winter server"
).split()

COPY_WORDS = (
    "the a my your this some every we you they she he it is was will can likes sees wants makes takes "
    "has and or but "
    "not very today tomorrow here there always never with from to at for over under new old little great "
    "test quick "
    "lazy jumps code python data cache memory batch stream request response prompt fast engine page "
    "letter number "
    "answer question open source stop start go left right big small good bad one two three four five"
).split()

CITIES = _words(
    """Boston|Paris|London|Berlin|Rome|Madrid|Tokyo|New York|San Francisco|Los Angeles|Chicago|Seattle|
Austin|Dallas|Denver|Miami|Toronto|Vancouver|Montreal|Sydney|Melbourne|Dublin|Lisbon|Vienna|Zurich|
Munich|Hamburg|Amsterdam|Brussels|Prague|Warsaw|Budapest|Athens|Oslo|Stockholm|Helsinki|Moscow|
Istanbul|Cairo|Nairobi|Mumbai|Delhi|Singapore|Hong Kong|Shanghai|Beijing|Seoul|Osaka|Kyoto|Bangkok|
Lima|Santiago|Barcelona|Milan|Venice|Oxford|Boston, MA|San Francisco, CA|New York, NY|Paris, France|
London, UK|Berlin, Germany"""
)

ZONES = _words(
    """Europe/Berlin|Europe/Paris|Europe/London|Europe/Rome|Europe/Madrid|America/New_York|America/Chicago|
America/Los_Angeles|America/Toronto|Asia/Tokyo|Asia/Shanghai|Asia/Singapore|Asia/Seoul|
Australia/Sydney|Africa/Cairo"""
)

PEOPLE = (
    "Alice Bob Carol David Emma Frank Grace Henry Ivy Jack Kate Liam Mia Noah Olivia Peter Rose Sam Tom "
    "Wendy Zoe Anna "
    "Ben Clara Daniel Eva Felix Hannah Julia Karl Laura Max Nina Oscar Paul Ruth Simon Maria John Jane "
    "Ada Alan Leo Lucy "
    "Mark Marie Nora Omar Priya Ravi Sara Theo Yuki Chen Ali Luis Sofia James"
).split()

SHADES = ["red", "blue", "green", "yellow", "black", "white", "orange", "pink", "brown", "purple"]
ITEMS = [
    "apple",
    "banana",
    "lemon",
    "pear",
    "book",
    "pen",
    "lamp",
    "cup",
    "chair",
    "clock",
    "phone",
    "ticket",
]

POSITIVE = _words(
    """I love this film|This is wonderful|What a great day|The food was delicious|I am very happy with it|
Excellent service|The best book I have read|Works perfectly|Amazing quality|
I really enjoyed the concert|Such a lovely hotel|The staff were friendly|I would buy it again|
Fantastic phone|It made my day|The trip was great"""
)
NEGATIVE = _words(
    """I hate this film|This is terrible|What an awful day|The food was cold|I am very unhappy with it|
Horrible service|The worst book I have read|It broke after one day|Poor quality|
I did not enjoy the concert|Such a dirty hotel|The staff were rude|I want my money back|
Useless phone|It ruined my day|The trip was a disaster"""
)

# path: (what it does, what one uses it for)
ENDPOINTS = {
    "/v1/chat/completions": ("answers chat messages", "chat"),
    "/v1/completions": ("continues a plain text prompt", "text completion"),
    "/v1/models": ("lists the served models", "the list of models"),
    "/health": ("says whether the server is alive", "health checks"),
    "/version": ("gives the version of the server", "the version"),
}
# flag: (what it does, what one wants to do with it)
FLAGS = {
    "--model": ("chooses the model to serve", "serve another model"),
    "--host": ("sets the address that the server listens on", "change the address"),
    "--port": ("sets the port that the server listens on", "change the port"),
    "--api-key": ("sets the key that clients must send", "require an API key"),
    "--dtype": ("sets the number type of the weights", "change the number type"),
    "--max-model-len": ("limits the context length in tokens", "limit the context length"),
    "--served-model-name": ("sets the model name that clients use", "rename the model"),
    "--chat-template": ("sets the file with the chat template", "use another chat template"),
    "--generation-config": (
        "chooses where default sampling values come from",
        "change the default sampling values",
    ),
    "--config": ("reads the settings from a file", "read settings from a file"),
    "--num-gpu-blocks-override": ("fixes the number of cache blocks", "fix the number of cache blocks"),
    "--kv-cache-memory-bytes": ("sets the memory for the KV cache", "set the memory of the KV cache"),
    "--max-num-seqs": ("limits how many requests run at once", "limit the number of running requests"),
    "--max-num-batched-tokens": ("limits the tokens in one step", "limit the tokens in a step"),
    "--block-size": ("sets how many tokens a cache block holds", "change the size of a cache block"),
    "--seed": ("sets the random seed", "fix the random seed"),
    "--enforce-eager": ("turns off graph capture", "turn off graph capture"),
    "--shutdown-timeout": (
        "sets how long running requests may finish at shutdown",
        "wait for requests at shutdown",
    ),
}

JOKE = "Why did the server go to the doctor? It had too many requests."
POEM = "Soft rain on the roof,\nthe little server hums on,\none word at a time."
STORY = "A small robot kept a lighthouse. One night a lost boat saw the light and came home, and the robot was happy."

UNKNOWN = _words(
    """quantum physics|the French Revolution|Hamlet|black holes|photosynthesis|the stock market|
the moon landing|Napoleon|Einstein|Shakespeare|the Roman Empire|evolution|DNA|the human heart|
climate change|football|the last election|the president|inflation|taxes|chess openings|
guitar chords|a pasta recipe|yoga|dinosaurs|volcanoes|the pyramids|bitcoin|the Linux kernel|Rust|
Java|Kubernetes|SQL joins|machine learning|neural networks|vaccines|gravity|prime numbers|calculus|
philosophy|opera|jazz|Star Wars|Harry Potter|wine|cheese|fashion|gardening|the Titanic|
Mount Everest|tennis|sleep|the meaning of life"""
)
UNKNOWN_PLACES = _words(
    "Atlantis|Wakanda|Narnia|Mordor|Utopia|Tuvalu|Nauru|Bhutan|Mongolia|Laos|Fiji|Chad|Mali|Niger|Malta|Cyprus|Estonia|Latvia"
)
