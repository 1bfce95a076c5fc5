"""Circuits in files, and the command: published forms round trip, damaged ones are refused, and what is printed."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import hooke
from circuits import known_pairs
from families import close, model_of
from hooke import HookeError
from hooke.methods.circuit import circuit
from hooke.methods.circuit.file import circuit_json, read_circuit, write_circuit
from hooke.methods.computation_graph import ComputationGraph
from hooke.model import Model
from hooke.truth.known import Known, known


@pytest.fixture(scope="module")
def compiled() -> Known:
    """A compiled program whose circuit is known."""
    return next(iter(known("compiled", ["indirect-object"])))


# ---- files --------------------------------------------------------------------------------------------------


def test_the_published_form_round_trips(tmp_path: Path) -> None:
    model = model_of("llama")  # two query heads share keys and values
    computation = ComputationGraph.of(model.parts)
    scores = torch.randn(computation.edges.shape, generator=torch.Generator().manual_seed(0)) * computation.edges
    keep = computation.edges & (scores > 1)
    data = circuit_json(model, scores, keep)
    n, heads, layers = 0, model.parts.n_heads, model.parts.n_layers
    for layer in range(layers):
        n += (1 + layer * (heads + 1)) * 3 * heads + 1 + layer * (heads + 1) + heads
    assert len(data["edges"]) == n + 1 + layers * (heads + 1)
    assert data["cfg"] == {"n_layers": 3, "n_heads": 4, "parallel_attn_mlp": False, "d_model": 32}
    assert set(data["nodes"]) == {"input", "logits", *computation.writers}
    assert data["edges"]["input->a0.h0<k>"] == data["edges"]["input->a0.h1<k>"]
    found = read_circuit(model, write_circuit(model, scores, keep, tmp_path / "c.json"))
    close(found.scores, scores, 1e-6)
    assert torch.equal(found.keep, keep) and found.disagree == 0
    data["edges"]["input->a0.h1<k>"] = {"score": 9.0, "in_graph": True}
    (tmp_path / "d.json").write_text(json.dumps(data), "utf-8")
    found = read_circuit(model, tmp_path / "d.json")
    at = computation.mask(["input->a0.h0<k>"])
    assert found.scores[at].tolist() == [9.0] and bool(found.keep[at]) and found.disagree == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.pop("edges"), "is not a circuit in the form of EAP-IG"),
        (lambda d: d["cfg"].update(n_heads=12), "of a model with n_heads 12; llama has 4"),
        (lambda d: d["nodes"].update({"m9": {"in_graph": True}}), "'m9' is no node of llama"),
        (lambda d: d["nodes"].update({"m1": {"in_graph": 1}}), "does not say if it is in the graph"),
        (lambda d: d["nodes"]["m1"].update(neurons=[True, False]), "keeps some of its neurons only"),
        (lambda d: d["edges"].update({"m2->m0": {"score": 1, "in_graph": True}}), "'m2->m0' is no edge of llama"),
        (lambda d: d["edges"]["input->m0"].update(score="x"), "input->m0: its score is not a finite number"),
        (lambda d: d["edges"]["input->m0"].update(score=math.nan), "NaN is no number"),
        (lambda d: d["edges"]["input->m0"].update(score=10**400), "too large for a whole number"),
        (lambda d: d["edges"]["input->m0"].update(score=1e39), "its score is not a finite number"),
        (lambda d: d["edges"].clear(), "no edge that is in the circuit, and none with a score"),
        (lambda d: d["edges"]["input->m0"].pop("in_graph"), "says whether it is in_graph"),
    ],
)
def test_damaged_files_are_refused(change: Any, said: str, tmp_path: Path) -> None:
    model = model_of("llama")
    computation = ComputationGraph.of(model.parts)
    data = circuit_json(model, torch.zeros(computation.edges.shape), computation.edges)
    change(data)
    path = tmp_path / "c.json"
    path.write_text(json.dumps(data), "utf-8")
    with pytest.raises(HookeError) as caught:
        read_circuit(model, path)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_pickles_are_not_read(tmp_path: Path) -> None:
    with pytest.raises(HookeError, match="is a pickle, which can run code, and is not read; save it as JSON"):
        read_circuit(model_of("llama"), tmp_path / "c.pt")
    (tmp_path / "c.json").write_bytes(b"\x80\x04nonsense")
    with pytest.raises(HookeError, match="is not JSON"):
        read_circuit(model_of("llama"), tmp_path / "c.json")


def test_a_circuit_found_elsewhere_is_measured(compiled: Known, tmp_path: Path) -> None:
    computation = ComputationGraph.of(compiled.model.parts)
    true = computation.mask(sorted(compiled.edges))
    path = write_circuit(compiled.model, true.float(), true, tmp_path / "true.json")
    result = circuit(compiled.model, known_pairs(compiled, 12), source=path, tests=5)
    p = result.payload
    assert p["method"] == "file" and p["stability"]["by_half"] is None
    assert p["circuit"]["faithfulness"] == pytest.approx(1, abs=0.02)
    assert p["circuit"]["complement"] < 0.5


# ---- the command ---------------------------------------------------------------------------------------------


def run_cli(monkeypatch: pytest.MonkeyPatch, model: Model, *words: str) -> None:
    from hooke.cli import main

    monkeypatch.setattr(sys.modules["hooke.model.load"], "load", lambda *a, **k: model)
    monkeypatch.setattr(sys, "argv", ["hooke", "circuit", *words])
    with pytest.raises(SystemExit) as end:
        main()
    if end.value.code:
        raise end.value


def test_the_command_on_the_default_model(
    smol: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, mib = tmp_path / "ioi.json", tmp_path / "ioi-mib.json"
    words = ("--method", "eap", "--pairs", "2", "--tests", "4", "--size", "0.02")
    run_cli(monkeypatch, smol, "ioi", *words, "--json", "--out", str(out), "--mib", str(mib))
    data = json.loads(capsys.readouterr().out)
    p = data["payload"]
    assert data["arguments"]["method"] == "eap" and p["task"] == "ioi" and p["n_edges"] == 70651
    curve = p["faithfulness"]
    assert curve["circuit"][5] > curve["random_high"][5] + 0.2  # five per cent of the edges
    assert hooke.load_result(out).id == data["id"]
    written = json.loads(mib.read_text("utf-8"))
    assert len(written["edges"]) == 123211 and sum(e["in_graph"] for e in written["edges"].values()) >= p["size"]
    effects = hooke.load_result(out).tensors["effects"]
    strongest = p["tests"]["rows"][0]
    assert written["edges"][strongest["unit"]]["score"] == pytest.approx(-strongest["estimate"], rel=1e-4)
    assert effects.shape == ComputationGraph.of(smol.parts).edges.shape


def test_the_command_shows_and_refuses(
    smol: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, said in (
        ((), "give a task"),
        (("ioi", "--data", "x"), "give a task"),
        (("ioi", "--size", "many"), "a size is a number of edges"),
        (("ioi", "--level", "nodes", "--mib", str(tmp_path / "x.json")), "is written of edges"),
        (("ioj",), "no task called 'ioj'"),
    ):
        with pytest.raises(SystemExit) as end:
            run_cli(monkeypatch, smol, *words)
        assert end.value.code == 2 and said in capsys.readouterr().err
    path = tmp_path / "pairs.jsonl"
    names = (("John", "Mary"), ("Tom", "Anna"), ("Paul", "Lucy"), ("Mark", "Kate"))
    rows = [
        {
            "clean": f"When {a} and {b} went to the shop, {a} gave a drink to",
            "corrupt": f"When {a} and {b} went to the shop, {b} gave a drink to",
            "target": f" {b}",
            "contrast": [f" {a}"],
        }
        for a, b in names
    ]
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    run_cli(monkeypatch, smol, "--data", str(path), "--level", "nodes", "--tests", "2", "--size", "40")
    shown = capsys.readouterr().out
    assert "nodes (" in shown and "CPR" in shown and "random" in shown
