"""What can be said of one token: which word it is, in which list of words, of which form, like which others.

An atom is a set of the vocabulary's tokens with a name. Labels are put together of atoms, so that what a label says can
be held against any text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from sklearn.cluster import MiniBatchKMeans

from hooke.data.words import LISTS
from hooke.model import Model

CLUSTERS = (256, 2048)  # groups of tokens with like embeddings, coarse and fine
NAMED = 3  # tokens that name a group
COMMON = 6
ALIKE = 0.3  # mean cosine of a group's tokens with its direction: under this they are hardly alike
FORMS = {
    "numbers": r" ?[0-9]+",
    "single letters": r" ?[A-Za-z]",
    "words with a capital letter": r" ?[A-Z][a-z]+",
    "words in capitals": r" ?[A-Z]{2,}",
    "parts of words": r"[a-z]+",
    "full stops": r" ?\.+",
    "commas": r" ?,",
    "colons": r" ?::?",
    "semicolons": r" ?;",
    "question and exclamation marks": r" ?[?!]+",
    "opening brackets": r" ?[(\[{<]+",
    "closing brackets": r" ?[)\]}>]+",
    "quotation marks": r" ?[\"'`“”‘’«»]+",
    "hyphens and dashes": r" ?[-–—]+",
    "slashes": r" ?[/\\]+",
    "underscores": r" ?_+",
    "signs of comparison": r" ?(=+|!=|<=|>=|<|>)",
    "signs of arithmetic": r" ?[+*%^~&|]+",
    "line breaks": r"[ \t]*\n\s*",
    "runs of spaces": r"[ \t]{2,}",
    "marks of other kinds": r" ?[#@$§©°€£•…]+",
    "not in Latin letters": r".*[^\x00-\u024f–—‘’“”•…€].*",
    "words in -ing": r" ?[A-Za-z]{2,}ing",
    "words in -ed": r" ?[A-Za-z]{2,}ed",
    "words in -ly": r" ?[A-Za-z]{2,}ly",
    "words in -tion or -sion": r" ?[A-Za-z]{2,}[ts]ions?",
    "words in -ment": r" ?[A-Za-z]{3,}ments?",
    "words in -er or -or": r" ?[A-Za-z]{3,}[eo]rs?",
    "words in -ity or -ness": r" ?[A-Za-z]{3,}(ity|ities|ness)",
    "words in -able or -ible": r" ?[A-Za-z]{2,}[ai]ble",
    "words in -al, -ous, -ful, -ic or -ive": r" ?[A-Za-z]{3,}(al|ous|ful|ic|ive)",
    "words in -ize or -ify": r" ?[A-Za-z]{2,}(iz|is|if)(e|es|ed|y|ying|ing)",
    "words in -s": r" ?[A-Za-z]{3,}[^sui\W]s",
}


@dataclass(eq=False)
class Atoms:
    """names: what each atom says. words: how many of the first ones are single words, and lists: how many after these
    are lists of words. of_token: (vocabulary, atoms) 1 where a token is in it."""

    names: list[str]
    words: int
    lists: int
    of_token: csr_array = field(repr=False)

    @cached_property
    def tokens(self) -> csr_array:
        """(atoms, vocabulary)"""
        return csr_array(self.of_token.T.tocsr())

    @cached_property
    def number(self) -> dict[str, int]:
        """Which atom a name is."""
        return {name: i for i, name in enumerate(self.names)}

    @cached_property
    def word_of_token(self) -> np.ndarray:
        """(vocabulary,) the word that each token is; atoms of a row rise, and words come first."""
        return self.of_token.indices[self.of_token.indptr[:-1]].astype(np.int64)

    @cached_property
    def sizes(self) -> np.ndarray:
        """(atoms,) how many tokens each has."""
        return np.diff(self.tokens.indptr)

    def members(self, atom: int) -> np.ndarray:
        """Token ids of one atom."""
        return self.tokens.indices[self.tokens.indptr[atom] : self.tokens.indptr[atom + 1]]

    def mask(self, some: Sequence[int]) -> np.ndarray:
        """(vocabulary,) True for the tokens of any of some atoms."""
        found = np.zeros(self.of_token.shape[0], bool)
        for atom in some:
            found[self.members(atom)] = True
        return found


SEEN = str.maketrans({"\n": "⏎", "\t": "→", "\r": "␍"})


def fold(text: str) -> str:
    """A token without what does not change the word: spaces around it, capitals; line breaks as a mark."""
    return (text.strip().lower() or text).translate(SEEN)


def atoms_of(model: Model, frequent: np.ndarray, *, seed: int = 0) -> Atoms:
    """The atoms of a model's vocabulary. frequent: (vocabulary,) how often each token stands in the text; groups are
    named by their most frequent tokens."""
    texts = model.vocabulary()
    texts += [""] * (model.parts.d_vocab - len(texts))
    folded = [fold(text) for text in texts]
    words = {word: i for i, word in enumerate(dict.fromkeys(folded))}
    names = [f"‘{word}’" for word in words]
    rows, columns = [np.arange(len(texts))], [np.array([words[word] for word in folded])]

    def put(name: str, tokens: np.ndarray) -> None:
        rows.append(tokens)
        columns.append(np.full(len(tokens), len(names)))
        names.append(name)

    by_word: dict[str, list[int]] = {}
    for i, word in enumerate(folded):
        by_word.setdefault(word, []).append(i)
    for name, listed in LISTS.items():
        put(name, np.array(sorted(i for word in listed for i in by_word.get(word, [])), np.int64))
    for name, form in FORMS.items():
        pattern = re.compile(form, re.DOTALL)
        put(name, np.array([i for i, text in enumerate(texts) if pattern.fullmatch(text)], np.int64))
    for k in CLUSTERS:
        for group in _groups(model, k, np.flatnonzero(frequent), seed):
            best = group[np.argsort(-frequent[group], kind="stable")]
            shown = list(dict.fromkeys(folded[i] for i in best))[:NAMED]
            if len(shown) < 2:  # one word says so itself
                continue
            put("words like " + ", ".join(f"‘{word}’" for word in shown), group)
    row, column = np.concatenate(rows), np.concatenate(columns)
    shape = (len(texts), len(names))
    found = csr_array((np.ones(len(row), np.int32), (row, column)), shape=shape)
    found.sort_indices()
    return Atoms(names, len(words), len(LISTS), found)


def directions(model: Model) -> np.ndarray:
    """(vocabulary, d_model) embeddings of length one, without their mean and the COMMON directions in which they differ
    most: these say how frequent a token is, and of like tokens nothing (Mu and Viswanath, 1702.01417)."""
    table: Any = model.hf.get_input_embeddings()  # type: ignore[operator]
    rows = table.weight.detach().float().cpu().numpy()[: model.parts.d_vocab]
    rows = rows - rows.mean(0)
    _, axes = np.linalg.eigh(rows.T @ rows)
    top = axes[:, -min(COMMON, axes.shape[1] // 4) :] if axes.shape[1] >= 4 else axes[:, :0]
    rows = rows - (rows @ top) @ top.T
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def _groups(model: Model, k: int, seen: np.ndarray, seed: int) -> list[np.ndarray]:
    """Token ids in k groups by the direction of their embeddings. seen: the tokens that the groups are made from;
    others join the nearest one. Groups whose tokens are hardly more alike than any are left out."""
    rows = directions(model)
    k = min(k, max(1, len(seen) // 8))
    fitted = MiniBatchKMeans(k, random_state=seed, batch_size=4096, n_init=1, max_iter=10).fit(rows[seen])
    centres = fitted.cluster_centers_
    spread = np.linalg.norm(centres, axis=1)  # the mean cosine of its tokens with its direction
    nearest = fitted.predict(rows)
    near = (rows * centres[nearest]).sum(1) / np.maximum(spread[nearest], 1e-9) >= spread[nearest] / 2
    parts = [np.flatnonzero((nearest == i) & near) for i in np.flatnonzero(spread > ALIKE)]
    return [part for part in parts if len(part) > 1]
