"""RASP programs with known circuits: `Program`, and the table of all of them by name.

Families are those of the published benchmark of trained-in circuits (2407.14494), in causal form: what a position
gives depends on it and on what comes before; and one of programs with parts that stand in for each other.
"""

from __future__ import annotations

import difflib
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from hooke.errors import HookeError
from hooke.truth.rasp import SOp, Value, evaluate

MAX_INPUTS = 100_000


@dataclass(frozen=True)
class Program:
    """A RASP program as data.

    build: makes its s-op. vocabulary: the tokens it reads. length: of its longest input, in tokens.
    texts: all inputs of the full length, if not every sequence of tokens is one.
    """

    name: str
    family: str
    description: str
    build: Callable[[], SOp]
    vocabulary: tuple[Value, ...] = ("a", "b", "c")
    length: int = 5
    texts: Callable[[], Sequence[tuple[Value, ...]]] | None = None

    def inputs(self, length: int | None = None) -> list[tuple[Value, ...]]:
        """All inputs of a length (the full one). Raises HookeError if they are too many to list."""
        length = self.length if length is None else length
        if self.texts is not None:
            return list(dict.fromkeys(text[:length] for text in self.texts()))
        count = len(self.vocabulary) ** length
        if count > MAX_INPUTS:
            raise HookeError(
                f"{self.name} has {count:,} inputs of {length} tokens; use fewer tokens or a shorter length"
            )
        return list(itertools.product(self.vocabulary, repeat=length))

    def draw(self, count: int, rng: random.Random) -> list[tuple[Value, ...]]:
        """Random inputs of the full length."""
        if self.texts is not None:
            return rng.choices(self.texts(), k=count)
        return [tuple(rng.choices(self.vocabulary, k=self.length)) for _ in range(count)]

    def outputs(self, tokens: Sequence[Value]) -> list[Any]:
        """What the program gives at each position."""
        return evaluate(self.build(), tokens)


@cache
def all_programs() -> dict[str, Program]:
    """Every program of the project by its name."""
    from hooke.truth import programs_order, programs_redundant, programs_values

    found = [*programs_values.PROGRAMS, *programs_order.PROGRAMS, *programs_redundant.PROGRAMS]
    return {program.name: program for program in found}


def program(name: str) -> Program:
    """One program. Raises HookeError, with the nearest name."""
    known = all_programs()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    guess = f"; did you mean {near[0]}?" if near else f". There are: {', '.join(known)}"
    raise HookeError(f"no program called {name!r}{guess}")
