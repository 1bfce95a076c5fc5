"""Ordinary text that has nothing to do with what a probe looks for: false-alarm thresholds are set on it.

Descriptions, plans, requests, opinions, stories, instructions, messages, and answers of an assistant to harmless
questions, put together from banks of phrases. Nothing in them is a fact to be true or false; nobody deceives.
"""

from __future__ import annotations

import random
import re
from functools import cache
from importlib.resources import files

from hooke.data.labelled.rows import Row
from hooke.errors import HookeError

SLOT = re.compile(r"\{(\w+)(!?)([\^~]?)\}")
MOST = 50_000
TRIES = 200  # draws without a new text before the bank counts as exhausted


@cache
def banks() -> dict[str, tuple[str, ...]]:
    """The phrases of every bank, by name."""
    text = (files("hooke.data.labelled") / "benign.txt").read_text(encoding="utf-8")
    parts: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("= "):
            lines = parts.setdefault(line[2:], [])
        elif line and not line.startswith("#"):
            lines.append(line)
    return {name: tuple(lines) for name, lines in parts.items()}


def benign(n: int = 12_000, *, chat: bool = False, seed: int = 0) -> tuple[Row, ...]:
    """`n` different harmless texts, label 0, each its own group; the first of a longer list are those of a shorter one.

    chat: answers of an assistant to what `user` says, instead of plain texts. topic: the kind of text.
    Raises HookeError if `n` is not between 1 and 50,000.
    """
    if not 1 <= n <= MOST:
        raise HookeError(f"{n} benign texts were asked for; there can be 1 to {MOST:,}")
    draw = random.Random(f"benign {seed} {chat}")
    kinds = banks()["chat" if chat else "any"]
    rows: dict[str, Row] = {}
    fruitless = 0
    while len(rows) < n:
        template = draw.choice(kinds)
        kept: dict[str, str] = {}  # what was drawn: for {name!}, and so that no phrase comes twice
        user, text = "", template
        if chat:
            user, _, text = template.partition(" | ")
            user = cased(expand(user, draw, kept), "^")
        text = cased(expand(text, draw, kept), "^")
        if text in rows or not 5 <= len(text.split()) <= 40:
            fruitless += 1
            if fruitless > TRIES:
                raise HookeError(f"there are not {n:,} different benign texts; ask for {len(rows):,} at most")
            continue
        fruitless = 0
        topic = f"chat {kinds.index(template)}" if chat else template.strip("{}")
        rows[text] = Row(text, 0, group=f"benign/{len(rows)}", topic=topic, user=user)
    return tuple(rows.values())


def expand(text: str, draw: random.Random, kept: dict[str, str]) -> str:
    """A phrase with its slots filled; `kept` holds what was drawn. ^ makes a capital letter in front, ~ a small one."""

    def fill(slot: re.Match[str]) -> str:
        name, same, case = slot.groups()
        if same and name in kept:
            return cased(kept[name], case)
        if name not in banks():
            raise ValueError(f"no bank of phrases is called {name}")
        fresh = [phrase for phrase in banks()[name] if phrase not in kept.values()]
        drawn = draw.choice(fresh or banks()[name])
        phrase = expand(drawn, draw, kept)
        kept[name if same else f"{name} {len(kept)}"] = phrase
        return cased(phrase, case)

    return SLOT.sub(fill, text)


def cased(text: str, case: str) -> str:
    """A text with a capital letter in front (^), a small one (~), or as it is."""
    first = {"^": text[:1].upper(), "~": text[:1].lower()}.get(case, text[:1])
    return first + text[1:]
