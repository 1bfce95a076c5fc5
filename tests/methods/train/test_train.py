"""`hooke train`: the same weights however often it was killed, one line for everything that cannot be."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hooke
from hooke.dictionaries import check_dictionary
from hooke.dictionaries.folder import load_dictionary
from hooke.errors import HookeError
from hooke.harvest import open_store, plan, shard, store, subset
from hooke.methods.train import train
from hooke.model import Model
from hooke.sites import Site


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    from pydoc_data.topics import topics

    path = tmp_path_factory.mktemp("text") / "topics.txt"
    path.write_text("\n\n".join(topics[name] for name in sorted(topics)[:40]), encoding="utf-8")
    return str(path)


def asked(book: str, **changes: Any) -> dict[str, Any]:
    return {"text": [book], "tokens": 6000, "features": 96, "k": [8], "batch": 128, "context": 64, "seed": 3} | changes


def test_a_transcoder_trains_and_is_a_basis(glass: Model, text: str, tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = []
    result = train(glass, "transcoder", out=tmp_path / "t", layers="1-2", watch=lines.append, **asked(text, lr=2e-3))
    p = result.payload
    assert [row["name"] for row in p["dictionaries"]] == ["layer 1", "layer 2"]
    assert p["tokens"] == p["steps"] * 128 and len(lines) == p["steps"] and p["held_out"] >= 300
    for row in p["dictionaries"]:
        assert row["curve"]["explained"][-1] > row["curve"]["explained"][0] and row["explained_variance"] > 0.05
        assert 0 < row["l0"] <= 8
    blocks = load_dictionary(tmp_path / "t", glass)
    assert [tuple(map(str, block.reads)) for block in blocks] == [("mlp_in.1",), ("mlp_in.2",)]
    held = glass.run(glass.tokens("The value of the attribute is looked up"), read=blocks[0].reads).acts
    check_dictionary(blocks[0], {site: x[0] for site, x in held.items()})
    traced = hooke.trace(glass, "The value of the attribute is looked", basis=list(blocks), nodes=20, verify=False)
    assert traced.status == "complete" and traced.payload["units"] == "features"
    assert {node["kind"] for node in traced.payload["graph"]["nodes"]} >= {"feature", "error", "token", "logit"}
    again = train(glass, "transcoder", out=tmp_path / "t", layers="1-2", **asked(text, lr=2e-3))
    assert again.id == result.id  # finished: nothing is done again


def test_explained_variance_is_that_of_a_plain_loop(glass: Model, text: str, tmp_path: Path) -> None:
    """Against transformers with one hook, on the pieces that were held out."""
    result = train(glass, "topk", out=tmp_path / "t", site=["resid_post.1"], **asked(text))
    from hooke.dictionaries.feed import divided
    from hooke.harvest import load_plan

    _, held = divided(load_plan(tmp_path / "t" / "plan.safetensors"))
    (block,), rows = load_dictionary(tmp_path / "t"), []
    for i in held.shards[0]:
        ids = torch.from_numpy(held.piece(i).astype("int64"))[None]
        with torch.no_grad():
            out = glass.hf(ids, output_hidden_states=True).hidden_states[2]
        rows.append(out[0, held.skip :])
    x = torch.cat(rows)
    site = Site("resid_post", 1)
    made = torch.zeros_like(x)
    for r, row in enumerate(x):
        h = block.encoders[site] @ row + block.bias
        best = h.topk(8)
        made[r] = torch.relu(best.values) @ block.decoders[site][best.indices] + block.offsets[site]
    expected = 1 - float((x - made).square().sum() / (x - x.mean(0)).square().sum())
    assert result.payload["held_out"] == len(x)
    assert result.payload["dictionaries"][0]["explained_variance"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("kind", ["record", "gated", "clt"])
def test_an_interrupted_training_ends_at_the_same_weights(kind: str, glass: Model, text: str, tmp_path: Path) -> None:
    where: dict[str, Any] = {"layers": "0-1"} if kind == "clt" else {"site": ["mlp_out.1"]}
    more = asked(text) if kind != "gated" else asked(text, k=[], penalty=[0.1])
    whole = train(glass, kind, out=tmp_path / "whole", **where, **more)

    def stop_at(step: int) -> Callable[[dict[str, Any]], None]:
        def watch(line: dict[str, Any]) -> None:
            if line["step"] == step:
                raise KeyboardInterrupt

        return watch

    for step in (7, 8, 30):
        with pytest.raises(KeyboardInterrupt):
            train(glass, kind, out=tmp_path / "parts", checkpoint_seconds=0, watch=stop_at(step), **where, **more)
    seen: list[int] = []
    parts = train(glass, kind, out=tmp_path / "parts", watch=lambda line: seen.append(line["step"]), **where, **more)
    assert seen[0] == 30  # the step of the interrupt was not kept, and nothing before it is made again
    assert parts.payload["hash"] == whole.payload["hash"]
    assert parts.payload["dictionaries"] == whole.payload["dictionaries"]  # curves too


@pytest.mark.slow
def test_a_killed_command_goes_on_to_the_same_hash(text: str, tmp_path: Path) -> None:
    def command(out: str) -> list[str]:
        line = "train transcoder --model glassllm --layers 1-2 --tokens 6000 --features 96 --k 8 --batch 128"
        line += " --context 64 --seed 3 --checkpoint-seconds 0 --json"
        return [sys.executable, "-m", "hooke", *line.split(), "--text", text, "--out", str(tmp_path / out)]

    whole = json.loads(subprocess.run(command("whole"), capture_output=True, check=True).stdout)
    log = tmp_path / "parts" / "log.jsonl"
    killed = subprocess.Popen(command("parts"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while (not log.exists() or log.read_text().count("\n") < 5) and killed.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert killed.poll() is None, "it was done before it could be killed"
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "parts" / "dictionary.json").exists()
    assert (tmp_path / "parts" / "checkpoint.safetensors").exists()
    resumed = json.loads(subprocess.run(command("parts"), capture_output=True, check=True).stdout)
    assert resumed["payload"]["hash"] == whole["payload"]["hash"]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts").iterdir() if path.name != ".lock"}
    done = subprocess.run(command("parts"), capture_output=True, check=True, text=True)
    assert json.loads(done.stdout)["id"] == resumed["id"] and "finished before" in done.stderr
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_sweep_is_what_each_would_be_alone(glass: Model, text: str, tmp_path: Path) -> None:
    both = train(glass, "batchtopk", out=tmp_path / "s", site=["mlp_out"], layers="1", **asked(text, k=[4, 8]))
    rows = both.payload["dictionaries"]
    assert [row["folder"] for row in rows] == ["k-4", "k-8"] and rows[0]["l0"] < rows[1]["l0"]
    assert rows[0]["explained_variance"] < rows[1]["explained_variance"]
    alone = train(glass, "batchtopk", out=tmp_path / "a", site=["mlp_out.1"], **asked(text, k=[4]))
    assert alone.payload["dictionaries"][0]["hash"] == rows[0]["hash"]
    (block,) = load_dictionary(tmp_path / "s" / "k-8", glass)
    assert block.gate == "jumprelu" and block.threshold is not None and float(block.threshold.min()) > 0


def test_it_stops_when_nothing_gets_better(glass: Model, text: str, tmp_path: Path) -> None:
    with pytest.raises(HookeError, match="the loss is"):
        train(glass, "topk", out=tmp_path / "bad", site=["mlp_out.1"], **asked(text, lr=1e30))
    slow = train(glass, "topk", out=tmp_path / "t", site=["mlp_out.1"], **asked(text, lr=1e-12, patience=2))
    assert "held out was not explained better for 2 looks" in slow.payload["stopped"]
    assert slow.payload["steps"] < 6000 // 128


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("topkk", {}, "did you mean 'topk'"),
    ("transcoder", {"site": ["mlp_out.1"]}, "choose with --layers"),
    ("transcoder", {"layers": "9"}, "layers 0 to 3"),
    ("transcoder", {"layers": "2-1"}, "there are no layers"),
    ("transcoder", {"layers": "one"}, "cannot read the layers"),
    ("transcoder", {"layers": "1,1"}, "named twice"),
    ("transcoder", {"gate": "magic"}, "no gate 'magic'"),
    ("topk", {"gate": "relu"}, "is a gate by itself"),
    ("topk", {"site": ["resid_post.9"]}, "no resid_post.9"),
    ("topk", {"site": ["nowhere.1"]}, "no point called"),
    ("topk", {"site": ["resid_post.1"], "layers": "1"}, "these sites name their layers"),
    ("topk", {"site": ["pattern.1"]}, "pattern"),
    ("topk", {"penalty": [1.0], "k": []}, "has no penalty"),
    ("relu", {}, "has no k"),
    ("topk", {"k": [4, 4]}, "given twice"),
    ("topk", {"k": [97]}, "k is 97"),
    ("relu", {"k": [], "penalty": [-1.0]}, "above zero"),
    ("topk", {"features": 0}, "features must be at least 1"),
    ("topk", {"features": 10**12}, "GB while they train"),
    ("topk", {"batch": 10**6}, "less than a batch"),
    ("topk", {"tokens": 10**9}, "tokens and 1,000,000,000 are asked for"),
    ("topk", {"tokens": 20}, "ask for more --tokens"),
    ("topk", {"text": ["nothing-here.txt"]}, "nothing-here"),
    ("record", {"precision": "int4"}, "no precision 'int4'"),
]


@pytest.mark.parametrize(("kind", "changes", "says"), BAD, ids=[f"{kind} {list(c)}" for kind, c, _ in BAD])
def test_what_cannot_be_is_one_line(
    kind: str, changes: dict[str, Any], says: str, glass: Model, text: str, tmp_path: Path
) -> None:
    with pytest.raises(HookeError, match=says) as error:
        train(glass, kind, out=tmp_path / "t", **asked(text, **changes))
    assert "\n" not in str(error.value)
    assert not list(tmp_path.rglob("*.json"))  # the same folder is free for the right command


def test_folders_of_others_are_left_alone(glass: Model, text: str, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("all of it")
    with pytest.raises(HookeError, match="something else in it"):
        train(glass, "topk", out=tmp_path / "full", **asked(text))
    with pytest.raises(HookeError, match="is a file"):
        train(glass, "topk", out=tmp_path / "full" / "thesis.txt", **asked(text))
    train(glass, "topk", out=tmp_path / "t", site=["mlp_out.1"], **asked(text, tokens=1000))
    with pytest.raises(HookeError, match=r"holds another training: it differs in seed \(3 there, 4 here\)"):
        train(glass, "topk", out=tmp_path / "t", site=["mlp_out.1"], **asked(text, tokens=1000, seed=4))
    from filelock import FileLock

    with FileLock(tmp_path / "t" / ".lock"), pytest.raises(HookeError, match="another process is training"):
        train(glass, "topk", out=tmp_path / "t", site=["mlp_out.1"], **asked(text, tokens=1000))


def test_a_checkpoint_that_is_not_whole_is_refused(glass: Model, text: str, tmp_path: Path) -> None:
    def stop(line: dict[str, Any]) -> None:
        if line["step"] == 5:
            raise KeyboardInterrupt

    more = {"out": tmp_path / "t", "site": ["mlp_out.1"], **asked(text)}
    with pytest.raises(KeyboardInterrupt):
        train(glass, "topk", checkpoint_seconds=0, watch=stop, **more)
    path = tmp_path / "t" / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(HookeError, match="no checkpoint of this training"):
        train(glass, "topk", **more)


# ---- from a harvest that is kept -----------------------------------------------------------------


@pytest.fixture(scope="module")
def harvested(glass: Model, text: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A harvest in several shards of the text that trainings here read, which is a few long passages."""
    path = tmp_path_factory.mktemp("harvest") / "kept"
    made = plan(glass, [text], n_tokens=6000, context=64, shard_tokens=1500, seed=3)
    assert len(made.shards) == 4
    store(glass, made, ["mlp_in.1", "mlp_out.1", "resid_post.2"], path)
    return path


def without_text(**changes: Any) -> dict[str, Any]:
    return {"features": 96, "k": [8], "batch": 128, "seed": 3} | changes


def test_a_harvest_gives_the_weights_that_its_text_gives(
    glass: Model, text: str, harvested: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last bit, with the same shards, though of these other rows are held out than were asked for then."""
    import hooke.methods.train as trains

    def none(*_: Any, **__: Any) -> None:
        raise AssertionError("the model ran")

    with monkeypatch.context() as patch:
        patch.setattr("hooke.dictionaries.feed.shard", none)
        read = train(glass, "transcoder", out=tmp_path / "read", layers="1", activations=harvested, **without_text())
    monkeypatch.setattr(trains, "shard_tokens", lambda *_: 1500)
    run = train(glass, "transcoder", out=tmp_path / "run", layers="1", **asked(text))
    assert read.payload["hash"] == run.payload["hash"]
    assert read.payload["dictionaries"][0]["explained_variance"] == run.payload["dictionaries"][0]["explained_variance"]
    assert (read.payload["tokens"], read.payload["text"]) == (run.payload["tokens"], run.payload["text"])
    again = train(glass, "topk", out=tmp_path / "two", site=["resid_post.2"], activations=harvested, **without_text())
    assert again.payload["dictionaries"][0]["explained_variance"] > 0.05


def test_part_of_a_harvest_is_what_the_model_gives_for_it(glass: Model, harvested: Path) -> None:
    stored = open_store(harvested, model=glass)
    for keep in (stored.plan.document % 3 == 1, np.arange(len(stored.plan.document)) % 2 == 0):
        for whole in (False, True):
            some = subset(stored.plan, keep, whole=whole)
            for number in range(len(some.shards)):
                read, run = stored.part(some, number), shard(glass, some, number, stored.sites)
                assert len(read) == some.kept(number) > 0
                for name in ("ids", "document", "position"):
                    assert torch.equal(getattr(read, name), getattr(run, name))
                for site in stored.sites:
                    torch.testing.assert_close(read.values[site], run.values[site], atol=1e-5, rtol=1e-5)


def test_a_harvest_that_does_not_fit_is_one_line(glass: Model, text: str, harvested: Path, tmp_path: Path) -> None:
    def says(match: str, **changes: Any) -> None:
        given = {"layers": "1", "activations": harvested} | without_text(**changes)
        with pytest.raises(HookeError, match=match) as error:
            train(glass, "transcoder", out=tmp_path / "no", **given)
        assert "\n" not in str(error.value)

    says("holds no mlp_in.2, mlp_out.2", layers="2")
    says("already", text=[text])
    says("already", tokens=100)
    says("already", context=32)
    says("holds no harvest", activations=tmp_path)
    half = tmp_path / "half"
    shutil.copytree(harvested, half)
    for name in ("manifest.parquet", "shard-00001.json", "shard-00001.safetensors"):
        (half / name).unlink()
    says("not finished: 1 of 4", activations=half)
    assert not (tmp_path / "no").exists()
