"""A program run with some of its compiled model's edges cut, on values and not on weights: thousands of times as fast.

Cutting an edge gives its reader what its writer holds on a source input. In a compiled model that swaps whole values,
so the same can be done to the program: every operation reads each of its inputs from the mixed run or from the source.
Where that selects several different values at once the program has no answer; there the model itself is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from hooke.truth.mixed import computation, mixed_logits
from hooke.truth.programs.compiler import Compiled
from hooke.truth.programs.rasp import Aggregate, Indices, Inverse, Map, Select, SequenceMap, SOp, Tokens, evaluate

ALIVE = 1e-3  # what moves no logit by this much changes nothing
ROWS = 1 << 15  # of a program at once
MODEL_ROWS = 1024  # of a model at once
Text = tuple[Any, ...]


class Cuts:
    """Runs of one compiled program on pairs of inputs of equal length, with edges cut.

    edges: those of the program, in the order of the columns of `cut`; the others carry nothing that is read.
    texts: the inputs; a pair is two numbers of them, base and source.
    Raises HookeError if the program has no output on one of them.
    """

    def __init__(self, made: Compiled, texts: Sequence[Text]) -> None:
        self.made, self.texts = made, texts
        self.edges = sorted(made.edges)
        self._at = {edge: i for i, edge in enumerate(self.edges)}
        self._tables = {id(op): _table(op, made.sets) for op in made.ops}
        order = sorted(made.program.vocabulary, key=lambda x: (str(type(x)), x))
        tokens = {token: i for i, token in enumerate(order)}
        self._read = np.array([[tokens[token] for token in text] for text in texts], np.int16)
        self._causal = np.tri(self._read.shape[1], dtype=bool)
        self.clean: dict[int, np.ndarray] = {}
        parts = [self._run(rows, None, None) for rows in np.split(np.arange(len(texts)), range(ROWS, len(texts), ROWS))]
        for row in np.concatenate([several for _, several in parts]).nonzero()[0][:1]:
            evaluate(made.ops[-1], texts[row])  # says what is wrong
        self.clean = {number: np.concatenate([values[number] for values, _ in parts]) for number in parts[0][0]}
        self.outputs = self.clean[id(made.ops[-1])]

    def acts(self, base: np.ndarray, source: np.ndarray, cut: np.ndarray) -> np.ndarray:
        """(rows,): whether an output of the base at any position is another one when edges are taken from the source.

        base, source: numbers of texts (rows,). cut: (rows, edges), or (1, edges) for all rows.
        """
        found, several = self.told(base, source, cut)
        if several.any():
            own = cut if len(cut) == 1 else cut[several]
            found[several] = self.by_model(base[several], source[several], own)
        return found

    def told(self, base: np.ndarray, source: np.ndarray, cut: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`acts` as far as the program tells it, False elsewhere; and the rows in which only the model does."""
        found, several = np.zeros((2, len(base)), bool)
        for start in range(0, len(base), ROWS):
            here = slice(start, start + ROWS)
            values, several[here] = self._run(base[here], source[here], cut if len(cut) == 1 else cut[here])
            found[here] = self._differ(values[id(self.made.ops[-1])], self.outputs[base[here]])
        return found & ~several, several

    def differ(self, base: np.ndarray, source: np.ndarray) -> np.ndarray:
        """(rows,): whether the outputs at the last position differ."""
        return self._differ(self.outputs[base][:, -1:], self.outputs[source][:, -1:])

    def _differ(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (np.abs(a - b) > ALIVE if self.made.numeric else a != b).any(1)

    def _run(
        self, base: np.ndarray, source: np.ndarray | None, cut: np.ndarray | None
    ) -> tuple[dict[int, np.ndarray], np.ndarray]:
        """By id the value of each operation (rows, pos), and the rows in which several values are selected at once."""
        made = self.made
        values: dict[int, np.ndarray] = {}
        several = np.zeros(len(base), bool)

        def of(op: SOp, reader: str) -> np.ndarray:
            own: np.ndarray = values[id(op)]
            if cut is None or source is None:
                return own
            column = cut[:, self._at[f"{made.where[id(op)]}->{reader}"]]
            if not column.any():
                return own
            other = self.clean[id(op)][source]
            return other if column.all() else np.where(column[:, None], other, own)

        for op in made.ops:
            here, table = made.where[id(op)], self._tables[id(op)]
            if isinstance(op, Tokens):
                values[id(op)] = self._read[base]
            elif isinstance(op, Indices):
                values[id(op)] = np.broadcast_to(np.arange(self._read.shape[1], dtype=np.int16), self._read[base].shape)
            elif isinstance(op, Map):
                x = of(op.x, here)
                values[id(op)] = table[np.searchsorted(_middles(made.sets[id(op.x)]), x) if op.x.numeric else x]
            elif isinstance(op, SequenceMap):
                values[id(op)] = table[of(op.x, here), of(op.y, here)]
            elif isinstance(op, (Aggregate, Inverse)):
                keys, queries = of(op.select.keys, f"{here}<k>"), of(op.select.queries, f"{here}<q>")
                chosen = table[keys[:, None, :], queries[:, :, None]] & self._causal
                if isinstance(op, Inverse):
                    values[id(op)] = 1 / (1 + chosen.sum(-1))
                else:
                    values[id(op)] = _aggregate(op, chosen, of(op.x, f"{here}<v>"), len(made.sets[id(op.x)]), several)
        last = id(made.ops[-1])
        values[last] = of(made.ops[-1], "logits")
        return values, several

    def by_model(self, base: np.ndarray, source: np.ndarray, cut: np.ndarray) -> np.ndarray:
        """`acts`, by running the compiled model."""
        hf, places, found = self.made.hf, computation(self.made.hf), np.zeros(len(base), bool)
        at = torch.tensor([places.places[edge] for edge in self.edges])
        with torch.no_grad():
            for start in range(0, len(base), MODEL_ROWS):
                here = slice(start, start + MODEL_ROWS)
                b, s = base[here], source[here]
                masks = torch.zeros(len(places.readers), len(b), len(places.writers))
                own = np.broadcast_to(cut if len(cut) == 1 else cut[here], (len(b), len(self.edges)))
                masks[at[:, 0], :, at[:, 1]] = torch.from_numpy(own.T.copy()).float()
                ids = self.made.ids([self.texts[i] for i in (*s, *b)])
                clean = hf(input_ids=ids[len(b) :]).logits
                moved = mixed_logits(hf, ids, masks)[len(b) :] - clean
                found[here] = (moved[:, 1:].abs().amax((1, 2)) > ALIVE).numpy()
        return found


def _aggregate(op: Aggregate, chosen: np.ndarray, x: np.ndarray, none: int, several: np.ndarray) -> np.ndarray:
    """The mean, or the value that all chosen positions (rows, query, key) share; rows where they differ are noted."""
    if op.numeric:
        total = (chosen * x[:, None, :]).sum(-1)
        return total / np.maximum(chosen.sum(-1), 1)
    low = np.where(chosen, x[:, None, :], none).min(-1)
    high = np.where(chosen, x[:, None, :], -1).max(-1)
    several |= ((low != high) & (high >= 0)).any(1)
    return low.astype(np.int16)


def _table(op: SOp, sets: dict[int, list[Any]]) -> np.ndarray:
    """What an operation gives for each value of what it reads, None as the one after the last."""
    if isinstance(op, Map):
        given = sets[id(op.x)] if op.x.numeric else [*sets[id(op.x)], None]
        return np.array([_code(op, None if x is None else op.f(x), sets) for x in given], _kind(op))
    if isinstance(op, SequenceMap):
        rows = [
            [_code(op, None if x is None or y is None else op.f(x, y), sets) for y in (*sets[id(op.y)], None)]
            for x in (*sets[id(op.x)], None)
        ]
        return np.array(rows, _kind(op))
    if isinstance(op, (Aggregate, Inverse)):
        return _chosen(op.select, sets)
    return np.empty(0)


def _chosen(select: Select, sets: dict[int, list[Any]]) -> np.ndarray:
    keys, queries = sets[id(select.keys)], sets[id(select.queries)]
    table = np.zeros((len(keys) + 1, len(queries) + 1), bool)
    for i, key in enumerate(keys):
        table[i, :-1] = [bool(select.predicate(key, query)) for query in queries]
    return table


def _kind(op: SOp) -> type:
    return np.float64 if op.numeric else np.int16


def _code(op: SOp, value: Any, sets: dict[int, list[Any]]) -> float:
    if op.numeric:
        return 0.0 if value is None else float(value)
    return len(sets[id(op)]) if value is None else sets[id(op)].index(value)


def _middles(values: Sequence[float]) -> np.ndarray:
    return np.array([(low + high) / 2 for low, high in pairwise(values)])
