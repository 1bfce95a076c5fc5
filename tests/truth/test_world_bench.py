"""bench/synthetic.py on a tiny world: what it trains finds the features, what it prints says so, and it goes on."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hooke.truth.world import SIZES, Size

TINY = Size(n_features=60, d=24, roots=2, latents=16, k=3, depth=2, most=0.9, least=0.05)
PATH = Path(__file__).parents[2] / "bench" / "synthetic.py"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_synthetic", PATH)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    monkeypatch.setitem(SIZES, "small", TINY)
    few = made.Protocol(samples=30_000, batch=128, judged=4000, told=20_000)
    monkeypatch.setitem(made.PROTOCOLS, "small", few)
    both = [made.Setting("batchtopk", 3e-3), made.Setting("record", 3e-3)]
    monkeypatch.setitem(made.SETTINGS, "small", {made.OWN: both, made.EQUAL: [made.Setting("batchtopk", 1e-3)]})
    return made


def test_it_measures_prints_and_goes_on(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{bench.MARKS[0]}\nstale words\n{bench.MARKS[1]}\nafter\n")
    arguments = ["synthetic", "--seeds", "2", "--out", str(tmp_path / "runs"), "--write", str(page)]
    monkeypatch.setattr(sys, "argv", arguments)
    bench.main()
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "stale words" not in text
    first = text.partition("Less BatchTopK")[0].splitlines()
    rows = {cells[0]: cells[1:] for cells in (line.strip("| ").split(" | ") for line in first if line[:1] == "|")}
    f1 = {name: float(cells[0].split(" ±")[0]) for name, cells in rows.items() if cells[0][:1].isdigit()}
    assert set(f1) == {*bench.TITLES.values(), "batchtopk", "record"}
    assert f1["the truth (most frequent features)"] == 1
    # what was trained finds more than directions that nobody trained
    assert min(f1["batchtopk"], f1["record"]) > 1.3 * f1["random directions, own thresholds"]
    assert "Less BatchTopK, seed by seed" in text and "Settings: batchtopk: lr 0.003; record: lr 0.003." in text
    assert f"{bench.EQUAL}:" in text and "Settings: batchtopk: lr 0.001." in text

    def never(*_: Any) -> None:
        raise AssertionError("it was trained already")

    monkeypatch.setattr(bench, "trained", never)
    monkeypatch.setattr(bench, "make_world", never)
    capsys.readouterr()
    bench.main()
    assert page.read_text() == text and "done:" not in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [*arguments, "--samples", "1024"])
    with pytest.raises(AssertionError, match="trained already"):  # other runs than those that were kept
        bench.main()


def test_a_run_is_the_same_again_and_another_seed_is_another(bench: ModuleType) -> None:
    protocol, setting = bench.PROTOCOLS["small"]._replace(samples=4096), bench.Setting("record", 3e-3)

    def run(seed: int) -> dict[str, float]:
        found = bench.run(lambda: bench.make_world("small", seed), setting, protocol, seed)
        return {name: value for name, value in found.items() if name != "speed"}

    assert run(1) == run(1) != run(2)
