"""Building a catalogue and looking features up in it: resumed, refused, and read by scripts."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

import hooke
from catalogues import TOKENS, Built
from hooke import HookeError, Model
from hooke.cli import app
from hooke.dictionaries import neurons
from hooke.dictionaries.coder import Coder
from hooke.features import name_in, open_catalogue
from hooke.features.names import named
from hooke.features.search import LEAST_COSINE, open_index
from hooke.features.table import COLUMNS, table_hash
from hooke.methods.catalogue.fires import fires
from hooke.sites import Site

ASKED: dict[str, Any] = {"tokens": 4000, "context": 64, "layers": "1,3", "checkpoint_seconds": 0}


def test_what_a_build_says(built: Built, glass: Model) -> None:
    p = built.result.payload
    rows = built.catalogue.ask("select * from {features} order by id")
    assert p["features"] == glass.parts.n_layers * glass.parts.d_mlp and len(rows) == 2 * p["features"]
    assert p["tokens"] == TOKENS and p["kinds"] == ["given text"] and len(p["notes"]) == 2
    assert sum(p["labels"].values()) == len(rows)
    assert p["labels"]["obscure"] == sum(row["label"] is None for row in rows)
    for row in rows:
        inputs = row["input_score"] is not None and row["input_score"] > row["input_control"]
        assert (row["kind"] in ("input", "both")) == inputs
        assert (row["label"] is None) == (row["kind"] == "obscure")
    effect = np.array([row["effect"] for row in rows]).reshape(-1, 2)
    has = np.array([row["label"] is not None for row in rows]).reshape(-1, 2)
    own = has[np.arange(len(has)), effect.argmax(1)]
    upper = effect.sum(1) >= np.median(effect.sum(1))
    assert p["labelled"] == pytest.approx(own[upper].mean())
    assert p["sentence"].startswith("Fewer than half") == (p["labelled"] < 0.5)


def test_stopped_and_gone_on_with_it_is_the_same(glass: Model, texts: list[str], tmp_path: Path) -> None:
    whole = hooke.catalogue(glass, out=tmp_path / "whole", text=texts, **ASKED)
    seen: list[str] = []

    class Stop(Exception):
        pass

    for stage, after in (("activations", 0.6), ("labels", 0.7)):

        def stop(now: str, done: float, stage: str = stage, after: float = after) -> None:
            if now == stage and done >= after:
                seen.append(now)
                raise Stop

        with pytest.raises(Stop):
            hooke.catalogue(glass, out=tmp_path / "parts", text=texts, progress=stop, **ASKED)
        with pytest.raises(HookeError, match="run the same build again"):
            open_catalogue(tmp_path / "parts")
    began: list[float] = []
    again = hooke.catalogue(
        glass, out=tmp_path / "parts", text=texts, **ASKED,
        progress=lambda stage, done: began.append(done) if stage == "labels" else None,
    )  # fmt: skip
    assert seen == ["activations", "labels"]
    assert again.payload["hash"] == whole.payload["hash"] and again.id == whole.id
    start = time.perf_counter()
    assert hooke.catalogue(glass, out=tmp_path / "parts", text=texts, **ASKED).id == whole.id
    assert time.perf_counter() - start < 5
    assert not list((tmp_path / "parts").glob("block-*"))
    other = hooke.catalogue(glass, out=tmp_path / "other", text=texts, **ASKED | {"seed": 1})
    assert other.payload["hash"] != whole.payload["hash"]


def test_a_dictionary_of_ones_own(glass: Model, texts: list[str], tmp_path: Path) -> None:
    """A transcoder whose features are copies of neurons' readers: one side each, silent on most tokens."""
    generator = torch.Generator().manual_seed(0)
    reads, writes = Site("mlp_in", 2), Site("mlp_out", 2)
    rows = torch.randn(48, glass.parts.d_model, generator=generator)
    block = Coder(
        {reads: rows}, torch.full((48,), -1.0), {writes: torch.randn(48, glass.parts.d_model, generator=generator)},
        {writes: torch.zeros(glass.parts.d_model)}, "topk", k=4,
    )  # fmt: skip
    found = hooke.catalogue(glass, basis=[block], out=tmp_path / "c", text=texts, tokens=3000, context=64)
    assert found.payload["features"] == 48 and found.payload["sides"] == 1
    cat = open_catalogue(tmp_path / "c", glass)
    run = glass.run(torch.tensor([list(range(5, 40))]), read=[reads])
    assert len(fires(glass, cat, "The end of the list", None, 5, [block])) == 5 and reads in run.acts
    with pytest.raises(HookeError, match="other dictionaries"):
        fires(glass, cat, "The end", None, 5)
    (row,) = cat.rows(named("2_7"))
    density = cat.ask("select avg(density) d from {features}")[0]["d"]
    assert row["sign"] == 1 and density == pytest.approx(4 / 48, rel=0.2)


def test_every_feature_is_found_again(built: Built, glass: Model) -> None:
    n = glass.parts.d_mlp
    for layer, number in ((0, 0), (1, 5), (3, n - 1)):
        rows = built.catalogue.rows(named(f"{layer}_{number}"))
        assert [(r["layer"], r["feature"], r["sign"]) for r in rows] == [(layer, number, 1), (layer, number, -1)]
        (below,) = built.catalogue.rows(named(f"{layer}_{number}-"))
        assert below["sign"] == -1
        (one,) = built.catalogue.examples([below["id"]]).values()
        assert one["value"] == sorted(one["value"], reverse=True) and len(one["near"]) == 24 * len(one["at"])
        assert max(one["value"], default=0.0) == pytest.approx(below["largest"])
    for name in ("0_99999", "44_0"):
        with pytest.raises(HookeError, match="no feature"):
            built.catalogue.rows(named(name))


@pytest.mark.parametrize("text", ["", "12", "12_", "a_1", "12_345_6", "-1_2", "12_345*", "1" * 20 + "_1"])
def test_what_names_no_feature(text: str) -> None:
    assert name_in(text) is None
    with pytest.raises(HookeError, match="names no feature"):
        named(text)


def test_search_by_a_token_finds_those_that_fire_on_it(built: Built) -> None:
    """Against all examples, counted in plain Python."""
    index, vocabulary = open_index(built.folder), built.catalogue.vocabulary
    ids, _ = built.catalogue.text
    rows = built.catalogue.ask('select id, "at" from {examples}')
    word = "the"
    shares = {
        row["id"]: float(np.mean([vocabulary[ids[at]].strip().lower() == word for at in row["at"]] or [0.0]))
        for row in rows
    }
    base = float(np.mean([vocabulary[i].strip().lower() == word for i in ids]))
    hits = index.by_token(" The", 5)
    best = sorted(shares.values(), reverse=True)[:5]
    assert [hit.match for hit in hits] == pytest.approx([share - base for share in best])
    assert [shares[hit.id] for hit in hits] == pytest.approx(best)


def test_search_by_effect_finds_those_that_make_it_likelier(built: Built) -> None:
    index, vocabulary = open_index(built.folder), built.catalogue.vocabulary
    rows = {row["id"]: row["promotes"] for row in built.catalogue.ask("select id, promotes from {features}")}
    some = vocabulary[next(iter(rows.values()))[0]]
    hits = index.by_effect(some, 10)
    assert hits and all(
        any(vocabulary[i].strip().lower() == some.strip().lower() for i in rows[hit.id]) for hit in hits
    )
    with pytest.raises(HookeError, match="no token"):
        index.by_effect("not one token at all", 3)


def test_search_by_text_is_the_largest_difference(built: Built, glass: Model) -> None:
    """Against runs of single blocks in plain torch."""
    here, there = "The end of the list is near", "He walked slowly home"
    found = hooke.find_features(here, catalogue=built.catalogue, by="text", than=there, model=glass, top=5)
    known = built.catalogue.ask("select largest from {features} order by id")
    largest = np.array([row["largest"] for row in known])
    peaks = []
    for text in (here, there):
        run = glass.run(text, read=[block.site for block in neurons(glass)])
        parts = [run.acts[block.site][0, 1:] for block in neurons(glass)]
        both = [torch.stack([x.amax(0), (-x).amax(0)], 1).flatten() for x in parts]
        peaks.append(torch.cat(both).clamp(min=0).numpy() / np.maximum(largest, 1e-9))
    best = np.sort(peaks[0] - peaks[1])[::-1][:5]
    assert [row["match"] for row in found.payload["results"]] == pytest.approx(best.tolist(), rel=1e-4)


def test_the_command_gives_what_scripts_read(built: Built, texts: list[str]) -> None:
    out = CliRunner().invoke(app, ["features", "numbers", "--catalogue", str(built.folder), "--json"])
    assert out.exit_code == 0, out.output
    payload = json.loads(out.stdout)["payload"]
    assert payload["results"] and {"feature", "label", "class", "score", "control"} <= payload["results"][0].keys()
    out = CliRunner().invoke(app, ["features", "2_7-", "--catalogue", str(built.folder)])
    assert out.exit_code == 0 and "2_7-" in out.stdout
    line = ["catalogue", "build", "--model", "glassllm", "--tokens", str(TOKENS), "--context", "64", "--json"]
    out = CliRunner().invoke(app, [*line, "--text", texts[0], "--out", str(built.folder)])
    assert json.loads(out.stdout)["payload"]["hash"] == built.result.payload["hash"]


def test_what_a_person_says_becomes_words(built: Built) -> None:
    index = open_index(built.folder)
    months = index.words("months")
    shown = {index.base.execute("select word from words where number = ?", (n,)).fetchone()[0] for n in months}
    assert "may" in shown or "months" in shown
    assert all(LEAST_COSINE <= share <= 1 for share in index.words("open file").values())
    assert index.by_words("zzzzqqqq", 5) == []
    assert index.by_words('"; drop table words; --', 5) is not None and index.word("the") is not None


def test_hashes_are_of_what_tables_hold() -> None:
    table = pa.table({"a": pa.array([1, 2, 3], pa.int32()), "b": pa.array([[1], None, [2, 3]], pa.list_(pa.int32()))})
    cut = pa.concat_tables([table.slice(0, 1), table.slice(1)])
    assert table_hash(table) == table_hash(cut)
    other = table.set_column(1, "b", pa.array([[1], [2], [3]], pa.list_(pa.int32())))
    empty = table.set_column(1, "b", pa.array([[1], [], [2, 3]], pa.list_(pa.int32())))
    assert len({table_hash(t) for t in (table, other, empty)}) == 3


def test_bad_input_is_one_line(built: Built, glass: Model, smol: Model, texts: list[str], tmp_path: Path) -> None:
    def refused(match: str, **asked: Any) -> None:
        with pytest.raises(HookeError, match=match):
            hooke.catalogue(glass, **({"out": tmp_path / "x", "text": texts, "context": 64} | asked))

    refused("would say nothing", tokens=10)
    refused("no basis called", basis="directions")
    refused("no dictionary is given", basis=[])
    refused("no file or folder", text=["nowhere"])
    refused("has nothing in layers|has layers 0 to", layers="9")
    refused("holds another catalogue", out=built.folder, tokens=TOKENS + 1)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    refused("something else in it", out=tmp_path / "full")
    with pytest.raises(HookeError, match="differs from"):
        open_catalogue(built.folder, smol)
    for query, match in (("", "query is empty"), ("x" * 10_000, "10,000 characters"), ("99_1", "no feature")):
        with pytest.raises(HookeError, match=match):
            hooke.find_features(query, catalogue=built.folder)
    with pytest.raises(HookeError, match="no catalogue is named"):
        hooke.find_features("x")
    with pytest.raises(HookeError, match="runs a model"):
        hooke.find_features("x", catalogue=built.folder, by="text")
    with pytest.raises(HookeError, match="holds no catalogue"):
        hooke.find_features("x", catalogue=tmp_path)


@pytest.mark.parametrize("name", ["catalogue.json", "features.parquet", "index.sqlite", "vocabulary.json"])
def test_a_damaged_file_is_one_line(built: Built, name: str, tmp_path: Path) -> None:
    folder = tmp_path / "c"
    shutil.copytree(built.folder, folder)
    (folder / name).write_bytes(b"not what it was" * 10)
    with pytest.raises(HookeError):
        hooke.find_features("numbers", catalogue=folder)


def test_text_on_which_nothing_fires(glass: Model, texts: list[str], tmp_path: Path) -> None:
    """A dictionary whose gates are never open: no examples, no label, and no division by nothing."""
    reads, writes = Site("resid_post", 1), Site("resid_post", 1)
    d = glass.parts.d_model
    block = Coder(
        {reads: torch.zeros(6, d)}, torch.full((6,), -1.0), {writes: torch.ones(6, d)}, {writes: torch.zeros(d)}, "relu"
    )
    found = hooke.catalogue(glass, basis=[block], out=tmp_path / "c", text=texts, tokens=2000, context=64)
    assert found.payload["silent"] == 6 and found.payload["labels"]["obscure"] == 6
    rows = pq.read_table(tmp_path / "c" / "features.parquet")
    assert rows.schema.names == COLUMNS.names and rows["density"].to_pylist() == [0.0] * 6
