"""`Row` and `Dataset`: labelled text that probes are fitted to and tested on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

from hooke.errors import HookeError


@dataclass(frozen=True)
class Row:
    """One labelled text.

    text: what a probe reads: a statement, or with `user` the answer of an assistant.
    label: 1 if the concept is there (true, dishonest, positive, …), else 0.
    group: rows of one group never stand on both sides of a split: wordings of one fact, a fact and its
        negation, the true and the false completion of one sentence.
    topic: where it comes from, for shifts; a topic is never split by group.
    pair: two rows of opposite label with the same pair differ only in what makes the label.
    user, system: what was said before `text`, put into the model's chat template; a probe reads `text` only.
    """

    text: str
    label: int
    group: str
    topic: str = ""
    pair: str = ""
    user: str = ""
    system: str = ""

    @property
    def key(self) -> str:
        """A short hash of what the model reads of this row."""
        return hashlib.sha256("\x1f".join((self.system, self.user, self.text)).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Dataset:
    """Labelled rows, and the topics that were declared to be held out before anything was fitted.

    about: one sentence, what is labelled. labels: names of label 0 and of label 1.
    shifts: topics that are out of distribution: no fit, and no choice of a layer or a strength, sees them.
    template: what is put around each statement, with {text} in it, where that was found to help the model.
    """

    name: str
    about: str
    labels: tuple[str, str]
    rows: tuple[Row, ...]
    shifts: tuple[str, ...] = ()
    template: str | None = None

    @cached_property
    def sha256(self) -> str:
        """The hash of the rows and the shifts, so that a result says exactly what it was made from."""
        rows = [asdict(row) for row in self.rows]
        return hashlib.sha256(json.dumps([rows, self.shifts], sort_keys=True).encode()).hexdigest()

    @property
    def train(self) -> tuple[Row, ...]:
        """What may be fitted to and chosen on."""
        return tuple(row for row in self.rows if row.topic not in self.shifts)

    @property
    def shifted(self) -> tuple[Row, ...]:
        """What was declared out of distribution."""
        return tuple(row for row in self.rows if row.topic in self.shifts)


def check_rows(rows: Sequence[Row], name: str) -> None:
    """Raise HookeError if these rows cannot be learned from or tested on: one class only, an empty text,
    a group that leaks into two topics, the same text with both labels."""
    if not rows:
        raise HookeError(f"{name} has no rows")
    seen: dict[tuple[str, str, str], int] = {}
    topic_of: dict[str, str] = {}
    for number, row in enumerate(rows, 1):
        if not row.text.strip():
            raise HookeError(f"{name}: row {number} has an empty text")
        if row.system and not row.user:
            raise HookeError(f"{name}: row {number} has a system message and no user; give both, or neither")
        if row.label not in (0, 1):
            raise HookeError(f"{name}: row {number} has label {row.label!r}; a label is 0 or 1")
        key = (row.system, row.user, row.text)
        if seen.setdefault(key, row.label) != row.label:
            raise HookeError(
                f"{name}: row {number} has label {row.label}, and the same text stands before with the other"
            )
        if topic_of.setdefault(row.group, row.topic) != row.topic:
            both = f"{topic_of[row.group]!r} and {row.topic!r}"
            raise HookeError(f"{name}: group {row.group!r} stands in topics {both}; a group has one")
    labels = {row.label for row in rows}
    if len(labels) < 2:
        raise HookeError(f"{name} has rows of label {labels.pop()} only; both labels are needed")
