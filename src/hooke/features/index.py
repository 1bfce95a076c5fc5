"""The index of a catalogue: which features have a token among their strongest, or make it likelier, and the words of
all labels. One SQLite file, made of the tables, so that a search reads a few rows of millions.

Words are tokens without spaces around them and capitals. For each word its FEW best features are kept, by how much more
often it is among their strongest tokens than in the text.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hooke.files import replacing

INDEX = "index.sqlite"
FEW = 400  # features of a word
TABLES = """
create table words (word text primary key, number integer) without rowid;
create table lists (name text, number integer);
create table near (number integer, other integer, cosine real);
create table reads (number integer, share real, id integer);
create table promotes (number integer, place integer, id integer);
create virtual table labels using fts5(said, content='', tokenize='porter unicode61');
"""
KEYS = """
create index of_list on lists (name);
create index of_near on near (number);
create index of_reads on reads (number, share desc, id);
create index of_promotes on promotes (number, place, id);
"""


class Row(NamedTuple):
    """What is indexed of a row. reads: words and by how much more often than in the text they are its strongest.
    promotes: words, likeliest first. said: what its label says, and its descriptions."""

    id: int
    reads: Sequence[tuple[int, float]]
    promotes: Sequence[int]
    said: str


class Words(NamedTuple):
    """The words of a vocabulary. of_token: (vocabulary,) which word each token is. near: (words, n) like ones by their
    embeddings, -1 for none, and cosine: (words, n)."""

    words: Sequence[str]
    of_token: np.ndarray
    near: np.ndarray
    cosine: np.ndarray


def write_index(path: Path, words: Words, lists: dict[str, Sequence[int]], rows: Iterable[Row]) -> None:
    """Write the index, whole or not at all. lists: the words of every list of words."""
    with replacing(path) as temp:
        base = sqlite3.connect(temp, isolation_level=None)
        base.executescript("pragma journal_mode = off; pragma synchronous = off;" + TABLES)
        base.execute("begin")
        base.executemany("insert into words values (?, ?)", ((word, i) for i, word in enumerate(words.words)))
        base.executemany("insert into lists values (?, ?)", ((n, w) for n, some in lists.items() for w in some))
        row, column = np.nonzero(words.near >= 0)
        found = zip(row.tolist(), words.near[row, column].tolist(), words.cosine[row, column].tolist(), strict=True)
        base.executemany("insert into near values (?, ?, ?)", found)
        for one in rows:
            base.executemany("insert into reads values (?, ?, ?)", ((w, share, one.id) for w, share in one.reads))
            places = ((w, place, one.id) for place, w in enumerate(one.promotes))
            base.executemany("insert into promotes values (?, ?, ?)", places)
            if one.said:
                base.execute("insert into labels (rowid, said) values (?, ?)", (one.id, one.said))
        base.execute("commit")
        base.executescript(KEYS)
        base.execute(
            "delete from reads where rowid in (select rowid from (select rowid, row_number() over "
            "(partition by number order by share desc, id) as place from reads) where place > ?)",
            (FEW,),
        )
        base.execute("vacuum")
        base.close()
