"""What of a text may be an example: windows of its tokens, of which kind of text each is, and which are held out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from hooke.data.texts.sources import is_own
from hooke.harvest import Plan

WIDE = 32  # tokens of a window: of each the token on which a feature is strongest is a candidate
SAID = 8  # tokens: where as many have stood in this order before, the last of them is no example
BEFORE, AFTER = 15, 8  # tokens that are shown beside the strongest one
LONG = BEFORE + 1 + AFTER
ASIDE = 1024  # windows that are set aside: what every feature does on them is kept
HELD_OUT = 0.4  # of the passages: what labels are scored on, and not made from
KINDS = ("docstrings", "descriptions", "manuals", "own text", "given text")


@dataclass(frozen=True, eq=False)
class Windows:
    """The tokens of a plan, cut into windows.

    kind: (pieces,) a number in KINDS. held_out: (pieces,) whether labels are only scored on it: whole passages. told:
    (tokens,) of `plan.ids`, whether it may be an example: not the first of its piece, whose activations are those of a
    sink, and no repetition of what was said before.
    """

    plan: Plan = field(repr=False)
    kind: np.ndarray = field(repr=False)
    held_out: np.ndarray = field(repr=False)
    told: np.ndarray = field(repr=False)

    @cached_property
    def kinds(self) -> list[int]:
        """The kinds of text that there are."""
        return sorted(set(self.kind.tolist()))

    def of(self, piece: int) -> list[np.ndarray]:
        """The tokens of the plan in each window of a piece; the last one may be shorter, by half at most."""
        start, stop = int(self.plan.offsets[piece]) + self.plan.skip, int(self.plan.offsets[piece + 1])
        cut = [np.arange(at, min(at + WIDE, stop)) for at in range(start, stop, WIDE)]
        return [window for window in cut if len(window) >= WIDE // 2 or len(cut) == 1]

    @cached_property
    def aside(self) -> dict[tuple[int, int], int]:
        """The windows that are set aside, (piece, number of the window in it): which place each has. Of all pieces
        alike, and only where the whole window may be an example."""
        found = [
            (piece, number)
            for piece in range(len(self.plan.offsets) - 1)
            for number, window in enumerate(self.of(piece))
            if self.told[window[0] : window[-1] + 1].all()
        ]
        order = np.random.default_rng([self.plan.seed, 2]).permutation(len(found))[:ASIDE]
        return {found[i]: place for place, i in enumerate(order)}


def windows_of(plan: Plan) -> Windows:
    """Kinds, what is held out (whole passages) and what is a repetition: a function of the plan alone."""
    kinds = np.array([kind_of(source) for source in plan.sources], np.int64)
    held_out = np.array([_chance(plan.seed, i) < HELD_OUT for i in range(len(plan.sources))])[plan.document]
    if held_out.all() or not held_out.any():  # so few passages that pieces of them have to do
        held_out = np.array([_chance(plan.seed + 1, i) < HELD_OUT for i in range(len(plan.document))])
    told = ~repeated(plan)
    for at in range(max(1, plan.skip)):
        told[np.minimum(plan.offsets[:-1] + at, plan.offsets[1:] - 1)] = False
    return Windows(plan, kinds[plan.document], held_out, told)


def kind_of(source: str) -> int:
    """The number in KINDS of a passage's label, as `hooke.data.texts` gives it."""
    if is_own(source):
        return KINDS.index("own text")
    place, _, name = source.partition("/")
    if place == "about":
        return KINDS.index("descriptions")
    if place == "doc" or source == "python/topics":
        return KINDS.index("manuals")
    return KINDS.index("docstrings" if place == "python" or (not name and place.isidentifier()) else "given text")


def repeated(plan: Plan) -> np.ndarray:
    """(tokens,) True where the last SAID tokens have stood in this order before, in any piece."""
    ids, n = plan.ids.astype(np.uint64), len(plan.ids)
    inside = np.arange(n) - np.repeat(plan.offsets[:-1], np.diff(plan.offsets))
    whole = np.zeros(n, np.uint64)
    with np.errstate(over="ignore"):
        for back in range(SAID):  # a polynomial in 64 bits: two runs of eight tokens do not meet by chance
            whole[back:] += (ids[: n - back] + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) ** np.uint64(back + 1)
    full = np.flatnonzero(inside >= plan.skip + SAID - 1)
    _, first = np.unique(whole[full], return_index=True)
    again = np.ones(len(full), bool)
    again[first] = False
    found = np.zeros(n, bool)
    found[full[again]] = True
    return found


def _chance(seed: int, document: int) -> float:
    digest = hashlib.sha256(f"{seed} {document}".encode()).digest()
    return int.from_bytes(digest[:8], "little") / 2**64
