"""The door for files: what is refused, in one line, quickly, and with little memory."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hooke import files
from hooke.errors import HookeError
from hooke.files import (
    MAX_DEPTH,
    open_file,
    parse_json,
    path_of,
    read_bytes,
    read_json,
    sweep,
    tensor_header,
    within,
    write_atomic,
)
from hooke.results import load_result
from hooke.results.tensors import read_tensors
from made_up import unknown


def one_line(error: pytest.ExceptionInfo[HookeError]) -> str:
    text = str(error.value)
    assert text and "\n" not in text and text.isprintable() and len(text) < 1500
    return text


# ---- what is no regular file ---------------------------------------------------------------------


@pytest.fixture
def odd(tmp_path, monkeypatch):
    """Things with names that are no files, by what they are."""
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    os.mkfifo("pipe")
    server = socket.socket(socket.AF_UNIX)
    server.bind("socket")
    Path("folder").mkdir()
    Path("loop").symlink_to("loop")
    Path("to-pipe").symlink_to("pipe")
    yield {
        "pipe": "a named pipe", "to-pipe": "a named pipe", "socket": "a socket", "folder": "a folder",
        "/dev/zero": "a device", "/dev/null": "a device", "loop": "Too many levels", "none": "no file",
        "a" * 300: "too long", "zero\0byte": "null byte",
    }  # fmt: skip
    server.close()


def test_only_regular_files_are_read_and_nothing_blocks(odd):
    for name, what in odd.items():
        begin = time.monotonic()
        for read in (lambda n: read_bytes(n, 100), read_json, lambda n: open_file(n, 100)):
            with pytest.raises(HookeError, match=what) as error:
                read(name)
            one_line(error)
        assert time.monotonic() - begin < 2


def test_a_pipe_that_takes_the_place_of_a_file_is_not_read(tmp_path, monkeypatch):
    """What was looked at by name may be something else when it is opened."""
    path = tmp_path / "file.json"
    path.write_text("{}")
    real = os.open

    def swapped(name, *rest):
        path.unlink()
        os.mkfifo(path)
        return real(name, *rest)

    monkeypatch.setattr(os, "open", swapped)
    with pytest.raises(HookeError, match="named pipe"):
        read_json(path)


def test_sizes_are_known_before_memory_is_taken(tmp_path):
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.write(b"a")
        file.truncate(3 << 30)
    with pytest.raises(HookeError, match="3072 MB; files over 1 MB are not read"):
        read_bytes(path, 2**20)
    with pytest.raises(HookeError, match="almost all holes"):
        open_file(path)
    path.write_bytes(b"12345")
    with pytest.raises(HookeError, match="5 bytes; files over 4 bytes"):
        read_bytes(path, 4)
    assert read_bytes(path, 5) == b"12345"


def test_a_file_that_grows_while_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "grows"
    path.write_bytes(b"1234")
    real = os.fdopen

    def grown(handle, mode):
        path.write_bytes(b"x" * 100_000)
        return real(handle, mode)

    monkeypatch.setattr(os, "fdopen", grown)
    with pytest.raises(HookeError, match="too large"):
        read_bytes(path, 4)


def test_names_and_links_stay_in_their_folder(tmp_path):
    folder = tmp_path / "model"
    (folder / "deep").mkdir(parents=True)
    (tmp_path / "secret").write_text("{}")
    (folder / "file").write_text("{}")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "fine").symlink_to("file")
    (folder / "deep" / "up").symlink_to("../file")
    for name in ("file", "fine", "deep/up", "deep/../file"):
        assert read_json(folder / name, folder=folder) == {}
    for name in ("../secret", "link", "/etc/hostname", "deep/../../secret", "."):
        with pytest.raises(HookeError, match="leads out of its folder"):
            read_json(folder / name, folder=folder)


def test_the_hubs_cache_is_made_of_links(tmp_path):
    blobs, snapshot = tmp_path / "models--a--b" / "blobs", tmp_path / "models--a--b" / "snapshots" / "c0ffee"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    (blobs / "1234").write_text("{}")
    (snapshot / "config.json").symlink_to("../../blobs/1234")
    assert read_json(snapshot / "config.json", folder=snapshot) == {}
    (tmp_path / "secret").write_text("{}")
    (snapshot / "other.json").symlink_to("../../../secret")
    with pytest.raises(HookeError, match="leads out"):
        within(snapshot / "other.json", snapshot)


@pytest.mark.parametrize("text", ["~nobody-of-this-name/x", "a" * 900, "a/" * 3000, "zero\0byte"])
def test_what_cannot_be_a_path_is_one_line(text):
    with pytest.raises(HookeError, match="is no path") as error:
        path_of(text)
    one_line(error)


# ---- JSON ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text, message", [
    ("", "not JSON"), ("{", "not JSON"), ("\x00", "not JSON"), ('{"a": 1} x', "not JSON"), ("[" * 10**6, "not JSON"),
    ('{"a": 1, "a": 2}', "'a' stands there twice"), ('[{"b": {"c": 1, "c": 1}}]', "'c' stands there twice"),
    ("[NaN]", "NaN is no number"), ('{"a": -Infinity}', "Infinity is no number"), ("[1e400]", "too large for a number"),
    ("[" + "9" * 25 + "]", "too large for a whole number"), ("[-18446744073709551616]", "too large for a whole number"),
    ("[" + "9" * 5000 + "]", "too large for a whole number"),
    ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "nests too deeply"),
    ('{"a":' * (MAX_DEPTH + 1) + "1" + "}" * (MAX_DEPTH + 1), "nests too deeply"),
])  # fmt: skip
def test_json_that_could_not_be_kept(text, message):
    with pytest.raises(HookeError, match=message) as error:
        parse_json(text.encode(), "x.json")
    assert one_line(error).startswith("x.json ")


def test_json_that_can_be_kept():
    for value in ({"a": [1, 2.5, -3, None, True, "é😀\u202e\n"]}, [[]] * 50, 2**63, -5, "x", {"": {}}):
        assert parse_json(json.dumps(value).encode(), "x") == value
        assert parse_json(json.dumps(value, ensure_ascii=False).encode(), "x") == value
    deep: list = []
    for _ in range(MAX_DEPTH - 1):
        deep = [deep]
    assert parse_json(json.dumps(deep).encode(), "x") == deep


def test_halves_of_surrogate_pairs_become_the_replacement_character():
    found = parse_json(rb'{"\ud800": "a\udc00b", "ok": "\ud83d\ude00"}', "x")
    assert found == {"\ufffd": "a\ufffdb", "ok": "😀"}


# ---- memory, in processes of their own -------------------------------------------------------------

PEAK = """
import resource, sys
from hooke.errors import HookeError
from hooke.results import load_result
from hooke.viewer import page_bytes, read_file
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
try:
    page_bytes([read_file(sys.argv[1])])
    said = "a page"
except HookeError as error:
    said = str(error)
after = resource.getrusage(resource.RUSAGE_SELF)
print((after.ru_maxrss - before) >> 10, after.ru_utime + after.ru_stime, said)
"""


def peak(path: Path) -> tuple[int, float, str]:
    """(MB that opening a file and making its page takes, seconds of the processor in all, what came of it)."""
    done = subprocess.run([sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    memory, seconds, said = done.stdout.split(" ", 2)
    return int(memory), float(seconds), said.strip()


def beside(folder: Path, size: int, header: dict | None = None) -> Path:
    """A result with a sparse file of so many bytes beside it, which its header fills."""
    result = unknown("note", payload={"text": "a"})
    text = {"__metadata__": {"result": result.id}, "x": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}
    data = json.dumps(header or text).encode()
    with (folder / "r.safetensors").open("wb") as file:
        file.write(len(data).to_bytes(8, "little") + data)
        file.truncate(8 + len(data) + size)
    return result.save(folder / "r.json")


def test_a_sparse_tensor_file_beside_a_result_takes_no_memory(tmp_path):
    """3 GB took 6.2 GB."""
    for size in (3 << 30, 900 << 20, 100 << 20):
        memory, _, said = peak(beside(tmp_path, size))
        assert memory < 100, (size, memory)
        assert "damaged" in said and ("holes" in said or "not read" in said)


def test_a_small_file_of_very_many_values_is_not_parsed(tmp_path):
    """An object takes 64 bytes and more for the two that it has in a file."""
    (tmp_path / "many.json").write_text("[" + "{}," * 5_000_000 + "{}]")
    memory, _, said = peak(tmp_path / "many.json")
    assert "too many values" in said and memory < 40, (memory, said)


@pytest.mark.parametrize(
    "text", ["[" + "[]," * 9999 + "[]]", "[" + "1.5," * 20_000 + "1]", '["😀' + "a" * 200_000 + '"]']
)
def test_what_values_take_is_estimated(monkeypatch, text):
    assert parse_json(text.encode(), "x")
    monkeypatch.setattr("hooke.files.MAX_PARSED", 2**20)
    with pytest.raises(HookeError, match="too many values"):
        parse_json(text.encode(), "x")


def graph(path: Path, nodes: list[dict], links: list[dict]) -> Path:
    metadata = {"slug": "a", "scan": "b", "prompt": "a", "prompt_tokens": ["a"]}
    path.write_text(json.dumps({"metadata": metadata, "qParams": {}, "nodes": nodes, "links": links}))
    return path


@pytest.mark.parametrize("kind", ["features", "heads", "links"])
def test_many_nodes_take_memory_for_themselves_and_not_for_their_square(tmp_path, kind):
    """16,384 nodes in 2 MB took 1.5 GB: as a matrix they are a gigabyte."""
    n = 16_384
    nodes = []
    for i in range(n):
        own = {"kind": "feature" if kind != "heads" else "head", "index": i, "dropped": 0.0}
        if kind == "heads":
            own["position"] = None
        node = {"node_id": f"0_{i}_0", "layer": 0, "ctx_idx": 0, "feature": i, "hooke": own}
        node["feature_type"] = "cross layer transcoder" if kind != "heads" else "unknown"
        nodes.append(node)
    links = [{"source": f"0_{i}_0", "target": f"0_{(i * 37 + 1) % n}_0", "weight": 1.0 + i} for i in range(n)]
    memory, seconds, said = peak(graph(tmp_path / "g.json", nodes, links if kind != "features" else []))
    assert said == "a page" and memory < 250, memory
    assert seconds < 20


# ---- tensors ---------------------------------------------------------------------------------------


def tensors(path: Path, header: object, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def entry(dtype: str = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize("header, size", [
    ({"a": entry()}, 7), ({"a": entry()}, 9), ({"a": entry(shape=[3])}, 8), ({"a": entry(shape=[2**40, 2**40])}, 8),
    ({"a": entry(shape=[-2])}, 8), ({"a": entry(shape=[2.0])}, 8), ({"a": entry(shape=[1] * 100 + [2])}, 8),
    ({"a": entry(shape="2")}, 8), ({"a": entry("WHAT")}, 8), ({"a": entry(offsets=[8, 0])}, 8), ({"a": entry(offsets=[0])}, 8),
    ({"a": entry(offsets=[0, 8]), "b": entry(offsets=[0, 8])}, 8), ({"a": entry(offsets=[0, 8]), "b": entry(offsets=[4, 12])}, 12),
    ({"a": 3}, 8), ({"a": [1]}, 8), ([], 0), (3, 0), (b"{", 0), (b"", 0), (b"[" * 10_000, 0), (b"\xff\xfe", 0),
    ({"__metadata__": {"result": {"a": 1}}}, 0), ({"__metadata__": [1]}, 0), (b'{"a": 1, "a": 2}', 0),
    ({"a": {**entry(), "dtype": ["F32"]}}, 8), ({"a": {**entry(), "dtype": {}}}, 8),
])  # fmt: skip
def test_headers_that_do_not_fit_their_file(tmp_path, header, size):
    path = tensors(tmp_path / "x.safetensors", header, b"\0" * size)
    with pytest.raises(HookeError) as error, open_file(path) as file:
        tensor_header(path, file)
    one_line(error)
    with pytest.raises(HookeError):
        read_tensors(path)


def test_a_header_longer_than_its_file(tmp_path):
    for length in (2**63, 2**64 - 1, 10**9, 100):
        with pytest.raises(HookeError, match="not whole safetensors"):
            read_tensors(tensors(tmp_path / "x.safetensors", {}, length=length))


def test_arrays_come_back_as_they_were_saved(tmp_path):
    from safetensors.numpy import save_file

    rng = np.random.default_rng(0)
    wanted = {
        "f8": rng.normal(size=(3, 4)), "f4": rng.normal(size=5).astype("f4"), "f2": rng.normal(size=(2, 1, 2)).astype("f2"),
        "i8": rng.integers(-9, 9, 7), "u1": np.arange(3, dtype="u1"), "yes": np.array([True, False]),
        "none": np.zeros((0, 3)), "one": np.array(1.5),
    }  # fmt: skip
    save_file(wanted, tmp_path / "x.safetensors")
    found = read_tensors(tmp_path / "x.safetensors")
    assert found is not None and set(found) == set(wanted)
    for name, array in wanted.items():
        assert (
            found[name].dtype == array.dtype and np.array_equal(found[name], array) and found[name].shape == array.shape
        )
        found[name][...] = 0  # it is ours to change


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "F8_E5M2", "F8_E8M0", "C64", "F4"])
def test_numbers_that_results_do_not_have(tmp_path, dtype):
    from hooke.files import BITS

    size = 8 * BITS[dtype] // 8
    result = unknown("note", payload={})
    header = {"__metadata__": {"result": result.id}, "a": entry(dtype, [8], [0, size])}
    tensors(tmp_path / "r.safetensors", header, b"\0" * size)
    with pytest.raises(HookeError, match=f"type {dtype}") as error:
        load_result(result.save(tmp_path / "r.json"))
    one_line(error)


def test_the_arrays_of_a_result_lie_beside_it(tmp_path):
    made = unknown("note", tensors={"a": np.ones(3)}, payload={})
    (tmp_path / "here").mkdir()
    (tmp_path / "elsewhere").mkdir()
    made.save(tmp_path / "elsewhere" / "r.json")
    (tmp_path / "here" / "r.json").write_text(made.to_json())
    (tmp_path / "here" / "r.safetensors").symlink_to(tmp_path / "elsewhere" / "r.safetensors")
    with pytest.raises(HookeError, match="leads out of its folder"):
        load_result(tmp_path / "here" / "r.json")
    (tmp_path / "here" / "r.safetensors").unlink()
    os.mkfifo(tmp_path / "here" / "r.safetensors")
    with pytest.raises(HookeError, match="named pipe"):
        load_result(tmp_path / "here" / "r.json")


# ---- what killed runs leave ------------------------------------------------------------------------


def old(path: Path, hours: float) -> Path:
    then = time.time() - hours * 3600
    os.utime(path, (then, then))
    return path


def test_what_is_ours_and_older_than_a_day_is_removed(tmp_path, monkeypatch):
    def ours(name: str, hours: float) -> Path:
        path = tmp_path / f".hooke-tmp-{name * 16}"
        path.write_text("half")
        return old(path, hours)

    gone, young = ours("a", 25), ours("b", 23)
    folder = tmp_path / (".hooke-tmp-" + "c" * 16)
    (folder / "model").mkdir(parents=True)
    old(folder / "model", 30)
    old(folder, 30)
    busy = tmp_path / (".hooke-tmp-" + "d" * 16)
    (busy / "scratch").mkdir(parents=True)
    (busy / "scratch" / "growing").write_text("x")  # touched just now
    old(busy / "scratch", 30)
    old(busy, 30)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "kept").write_text("x")
    link = tmp_path / (".hooke-tmp-" + "e" * 16)
    link.symlink_to(precious)
    os.utime(link, (0, 0), follow_symlinks=False)
    others = [".hooke-tmp-", ".hooke-tmp-" + "a" * 15, ".hooke-tmp-" + "A" * 16, "x.hooke-tmp-" + "a" * 16, ".r.json.abcdefgh",
              ".tmp.x", "r.json", ".hooke-tmp-" + "a" * 16 + ".json"]  # fmt: skip
    for name in others:
        (tmp_path / name).write_text("of somebody")
        old(tmp_path / name, 999)
    sweep(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {young.name, busy.name, "precious", *others} and not gone.exists()
    assert (precious / "kept").exists()
    ours("f", 25)
    sweep(tmp_path)  # not again within the hour
    assert (tmp_path / (".hooke-tmp-" + "f" * 16)).exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from hooke import files
import torch
real = os.replace
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
LINKS = {"source": [], "row": [], "weight": [], "of": 0}
GRAPH = {"tokens": [], "nodes": [], "targets": [], "dropped": [], "links": LINKS}
EMPTY = {"graph": GRAPH, "metadata": {}, "state": {}, "units": "features"}
def write_atomic():
    files.write_atomic(where / "r.json", b"x" * 1000)
def result():
    import numpy as np
    from hooke.results import Result
    Result.make("graph", tensors={"a": np.ones(3)}, payload=EMPTY).save(where / "r.json")
def graph():
    from hooke.results.formats.graph_file import write_graph_file
    metadata = {"slug": "a", "scan": "b", "prompt": "", "prompt_tokens": ["a"], "schema_version": 1}
    write_graph_file({"metadata": metadata, "qParams": {}, "nodes": [], "links": []}, where / "g.json")
def state():
    from hooke.results import Result
    from hooke.server.store import Store
    os.replace = real
    store = Store(where)
    name = store.save(Result.make("graph", payload=EMPTY))
    os.replace = die
    store.set_state(name, {"a": 1})
def shard():
    import numpy as np
    from hooke.harvest.shards import Harvest, save_shard
    save_shard(where / "s.safetensors", Harvest({}, {}, np.zeros(1), np.zeros(1), np.zeros(1), []))
def hashes():
    os.environ["HOOKE_HOME"] = str(where)
    from hooke.model.store import cached_hash
    cached_hash([Path(sys.executable)])
def adapter():
    from hooke.model.adapter import save_adapter
    save_adapter(where / "lora", {"a.b": (torch.ones(1, 2), torch.ones(2, 1))}, alpha=1.0, base="x")
def kept():
    from hooke.truth.plain import keep
    keep("m", torch.nn.Linear(2, 2), {"a": 1}, where)
def checkpoint():
    from types import SimpleNamespace
    from hooke.truth.trained import siit
    hf = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(hf.parameters())
    hf(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    siit._save(where / "c.safetensors", SimpleNamespace(sha256="a"), hf, optimizer, (1, 1.0, 1.0, 1))
def install():
    from hooke.model.store import install
    def build(temp, out, step):
        (out / "config.json").write_text("{}")
        (out / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
        return {}
    install(where / "m", "making m", 0, build, False)
for name in sys.argv[2:]:
    where = Path(sys.argv[1], name)
    where.mkdir()
    child = os.fork()
    if not child:
        os.replace = die
        globals()[name]()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL, name
"""
WRITERS = ["write_atomic", "result", "graph", "state", "shard", "hashes", "adapter", "kept", "checkpoint", "install"]
WRITTEN = {
    "r.json",
    "r.safetensors",
    "g.json",
    "s.safetensors",
    "hashes.json",
    "lora",
    "m.safetensors",
    "c.safetensors",
    "m",
}


def test_a_killed_write_leaves_nothing_half_done_and_nothing_for_ever(tmp_path):
    """A process for each writer is killed when all is written and only the last rename is left."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), *WRITERS], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for writer in WRITERS:
        there = list((tmp_path / writer).iterdir())
        (left,) = (path for path in there if path.name.startswith(".hooke-tmp-"))
        assert not {path.name for path in there} & WRITTEN, writer
        sweep(tmp_path / writer)
        assert left.exists()  # it may be at work still
        for path in [*left.rglob("*"), left]:
            old(path, 25)
        files._swept.clear()  # as another process, or an hour later
        write_atomic(tmp_path / writer / "new.json", b"{}")
        assert not left.exists() and (tmp_path / writer / "new.json").exists(), writer


def test_a_name_as_long_as_names_can_be(tmp_path):
    path = tmp_path / ("n" * 250 + ".json")
    write_atomic(path, b"{}")
    assert read_json(path) == {} and [p.name for p in tmp_path.iterdir()] == [path.name]
