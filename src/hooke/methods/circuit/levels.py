"""What a circuit is made of: edges, or nodes, which are heads with whole MLPs or with single neurons.

Either level numbers its units from 0 and takes a circuit as a tensor (n,) of which are kept; all else has the values
of the corrupt prompt. So one set of measures serves both.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from hooke.errors import HookeError
from hooke.methods.attribute import gradients as by
from hooke.methods.circuit.faithfulness import prune
from hooke.methods.circuit.find import DEFAULT, find_edges, find_method
from hooke.methods.circuit.pairs import Pairs, check_fits
from hooke.methods.circuit.run import gains
from hooke.methods.circuit.scores import exact
from hooke.methods.computation_graph import ComputationGraph, Tap
from hooke.methods.edge_runs import begun_pair
from hooke.methods.patch.places import Place, wanted
from hooke.methods.patch.sweeping import sweep
from hooke.methods.progress import Tick, idle
from hooke.model import Model
from hooke.model.budget import pass_tokens
from hooke.model.recorded import record
from hooke.sites import Site

LEVELS = ("edges", "nodes", "neurons")
NODE_METHODS = ("eap", "eap-ig", "eap-ig-activations", "relp", "exact", "random")
NODE_DEFAULT = "eap-ig"
MANY = 10_000  # edges, over which cutting them takes too long to be the default
CHEAP = "eap-ig"
MAX_EXACT = 4096  # nodes that are patched one by one


class Scores:
    """effects: (batch or 1, n), what cutting a unit alone changes the metric by, or an estimate or a rank of it."""

    def __init__(self, effects: Tensor, exact: Tensor, passes: float | None, seconds: float) -> None:
        self.effects, self.exact, self.passes, self.seconds = effects.float().cpu(), exact, passes, seconds

    def size(self) -> Tensor:
        """(n,): how much each unit matters, whichever way."""
        return self.effects.abs().mean(0)


class Level(Protocol):
    """units: what they are called. n: how many there are."""

    name: str
    units: str
    n: int

    def score(self, pairs: Pairs, method: str, *, seed: int, tick: Tick) -> Scores: ...
    def prune(self, keep: Tensor) -> Tensor: ...
    def gains(self, pairs: Pairs, keeps: Sequence[Tensor], *, tick: Tick = idle) -> Tensor: ...
    def alone(self, pairs: Pairs, units: Sequence[int], *, tick: Tick = idle) -> Tensor: ...
    def nodes(self, keep: Tensor) -> Tensor: ...
    def near(self, keep: Tensor) -> Tensor: ...
    def called(self, unit: int) -> str: ...


def level_of(model: Model, name: str) -> Level:
    """Edges or nodes."""
    return Edges(model) if name == "edges" else Nodes(model, name)


def check_names(level: str, method: str | None) -> None:
    """Raise HookeError for a level that there is not, and for a method that it does not have."""
    if level not in LEVELS:
        raise HookeError(f"no level called {level!r}; there are {', '.join(LEVELS)}")
    if method is not None:
        find_method(method)
    if method is not None and level != "edges" and method not in NODE_METHODS:
        raise HookeError(
            f"{method} orders edges and says nothing of {level}; for {level} there are {', '.join(NODE_METHODS)}"
        )


def default_of(level: Level) -> str:
    """The method where none is named: what does best on models whose circuit is known, as long as its runs are few."""
    if level.name != "edges":
        return NODE_DEFAULT
    return DEFAULT if level.n <= MANY else CHEAP


class Edges:
    """Edges between the embedded tokens, heads, MLPs and the logits, the inputs of a head apart."""

    name = units = "edges"

    def __init__(self, model: Model) -> None:
        self.model, self.computation = model, ComputationGraph.of(model.parts)
        self.at = self.computation.edges.nonzero()  # (n, 2) of reader, writer
        self.n = len(self.at)

    def score(self, pairs: Pairs, method: str, *, seed: int, tick: Tick) -> Scores:
        check_fits(self.model, pairs)
        found = find_edges(self.model, pairs.clean, pairs.corrupt, pairs.objective, method, seed=seed, tick=tick)
        here = self.computation.edges
        return Scores(found.effects.cpu()[:, here], found.tested.cpu()[here], found.passes, found.seconds)

    def matrix(self, keep: Tensor) -> Tensor:
        """(n_readers, n_writers) of values by edge, zero where there is none."""
        whole = torch.zeros(self.computation.edges.shape, dtype=keep.dtype)
        whole[self.computation.edges] = keep
        return whole

    def prune(self, keep: Tensor) -> Tensor:
        return prune(self.matrix(keep), self.computation)[self.computation.edges]

    def gains(self, pairs: Pairs, keeps: Sequence[Tensor], *, tick: Tick = idle) -> Tensor:
        masks = [self.matrix(keep) for keep in keeps]
        return _finite(gains(self.model, pairs.clean, pairs.corrupt, pairs.objective, masks, tick=tick), self.model)

    def alone(self, pairs: Pairs, units: Sequence[int], *, tick: Tick = idle) -> Tensor:
        """(n_units, batch): what cutting each edge alone, in the whole model, changes the metric by."""
        chosen = torch.zeros(self.n, dtype=torch.bool)
        chosen[list(units)] = True
        found = exact(self.model, pairs.clean, pairs.corrupt, pairs.objective, edges=self.matrix(chosen), tick=tick)
        at = self.at[list(units)]
        return _finite(found[:, at[:, 0], at[:, 1]].T.cpu(), self.model)

    def nodes(self, keep: Tensor) -> Tensor:
        """(n_writers,): which nodes kept edges leave or enter; the logits are no writer, and always there."""
        kept = self.matrix(keep)
        return kept.any(0) | self._owners(kept.any(1))

    def near(self, keep: Tensor) -> Tensor:
        """(n,): the other edges from where the circuit has something to where it has something."""
        kept = self.matrix(keep)
        there = kept.any(0)
        wanted = torch.tensor(
            [(node := self.computation.node_of(r)) is None or bool(there[node]) for r in range(len(kept))]
        )
        return (wanted[:, None] & there)[self.computation.edges] & ~keep

    def called(self, unit: int) -> str:
        reader, writer = self.at[unit].tolist()
        return f"{self.computation.writers[writer]}->{self.computation.names(reader)[0]}"

    def _owners(self, readers: Tensor) -> Tensor:
        found = torch.zeros(len(self.computation.writers), dtype=torch.bool)
        share = self.computation.n_heads // self.computation.n_kv_heads
        for reader in readers.nonzero()[:, 0].tolist():
            node = self.computation.node_of(reader)
            if node is not None:
                found[node : node + (share if self.computation.readers[reader].part in ("k", "v") else 1)] = True
        return found


class Nodes:
    """Heads (their z) with whole MLPs (mlp_out) or single neurons (mlp_act), layer by layer, heads first."""

    def __init__(self, model: Model, name: str) -> None:
        self.model, self.name = model, name
        self.units = "nodes"
        parts = model.parts
        self.width = 1 if name == "nodes" else parts.d_mlp
        self.n_heads, self.n_layers = parts.n_heads, parts.n_layers
        self.n = self.n_layers * (self.n_heads + self.width)
        self.point = "mlp_out" if name == "nodes" else "mlp_act"
        layers = range(self.n_layers)
        neurons = None if name == "nodes" else list(range(self.width))
        self.places = [
            Place("z", [Site("z", layer) for layer in layers], list(range(self.n_heads))),
            Place(self.point, [Site(self.point, layer) for layer in layers], neurons),
        ]

    def score(self, pairs: Pairs, method: str, *, seed: int, tick: Tick) -> Scores:
        """Attribution patching of each node's output (2310.10348), summed over positions; or the patches."""
        start = time.perf_counter()
        whole = torch.zeros(self.n, dtype=torch.bool)
        if method == "random":
            drawn = torch.rand(1, self.n, generator=torch.Generator().manual_seed(seed))
            return Scores(drawn, whole, 0.0, time.perf_counter() - start)
        if method == "exact" and self.n > MAX_EXACT:
            raise HookeError(
                f"{self.n:,} nodes would be patched one by one, and {MAX_EXACT:,} is the limit; use {NODE_DEFAULT}, "
                "or level nodes"
            )
        rows = []
        for row in range(len(pairs)):
            rows.append(self._effects(pairs, row, method))
            tick((row + 1) / len(pairs))
        return Scores(torch.stack(rows), whole | (method == "exact"), None, time.perf_counter() - start)

    def _effects(self, pairs: Pairs, row: int, method: str) -> Tensor:
        def metric(logits: Tensor) -> Tensor:
            return pairs.objective.gain(logits, torch.full((len(logits),), row, device=logits.device))

        reads = wanted(self.places)
        base, other = (record(self.model, side.alone(row), reads) for side in (pairs.clean, pairs.corrupt))
        new = [place.values(other.acts) for place in self.places]
        given: tuple[Any, ...] = (self.model, base, self.places, new, metric)
        if method == "exact":
            at = torch.arange(base.tokens.ids.shape[1])
            found = sweep(self.model, base, self.places, [new], at, None, metric)
            before = float(metric(base.logits[None])[0])
            z, mlp = ((x - before).reshape(self.n_layers, -1) for x in found.values)
        else:
            if method == "eap-ig":
                scores = by.ig_inputs(self.model, base, other, self.places, new, metric)
            else:
                scores = {"eap": by.atp, "eap-ig-activations": by.ig_activations, "relp": by.relp}[method](*given)
            z, mlp = (torch.stack([x.detach().sum(0) for x in place]).reshape(self.n_layers, -1) for place in scores)
        effects = torch.cat([z.cpu(), mlp.cpu()], 1).flatten()
        if not bool(torch.isfinite(effects).all()):
            raise HookeError(f"{method} gave numbers that are not finite on {self.model.name}")
        return effects

    def prune(self, keep: Tensor) -> Tensor:
        return keep

    def gains(self, pairs: Pairs, keeps: Sequence[Tensor], *, tick: Tick = idle) -> Tensor:
        found = torch.zeros(len(keeps), len(pairs))
        sites = [site for place in self.places for site in place.sites]
        table = torch.stack(list(keeps)).unflatten(1, (self.n_layers, -1)).to(self.model.device)
        for row in range(len(pairs)):
            here = begun_pair(self.model, pairs.clean.alone(row), pairs.corrupt.alone(row), sites)
            size = max(1, pass_tokens(self.model) // here.tokens.ids.shape[1])
            for start in range(0, len(keeps), size):
                part = table[start : start + size]
                taps: dict[Site, Tap] = {}
                for layer in range(self.n_layers):
                    heads, rest = part[:, layer, : self.n_heads], part[:, layer, self.n_heads :]
                    for site, keep in ((Site("z", layer), heads[..., None]), (Site(self.point, layer), rest)):
                        taps[site] = _mixed(keep[:, None], here.other[site])
                with torch.no_grad():
                    run = self.model.run(here.tokens.times(len(part)), taps=taps, logits="last", after=here.after)
                assert run.logits is not None
                own = torch.full((len(part),), row, device=self.model.device)
                found[start : start + size, row] = pairs.objective.gain(run.logits, own).to(found)
            tick((row + 1) / len(pairs))
        return _finite(found, self.model)

    def alone(self, pairs: Pairs, units: Sequence[int], *, tick: Tick = idle) -> Tensor:
        """(n_units, batch): what giving each node its corrupt values, and no other, changes the metric by."""
        keeps = torch.ones(len(units) + 1, self.n, dtype=torch.bool)
        keeps[torch.arange(len(units)), list(units)] = False
        values = self.gains(pairs, list(keeps), tick=tick)
        return values[:-1] - values[-1]

    def nodes(self, keep: Tensor) -> Tensor:
        return keep

    def near(self, keep: Tensor) -> Tensor:
        return ~keep

    def called(self, unit: int) -> str:
        layer, at = divmod(unit, self.n_heads + self.width)
        if at < self.n_heads:
            return f"a{layer}.h{at}"
        return f"m{layer}" if self.name == "nodes" else f"m{layer}.n{at - self.n_heads}"


def _finite(values: Tensor, model: Model) -> Tensor:
    if not bool(torch.isfinite(values).all()):
        raise HookeError(f"{model.name} gave numbers that are not finite where edges or nodes are cut")
    return values


def _mixed(keep: Tensor, other: Tensor) -> Tap:
    return lambda x: torch.where(keep, x, other)
