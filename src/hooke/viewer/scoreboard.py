"""The scoreboard of circuit methods as tables: what stands inside a row of it gets a table of its own."""

from __future__ import annotations

from typing import Any

WORDS = ("about", "source")
KINDS = {"siit": "trained-in", "nodes": "trained-in nodes"}
FIRST = ("name", "median_edge_auroc", "least_of_95_%", "greatest_of_95_%", "p10_edge_auroc",
         "median_node_auroc")  # fmt: skip
LABELS = ("true", "redundant", "cancelling")  # of edges
FEW = 4  # models whose edges are listed
LEFT = ("interval", "mean_edge_auroc", "mean_precision", "spread")  # said otherwise, or by the median


def tables(payload: dict[str, Any]) -> dict[str, Any]:
    """The payload with flat rows: methods by their numbers, then by kind and by family, and what they are, last."""
    methods = payload["methods"]
    rest = {key: value for key, value in payload.items() if key != "methods"}
    out: dict[str, Any] = {"methods": [flat(row) for row in methods]}
    for kind in dict.fromkeys(kind for row in methods for kind in row.get("kinds") or {}):
        out[f"on {kind_name(kind)} models"] = [
            {"name": row["name"]} | flat(row["kinds"][kind]) for row in methods if kind in row["kinds"]
        ]
    if any(row.get("families") for row in methods):
        out["median edge AUROC by family"] = [{"name": row["name"]} | row["families"] for row in methods]
    if len(rest.get("each", ())) <= FEW:
        for row in rest.get("each", ()):
            told = [
                (edge, label, n) for label in LABELS for edge, n in (row.get("labels") or {}).get(label, {}).items()
            ]
            if told:
                out[f"edges of {row['name']}"] = [
                    {"edge": e, "label": label, "acts in pairs": n} for e, label, n in told
                ]
    if "each" in rest:
        out["edge AUROC on every model"] = [
            {key: row[key] for key in ("name", "kind") if key in row}
            | {name: told["edge_auroc"] for name, told in row["methods"].items()}
            for row in rest.pop("each")
        ]
    said = [{key: row[key] for key in ("name", *WORDS) if key in row} for row in methods]
    return {**out, **rest} | ({"what they are": said} if any(len(row) > 1 for row in said) else {})


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
