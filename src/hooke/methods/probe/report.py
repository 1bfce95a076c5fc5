"""What the result of a probe says: how it does on what it never saw, where in the model, at what cost."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from hooke.data.labelled.rows import Dataset, Row
from hooke.dictionaries import Dictionary
from hooke.methods.probe import choice
from hooke.methods.probe.baselines import Fitted
from hooke.methods.probe.estimators import standardised
from hooke.methods.probe.parts import VECTOR_POOLS, Block
from hooke.methods.ranking import Interval, auroc, auroc_interval, weights
from hooke.model import Model
from hooke.model.belongs import belongs_to
from hooke.results import Claim


def payload_of(
    model: Model,
    data: Dataset,
    split: choice.Split,
    problem: choice.Problem,
    tried: Sequence[choice.Candidate],
    fitted: Fitted,
    template: str | None,
    dictionaries: Sequence[Dictionary],
) -> dict[str, Any]:
    """Everything that a result of kind "probe" holds."""
    best, blocks = fitted.best, fitted.blocks
    scores = fitted.scores(problem.kept, split.rows)
    payload = {
        "name": data.name,
        "about": data.about,
        "kind": best.kind,
        "negative": data.labels[0],
        "positive": data.labels[1],
        "sites": sorted({str(b.site) for b in blocks}),
        "pool": best.row()["pool"],
        "strength": best.strength,
        "template": template,
        "dictionaries": {str(d.reads[0]): d.hash for d in dictionaries},
        "blocks": [{"site": str(b.site), "pool": b.pool} for b in blocks],
        "layer_curve": _curve(tried, problem),
        "candidates": [c.row() | {"chosen": c is best} for c in _leaders(tried, best)],
        "n_candidates": len(tried),
        "validation": {"auroc": best.auroc, "folds": len(split.folds), "split": split.left_out, "n": len(split.fit)},
        "tests": [_tested(name, at, split.rows, scores) for name, at in _unseen(data, split).items() if len(at)],
        "cost": cost(model, blocks),
        "baselines": {"turns": fitted.turns, "words": fitted.words},
        "chat": any(row.user for row in problem.rows),
        "dataset": {
            "name": data.name,
            "seed": problem.seed,
            "sha256": data.sha256,
            "rows": len(split.rows),
            "shifts": list(data.shifts),
            "fitted_to": [row.key for row in problem.rows],
        },
        "belongs_to": belongs_to(model),
        "notes": [],
    }
    payload["sentence"] = _sentence(payload)
    return payload


def _unseen(data: Dataset, split: choice.Split) -> dict[str, np.ndarray]:
    """Rows that nothing was fitted to or chosen on, by part: groups, each shift, all shifts."""
    shifted = np.arange(len(data.train), len(split.rows))
    parts = {"held-out groups": np.asarray(split.held)}
    parts |= {topic: shifted[[split.rows[i].topic == topic for i in shifted]] for topic in data.shifts}
    return parts | ({"all shifts": shifted} if len(data.shifts) > 1 else {})


def _tested(name: str, at: np.ndarray, rows: Sequence[Row], scores: dict[str, np.ndarray]) -> dict[str, Any]:
    """How the probe and its baselines do on rows that nothing was fitted to or chosen on."""
    y = np.array([row.label for row in rows])
    drawn = weights([rows[i].group for i in at], resamples=1000)

    def row(values: np.ndarray) -> dict[str, Any]:
        if len(set(y[at].tolist())) < 2:
            return {"auroc": None, "interval": None}
        found: Interval = auroc_interval(values[at], y[at], drawn)
        return {"auroc": found.value, "interval": found.pair}

    baselines = {key: row(values) for key, values in scores.items() if key != "probe"}
    groups = len({rows[i].group for i in at})
    return {"part": name, "n": len(at), "groups": groups, **row(scores["probe"]), "baselines": baselines}


def _curve(tried: Sequence[choice.Candidate], problem: choice.Problem) -> dict[str, Any]:
    """The best validation AUROC at each site, and that of a random direction there."""
    sites = sorted({c.site for c in tried if not c.members})
    best = {s: max((c for c in tried if c.site == s and not c.members), key=lambda c: c.auroc) for s in sites}
    rng = np.random.default_rng(problem.seed)
    chance = []
    for site in sites:
        pool = best[site].pool if best[site].pool in VECTOR_POOLS else "mean"
        x = problem.vectors(site, pool)
        values = x @ (rng.standard_normal((x.shape[1], 8)) / standardised(x)[1][:, None])
        each = [auroc(v, problem.y) for v in values.T]
        chance.append(float(np.mean([max(a, 1 - a) for a in each])))
    return {
        "sites": [str(s) for s in sites],
        "layers": [s.layer for s in sites],
        "auroc": [best[s].auroc for s in sites],
        "kind": [best[s].kind for s in sites],
        "pool": [best[s].pool for s in sites],
        "random_direction": chance,
    }


def _leaders(tried: Sequence[choice.Candidate], best: choice.Candidate) -> list[choice.Candidate]:
    """The best candidate of each kind and pool, and the chosen one, best first."""
    top: dict[tuple[str, str], choice.Candidate] = {}
    for c in tried:
        key = (c.kind, c.pool)
        if key not in top or c.auroc > top[key].auroc:
            top[key] = c
    top[best.kind, best.pool] = best
    return sorted(top.values(), key=lambda c: -c.auroc)


def cost(model: Model, blocks: Sequence[Block]) -> dict[str, float]:
    """What scoring one more token costs: floating-point operations, their share of a forward pass, and time."""
    operations = sum(2 * len(b.direction) * (2 if b.query is not None else 1) for b in blocks)
    size = sum(p.numel() for p in model.hf.parameters())
    x = [np.ones_like(b.direction) for b in blocks]
    times = []
    for _ in range(200):
        start = time.perf_counter()
        for block, v in zip(blocks, x):
            _ = float(v @ block.direction) + block.bias
        times.append(time.perf_counter() - start)
    return {
        "flops_per_token": float(operations),
        "share_of_forward": operations / (2 * size),
        "microseconds_per_token": round(float(np.median(times)) * 1e6, 2),
    }


def claim_of(payload: dict[str, Any]) -> Claim:
    """The sentence; it rests on the last part that was held out with both labels, and is untested without one."""
    parts = [n for n, test in enumerate(payload["tests"]) if test["auroc"] is not None]
    return Claim(
        text=payload["sentence"],
        verdict="tested" if parts else "untested",
        evidence=[f"#tests.{n}" for n in parts[-1:]],
    )


def _sentence(payload: dict[str, Any]) -> str:
    """What was fitted, and how it did on what it never saw."""
    where = ", ".join(payload["sites"])
    article = "An" if payload["kind"][0] in "ae" else "A"
    head = (
        f"{article} {payload['kind']} probe of {payload['positive']!r} against {payload['negative']!r} at {where} "
        f"({payload['pool']} token pooling)"
    )
    parts = [test for test in payload["tests"] if test["auroc"] is not None]
    if not parts:
        return f"{head}; nothing was held out that has both labels, so how it does is not known."
    last = parts[-1]
    low, high = last["interval"]
    rival, best = max(
        ((name, b["auroc"]) for name, b in last["baselines"].items() if b["auroc"] is not None), key=lambda b: b[1]
    )
    told = f"AUROC {last['auroc']:.2f} ({low:.2f} to {high:.2f}) on {last['part']}"
    worst = min(parts, key=lambda part: part["auroc"])
    told += f", worst on {worst['part']} ({worst['auroc']:.2f})" if len(parts) > 2 else ""
    verb = "and" if last["auroc"] > best and not math.isclose(last["auroc"], best) else "but"
    return f"{head} has {told}, {verb} the best baseline on {last['part']}, {rival.replace('_', ' ')}, has {best:.2f}."
