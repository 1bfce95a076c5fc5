"""Splits that keep groups, and where there are enough of them topics, on one side.

Held-out groups are put aside first and never chosen on. The folds on which a layer, a pooling and a
strength are chosen leave whole topics out, because a score within a topic cannot tell what carries over.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from sklearn.model_selection import GroupKFold, GroupShuffleSplit

from hooke.data.labelled.rows import Row
from hooke.errors import HookeError

TOPICS = 4  # from so many topics on, folds leave topics out
MOST_SEED = 2**32


def hold_out(rows: Sequence[Row], *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the rows to fit and choose on, and of those of held-out groups: 15 % of them, or more where that
    would be fewer than ten, up to 30 %.

    Raises HookeError if either side would have one class only.
    """
    groups = [row.group for row in rows]
    if len(set(groups)) < 10:
        raise HookeError(f"{len(set(groups))} groups are too few to hold some out; give at least 10")
    count = len(set(groups))
    held_out = max(math.ceil(0.15 * count), min(10, round(0.3 * count)))
    splitter = GroupShuffleSplit(1, test_size=held_out, random_state=seed)
    fit, held = next(splitter.split(np.zeros(len(rows)), groups=groups))
    labels = np.array([row.label for row in rows])
    for part in (fit, held):
        if len(set(labels[part])) < 2:
            raise HookeError("after groups are held out one side has one class only; give more groups of both labels")
    return fit, held


def folds(rows: Sequence[Row], *, n: int = 5) -> tuple[list[tuple[np.ndarray, np.ndarray]], str]:
    """Folds (train, validation) that leave topics out if there are at least four, else groups; and which."""
    topics = [row.topic for row in rows]
    by_topic = len(set(topics)) >= TOPICS
    by = topics if by_topic else [row.group for row in rows]
    labels = np.array([row.label for row in rows])
    if len(set(by)) < 2:
        raise HookeError("all rows belong to one group, so nothing can be left out; give groups")
    splitter = GroupKFold(min(n, len(set(by))), shuffle=True, random_state=0)
    made = [
        (train, test)
        for train, test in splitter.split(labels, groups=by)
        if len(set(labels[train])) == 2 and len(set(labels[test])) == 2
    ]
    if not made:
        what = "topic" if by_topic else "group"
        raise HookeError(f"every {what} has one label only, so leaving one out leaves nothing to compare")
    return made, "topics left out" if by_topic else "groups left out"


def check_seed(seed: int) -> None:
    """Raise HookeError for a seed that generators do not take."""
    if not 0 <= seed < MOST_SEED:
        raise HookeError(f"a seed is a whole number from 0 to {MOST_SEED - 1:,}, not {str(seed)[:20]}")
