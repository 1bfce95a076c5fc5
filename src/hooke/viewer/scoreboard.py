"""The scoreboard of circuit methods as tables: what stands inside a row of it gets a table of its own."""

from __future__ import annotations

from typing import Any

from hooke.results.payloads.scoreboard import Scoreboard

WORDS = ("about", "source")
KINDS = {"siit": "trained-in", "nodes": "trained-in nodes"}
FIRST = ("name", "median_edge_auroc", "least_of_95_%", "greatest_of_95_%", "p10_edge_auroc",
         "median_node_auroc")  # fmt: skip
LABELS = ("true", "redundant", "cancelling")  # of edges
FEW = 4  # models whose edges are listed
LEFT = ("interval", "mean_edge_auroc", "mean_precision", "spread")  # said otherwise, or by the median


def tables(payload: Scoreboard) -> dict[str, Any]:
    """The payload with flat rows: methods by their numbers, then by kind and by family, and what they are, last."""
    rows = payload.methods
    out: dict[str, Any] = {"methods": [flat(row.model_dump()) for row in rows]}
    for kind in dict.fromkeys(kind for row in rows for kind in row.kinds):
        out[f"on {kind_name(kind)} models"] = [
            {"name": row.name} | flat(row.kinds[kind].model_dump()) for row in rows if kind in row.kinds
        ]
    if any(row.families for row in rows):
        out["median edge AUROC by family"] = [{"name": row.name} | row.families for row in rows]
    for model in payload.each if len(payload.each) <= FEW else []:
        counts = {label: getattr(model.labels, label) for label in LABELS}
        told = [(edge, label, n) for label, edges in counts.items() for edge, n in edges.items()]
        if told:
            out[f"edges of {model.name}"] = [{"edge": e, "label": label, "acts in pairs": n} for e, label, n in told]
    out["edge AUROC on every model"] = [
        {"name": model.name, "kind": model.kind} | {name: told.edge_auroc for name, told in model.methods.items()}
        for model in payload.each
    ]
    said = [{"name": row.name, "about": row.about, "source": row.source} for row in rows]
    return {**out, **payload.model_dump(exclude={"methods", "each"}), "what they are": said}


def kind_name(kind: str) -> str:
    """How a kind of known models is called in words."""
    return KINDS.get(kind, kind)


def flat(row: dict[str, Any]) -> dict[str, Any]:
    """The numbers of a row, the most telling first."""
    own = {key: value for key, value in row.items() if key not in (*WORDS, *LEFT) and not isinstance(value, dict)}
    if isinstance(span := row.get("interval"), list):
        own |= {"least_of_95_%": span[0], "greatest_of_95_%": span[1]}
    last = [key for key in own if key not in (*FIRST, "models")]
    return {key: own[key] for key in (*FIRST, *last, "models") if key in own}
