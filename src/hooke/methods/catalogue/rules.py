"""Descriptions that can be held against text: rules put together of atoms.

A rule says yes to a token where all its clauses do: `on` the token itself, `after` the one before it, `near` any of the
BEFORE tokens before it. It is made from windows of passages that it is not scored on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from hooke.methods.catalogue.atoms import Atoms
from hooke.methods.catalogue.windows import AFTER, BEFORE, Windows

PLACES = ("on", "after", "near")
MOST = 5  # atoms of a clause
SHARE, LEAST = 0.1, 3  # of the windows that an atom must be in to be tried, and how many at least
TRIED = 16  # atoms that are tried at a place
PRICE = 0.03  # of what is gained that each atom costs
DOUBT = 5.0  # windows that say nothing, beside those at hand
COMMON = 2048  # random tokens that say how often an atom occurs anyway


class Clause(NamedTuple):
    """A place and the atoms of which one stands there."""

    place: str
    atoms: tuple[int, ...]


Rule = tuple[Clause, ...]


class Tried(NamedTuple):
    """A rule, and what it gains."""

    gain: float
    rule: Rule


@dataclass(eq=False)
class Corpus:
    """The tokens that rules are held against. ids: (tokens,). near: (tokens, LONG) which tokens are around each, -1
    where its piece has none. common: random tokens of passages that labels are made from."""

    atoms: Atoms
    ids: np.ndarray = field(repr=False)
    near: np.ndarray = field(repr=False)
    common: np.ndarray = field(repr=False)

    def places(self, place: str, at: np.ndarray) -> np.ndarray:
        """(n, m): which tokens a clause of that place looks at for tokens `at` (n,), -1 for none."""
        ends = {"on": (BEFORE, BEFORE + 1), "after": (BEFORE - 1, BEFORE), "near": (0, BEFORE)}[place]
        return self.near[at, ends[0] : ends[1]]

    def any(self, yes: np.ndarray, places: np.ndarray) -> np.ndarray:
        """(n,): whether any of the tokens at places (n, m) is one for which `yes` (vocabulary or tokens,) holds."""
        there = yes[places] if len(yes) == len(self.ids) else yes[self.ids[places]]
        return (there & (places >= 0)).any(1)

    def says(self, rule: Rule, at: np.ndarray) -> np.ndarray:
        """(n,) whether a rule says yes to tokens `at`."""
        found = np.ones(len(at), bool)
        for place, atoms in rule:
            found &= self.any(self.atoms.mask(atoms), self.places(place, at))
        return found

    def found(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The atoms that occur at places (n, m): (row, atom), each pair once."""
        row, column = np.nonzero(places >= 0)
        ids, of = self.ids[places[row, column]], self.atoms.of_token
        counts, starts = np.diff(of.indptr)[ids], of.indptr[ids]
        flat = np.repeat(starts - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        pairs = np.unique(np.repeat(row, counts).astype(np.int64) * of.shape[1] + of.indices[flat])
        return pairs // of.shape[1], pairs % of.shape[1]


def corpus(wins: Windows, atoms: Atoms) -> Corpus:
    """What rules are made from and held against."""
    plan = wins.plan
    lengths = np.diff(plan.offsets)
    first, last = np.repeat(plan.offsets[:-1] + plan.skip, lengths), np.repeat(plan.offsets[1:], lengths)
    near = np.arange(len(plan.ids))[:, None] + np.arange(-BEFORE, AFTER + 1)
    near = np.where((near >= first[:, None]) & (near < last[:, None]), near, -1).astype(np.int32)
    made_from = np.flatnonzero(wins.told & ~np.repeat(wins.held_out, lengths))
    common = np.random.default_rng([plan.seed, 3]).permutation(made_from)[:COMMON]
    return Corpus(atoms, plan.ids, near, common)


# ---- making one ---------------------------------------------------------------------------------


@dataclass(eq=False)
class Base:
    """What random tokens and the windows around them say of each atom. share: by place, (atoms,) at which share of them
    it stands; `window`: anywhere around. An atom's own answers are kept once they were asked for."""

    text: Corpus
    share: dict[str, np.ndarray]
    _kept: dict[tuple[str, int], np.ndarray] = field(default_factory=dict, repr=False)

    def says(self, place: str, atoms: tuple[int, ...]) -> np.ndarray:
        """(common,) whether one of some atoms stands there."""
        found = np.zeros(len(self.text.common), bool)
        for atom in atoms:
            if (place, atom) not in self._kept:
                at = self.text.common
                places = self.text.near[at] if place == "window" else self.text.places(place, at)
                self._kept[place, atom] = self.text.any(self.text.atoms.mask((atom,)), places)
            found |= self._kept[place, atom]
        return found


def base_of(text: Corpus) -> Base:
    """By the random tokens."""

    def share(places: np.ndarray) -> np.ndarray:
        return np.bincount(text.found(places)[1], minlength=text.atoms.of_token.shape[1]) / len(places)

    shares = {place: share(text.places(place, text.common)) for place in PLACES}
    return Base(text, shares | {"window": share(text.near[text.common])})


class _Examples:
    """Windows that a rule is made for: which atoms occur at enough of them to be tried, by place."""

    def __init__(self, text: Corpus, at: np.ndarray) -> None:
        self.n, self.text = len(at), text
        self._places = {place: text.places(place, at) for place in PLACES} | {"window": text.near[at]}
        self._counted: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._kept: dict[tuple[str, int], np.ndarray] = {}
        for place, where in self._places.items():
            self._counted[place] = np.unique(text.found(where)[1], return_counts=True)

    def candidates(self, place: str) -> np.ndarray:
        """The atoms that stand there in enough windows."""
        names, counts = self._counted[place]
        return names[counts >= max(LEAST, SHARE * self.n)]

    def shares(self, place: str, atoms: np.ndarray) -> np.ndarray:
        """(atoms,) at which share of the windows each stands there; all do in some."""
        names, counts = self._counted[place]
        return counts[np.searchsorted(names, atoms)] / self.n

    def says(self, place: str, atoms: tuple[int, ...]) -> np.ndarray:
        """(n,) whether one of some atoms stands there."""
        found = np.zeros(self.n, bool)
        for atom in atoms:
            if (place, atom) not in self._kept:
                self._kept[place, atom] = self.text.any(self.text.atoms.mask((atom,)), self._places[place])
            found |= self._kept[place, atom]
        return found


def rule_of(text: Corpus, base: Base, at: np.ndarray) -> Tried | None:
    """The rule that tells the windows around tokens `at` (n,), where a feature is strongest, from random ones best, and
    what it gains: the mean of right less wrong over tokens and over windows, less a price for each atom.

    First one atom, then further ones at the same place, then a second place. None where no atom is common enough.
    """
    examples, ranked, best = _Examples(text, at), {}, Tried(0.0, ())
    for place in PLACES:
        some = examples.candidates(place)
        gain = examples.shares(place, some) - base.share[place][some]
        if place != "near":
            gain = gain + examples.shares("window", some) - base.share["window"][some]
        ranked[place] = some[np.argsort(-gain, kind="stable")[:TRIED]].tolist()
        chosen = Tried(0.0, ())
        for atom in ranked[place]:
            more = (*(chosen.rule[0].atoms if chosen.rule else ()), atom)
            chosen = max(chosen, _tried(base, examples, (Clause(place, more),)), key=lambda one: one.gain)
            if chosen.rule and len(chosen.rule[0].atoms) == MOST:
                break
        best = max(best, chosen, key=lambda one: one.gain)
    if not best.rule:
        return None
    first = best
    for place in PLACES:
        for atom in ranked[place][:MOST] if place != first.rule[0].place else ():
            best = max(best, _tried(base, examples, (*first.rule, Clause(place, (atom,)))), key=lambda one: one.gain)
    return best


def _tried(base: Base, examples: _Examples, rule: Rule) -> Tried:
    """What a rule gains on the windows at hand over random ones; what few windows say is taken for less."""
    # what is near one token of a window is near most of them
    whole = [(place if place == "near" else "window", atoms) for place, atoms in rule]
    gain = _all(examples, whole) - _all(base, whole)
    if any(place != "near" for place, _ in rule):
        gain += _all(examples, rule) - _all(base, rule)
    trust = examples.n / (examples.n + DOUBT)
    return Tried(trust * gain / 2 - PRICE * sum(len(atoms) for _, atoms in rule), rule)


def _all(asked: Base | _Examples, clauses: Sequence[tuple[str, tuple[int, ...]]]) -> float:
    """The share of windows in which every clause says yes."""
    found = asked.says(*clauses[0])
    for clause in clauses[1:]:
        found &= asked.says(*clause)
    return np.count_nonzero(found) / len(found)
