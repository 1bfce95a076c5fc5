"""Small tasks about the form of a sentence: tense, number, voice, question or statement, grammatical or not."""

from __future__ import annotations

from random import Random

from hooke.data.labelled.rows import Dataset, Row
from hooke.data.labelled.tables import both, capital, finished, generator, table, words

PEOPLE = words("""the baker, my sister, a young doctor, the old farmer, our teacher, the captain, her uncle,
the gardener,
    a tall student, the nurse, my neighbour, the painter, a stranger, the widow, the mechanic, our guide""")
PLACES = words("""near the harbour, in the old kitchen, behind the school, with great care, under the bridge,
by the lake,
    without a word, in the small town, for the guests, at the market, beside the road, in the cold hall""")
# present | past | participle | what follows
VERBS = table("""
writes | wrote | written | a long letter
breaks | broke | broken | the blue vase
sings | sang | sung | an old song
draws | drew | drawn | a careful map
builds | built | built | a wooden boat
finds | found | found | the silver key
sells | sold | sold | the last ticket
steals | stole | stolen | a loaf of bread
drinks | drank | drunk | the cold tea
takes | took | taken | the heavy bag
teaches | taught | taught | the younger children
wins | won | won | the first prize
throws | threw | thrown | the red ball
hides | hid | hidden | the small box
chooses | chose | chosen | the brown hat
keeps | kept | kept | the torn photograph
paints | painted | painted | the garden gate
repairs | repaired | repaired | the broken clock
washes | washed | washed | the dirty plates
carries | carried | carried | a basket of apples
opens | opened | opened | the iron door
collects | collected | collected | the empty bottles
watches | watched | watched | the grey birds
cleans | cleaned | cleaned | the kitchen floor
follows | followed | followed | the narrow path
cooks | cooked | cooked | a pot of soup
counts | counted | counted | the gold coins
visits | visited | visited | the quiet museum
plants | planted | planted | three young trees
mends | mended | mended | the fishing nets
answers | answered | answered | the difficult question
pushes | pushed | pushed | the rusty cart
borrows | borrowed | borrowed | the black umbrella
loads | loaded | loaded | the small van
invites | invited | invited | the whole village
fills | filled | filled | the stone well
wraps | wrapped | wrapped | the birthday present
polishes | polished | polished | the leather boots
folds | folded | folded | the white sheets
studies | studied | studied | the old maps
""")
# sides that say nothing about the main clause: one in the present, one in the past
ASIDES = (
    ("who still lives alone", "who once lived abroad"),
    ("who never has much time", "who had slept badly"),
    ("whom everybody likes", "whom nobody knew before"),
)


def tense(seed: int = 0) -> Dataset:
    """Past against present (label 1: past) in the main clause, in pairs; held out: the progressive, and a clause of
    either tense between subject and verb."""
    rng = generator("tense", seed)
    rows = []
    for number, (now, past, _, rest) in enumerate(VERBS):
        topic = ("progressive" if number % 2 else "embedded") if number % 20 >= 12 else "simple"
        for drawing in range(8):
            who, where = rng.choice(PEOPLE), rng.choice(PLACES)
            if topic == "progressive":
                texts = [f"{who} {be} {ing(now)} {rest} {where}." for be in ("is", "was")]
            else:
                aside = f", {rng.choice(ASIDES)[drawing % 2]}," if topic == "embedded" else ""
                texts = [f"{who}{aside} {verb} {rest} {where}." for verb in (now, past)]
            rows += both(capital(texts[0]), capital(texts[1]), f"verb:{now}", topic, drawing)
    about = "Sentences in the present or in the past; label 1: the main verb is in the past"
    return finished("tense", about, ("present", "past"), rows, ("progressive", "embedded"))


def base(now: str) -> str:
    """The infinitive of a verb of the table, from its third person."""
    if now.endswith("ies"):
        return now[:-3] + "y"
    return now[:-2] if now.endswith(("shes", "ches")) else now[:-1]


def ing(now: str) -> str:
    """The -ing form of a verb of the table, from its third person."""
    stem = {"win": "winn", "wrap": "wrapp"}.get(base(now), base(now))
    return (stem[:-1] if stem.endswith("e") else stem) + "ing"


# singular | plural
REGULAR = table("""
dog | dogs
letter | letters
neighbour | neighbours
chair | chairs
engine | engines
window | windows
doctor | doctors
apple | apples
bridge | bridges
painter | painters
candle | candles
horse | horses
bottle | bottles
singer | singers
river | rivers
lamp | lamps
farmer | farmers
garden | gardens
button | buttons
rabbit | rabbits
drawer | drawers
soldier | soldiers
stone | stones
blanket | blankets
""")
IRREGULAR = table("""
child | children
mouse | mice
goose | geese
man | men
woman | women
foot | feet
tooth | teeth
knife | knives
wolf | wolves
leaf | leaves
""")
TAILS = words("""could be seen from afar, had been there for weeks, surprised every visitor, would soon be forgotten,
    fell into the water, might have caused the noise, belonged to a friend, came last in the story,
    should not have been moved, made us laugh""")
JOINS = (("without", "and"), ("instead of", "and later"), ("but not", "but also"), ("or perhaps", "and certainly"))
NEAR = table("""
near the gate | near the gates
behind the old house | behind the old houses
beside the table | beside the tables
under the tree | under the trees
from the other village | from the other villages
""")


def number(seed: int = 0) -> Dataset:
    """Singular against plural subjects (label 1: plural) before verbs that do not show it, with another noun of either
    number between; held out: irregular plurals, joined names, and subjects after a long opening."""
    rng = generator("number", seed)
    rows: list[Row] = []
    for one, many in (*REGULAR, *IRREGULAR):
        topic = "irregular" if (one, many) in IRREGULAR else "regular"
        if topic == "regular" and one in ("soldier", "stone", "blanket", "drawer", "button", "rabbit"):
            topic = "long opening"
        for drawing in range(8):
            near, tail = rng.choice(NEAR)[drawing % 2], rng.choice(TAILS)
            lead = ""
            if topic == "long opening":
                lead = f"On the evening of the second day, when it had begun to rain {near} again, "
            texts = [f"{lead}the {noun} {near if not lead else 'of that story'} {tail}." for noun in (one, many)]
            rows += both(capital(texts[0]), capital(texts[1]), f"noun:{one}", topic, drawing)
    names = words("Anna, Peter, Maria, Tom, Julia, David, Laura, Simon, Clara, Martin, Nadia, Oscar, Irene, Paul")
    for drawing, name in enumerate(names):
        for turn in range(2):
            other, near, tail = rng.choice([n for n in names if n != name]), rng.choice(NEAR)[turn], rng.choice(TAILS)
            texts = [f"{name} {link} {other} {near} {tail}." for link in rng.choice(JOINS)]
            rows += both(texts[0], texts[1], f"name:{name}", "joined names", drawing * 2 + turn)
    about = "Sentences whose verb does not show the number of its subject; label 1: the subject is plural"
    return finished("number", about, ("singular", "plural"), rows, ("irregular", "long opening", "joined names"))


STATES = words("""open on Sundays, ready for the guests, older than the church, too small for us, made of stone,
    still empty, close to the station, full of people, painted in green, under repair""")
THINGS = words("""the shop, the new bridge, that hotel, your garden, the museum, our boat, the small theatre, her house,
    the upper floor, the town hall, the bakery, this tower, the old mill, the school""")
ABILITIES = words("""swim across the lake, speak some Polish, play the violin, come on Monday, see the island from here,
    repair the fence, find the way alone, stay until nine""")
INDIRECT = (
    ("I would like to know whether {}", "I already know very well that {}"),
    ("Please tell me if {}", "Please believe me that {}"),
    ("What I am asking you is whether {}", "What I am telling you is that {}"),
    ("Nobody has told me yet whether {}", "Everybody has told me already that {}"),
)
WH = (
    ("where did {who} put {what}", "there {who} did put {what}"),
    ("why would {who} need {what}", "maybe {who} would need {what}"),
    ("when will {who} sell {what}", "then {who} will sell {what}"),
)


def question(seed: int = 0) -> Dataset:
    """Questions against statements without a question mark (label 1: asks). In training the same words stand in
    another order, so that a bag of words is at chance; held out: indirect questions, and questions with a wh-word."""
    rng = generator("question", seed)
    rows: list[Row] = []
    for what in THINGS:
        for turn, state in enumerate(rng.sample(STATES, 10)):
            verb = ("is", "was")[turn % 2]
            if what in THINGS[9:]:
                ask, tell = rng.choice(INDIRECT)
                said = f"{what} {verb} {state}"
                rows += both(tell.format(said), ask.format(said), f"thing:{what}", "indirect", turn)
            else:
                texts = f"{what} {verb} {state}", f"{verb} {what} {state}"
                rows += both(texts[0], texts[1], f"thing:{what}", "order", turn)
    for who in PEOPLE:
        held = who in PEOPLE[11:]
        for turn, ability in enumerate(rng.sample(ABILITIES, 8)):
            verb = ("can", "will", "could")[turn % 3]
            texts = f"{who} {verb} {ability}", f"{verb} {who} {ability}"
            if held:
                ask, tell = WH[turn % 3]
                thing = THINGS[turn]
                texts = tell.format(who=who, what=thing), ask.format(who=who, what=thing)
            rows += both(texts[0], texts[1], f"person:{who}", "with a wh-word" if held else "order", turn)
    about = "Sentences without punctuation at their end; label 1: it asks something, label 0: it states it"
    return finished("question", about, ("statement", "question"), rows, ("indirect", "with a wh-word"))


def voice(seed: int = 0) -> Dataset:
    """Active against passive (label 1: passive), with the same auxiliaries and a `by` in both; held out: the passive
    without an agent, and sentences with a long opening."""
    rng = generator("voice", seed)
    rows: list[Row] = []
    spots = words("""by the window, by the river, by the fire, by the old church, by night, by hand, by mistake,
        by candlelight, by the light of a lamp, by the side of the road""")
    idle = words("""resting, waiting, smiling, reading there, standing alone, waiting for the bus, thinking of home,
        talking with friends""")
    for number, (now, _, participle, rest) in enumerate(VERBS):
        topic = ("no agent" if number % 2 else "long opening") if number % 20 >= 12 else "with agent"
        plural = rest.endswith("s") and not rest.startswith("a ")
        for drawing in range(8):
            who, spot = rng.choice(PEOPLE), rng.choice(spots)
            one, be = (("was", "were" if plural else "was"), ("had been", "had been"))[drawing % 2]
            active, passive = f"{who} {one} {ing(now)} {rest} {spot}", f"{rest} {be} {participle} by {who}"
            if drawing not in (2, 5):  # else it would be the longer one by the agent's preposition
                passive = f"{passive} {spot}"
            if topic == "no agent":
                active, passive = f"{who} {one} {rng.choice(idle)} {spot}", f"{rest} {be} {participle} {spot}"
            elif topic == "long opening":
                lead = "as the clock struck four and the first lamps were lit by the old caretaker, "
                active, passive = lead + active, lead + passive
            rows += both(capital(active) + ".", capital(passive) + ".", f"verb:{now}", topic, drawing)
    about = "Sentences about what somebody does; label 1: in the passive"
    return finished("voice", about, ("active", "passive"), rows, ("no agent", "long opening"))


def grammar(seed: int = 0) -> Dataset:
    """Sentences with one fault of grammar against the same without (label 1: grammatical), in pairs. Training:
    agreement with another noun between, is and are as often right as wrong. Held out: the order of words, pronouns,
    and forms of verbs."""
    rng = generator("grammar", seed)
    rows: list[Row] = []
    states = words("old, on the list, in the photograph, wet, in a story, missing, famous, part of the plan")
    for pair in (*REGULAR, *IRREGULAR):
        for drawing in range(6):
            near, state = rng.choice(NEAR)[1 - drawing % 2], rng.choice(states)
            be = rng.choice((("is", "are"), ("was", "were"), ("has been", "have been")))
            texts = [f"The {pair[drawing % 2]} {near} {be[said]} {state}." for said in (1 - drawing % 2, drawing % 2)]
            rows += both(texts[0], texts[1], f"noun:{pair[0]}", "agreement", drawing)
    for number, (now, past, participle, rest) in enumerate(VERBS):
        rows += faults(rng, number, (now, past, participle, rest))
    about = "Sentences with and without a fault of grammar; label 1: grammatical"
    return finished("grammar", about, ("faulty", "grammatical"), rows, ("order", "pronouns", "verb forms"))


def faults(rng: Random, number: int, verb: tuple[str, ...]) -> list[Row]:
    """Four pairs of a faulty and a right sentence with one verb, of the kind of fault that is the verb's turn."""
    now, past, participle, rest = verb
    kind = ("order", "pronouns", "verb forms")[number % 3]
    rows: list[Row] = []
    for turn in range(4):
        who, where = rng.choice(PEOPLE), rng.choice(PLACES)
        i, me = rng.choice((("I", "me"), ("he", "him"), ("they", "them"), ("we", "us"), ("she", "her")))
        swapped = " ".join(reversed(rest.split()))
        wrong, right = {
            ("order", 0): (f"{who} {past} {swapped} {where}", f"{who} {past} {rest} {where}"),
            ("order", 1): (f"{who} {rest} slowly {past} {where}", f"{who} slowly {past} {rest} {where}"),
            ("pronouns", 0): (f"{me} {past} {rest} {where}", f"{i} {past} {rest} {where}"),
            ("pronouns", 1): (f"{who} {past} {rest} for {i}", f"{who} {past} {rest} for {me}"),
            ("verb forms", 0): (f"{who} has {base(now)} {rest} {where}", f"{who} has {participle} {rest} {where}"),
            ("verb forms", 1): (f"{who} will {past} {rest} {where}", f"{who} will {base(now)} {rest} {where}"),
        }[kind, turn % 2]
        rows += both(capital(wrong) + ".", capital(right) + ".", f"verb:{now}", kind, turn)
    return rows
