"""Search in a catalogue: by what a person says, by a token, by the effect on a token. No model is run.

What a person says becomes words of the vocabulary: those of a list of words by that name ("capitals and cities"), the
words themselves, and words with like embeddings. Features are ranked by how much more often these are their strongest
tokens than they stand in the text; a label that says so itself counts as well.
"""

from __future__ import annotations

import re
import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from hooke.errors import HookeError
from hooke.features.index import INDEX

MOST = 200  # characters of a query
LEAST_COSINE = 0.4  # of a word that is like one that was asked for
NEAR = 12  # like words that are taken along
SAID = 0.25  # what a label that says all that was asked for counts, beside a share of the strongest tokens
AS_MANY = 1000  # labels that are looked at
DULL = frozenset(
    ("a", "an", "and", "are", "as", "at", "be", "by", "for", "from", "in", "is", "it", "of", "on", "or", "that", "the",
     "this", "to", "was", "were", "what", "which", "with")
)  # fmt: skip


class Hit(NamedTuple):
    """A row, and how well it fits."""

    id: int
    match: float


@dataclass(eq=False)
class Index:
    """The index of a catalogue, open."""

    base: sqlite3.Connection

    def word(self, text: str) -> int | None:
        """The number of a word; None for one that is no token."""
        found = self.base.execute("select number from words where word = ?", (text.strip().lower() or text,)).fetchone()
        return None if found is None else int(found[0])

    def words(self, query: str) -> dict[int, float]:
        """The words that a query is about, and how much each counts."""
        asked = [word for word in re.findall(r"[^\W_]+", query.lower()) if word not in DULL]
        found: dict[int, float] = {}
        for name, share in self._lists(asked):
            for (number,) in self.base.execute("select number from lists where name = ?", (name,)):
                found[number] = max(found.get(number, 0.0), share)
        for word in asked:
            for form in (word, word.removesuffix("s"), word.removesuffix("es"), word + "s"):
                number = self.word(form)
                if number is None:
                    continue
                found[number] = 1.0
                if form != word and self.word(word) is not None:
                    continue
                near = "select other, cosine from near where number = ? and cosine >= ? order by cosine desc limit ?"
                for other, cosine in self.base.execute(near, (number, LEAST_COSINE, NEAR)):
                    found[other] = max(found.get(other, 0.0), cosine)
        return found

    def _lists(self, asked: Sequence[str]) -> list[tuple[str, float]]:
        """Lists of words whose names say what is asked for, and how much of it."""
        wanted = {_stem(word) for word in asked}
        scored = []
        for (name,) in self.base.execute("select distinct name from lists"):
            own = {_stem(word) for word in re.findall(r"[^\W_]+", name) if word not in DULL}
            both = len(own & wanted)
            if both and both / len(wanted) >= 0.5:
                scored.append((name, both / len(wanted) * (0.5 + 0.5 * both / len(own))))
        best = max((share for _, share in scored), default=0.0)
        return [(name, share) for name, share in scored if share >= best - 1e-9]

    def by_words(self, query: str, limit: int) -> list[Hit]:
        """Rows whose strongest tokens, or labels, are of what a query says; best first."""
        total: dict[int, float] = defaultdict(float)
        for number, weight in self.words(query).items():
            for id_, share in self.base.execute("select id, share from reads where number = ?", (number,)):
                total[id_] += weight * share
        for id_ in self._said(query):
            total[id_] += SAID
        return _best(total, limit)

    def _said(self, query: str) -> list[int]:
        """Rows whose labels say all that was asked for, those that say little else first."""
        asked = [word for word in re.findall(r"[^\W_]+", query.lower()) if word not in DULL]
        if not asked:
            return []
        said = "select rowid from labels where labels match ? order by rank limit ?"
        return [row for (row,) in self.base.execute(said, (" ".join(f'"{word}"' for word in asked), AS_MANY))]

    def by_token(self, text: str, limit: int) -> list[Hit]:
        """Rows that fire on a token."""
        found = self.base.execute(
            "select id, share from reads where number = ? order by share desc, id limit ?", (self._known(text), limit)
        )
        return [Hit(id_, share) for id_, share in found]

    def by_effect(self, text: str, limit: int) -> list[Hit]:
        """Rows that make a token likelier: those that have it first."""
        found = self.base.execute(
            "select id, min(place) from promotes where number = ? group by id order by 2, id limit ?",
            (self._known(text), limit),
        )
        return [Hit(id_, 1 / (1 + place)) for id_, place in found]

    def _known(self, text: str) -> int:
        number = self.word(text)
        if number is None:
            raise HookeError(f"{text[:40]!r} is no token of this model; name a word that is one")
        return number


def open_index(folder: Path) -> Index:
    """The index of a finished catalogue; it is only read."""
    path = folder / INDEX
    if not path.is_file():
        raise HookeError(f"{folder} has no index; run the build of this catalogue again")
    try:
        base = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        base.execute("select 1 from words limit 1")
    except sqlite3.DatabaseError as error:
        raise HookeError(f"{path} is no index of a catalogue: {error}") from None
    return Index(base)


def query_in(query: str) -> str:
    """A query that may be asked. Raises HookeError for an empty or a very long one."""
    text = " ".join(query.split())
    if not text:
        raise HookeError('the query is empty; ask for something, such as "European capitals"')
    if len(text) > MOST:
        raise HookeError(f"the query has {len(text):,} characters, and {MOST} are enough; ask for less")
    return text


def _best(total: dict[int, float], limit: int) -> list[Hit]:
    order = sorted(total.items(), key=lambda pair: (-pair[1], pair[0]))[:limit]
    return [Hit(id_, match) for id_, match in order]


def _stem(word: str) -> str:
    for end in ("ies", "es", "s"):
        if word.endswith(end) and len(word) > len(end) + 2:
            return word.removesuffix(end) + ("y" if end == "ies" else "")
    return word
