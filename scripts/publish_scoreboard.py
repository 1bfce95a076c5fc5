"""Write docs/scoreboard.md, and the figures that circuits carry with them, from a saved `hooke bench truth`.

hooke bench truth --out build/scoreboard.json
python scripts/publish_scoreboard.py build/scoreboard.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from hooke.methods.circuit.find import SCORES
from hooke.results import load_result, write_atomic
from hooke.truth.standings import ABOUT

PAGE = Path(__file__).resolve().parent.parent / "docs" / "scoreboard.md"
KEPT = ("models", "median_edge_auroc", "interval", "p10_edge_auroc", "median_node_auroc", "median_precision", "passes")
CHANGED = "## What changed"
SHOWN = ("sieve", "exact", "acdc", "eap-ig", "eap", "ifr")


def main() -> None:
    result = load_result(Path(sys.argv[1]))
    p = result.payload
    if result.kind != "scoreboard" or p["models"] < 100:
        raise SystemExit("give the saved result of a whole `hooke bench truth`")
    scores = {
        row["name"]: {key: row[key] for key in ("median_edge_auroc", "p10_edge_auroc")}
        | {"kinds": {kind: {key: of[key] for key in KEPT} for kind, of in row["kinds"].items()}}
        for row in p["methods"]
    }
    write_atomic(SCORES, (json.dumps(rounded(scores), indent=1) + "\n").encode())
    write_atomic(PAGE, page(p, result.arguments, by_hand(PAGE.read_text())).encode())


def by_hand(old: str) -> list[str]:
    """What the page says of itself in the section "What changed", which is written by hand and kept."""
    _, found, rest = old.partition(CHANGED)
    return [CHANGED, "", rest.partition("\n## ")[0].strip(), ""] if found else []


def rounded(x: Any) -> Any:
    if isinstance(x, dict):
        return {key: rounded(value) for key, value in x.items()}
    if isinstance(x, list):
        return [rounded(value) for value in x]
    return round(x, 4) if isinstance(x, float) else x


def page(p: dict[str, Any], arguments: dict[str, Any], changed: list[str]) -> str:
    kinds = list(p["methods"][0]["kinds"])
    lines = [
        "# The scoreboard of circuit methods",
        "",
        f"Made by `hooke bench truth` ({p['models']} models, {arguments['pairs']} pairs of inputs each, seed "
        f"{arguments['seed']}) and `scripts/publish_scoreboard.py`. What the models are and what makes an edge true "
        "is on [known](known.md), what the figures mean on [bench](bench.md), and what follows from them on "
        "[circuits](circuits.md).",
        "",
        *changed,
    ]
    for kind in kinds:
        n = p["methods"][0]["kinds"][kind]["models"]
        lines += [f"## {n} {ABOUT[kind]}", "", *overall(p, kind), ""]
    lines += ["## What the labels rest on", "", *rests(p), ""]
    lines += ["## Where single cuts say something else", "", *otherwise(p), ""]
    lines += ["## From seed to seed", "", *spread(p), ""]
    lines += ["## The default against the others", "", *against(p), ""]
    lines += ["## Where each fails, and why", "", *failures(p), ""]
    for kind in kinds:
        lines += [f"## By family: {ABOUT[kind]}", "", "Medians of edge AUROC.", "", *families(p, kind), ""]
    lines += ["## Every model", "", *models(p)]
    return "\n".join(lines) + "\n"


def rests(p: dict[str, Any]) -> list[str]:
    """By kind of model: how inputs were tried, and what single and joint cuts do in the models themselves."""
    head = ["models", "number", "all inputs tried", "all sets of edges tried", "true edges"]
    head += ["act in no scored pair", "dead edges", "act alone in one", "pairs in which all dead edges together act"]
    rows = []
    for kind in dict.fromkeys(e["kind"] for e in p["each"]):
        own = [e["labels"] for e in p["each"] if e["kind"] == kind]
        living = sum(len(x["true"]) + len(x["redundant"]) for x in own)
        dead = [n for x in own for n in x["dead"].values()]
        together = sum(x["dead_together"] for x in own) / sum(x["scored_pairs"] for x in own)
        counts = [len(own), sum(x["enumerated"] for x in own), sum(x["exhaustive"] for x in own), living]
        counts += [sum(len(x["unexercised"]) for x in own), len(dead), sum(n > 0 for n in dead)]
        rows.append([ABOUT[kind], *(f"{n:,}" for n in counts), f"{together:.1%}"])
    inputs = [e["labels"]["inputs"] for e in p["each"]]
    pairs = [e["labels"]["pairs"] for e in p["each"]]
    return [
        f"The programs have {min(inputs):,} to {max(inputs):,} inputs, and their edges were cut on {min(pairs):,} to "
        f"{max(pairs):,} pairs of these. Trained models take the labels of their programs; the last columns "
        "say what cuts do in the models themselves, on the scored pairs.",
        "",
        *table(head, rows),
    ]


def otherwise(p: dict[str, Any]) -> list[str]:
    """The compiled programs on which the labels of single cuts are others, and what methods score by either."""
    rows, shown = [], ("sieve", "exact", "acdc", "eap-ig")
    for e in (e for e in p["each"] if e["kind"] == "compiled"):
        x = e["labels"]
        if set(x["alone"]) != {*x["true"], *x["redundant"]}:
            counts = [str(len(x[key])) for key in ("true", "redundant", "cancelling", "alone")]
            each = [e["methods"][m] for m in shown]
            rows.append([e["name"], *counts, *(f"{m['edge_auroc']:.3f} ({m['edge_auroc_alone']:.3f})" for m in each)])
    return [
        "Edges by joint cuts, and how many would be true by single cuts; then edge AUROC, in brackets what it would be "
        "with the labels of single cuts. On all other programs both ways of labelling agree.",
        "",
        *table(["program", "true", "redundant", "cancelling", "true by single cuts", *shown], rows),
    ]


def spread(p: dict[str, Any]) -> list[str]:
    rows = []
    for row in p["methods"]:
        if row["spread"] is not None:
            x = row["spread"]
            rows.append([row["name"], f"{x['mean']:.4f}", f"{x['largest']:.3f}", x["on"]])
    seeds = next(row["spread"]["seeds"] for row in p["methods"] if row["spread"] is not None)
    return [
        f"How far apart the edge AUROCs of one model are on the pairs of {seeds} seeds; slow methods were run on one.",
        "",
        *table(["method", "mean", "largest", "on"], rows),
    ]


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def overall(p: dict[str, Any], kind: str) -> list[str]:
    head = ["method", "edge AUROC (median)", "95 % interval", "tenth percentile", "mean", "node AUROC", "precision"]
    head += ["on random weights", "passes a pair"]
    rows = []
    order = ("median_edge_auroc", "p10_edge_auroc", "mean_edge_auroc")
    for row in sorted(p["methods"], key=lambda r: [-r["kinds"][kind][key] for key in order]):
        k = row["kinds"][kind]
        span = "" if k["interval"] is None else f"{k['interval'][0]:.3f} to {k['interval'][1]:.3f}"
        rows.append(
            [
                f"**{row['name']}**" if row["name"] == p["default"] else row["name"],
                *(f"{k['median_edge_auroc']:.3f}", span, f"{k['p10_edge_auroc']:.3f}", f"{k['mean_edge_auroc']:.3f}"),
                *("" if k[x] is None else f"{k[x]:.3f}" for x in ("median_node_auroc", "mean_precision")),
                "" if k["random_weights"] is None else f"{k['random_weights']:.2f}",
                f"{k['passes']:.0f}",
            ]
        )
    return table(head, rows)


def against(p: dict[str, Any]) -> list[str]:
    rows = [[row["name"], *(str(row[key]) for key in ("better", "equal", "worse"))] for row in p["against_default"]]
    return [
        f"On how many of the {p['models']} models {p['default']} has a higher edge AUROC than the other, an equal one, "
        "a lower one.",
        "",
        *table(["other", "better", "equal", "worse"], rows),
    ]


def failures(p: dict[str, Any]) -> list[str]:
    return [
        f"- **{row['name']}**: edge AUROC below {row['below']} on {row['models']} of {row['of']} models, worst "
        f"{row['worst_edge_auroc']:.2f} on {row['worst']}. {row['why'][0].upper()}{row['why'][1:]}."
        for row in p["failures"]
    ]


def families(p: dict[str, Any], kind: str) -> list[str]:
    own = [e for e in p["each"] if e["kind"] == kind]
    names = [row["name"] for row in p["methods"]]
    rows = []
    for family in dict.fromkeys(e["family"] for e in own):
        these = [e for e in own if e["family"] == family]
        medians = [np.median([e["methods"][name]["edge_auroc"] for e in these]) for name in names]
        rows.append([family, str(len(these)), *(f"{m:.2f}" for m in medians)])
    return table(["family", "models", *names], rows)


def models(p: dict[str, Any]) -> list[str]:
    rows = [
        [e["name"], e["kind"], str(e["edges"]), str(e["true_edges"]), str(e["redundant_edges"])]
        + [f"{e['methods'][name]['edge_auroc']:.3f}" for name in SHOWN]
        for e in p["each"]
    ]
    return table(["program", "kind", "edges", "true", "redundant", *SHOWN], rows)


if __name__ == "__main__":
    main()
