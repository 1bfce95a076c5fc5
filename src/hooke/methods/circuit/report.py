"""What the result of a circuit says: its sentence and claims, and the payload with the graph."""

from __future__ import annotations

from typing import Any

import numpy as np

from hooke.methods.circuit.chosen import Chosen
from hooke.methods.circuit.find import METHODS, SCORES, scores_on_truth
from hooke.methods.circuit.graph import graph_of
from hooke.methods.circuit.levels import Edges, Level
from hooke.methods.circuit.measure import Measured
from hooke.methods.circuit.pairs import Asked
from hooke.model import Model
from hooke.results import Claim, Verdict
from hooke.results.drawn import drawn_graph

SHOWN = 3  # examples in the result


def said(space: Level, asked: Asked, found: Measured) -> tuple[str, list[Claim]]:
    """The sentence, and the claims with their verdicts."""
    own, minimal, what = found.own, found.minimal, asked.task or "pairs like these"
    n, spread = len(asked.report), own["interval"]
    least = own["faithfulness"] if spread is None else spread[0]
    better = least > max(own["random_high"], 0.0)
    told = "" if spread is None else f" (95 % interval {_percent(spread[0])} to {_percent(spread[1])})"
    first = (
        f"{own['units']:,} of {space.n:,} {space.units} ({100 * own['units'] / space.n:.1f} %) keep "
        f"{_percent(own['faithfulness'])} of what the model does for {what}, on {n} pairs that did not choose "
        f"them{told}; random circuits of that size keep {_percent(own['random'])}"
    )
    rest = f"without them {_percent(own['complement'])} is left"
    claims = [
        Claim(text=first, verdict="tested" if better else "refuted", evidence=["#circuit"]),
        Claim(text=rest, verdict="tested", evidence=["#circuit.complement"]),
    ]
    text = f"{first}; {rest}"
    half = found.stability["by_half"]
    if half is not None:
        chance = found.stability["random"]["mean_edges"]
        alike = (
            f"circuits of two halves of the pairs share {_percent(half['mean_edges'])} of their {space.units} "
            f"(random {_percent(chance)})"
        )
        claims.append(Claim(text=alike, verdict="tested", evidence=["#stability.by_half", "#stability.random"]))
        text += f"; {alike}"
    matter = (
        f"{minimal['matter']} of {minimal['tried']} {space.units} that were taken out of the circuit move the metric"
        + (" more than most random ones" if minimal["controls"] else "; none are left outside to compare with")
    )
    claims.append(Claim(text=matter, verdict="tested", evidence=["#minimality"]))
    return text, claims


def _percent(share: float) -> str:
    """A share in per cent, and no minus before a zero."""
    return f"{round(100 * share) + 0:d} %"


def payload_of(
    model: Model, space: Level, asked: Asked, chosen: Chosen, found: Measured, sentence: str
) -> dict[str, Any]:
    """Everything that a result of kind "circuit" holds."""
    given, name, effects = chosen.given, chosen.method, chosen.effects
    rows = [{key: value for key, value in row.items() if key != "number"} for row in found.cut["rows"]]
    for row, of in zip(rows, found.cut["rows"], strict=True):
        row["estimate"] = float(effects[of["number"]]) if chosen.signed else None
    return {
        "task": asked.task,
        "accuracy": asked.accuracy,
        "method": name,
        "about": METHODS[name].about if given is None else "a circuit that was found elsewhere",
        "signed": chosen.signed,
        "level": space.name,
        "units": space.units,
        "size": int(chosen.keep.sum()),
        "first": chosen.first,
        "n_edges": space.n,
        "n_nodes": int(space.nodes(chosen.keep).sum()),
        "pairs": {"find": len(asked.find), "report": len(asked.report)},
        "metric": {"name": asked.metric, "clean": found.own["whole"], "corrupt": found.own["none"]},
        "circuit": found.own,
        **found.curve,
        "stability": found.stability,
        "minimality": found.minimal,
        "tests": {**found.cut, "rows": rows},
        "passes": chosen.scores.passes,
        "shared_disagree": None if given is None else given.disagree,
        "scores_on_truth": scores_on_truth(name) if space.name == "edges" and SCORES.is_file() else None,
        "tokens": [*asked.find.texts, *asked.report.texts][:SHOWN],
        "sentence": sentence + ".",
        "graph": _graph(model, space, asked, chosen, found),
    }


def _graph(model: Model, space: Level, asked: Asked, chosen: Chosen, found: Measured) -> dict[str, Any]:
    """The graph: weights are effects, measured where they were; of a method without a sign they are ranks. The prompt
    is the first pair's clean one."""
    rows = found.cut["rows"]
    verdicts: dict[int, Verdict] = {row["number"]: row["verdict"] for row in rows}
    weights = chosen.effects.clone() if chosen.signed else -chosen.strength  # cutting what is needed takes away
    for row in rows if chosen.signed else ():
        weights[row["number"]] = row["effect"]
    graph = graph_of(space, chosen.keep, weights, verdicts)
    graph.tokens = list(asked.report.texts[0]["clean"])
    drawn = drawn_graph(
        graph, prompt="".join(graph.tokens), n_layers=model.parts.n_layers, node_threshold=1.0, edge_threshold=1.0
    )
    return drawn.model_dump(exclude_unset=True)


def tensors_of(space: Level, chosen: Chosen) -> dict[str, np.ndarray]:
    """Effects, sizes and what is kept, of every unit; of edges by reader and writer."""
    scores = chosen.scores
    found = {"effects": chosen.effects, "size": scores.size(), "kept": chosen.keep, "exact": scores.exact}
    if isinstance(space, Edges):
        found = {key: space.matrix(x) for key, x in found.items()}
    return {key: x.numpy() for key, x in found.items()}
