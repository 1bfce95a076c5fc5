"""What a search looks up: words of each feature's strongest tokens, words that it makes likelier, its labels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from hooke.features.catalogue import VOCABULARY
from hooke.features.index import INDEX, Row, Words, write_index
from hooke.files import write_atomic
from hooke.kernels import exact_products
from hooke.methods.catalogue.atoms import FORMS, Atoms, directions
from hooke.methods.progress import Tick
from hooke.model import Model

LIKE = 12  # like words of each
KEPT = 12  # words of a feature
TWICE = 2  # of its examples that have to stand on a word


def index(
    model: Model, atoms: Atoms, ids: np.ndarray, tables: tuple[pa.Table, pa.Table], folder: Path, tick: Tick
) -> None:
    """Write the index of a catalogue and its vocabulary, if they are not there. ids: the tokens of the text."""
    if (folder / INDEX).exists():
        return
    shown = model.vocabulary()
    shown += [""] * (model.parts.d_vocab - len(shown))
    write_atomic(folder / VOCABULARY, json.dumps(shown, ensure_ascii=False).encode("utf-8", "replace"))
    of_token = atoms.word_of_token
    lists = {
        name: np.unique(of_token[atoms.members(atoms.words + i)]).tolist()
        for i, name in enumerate(atoms.names[atoms.words : atoms.words + atoms.lists + len(FORMS)])
    }
    near, cosine = _like(model, atoms, ids)
    names = [name[1:-1] for name in atoms.names[: atoms.words]]
    words = Words(names, of_token, near, cosine)
    write_index(folder / INDEX, words, lists, _rows(of_token, ids, tables, tick))


def _rows(of_token: np.ndarray, ids: np.ndarray, tables: tuple[pa.Table, pa.Table], tick: Tick) -> Iterator[Row]:
    features, examples = tables
    base = np.bincount(of_token[ids], minlength=int(of_token.max()) + 1) / len(ids)
    columns = ("id", "promotes", "label", "fires_on", "writes")
    done = 0
    for some, shown in zip(features.select(columns).to_batches(4096), examples.to_batches(4096), strict=True):
        told: list[dict[str, Any]] = some.to_pylist()
        starts = shown["at"].offsets.to_numpy()
        peaks = of_token[ids[shown["at"].values.to_numpy()]]
        for i, row in enumerate(told):
            own, counts = np.unique(peaks[starts[i] : starts[i + 1]], return_counts=True)
            share = counts / max(1, counts.sum()) - base[own]
            best = [j for j in np.argsort(-share, kind="stable")[:KEPT] if counts[j] >= TWICE and share[j] > 0]
            yield Row(
                row["id"], [(int(own[j]), float(share[j])) for j in best],
                list(dict.fromkeys(of_token[row["promotes"]].tolist())), row["label"] or "",
            )  # fmt: skip
        done += len(told)
        tick(done / len(features))


def _like(model: Model, atoms: Atoms, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(words, LIKE) like words by the embeddings of their most frequent tokens, and cosines."""
    frequent = np.bincount(ids, minlength=model.parts.d_vocab)
    order = np.argsort(frequent, kind="stable")
    token = np.zeros(atoms.words, np.int64)
    token[atoms.word_of_token[order]] = order  # the most frequent comes last
    rows = torch.from_numpy(directions(model)[token])
    proper = np.array([name[1:-1].isalpha() for name in atoms.names[: atoms.words]])
    own = np.flatnonzero(proper)
    near, cosine = np.full((atoms.words, LIKE), -1, np.int64), np.zeros((atoms.words, LIKE), np.float32)
    if len(own) <= LIKE:
        return near, cosine
    x = rows[torch.from_numpy(own)]
    with exact_products():
        for at in range(0, len(own), 1024):
            r = x[at : at + 1024] @ x.T
            r[torch.arange(len(r)), torch.arange(at, at + len(r))] = -2.0
            values, which = r.topk(LIKE, 1)
            near[own[at : at + len(r)]], cosine[own[at : at + len(r)]] = own[which.numpy()], values.numpy()
    return near, cosine
