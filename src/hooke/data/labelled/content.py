"""Small tasks about content: science or sport, an animal or not, odd or even numbers, Python or JavaScript."""

from __future__ import annotations

from random import Random

from hooke.data.labelled.rows import Dataset, Row
from hooke.data.labelled.tables import article, both, capital, finished, generator, table, words

SPORT = words("""the penalty kick, the relay race, the goalkeeper, the high jump, the tennis court, the free throw,
    the long serve, the half-time whistle, the marathon, the hurdles, the rowing crew, the boxing ring, the away match,
    the offside rule, the home run, the pole vault, the wrestling mat, the swimming lane, the substitute, the backhand,
    the corner kick, the sprint, the scoreboard, the referee, the training camp, the javelin""")
SCIENCE = words("""the test tube, the cell nucleus, the control group, the magnetic field, the atomic weight,
the enzyme,
    the light spectrum, the growth curve, the microscope, the chemical bond, the gene pool, the heat flow,
    the acid rain,
    the wave equation, the food chain, the vacuum pump, the crystal lattice, the sampling error, the catalyst,
    the neuron,
    the electron beam, the virus, the laboratory, the chemist, the field study, the isotope""")
SUBJECT_FRAMES = (
    "For an hour they talked about {} and nothing else.",
    "The paper has a long article on {} today.",
    "My cousin knows everything there is to know about {}.",
    "Nobody had expected that {} would cause such a fuss.",
    "After the break the talk turned to {} once more.",
    "The first slide was a picture of {}.",
)
WINTER = words("""the ski jump, the ski run, the ice rink, the puck, the hockey goal, the sled, the ski lift,
    the figure skater, the snowboard, the downhill race, the ice skates, the relay on skis""")
SKY = words("""the black hole, the red giant, the space probe, the comet, the spiral galaxy, the supernova,
    the radio telescope, the lunar orbit, the solar wind, the asteroid belt, the eclipse of the sun, the star map""")
NEWS = table("""
Record crowd sees late equaliser in the north | Record dataset shows faster melting in the north
Veteran striker out with a knee injury | Veteran physicist wins prize for laser work
Coach praises young defence after the draw | Biologist praises young team after the find
Team loses lead in the final minute | Team finds protein in the oldest fossil
Club signs midfielder for three seasons | Lab tests vaccine for three diseases
City runner breaks the ten-second mark | City lab measures the coldest atom
Cup final moved to Sunday for the fans | Rocket launch moved to Sunday for the weather
Hurdler disqualified in the second heat | Theory confirmed in the second experiment
Two goals in four minutes turn the game | Two mutations in one gene turn the cell
Champion defends title on clay | Geologist explains layers of clay
Cyclist wins mountain stage by a second | Clock loses a second in a billion years
Transfer window closes without surprise | Ozone hole closes without surprise
Goalkeeper saves two penalties in Oslo | Chemists save energy with new catalyst in Oslo
Relay squad qualifies for the games | Quantum chip qualifies for the test
Rookie scores on his first start | Telescope images its first planet
League adds two teams next year | Table of elements adds two names next year
""")
NEWS_FRAMES = ("{}", "Morning edition: {}", "{}, says a report", "In short: {}")


def subject(seed: int = 0) -> Dataset:
    """Science against sport (label 1: sport) in the same sentences; held out: astronomy against winter sport with
    other sentences, and headlines."""
    rng = generator("subject", seed)
    rows: list[Row] = []
    for number, (game, lab) in enumerate(zip(SPORT, rng.sample(SCIENCE, len(SCIENCE)))):
        for drawing, frame in enumerate(SUBJECT_FRAMES):
            rows += both(frame.format(lab), frame.format(game), f"term:{number}", "terms", drawing)
    for number, (game, star) in enumerate(zip(WINTER, rng.sample(SKY, len(SKY)))):
        for drawing, frame in enumerate(("Have you read about {}?", "{} was new to us.", "They filmed {} at night.")):
            texts = [capital(frame.format(term)) for term in (star, game)]
            rows += both(texts[0], texts[1], f"cold:{number}", "sky and snow", drawing)
    for number, (game, lab) in enumerate(NEWS):
        for drawing, frame in enumerate(NEWS_FRAMES):
            rows += both(frame.format(lab), frame.format(game), f"news:{number}", "headlines", drawing)
    about = "Sentences about science or about sport; label 1: sport"
    return finished("subject", about, ("science", "sport"), rows, ("sky and snow", "headlines"))


ANIMALS = words("""badger, donkey, rabbit, leopard, camel, beaver, squirrel, kangaroo, gorilla, panther, reindeer,
buffalo,
    hamster, hedgehog, giraffe, monkey, otter, walrus, goat, pony, lamb, tiger, zebra, weasel, dolphin, elephant""")
THINGS = words("""bucket, wagon, ladder, statue, barrel, piano, lantern, bicycle, chimney, tractor, cushion, cupboard,
    saddle, umbrella, trumpet, candle, anchor, kettle, bell, drum, lamp, bench, shovel, basket, carpet, telescope""")
BIRDS_AND_INSECTS = words("""heron, sparrow, magpie, swallow, pigeon, cuckoo, beetle, cricket, wasp, butterfly, ant,
robin,
    vulture, moth, parrot, termite""")
PLANTS = words("""fern, thistle, maple, willow, tulip, orchid, cactus, clover, oak, mushroom, ivy, daisy, rosebush,
birch,
    poppy, cypress""")
ANIMAL_FRAMES = (
    "Behind the barn they found {a}.",
    "The boy drew {a} with a blue pencil.",
    "There was {a} in the back of the car.",
    "For weeks he had been thinking about the {}.",
    "Somebody had left the gate open for the {}.",
    "On the old coin you can see {a} and a crown.",
)
ANIMAL_LONG = (
    "When the rain had stopped at last and the roads were dry, they walked back to the place where the {} had been.",
    "She had bought a ticket, two postcards and a sandwich before she noticed the {} at the other side of the square.",
    "It was only a small picture of {a}, not much bigger than a stamp, but my grandfather would not sell it to anyone.",
    "Of all the things that happened in that long summer, what I remember best is the {} beside the road to the mill.",
)


def animal(seed: int = 0) -> Dataset:
    """Sentences that mention an animal, against the same with a thing (label 1: animal); held out: birds and insects
    against plants, and long sentences."""
    rng = generator("animal", seed)
    rows: list[Row] = []
    beasts, things = (sorted(rng.sample(nouns, len(nouns)), key=len) for nouns in (ANIMALS, THINGS))
    for number, (beast, thing) in enumerate(rng.sample(list(zip(beasts, things)), len(beasts))):
        topic, frames = ("long", ANIMAL_LONG) if number >= 18 else ("beasts and things", ANIMAL_FRAMES)
        for drawing, frame in enumerate(frames):
            texts = [frame.format(noun, a=article(noun)) for noun in (thing, beast)]
            rows += both(texts[0], texts[1], f"noun:{number}", topic, drawing)
    for number, (bird, plant) in enumerate(zip(BIRDS_AND_INSECTS, rng.sample(PLANTS, len(PLANTS)))):
        for drawing, frame in enumerate(rng.sample(ANIMAL_FRAMES, 5)):
            texts = [frame.format(noun, a=article(noun)) for noun in (plant, bird)]
            rows += both(texts[0], texts[1], f"small:{number}", "birds and plants", drawing)
    about = "Sentences about a living or a lifeless thing; label 1: an animal is mentioned"
    return finished("animal", about, ("no animal", "animal"), rows, ("birds and plants", "long"))


UNITS = words("zero, one, two, three, four, five, six, seven, eight, nine")
TENS = words("twenty, thirty, forty, fifty, sixty, seventy, eighty, ninety")
NUMBER_FRAMES = (
    "The number is {}.",
    "There are {} pages in it.",
    "We live at house number {}.",
    "The bill came to {}.",
    "She counted {} of them.",
)


def parity(seed: int = 0) -> Dataset:
    """Odd against even numbers in digits (label 1: odd), in the same sentences; held out: numbers in words, and
    numbers with five digits. A pair differs by one; a group is what stands before the last digit."""
    rng = generator("parity", seed)
    rows: list[Row] = []
    for number, head in enumerate((*rng.sample(range(1, 10), 8), *rng.sample(range(10, 1000), 72))):
        for drawing, frame in enumerate(rng.sample(NUMBER_FRAMES, 2)):
            even, odd = head * 10 + rng.choice((0, 2, 4, 6, 8)), head * 10 + rng.choice((1, 3, 5, 7, 9))
            rows += both(frame.format(even), frame.format(odd), f"head:{number}", "digits", drawing)
    for number, head in enumerate(rng.sample(range(1000, 10000), 40)):
        even, odd = head * 10 + rng.choice((0, 2, 4, 6, 8)), head * 10 + rng.choice((1, 3, 5, 7, 9))
        frame = rng.choice(NUMBER_FRAMES)
        rows += both(frame.format(even), frame.format(odd), f"large:{number}", "five digits")
    for ten in TENS:
        for drawing in range(6):
            frame = rng.choice(NUMBER_FRAMES)
            texts = [frame.format(f"{ten}-{UNITS[rng.choice(ends)]}") for ends in ((2, 4, 6, 8), (1, 3, 5, 7, 9))]
            rows += both(texts[0], texts[1], f"word:{ten}", "words", drawing)
    about = "Sentences with a number; label 1: it is odd"
    return finished("parity", about, ("even", "odd"), rows, ("words", "five digits"))


# JavaScript | Python; {f} a function, {x} and {y} variables, {n} a number; ~ is a line break
SNIPPETS = table("""
let {x} = {n};~let {y} = {x} + 1; | {x} = {n}~{y} = {x} + 1
function {f}({x}) {~  return {x} * {n};~} | def {f}({x}):~    return {x} * {n}
if ({x} > {n}) {~  {f}({x});~} | if {x} > {n}:~    {f}({x})
for (const {x} of {y}) {~  {f}({x});~} | for {x} in {y}:~    {f}({x})
while ({x} < {n}) {~  {x} += 1;~} | while {x} < {n}:~    {x} += 1
const {x} = {y}.map(v => v * {n}); | {x} = [v * {n} for v in {y}]
console.log({f}({x}, {n})); | print({f}({x}, {n}))
const {x} = {y}.length - {n}; | {x} = len({y}) - {n}
{y}.push({f}({n})); | {y}.append({f}({n}))
const {x} = {y} === null ? {n} : {y}; | {x} = {n} if {y} is None else {y}
if ({x} && !{y}) {~  return {n};~} | if {x} and not {y}:~    return {n}
// doubles {x} and adds {n}~{x} = {x} * 2 + {n}; | # doubles {x} and adds {n}~{x} = {x} * 2 + {n}
try {~  {f}({x});~} catch (e) {~  {y} = {n};~} | try:~    {f}({x})~except ValueError:~    {y} = {n}
const {x} = { {y}: {n} }; | {x} = {"{y}": {n}}
const {f} = ({x}) => {x} - {n}; | {f} = lambda {x}: {x} - {n}
throw new Error("{x} above {n}"); | raise ValueError("{x} above {n}")
{x} = {y} ?? {n}; | {x} = {y} if {y} is not None else {n}
{x}++; | {x} = {x} + 1
export { {f} }; | __all__ = ["{f}", "{x}"]
let {x}; | {x}: int = {n}  # for {y}
const {x} = /{f}/; | {x} = re.compile(r"{f}")
{x} = {y}.at(-1); | {x} = {y}[len({y}) - 1]
""")
CLASSES = table("""
class Box {~  constructor({x}) {~    this.{x} = {x};~  }~  {f}() {~    return this.{x} + {n};~  }~} |
  class Box:~    def __init__(self, {x}: int):~        self.{x} = {x}~~    def {f}(self):~        return self.{x} + {n}
class Store extends Base {~  {f}({x}) {~    super.{f}({x});~    this.{y} = {n};~  }~} |
  class Store(Base):~    def {f}(self, {x}: int):~        super().{f}({x})~        self.{y} = {n}
function {f}({x}) {~  let {y} = 0;~  for (const i of {x}) {~    {y} += i * {n};~  }~  return {y};~} |
  def {f}({x}: list) -> int:~    {y}: int = 0~    for i in {x}:~        {y} += i * {n}~    return {y}
const {f} = async ({x}) => {~  const {y} = await load({x});~  return {y}.slice(0, {n});~}; |
  async def {f}({x}: str) -> list:~    {y} = await load({x})~    return {y}[0 : {n}]
""")
ASKED = table(
    """
How do I turn this into a loop? `const {x} = {y}.filter(v => v > {n});` | How do I turn this into a loop?
  `{x} = [v for v in {y} if v > {n}]`
What does `{x} ??= {n}` do in my file? The line before is `let {x};` | What does `{x} //= {n}` do in my file? The line
  before is `{x} = 9`
Is this a mistake: `export default {f};`? It stands below `const {x} = {n};` | Is this a mistake: `from {f} import {x}`?
  It stands above `{x} = {n}`
I get an error at `{y}.forEach({f});` when {x} is {n}. | I get an error at `{y} = list(map({f}, {y}))` when {x} is {n}.
Please explain `typeof {x} === "number"` and `{y} > {n}`. | Please explain `isinstance({x}, int)` and `{y} > {n}`.
""".replace("\n  ", " ")
)
NAMES = words("total, price, items, index, score, users, width, level, result, count, rows, delta, limit, names")
FUNCTIONS = words("update, compute, check, parse, draw, load, send, merge, scale, reset, find, store")


def code(seed: int = 0) -> Dataset:
    """JavaScript against Python with the same names and numbers (label 1: Python), in pairs; held out: longer code
    with classes, and questions about a line. Signs and keywords differ, so a bag of words does well in training."""
    rng = generator("code", seed)
    rows: list[Row] = []
    for topic, snippets, count in (("short", SNIPPETS, 12), ("long", CLASSES, 12), ("questions", ASKED, 10)):
        for number, pair in enumerate(snippets):
            for drawing in range(count):
                javascript, python = filled(rng, pair)
                if drawing % 2:  # a semicolon at the end of a line is optional
                    javascript = javascript.replace(";\n", "\n").removesuffix(";")
                rows += both(javascript, python, f"{topic}:{number}", topic, drawing)
    about = "Pieces of code and questions about them; label 1: Python"
    return finished("code", about, ("JavaScript", "Python"), rows, ("long", "questions"))


def filled(rng: Random, pair: tuple[str, ...]) -> list[str]:
    """Both sides of a snippet with the same names and numbers."""
    x, y = rng.sample(NAMES, 2)
    slots = {"{f}": rng.choice(FUNCTIONS), "{x}": x, "{y}": y, "{n}": str(rng.randrange(2, 60)), "~": "\n"}
    texts = []
    for text in pair:
        for slot, name in slots.items():
            text = text.replace(slot, name)
        texts.append(text)
    return texts
