"""The data sets "truth" and "truth-with-denials": true and false statements in pairs that differ in one phrase.

Within every wording, and within every negation, as many statements are true as are false, and a word that makes one
statement false makes another true, so that counting words says next to nothing about which is which.
"""

from __future__ import annotations

import itertools
import random
import re
from dataclasses import replace

from hooke.data.labelled.rows import Dataset, Row
from hooke.data.labelled.statements.numbers import number_facts
from hooke.data.labelled.statements.reading import Free, Order, Relation, read_facts

FILES = ("world.txt", "things.txt", "everyday.txt", "science.txt", "held_out.txt")
SHIFTS = ("science", "animals", "occupations", "questions")
DENIAL = re.compile(r"\b(not|cannot|no|never|nobody|nothing|neither|without|wrong to)\b", re.IGNORECASE)
# What the model reads before each statement: of nothing, four and eight judged examples that with the best AUROC on
# the fitting folds (0.77, 0.79, 0.79).
EXAMPLES = (
    ("The sky is green.", False),
    ("Dogs have four legs.", True),
    ("Seven is less than three.", False),
    ("Snow is cold.", True),
    ("Paris is a city in Japan.", False),
    ("A hammer is used to drive in nails.", True),
    ("People breathe with their ears.", False),
    ("The sun rises in the morning.", True),
)
TEMPLATE = "\n".join(
    ["Check each statement.", *(f"{said} This is {str(so).lower()}." for said, so in EXAMPLES), "{text}"]
)
WORDINGS = 3  # statements in pairs for each fact: two that affirm and one that denies
PAIRS_OF_THINGS = 14  # of one order


def with_denials(seed: int = 0) -> Dataset:
    """True (1) and false (0) English statements, one row each.

    group: a fact, with its wordings, negations and both truth values; two sentences with the same choice of words.
    pair: two statements of opposite truth that differ in one word or phrase. topic: what it is about; the shifts
    are other subjects, in wordings of their own, one in the form of questions with answers. seed: which wordings a
    fact gets, and which wrong answer.
    """
    rows: list[Row] = []
    for number, block in enumerate([*number_facts(), *(b for name in FILES for b in read_facts(name))]):
        draw = random.Random(f"{seed} {number}")
        if isinstance(block, Relation):
            rows += _relation(block, number, draw)
        elif isinstance(block, Order):
            for at, things in enumerate(block.things):
                rows += _order(block, things, f"{block.topic}/{at}", draw)
        else:
            rows += _free(block, number)
    return Dataset(
        name="truth-with-denials",
        about="A statement, perhaps a denial, is true, or it is false because one word or phrase in it is wrong.",
        labels=("false", "true"),
        rows=tuple(rows),
        shifts=SHIFTS,
    )


def truth(seed: int = 0) -> Dataset:
    """The statements that deny nothing; denials, of the held-out subjects only, are one more declared shift.

    In a small model what reads as true is that the words belong together, which "not" turns upside down: fitted to
    both forms a probe learns neither, and fitted to one it must show what it does on the other.
    """
    whole = with_denials(seed)
    rows = [row for row in whole.rows if not denies(row.text)]
    denied = [row for row in whole.shifted if denies(row.text)]
    rows += [replace(row, topic="denials", group=f"denied/{row.group}", pair=f"denied/{row.pair}") for row in denied]
    about = "A statement is true, or it is false because one word or phrase in it is wrong."
    return Dataset("truth", about, whole.labels, tuple(rows), (*whole.shifts, "denials"), TEMPLATE)


def denies(text: str) -> bool:
    """Whether a statement of these says that something is not so."""
    return DENIAL.search(text) is not None


def _relation(block: Relation, number: int, draw: random.Random) -> list[Row]:
    """Every fact in two affirming wordings and one denying one, each with its own answer and with another's."""
    rows = []
    count = len(block.facts)
    for variant in range(WORDINGS):
        negated = variant == WORDINGS - 1
        wordings = block.negated if negated else block.say
        if variant >= len(wordings) and not negated:
            continue
        start = list(range(count))  # which fact begins with which wording
        random.Random(draw.random() if negated else f"{block.topic} {count}").shuffle(start)
        other = wrong_answers(block, draw)
        for at, (subject, right) in enumerate(block.facts):
            wording = wordings[(start[at] + variant) % len(wordings)]
            group = f"{block.topic}/{subject}"
            for answer, is_right in ((right[0], True), (block.facts[other[at]][1][0], False)):
                text = fill(wording, s=subject, a=answer)
                pair = f"{block.topic}/{number}/{subject}/{variant}"
                rows.append(Row(text, int(is_right != negated), group, block.topic, pair))
    return rows


def wrong_answers(block: Relation, draw: random.Random) -> list[int]:
    """For each fact the index of one whose answer is wrong for it. Each fact is used once: what occurs in a true
    statement occurs as often in a false one."""
    facts = block.facts
    free = {at: [i for i, fact in enumerate(facts) if fact[1][0] not in facts[at][1]] for at in range(len(facts))}
    for options in free.values():
        draw.shuffle(options)
    taken: dict[int, int] = {}  # answer of fact i: used for fact taken[i]

    def place(at: int, seen: set[int]) -> bool:  # an augmenting path of a bipartite matching
        for i in free[at]:
            if i not in seen:
                seen.add(i)
                if i not in taken or place(taken[i], seen):
                    taken[i] = at
                    return True
        return False

    for at in draw.sample(range(len(facts)), len(facts)):
        if not place(at, set()):
            raise ValueError(f"{block.topic}: no wrong answer is left for {facts[at][0]!r}")
    return [i for _, i in sorted((at, i) for i, at in taken.items())]


def _order(block: Order, things: tuple[str, ...], name: str, draw: random.Random) -> list[Row]:
    """Pairs of things that stand at least two apart, in either order, with both comparatives."""
    pairs = [(a, b) for a, b in itertools.combinations(range(len(things)), 2) if b - a > 1]
    rows = []
    for number, (a, b) in enumerate(draw.sample(pairs, min(PAIRS_OF_THINGS, len(pairs)))):
        group = f"{name}/{things[a]}/{things[b]}"
        denied = [than for than in block.than if " not " in than[0]]
        affirmed = [than for than in block.than if " not " not in than[0]]
        chosen = [*draw.sample(affirmed, WORDINGS - 1), draw.choice(denied)]
        for variant, wordings in enumerate(chosen):
            turned = (number + variant) % 2 == 1
            x, y = (things[b], things[a]) if turned else (things[a], things[b])
            for which, wording in enumerate(wordings):
                text = fill(wording, x=x, y=y)
                rows.append(Row(text, int((which == 0) != turned), group, block.topic, f"{group}/{variant}"))
    return rows


def _free(block: Free, number: int) -> list[Row]:
    """The two statements of one sentence; sentences with the same two words are one group."""
    group = f"{block.topic}/{'|'.join(sorted((block.right, block.wrong)))}"
    pair = f"{block.topic}/{number}"
    return [
        Row(fill(block.before + word + block.after), label, group, block.topic, pair)
        for word, label in ((block.right, 1), (block.wrong, 0))
    ]


def fill(wording: str, **words: str) -> str:
    """A wording with its words, in sentence case; a name in capitals stands for the word with a capital letter."""
    for name, word in words.items():
        wording = wording.replace("{" + name + "}", word).replace("{" + name.upper() + "}", word[:1].upper() + word[1:])
    return wording[:1].upper() + wording[1:]
