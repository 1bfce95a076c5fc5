"""Trying every way of probing on folds of the fitting rows, and the chosen one fitted to all of them.

A candidate is a kind, a site, a pool and a strength. Each is fitted with a fold left out and scored on
that fold; the mean AUROC over folds chooses. Nothing here sees held-out groups or declared shifts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from hooke.data.labelled.rows import Dataset, Row
from hooke.errors import HookeError
from hooke.harvest import Harvest
from hooke.methods.probe import estimators
from hooke.methods.probe.parts import TOKEN_POOLS, VECTOR_POOLS, Block, score_harvest
from hooke.methods.ranking import auroc
from hooke.methods.splits import folds, hold_out
from hooke.sites import Site

SMALL = 2048  # width of activations up to which a fit takes one thread
MEMBERS = 5  # layers of an ensemble
SPARSE = (1, 4, 16, 64)
KINDS = ("logistic", "means", "lda", "lat", "ccs", "sparse", "attention", "ensemble")
Folds = Sequence[tuple[np.ndarray, np.ndarray]]


class Split(NamedTuple):
    """Which rows are fitted to and chosen on, and which a probe never sees.

    rows: all, those of the declared shifts last. fit, held: numbers of rows. folds: within those to fit. left_out: what
    a fold leaves out, in words.
    """

    rows: list[Row]
    fit: np.ndarray
    held: np.ndarray
    folds: Folds
    left_out: str


def split(data: Dataset, seed: int) -> Split:
    """Groups held out before anything is chosen, and folds of the rest. Raises HookeError for too few of them."""
    fit_rows, held = hold_out(data.train, seed=seed)
    made, left_out = folds([data.train[i] for i in fit_rows])
    return Split([*data.train, *data.shifted], fit_rows, held, made, left_out)


@dataclass
class Candidate:
    """One way of probing, how it did on the folds, and its values there (NaN where no fold held a row)."""

    kind: str
    site: Site
    pool: str
    strength: float | None
    auroc: float
    values: np.ndarray
    members: list[Candidate] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """As data."""
        return {
            "kind": self.kind,
            "site": str(self.site) if not self.members else ", ".join(str(m.site) for m in self.members),
            "pool": self.pool if not self.members else ", ".join(sorted({m.pool for m in self.members})),
            "strength": self.strength,
            "validation_auroc": self.auroc,
        }


class Problem:
    """The rows to fit and choose on: their activations, labels, pairs and folds."""

    def __init__(self, kept: Harvest, rows: Sequence[Row], index: np.ndarray, folds: Folds, seed: int) -> None:
        self.kept, self.index, self.folds, self.seed = kept, index, folds, seed
        self.rows = [rows[i] for i in index]
        self.y = np.array([row.label for row in self.rows])
        self.pairs = [row.pair for row in self.rows]
        self.groups = [row.group for row in self.rows]

    def vectors(self, site: Site, pool: str) -> np.ndarray:
        """(n, width) of the rows to fit."""
        return self.kept.pooled[site, pool][self.index]

    def paired(self, rows: np.ndarray) -> np.ndarray:
        """Pairs within some of the rows, numbered within them."""
        return estimators.pairs_of(self.y[rows], [self.pairs[i] for i in rows], [self.groups[i] for i in rows])

    def mean_auroc(self, values: np.ndarray) -> float:
        """Mean over folds of the AUROC within the fold."""
        return float(np.mean([auroc(values[test], self.y[test]) for _, test in self.folds]))


def fit_linear(
    kind: str, problem: Problem, x: np.ndarray, rows: np.ndarray, strengths: Sequence[float | None]
) -> list[estimators.Linear]:
    """A kind at each of the strengths, on some of the problem's rows, whose activations are x."""
    y = problem.y[rows]
    if kind == "logistic":
        return estimators.logistic_path(x, y, tuple(float(s) for s in strengths if s is not None))
    if kind == "sparse":
        return [estimators.sparse(x, y, int(k)) for k in strengths if k is not None]
    if kind == "means":
        return [estimators.difference_of_means(x, y)]
    if kind == "lda":
        return [estimators.lda(x, y)]
    method = {"lat": estimators.lat, "ccs": estimators.ccs}[kind]
    return [method(x, y, problem.paired(rows), seed=problem.seed)]


def strengths_of(kind: str, width: int) -> list[float | None]:
    """What varies for a kind: C of a logistic regression, how many coordinates a sparse probe reads."""
    if kind == "logistic":
        return list(estimators.STRENGTHS)
    return [float(k) for k in SPARSE if k < width] if kind == "sparse" else [None]


def try_linear(problem: Problem, kind: str, site: Site, pool: str) -> list[Candidate]:
    """One kind at one site and pool, at every strength."""
    x = problem.vectors(site, pool)
    names = strengths_of(kind, x.shape[1])
    values = np.full((len(names), len(x)), np.nan)
    for train, test in problem.folds:
        for i, fitted in enumerate(fit_linear(kind, problem, x[train], train, names)):
            values[i, test] = fitted(x[test])
    return [Candidate(kind, site, pool, s, problem.mean_auroc(v), v) for s, v in zip(names, values)]


def try_tokens(problem: Problem, base: Candidate, pool: str) -> Candidate:
    """The direction of a candidate on the mean, its values pooled over tokens another way."""
    values = np.full(len(problem.y), np.nan)
    for train, test in problem.folds:
        block = _linear_block(base, problem, train, pool)
        values[test] = score_harvest([block], _some(problem, test, base.site))
    return Candidate(base.kind, base.site, pool, base.strength, problem.mean_auroc(values), values)


def try_attention(problem: Problem, site: Site) -> Candidate:
    """An attention probe over the tokens at a site."""
    values = np.full(len(problem.y), np.nan)
    for train, test in problem.folds:
        blocks = _attention_blocks(problem, site, train)
        values[test] = score_harvest(blocks, _some(problem, test, site))
    return Candidate("attention", site, "attention", None, problem.mean_auroc(values), values)


def ensemble(problem: Problem, tried: Sequence[Candidate]) -> Candidate | None:
    """The mean of the best logistic probe of each of the best layers, each scaled by its spread on the folds."""
    best: dict[Site, Candidate] = {}
    for c in tried:
        if c.kind == "logistic" and c.pool in VECTOR_POOLS and (c.site not in best or c.auroc > best[c.site].auroc):
            best[c.site] = c
    members = sorted(best.values(), key=lambda c: -c.auroc)[:MEMBERS]
    if len(members) < 2:
        return None
    values = np.mean([c.values / _spread(c) for c in members], axis=0)
    first = members[0]
    return Candidate("ensemble", first.site, first.pool, None, problem.mean_auroc(values), values, members)


def _spread(c: Candidate) -> float:
    return float(np.nanstd(c.values)) or 1.0


def search(
    problem: Problem,
    kinds: Sequence[str],
    sites: Sequence[Site],
    pools: Sequence[str],
    token_sites: Sequence[Site],
    tick: Callable[[float], None],
) -> list[Candidate]:
    """Every candidate of these kinds, in the order tried."""
    found: list[Candidate] = []
    linear = [k for k in kinds if k not in ("attention", "ensemble")]
    if "ensemble" in kinds and "logistic" not in linear:
        linear.append("logistic")
    idle = [p for p in pools if p in TOKEN_POOLS and not (p == "attention" and "attention" in kinds)]
    idle = [p for p in idle if p == "attention" or "logistic" not in linear]
    if idle:
        other = "attention" if "attention" in idle else "logistic"
        raise HookeError(f"the pool {idle[0]} goes with the kind {other}; add --kind {other} or leave the pool out")
    vector_pools = [p for p in pools if p in VECTOR_POOLS]
    needs_mean = any(p in TOKEN_POOLS and p != "attention" for p in pools)
    if needs_mean and "mean" not in vector_pools:
        vector_pools.append("mean")
    jobs = [(kind, site, pool) for site in sites for pool in vector_pools for kind in linear]
    extra = len(token_sites) * 4
    widest = max((x.shape[1] for x in problem.kept.pooled.values()), default=0)
    # on small matrices several threads only wait for each other: five times slower on two cores
    with threadpool_limits(1 if widest <= SMALL else None):
        for number, (kind, site, pool) in enumerate(jobs, 1):
            found += try_linear(problem, kind, site, pool)
            tick(number / (len(jobs) + extra))
    for number, site in enumerate(token_sites, 1):
        bases = [c for c in found if c.kind == "logistic" and c.site == site and c.pool == "mean"]
        for pool in (p for p in pools if p in TOKEN_POOLS and p != "attention"):
            if bases:
                found.append(try_tokens(problem, max(bases, key=lambda c: c.auroc), pool))
        if "attention" in kinds:
            found.append(try_attention(problem, site))
        tick((len(jobs) + 4 * number) / (len(jobs) + extra))
    together = ensemble(problem, found) if "ensemble" in kinds else None
    found += [together] if together is not None else []
    kept = {*kinds}
    return [c for c in found if c.kind in kept and (c.pool in pools or c.members or c.pool == "attention")]


def fit(candidate: Candidate, problem: Problem, y: np.ndarray | None = None) -> list[Block]:
    """The candidate fitted to all rows of the problem, as blocks whose sum is the score; calibrated on its
    values on the folds, so that the score is log-odds. y: other labels (shuffled ones, for a control)."""
    own = problem if y is None else _relabelled(problem, y)
    everything = np.arange(len(own.y))
    if candidate.members:
        parts = [
            _linear_block(m, own, everything, m.pool).scaled(1 / (_spread(m) * len(candidate.members)), 0.0)
            for m in candidate.members
        ]
    elif candidate.kind == "attention":
        parts = _attention_blocks(own, candidate.site, everything)
    else:
        parts = [_linear_block(candidate, own, everything, candidate.pool)]
    scale, shift = platt(candidate.values, problem.y)
    return [part.scaled(scale, shift / len(parts)) for part in parts]


def platt(values: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Scale and shift that make values log-odds (Platt 1999), the scale never negative."""
    from sklearn.linear_model import LogisticRegression

    known = np.isfinite(values)
    spread = float(values[known].std()) or 1.0
    model = LogisticRegression(C=10.0).fit(values[known, None] / spread, y[known])
    return max(float(model.coef_[0, 0]) / spread, 1e-6), float(model.intercept_[0])


def _relabelled(problem: Problem, y: np.ndarray) -> Problem:
    """The same rows with other labels, and with pairs that say as little: methods that use pairs ignore labels."""
    import copy

    other = copy.copy(problem)
    order = np.random.default_rng(problem.seed).permutation(len(y))
    other.y, other.pairs, other.groups = y, [problem.pairs[i] for i in order], [problem.groups[i] for i in order]
    return other


def _linear_block(c: Candidate, problem: Problem, rows: np.ndarray, pool: str) -> Block:
    """The direction of a candidate fitted to some rows, with the given pool."""
    x = problem.vectors(c.site, c.pool if c.pool in VECTOR_POOLS else "mean")[rows]
    fitted = fit_linear(c.kind, problem, x, rows, [c.strength])[0]
    return Block(c.site, pool, fitted.direction.astype(np.float32), fitted.bias)


def _attention_blocks(problem: Problem, site: Site, rows: np.ndarray) -> list[Block]:
    found = estimators.attention(
        problem.kept.tokens[site], problem.kept.offsets, problem.index[rows], problem.y[rows], seed=problem.seed
    )
    share = found.bias / len(found.values)
    return [Block(site, "attention", v, share, q) for q, v in zip(found.queries, found.values)]


def _some(problem: Problem, rows: np.ndarray, site: Site) -> Harvest:
    """The harvest of some of the rows, with the tokens of one site."""
    kept, chosen = problem.kept, problem.index[rows]
    at = np.concatenate([np.arange(kept.offsets[i], kept.offsets[i + 1]) for i in chosen])
    offsets = np.concatenate([[0], np.cumsum(kept.offsets[chosen + 1] - kept.offsets[chosen])])
    pooled = {key: x[chosen] for key, x in kept.pooled.items() if key[0] == site}
    ids = [kept.ids[i] for i in chosen]
    return Harvest(
        pooled, {site: kept.tokens[site][at]}, offsets, kept.log_probability[chosen], kept.length[chosen], ids
    )
