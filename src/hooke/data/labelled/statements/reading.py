"""The small format in which facts are written down, read into relations, orders and free sentences.

A block is what stands between empty lines; `#` begins a comment. Every block begins with `topic: NAME`; then

    say: {a} is the capital of {s}.       a wording that is true of a subject and its answer; {A}, {S}: with a capital
    not: {a} is not the capital of {s}.   its negation
    France = Paris                        subject = answer; after commas, what else is right and never used as wrong

or, for things in an order from most to least,

    than: {x} is bigger than {y}. | {x} is smaller than {y}.     the first is true if x stands before y
    order: a whale > a horse > a mouse

or free sentences with what is right and what is wrong of the same kind:

    Ice {melts|freezes} in a warm kitchen.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

SLOT = re.compile(r"\{([^{}|]+)\|([^{}|]+)\}")


@dataclass(frozen=True)
class Relation:
    """Facts of one form. facts: subject, then the answers that are right, the one that is used first."""

    topic: str
    say: tuple[str, ...]
    negated: tuple[str, ...]
    facts: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Order:
    """Things from most to least, and wordings: the first of each pair is true if x stands before y."""

    topic: str
    than: tuple[tuple[str, str], ...]
    things: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Free:
    """One sentence with a slot: before, what is right, what is wrong, after."""

    topic: str
    before: str
    right: str
    wrong: str
    after: str


Block = Relation | Order | Free


@cache
def read_facts(name: str) -> tuple[Block, ...]:
    """The blocks of a packaged file (`world.txt`) in order. Raises ValueError for a line that is none of the above."""
    text = (files("hooke.data.labelled.statements") / name).read_text(encoding="utf-8")
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    return tuple(block for part in lines.strip().split("\n\n") for block in _blocks(part.strip().splitlines()))


def _blocks(lines: list[str]) -> list[Block]:
    topic = lines[0].removeprefix("topic: ")
    say, negated, facts, than, things, free = [], [], [], [], [], []
    for line in lines[1:]:
        key, _, rest = line.partition(": ")
        slot = SLOT.search(line)
        if key == "say":
            say.append(rest)
        elif key == "not":
            negated.append(rest)
        elif key == "than":
            more, _, less = rest.partition(" | ")
            than.append((more, less))
        elif key == "order":
            things.append(tuple(rest.split(" > ")))
        elif slot:
            free.append(Free(topic, line[: slot.start()], slot[1], slot[2], line[slot.end() :]))
        elif " = " in line:
            subject, _, answers = line.partition(" = ")
            facts.append((subject, tuple(answers.split(", "))))
        else:
            raise ValueError(f"a line that is no fact: {line!r}")
    blocks: list[Block] = list(free)
    if facts:
        blocks.append(Relation(topic, tuple(say), tuple(negated), tuple(facts)))
    if things:
        blocks.append(Order(topic, tuple(than), tuple(things)))
    return blocks
