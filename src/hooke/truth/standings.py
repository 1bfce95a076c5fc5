"""What the rows of the scoreboard say together: medians and their intervals, how methods compare, where they fail."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import bootstrap

from hooke.methods.circuit.find import METHODS
from hooke.methods.ranking import FEW

ABOUT = {
    "compiled": "compiled models",
    "siit": "models with trained-in circuits",
    "nodes": "models with trained-in nodes alone",
}
LOW = 0.9  # an edge AUROC below which a method is said to fail on a model
Row = dict[str, Any]


def summary(name: str, each: list[Row]) -> Row:
    """One method over all models, and by kind."""
    row: Row = {"name": name, "about": METHODS[name].about, "source": METHODS[name].source}
    row |= _over(name, each)
    row["kinds"] = {kind: _over(name, [e for e in each if e["kind"] == kind]) for kind in _ordered(each, "kind")}
    row["families"] = {
        family: float(np.median([e["methods"][name]["edge_auroc"] for e in each if e["family"] == family]))
        for family in _ordered(each, "family")
    }
    return row


def _over(name: str, each: list[Row]) -> Row:
    own = [e["methods"][name] for e in each]
    edge = np.array([o["edge_auroc"] for o in own])
    nodes = [o["node_auroc"] for o in own if o["node_auroc"] is not None]
    twins = [e["random_weights"][name] for e in each if "random_weights" in e]
    return {
        "models": len(own),
        "median_edge_auroc": float(np.median(edge)),
        "interval": _interval(edge),
        "p10_edge_auroc": float(np.percentile(edge, 10)),
        "mean_edge_auroc": float(edge.mean()),
        "median_node_auroc": float(np.median(nodes)) if nodes else None,
        "median_precision": float(np.median([o["precision"] for o in own])),
        "mean_precision": float(np.mean([o["precision"] for o in own])),
        "seconds": float(np.sum([o["seconds"] for o in own])),
        "passes": float(np.median([o["passes"] for o in own])),
        "random_weights": float(np.median(twins)) if twins else None,
        "spread": _spread(name, each),
    }


def _spread(name: str, each: list[Row]) -> Row | None:
    """How far apart the edge AUROCs of one model on the pairs of different seeds are; None for slow methods."""
    scored = [(e, e["methods"][name]) for e in each if "other_seeds" in e["methods"][name]]
    gaps = [
        (float(np.ptp([own["edge_auroc"], *own["other_seeds"]])), f"{e['name']} ({e['kind']})") for e, own in scored
    ]
    if not gaps:
        return None
    values = [gap for gap, _ in gaps]
    return {
        "seeds": 1 + len(scored[0][1]["other_seeds"]),
        "mean": float(np.mean(values)),
        "largest": max(values),
        "on": max(gaps)[1],
    }


def _interval(values: np.ndarray) -> list[float] | None:
    """95 % of the median over models; None for a few."""
    if len(values) < FEW:
        return None
    if np.ptp(values) == 0:
        return [float(values[0]), float(values[0])]
    found = bootstrap((values,), np.median, method="percentile", n_resamples=2000, rng=np.random.default_rng(0))
    return [float(found.confidence_interval.low), float(found.confidence_interval.high)]


def against(default: str, other: str, each: list[Row]) -> Row:
    """On how many models the default orders edges better than another method, as well, and worse."""
    gap = np.array([e["methods"][default]["edge_auroc"] - e["methods"][other]["edge_auroc"] for e in each])
    better, worse = int((gap > 1e-9).sum()), int((gap < -1e-9).sum())
    return {"name": other, "better": better, "equal": len(gap) - better - worse, "worse": worse}


def failure(name: str, each: list[Row]) -> Row:
    """On which models a method orders edges badly, and what is known of why."""
    low = sorted((e["methods"][name]["edge_auroc"], f"{e['name']} ({e['kind']})") for e in each)
    failed = [model for value, model in low if value < LOW]
    return {
        "name": name,
        "below": LOW,
        "models": len(failed),
        "of": len(each),
        "worst": low[0][1],
        "worst_edge_auroc": low[0][0],
        "why": METHODS[name].fails,
    }


def sentence(rows: list[Row], default: str) -> str:
    """How well the default does, by kind."""
    own = next(row for row in rows if row["name"] == default)
    by_kind = " and ".join(
        f"{k['median_edge_auroc']:.3f} on {k['models']} {ABOUT[kind]} (tenth percentile {k['p10_edge_auroc']:.3f})"
        for kind, k in own["kinds"].items()
    )
    return f"{default} finds the true edges with a median AUROC of {by_kind}, in {own['passes']:.0f} passes a pair"


def _ordered(each: list[Row], key: str) -> list[str]:
    return list(dict.fromkeys(e[key] for e in each))
