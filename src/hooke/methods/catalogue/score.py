"""How well a rule says where a feature fires, on passages that it was not made from, beside its controls.

Detection: does the feature fire in this window? Windows around its held-out examples against windows of the same kinds
of text, set aside at random, in which it stays under half of what counts as firing. Fuzzing: on which tokens? The
strongest tokens of the examples against the others of the same windows. Both are balanced accuracies, and the score is
their mean. A rule that says yes where a window has a token that it says yes to is right by chance half the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import rankdata

from hooke.methods.catalogue.rules import Corpus
from hooke.methods.catalogue.tally import Tally
from hooke.methods.catalogue.windows import BEFORE, WIDE, Windows

FIRES = 0.25  # of its largest activation, what counts as firing where a feature is never silent
LEVELS = 5  # equal steps between what counts as firing and the largest
FEWEST = 8  # windows to make a label from, and to score it on


@dataclass(eq=False)
class Examples:
    """The examples of one side of a feature that count as firing. at: (n,) tokens of the plan. value: (n,). near: (n,
    LONG) activations around them. level: (n,) 0 to LEVELS - 1. held_out: (n,). largest, bar: what is the largest, and
    what counts as firing."""

    at: np.ndarray
    value: np.ndarray
    near: np.ndarray
    level: np.ndarray
    held_out: np.ndarray
    largest: float
    bar: float

    def part(self, some: np.ndarray) -> Examples:
        """Some of them."""
        arrays = (self.at[some], self.value[some], self.near[some], self.level[some], self.held_out[some])
        return Examples(*arrays, self.largest, self.bar)


def examples(kept: Tally, row: int, held_out: np.ndarray, *, silent: bool) -> Examples:
    """The strongest windows and the drawn ones of one row, each once. held_out: (tokens,). silent: whether the feature
    is silent on most tokens; else it fires from a quarter of its largest activation on."""
    top = kept.top_value[row].flatten().numpy()
    value = np.concatenate([top, kept.value[row].numpy()])
    at = np.concatenate([kept.top_at[row].flatten().numpy(), kept.at[row].numpy()])
    near = np.concatenate([kept.top_near[row].flatten(0, 1).numpy(), kept.near[row].numpy()])
    largest = float(value.max(initial=0.0))
    bar = 0.0 if silent else FIRES * largest
    fires = np.flatnonzero((value > 0) & (value >= bar))
    _, first = np.unique(at[fires], return_index=True)
    own = fires[np.sort(first)]
    step = max((largest - bar) / LEVELS, 1e-30)
    level = np.clip(((value[own] - bar) / step).astype(int), 0, LEVELS - 1)
    activations = near[own].astype(np.float32) / 255 * value[own, None]
    return Examples(at[own], value[own], activations, level, held_out[at[own]], largest, bar)


@dataclass(eq=False)
class Judged:
    """What rules are scored on: the held-out examples of some features, and windows set aside.

    yes is asked at `tokens` (m,), once for all. own: (features + 1,) where the examples of each begin. peak: (n,) and
    window: (n, LONG), where in `tokens` the strongest token and the window of an example stand, -1 for none. quiet: (n,
    LONG) tokens on which it stays under half of what counts as firing. aside: (w, LONG) windows set aside. chance:
    (features, w) how much each counts as text in which the feature does not fire; rows sum to 1.
    """

    tokens: np.ndarray = field(repr=False)
    own: np.ndarray
    peak: np.ndarray
    window: np.ndarray
    quiet: np.ndarray
    aside: np.ndarray
    chance: np.ndarray


@dataclass(eq=False)
class Aside:
    """Windows set aside in held-out passages. place: (w,) which of the sample. at: (w,) the token around which each is.
    kind: (w,) of text."""

    place: np.ndarray
    at: np.ndarray
    kind: np.ndarray


def aside_of(wins: Windows) -> Aside:
    """The windows of held-out passages among those set aside, around a token such that they lie in what was seen."""
    plan = wins.plan
    own = [(piece, number, place) for (piece, number), place in wins.aside.items() if wins.held_out[piece]]
    at = [int(plan.offsets[piece]) + plan.skip + number * WIDE + BEFORE for piece, number, _ in own]
    kinds = [int(wins.kind[piece]) for piece, *_ in own]
    return Aside(*(np.array(x, np.int64) for x in ([place for *_, place in own], at, kinds)))


def quiet_on(one: Examples, activations: np.ndarray) -> np.ndarray:
    """Whether a feature stays under half of what counts as firing; of one that is mostly silent, whether it is."""
    return activations < one.bar / 2 if one.bar else activations <= 0


def scorable(one: Examples, aside: np.ndarray) -> bool:
    """Whether there is enough to make a description from, and to score it on: examples on both sides, and windows
    (aside: activations there) and tokens on which the feature is quiet. What fires everywhere cannot be scored."""
    tested = one.part(one.held_out)
    counts = (
        len(one.at) - len(tested.at),
        len(tested.at),
        quiet_on(one, aside).sum(),
        quiet_on(one, tested.near).sum(),
    )
    return min(counts) >= FEWEST


def judged(text: Corpus, some: Sequence[Examples], sample: np.ndarray, aside: Aside, kind_of: np.ndarray) -> Judged:
    """Held-out examples made ready. sample: (features, set aside) activations there. kind_of: (tokens,) of text."""
    at = np.concatenate([one.at for one in some])
    near = text.near[at]
    quiet = np.concatenate([quiet_on(one, one.near) for one in some]) & (near >= 0)
    quiet[:, BEFORE] = False
    around = text.near[aside.at]
    tokens, where = np.unique(np.concatenate([near.ravel(), around.ravel()]), return_inverse=True)
    shift = int(tokens[0] < 0)
    where = where - shift  # -1 where there is no token
    window, others = where[: near.size].reshape(near.shape), where[near.size :].reshape(around.shape)
    own = np.cumsum([0, *(len(one.at) for one in some)])
    chance = np.zeros((len(some), len(aside.at)))
    for i, one in enumerate(some):
        silent = quiet_on(one, sample[i, aside.place])
        counts = np.bincount(kind_of[one.at], minlength=int(aside.kind.max()) + 1)
        there = np.bincount(aside.kind[silent], minlength=len(counts))
        weight = (counts / np.maximum(there, 1))[aside.kind] * silent
        chance[i] = weight / max(weight.sum(), 1e-12)
    return Judged(tokens[shift:], own, window[:, BEFORE], window, quiet, others, chance)


@dataclass(eq=False)
class Scores:
    """Of one rule on the features of a judge, (features,) each: balanced accuracies. right: (examples,) of whose
    windows it says yes; wrong: (features,) of the windows in which the feature does not fire, how many it says yes
    to."""

    detection: np.ndarray
    fuzzing: np.ndarray
    right: np.ndarray
    wrong: np.ndarray

    @property
    def score(self) -> np.ndarray:
        """The mean of both."""
        return (self.detection + self.fuzzing) / 2


def scores(judge: Judged, yes: np.ndarray) -> Scores:
    """Scores of a rule on all features of a judge. yes: (m,) what it says of `judge.tokens`."""
    padded = np.append(yes, False)  # -1 is no token
    window = padded[judge.window]
    right, starts = window.any(1), judge.own[:-1]

    def total(x: np.ndarray) -> np.ndarray:
        return np.add.reduceat(x.astype(float), starts)

    counts = np.diff(judge.own)
    wrong = judge.chance @ padded[judge.aside].any(1)
    quiet = total((window & judge.quiet).sum(1)) / np.maximum(total(judge.quiet.sum(1)), 1)
    detection = (total(right) / counts + 1 - wrong) / 2
    fuzzing = (total(padded[judge.peak]) / counts + 1 - quiet) / 2
    return Scores(detection, fuzzing, right, wrong)


def of_one(judge: Judged, feature: int) -> Judged:
    """The judge of one of its features alone; it asks about the same tokens."""
    rows = slice(int(judge.own[feature]), int(judge.own[feature + 1]))
    return Judged(
        judge.tokens, np.array([0, rows.stop - rows.start]), judge.peak[rows], judge.window[rows], judge.quiet[rows],
        judge.aside, judge.chance[feature : feature + 1],
    )  # fmt: skip


def by_level(level: np.ndarray, right: np.ndarray, wrong: float) -> list[float | None]:
    """Detection, level by level of the examples (n,); None where a level has none."""
    return [float((right[level == at].mean() + 1 - wrong) / 2) if (level == at).any() else None for at in range(LEVELS)]


def purity(yes: np.ndarray, x: np.ndarray) -> tuple[float | None, float | None]:
    """Of windows set aside, yes (w,) whether a rule says yes to any token of each, x (w,) how strong a feature is
    there: the area under the ROC curve of x for yes (how well it responds to what the label says), and the average
    precision of yes by falling x (how much of what it responds to is that). None where a rule says yes, or no, to fewer
    than three."""
    n = int(yes.sum())
    if min(n, len(yes) - n) < 3:
        return None, None
    found = rankdata(x)[yes].sum() - n * (n + 1) / 2
    hits = yes[np.argsort(-x, kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(found / (n * (len(yes) - n))), float(precision[hits].mean())
