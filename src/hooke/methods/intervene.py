"""`intervene`: switch neurons of a trace off, or double them, in the live model, beside random groups of equal size."""

from __future__ import annotations

import bisect
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hooke.arguments import verb
from hooke.dictionaries import Neurons, neurons
from hooke.errors import HookeError
from hooke.methods.metric import Metric
from hooke.methods.quantities import told
from hooke.methods.trace.explain import quote
from hooke.model import Edit, Model
from hooke.model.recorded import Recorded
from hooke.results import Claim, Result
from hooke.results.payloads.common import Op, Token
from hooke.results.payloads.graph import DrawnGraph
from hooke.results.payloads.trace import Trace
from hooke.sites import Site

OPS: tuple[Op, ...] = ("off", "double")
TOP = 5  # next tokens that are shown, of before and of after
NEAR = 8  # of the neurons with the nearest activation, a control is any
MOST_CONTROLS = 100
SAME_VALUE = 0.1  # of the largest value: how far a trace's values may lie from the model's own (another precision)


class Unit(NamedTuple):
    """One neuron at one position: its value there, and what it is in the counterfactuals."""

    layer: int
    position: int
    neuron: int
    value: float
    baseline: float

    @classmethod
    def of(cls, layer: int, position: int, neuron: int, value: float, delta: float | None) -> Unit:
        """From what a graph says of it; without a counterfactual value its baseline is zero."""
        return cls(layer, position, neuron, value, 0.0 if delta is None else value - delta)


@dataclass
class Prepared:
    """A trace and its model, with all that interventions share: one forward pass, made once."""

    model: Model
    trace: str
    run: Recorded
    metric: Metric
    units: dict[str, Unit]  # by node id, in the order of the graph
    kinds: dict[str, str]  # of the nodes that are not neurons
    against_zero: bool  # the trace has no counterfactual values
    acts: list[Tensor]  # per layer, (pos, d_mlp)
    weights: str  # the hash of those that made the above


@verb
def intervene(
    model: Model,
    traced: Result,
    nodes: Sequence[str],
    *,
    op: str = "off",
    controls: int = 5,
    seed: int = 0,
    prepared: Prepared | None = None,
) -> Result:
    """Change neurons of a trace in the live model, all at once, and see what it says next.

    nodes: ids of nodes of the graph, as "12_345_3" (layer, neuron, position).
    op: "off" sets each neuron to its value in the counterfactuals of the trace (to zero where the trace has
        none), "double" to twice its value. Attention and everything downstream stays live.
    controls: how many random groups of equal size get the same: neurons outside the graph at the same layers
        and positions with nearby activations, moved by the same amounts.
    prepared: from `prepare`, which several interventions on one trace can share.
    Returns a `Result` of kind "intervention" whose parent is the trace; payload: nodes, op, target, contrast,
    rows (next tokens before, after, and on average after the controls), quantity (log-probability of the target, or
    logit difference to the contrast), its change, the same for the controls, how many these are and of how many
    neurons, sentence.
    Raises HookeError for a node that is no neuron of the graph, a trace of another model or in another basis.
    """
    ready = prepared if prepared is not None else prepare(model, traced)
    if ready.trace != traced.id or ready.model is not model:
        raise HookeError("what was prepared belongs to another trace or model; prepare this one")
    return change(ready, nodes, op=op, controls=controls, seed=seed)


def change(ready: Prepared, nodes: Sequence[str], *, op: str = "off", controls: int = 5, seed: int = 0) -> Result:
    """`intervene` on what was prepared, without the trace itself."""
    start = time.perf_counter()
    if op not in OPS:
        raise HookeError(f"no operation called {op!r}; use 'off' or 'double'")
    if not 1 <= controls <= MOST_CONTROLS:
        raise HookeError(f"controls must lie between 1 and {MOST_CONTROLS}")
    if ready.weights != ready.model.weights_hash():
        raise HookeError(f"the weights of {ready.model.name} have changed since its trace was prepared; make it again")
    (view,) = interventions(ready, [(nodes, "off" if op == "off" else "double")], controls=controls, seed=seed)
    return Result.make(
        "intervention",
        parents=[ready.trace],
        arguments={"nodes": view["nodes"], "op": op, "controls": controls, "seed": seed},
        provenance=ready.model.provenance(),
        seconds={"total": round(time.perf_counter() - start, 3)},
        claims=[
            Claim(
                text=view["sentence"],
                verdict="tested",
                evidence=["#change", *(f"{ready.trace}#{n}" for n in view["nodes"])],
            )
        ],
        payload=view,
    )


def prepare(model: Model, traced: Result) -> Prepared:
    """Run the prompt of a trace once and keep what every intervention on it needs.

    Raises HookeError for a result that is no trace of this model's neurons, or one whose values are not the model's.
    """
    payload = traced.typed() if traced.kind == "trace" else None
    if not isinstance(payload, Trace):
        raise HookeError(f"this is a {traced.kind}; only a trace made by Hooke can be changed in the model")
    if traced.arguments.get("basis", "neurons") != "neurons":
        raise HookeError("this trace is not in the neuron basis; only neurons can be switched off and doubled")
    _same_model(model, traced.provenance)
    target, contrast = _token_id(payload.target, model), None
    if payload.contrast is not None:
        contrast = _token_id(payload.contrast, model)
    ready = _read(model, payload.graph, Metric(target, contrast, model.parts.softcap), traced.id)
    _same_values(ready)
    return ready


def _read(model: Model, graph: DrawnGraph, metric: Metric, trace: str) -> Prepared:
    """What interventions share, from the graph of a trace."""
    parts, n_pos = model.parts, len(graph.tokens)
    ids = [-1] * n_pos
    units: dict[str, Unit] = {}
    kinds: dict[str, str] = {}
    moved = False
    for node in graph.nodes:
        layer, position, number = (-1 if x is None else x for x in (node.layer, node.position, node.index))
        if not 0 <= position < n_pos:
            raise HookeError(f"node {node.id} stands at no token of the prompt; make the trace again")
        if node.kind == "token" and 0 <= number < parts.d_vocab:
            ids[position] = number
        if node.kind != "feature" or node.value is None:
            kinds[node.id] = node.kind
            continue
        if not 0 <= layer < parts.n_layers or not 0 <= number < parts.d_mlp:
            raise HookeError(f"node {node.id} is no neuron of {model.name}; load the model of this trace")
        moved = moved or node.delta is not None
        units[node.id] = Unit.of(layer, position, number, node.value, node.delta)
    if not n_pos or min(ids) < 0:
        raise HookeError("the graph does not say which tokens the prompt is made of; make the trace again")
    inside = [Site("mlp_act", layer) for layer in range(parts.n_layers)]
    run = model.record(torch.tensor(ids), read=inside)
    acts = [run.acts[site][0].float() for site in inside]
    return Prepared(model, trace, run, metric, units, kinds, not moved, acts, model.weights_hash())


def interventions(
    ready: Prepared, wanted: Sequence[tuple[Sequence[str], Op]], *, controls: int = 5, seed: int = 0
) -> list[dict[str, Any]]:
    """Several interventions in one batch; for each, the payload of an `intervene` result."""
    groups = [_chosen(ready, nodes) for nodes, _ in wanted]
    basis = neurons(ready.model)
    sets: list[list[Edit]] = []
    sizes: list[int] = []  # of the random groups
    for names, (_, op) in zip(groups, wanted, strict=True):
        members = [ready.units[name] for name in names]
        goals = [unit.baseline if op == "off" else 2 * unit.value for unit in members]
        sets.append(_setting(ready, basis, [(u.layer, u.position, u.neuron) for u in members], goals))
        rng, pairs = np.random.default_rng(seed), []
        for _ in range(controls):
            places = matched(ready, members, rng)
            pairs = [(p, g - u.value) for p, g, u in zip(places, goals, members, strict=True) if p is not None]
            here = [p for p, _ in pairs]
            shifted = [float(ready.acts[layer][position, neuron]) for layer, position, neuron in here]
            sets.append(_setting(ready, basis, here, [v + by for v, (_, by) in zip(shifted, pairs, strict=True)]))
        sizes.append(len(pairs))
    logits, _ = ready.model.run_each(ready.run, sets)
    parts = logits.split(1 + controls)
    found = zip(groups, wanted, parts, sizes, strict=True)
    return [_view(ready, names, op, each, size) for names, (_, op), each, size in found]


def matched(ready: Prepared, members: Sequence[Unit], rng: np.random.Generator) -> list[tuple[int, int, int] | None]:
    """For each neuron another outside the graph, at the same layer and position and with an activation near
    its own, no two the same; None where the graph leaves none."""
    taken: dict[tuple[int, int], list[int]] = {}
    for unit in ready.units.values():
        taken.setdefault((unit.layer, unit.position), []).append(unit.neuron)
    free: dict[tuple[int, int], tuple[list[float], list[int]]] = {}
    out: list[tuple[int, int, int] | None] = [None] * len(members)
    for i in rng.permutation(len(members)).tolist():
        layer, position, _, value, _ = members[i]
        if (layer, position) not in free:
            acts = ready.acts[layer][position].double().cpu().numpy()
            outside = np.setdiff1d(np.arange(len(acts)), taken[layer, position])
            order = outside[np.argsort(acts[outside], kind="stable")]
            free[layer, position] = acts[order].tolist(), order.tolist()
        values, indices = free[layer, position]
        if not indices:
            continue
        at = bisect.bisect(values, value)
        low = max(0, min(at - NEAR // 2, len(values) - NEAR))
        pick = int(rng.integers(low, min(low + NEAR, len(values))))
        values.pop(pick)
        out[i] = (layer, position, indices.pop(pick))
    return out


def _chosen(ready: Prepared, nodes: Sequence[str]) -> list[str]:
    """The ids, each once and in the order of the graph."""
    if isinstance(nodes, str) or not all(isinstance(name, str) for name in nodes):
        raise HookeError("nodes is a list of node ids")
    if not nodes:
        raise HookeError("no nodes given; name at least one neuron of the graph, as 12_345_3 (layer, neuron, position)")
    for name in nodes:
        if name in ready.kinds:
            raise HookeError(f"node {name} is a {ready.kinds[name]}; only neurons can be switched off and doubled")
        if name not in ready.units:
            short = name if len(name) <= 60 else name[:57] + "..."
            raise HookeError(f"no node {short!r} in this graph")
    chosen = set(nodes)
    return [name for name in ready.units if name in chosen]


def _setting(
    ready: Prepared, basis: Sequence[Neurons], places: Sequence[tuple[int, int, int]], goals: Sequence[float]
) -> list[Edit]:
    """Edits that set neurons (layer, position, neuron) to values."""
    device, out = ready.run.tokens.ids.device, []
    layers, positions, ids = (torch.tensor(x, dtype=torch.long) for x in (zip(*places) if places else ((), (), ())))
    values = torch.tensor(goals, dtype=torch.float32)
    for layer in layers.unique().tolist():
        here = layers == layer
        at, value = positions[here].to(device), values[here].to(device)
        out += basis[layer].edits(ids[here].to(device), value, at, ready.run.tokens.ids.shape[1])
    return out


def _view(ready: Prepared, names: list[str], op: Op, logits: Tensor, size: int) -> dict[str, Any]:
    """The payload. logits: (1 + controls, d_vocab), of the intervention and of random groups of `size` neurons."""
    model, metric = ready.model, ready.metric
    before, all_after = ready.run.logits.float().softmax(-1), logits.float().softmax(-1)
    after, control = all_after[0], all_after[1:].mean(0)
    ends = [metric.target, *([] if metric.contrast is None else [metric.contrast])]
    best = [i for p in (before, after) for i in p.topk(min(TOP, len(p))).indices.tolist()]
    shown = sorted({*ends, *best}, key=lambda i: (-float(before[i]), i))
    changes = (metric(logits) - metric(ready.run.logits)).tolist()
    names_of = dict(zip(shown, model.text(shown), strict=True))
    rows = [
        {
            "token": names_of[i],
            "id": i,
            "before": float(before[i]),
            "after": float(after[i]),
            "control": float(control[i]) if size else None,
        }
        for i in shown
    ]
    view: dict[str, Any] = {
        "type": "intervention",
        "nodes": names,
        "op": op,
        "trace": ready.trace,
        "target": {"token": names_of[metric.target], "id": metric.target},
        "contrast": None if metric.contrast is None else {"token": names_of[metric.contrast], "id": metric.contrast},
        "rows": rows,
        "quantity": told(metric.quantity),
        "change": changes[0],
        "control_change": float(np.mean(changes[1:])) if size else None,
        "control_least": min(changes[1:]) if size else None,
        "control_greatest": max(changes[1:]) if size else None,
        "controls": len(changes) - 1 if size else 0,
        "control_size": size,
    }
    chances = all_after[1:, metric.target].tolist()
    return view | {"sentence": _sentence(view, float(before[metric.target]), chances, size, ready.against_zero)}


def _sentence(view: dict[str, Any], before: float, chances: list[float], size: int, against_zero: bool) -> str:
    """What was done, what came of it, and what random groups do."""
    count, target = len(view["nodes"]), next(r for r in view["rows"] if r["id"] == view["target"]["id"])
    if view["op"] == "double":
        done = "Doubling"
    else:
        done = "Setting to zero" if against_zero else "Switching off"
    text = f"{done} {count} neuron{'s' if count != 1 else ''} moves {quote(target['token'])} "
    text += f"from {percent(before)} to {percent(target['after'])}"
    if view["contrast"] is not None:
        text += f" and the {view['quantity']['name']} to {quote(view['contrast']['token'])} by {view['change']:+.2f}"
    if not size:
        return text + "; the graph leaves no neurons there for a random group to compare with"
    alike = "of equal size" if size == count else f"of {size}, all that the graph leaves there,"
    alike = alike if count > 1 else "of one neuron"
    span = f"{percent(min(chances))} to {percent(max(chances))}"
    many = f"random groups {alike} move it to {percent(float(np.mean(chances)))} on average ({span})"
    if len(chances) == 1:
        many = f"a random group {alike} moves it to {percent(chances[0])}"
    if view["contrast"] is not None:
        many += f" and the difference by {view['control_change']:+.2f}"
    return f"{text}; {many}"


def percent(share: float) -> str:
    """A probability as a person reads it."""
    if share >= 0.01 or share == 0:
        return f"{share:.1%}"
    return f"{100 * share:.2g}%" if share >= 1e-5 else "under 0.001%"


def _same_model(model: Model, recorded: dict[str, Any]) -> None:
    """A trace is changed only in the weights that it was made with."""
    mine = model.provenance()
    for key in ("weights_sha256", "revision", "model"):
        if recorded.get(key) is None and mine.get(key) is None:
            continue
        if recorded.get(key) != mine.get(key):
            made = f"{recorded.get('model')} ({key.removesuffix('_sha256')} {str(recorded.get(key))[:12]})"
            raise HookeError(f"this trace was made with {made}, not with {model.name} as loaded; load that model")
        return


def _token_id(token: Token, model: Model) -> int:
    if not 0 <= token.id < model.parts.d_vocab:
        raise HookeError("the target or contrast of this trace is not a token of the model; make the trace again")
    return token.id


def _same_values(ready: Prepared) -> None:
    """The values that the trace records must be those that the model has on these tokens."""
    if not ready.units:
        return
    told = np.array([u.value for u in ready.units.values()])
    own = np.array([float(ready.acts[u.layer][u.position, u.neuron]) for u in ready.units.values()])
    worst = float(np.abs(told - own).max())
    if not worst <= SAME_VALUE * float(np.abs(own).max()) + 1e-3:
        raise HookeError(
            f"the values in this trace differ from the model's own by up to {worst:.2g}; make the trace again"
        )
