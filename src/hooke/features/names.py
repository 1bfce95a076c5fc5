"""How a feature is written: `12_345` is feature 345 of the block that reads last in layer 12, as in the nodes of a
graph; `12_345-` its side below zero, `12_345+` the one above."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from hooke.errors import HookeError

Sign = Literal["+", "-"]
_WRITTEN = re.compile(r"(\d{1,4})_(\d{1,9})([+-]?)")


class Name(NamedTuple):
    """A feature, or one side of it; sign "" is both."""

    layer: int
    number: int
    sign: str = ""

    def __str__(self) -> str:
        return f"{self.layer}_{self.number}{self.sign}"


def name_in(text: str) -> Name | None:
    """The feature that a text names; None if it names none."""
    found = _WRITTEN.fullmatch(text.strip())
    return None if found is None else Name(int(found[1]), int(found[2]), found[3])


def named(text: str) -> Name:
    """The same, raising HookeError."""
    found = name_in(text)
    if found is None:
        raise HookeError(f"{text[:40]!r} names no feature; write layer and number, as 12_345, or 12_345- for one side")
    return found
