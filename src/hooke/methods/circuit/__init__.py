"""`circuit`: the edges that carry what a model does for a task, how much of it they carry, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hooke.arguments import verb
from hooke.data.prompts.circuit_tasks import Example
from hooke.errors import HookeError
from hooke.methods.circuit import measure
from hooke.methods.circuit.acdc import acdc_edges
from hooke.methods.circuit.file import read_circuit
from hooke.methods.circuit.find import METHODS, SCORES, THRESHOLDS, scores_on_truth
from hooke.methods.circuit.graph import graph_of
from hooke.methods.circuit.levels import Edges, Level, Scores, check_names, default_of, level_of
from hooke.methods.circuit.pairs import Asked, Pairs, ask
from hooke.methods.circuit.scores import everything_cut
from hooke.methods.computation_graph import ComputationGraph
from hooke.methods.edge_runs import pair_runs
from hooke.methods.metrics import Metric
from hooke.methods.progress import Clock, Progress, Tick, stretch
from hooke.methods.splits import check_seed
from hooke.model import Model
from hooke.results import Claim, Result, Verdict
from hooke.results.drawn import drawn_graph

TESTS = 100
ORDERS = 3  # of ACDC
SEEDED = ("masks", "ensemble", "random")  # methods that draw
SHOWN = 3  # examples in the result


@verb
def circuit(
    model: Model,
    pairs: str | Sequence[Example],
    *,
    method: str | None = None,
    size: int | float | None = None,
    level: str = "edges",
    metric: str | Metric | None = None,
    ablation: str = "counterfactual",
    n_pairs: int | None = None,
    tests: int = TESTS,
    source: str | Path | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Result:
    """Find the circuit of a task, and measure it on other pairs of prompts than it was found on.

    pairs: the name of a task (`hooke tasks`), or examples (clean, corrupt, target, contrast); clean and corrupt of one
        pair have the same number of tokens, and pairs may differ in length.
    method: how edges are ordered (`METHODS`); by default the one that does best on models whose circuit is known, or
        EAP-IG, which takes a few passes, in a model of more than 10,000 edges.
    size: how many edges are kept (a whole number) or which share of all (a fraction); by default the fewest, of those
        tried, that keep 85 % of the effect on the pairs of the ranking. Edges that lead nowhere are left out after.
    level: "edges" between heads and MLPs, queries, keys and values apart; "nodes" for heads and MLPs; "neurons" for
        heads and single neurons. What is not kept has the values of the corrupt prompt.
    metric: "logit-difference" (the default) or "probability" of target and contrast, or a function of last logits
        (batch, d_vocab) -> (batch,) with a gradient. A task has its own.
    n_pairs: on how many pairs edges are ordered: of a task 8, and as many again are drawn for what is reported; of
        given examples half, and the rest is for what is reported.
    tests: how many edges at most are cut one by one in the whole model, and how many are taken out of the circuit.
    source: a circuit that was found elsewhere, a JSON file of EAP-IG or MIB, which is measured instead of finding one.
        Of a file with scores alone, or with a size, the circuit is made of the edges of the largest scores, whichever
        sign.
    Returns a `Result` of kind "circuit". payload.graph is the graph, weights below 0 where an edge supports the
    answer; payload.faithfulness the curve against size, beside random circuits of as many edges; payload.circuit the
    same of the circuit itself; payload.cpr, cmd; payload.stability; payload.minimality; payload.tests. Tensors: the
    effect of every edge (effects) and which are kept (kept), both (n_readers, n_writers), or by node.
    Raises HookeError for a task that the model cannot do, pairs that do not line up, a metric that is the same on
    clean and corrupt prompts, numbers that are not finite, and for a method, level or size that there is not.
    """
    clock = Clock(progress)
    if ablation != "counterfactual":
        raise HookeError(
            f"no ablation called {ablation!r} for circuits: what they cut has the corrupt prompt's values "
            "(counterfactual); zero, mean and resample ablation are for patch"
        )
    if tests < 1:
        raise HookeError("at least one edge must be tested")
    if source is not None and (level != "edges" or method is not None):
        raise HookeError("a circuit from a file has its own edges; leave the method and the level out")
    check_seed(seed)
    check_names(level, method)
    space = level_of(model, level)
    name = "file" if source is not None else method or default_of(space)
    wanted = measure.check_size(size, space.n)
    given = None if source is None else read_circuit(model, source)
    with clock("answers"):
        asked = ask(model, pairs, metric, n_pairs, seed)
    with clock("edges") as tick:
        if given is None:
            scores = space.score(asked.find, name, seed=seed, tick=tick)
        else:
            own = given.scores[ComputationGraph.of(model.parts).edges]
            scores = Scores(-own[None], torch.zeros(space.n, dtype=torch.bool), None, 0.0)
        strength = scores.size()
    with clock("size") as tick:
        chosen = None if given is None or wanted is not None else given.keep[ComputationGraph.of(model.parts).edges]
        if chosen is not None and bool(chosen.any()):
            asked_for = int(chosen.sum())
            strength = strength + chosen * float(strength.max() + 1)  # the file's own circuit first
        else:
            asked_for = measure.smallest(space, asked.find, strength, tick=tick) if wanted is None else wanted
        keep = space.prune(measure.top(strength, asked_for))
    if not bool(keep.any()):
        if name == "file" and wanted is None:
            raise HookeError(f"the edges that are in the circuit of {source} do not lead from the input to the logits")
        raise HookeError(
            f"the first {asked_for:,} {space.units} by {name} do not lead from the input to the logits; ask for more "
            "(--size)"
        )
    signed = name == "file" or METHODS[name].signed
    effects = scores.effects.mean(0)
    report, stable = asked.report, seed + 1
    with clock("curve") as tick:
        own_size = measure.at_size(space, report, keep, stable, tick=stretch(tick, 0, 0.1))
        curve = measure.curves(space, report, effects, strength, signed, stable, tick=stretch(tick, 0.1, 1))
    with clock("stability") as tick:
        stability = _stability(space, asked.find, name, scores, asked_for, keep, seed, tick)
    with clock("cuts") as tick:
        cut = measure.cuts(space, report, keep, strength, tests, seed, tick=stretch(tick, 0, 0.5))
        minimal = measure.minimality(space, report, keep, tests, seed, tick=stretch(tick, 0.5, 1))
    verdicts: dict[int, Verdict] = {row["number"]: row["verdict"] for row in cut["rows"]}
    weights = effects.clone() if signed else -strength  # of a rank: cutting what is needed takes away
    for row in cut["rows"] if signed else ():  # what was measured stands for what was estimated
        weights[row["number"]] = row["effect"]
    graph = graph_of(space, keep, weights, verdicts)
    what = asked.task or "pairs like these"
    sentence, claims = _said(what, space, own_size, asked, minimal, stability, cut, name)
    graph.tokens = list(report.texts[0]["clean"])
    drawn = drawn_graph(
        graph, prompt="".join(graph.tokens), n_layers=model.parts.n_layers, node_threshold=1.0, edge_threshold=1.0
    )
    rows = [{key: value for key, value in row.items() if key != "number"} for row in cut["rows"]]
    for row, of in zip(rows, cut["rows"], strict=True):
        row["estimate"] = float(effects[of["number"]]) if signed else None
    return Result.make(
        "circuit",
        arguments={
            "pairs": asked.task,
            "pairs_sha256": asked.sha256,
            "method": name,
            "level": level,
            "size": size,
            "metric": asked.metric,
            "ablation": ablation,
            "n_pairs": len(asked.find),
            "tests": tests,
            "source": None if source is None else str(source),
            "source_sha256": None if given is None else given.sha256,
            "seed": seed,
        },
        provenance=model.provenance(),
        seconds=clock.done(),
        claims=claims,
        payload={
            "task": asked.task,
            "accuracy": asked.accuracy,
            "method": name,
            "about": "a circuit that was found elsewhere" if name == "file" else METHODS[name].about,
            "signed": signed,
            "level": level,
            "units": space.units,
            "size": int(keep.sum()),
            "first": asked_for,
            "n_edges": space.n,
            "n_nodes": int(space.nodes(keep).sum()),
            "pairs": {"find": len(asked.find), "report": len(report)},
            "metric": {"name": asked.metric, "clean": own_size["whole"], "corrupt": own_size["none"]},
            "circuit": own_size,
            **curve,
            "stability": stability,
            "minimality": minimal,
            "tests": {**cut, "rows": rows},
            "passes": scores.passes,
            "shared_disagree": None if given is None else given.disagree,
            "scores_on_truth": scores_on_truth(name) if level == "edges" and SCORES.is_file() else None,
            "tokens": [*asked.find.texts, *report.texts][:SHOWN],
            "sentence": sentence + ".",
            "graph": drawn.model_dump(exclude_unset=True),
        },
        tensors=_tensors(space, effects, keep, scores),
    )


def _tensors(space: Level, effects: Tensor, keep: Tensor, scores: Scores) -> dict[str, np.ndarray]:
    found = {"effects": effects, "size": scores.size(), "kept": keep, "exact": scores.exact}
    if isinstance(space, Edges):
        found = {key: space.matrix(x) for key, x in found.items()}
    return {key: x.numpy() for key, x in found.items()}


def _stability(
    space: Level, pairs: Pairs, name: str, scores: Scores, count: int, keep: Tensor, seed: int, tick: Tick
) -> dict[str, Any]:
    """How much circuits of this size have in common that were found on halves of the pairs, with other seeds, or by
    ACDC in other orders; beside what random ones have in common."""
    found: dict[str, Any] = {"by_half": None, "by_seed": None, "by_order": None}
    found["random"] = measure.by_chance(space, int(keep.sum()), seed)
    if name == "file":
        return found
    found["by_half"] = measure.by_half(space, scores.effects, count, seed)
    if found["by_half"] is None and name != "random" and len(pairs) >= 2:
        n = len(pairs)
        halves = [pairs.rows(range(0, n // 2)), pairs.rows(range(n // 2, n))]
        each = []
        for i, half in enumerate(halves):
            of = space.score(half, name, seed=seed, tick=stretch(tick, i / 4, (i + 1) / 4))
            each.append(space.prune(measure.top(of.size(), count)))
        found["by_half"] = measure.compared(space, [(each[0], each[1])])
    if name in SEEDED:
        again = space.score(pairs, name, seed=seed + 1, tick=stretch(tick, 0.5, 1))
        found["by_seed"] = measure.compared(space, [(keep, space.prune(measure.top(again.size(), count)))])
    if name == "acdc" and isinstance(space, Edges):
        found["by_order"] = _orders(space, pairs, scores, keep, seed, stretch(tick, 0.5, 1))
    return found


def _orders(space: Edges, pairs: Pairs, scores: Scores, keep: Tensor, seed: int, tick: Tick) -> dict[str, Any]:
    """ACDC at the threshold that leaves a circuit nearest to this one in size, in its own order and in others: for
    each reader the writers are tried in an order that is drawn."""
    computation, count = space.computation, int(keep.sum())
    given = (space.model, pairs.clean, pairs.corrupt, pairs.objective)
    unit = everything_cut(space.model, pair_runs(space.model, pairs.clean, pairs.corrupt), pairs.objective)
    # a score is how many thresholds an edge survived
    left = [int((scores.effects[0] > i).sum()) for i in range(len(THRESHOLDS))]
    threshold = unit * sorted(THRESHOLDS)[min(range(len(left)), key=lambda i: abs(left[i] - count))]
    found = [space.prune(acdc_edges(*given, threshold=threshold).cpu()[computation.edges])]
    tick(1 / ORDERS)
    generator = torch.Generator().manual_seed(seed)
    for i in range(ORDERS - 1):
        edges = computation.edges.nonzero()
        edges = edges[torch.randperm(len(edges), generator=generator)]
        edges = edges[edges[:, 0].argsort(descending=True, stable=True)]
        kept = acdc_edges(*given, threshold=threshold, order=edges).cpu()
        found.append(space.prune(kept[computation.edges]))
        tick((i + 2) / ORDERS)
    return measure.compared(space, [(a, b) for i, a in enumerate(found) for b in found[i + 1 :]])


def _said(
    what: str,
    space: Level,
    own: dict[str, Any],
    asked: Asked,
    minimal: dict[str, Any],
    stability: dict[str, Any],
    cut: dict[str, Any],
    name: str,
) -> tuple[str, list[Claim]]:
    """The sentence, and the claims with their verdicts."""
    n, spread = len(asked.report), own["interval"]
    least = own["faithfulness"] if spread is None else spread[0]
    better = least > max(own["random_high"], 0.0)
    told = "" if spread is None else f" (95 % interval {percent(spread[0])} to {percent(spread[1])})"
    first = (
        f"{own['units']:,} of {space.n:,} {space.units} ({100 * own['units'] / space.n:.1f} %) keep "
        f"{percent(own['faithfulness'])} of what the model does for {what}, on {n} pairs that did not choose "
        f"them{told}; random circuits of that size keep {percent(own['random'])}"
    )
    rest = f"without them {percent(own['complement'])} is left"
    claims = [
        Claim(text=first, verdict="tested" if better else "refuted", evidence=["#circuit"]),
        Claim(text=rest, verdict="tested", evidence=["#circuit.complement"]),
    ]
    text = f"{first}; {rest}"
    half = stability["by_half"]
    if half is not None:
        chance = stability["random"]["mean_edges"]
        alike = (
            f"circuits of two halves of the pairs share {percent(half['mean_edges'])} of their {space.units} "
            f"(random {percent(chance)})"
        )
        claims.append(Claim(text=alike, verdict="tested", evidence=["#stability.by_half", "#stability.random"]))
        text += f"; {alike}"
    matter = (
        f"{minimal['matter']} of {minimal['tried']} {space.units} that were taken out of the circuit move the metric"
        + (" more than most random ones" if minimal["controls"] else "; none are left outside to compare with")
    )
    claims.append(Claim(text=matter, verdict="tested", evidence=["#minimality"]))
    return text, claims


def percent(share: float) -> str:
    """A share in per cent, and no minus before a zero."""
    return f"{round(100 * share) + 0:d} %"
