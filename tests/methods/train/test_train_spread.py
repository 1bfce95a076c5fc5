"""`torchrun … -m hooke train`: what one process trains, killed or not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.slow
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    from pydoc_data.topics import topics

    path = tmp_path_factory.mktemp("text") / "topics.txt"
    path.write_text("\n\n".join(topics[name] for name in sorted(topics)[:40]), encoding="utf-8")
    return str(path)


def command(text: str, out: Path, *more: str, two: bool = True, kind: str = "topk") -> list[str]:
    line = "--model glassllm --tokens 6000 --features 96 --k 8 --batch 32 --context 64 --seed 3 --precision float32"
    line += " --checkpoint-seconds 0 --json"
    start = TORCHRUN if two else [sys.executable]
    return [*start, "-m", "hooke", "train", kind, *line.split(), "--text", text, "--out", str(out), *more]


def made(arguments: list[str]) -> dict[str, Any]:
    """The one result that a command prints, on however many processes."""
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    return json.loads(line)


def check_alike(one: dict[str, Any], other: dict[str, Any]) -> None:
    rows = [result["payload"]["dictionaries"] for result in (one, other)]
    for a, b in zip(*rows, strict=True):
        curves = zip(a["curve"]["loss"], b["curve"]["loss"], strict=True)
        assert len(a["curve"]["loss"]) >= 150 and max(abs(x - y) for x, y in curves) <= 1e-6
        assert a["explained_variance"] == pytest.approx(b["explained_variance"], abs=1e-6)


def test_two_processes_end_where_one_does_killed_or_not(text: str, tmp_path: Path) -> None:
    where = ("--site", "mlp_out.1")
    one = made(command(text, tmp_path / "one", *where, two=False))
    two = made(command(text, tmp_path / "two", *where))
    check_alike(one, two)
    assert two["provenance"]["spread"] == "2x1" and two["payload"]["hash"] != one["payload"]["hash"]
    killed = subprocess.Popen(
        command(text, tmp_path / "killed", *where), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    log, deadline = tmp_path / "killed" / "log.jsonl", time.monotonic() + 300
    while (not log.exists() or log.read_text().count("\n") < 20) and killed.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert killed.poll() is None, "it was done before it could be killed"
    for process in (psutil.Process(killed.pid), *psutil.Process(killed.pid).children(recursive=True)):
        process.kill()
    killed.wait()
    assert (tmp_path / "killed" / "checkpoint.safetensors").exists()
    shutil.copytree(tmp_path / "killed", tmp_path / "by one")
    assert made(command(text, tmp_path / "killed", *where))["payload"]["hash"] == two["payload"]["hash"]
    by_one = made(command(text, tmp_path / "by one", *where, two=False))
    check_alike(one, by_one)
    assert by_one["provenance"]["spread"] == "1x1"
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "two").iterdir() if path.name != ".lock"}
    again = made(command(text, tmp_path / "two", "--spread", "dictionary", *where))
    assert again["id"] == two["id"] and before == {path: path.stat().st_mtime_ns for path in before}


def test_a_dictionary_over_two_processes_is_one(text: str, tmp_path: Path) -> None:
    where = ("--layers", "1-2", "--patience", "20")
    one = made(command(text, tmp_path / "one", *where, two=False, kind="clt"))
    check_alike(one, made(command(text, tmp_path / "two", *where, "--spread", "dictionary", kind="clt")))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--batch", "33"], "a batch of 33 rows does not divide over 2 processes; give another --batch"),
        (["--lr", "1e30"], "a smaller --lr may help"),
    ],
)
def test_what_cannot_be_is_one_line_of_all(more: list[str], says: str, text: str, tmp_path: Path) -> None:
    asked = command(text, tmp_path / "bad", "--site", "mlp_out.1", *more)
    done = subprocess.run(asked, capture_output=True, text=True, timeout=300)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("hooke: ")]
    assert says in line and done.returncode != 0 and not done.stdout
    assert not (tmp_path / "bad" / "result.json").exists()
