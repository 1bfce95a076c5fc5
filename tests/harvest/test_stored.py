"""Shards in a folder: whole or not at all, gone on with, checked when they are read."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from pyarrow.parquet import read_table

from hooke import HookeError, Model, Site
from hooke.harvest import Plan, Stored, estimate, open_store, plan, shard, store, stored, storing
from hooke.harvest.places import Place
from hooke.methods.probe import random_twin

SITES = ["mlp_in.1", "resid_post.2"]


@pytest.fixture(scope="module")
def made(glass: Model, book: str) -> Plan:
    return plan(glass, [book], n_tokens=1000, context=64, shard_tokens=250)


@pytest.fixture(scope="module")
def whole(glass: Model, made: Plan, tmp_path_factory: pytest.TempPathFactory) -> Stored:
    return store(glass, made, SITES, tmp_path_factory.mktemp("whole"))


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_what_is_stored_is_what_a_shard_gives(glass: Model, made: Plan, whole: Stored) -> None:
    again = open_store(whole.place, model=glass)
    assert again.hash == whole.hash and again.sites == [Site.parse(s) for s in SITES] and not again.missing
    for number in range(len(made.shards)):
        direct, kept = shard(glass, made, number, SITES), again.shard(number)
        for name in ("ids", "document", "position"):
            assert torch.equal(getattr(direct, name), getattr(kept, name))
        assert all(torch.equal(direct.values[site], kept.values[site]) for site in direct.values)
        one = again.shard(number, ["resid_post.2"])
        assert list(one.values) == [Site("resid_post", 2)] and len(one) == made.kept(number)


def test_another_reader_reads_the_shards(whole: Stored) -> None:
    from safetensors import safe_open
    from safetensors.torch import load_file

    path = Path(whole.place.path, "shard-00000.safetensors")
    theirs, ours = load_file(path), whole.shard(0)
    assert set(theirs) == {*SITES, "ids", "document", "position"}
    assert all(torch.equal(theirs[str(site)], x) for site, x in ours.values.items())
    with safe_open(path, "pt") as file:
        assert file.metadata()["shard"] == "0"


def test_the_table_says_what_the_shards_hold(made: Plan, whole: Stored) -> None:
    table = read_table(Path(whole.place.path, "manifest.parquet"))
    assert table.column_names[:5] == ["shard", "file", "n_rows", "bytes", "sha256"]
    assert sum(table["n_rows"].to_pylist()) == 1000 and table.num_rows == len(made.shards)
    for row in table.to_pylist():
        x = whole.shard(row["shard"]).values
        for entry in row["sites"]:
            values = x[Site.parse(entry["site"])].double()
            assert torch.allclose(torch.tensor(entry["sum"], dtype=torch.float64), values.sum(0))
            assert torch.allclose(torch.tensor(entry["sumsq"], dtype=torch.float64), values.square().sum(0))
            assert entry["mean_norm"] == pytest.approx(float(values.norm(dim=1).mean()))
        path = Path(whole.place.path, row["file"])
        assert path.stat().st_size == row["bytes"]
        documents = whole.shard(row["shard"]).document
        assert (row["first_document"], row["last_document"]) == (int(documents.min()), int(documents.max()))


def test_the_same_again_changes_nothing(glass: Model, made: Plan, whole: Stored, monkeypatch) -> None:
    before = {path: path.stat().st_mtime_ns for path in Path(whole.place.path).iterdir()}
    monkeypatch.setattr(Model, "run", lambda *_, **__: pytest.fail("it was run again"))
    again = store(glass, made, SITES, whole.place.path)
    assert again.hash == whole.hash
    assert {path: path.stat().st_mtime_ns for path in Path(whole.place.path).iterdir()} == before


def test_an_interrupted_harvest_goes_on(glass: Model, made: Plan, whole: Stored, tmp_path: Path, monkeypatch) -> None:
    def stop(done: float) -> None:
        if done > 0.6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store(glass, made, SITES, tmp_path, progress=stop)
    part = open_store(tmp_path)
    assert part.missing and set(part.missing) < set(range(len(made.shards)))
    with pytest.raises(HookeError, match="is not finished"):
        part.shard(part.missing[0])
    ran: list[int] = []
    plain = storing.write_shard
    monkeypatch.setattr(
        storing,
        "write_shard",
        lambda model, plan, number, *rest: ran.append(number) or plain(model, plan, number, *rest),
    )
    told: list[float] = []
    again = store(glass, made, SITES, tmp_path, progress=told.append)
    assert ran == part.missing and again.hash == whole.hash and told == sorted(told) and told[-1] == 1
    assert content(tmp_path) == content(Path(whole.place.path))


def test_more_threads_go_on_as_it_began(glass: Model, made: Plan, whole: Stored, tmp_path: Path) -> None:
    shutil.copytree(whole.place.path, tmp_path / "part")
    for name in ("manifest.parquet", "shard-00001.safetensors", "shard-00002.json"):
        (tmp_path / "part" / name).unlink()
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        again = store(glass, made, SITES, tmp_path / "part")
        assert torch.get_num_threads() == threads + 1
    finally:
        torch.set_num_threads(threads)
    assert again.hash == whole.hash and content(tmp_path / "part") == content(Path(whole.place.path))


KILLED = """
import os, signal, sys
import hooke
from hooke.harvest import plan, store, stored, storing
model = hooke.load("glassllm", device="cpu")
made = plan(model, [sys.argv[3]], n_tokens=1000, context=64, shard_tokens=250)
at = float(sys.argv[2])
def tell(done):
    print(done, flush=True)
    if done > at:
        os.kill(os.getpid(), signal.SIGKILL)
if at < 0:  # in the middle of a file
    import hooke.harvest.tensors as tensors
    def half(path, *rest):
        path.write_bytes(b"half of a file")
        os.kill(os.getpid(), signal.SIGKILL)
    stored.write_tensors = half
store(model, made, ["mlp_in.1", "resid_post.2"], sys.argv[1], progress=tell)
"""


@pytest.mark.parametrize("at", ["0.1", "0.6", "-1"])
def test_killed_at_any_moment_nothing_is_lost(
    glass: Model, made: Plan, whole: Stored, tmp_path: Path, book: str, at: str
) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), at, book], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    finished = {n: (tmp_path / stored.file_name(n)).stat().st_mtime_ns for n in open_store(tmp_path).rows}
    assert len(finished) == {"0.1": 0, "0.6": 2, "-1": 0}[at]
    again = store(glass, made, SITES, tmp_path)
    assert again.hash == whole.hash
    assert all((tmp_path / stored.file_name(n)).stat().st_mtime_ns == mtime for n, mtime in finished.items())
    mine = {name: data for name, data in content(tmp_path).items() if not name.startswith(".hooke-tmp-")}
    assert mine == content(Path(whole.place.path))


def test_two_writers_of_one_harvest(glass: Model, made: Plan, whole: Stored, tmp_path: Path, book: str) -> None:
    """A second process that writes the same shards at the same time."""
    other = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path), "9", book], stdout=subprocess.PIPE)
    try:
        end = time.monotonic() + 120
        while not (tmp_path / "spec.json").exists() and time.monotonic() < end:
            time.sleep(0.01)
        again = store(glass, made, SITES, tmp_path)
    finally:
        other.communicate(timeout=120)
    assert other.returncode == 0 and again.hash == whole.hash
    assert content(tmp_path) == content(Path(whole.place.path))


def test_another_harvest_is_refused(glass: Model, made: Plan, whole: Stored, tmp_path: Path, book: str) -> None:
    folder = whole.place.path
    with pytest.raises(HookeError, match=r"another harvest: sites .*mlp_in.1.* there, .*resid_post.3.* here"):
        store(glass, made, ["resid_post.3"], folder)
    with pytest.raises(HookeError, match="dtype float32 there, bfloat16 here"):
        store(glass, made, SITES, folder, dtype=torch.bfloat16)
    other = plan(glass, [book], n_tokens=1000, context=64, shard_tokens=250, seed=1)
    with pytest.raises(HookeError, match=r"plan .* there, .* here; seed 0 there, 1 here"):
        store(glass, other, SITES, folder)
    twin = random_twin(glass)
    with pytest.raises(HookeError, match="another harvest: model"):
        store(twin, made, SITES, folder)
    with pytest.raises(HookeError, match="another model: weights"):
        open_store(folder, model=twin)
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(HookeError, match=r"holds thesis.txt and no harvest; choose a folder that is empty"):
        store(glass, made, SITES, tmp_path)
    with pytest.raises(HookeError, match="is a file"):
        store(glass, made, SITES, tmp_path / "thesis.txt")
    with pytest.raises(HookeError, match="no engine 'spark'"):
        store(glass, made, SITES, tmp_path, engine="spark")
    with pytest.raises(HookeError, match=r"not torch\.int32"):
        store(glass, made, SITES, tmp_path / "new", dtype=torch.int32)


def test_a_damaged_folder_says_so(glass: Model, made: Plan, whole: Stored, tmp_path: Path) -> None:
    def copied() -> Path:
        folder = tmp_path / f"copy{len(list(tmp_path.iterdir()))}"
        shutil.copytree(whole.place.path, folder)
        return folder

    folder = copied()
    path = folder / "shard-00001.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-1])  # cut short: it counts as missing, and is made again
    assert open_store(folder).missing == [1]
    opened = Stored(Place.of(folder), whole.spec, whole.plan, whole.rows)
    with pytest.raises(HookeError, match="cut short"):
        opened.shard(1)
    assert store(glass, made, SITES, folder).hash == whole.hash and path.read_bytes() == data
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(HookeError, match=r"shard-00001.safetensors: .* is damaged; remove the file"):
        open_store(folder).shard(1)
    path.write_bytes((folder / "shard-00002.safetensors").read_bytes()[: len(data)].ljust(len(data), b"\0"))
    with pytest.raises(HookeError):
        open_store(folder).shard(1)
    for name, text in (
        ("spec.json", "{}"),
        ("spec.json", "no"),
        ("plan.safetensors", "no"),
        ("manifest.parquet", "no"),
        ("manifest.parquet", ""),
    ):
        folder = copied()
        (folder / name).write_text(text)
        with pytest.raises(HookeError, match=name):
            open_store(folder)
    folder = copied()
    (folder / "manifest.parquet").unlink()
    (folder / "shard-00000.json").write_text('{"shard": "x"}')
    assert open_store(folder).missing == [0]
    with pytest.raises(HookeError, match="holds no harvest"):
        open_store(tmp_path / "nowhere")


def test_a_shard_or_site_that_is_not_there(whole: Stored) -> None:
    with pytest.raises(HookeError, match="there is no shard 99"):
        whole.shard(99)
    with pytest.raises(HookeError, match=r"holds no resid_post.0; there are mlp_in.1, resid_post.2"):
        whole.shard(0, ["resid_post.0"])


def test_a_link_out_of_the_folder_is_refused(whole: Stored, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(whole.place.path, folder)
    shutil.move(folder / "shard-00000.safetensors", tmp_path / "elsewhere")
    (folder / "shard-00000.safetensors").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(HookeError, match="leads out of its folder"):
        open_store(folder).shard(0)


def test_no_room_is_said_before_anything_is_run(glass: Model, made: Plan, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=storing.SPARE + 1000))
    monkeypatch.setattr(Model, "run", lambda *_, **__: pytest.fail("it was run"))
    with pytest.raises(HookeError, match=r"takes 0.00 GB more and .* has 0.06 GB free; ask for fewer"):
        store(glass, made, SITES, tmp_path / "new")


def test_what_it_will_take(glass: Model, made: Plan, whole: Stored, tmp_path: Path) -> None:
    found = estimate(glass, made, SITES, tmp_path / "not" / "yet")
    real = sum(size for name, size in whole.place.sizes().items() if name.endswith(".safetensors"))
    assert 0.8 * real < found.bytes < real and found.seconds > 0
    assert found.free == shutil.disk_usage(tmp_path).free or abs(found.free - shutil.disk_usage(tmp_path).free) < 2**30
    assert not (tmp_path / "not").exists()
    assert estimate(glass, made, SITES, "memory://x").free is None


def test_values_that_are_not_finite_are_refused(glass: Model, made: Plan, tmp_path: Path, monkeypatch) -> None:
    plain = stored.shard

    def huge(*args, **kwargs):
        found = plain(*args, **kwargs)
        found.values[Site("mlp_in", 1)][3, 4] = float("inf")
        return found

    monkeypatch.setattr(stored, "shard", huge)
    with pytest.raises(HookeError, match=r"values at mlp_in.1 are not finite in float16; keep them in float32"):
        store(glass, made, SITES, tmp_path, dtype=torch.float16)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_comes_back(glass: Model, made: Plan, whole: Stored, tmp_path: Path, dtype: torch.dtype) -> None:
    found = store(glass, made, SITES, tmp_path, dtype=dtype)
    for site, x in found.shard(0).values.items():
        assert x.dtype == dtype and torch.equal(x, whole.shard(0).values[site].to(dtype))


def test_a_folder_behind_an_address(glass: Model, made: Plan, whole: Stored) -> None:
    from fsspec import filesystem

    folder = "memory://harvests/one"

    def stop(done: float) -> None:
        if done > 0.6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store(glass, made, SITES, folder, progress=stop)
    assert open_store(folder).missing
    there = store(glass, made, SITES, folder)
    assert there.hash == whole.hash
    local = content(Path(whole.place.path))
    fs = filesystem("memory")
    assert {path.rsplit("/", 1)[-1]: fs.cat_file(path) for path in fs.ls("/harvests/one", detail=False)} == local
    x = open_store(folder, model=glass).shard(2, ["mlp_in.1"])
    assert torch.equal(x.values[Site("mlp_in", 1)], whole.shard(2).values[Site("mlp_in", 1)])
    fs.pipe_file("/harvests/one/shard-00002.safetensors", b"short")
    assert open_store(folder).missing == [2]
    with pytest.raises(HookeError, match="cannot use nothing://x"):
        store(glass, made, SITES, "nothing://x")
    with pytest.raises(HookeError, match="no harvest"):
        open_store("memory://empty")


def test_a_storage_that_fails_is_one_line(glass: Model, made: Plan, monkeypatch) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    monkeypatch.setattr(
        MemoryFileSystem, "put_file", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("no credit\nmore"))
    )
    with pytest.raises(HookeError, match=r"cannot write .*plan.safetensors: no credit$"):
        store(glass, made, SITES, "memory://harvests/two")


def test_specs_say_what_a_harvest_is_of(glass: Model, whole: Stored) -> None:
    spec = json.loads(Path(whole.place.path, "spec.json").read_text())
    assert spec["model"]["weights_sha256"] == glass.weights_hash() and spec["model"]["tokenizer_sha256"]
    assert spec["sites"] == SITES and spec["texts"]["sources"] == ["book.jsonl"] and spec["plan"] == whole.plan.hash
    assert os.sep not in json.dumps(spec)
