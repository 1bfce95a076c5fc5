"""Known against invented: names of things that exist, and names that were built to sound as if they did."""

from __future__ import annotations

from collections import Counter
from difflib import get_close_matches
from random import Random

from hooke.data.labelled.rows import Dataset
from hooke.data.labelled.tables import article, both, capital, finished, generator, words

KNOWN = {
    "city": words("""Reykjavik, Marrakesh, Nairobi, Helsinki, Bratislava, Ljubljana, Kathmandu, Montevideo,
        Guadalajara, Casablanca, Johannesburg, Rotterdam, Gothenburg, Stuttgart, Salzburg, Antwerp, Valencia, Palermo,
        Marseille, Bordeaux, Edinburgh, Sheffield, Baltimore, Sacramento, Vancouver, Winnipeg, Melbourne, Adelaide,
        Wellington, Yokohama, Nagasaki, Bangalore, Hyderabad, Islamabad, Samarkand, Tbilisi, Yerevan, Kinshasa,
        Mombasa, Lusaka"""),
    "animal": words("""hedgehog, porcupine, armadillo, wolverine, chameleon, salamander, barracuda, mackerel,
        flamingo, pelican, nightingale, woodpecker, kingfisher, albatross, dromedary, antelope, gazelle, wildebeest,
        mongoose, meerkat, chinchilla, hamster, marmot, otter, badger, weasel, walrus, manatee, jellyfish, lobster,
        grasshopper, dragonfly, ladybird, tarantula, scorpion, anaconda, tortoise, iguana, orangutan, baboon"""),
    "occupation": words("""carpenter, plumber, electrician, bricklayer, blacksmith, locksmith, watchmaker,
        upholsterer, bookbinder, stonemason, dressmaker, milliner, beekeeper, gamekeeper, lumberjack, shipwright,
        cartographer, stenographer, librarian, archivist, pharmacist, veterinarian, chiropractor, optometrist,
        podiatrist, auctioneer, bartender, sommelier, choreographer, cinematographer, cabinetmaker, taxidermist,
        puppeteer, ventriloquist, paramedic, midwife, astronomer, geologist, meteorologist, zoologist"""),
    "film": words("""The Godfather, Gone with the Wind, Jurassic Park, Forrest Gump, The Matrix, Star Wars, Blade
        Runner, Toy Story, The Lion King, Finding Nemo, Pulp Fiction, Fight Club, The Shining, Taxi Driver, Rear
        Window, Citizen Kane, Singin' in the Rain, Back to the Future, The Sixth Sense, Groundhog Day, Home Alone,
        Pretty Woman, Dirty Dancing, Ghostbusters, Top Gun, Die Hard, The Terminator, Mary Poppins, Roman Holiday,
        Some Like It Hot, Spirited Away, Easy Rider, Chariots of Fire, The Truman Show, A Beautiful Mind, The Silence
        of the Lambs, Modern Times, The Great Dictator, Ratatouille, Beauty and the Beast"""),
    "product": words("""Coca-Cola, Pepsi, Fanta, Nutella, Toblerone, Kit Kat, Snickers, Pringles, Doritos, Heinz
        ketchup, Kellogg's, Nescafé, Lego bricks, Barbie dolls, Mountain Dew, Scrabble, PlayStation, Nintendo, Game
        Boy, iPhone, Dr Pepper, Rubik's Cube, After Eight, Play-Doh, Ben & Jerry's, Post-it, Tupperware, Tabasco,
        Vaseline, Nivea, Colgate, Gillette, Lipton, Marmite, Philadelphia cheese, Oreo, Tic Tac, Red Bull, Hot Wheels,
        Vespa"""),
}
# pieces of invented names: each kind has beginnings and endings that are common in its real names
PIECES = {
    "city": (
        words("""Marr, Hels, Brat, Kath, Mont, Guad, Cas, Rott, Stutt, Salz, Val, Pal, Bord, Shef, Balt, Sacr, Winn,
            Melb, Ad, Yok, Nag, Bang, Hyd, Islam, Sam, Tib, Yer, Kin, Mom, Lus, Ljub, Gren, Tarv, Dol, Ost, Nor"""),
        words("""avika, inkor, islara, mandal, evarra, alaba, erlund, ergart, erpool, enzo, ermona, elle, eaugne,
            fordham, imont, amora, ipeg, ourgh, elaida, ohima, asuki, alund, erabat, adora, arkesh, ilis, evano,
            shara, basine, akuri, jeva, obra, isto, hurst, ravna, wend"""),
    ),
    "animal": (
        words("""hedge, porcu, arma, wolv, cham, sala, barra, mack, flam, peli, night, wood, king, alba, drom, ante,
            gaz, wilder, mong, meer, chin, ham, marm, bad, wal, mana, jelly, lob, grass, dragon, taran, scor"""),
        words("""ling, tine, adder, erel, ander, icuda, urel, igo, icant, ingdale, picker, snatcher, atros, edal,
            elote, ilk, beast, oosa, kit, illo, stern, ot, ger, rusk, teel, crab, hopper, mouse, tula, pine, conda,
            guan"""),
    ),
    "occupation": (
        words("""carp, plumb, brick, black, lock, watch, uphol, book, stone, dress, mill, game, lumber, ship, carto,
            steno, libr, archi, pharma, chiro, opto, podo, auct, somm, choreo, cabin, taxi, pupp, ventri, para, astro,
            geo"""),
        words("""enser, ster, ligger, wender, sker, gader, sterel, threader, meller, vinder, iner, wringer, holder,
            metrist, logger, arist, ivator, cenist, practor, tometer, iatress, ioner, elier, matician, etier, dermer,
            eteer, loquer, medist, nonist, ogist, graver"""),
    ),
    "film": (
        words("""The Lantern, The Silent, Crimson, Second, The Glass, Paper, Winter, Hollow, The Seventh, Midnight,
            Lost, Broken, Return to, A Quiet, The Iron, Velvet, Running, The Orange, Night of the, Letters from,
            Burning, The Tailor and the, Little, Salt and, Escape from, The Eleventh, Almost, Summer of the, Harbour,
            Blue"""),
        words("""Keeper, Orchard, Static, Sunday, Ladder, Kingdom, Alibi, Parade, Dentist, Ferry, Sparrow, Promise,
            Monday, Almanac, Carousel, Stapler, Umbrella, Teapot, Piano, Copper, Mirror, Compass, Voyage, Tango,
            Harvest, Echo, Station, Wardrobe, Balloon, Avenue"""),
    ),
    "product": (
        words("""Zip, Sun, Fox, Bee, Max, Oak, Jam, Pix, Tum, Rex, Lil, Moo, Kip, Fizz, Puff, Dash, Luna, Milo, Coco,
            Nino"""),
        words("""Loop, Wink, Twig, Peg, Dot, Nod, Mug, Plum, Tuck, Bop, Hop, Cup, Zap, Jig, Pod, Rug, Tin, Fig, Hat,
            Orb"""),
    ),
}
FRAMES = {
    "city": (
        "Last year we spent a week in {}.",
        "My cousin has moved to {} for her studies.",
        "The train to {} leaves at noon.",
        "There is a long article about {} in the paper.",
    ),
    "animal": (
        "A picture of {a} hung over the desk.",
        "The children had never seen {a} before.",
        "He told a story about {a} and its young.",
        "The book has a chapter about the {}.",
    ),
    "occupation": (
        "Her uncle has worked as {a} all his life.",
        "They are looking for {a} in our town.",
        "As a child he wanted to become {a}.",
        "The {} came on Thursday and left at four.",
    ),
    "film": (
        "On Saturday they watched {} together.",
        "My sister knows every line of {} by heart.",
        "Have you ever seen {}?",
        "The poster of {} is still on the wall.",
    ),
    "product": (
        "She put {} on the shopping list.",
        "Everybody at school talks about {}.",
        "The advertisement for {} ran for years.",
        "My grandfather collects old posters of {}.",
    ),
}
QUESTIONS = ("Is {} a city?", "How many people live in {}?")
LONG = (
    "We had talked for a while about this and that, the weather, the children, the price of bread, when he said: {}",
    "{} That is at least what I was told on the phone, though the line was bad and somebody was laughing in the back.",
)
SHIFTS = ("film", "product", "questions", "long")


def entities(seed: int = 0) -> Dataset:
    """Sentences about things with a known name, and the same sentences with an invented one (label 1: known).

    Invented names join a beginning and an ending that are common in real names of the kind, to about the length of
    the known one. Held out: films and products, and questions and long texts about further names of the other kinds.
    """
    rng = generator("entities", seed)
    rows = []
    for kind, known in KNOWN.items():
        invented = invent(rng, kind, known)
        for number, (real, made) in enumerate(zip(known, invented)):
            topic = kind
            if kind not in SHIFTS and number >= 30:
                topic = "long" if kind != "city" else "questions"
            drawings = {"questions": 2, "film": 3, "product": 3}.get(topic, 4)
            for drawing in range(drawings):
                frame = FRAMES[kind][drawing]
                if topic == "long":
                    frame = rng.choice(LONG).format(frame)
                elif topic == "questions":
                    frame = QUESTIONS[drawing]
                texts = [capital(frame.format(name, a=article(name))) for name in (made, real)]
                rows += both(texts[0], texts[1], f"{kind}:{real}", topic, drawing)
    about = "Sentences that name a city, an animal, an occupation, a film or a product; label 1: it exists"
    return finished("entities", about, ("invented", "known"), rows, SHIFTS)


def invent(rng: Random, kind: str, known: tuple[str, ...]) -> list[str]:
    """An invented name for each known one: a join of a beginning and an ending that were used least so far, and close
    in spelling to no name of the kind. A name that is one word is to be two letters shorter than the known one,
    because tokenizers cut what they do not know into more tokens."""
    first, last = PIECES[kind]
    space = " " if kind in ("film", "product") else ""
    joins = [(a, b, f"{a}{space}{b}") for a in first for b in last if space or not {a[-1], b[0]} <= set("aeiou")]
    rng.shuffle(joins)
    taken = [name.lower() for name in known]
    used: Counter[str] = Counter()
    found = []
    for name in known:
        aim = len(name) - (0 if space else 2)
        near = sorted(joins, key=lambda join: (max(abs(len(join[2]) - aim), 1), used[join[0]] + used[join[1]]))
        *pieces, best = next(j for j in near if not get_close_matches(j[2].lower(), taken, n=1, cutoff=0.8))
        used.update(pieces)
        taken.append(best.lower())
        found.append(best)
    return found
