"""Circuits and the scoreboard of circuit methods in the page, and circuits in a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browser import Tab, chromium, expect, out_of_reach, overflow, violations
from graph_files import circuit_file, circuit_graph, edges_of, held, opened, small_graph
from hooke.results import Claim, Node, Result
from hooke.results.drawn import graph_of
from hooke.results.graph import Graph
from hooke.results.graph_names import circuit_name
from hooke.results.payloads import KINDS
from hooke.terminal import show_circuit
from hooke.viewer import html_page, page_bytes
from hooke.viewer.page import VERDICTS
from hooke.viewer.scoreboard import tables
from made_up import filled
from pages import unpacked

CURVE = {"shares": [0.1, 0.5, 1.0], "edges": [7, 34, 68], "circuit": [0.4, 0.9, 1.0], "random": [0.0, 0.1, 1.0],
         "random_low": [-0.1, 0.0, 1.0], "random_high": [0.1, 0.3, 1.0], "complement": [0.6, 0.1, 0.0]}  # fmt: skip
OVERLAP = {"edges": [0.5, 0.7], "nodes": [0.8, 0.8], "mean_edges": 0.6, "mean_nodes": 0.8}
SENTENCE = "10 of 68 edges keep 80 %; random ones 3 %."


def circuit_result(graph: Graph | None = None, **payload: Any) -> Result:
    graph = graph or circuit_graph(edges=10)
    own: dict[str, Any] = {
        "graph": held(circuit_file(graph)), "sentence": SENTENCE, "task": "reverse", "method": "sieve", "units": "edges", "size": 10,
        "n_edges": 68, "faithfulness": CURVE, "cpr": 0.9, "cmd": 0.1, "cpr_random": 0.3,
        "stability": {"by_half": OVERLAP, "by_seed": None, "random": OVERLAP | {"mean_edges": 0.1}},
        "tokens": [{"clean": ["When", " Mary"], "corrupt": ["When", " Tom"]}],
        "scores_on_truth": {"kinds": {"compiled": {"median_edge_auroc": 0.99, "interval": [0.9, 1.0]}}},
    }  # fmt: skip
    claims = [Claim(text="It holds.", verdict="tested", evidence=["#circuit"])]
    return Result.make("circuit", claims=claims, payload=filled("circuit", own | payload))


def view_of(result: Result) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    page, tensors = unpacked(page_bytes([result]))
    return page["results"][0]["view"], tensors


def node_result() -> Result:
    """A circuit of nodes: no edges, and what cutting each node does as its delta."""
    nodes = [Node("input", "token", label="input"), Node("a0.h1", "head", 0, None, 1, delta=-0.5, verdict="tested"),
             Node("m1.n3", "feature", 1, None, 3, delta=0.25, verdict="refuted"), Node("logits", "logit")]  # fmt: skip
    graph = Graph(nodes, np.zeros(0, np.int64), np.zeros((0, 4), np.float32), np.zeros(0), tokens=["a"])
    return circuit_result(graph, units="nodes", size=2)


def scoreboard_result() -> Result:
    numbers = {"models": 3, "median_edge_auroc": 0.9, "interval": [0.8, 0.95], "p10_edge_auroc": 0.7, "passes": 3.0}
    rows = [
        {"name": name, "about": "does it", "source": "a paper", **numbers, "kinds": {"compiled": numbers},
         "families": {"order": 0.8}} for name in ("sieve", "eap")
    ]  # fmt: skip
    each = [
        {"name": "reverse", "kind": "compiled", "methods": {"sieve": {"edge_auroc": 1.0}, "eap": {"edge_auroc": 0.5}}}
    ]
    payload = {"sentence": "Sieve is best.", "methods": rows, "each": each, "models": 3}
    return Result.make("scoreboard", payload=filled("scoreboard", payload))


def test_the_page_has_the_edges_with_their_parts_and_the_sign_turned() -> None:
    graph = circuit_graph()
    view, tensors = view_of(circuit_result(graph))
    ids = view["nodes"]["id"]
    offsets, source, part = (tensors[f"0.links.{name}"] for name in ("offsets", "source", "part"))
    weight, verdict = tensors["0.links.weight"], tensors["0.links.verdict"]
    have = {}
    for t, target in enumerate(ids):
        for e in range(offsets[t], offsets[t + 1]):
            edge = (ids[source[e]], target, ("", "q", "k", "v")[part[e]])
            have[edge] = (float(weight[e]), list(VERDICTS)[verdict[e]])
    want = edges_of(graph)
    assert have.keys() == want.keys()
    for edge, (effect, said) in want.items():
        assert have[edge] == (pytest.approx(-effect, rel=2e-4), said)
    assert view["nodes"]["dropped"] == pytest.approx(np.zeros(len(ids)), abs=1e-3)


def test_heads_are_columns_and_the_mlp_stands_after_them() -> None:
    view, _ = view_of(circuit_result())
    assert view["tokens"] == ["0", "1", "2", "MLP"] and view["n_layers"] == 2
    nodes = view["nodes"]
    where = dict(zip(nodes["id"], zip(nodes["layer"], nodes["position"])))
    assert where["a1.h2"] == (1, 2) and where["m0"] == (0, 3)
    assert where["input"][1] is None and where["logits"][1] is None
    assert sum(nodes["share"]) == pytest.approx(1, abs=1e-4)
    # the slider starts where everything is shown
    assert view["node_threshold"] == 1.0 and max(nodes["cumulative"]) <= 1.0


def test_what_stands_above_the_circuit() -> None:
    facts = view_of(circuit_result())[0]["facts"]
    assert (facts["task"], facts["method"], facts["size"], facts["n_edges"]) == ("reverse", "sieve", 10, 68)
    assert facts["sizes"][1] == {"edges": 34, "circuit": 0.9, "random": 0.1, "random_low": 0.0, "random_high": 0.3,
                                 "complement": 0.1}  # fmt: skip
    assert [row["circuits"] for row in facts["stability"]] == ["by half", "random"]
    assert facts["stability"][0]["mean_edges"] == 0.6 and "edges" not in facts["stability"][0]
    assert facts["truth"][0] == {"models": "compiled", "median_edge_auroc": 0.99, "least_of_95_%": 0.9,
                                 "greatest_of_95_%": 1}  # fmt: skip
    assert facts["example"] == "'When Mary' against 'When Tom'"
    assert (
        {"cpr", "cmd", "cpr_random", "tokens"} < facts["rest"].keys() < KINDS["circuit"].model_fields.keys() - {"graph"}
    )
    bare = Result.make("graph", payload=opened(circuit_file(circuit_graph())))
    facts = view_of(bare)[0]["facts"]
    assert facts["sizes"] == [] and facts["size"] is None and facts["truth"] is None


def test_a_circuit_opened_as_a_bare_graph_file_is_one() -> None:
    view, _ = view_of(Result.make("graph", payload=opened(circuit_file(circuit_graph()))))
    assert view["type"] == "circuit" and view["tokens"][-1] == "MLP"
    assert view_of(Result.make("graph", payload=opened(small_graph())))[0]["type"] == "graph"


def test_a_circuit_of_nodes_says_what_each_does() -> None:
    result = node_result()
    view, tensors = view_of(result)
    nodes = view["nodes"]
    at = nodes["id"].index("m1.n3")
    assert nodes["position"][at] == 2 and nodes["delta"][at] == -0.25 and nodes["verdict"][at] == "refuted"
    assert nodes["delta"][nodes["id"].index("a0.h1")] == 0.5
    assert len(tensors["0.links.source"]) == 0
    # the result itself is as it was
    back = graph_of(result.typed().graph)
    assert {circuit_name(n): n.delta for n in back.nodes}["m1.n3"] == 0.25


def test_the_scoreboard_is_flat_tables() -> None:
    told = tables(scoreboard_result().typed())
    assert next(iter(told)) == "methods" and told["methods"][0]["least_of_95_%"] == 0.8
    assert told["on compiled models"][1]["name"] == "eap"
    assert told["edge AUROC on every model"] == [{"name": "reverse", "kind": "compiled", "sieve": 1.0, "eap": 0.5}]
    assert told["what they are"][0] == {"name": "sieve", "about": "does it", "source": "a paper"}
    for rows in told.values():
        if isinstance(rows, list):
            assert not any(isinstance(value, dict | list) for row in rows for value in row.values())


def test_a_circuit_in_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"unit": "a0.h1->a1.h0<q>", "effect": -0.5, "verdict": "matters"}]
    show_circuit(
        circuit_result(tests={"rows": rows}, scores_on_truth={"median_edge_auroc": 0.98, "p10_edge_auroc": 0.9})
    )
    text = capsys.readouterr().out
    assert SENTENCE in text and "90%" in text and "0% to 30%" in text
    assert "share 60% of their edges (random 10%)" in text
    assert "a0.h1->a1.h0<q>" in text and "-0.500  matters" in text and "edge AUROC 0.98" in text
    show_circuit(circuit_result(scores_on_truth=None))
    assert "hooke bench truth" in capsys.readouterr().out


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("circuits")
    wide = circuit_graph(30, 9, 1000)
    results = {"small": circuit_result(circuit_graph()), "large": circuit_result(wide, size=1000), "nodes": node_result(),
               "scoreboard": scoreboard_result()}  # fmt: skip
    for name, result in results.items():
        (folder / f"{name}.html").write_text(html_page([result]), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in results}


def test_a_circuit_opens_in_a_view_of_its_own(browser: Any, files: dict[str, Path]) -> None:
    tab = Tab(browser, viewport={"width": 1400, "height": 1000})
    page = tab.open(files["small"])
    page.wait_for_selector(".canvas[data-drawn]")
    assert page.title() == "circuit: reverse"
    head = page.locator(".circuit").inner_text()
    for text in (SENTENCE, "It holds.", "10 of 68 edges (15 %)", "'When Mary' against 'When Tom'", "Faithfulness by size",
                 "by half", "compiled"):  # fmt: skip
        assert text in head, text
    assert page.locator(".circuit .chart polygon").count() == 1 and page.locator(".circuit .chart .at").count() == 1
    # by keys to a head: what enters which of its inputs, and how that was tested
    page.goto(files["small"].as_uri() + "#sel=a1.h0")
    page.reload()
    page.wait_for_selector(".canvas[data-drawn]")
    expect(page.locator(".pane-detail h3").first).to_have_text("a1.h0")
    lists = page.locator(".pane-connections")
    for part in ("query", "key", "value"):
        assert lists.get_by_text(part, exact=True).count() >= 1
    assert lists.locator(".badge").count() >= 1
    assert "effect on the answer" in lists.inner_text() and "at “" not in lists.inner_text()
    lists.locator(".node").first.hover()
    expect(page.locator(".hint")).to_contain_text("of the selected node")
    page.get_by_role("button", name="Table").click()
    assert page.locator(".table-twin .scroll tbody tr").count() == 10
    assert tab.errors == []
    tab.close()


def test_columns_are_heads_and_the_mlp(browser: Any, files: dict[str, Path]) -> None:
    """The names along the foot, in the exported picture, from left to right."""
    tab = Tab(browser, viewport={"width": 1400, "height": 1000})
    page = tab.open(files["large"])
    page.wait_for_selector(".canvas[data-drawn='1000']")
    svg = tab.downloaded(lambda: page.get_by_role("button", name="SVG").click(), files["large"].parent)
    text = svg.read_text(encoding="utf-8")
    foot = [text.index(f">{name}<", text.index(">head<")) for name in (*map(str, range(9)), "MLP")]
    assert foot == sorted(foot)
    assert ">input<" in text and ">logits<" in text
    assert tab.errors == []
    tab.close()


@pytest.mark.parametrize("name", ["small", "large", "nodes", "scoreboard"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_and_wide_in_both_schemes(browser: Any, files: dict[str, Path], name: str, scheme: str) -> None:
    for width in (360, 1400):
        tab = Tab(browser, viewport={"width": width, "height": 900}, color_scheme=scheme)
        page = tab.open(files[name])
        if name != "scoreboard":
            page.wait_for_selector(".canvas[data-drawn]")
        assert overflow(page) <= 0
        assert violations(page) == []
        assert tab.errors == [] and tab.requests == [files[name].as_uri()]
        tab.close()


@pytest.mark.parametrize("name", ["small", "nodes"])
def test_every_control_is_reached_with_the_tab_key(browser: Any, files: dict[str, Path], name: str) -> None:
    tab = Tab(browser, viewport={"width": 1400, "height": 1000})
    page = tab.open(files[name])
    page.wait_for_selector(".canvas[data-drawn]")
    assert out_of_reach(page) == []
    for depth in ("Plain", "Expert"):
        page.get_by_role("button", name=depth).click()
        page.wait_for_selector(".canvas[data-drawn]")
    assert tab.errors == []
    tab.close()
