"""`Program`: a RASP program as data, with the inputs that it takes."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hooke.errors import HookeError
from hooke.truth.programs.rasp import SOp, Value, evaluate

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
