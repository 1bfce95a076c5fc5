"""How fast a catalogue of millions of features is looked up and searched.

    python bench/catalogue.py [--features 2000000] [--folder DIR] [--asked 200]

Makes tables of random features of the form that `hooke catalogue build` writes (a description, twelve words, twenty
examples each), and times, in milliseconds, one look-up of a feature with its examples, and searches by words, by a
token and by an effect. Beside them stands what a plain reader takes: pyarrow reading the column of labels and looking
through it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hooke.data.words import LISTS
from hooke.features import Name, open_catalogue
from hooke.features.catalogue import MANIFEST, VERSION
from hooke.features.index import Row, Words, write_index
from hooke.features.search import open_index
from hooke.features.table import COLUMNS, EXAMPLE_COLUMNS, EXAMPLES, FEATURES, ROWS

EACH, KEPT, NEAR = 20, 12, 8  # examples of a feature, words, and tokens around an example
AT_ONCE = 2**16


def made(n: int, folder: Path) -> None:
    """The tables and the index of n random features."""
    rng = np.random.default_rng(0)
    words = sorted({word for some in LISTS.values() for word in some})
    vocabulary = words + [f"t{i}" for i in range(50_000 - len(words))]
    said = [f"on {name}, {a} or {b}" for name in LISTS for a, b in zip(words[::7], words[3::7], strict=False)]

    def rows(at: int, stop: int) -> Iterator[Row]:
        which = np.minimum(rng.zipf(1.3, (stop - at, KEPT)) - 1, len(vocabulary) - 1)
        share = rng.random((stop - at, KEPT))
        for i in range(stop - at):
            pairs = list(zip(which[i].tolist(), share[i].tolist(), strict=True))
            yield Row(at + i, pairs, which[i, :10].tolist(), said[int(rng.integers(len(said)))])

    def tables(at: int, stop: int) -> tuple[pa.Table, pa.Table]:
        m = stop - at
        columns = {}
        for field in COLUMNS:
            kind = field.type
            if field.name == "id" or field.name == "feature":
                values = pa.array(np.arange(at, stop), kind)
            elif pa.types.is_list(kind):
                ends = pa.array(np.arange(0, 10 * m + 1, 10), pa.int32())
                values = pa.ListArray.from_arrays(ends, pa.array(rng.integers(50_000, size=10 * m), kind.value_type))
            elif pa.types.is_string(kind):
                values = pa.array([said[i] for i in rng.integers(len(said), size=m)], kind)
            elif pa.types.is_floating(kind):
                values = pa.array(rng.random(m), kind)
            else:
                values = pa.array(np.ones(m), kind)
            columns[field.name] = values
        ends = pa.array(np.arange(0, EACH * m + 1, EACH), pa.int32())
        near = [bytes(row) for row in rng.integers(256, size=(m, EACH * NEAR), dtype=np.uint8)]
        lists = {
            name: pa.ListArray.from_arrays(ends, pa.array(rng.integers(2, size=EACH * m), kind))
            for name, kind in (("level", pa.int8()), ("value", pa.float32()), ("at", pa.int32()))
        }
        lists["held_out"] = pa.ListArray.from_arrays(ends, pa.array(rng.random(EACH * m) < 0.4))
        examples = {"id": pa.array(np.arange(at, stop), pa.int32()), "near": pa.array(near, pa.binary()), **lists}
        return pa.table(columns, schema=COLUMNS), pa.table(
            {name: examples[name] for name in EXAMPLE_COLUMNS.names}, schema=EXAMPLE_COLUMNS
        )

    parts = [(at, min(at + AT_ONCE, n)) for at in range(0, n, AT_ONCE)]
    pair = [pq.ParquetWriter(folder / name, schema, compression="zstd") for name, schema in
            ((FEATURES, COLUMNS), (EXAMPLES, EXAMPLE_COLUMNS))]  # fmt: skip
    for at, stop in parts:
        for writer, table in zip(pair, tables(at, stop), strict=True):
            writer.write_table(table, row_group_size=ROWS)
    for writer in pair:
        writer.close()
    number = {word: i for i, word in enumerate(vocabulary)}
    near = rng.integers(len(words), size=(len(vocabulary), 12))
    like = Words(vocabulary, np.arange(len(vocabulary)), near, rng.random(near.shape))
    lists = {name: [number[word] for word in some] for name, some in LISTS.items()}
    write_index(folder / "index.sqlite", like, lists, (row for part in parts for row in rows(*part)))
    about = {"version": VERSION, "sides": 1, "blocks": [{"layer": 1, "features": n, "hash": "-"}]}
    (folder / MANIFEST).write_text(json.dumps(about))


def times(ask: Callable[[int], object], n: int) -> str:
    """Median and 95th percentile of n questions, after three that are not counted."""
    took = []
    for i in range(n + 3):
        start = time.perf_counter()
        ask(i)
        took.append(1000 * (time.perf_counter() - start))
    return f"{np.median(took[3:]):8.1f} ms, 95 % under {np.quantile(took[3:], 0.95):.1f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--features", type=int, default=2_000_000)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--asked", type=int, default=200)
    args = parser.parse_args()
    folder = args.folder or Path(tempfile.mkdtemp(prefix="hooke-bench-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        start = time.perf_counter()
        if not (folder / MANIFEST).exists():
            made(args.features, folder)
            print(f"made in {time.perf_counter() - start:,.0f} s")
        sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
        for name, size in sorted(sizes.items()):
            print(f"{name:18} {size / 2**20:10,.0f} MB, {size / args.features:8,.0f} bytes a feature")
        found, index = open_catalogue(folder), open_index(folder)
        rng = np.random.default_rng(1)
        ids = rng.integers(args.features, size=args.asked + 3)
        names = list(LISTS)
        words = [some[0] for some in LISTS.values()]
        print("look-up of one    ", times(lambda i: found.rows(Name(1, int(ids[i]))), args.asked))
        print("its examples      ", times(lambda i: found.examples([int(ids[i])]), args.asked))
        print("search by words   ", times(lambda i: index.by_words(names[i % len(names)], 10), args.asked))
        print("search by a token ", times(lambda i: index.by_token(words[i % len(words)], 10), args.asked))
        print("search by effect  ", times(lambda i: index.by_effect(words[i % len(words)], 10), args.asked))

        def plain(i: int) -> object:
            labels = pq.read_table(folder / FEATURES, columns=["label"])["label"]
            return pa.compute.match_substring(labels, names[i % len(names)])

        print("pyarrow, plain    ", times(plain, 3))
    finally:
        if args.folder is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
