"""Which edges of a compiled program are true, decided by cutting them together on every input.

A *circuit* is a set of edges that keeps all outputs while all other edges are cut together, from any source; it is
minimal if no smaller part of it does. An edge is

- *true* if it is in every minimal circuit,
- *redundant* if it is in some and not in all: others stand in for it,
- *cancelling* if it is in none, and yet cutting it by itself, beside all that is dead, changes an output: what it
  carries is undone elsewhere, and its partners were left,
- *dead* otherwise. Dead edges cut together change nothing.

Every edge of a minimal circuit lies on a path of it from the input to the logits, since nothing else reaches them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from hooke.errors import HookeError
from hooke.methods.computation_graph import ends_of, node_named
from hooke.truth.programs.compiler import Compiled
from hooke.truth.programs.cuts import Cuts, Text
from hooke.truth.programs.definition import MAX_INPUTS

ALL_PAIRS = 1 << 17  # up to this many, every pair of inputs is tried
SAMPLED = 1 << 15  # inputs of a program that has too many
RARE = 96  # inputs with rare values, all pairs of which are tried
EVERY_SET = 13  # edges (those in series count once) up to which all sets of them are tried
FIRST, MORE = 48, 8  # pairs that sets are tried on first, and that a set found wanting adds to them
POOL = 512  # pairs from which those are chosen that methods are scored on
CIRCUITS = 64  # minimal circuits that are listed
VAIN = 6  # orders in a row that bring nothing new, after which a search for circuits goes edge by edge
ROWS = 1 << 17  # of sets times pairs at once
Sets = np.ndarray  # (sets, groups of edges) bool: what is cut


@dataclass(frozen=True)
class Labels:
    """true, redundant, cancelling, dead: the edges of the program, as above; every other edge of its model is dead.

    circuits: the minimal circuits, small ones first, at most 64. alone: the edges that change an output when they are
    cut alone (the labels of single cuts). inputs, pairs: how many were tried. enumerated: whether these inputs are all
    there are. exhaustive: whether all sets of edges were tried, or a search was made.
    """

    true: frozenset[str]
    redundant: frozenset[str]
    cancelling: frozenset[str]
    dead: frozenset[str]
    circuits: tuple[frozenset[str], ...]
    alone: frozenset[str]
    inputs: int
    pairs: int
    enumerated: bool
    exhaustive: bool

    @property
    def living(self) -> frozenset[str]:
        """The edges of all minimal circuits."""
        return self.true | self.redundant

    def renamed(self, name: Callable[[str], str]) -> Labels:
        """The same of a model in which the edges are called otherwise."""

        def of(edges: frozenset[str]) -> frozenset[str]:
            return frozenset(map(name, edges))

        return replace(
            self,
            true=of(self.true),
            redundant=of(self.redundant),
            cancelling=of(self.cancelling),
            dead=of(self.dead),
            alone=of(self.alone),
            circuits=tuple(map(of, self.circuits)),
        )


@dataclass(frozen=True, eq=False)
class Pool:
    """Pairs of inputs to choose from. base, source: numbers of texts. told: whether their last outputs differ.
    acts: by living edge the pairs in which it changes an output, a redundant one while what can stand in is cut."""

    texts: Sequence[Text]
    base: np.ndarray
    source: np.ndarray
    told: np.ndarray
    acts: dict[str, np.ndarray]


def label(made: Compiled) -> tuple[Labels, Pool]:
    """The labels of a compiled program's edges, and pairs that exercise them.

    Raises HookeError for a program without an output on some input, or with the same output on all.
    """
    texts, enumerated = _texts(made)
    tries = _Tries(Cuts(made, texts))
    free = [edge for edge in tries.cuts.edges if edge not in made.idle]
    if not tries.told.any() or not free:
        raise HookeError(
            f"{made.program.name} gives nearly the same output for all inputs; there are no pairs to compare"
        )
    groups = _in_series(free)
    tries.group(groups)
    exhaustive = len(groups) <= EVERY_SET
    null = _all_null(tries) if exhaustive else _some_null(tries, groups)
    ever, always = np.logical_or.reduce(null, 0), np.logical_and.reduce(null, 0)
    dead = _harmless(tries, always)

    def edges(chosen: np.ndarray) -> frozenset[str]:
        return frozenset(edge for group, one in zip(groups, chosen, strict=True) if one for edge in group)

    circuits = sorted((edges(~one) for one in null), key=lambda found: (len(found), sorted(found)))
    alone = np.array([len(tries.against(one)) > 0 for one in np.eye(len(groups), dtype=bool)])
    labels = Labels(
        edges(~ever),
        edges(ever & ~always),
        edges(always & ~dead),
        edges(dead) | (made.edges - frozenset(free)),
        tuple(circuits[:CIRCUITS]),
        edges(alone),
        len(texts),
        len(tries.base),
        enumerated,
        exhaustive,
    )
    return labels, _pool(tries, labels)


def _texts(made: Compiled) -> tuple[Sequence[Text], bool]:
    """All inputs of the full length, or a sample of too many; whether they are all."""
    program = made.program
    if program.texts is not None or len(program.vocabulary) ** program.length <= MAX_INPUTS:
        return program.inputs(), True
    return list(dict.fromkeys(program.draw(SAMPLED, random.Random(0)))), False


def _in_series(edges: Sequence[str]) -> list[list[str]]:
    """Edges in groups: the only one into a node and the only one out of it are cut alike."""
    into: dict[str, list[str]] = {}
    out: dict[str, list[str]] = {}
    for edge in edges:
        writer, reader = ends_of(edge)
        out.setdefault(writer, []).append(edge)
        into.setdefault(node_named(reader), []).append(edge)
    group = {edge: [edge] for edge in edges}
    for node, before in into.items():
        after = out.get(node, [])
        if len(before) == len(after) == 1 and group[before[0]] is not group[after[0]]:
            group[before[0]] += group[after[0]]
            for edge in group[after[0]]:
                group[edge] = group[before[0]]
    return [group[edge] for edge in edges if group[edge][0] == edge]


class _Tries:
    """Pairs of inputs, and sets of edges cut on them. A set is tried on a few pairs first; one that does nothing there
    is tried on all, and the pairs that speak against it are added to the few."""

    def __init__(self, cuts: Cuts) -> None:
        self.cuts = cuts
        self.base, self.source = _all_pairs(cuts)
        self.told = cuts.differ(self.base, self.source)
        likely = np.concatenate([self.told.nonzero()[0][: FIRST // 2], np.arange(min(FIRST // 2, len(self.base)))])
        self.few = np.unique(likely)
        self.columns = np.eye(len(cuts.edges), dtype=bool)

    def group(self, groups: Sequence[Sequence[str]]) -> None:
        """From now on a set is a choice of these groups of edges."""
        self.columns = np.array([[edge in group for edge in self.cuts.edges] for group in groups])

    def null(self, sets: Sets, pairs: np.ndarray | None = None) -> np.ndarray:
        """(sets,): whether cutting a set changes no output on some pairs (numbers of them; the few)."""
        pairs = self.few if pairs is None else pairs
        found = np.empty(len(sets), bool)
        step = max(1, ROWS // len(pairs))
        for start in range(0, len(sets), step):
            cut = np.repeat(sets[start : start + step] @ self.columns, len(pairs), 0)
            base, source = (np.tile(x[pairs], len(cut) // len(pairs)) for x in (self.base, self.source))
            acts, several = self.cuts.told(base, source, cut)
            silent = ~acts.reshape(-1, len(pairs)).any(1)
            ask = several & np.repeat(
                silent, len(pairs)
            )  # the model is slow: it is asked where the program tells nothing
            acts[ask] = self.cuts.by_model(base[ask], source[ask], cut[ask])
            found[start : start + step] = ~acts.reshape(-1, len(pairs)).any(1)
        return found

    def against(self, one: np.ndarray) -> np.ndarray:
        """Some of the pairs, of all, on which cutting a set changes an output; they are added to the few."""
        if not self.null(one[None])[0]:
            return self.few
        cut = one[None] @ self.columns
        for start in range(0, len(self.base), ROWS // 4):
            here = slice(start, start + ROWS // 4)
            acts = self.cuts.acts(self.base[here], self.source[here], cut).nonzero()[0]
            if len(acts):
                found: np.ndarray = start + acts[:: max(1, len(acts) // MORE)][:MORE]
                self.few = np.union1d(self.few, found)
                return found
        return np.empty(0, int)


def _all_pairs(cuts: Cuts) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of base and source inputs, in a random order: all pairs, or every input as base and as source of as many
    others, and all pairs of those inputs on which some operation has a rare value."""
    n, rng = len(cuts.texts), np.random.default_rng(0)
    if n * n <= ALL_PAIRS:
        base, source = np.divmod(rng.permutation(n * n), n)
        return base, source
    turns = [rng.permutation(n) for _ in range(max(4, ALL_PAIRS // n))]
    rare = _rare(cuts)
    base = np.concatenate([*(np.arange(n) for _ in turns), np.repeat(rare, len(rare))])
    source = np.concatenate([*turns, np.tile(rare, len(rare))])
    order = rng.permutation(len(base))
    return base[order], source[order]


def _rare(cuts: Cuts) -> np.ndarray:
    """Inputs on which some operation has a rare value at some position, the rarest first."""
    found: list[tuple[int, int]] = []
    for values in cuts.clean.values():
        for column in values.T:
            _, first, count = np.unique(column, return_index=True, return_counts=True)
            found += zip(count.tolist(), first.tolist(), strict=True)
    return np.array(list(dict.fromkeys(text for _, text in sorted(found)))[:RARE])


# ---- which sets of edges can be cut without effect, and none beyond them ---------------------------


def _all_null(tries: _Tries) -> Sets:
    """The largest sets of groups that can be cut without effect, by trying all sets."""
    k = len(tries.columns)
    sets = (np.arange(1 << k)[:, None] >> np.arange(k) & 1).astype(bool)
    null = np.ones(1 << k, bool)

    def narrow(pairs: np.ndarray) -> None:
        left = null.nonzero()[0]
        null[left] = tries.null(sets[left], pairs)

    narrow(tries.few)
    checked: set[int] = set()
    while True:
        for number in _largest(null, k).tolist():
            if number in checked:
                continue
            against = tries.against(sets[number])
            if len(against):
                narrow(against)
                break
            checked.add(number)
        else:
            return sets[_largest(null, k)]


def _largest(null: np.ndarray, k: int) -> np.ndarray:
    """Numbers of the sets that are null and have no null superset."""
    above = null.copy()  # whether the set or any superset is null
    beyond = np.zeros_like(null)
    for i in range(k):
        parts = above.reshape(-1, 2, 1 << i)
        parts[:, 0] |= parts[:, 1]
    for i in range(k):
        beyond.reshape(-1, 2, 1 << i)[:, 0] |= above.reshape(-1, 2, 1 << i)[:, 1]
    return (null & ~beyond).nonzero()[0]


def _some_null(tries: _Tries, groups: Sequence[Sequence[str]]) -> Sets:
    """Sets that can be cut without effect and cannot easily be enlarged, such that each edge which can be cut with
    others is in one of them, and each that can be kept is not in one, as far as a search finds them."""
    moves, k, rng = _moves(tries, groups), len(groups), np.random.default_rng(0)
    found: list[np.ndarray] = []

    def grow(start: np.ndarray, order: np.ndarray) -> None:
        while True:
            one = _grown(tries, start, moves[order])
            if not len(tries.against(one)):
                break
            if not tries.null(start[None])[0]:
                return
        if not any((one == other).all() for other in found):
            found.append(one)

    nothing = np.zeros(k, bool)
    vain = 0
    while vain < VAIN and len(found) < CIRCUITS:
        before = len(found)
        grow(nothing, rng.permutation(len(moves)))
        vain = 0 if len(found) > before else vain + 1
    for i in range(k):
        has = moves[:, i]
        if not any(one[i] for one in found):
            for start in moves[has][tries.null(moves[has])][:3]:
                grow(start, np.arange(len(moves)))
        if all(one[i] for one in found):
            grow(nothing, np.argsort(has, kind="stable"))
    return np.array(found)


def _moves(tries: _Tries, groups: Sequence[Sequence[str]]) -> Sets:
    """What may be cut at once: a group, all that a node reads, some of it or writes, and pairs without effect."""
    k = len(groups)
    single = np.eye(k, dtype=bool)
    at = {edge: i for i, group in enumerate(groups) for edge in group}
    ends: dict[str, set[int]] = {}
    for edge, i in at.items():
        writer, reader = ends_of(edge)
        ends.setdefault(f"from {writer}", set()).add(i)
        ends.setdefault(f"to {node_named(reader)}", set()).add(i)
    chosen = [set(pair) for pair in combinations(range(k), 2)]
    sets = [found for found in ends.values() if len(found) > 2]
    sets += [set(some) for found in ends.values() if 3 < len(found) <= 6 for n in range(3, len(found))
             for some in combinations(sorted(found), n)]  # fmt: skip
    pairs, larger = (np.array([single[sorted(one)].any(0) for one in x], bool).reshape(-1, k) for x in (chosen, sets))
    pairs = pairs[tries.null(pairs) & (pairs @ ~tries.null(single))]  # of two that do nothing each is tried alone
    return np.concatenate([single, larger, pairs])


def _grown(tries: _Tries, one: np.ndarray, moves: Sets) -> np.ndarray:
    """A set without effect on the few pairs, with moves added in their order as long as it stays without."""
    one = one.copy()
    while True:
        left = moves[(moves & ~one).any(1)]
        left = left[tries.null(left | one)] if len(left) else left
        if not len(left):
            return one
        while len(left):
            each = np.logical_or.accumulate(left, 0) | one
            good = tries.null(each)
            stop = len(good) if good.all() else int(good.argmin())
            one, left = (each[stop - 1] if stop else one), left[stop + 1 :]


def _harmless(tries: _Tries, rest: np.ndarray) -> np.ndarray:
    """Of the groups that no circuit needs, those that can be cut together, one added after another; what is left
    changes an output when it is cut beside them."""
    dead = np.zeros(len(rest), bool)
    grew = True
    while grew:
        grew = False
        for i in rest.nonzero()[0][::-1]:
            more = dead.copy()
            more[i] = True
            if not dead[i] and not len(tries.against(more)):
                dead, grew = more, True
    return dead


# ---- pairs that exercise the edges -----------------------------------------------------------------


def _pool(tries: _Tries, labels: Labels) -> Pool:
    at = np.union1d(np.arange(min(POOL, len(tries.base))), tries.few)
    base, source, cuts = tries.base[at], tries.source[at], tries.cuts
    acts = {}
    for edge in sorted(labels.living):
        rest = beside(labels, edge)
        cut = np.array([[one == edge or one in rest for one in cuts.edges]])
        acts[edge] = cuts.acts(base, source, cut)
    return Pool(cuts.texts, base, source, tries.told[at], acts)


def beside(labels: Labels, edge: str) -> frozenset[str]:
    """What is cut beside an edge to see what it does: nothing for a true one; for a redundant one all edges of the
    program outside a circuit that has it."""
    if edge in labels.true:
        return frozenset()
    whole = labels.living | labels.cancelling | labels.dead
    return whole - next((one for one in labels.circuits if edge in one), whole)
