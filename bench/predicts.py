"""Does a trace predict what happens? Medians over the held-out prompts, live and held, with controls.

    python bench/predicts.py [--set held_out] [--most 40] [--nodes 300] [--own] [--json FILE]

Each prompt is traced against its first counterfactual (--own: against those that Hooke makes itself). What is printed
of each figure is its median, its quartiles, and in how many prompts there was one.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

import hooke
from hooke.data import DEVELOPMENT, EARLIER, HELD_OUT

SETS = {"held_out": HELD_OUT, "earlier": EARLIER, "development": DEVELOPMENT}
FIGURES = (
    "spearman", "held_spearman", "activation_spearman", "groups_spearman", "held_groups_spearman", "edges_spearman",
    "edges_held_spearman", "edges_shuffled_spearman", "paths_sign", "curvature", "fit", "random_fit", "complement",
    "parts_spearman", "part_paths_sign", "part_paths_spearman",
)  # fmt: skip


LITTLE = 0.1  # a measured change that is less says nothing of sign or size


def parts_of(payload: dict[str, Any]) -> list[list[float]]:
    """Of each part: what its flows predict, what its nodes' totals at one point do, and what was measured."""
    totals = {node["id"]: node.get("total") or 0.0 for node in payload["graph"]["nodes"]}
    return [
        [part["predicted"], sum(totals[node] for node in part["nodes"]), part["measured_in_graph"]]
        for part in payload["groups"]
    ]


def agreement(name: str, predicted: np.ndarray, measured: np.ndarray) -> None:
    """How predictions of all prompts together agree with what was measured, where it is not next to nothing."""
    there = np.abs(measured) > LITTLE
    ratio = predicted[there] / measured[there]
    print(
        f"{name:26} rank correlation {spearmanr(predicted, measured).statistic:.3f}, sign {np.mean(ratio > 0):.3f}, "
        f"half to twice {np.mean((ratio >= 0.5) & (ratio <= 2)):.3f}   {len(measured)} ({there.sum()} over {LITTLE})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", choices=SETS, default="held_out")
    parser.add_argument("--most", type=int, default=40)
    parser.add_argument("--nodes", type=int, default=300)
    parser.add_argument("--own", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    model, rows, parts, links = hooke.load(), [], [], []
    for flip in SETS[args.set][: args.most]:
        start = time.perf_counter()
        against = {} if args.own else {"counterfactual": flip.first, "contrast": flip.first_answer}
        try:
            result = hooke.trace(model, flip.prompt, target=flip.answer, nodes=args.nodes, **against)
        except hooke.HookeError as error:
            print(f"{flip.prompt!r}: {error}")
            continue
        v = result.payload["verification"]
        tested = v["as_predicted"] + v["not_as_predicted"] + v["no_effect"]
        row = {key: v.get(key) for key in FIGURES} | {
            "refuted": v["not_as_predicted"] / max(tested, 1), "seconds": time.perf_counter() - start,
        }  # fmt: skip
        parts += parts_of(result.payload)
        links += [[link["predicted"], link["measured"]] for link in result.payload["attention"]]
        rows.append({"prompt": flip.prompt, "form": result.arguments["form"], **row})
        print(f"{len(rows):3d} {row['seconds']:5.1f} s  {flip.prompt!r}", flush=True)
        if args.json:
            args.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print(f"\n{len(rows)} prompts, {args.nodes} nodes, {sum(r['form'] == 'live' for r in rows)} live")
    print(f"{'':26} median   quartiles        prompts")
    for key in (*FIGURES, "refuted", "seconds"):
        values = [row[key] for row in rows if row[key] is not None]
        if values:
            low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
            print(f"{key:26} {middle:6.3f}   {low:6.3f} {high:6.3f}   {len(values):4d}")
    by_flow, at_one_point, done = np.array(parts).T
    agreement("parts", by_flow, done)
    agreement("parts, totals added up", at_one_point, done)
    agreement("parts, shuffled", np.random.default_rng(0).permutation(by_flow), done)
    agreement("links of attention", *np.array(links).T)


if __name__ == "__main__":
    main()
