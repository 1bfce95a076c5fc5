"""Labels of one block of features: made from some passages, scored on others, and held against controls.

The rule, fixed before anything was looked at: a description holds if its score is above the 95th percentile of both its
controls: the same description on other features of the block, and other features' descriptions on this one. Where it
does not, no label is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hooke.methods.catalogue.rules import Base, Corpus, Rule, rule_of
from hooke.methods.catalogue.score import (
    Aside,
    Examples,
    Scores,
    by_level,
    examples,
    judged,
    of_one,
    purity,
    scorable,
    scores,
)
from hooke.methods.catalogue.tally import Tally
from hooke.methods.progress import Tick

OTHERS = 100  # features of the block that a description is tried on, and whose descriptions are tried on it
QUANTILE = 0.95
AT_ONCE = 64  # features that are scored together


@dataclass(eq=False)
class Described:
    """The description of one side of a feature by what it fires on; no rule where there are too few examples, or none
    that tells them from other text. score, control: the balanced accuracy and its bar."""

    rule: Rule = ()
    made: int = 0
    scored: int = 0
    score: float | None = None
    control: float | None = None
    detection: float | None = None
    fuzzing: float | None = None
    levels: list[float | None] = field(default_factory=list)
    levels_control: list[float | None] = field(default_factory=list)
    responds: float | None = None
    pure: float | None = None

    @property
    def holds(self) -> bool:
        """Whether it is above its controls."""
        return self.score is not None and self.control is not None and self.score > self.control


@dataclass(eq=False)
class Text:
    """What descriptions of all blocks are made from and scored on."""

    corpus: Corpus
    base: Base
    aside: Aside
    held_out: np.ndarray
    kind_of: np.ndarray


def described(
    text: Text, kept: Tally, *, silent: bool, seed: int, tick: Tick
) -> tuple[list[Examples], list[Described]]:
    """Examples and descriptions of every row of a block."""
    n = len(kept.count)
    some = [examples(kept, row, text.held_out, silent=silent) for row in range(n)]
    found = [Described(made=int((~one.held_out).sum()), scored=int(one.held_out.sum())) for one in some]
    sample = kept.sample.float().numpy()
    enough = [row for row in range(n) if scorable(some[row], sample[row, text.aside.place])]
    for i, row in enumerate(enough):
        best = rule_of(text.corpus, text.base, some[row].at[~some[row].held_out])
        found[row].rule = () if best is None else best.rule
        tick(0.6 * (i + 1) / len(enough))
    _judge(text, sample, some, found, [row for row in enough if found[row].rule], seed, tick)
    return some, found


def _judge(
    text: Text, sample: np.ndarray, some: Sequence[Examples], found: Sequence[Described], rows: Sequence[int], seed:
    int,
    tick: Tick,
) -> None:  # fmt: skip
    """Scores and controls of the rows that have a rule."""
    order = np.random.default_rng([seed, 5]).permutation(rows)[:OTHERS].tolist()
    if len(order) < 2:
        return
    test = {row: some[row].part(some[row].held_out) for row in rows}

    def judge_of(which: Sequence[int]) -> Any:
        return judged(text.corpus, [test[row] for row in which], sample[list(which)], text.aside, text.kind_of)

    pool = judge_of(order)
    for at in range(0, len(rows), AT_ONCE):
        part = rows[at : at + AT_ONCE]
        here = judge_of(part)
        others = [scores(here, text.corpus.says(found[row].rule, here.tokens)) for row in order]
        right, wrong = np.stack([other.right for other in others]), np.stack([other.wrong for other in others])
        for i, row in enumerate(part):
            rule, one = found[row].rule, found[row]
            yes = text.corpus.says(rule, here.tokens)
            own = scores(of_one(here, i), yes)
            same = scores(pool, text.corpus.says(rule, pool.tokens)).score
            theirs = np.array([other.score[i] for other in others])
            mine = np.array(order) != row
            one.score, one.detection, one.fuzzing = (float(x[0]) for x in (own.score, own.detection, own.fuzzing))
            one.control = float(max(np.quantile(same[mine], QUANTILE), np.quantile(theirs[mine], QUANTILE)))
            rows_here = slice(int(here.own[i]), int(here.own[i + 1]))
            _levels(one, test[row].level, own, right[mine, rows_here], float(wrong[mine, i].mean()))
            one.responds, one.pure = purity(np.append(yes, False)[here.aside].any(1), sample[row, text.aside.place])
        tick(0.6 + 0.4 * min(1.0, (at + AT_ONCE) / len(rows)))


def _levels(one: Described, level: np.ndarray, own: Scores, others: np.ndarray, wrong: float) -> None:
    """Detection by level, and the mean over other features' descriptions: others (descriptions, examples) where each
    says yes, wrong: how often they do where the feature does not fire."""
    one.levels = by_level(level, own.right, float(own.wrong[0]))
    one.levels_control = by_level(level, others.mean(0), wrong)
