"""How well scores tell two classes apart, with intervals: AUROC, recall at a false-alarm budget, calibration.

Intervals are percentiles of a bootstrap over groups, not rows: wordings of one fact are not independent. With few
groups plain percentiles are far too narrow, so they are taken further out ("expanded", Hesterberg 2015, 1411.5279).
Differences are paired: both scores are ranked on the same resamples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.stats import beta, norm, t

from hooke.errors import HookeError

RESAMPLES = 2000
CHUNK = 2**21  # numbers of a matrix of resamples that are worked on at once
FEW = 5  # groups, below which nothing is said about an interval
NEEDED = 10  # benign items that must lie above a threshold, so that its false-alarm rate is known to about a third


@dataclass(frozen=True)
class Interval:
    """An estimate and the 95 % interval around it."""

    value: float
    low: float
    high: float

    @property
    def pair(self) -> list[float]:
        return [self.low, self.high]


class Resamples(NamedTuple):
    """counts: (resamples, n), how often each row is drawn when whole groups are drawn with replacement."""

    counts: np.ndarray
    groups: int


def weights(groups: list[str], *, resamples: int = RESAMPLES, seed: int = 0) -> Resamples:
    """Draws of whole groups, the same for everything that is compared."""
    _, number = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    n_groups = int(number.max()) + 1
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=resamples)
    return Resamples(counts[:, number].astype(np.float32), n_groups)


def auroc(scores: np.ndarray, labels: np.ndarray) -> float:
    """P(a row of label 1 scores above one of label 0), ties counting half (Mann-Whitney)."""
    return float(_aurocs(np.asarray(scores), np.asarray(labels), np.ones((1, len(scores)), np.float32))[0])


def _aurocs(scores: np.ndarray, labels: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """(resamples,): AUROC of each weighting of the rows; NaN where a resample has one class only."""
    _, rank = np.unique(scores, return_inverse=True)  # ties share a rank
    order = np.argsort(rank, kind="stable")
    rank, positive = rank[order], labels[order] == 1
    first = np.searchsorted(rank, rank, "left")
    last = np.searchsorted(rank, rank, "right") - 1
    found = []
    for w in np.array_split(drawn, max(1, drawn.size // CHUNK)):
        w = w[:, order].astype(np.float64)
        wn = np.where(positive, 0.0, w)
        below = np.cumsum(wn, axis=1)  # negatives up to and with this row
        under = np.where(first > 0, below[:, np.maximum(first - 1, 0)], 0.0)
        tied = below[:, last] - under
        wp = np.where(positive, w, 0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            found.append((wp * (under + tied / 2)).sum(1) / (wp.sum(1) * wn.sum(1)))
    return np.concatenate(found)


def auroc_interval(scores: np.ndarray, labels: np.ndarray, drawn: Resamples) -> Interval:
    """AUROC with its interval; `drawn` comes from `weights`."""
    check(scores, labels)
    return _interval(auroc(scores, labels), _aurocs(scores, labels, drawn.counts), drawn.groups, (0.0, 1.0))


def gain_interval(scores: np.ndarray, other: np.ndarray, labels: np.ndarray, drawn: Resamples) -> Interval:
    """AUROC of `scores` less AUROC of `other`, paired."""
    check(scores, labels)
    check(other, labels)
    each = _aurocs(scores, labels, drawn.counts) - _aurocs(other, labels, drawn.counts)
    return _interval(auroc(scores, labels) - auroc(other, labels), each, drawn.groups, (-1.0, 1.0))


def _interval(value: float, each: np.ndarray, groups: int, bounds: tuple[float, float]) -> Interval:
    """95 % around a value from its resamples; all that is possible (`bounds`) if there are fewer than FEW groups."""
    kept = each[np.isfinite(each)]
    if groups < FEW or len(kept) < len(each) / 2:
        return Interval(value, *bounds)
    return Interval(value, *spread(kept, groups))


def spread(each: np.ndarray, groups: int) -> list[float]:
    """The 95 % interval of resamples of this many groups: percentiles, further out for few groups."""
    tail = 100 * float(norm.cdf(-t.ppf(0.975, groups - 1) * np.sqrt(groups / (groups - 1))))
    found: list[float] = np.percentile(each, [tail, 100 - tail]).tolist()
    return found


def check(scores: np.ndarray, labels: np.ndarray) -> None:
    """Raise HookeError if there is one class only, or a score that is no number."""
    if len(set(np.asarray(labels).tolist())) < 2:
        raise HookeError("only one class is there; an AUROC needs rows of both labels")
    if not np.isfinite(scores).all():
        raise HookeError(f"{int((~np.isfinite(scores)).sum())} scores are not numbers")


def needed(fpr: float) -> int:
    """How many benign items a claim at this false-positive rate needs."""
    return round(NEEDED / fpr)


def threshold_at(benign: np.ndarray, fpr: float) -> float | None:
    """The lowest threshold that at most a share `fpr` of benign scores exceeds; None if they are too few."""
    if len(benign) < needed(fpr):
        return None
    allowed = int(np.floor(fpr * len(benign)))
    return float(np.sort(benign)[::-1][allowed])


def recall_at(scores: np.ndarray, labels: np.ndarray, benign: np.ndarray, fpr: float, drawn: Resamples) -> dict:
    """Recall of label 1 above the threshold that `fpr` of the benign items exceed, as data.

    The threshold is set again within each resample, on resampled benign items. Refused, with the reason,
    when there are too few.
    """
    at = threshold_at(benign, fpr)
    row = {"fpr": fpr, "n_benign": len(benign), "recall": None, "interval": None, "threshold": at, "refused": None}
    if at is None:
        return row | {"refused": f"{len(benign)} benign items; a rate of {fpr:g} needs {needed(fpr):,}"}
    rng = np.random.default_rng(0)
    positive = labels == 1
    each = []
    for w in drawn.counts[:500]:
        again = np.sort(rng.choice(benign, len(benign)))[::-1][int(np.floor(fpr * len(benign)))]
        total = w[positive].sum()
        if total:
            each.append(float(w[positive & (scores > again)].sum() / total))
    found = _interval(float((scores[positive] > at).mean()), np.array(each), drawn.groups, (0.0, 1.0))
    # what the same threshold flags of this data's own label 0, which may be much more than of benign text
    own = float((scores[~positive] > at).mean())
    return row | {"recall": found.value, "interval": found.pair, "own_false_positives": own}


def roc(scores: np.ndarray, labels: np.ndarray, points: int = 101) -> dict[str, list[float]]:
    """The ROC curve at evenly spaced false-positive rates."""
    from sklearn.metrics import roc_curve

    fpr, tpr, _ = roc_curve(labels, scores)
    grid = np.linspace(0, 1, points)
    return {"fpr": grid.tolist(), "tpr": np.interp(grid, fpr, tpr).tolist()}


def calibration(probability: np.ndarray, labels: np.ndarray, bins: int = 10) -> dict:
    """Predicted against observed share of label 1 in bins of equal count, and the mean gap between the two."""
    order = np.argsort(probability, kind="stable")
    rows, gap = [], 0.0
    for part in np.array_split(order, min(bins, len(order))):
        predicted, observed = float(probability[part].mean()), float(labels[part].mean())
        rows.append({"predicted": predicted, "observed": observed, "n": len(part)})
        gap += abs(predicted - observed) * len(part) / len(order)
    return {"bins": rows, "ece": gap}


def rate_interval(hits: int, n: int) -> Interval:
    """A share with its exact 95 % interval (Clopper and Pearson 1934)."""
    return Interval(hits / n, lower_bound(hits, n, 0.975), upper_bound(hits, n, 0.975))


def upper_bound(count: int, n: int, level: float = 0.95) -> float:
    """The one-sided upper bound of a rate after `count` of `n` (Clopper and Pearson); 1 after none of none."""
    return 1.0 if count >= n else float(beta.ppf(level, count + 1, n - count))


def lower_bound(count: int, n: int, level: float = 0.95) -> float:
    """The one-sided lower bound of a rate after `count` of `n` (Clopper and Pearson)."""
    return 0.0 if count == 0 else float(beta.ppf(1 - level, count, n - count + 1))
