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

from hooke.methods.circuit_methods import SCORES
from hooke.results import load_result, write_atomic
from hooke.truth.scoreboard import ABOUT

PAGE = Path(__file__).resolve().parent.parent / "docs" / "scoreboard.md"
KEPT = ("models", "median_edge_auroc", "interval", "p10_edge_auroc", "median_node_auroc", "median_precision", "passes")
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
    write_atomic(PAGE, page(p, result.arguments, result.seconds["total"]).encode())


def rounded(x: Any) -> Any:
    if isinstance(x, dict):
        return {key: rounded(value) for key, value in x.items()}
    if isinstance(x, list):
        return [rounded(value) for value in x]
    return round(x, 4) if isinstance(x, float) else x


def page(p: dict[str, Any], arguments: dict[str, Any], seconds: float) -> str:
    kinds = list(p["methods"][0]["kinds"])
    lines = [
        "# The scoreboard of circuit methods",
        "",
        f"Made by `hooke bench truth` ({p['models']} models, {arguments['pairs']} pairs of inputs each, seed "
        f"{arguments['seed']}, {seconds / 60:.0f} minutes on two cores) and `scripts/publish_scoreboard.py`. What the "
        "models are is on [known](known.md), what the figures mean on [bench](bench.md), and what follows from them on "
        "[circuits](circuits.md).",
        "",
    ]
    for kind in kinds:
        n = p["methods"][0]["kinds"][kind]["models"]
        lines += [f"## {n} {ABOUT[kind]}", "", *overall(p, kind), ""]
    lines += ["## The default against the others", "", *against(p), ""]
    lines += ["## Where each fails, and why", "", *failures(p), ""]
    for kind in kinds:
        lines += [f"## By family: {ABOUT[kind]}", "", "Medians of edge AUROC.", "", *families(p, kind), ""]
    lines += ["## Every model", "", *models(p)]
    return "\n".join(lines) + "\n"


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def overall(p: dict[str, Any], kind: str) -> list[str]:
    head = ["method", "edge AUROC (median)", "95 % interval", "tenth percentile", "mean", "node AUROC", "precision"]
    head += ["on random weights", "passes a pair", "seconds in all"]
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
                *(f"{k['passes']:.0f}", f"{k['seconds']:.1f}"),
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
        [e["name"], e["kind"], str(e["edges"]), str(e["true_edges"])]
        + [f"{e['methods'][name]['edge_auroc']:.3f}" for name in SHOWN]
        for e in p["each"]
    ]
    return table(["program", "kind", "edges", "true", *SHOWN], rows)


if __name__ == "__main__":
    main()
