"""RASP programs compiled to the weights of a plain transformer, with the circuit that follows from them.

After Lindner and others, Tracr (2301.05062): the stream has one dimension for each value of a categorical s-op and
one for each numeric s-op. An aggregate is a head whose scores are hard (`SCALE` where the predicate holds, half of
it at the beginning of the sequence, so that what selects nothing reads the zeros there); maps are ReLU units, one
for each value or pair of values. Operations are placed in the earliest layer possible.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from hooke.errors import HookeError
from hooke.truth.plain import BOS, Shape, new_gpt2
from hooke.truth.programs import Program
from hooke.truth.programs.rasp import (
    Aggregate,
    Indices,
    Inverse,
    Map,
    Select,
    SequenceMap,
    SOp,
    Tokens,
    in_order,
    inputs_of,
    value_sets,
)

SCALE = 100.0  # of attention scores
LOGIT = 10.0  # of the output that the program gives; that of `none` is half of it
BIG = 1000.0  # keeps neurons that read a number silent at the beginning of the sequence
SPARE = 4  # dimensions of the stream that only spare parts write
NONE, NUMBER = "none", "value"  # words of an output that is None, or a number
MAX_WIDTH = 2048


@dataclass(frozen=True)
class Compiled:
    """What the compiler gives.

    hf: the model, GPT-2 without norms. words: what its ids mean. outputs: the ids of outputs, by value; of a
    numeric program only that of `value`, whose logit is the number.
    edges: those of the structure: `u->v` where v reads a dimension that u writes and the output depends on.
    idle: those of them that can change nothing between inputs of one length, and why.
    homes: by component, what it computes, in words.
    ops: the operations, each after what it reads, the output last. sets, where: by their ids, the values that each
        can take, and the component that holds it.
    """

    program: Program
    hf: Any
    words: tuple[str, ...]
    outputs: dict[Any, int]
    numeric: bool
    edges: frozenset[str]
    idle: dict[str, str]
    homes: dict[str, str]
    ops: tuple[SOp, ...]
    sets: dict[int, list[Any]]
    where: dict[int, str]

    def ids(self, texts: Sequence[Sequence[Any]]) -> Tensor:
        """Inputs of equal length as token ids with the beginning before them, (n, 1 + length)."""
        number = {word: i for i, word in enumerate(self.words)}
        return torch.tensor([[0, *(number[word_of(token)] for token in text)] for text in texts])


def word_of(value: Any) -> str:
    """How a value is written as a token."""
    return NONE if value is None else {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


@dataclass(frozen=True)
class _Unit:
    """One ReLU neuron: what it reads and writes, by dimension of the stream."""

    reads: dict[int, float]
    bias: float
    writes: dict[int, float]


@dataclass(frozen=True)
class _Place:
    """Where an operation is: `input`, or a head or the MLP of a layer."""

    layer: int
    head: int | None
    time: int

    @property
    def name(self) -> str:
        if self.time < 0:
            return "input"
        return f"m{self.layer}" if self.head is None else f"a{self.layer}.h{self.head}"


def compile_program(program: Program, *, n_heads: int = 3, min_layers: int = 2) -> Compiled:
    """Compile a program. Every layer has at least one spare head, and every layer an MLP.

    Raises HookeError for a program that cannot be compiled: too many values, or kinds that do not fit.
    """
    output = program.build()
    ops = in_order(output)
    sets = value_sets(output, program.vocabulary, program.length)
    times = _times(ops)
    n_heads = max([n_heads, *(1 + count for count in Counter(times[id(op)] for op in ops if _is_head(op)).values())])
    places = _places(ops, times, n_heads, random.Random(program.name))
    n_layers = max(min_layers, 1 + max(place.layer for place in places.values()))
    at, used = _dimensions(ops, sets)
    bos, one = used, used + 1
    d_key = max((_width(op, sets) for op in ops if _is_head(op)), default=1)
    d_head = max(d_key, -(-(used + 2 + SPARE) // n_heads))
    units = [_units(ops, sets, places, at, bos, layer) for layer in range(n_layers)]
    d_mlp = max(4, *(len(found) for found in units))
    if max(n_heads * d_head, d_mlp) > MAX_WIDTH:
        raise HookeError(
            f"{program.name} needs {max(n_heads * d_head, d_mlp):,} dimensions; use fewer tokens or positions"
        )
    words, outputs = _words(program, output, sets)
    hf = new_gpt2(
        Shape(
            d_vocab=len(words),
            n_pos=program.length + 1,
            n_layers=n_layers,
            n_heads=n_heads,
            d_head=d_head,
            d_mlp=d_mlp,
            activation="relu",
            norms=False,
        )
    )
    for parameter in hf.parameters():
        parameter.zero_()
    _embed(hf, ops, sets, at, bos, one, words)
    for op in ops:
        if isinstance(op, (Aggregate, Inverse)):
            _attend(hf, op, places[id(op)], sets, at, bos, d_head)
    for layer, found in enumerate(units):
        _neurons(hf.transformer.h[layer].mlp, found)
    spare = random.Random(program.name).randrange(2**31)
    _spare_parts(hf, places, units, torch.Generator().manual_seed(spare), d_head)
    if output.numeric:
        hf.lm_head.weight[outputs[NUMBER], at[id(output)]] = 1.0
    else:
        for i, value in enumerate(sets[id(output)]):
            hf.lm_head.weight[outputs[value], at[id(output)] + i] = LOGIT
        hf.lm_head.weight[outputs[None], one] = LOGIT / 2
    homes: dict[str, list[str]] = {}
    for op in ops:
        homes.setdefault(places[id(op)].name, []).append(type(op).__name__)
    what = {name: ", ".join(found) for name, found in homes.items()}
    where = {number: place.name for number, place in places.items()}
    edges, idle = _edges(ops, places, sets)
    return Compiled(program, hf, words, outputs, output.numeric, edges, idle, what, tuple(ops), sets, where)


# ---- placing -----------------------------------------------------------------------------------


def _is_head(op: SOp) -> bool:
    return isinstance(op, (Aggregate, Inverse))


def _times(ops: Sequence[SOp]) -> dict[int, int]:
    """When each operation can happen first: -1 for the input, heads of layer l at 2 l, its MLP at 2 l + 1."""
    times: dict[int, int] = {}
    for op in ops:
        if isinstance(op, (Tokens, Indices)):
            times[id(op)] = -1
        else:
            start = 1 + max(times[id(source)] for source in inputs_of(op))
            times[id(op)] = start + (start % 2 if _is_head(op) else 1 - start % 2)
    return times


def _places(ops: Sequence[SOp], times: dict[int, int], n_heads: int, rng: random.Random) -> dict[int, _Place]:
    """Each operation's layer and, for a head, a random one of those that are free there."""
    free: dict[int, list[int]] = {}
    places = {}
    for op in ops:
        time, head = times[id(op)], None
        if _is_head(op):
            head = free.setdefault(time, rng.sample(range(n_heads), n_heads)).pop()
        places[id(op)] = _Place(max(time, 0) // 2, head, time)
    return places


def _dimensions(ops: Sequence[SOp], sets: dict[int, list[Any]]) -> tuple[dict[int, int], int]:
    """The first dimension of each s-op, and how many are used."""
    at, used = {}, 0
    for op in ops:
        at[id(op)] = used
        used += 1 if op.numeric else len(sets[id(op)])
    return at, used


def _width(op: SOp, sets: dict[int, list[Any]]) -> int:
    """How many dimensions a head needs: the keys and the beginning, or the values."""
    assert isinstance(op, (Aggregate, Inverse))
    values = len(sets[id(op.x)]) if isinstance(op, Aggregate) and not op.numeric else 1
    return max(values, 1 + len(sets[id(op.select.keys)]))


def _edges(
    ops: Sequence[SOp], places: dict[int, _Place], sets: dict[int, list[Any]]
) -> tuple[frozenset[str], dict[str, str]]:
    """All edges, and why those can change nothing that do not depend on which tokens there are."""
    reasons: dict[str, set[str]] = {}

    def add(source: SOp, reader: str, ignored: bool = False) -> None:
        why = "the predicate is the same for all values" if ignored else ""
        why = why or ("" if _depends(source, sets) else "the same in all inputs of a length")
        reasons.setdefault(f"{places[id(source)].name}->{reader}", set()).add(why)

    for op in ops:
        here = places[id(op)].name
        if isinstance(op, (Aggregate, Inverse)):
            by_key, by_query = _looks(op.select, sets)
            add(op.select.queries, f"{here}<q>", not by_query)
            add(op.select.keys, f"{here}<k>", not by_key)
            if isinstance(op, Aggregate):
                add(op.x, f"{here}<v>")
        else:
            for source in inputs_of(op):
                add(source, here)
    add(ops[-1], "logits")
    return frozenset(reasons), {edge: ", ".join(sorted(why)) for edge, why in reasons.items() if "" not in why}


def _looks(select: Select, sets: dict[int, list[Any]]) -> tuple[bool, bool]:
    """Whether a selector's predicate depends on the key, and on the query."""
    table = [[bool(select.predicate(k, q)) for q in sets[id(select.queries)]] for k in sets[id(select.keys)]]
    return any(row != table[0] for row in table), any(len(set(row)) > 1 for row in table)


def _depends(op: SOp, sets: dict[int, list[Any]]) -> bool:
    """Whether an s-op depends on which tokens there are, as far as its structure says."""
    if isinstance(op, Tokens) or len(sets[id(op)]) < 2:
        return len(sets[id(op)]) > 1
    if isinstance(op, (Aggregate, Inverse)):
        by_key, by_query = _looks(op.select, sets)
        keys, queries = (_depends(source, sets) for source in (op.select.keys, op.select.queries))
        return (by_key and keys) or (by_query and queries) or (isinstance(op, Aggregate) and _depends(op.x, sets))
    return any(_depends(source, sets) for source in inputs_of(op))


def _words(program: Program, output: SOp, sets: dict[int, list[Any]]) -> tuple[tuple[str, ...], dict[Any, int]]:
    values: list[Any] = [NUMBER] if output.numeric else [*sets[id(output)], None]
    words = list(dict.fromkeys([BOS, *map(word_of, program.vocabulary), *map(word_of, values)]))
    return tuple(words), {value: words.index(word_of(value)) for value in values}


# ---- weights -----------------------------------------------------------------------------------


def _embed(
    hf: Any,
    ops: Sequence[SOp],
    sets: dict[int, list[Any]],
    at: dict[int, int],
    bos: int,
    one: int,
    words: Sequence[str],
) -> None:
    wte, wpe = hf.transformer.wte.weight, hf.transformer.wpe.weight
    wte[0, bos] = 1.0
    wpe[:, one] = 1.0
    for op in ops:
        if isinstance(op, Tokens):
            for i, token in enumerate(sets[id(op)]):
                wte[words.index(word_of(token)), at[id(op)] + i] = 1.0
        elif isinstance(op, Indices):
            n = len(sets[id(op)])
            wpe[1:, at[id(op)] : at[id(op)] + n] = torch.eye(n)


def _attend(
    hf: Any,
    op: Aggregate | Inverse,
    place: _Place,
    sets: dict[int, list[Any]],
    at: dict[int, int],
    bos: int,
    d_head: int,
) -> None:
    """The scores of a predicate in W_Q, one-hot keys in W_K, and what is aggregated in W_V and W_O."""
    attn = hf.transformer.h[place.layer].attn
    d_model = hf.config.n_embd
    assert place.head is not None
    q, k, v = (part * d_model + place.head * d_head for part in range(3))
    weight, bias, out = attn.c_attn.weight, attn.c_attn.bias, attn.c_proj.weight
    keys, queries = sets[id(op.select.keys)], sets[id(op.select.queries)]
    hard = SCALE * d_head**0.5  # transformers divides scores by this root
    for i, key in enumerate(keys):
        weight[at[id(op.select.keys)] + i, k + i] = 1.0
        for j, query in enumerate(queries):
            if op.select.predicate(key, query):
                weight[at[id(op.select.queries)] + j, q + i] = hard
    weight[bos, k + len(keys)] = 1.0
    bias[q + len(keys)] = hard if isinstance(op, Inverse) else hard / 2
    if isinstance(op, Inverse):
        sources = [bos]
    else:
        sources = [at[id(op.x)] + i for i in range(1 if op.numeric else len(sets[id(op.x)]))]
    for i, source in enumerate(sources):
        weight[source, v + i] = 1.0
        out[place.head * d_head + i, at[id(op)] + i] = 1.0


def _units(
    ops: Sequence[SOp], sets: dict[int, list[Any]], places: dict[int, _Place], at: dict[int, int], bos: int, layer: int
) -> list[_Unit]:
    """The neurons of all maps of one layer."""
    found = []
    for op in ops:
        if places[id(op)].layer != layer:
            continue
        if isinstance(op, SequenceMap):
            for i, x in enumerate(sets[id(op.x)]):
                for j, y in enumerate(sets[id(op.y)]):
                    reads = {at[id(op.x)] + i: 1.0}
                    reads[at[id(op.y)] + j] = reads.get(at[id(op.y)] + j, 0.0) + 1.0  # x and y may be one s-op
                    found.append(_Unit(reads, -1.0, _written(op, op.f(x, y), sets, at)))
        elif isinstance(op, Map) and not op.x.numeric:
            for i, x in enumerate(sets[id(op.x)]):
                found.append(_Unit({at[id(op.x)] + i: 1.0}, 0.0, _written(op, op.f(x), sets, at)))
        elif isinstance(op, Map):
            found += _steps(op, sets, at, bos)
    return found


def _written(
    op: SOp, value: Any, sets: dict[int, list[Any]], at: dict[int, int], sign: float = 1.0
) -> dict[int, float]:
    """Which dimensions hold a value of an s-op."""
    if value is None:
        return {}
    if op.numeric:
        return {at[id(op)]: sign * float(value)}
    return {at[id(op)] + sets[id(op)].index(value): sign}


def _steps(op: Map, sets: dict[int, list[Any]], at: dict[int, int], bos: int) -> list[_Unit]:
    """A function of a number as a staircase, flat around each value that the number can take."""
    values, x = sets[id(op.x)], at[id(op.x)]
    found = [_Unit({bos: -BIG}, 1.0, _written(op, op.f(values[0]), sets, at))]
    for low, high in pairwise(values):
        if op.f(low) == op.f(high):
            continue
        slope = 2 / (high - low)  # the step takes the middle half of the gap
        start = 0.5 - slope * (low + high) / 2
        writes = _written(op, op.f(high), sets, at)
        for dim, amount in _written(op, op.f(low), sets, at, -1.0).items():
            writes[dim] = writes.get(dim, 0.0) + amount
        for bias, sign in ((start, 1.0), (start - 1.0, -1.0)):
            found.append(_Unit({x: slope, bos: -BIG}, bias, {dim: sign * amount for dim, amount in writes.items()}))
    return found


def _neurons(mlp: Any, units: Sequence[_Unit]) -> None:
    for i, unit in enumerate(units):
        for dim, amount in unit.reads.items():
            mlp.c_fc.weight[dim, i] = amount
        mlp.c_fc.bias[i] = unit.bias
        for dim, amount in unit.writes.items():
            mlp.c_proj.weight[i, dim] = amount


def _spare_parts(
    hf: Any, places: dict[int, _Place], units: Sequence[Sequence[_Unit]], generator: torch.Generator, d_head: int
) -> None:
    """Heads and MLPs that the program does not need read everything and write where nothing is read."""
    d_model = hf.config.n_embd
    taken = {(place.layer, place.head) for place in places.values()}

    def noise(*shape: int, scale: float) -> Tensor:
        return torch.randn(shape, generator=generator) * scale

    for layer, block in enumerate(hf.transformer.h):
        for head in range(hf.config.n_head):
            if (layer, head) not in taken:
                here = slice(head * d_head, (head + 1) * d_head)
                for part in range(3):
                    rows = slice(part * d_model + here.start, part * d_model + here.stop)
                    block.attn.c_attn.weight[:, rows] = noise(d_model, d_head, scale=2 * d_model**-0.5)
                block.attn.c_proj.weight[here, -SPARE:] = noise(d_head, SPARE, scale=d_head**-0.5)
        if not units[layer]:
            n = hf.config.n_inner
            block.mlp.c_fc.weight.copy_(noise(d_model, n, scale=d_model**-0.5))
            block.mlp.c_proj.weight[:, -SPARE:] = noise(n, SPARE, scale=n**-0.5)
