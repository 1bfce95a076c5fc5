"""What a person names as text, taken in turn, and what of it was used."""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hooke.data.texts.files import opened, rows
from hooke.data.texts.installed import documentation
from hooke.errors import HookeError
from hooke.files import path_of

WORDS = ("docs", "self")


class Passage(NamedTuple):
    """One text, and the label of where it comes from: a package, a file, a data set."""

    text: str
    source: str


@dataclass
class Used:
    """What was taken of some sources: counted and hashed as it is taken, never kept."""

    names: list[str]
    passages: int = 0
    characters: int = 0
    _digest: Any = field(default_factory=hashlib.sha256, repr=False)

    def add(self, passage: Passage) -> None:
        """One more passage."""
        self.passages += 1
        self.characters += len(passage.text)
        for part in passage:
            data = part.encode()
            self._digest.update(len(data).to_bytes(8, "little") + data)

    def about(self) -> dict[str, Any]:
        """Names, counts and the sha256 of the passages in their order, for what is made from them."""
        return {
            "sources": [label_of(name) for name in self.names],
            "passages": self.passages,
            "characters": self.characters,
            "sha256": self._digest.hexdigest(),
        }


def is_own(name: str) -> bool:
    """Whether a source is what a model itself says: `self`, or `self:SHARE`."""
    return isinstance(name, str) and name.partition(":")[0] == "self"


def is_word(name: str) -> bool:
    """Whether a source is known by its name, and no file."""
    return name in WORDS or is_own(name) or name.startswith("hub:")


def label_of(name: str) -> str:
    """A source as it is recorded: where a file lies is nothing that a result should hold."""
    return name if is_word(name) else path_of(name).name


def texts_about(sources: Sequence[str], used: Iterable[Passage]) -> dict[str, Any]:
    """What is recorded of texts: the names of the sources, how much of them was used, and its sha256."""
    tally = Used(list(sources))
    for passage in used:
        tally.add(passage)
    return tally.about()


def passages(sources: Sequence[str], *, seed: int = 0) -> Iterator[Passage]:
    """The passages of sources, each once: `docs` (what is installed), files, folders, hub:org/name[/split].

    Several sources take turns, so that each gives as much text as the others while it lasts. seed: the order of `docs`.
    Only what is asked for is read. Raises HookeError at once for a source that is not there or cannot be read, and
    on the way for one that holds no text, or something else than text.
    """
    names = [sources] if isinstance(sources, str) else list(sources)
    if not names:
        raise HookeError(f"no text is named; give {WORDS[0]}, a file, a folder or hub:org/name")
    return _in_turn([(name, _source(name, seed)) for name in dict.fromkeys(names)])


def _source(name: str, seed: int) -> Iterator[Passage]:
    """The passages of one source; what it means is looked up now, and nothing is read."""
    if name == "docs":
        return (Passage(text, label) for text, label in documentation(seed))
    if is_own(name):
        raise HookeError("self is the text that a model makes itself, and there is no model here; give docs or a file")
    if not isinstance(name, str) or not name.strip():
        raise HookeError("a text has no name; give docs, a file, a folder or hub:org/name")
    if not name.startswith("hub:") and not os.path.lexists(path_of(name)):
        near = difflib.get_close_matches(name.lower(), WORDS, 1, 0.5)
        hint = f"did you mean {near[0]}?" if near else "give docs, self, a file, a folder or hub:org/name"
        raise HookeError(f"there is no file or folder {name[:200]!r}, and no text source of that name; {hint}")
    files = opened(name)
    return (Passage(text, label) for file, label in files for text in rows(file))


def _in_turn(waiting: list[tuple[str, Iterator[Passage]]]) -> Iterator[Passage]:
    """Always the source that has given the fewest characters, until all have ended; equal texts once."""
    given = {name: 0 for name, _ in waiting}
    sources, seen = dict(waiting), set()
    while sources:
        name = min(sources, key=lambda name: given[name])
        passage = next(sources[name], None)
        if passage is None:
            if not given[name]:
                raise HookeError(f"{name} holds no text")
            del sources[name]
            continue
        given[name] += len(passage.text)
        key = hashlib.blake2b(" ".join(passage.text.split()).encode(), digest_size=16).digest()
        if key not in seen:
            seen.add(key)
            yield passage
