"""The scoreboard: its figures are those of slow code, it goes on where it stopped, and it takes other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from hooke import HookeError
from hooke.kernels import exact_products
from hooke.methods.circuit.find import DEFAULT, find_edges
from hooke.methods.computation_graph import ComputationGraph, written
from hooke.truth import scoreboard as module
from hooke.truth.known import KINDS, known, known_names
from hooke.truth.scoreboard import objective_of, scoreboard
from slow_cuts import slow_edges

PROGRAM = """
vocabulary = a b c d
length = 4
counts = selector_width(select(tokens, tokens, ==))
again = counts > 1
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOOKE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_figures_are_those_of_slow_code(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "known_names", lambda kind: {"histogram": "counting", "rank": "sorting"})
    result = scoreboard(kinds=("compiled", "siit"), methods=("eap", "random"), pairs=8, seed=2)
    assert result.payload["models"] == 4 and result.payload["default"] == "eap"
    rng = np.random.default_rng(0)
    for row in result.payload["each"]:
        model = next(known(row["kind"], [row["name"]]))
        computation = ComputationGraph.of(model.model.parts)
        base, source = model.pairs(8, 2)
        given = (model.model, model.model.tokens(base), model.model.tokens(source))
        sizes = find_edges(*given, objective_of(model, base, source), "eap").sizes()
        names = {computation.edge_names(one)[0]: float(sizes[at]) for at, one in _edges(computation)}
        labels = [name in model.edges for name in names]
        own = row["methods"]["eap"]
        assert own["edge_auroc"] == pytest.approx(roc_auc_score(labels, list(names.values())))
        shuffled = [sorted(names, key=lambda n: (-names[n], rng.random()))[: len(model.edges)] for _ in range(300)]
        share = np.mean([[name in model.edges for name in best] for best in shuffled])
        assert own["precision"] == pytest.approx(share, abs=0.03)
        node = {
            n: max(s for e, s in names.items() if n in (e.split("->")[0], e.split("->")[1].split("<")[0]))
            for n in computation.writers[1:]
        }
        expected = roc_auc_score([n in model.nodes for n in node], list(node.values()))
        assert own["node_auroc"] == pytest.approx(expected)
        assert 0 < row["random_weights"]["eap"] <= 1
    eap = next(row for row in result.payload["methods"] if row["name"] == "eap")
    values = [row["methods"]["eap"]["edge_auroc"] for row in result.payload["each"]]
    assert eap["median_edge_auroc"] == pytest.approx(np.median(values))
    assert eap["p10_edge_auroc"] == pytest.approx(np.percentile(values, 10))
    assert set(eap["kinds"]) == {"compiled", "siit"} and eap["kinds"]["siit"]["models"] == 2
    assert {"counting", "sorting"} == set(eap["families"])


def test_precision_does_not_hang_on_the_order_of_equal_scores() -> None:
    labels = np.array([True, False, True, False])
    for turn in (1, -1):  # one true edge stands first; of the other place, three edges are as near
        assert module._precision(np.array([1.0, 0.0, 0.0, 0.0])[::turn], labels[::turn]) == pytest.approx(
            (1 + 1 / 3) / 2
        )
    assert module._precision(np.zeros(4), labels) == 0.5


def _edges(computation: ComputationGraph) -> list[tuple[tuple[int, int], Any]]:
    found = []
    for r, u in computation.edges.nonzero().tolist():
        one = computation.edges & False
        one[r, u] = True
        found.append(((r, u), one))
    return found


def test_the_default_finds_circuits_and_chance_does_not(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MORE_SEEDS", 0)
    result = scoreboard(kinds=("compiled",), methods=(DEFAULT, "random"), pairs=16)
    rows = {row["name"]: row for row in result.payload["methods"]}
    assert result.payload["models"] == 50
    assert rows[DEFAULT]["median_edge_auroc"] >= 0.97 and rows[DEFAULT]["p10_edge_auroc"] >= 0.85
    low, high = rows["random"]["interval"]
    assert low < 0.5 < high or abs(rows["random"]["median_edge_auroc"] - 0.5) < 0.1
    assert rows[DEFAULT]["random_weights"] < rows[DEFAULT]["median_edge_auroc"] - 0.1
    failed = {row["name"]: row for row in result.payload["failures"]}
    assert failed["random"]["models"] > 30
    # single cuts see nothing of parts of which some can be left out
    assert (failed[DEFAULT]["models"], failed[DEFAULT]["worst"]) == (1, "chain-of-three (compiled)")


def test_a_method_is_scored_against_the_circuit_that_it_comes_nearest_to(home: Path) -> None:
    """Of edges that stand in for each other, some have to be found and the others count neither way."""
    model = next(known("compiled", ["two-of-three"]))
    computation, labels = ComputationGraph.of(model.model.parts), model.labels
    base, source = model.pairs(8, 0)
    given = (model.model, model.model.tokens(base), model.model.tokens(source), objective_of(model, base, source))
    false = set(computation.places) - labels.living
    for method in ("exact", "ifr"):
        found = find_edges(*given, method)
        size = {name: float(found.sizes()[at]) for name, at in computation.places.items()}
        each = []
        for circuit in labels.circuits:
            names = sorted(circuit | false)
            each.append(roc_auc_score([name in circuit for name in names], [size[name] for name in names]))
        own = module._scores(model, found)
        assert len(each) == 3 and own["edge_auroc"] == pytest.approx(max(each))
        single = roc_auc_score([name in labels.alone for name in size], [*size.values()])
        assert own["edge_auroc_alone"] == pytest.approx(single)
    # cut one by one, the ways do nothing: they stand among the dead, and that is no longer called right
    assert module._scores(model, find_edges(*given, "exact"))["edge_auroc"] < 0.8


@pytest.mark.parametrize(("kind", "name"), [("compiled", "two-of-three"), ("nodes", "pattern-aba")])
def test_in_how_many_pairs_edges_act_is_counted_one_by_one(kind: str, name: str) -> None:
    model = next(known(kind, [name]))
    parts, labels = model.model.parts, model.labels
    computation, found = ComputationGraph.of(parts), module._labels(model, 5, 3)
    assert set(found["true"]) == labels.true and set(found["redundant"]) == labels.redundant
    assert set(found["dead"]) == set(computation.places) - labels.living - labels.cancelling
    base, source = model.pairs(5, 3)
    clean, other = model.model.run(base).logits, written(model.model, model.model.tokens(source))
    assert clean is not None

    def acts(edges: set[str]) -> int:
        keep = 1 - computation.mask(sorted(edges)).float()[None].repeat(5, 1, 1)
        with torch.no_grad():
            logits = slow_edges(model.model, model.model.tokens(base), keep, other, logits="all")
        ids = list(model.outputs.values())
        if kind == "compiled":
            return int(((logits - clean)[:, 1:].abs() > 1e-3).any(-1).any(-1).sum())
        return int((logits[:, 1:, ids].argmax(-1) != clean[:, 1:, ids].argmax(-1)).any(-1).sum())

    program = labels.true | labels.redundant | labels.cancelling | labels.dead
    for label in ("true", "redundant", "dead"):
        for edge in list(found[label])[:: 40 if label == "dead" else 1]:
            others = next((program - one for one in labels.circuits if edge in one), set())
            assert found[label][edge] == acts({edge} | others if label == "redundant" else {edge}), edge
    assert found["dead_together"] == acts(set(found["dead"])) and (kind == "nodes") == (found["dead_together"] > 0)
    assert found["unexercised"] == sorted(e for e in labels.living if not {**found["true"], **found["redundant"]}[e])


def test_the_spread_over_seeds_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "known_names", lambda kind: {"histogram": "counting", "eight-a": "redundancy"})
    monkeypatch.setattr(module, "SLOW", ("eap",))
    monkeypatch.setattr(module, "TWINS", 0)
    result = scoreboard(kinds=("compiled",), methods=("sieve", "ifr", "eap"), pairs=6)
    rows = {row["name"]: row for row in result.payload["methods"]}
    assert rows["eap"]["spread"] is None and rows["sieve"]["spread"]["seeds"] == 1 + module.MORE_SEEDS
    assert rows["sieve"]["spread"]["largest"] == 0, "each edge acts on some pair of every seed"
    gaps = []
    for seed in range(1 + module.MORE_SEEDS):
        model = next(known("compiled", ["eight-a"]))
        with exact_products():  # as in a verb, so that scores tie where they tied
            gaps.append(module._of_methods(model, ["ifr"], 6, seed)["ifr"]["edge_auroc"])
    row = next(e for e in result.payload["each"] if e["name"] == "eight-a")
    own = row["methods"]["ifr"]
    assert [own["edge_auroc"], *own["other_seeds"]] == pytest.approx(gaps)
    assert rows["ifr"]["spread"]["largest"] >= np.ptp(gaps) - 1e-9 > 0


def test_quick_has_every_family(home: Path) -> None:
    for kind in KINDS:
        names = module._one_a_family(kind)
        assert len(names) >= 8 and {known_names(kind)[n] for n in names} == set(known_names(kind).values())


def test_it_goes_on_where_it_stopped(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "known_names", lambda kind: {"histogram": "counting", "rank": "sorting"})
    real, made = module._score, []

    def stops(make: Any, *rest: Any) -> Any:
        if len(made) == 1:
            raise KeyboardInterrupt
        made.append(1)
        return real(make, *rest)

    monkeypatch.setattr(module, "_score", stops)
    with pytest.raises(KeyboardInterrupt):
        scoreboard(kinds=("compiled",), methods=("eap",), pairs=4)
    counted: list[int] = []
    monkeypatch.setattr(module, "_score", lambda *given: counted.append(1) or real(*given))
    result = scoreboard(kinds=("compiled",), methods=("eap",), pairs=4)
    assert result.payload["models"] == 2 and len(counted) == 1
    assert not any((home / "bench").iterdir()), "what a finished run kept is gone"


def test_a_program_file_is_scored(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from typer.testing import CliRunner

    from hooke.cli import app

    path = tmp_path / "mine.rasp"
    path.write_text(PROGRAM)
    run = CliRunner().invoke(
        app, ["bench", "truth", "--program", str(path), "--method", f"{DEFAULT},eap-ig,random", "--json"]
    )
    assert run.exit_code == 0, run.output
    payload = json.loads(run.stdout)["payload"]
    assert payload["models"] == 1 and payload["default"] == DEFAULT
    best = next(row for row in payload["methods"] if row["name"] == DEFAULT)
    assert best["median_edge_auroc"] >= 0.97
    assert {"name", "median_edge_auroc", "p10_edge_auroc", "median_node_auroc", "seconds"} <= set(best)


def test_a_file_with_parts_that_stand_in_for_each_other(home: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from hooke.cli import app

    path = tmp_path / "ways.rasp"
    ways = "".join(f'{w} = selector_width(select(tokens, "a", ==)) > 0\n' for w in ("one", "two", "three"))
    path.write_text(ways + "out = one + two + three > 1\n")
    ask = ["bench", "truth", "--program", str(path), "--method", "eap", "--pairs", "8"]
    run = CliRunner().invoke(app, [*ask, "--json"])
    assert run.exit_code == 0, run.output
    found = json.loads(run.stdout)["payload"]["each"][0]["labels"]
    assert len(found["redundant"]) == 7 and len(found["circuits"]) == 3 and not found["unexercised"]
    assert all(0 < count <= found["scored_pairs"] for count in [*found["true"].values(), *found["redundant"].values()])
    assert found["dead_together"] == 0 and not any(found["dead"].values())
    assert set(found["alone"]) == set(found["true"]) and (found["inputs"], found["enumerated"]) == (243, True)
    shown = " ".join(CliRunner().invoke(app, ask).stdout.split())
    assert "ways: 5 true and 7 redundant edges, tried on all 243 inputs" in shown, shown


def test_bad_input_is_one_line(home: Path, tmp_path: Path) -> None:
    for given, match in (
        ({"kinds": ("natural",)}, "a kind is compiled, siit or nodes"),
        ({"methods": ("best",)}, "no circuit method called 'best'"),
        ({"methods": ()}, "at least one method"),
        ({"pairs": 1}, "2 to 512 pairs"),
        ({"programs": [tmp_path / "none.rasp"]}, "none.rasp"),
    ):
        with pytest.raises(HookeError, match=match):
            scoreboard(**given)  # type: ignore[arg-type]
    bad = tmp_path / "bad.rasp"
    bad.write_text("out = import os")
    with pytest.raises(HookeError):
        scoreboard(programs=[bad])
