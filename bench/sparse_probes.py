"""Sparse neuron probes against dense probes, in and out of distribution, on the packaged data sets.

    python bench/sparse_probes.py [--model NAME] [--rows 400] [--shift-rows 240] [--seeds 3] [--tasks …]

For each task one pass over the texts; then, on the same splits, each chosen on folds that leave topics out:
dense logistic regression on the residual stream (all layers, last and mean), k-sparse logistic regression on
MLP neurons (k = 1, 4, 16, 64), the same on random features (a random dictionary of the same width), difference of
means, and a bag of words. Tested on held-out groups and on declared shifts, with intervals over groups. Then the
"quiver" test: choose by validation among the dense methods, or among these and the sparse ones; does the choice
score better where nothing was chosen? A seed draws the rows, the splits and the random dictionary. Each run is kept
as a file in --out, so that a stopped one goes on. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import hooke
from hooke.data.labelled.registry import dataset
from hooke.data.labelled.rows import Row
from hooke.harvest import Wanted, harvest
from hooke.methods.probe import choice
from hooke.methods.probe.baselines import fit_words, score_words
from hooke.methods.probe.parts import score_harvest
from hooke.methods.ranking import auroc_interval, gain_interval, weights
from hooke.methods.splits import folds, hold_out
from hooke.results import write_atomic
from hooke.sites import Site

TASKS = (
    "truth", "honesty", "roleplay", "harm", "injection", "entities", "sentiment", "language", "tense", "number",
    "question", "grammar", "concrete", "animal", "subject",
)  # fmt: skip
KS = (1, 4, 16, 64)


def some(rows: tuple[Row, ...], count: int, seed: int) -> list[Row]:
    """Whole groups, drawn at random, until there are enough rows."""
    by_group: dict[str, list[Row]] = {}
    for row in rows:
        by_group.setdefault(row.group, []).append(row)
    taken: list[Row] = []
    for name in np.random.default_rng(seed).permutation(sorted(by_group)):
        if len(taken) < count:
            taken += by_group[name]
    return taken


def run_task(model: hooke.Model, name: str, n_train: int, n_shift: int, seed: int) -> dict[str, Any]:
    data = dataset(name, seed=seed)
    train, shifted = some(data.train, n_train, seed), some(data.shifted, n_shift, seed)
    rows = [*train, *shifted]
    layers = range(model.parts.n_layers)
    resid = [Site("resid_post", layer) for layer in layers]
    neurons = [Site("mlp_act", layer) for layer in layers]
    kept = harvest(model, rows, Wanted.of(model, sites=[*resid, *neurons]))
    rng = np.random.default_rng(seed)
    noise = [Site("mlp_pre", layer) for layer in layers]  # not read: the random dictionary stands in its place
    for site, source, like in zip(noise, resid, neurons):
        x = kept.pooled[source, "last"]
        w = rng.standard_normal((x.shape[1], kept.pooled[like, "last"].shape[1])) / np.maximum(x.std(0), 1e-6)[:, None]
        kept.pooled[site, "last"] = np.maximum((x - x.mean(0)) @ w, 0).astype(np.float32)
    fit_rows, held = hold_out(train, seed=seed)
    inner, split = folds([train[i] for i in fit_rows])
    problem = choice.Problem(kept, rows, fit_rows, inner, seed)
    y = np.array([row.label for row in rows])
    parts = {"in": np.asarray(held), "out": np.arange(len(train), len(rows))}
    tried: dict[str, list[choice.Candidate]] = {"dense": [], "means": [], "random 16": []}
    for site in resid:
        for pool in ("last", "mean"):
            tried["dense"] += choice.try_linear(problem, "logistic", site, pool)
            tried["means"] += choice.try_linear(problem, "means", site, pool)
    sparse = [c for s in neurons for p in ("last", "mean") for c in choice.try_linear(problem, "sparse", s, p)]
    for k in KS:
        tried[f"sparse {k}"] = [c for c in sparse if c.strength == k]
    for site in noise:
        tried["random 16"] += [c for c in choice.try_linear(problem, "sparse", site, "last") if c.strength == 16]
    methods: dict[str, dict[str, Any]] = {}
    scores: dict[str, np.ndarray] = {}
    for method, candidates in tried.items():
        best = max(candidates, key=lambda c: c.auroc)
        scores[method] = score_harvest(choice.fit(best, problem), kept)
        methods[method] = {"site": str(best.site), "pool": best.pool, "validation": best.auroc}
    words, word_weights = fit_words([rows[i] for i in fit_rows], problem.y)
    scores["bag of words"] = score_words(words, word_weights, rows)
    methods["bag of words"] = {}
    drawn = {part: weights([rows[i].group for i in at]) for part, at in parts.items()}
    for method, values in scores.items():
        for part, at in parts.items():
            found = auroc_interval(values[at], y[at], drawn[part])
            methods[method][part] = [found.value, *found.pair]
            gain = gain_interval(values[at], scores["dense"][at], y[at], drawn[part])
            methods[method][f"{part} less dense"] = [gain.value, *gain.pair]  # of one seed, over groups
    return {
        "task": name,
        "n": len(fit_rows),
        "held": len(held),
        "shift": len(shifted),
        "split": split,
        "methods": methods,
    }


Runs = list[list[dict[str, Any]]]  # by task, by seed


def quiver(found: Runs) -> dict[str, list[float]]:
    """Test AUROC of the method that validation picks, with the sparse ones in the quiver less without: the mean over
    seeds of each task, and its spread over tasks."""
    made = {}
    dense, every = ("dense", "means"), ("dense", "means", *(f"sparse {k}" for k in KS))
    for part in ("in", "out"):
        each = []
        for runs in found:
            gains = []
            for row in runs:
                pick = [max(names, key=lambda m: row["methods"][m]["validation"]) for names in (dense, every)]
                gains.append(row["methods"][pick[1]][part][0] - row["methods"][pick[0]][part][0])
            each.append(float(np.mean(gains)))
        made[part] = spread(each)
    return made


def spread(each: list[float]) -> list[float]:
    """Mean over tasks and the 95 % interval of a bootstrap over tasks."""
    rng = np.random.default_rng(0)
    means = rng.choice(each, (5000, len(each))).mean(1)
    return [float(np.mean(each)), *np.percentile(means, [2.5, 97.5]).tolist()]


def table(found: Runs) -> None:
    names = ["dense", "means", *(f"sparse {k}" for k in KS), "random 16", "bag of words"]
    for part, title in (("in", "In distribution: held-out groups"), ("out", "Out of distribution: declared shifts")):
        print(
            f"\n{title}. AUROC, mean of {len(found[0])} seeds; in brackets the least and the greatest difference to "
            "dense in any seed, and for the mean over tasks its 95 % interval over tasks.\n"
        )
        print("| task | rows | " + " | ".join(names) + " |")
        print("| --- | --- |" + " --- |" * len(names))
        for runs in found:
            cells = []
            for name in names:
                value = float(np.mean(each(runs, name, part)))
                less = each(runs, name, f"{part} less dense")
                cells.append(
                    f"{value:.2f}" if name == "dense" else f"{value:.2f} ({min(less):+.2f} to {max(less):+.2f})"
                )
            rows = round(np.mean([row["held" if part == "in" else "shift"] for row in runs]))
            print(f"| {runs[0]['task']} | {rows} | " + " | ".join(cells) + " |")
        cells = []
        for name in names:
            mean = spread([float(np.mean(each(runs, name, part))) for runs in found])[0]
            less = spread([float(np.mean(each(runs, name, f"{part} less dense"))) for runs in found])
            cells.append(f"{mean:.2f}" if name == "dense" else f"{mean:.2f} ({less[1]:+.2f} to {less[2]:+.2f})")
        print("| mean over tasks | | " + " | ".join(cells) + " |")
    gains = quiver(found)
    print(
        "\nQuiver: what adding the sparse probes to the dense ones does to the test AUROC of the validation's choice,"
    )
    for part, word in (("in", "in distribution"), ("out", "out of distribution")):
        value, low, high = gains[part]
        print(f"{word} {value:+.3f} ({low:+.3f} to {high:+.3f});")


def each(runs: list[dict[str, Any]], method: str, part: str) -> list[float]:
    """A method's figure in every seed."""
    return [row["methods"][method][part][0] for row in runs]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=None)
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--shift-rows", type=int, default=240)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("build/sparse"))
    parser.add_argument("--tasks", nargs="*", default=TASKS)
    args = parser.parse_args()
    model: hooke.Model | None = None
    found: Runs = []
    for name in args.tasks:
        found.append([])
        for seed in range(args.seeds):
            path = args.out / f"{name}-{seed}.json"
            if not path.exists():
                model = model or hooke.load(args.model)
                write_atomic(path, json.dumps(run_task(model, name, args.rows, args.shift_rows, seed)).encode())
                print("done:", name, seed, flush=True)
            found[-1].append(json.loads(path.read_text()))
    table(found)


if __name__ == "__main__":
    main()
