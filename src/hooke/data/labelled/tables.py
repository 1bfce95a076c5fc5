"""What the generators of tasks share: tables written as text, pairs of rows, and one way to finish a data set."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence

from hooke.data.labelled.rows import Dataset, Row

Table = tuple[tuple[str, ...], ...]


def table(text: str) -> Table:
    """The cells of a table: a record a line, cells divided by `|`; a line that ends in `|` goes on in the next."""
    joined = text.strip().replace("|\n", "|")
    return tuple(tuple(cell.strip() for cell in line.split("|")) for line in joined.split("\n") if line.strip())


def words(text: str) -> tuple[str, ...]:
    """The entries of a list written with commas."""
    return tuple(" ".join(entry.split()) for entry in text.split(",") if entry.strip())


def generator(name: str, seed: int) -> random.Random:
    """The random numbers of one data set: the same on every machine for the same name and seed."""
    return random.Random(f"{name}:{seed}")


def capital(text: str) -> str:
    """The text with its first letter raised, and the rest as it is."""
    return text[:1].upper() + text[1:]


def article(noun: str) -> str:
    """`a` or `an` and the noun."""
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"


def dealt(rng: random.Random, bank: Sequence[str], count: int) -> list[str]:
    """count entries of bank in random order, each as often as every other (give or take one)."""
    cards: list[str] = []
    while len(cards) < count:
        cards += rng.sample(bank, len(bank))
    return cards[:count]


def both(negative: str, positive: str, group: str, topic: str, number: int = 0, user: str = "") -> list[Row]:
    """Two rows that differ in what makes the label, as one pair of the group."""
    pair = f"{group}#{number}"
    return [Row(text, label, group, topic, pair, user) for label, text in ((0, negative), (1, positive))]


def finished(name: str, about: str, labels: tuple[str, str], rows: Iterable[Row], shifts: tuple[str, ...]) -> Dataset:
    """The data set without texts that were drawn twice. Where a row falls out, its partner of the pair does too."""
    kept: dict[tuple[str, str, str], Row] = {}
    for row in rows:
        kept.setdefault((row.system, row.user, row.text), row)
    members = Counter((row.group, row.pair) for row in kept.values())
    whole = tuple(row for row in kept.values() if not row.pair or members[row.group, row.pair] == 2)
    return Dataset(name, about, labels, whole, shifts)
