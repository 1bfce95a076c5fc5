"""RASP: programs over sequences, in which every operation is what one part of a transformer can do.

Weiss, Goldberg and Yahav, Thinking like transformers (2106.06981), in the causal form that decoders need: an
operation at a position sees that position and those before it. An s-op gives one value at each position; None
stands for "nothing was selected". `evaluate` is the reference that compiled models are tested against.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hooke.errors import HookeError

Value = Hashable  # of a categorical s-op: a string, a whole number or a truth value
MOST_PAIRS = 2048  # of values of two s-ops, each of which takes a neuron
DIGITS = 9  # numbers that agree to this many decimals are one value


@dataclass(frozen=True, eq=False)
class SOp:
    """A sequence operation. `numeric`: its values are numbers on one axis, and not members of a set."""

    numeric: bool = field(default=False, kw_only=True)


@dataclass(frozen=True, eq=False)
class Tokens(SOp):
    """The token at each position."""


@dataclass(frozen=True, eq=False)
class Indices(SOp):
    """The number of each position, from 0."""


@dataclass(frozen=True, eq=False)
class Map(SOp):
    """f(x) at each position: a layer of neurons. x may be of either kind; `numeric` is the kind of the result."""

    f: Callable[[Any], Any]
    x: SOp


@dataclass(frozen=True, eq=False)
class SequenceMap(SOp):
    """f(x, y) at each position, both categorical: a layer of neurons."""

    f: Callable[[Any, Any], Any]
    x: SOp
    y: SOp


@dataclass(frozen=True, eq=False)
class Select:
    """For each query position the positions up to it where predicate(key, query) holds: an attention pattern."""

    keys: SOp
    queries: SOp
    predicate: Callable[[Any, Any], bool]


@dataclass(frozen=True, eq=False)
class Aggregate(SOp):
    """The mean over the selected positions: a head.

    Of a numeric s-op that is a number, 0 where nothing is selected; of a categorical one the value that all
    selected positions share, None where nothing is selected.
    """

    select: Select
    x: SOp


@dataclass(frozen=True, eq=False)
class Inverse(SOp):
    """1 / (1 + how many positions are selected): a head that also attends to the beginning of the sequence."""

    select: Select


TOKENS, INDICES = Tokens(), Indices()


def aggregate(select: Select, x: SOp) -> Aggregate:
    """The mean of x (numeric) or the value of x (categorical) over the selected positions."""
    return Aggregate(select, x, numeric=x.numeric)


def selector_width(select: Select) -> Map:
    """How many positions are selected, as a categorical s-op: a head and a layer of neurons."""
    return Map(lambda share: round(1 / share) - 1, Inverse(select, numeric=True))


def number(f: Callable[[Any], float], x: SOp) -> Map:
    """f(x) as a numeric s-op."""
    return Map(f, x, numeric=True)


def evaluate(op: SOp, tokens: Sequence[Value]) -> list[Any]:
    """The values of an s-op at each position, by definition and one position at a time.

    Raises HookeError where a categorical aggregate selects several values.
    """
    known: dict[int, list[Any]] = {}

    def of(op: SOp) -> list[Any]:
        if id(op) not in known:
            known[id(op)] = _values(op, tokens, of)
        return known[id(op)]

    return of(op)


def _values(op: SOp, tokens: Sequence[Value], of: Callable[[SOp], list[Any]]) -> list[Any]:
    if isinstance(op, Tokens):
        return list(tokens)
    if isinstance(op, Indices):
        return list(range(len(tokens)))
    if isinstance(op, Map):
        return [None if x is None else op.f(x) for x in of(op.x)]
    if isinstance(op, SequenceMap):
        return [None if x is None or y is None else op.f(x, y) for x, y in zip(of(op.x), of(op.y))]
    if isinstance(op, Inverse):
        return [1 / (1 + len(places)) for places in _selected(op.select, of)]
    if isinstance(op, Aggregate):
        return [_mean([of(op.x)[i] for i in places], op.numeric) for places in _selected(op.select, of)]
    raise HookeError(f"no way to evaluate {type(op).__name__}")


def _selected(select: Select, of: Callable[[SOp], list[Any]]) -> list[list[int]]:
    keys, queries = of(select.keys), of(select.queries)
    return [
        [i for i in range(j + 1) if keys[i] is not None and q is not None and select.predicate(keys[i], q)]
        for j, q in enumerate(queries)
    ]


def _mean(values: list[Any], numeric: bool) -> Any:
    if numeric:
        return sum(values) / len(values) if values else 0.0
    if len(set(values)) > 1:
        raise HookeError(f"a categorical aggregate selects several values ({', '.join(map(repr, set(values)))})")
    return values[0] if values else None


def inputs_of(op: SOp) -> tuple[SOp, ...]:
    """The s-ops that an s-op reads."""
    if isinstance(op, Map):
        return (op.x,)
    if isinstance(op, SequenceMap):
        return (op.x, op.y)
    if isinstance(op, (Aggregate, Inverse)):
        sources = (op.select.queries, op.select.keys)
        return (*sources, op.x) if isinstance(op, Aggregate) else sources
    return ()


def in_order(op: SOp) -> list[SOp]:
    """An s-op and all that it needs, each after what it reads."""
    found: dict[int, SOp] = {}

    def visit(op: SOp) -> None:
        if id(op) not in found:
            for before in inputs_of(op):
                visit(before)
            found[id(op)] = op

    visit(op)
    return list(found.values())


def value_sets(op: SOp, vocabulary: Sequence[Value], length: int) -> dict[int, list[Any]]:
    """By id of each s-op all values that it can take on sequences of up to `length` tokens (or more), sorted.

    Raises HookeError for a program that mixes the kinds, or a numeric s-op of more values than can be told apart.
    """
    sets: dict[int, list[Any]] = {}
    for each in in_order(op):
        _check_kinds(each)
        found: set[Any] = set()
        if isinstance(each, Tokens):
            found = set(vocabulary)
        elif isinstance(each, Indices):
            found = set(range(length))
        elif isinstance(each, Map):
            found = {each.f(x) for x in sets[id(each.x)]}
        elif isinstance(each, SequenceMap):
            if len(sets[id(each.x)]) * len(sets[id(each.y)]) > MOST_PAIRS:
                raise HookeError(
                    "a map of two s-ops of so many values cannot be compiled; use fewer tokens or positions"
                )
            found = {each.f(x, y) for x in sets[id(each.x)] for y in sets[id(each.y)]}
        elif isinstance(each, Inverse):
            found = {1 / (1 + n) for n in range(length + 1)}
        elif isinstance(each, Aggregate) and each.numeric:
            found = _means(sets[id(each.x)], length)
        elif isinstance(each, Aggregate):
            found = set(sets[id(each.x)])
        found -= {None}
        if each.numeric:
            found = {round(float(x), DIGITS) for x in found}
        sets[id(each)] = sorted(found, key=lambda x: (str(type(x)), x))
    return sets


def _means(values: Sequence[float], length: int) -> set[float]:
    """The means of up to `length` of the values."""
    sums, found = {0.0}, {0.0}
    for count in range(1, length + 1):
        sums = {round(total + x, DIGITS) for total in sums for x in values}
        found |= {round(total / count, DIGITS) for total in sums}
        if len(found) > 1000:
            raise HookeError("a mean of so many different numbers cannot be compiled; map them to fewer values")
    return found


def _check_kinds(op: SOp) -> None:
    wanted: list[tuple[str, SOp, bool]] = []
    if isinstance(op, SequenceMap):
        wanted = [("a map of two", op.x, False), ("a map of two", op.y, False)]
    elif isinstance(op, (Aggregate, Inverse)):
        wanted = [("a selector", op.select.keys, False), ("a selector", op.select.queries, False)]
        if isinstance(op, Aggregate):
            wanted.append(("an aggregate of this kind", op.x, op.numeric))
    for what, source, numeric in wanted:
        if source.numeric != numeric:
            raise HookeError(f"{what} takes {'numeric' if numeric else 'categorical'} s-ops only")
