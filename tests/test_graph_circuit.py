"""Circuits in graph files: heads with one input each for queries, keys and values, and no positions."""

import copy
import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from graph_files import written
from hooke.errors import HookeError
from hooke.results.formats.graph_file import GraphFile, check_graph_file, graph_from_file
from hooke.results.graph import Graph, Node
from hooke.results.graph_names import circuit_name

SCHEMA = json.loads((Path(__file__).parent / "graph_file_schema.json").read_text())


def circuit_graph(layers: int = 2, heads: int = 3, edges: int | None = None, seed: int = 0) -> Graph:
    """Every node of a model, and `edges` random ones of its edges (None: all) with effects and verdicts."""
    rng = np.random.default_rng(seed)
    nodes = [Node("input", "token", label="input")]
    for layer in range(layers):
        nodes += [Node(f"a{layer}.h{h}", "head", layer, None, h) for h in range(heads)]
        nodes.append(Node(f"m{layer}", "mlp", layer))
    nodes.append(Node("logits", "logit", label="logits", is_target=True))
    rows: list[tuple[int, str]] = []
    for t, node in enumerate(nodes):
        rows += [(t, part) for part in ("qkv" if node.kind == "head" else [""] if node.kind != "token" else [])]
    weights = np.zeros((len(rows), len(nodes)), np.float32)
    where = [
        (r, s)
        for r, (t, _) in enumerate(rows)
        for s, node in enumerate(nodes[:t])
        if nodes[t].kind == "logit" or node.layer is None or (node.layer, node.kind) < (nodes[t].layer, nodes[t].kind)
    ]
    chosen = where if edges is None else [where[i] for i in rng.permutation(len(where))[:edges]]
    for r, s in chosen:
        weights[r, s] = -rng.lognormal(-3, 1) * (1 if rng.random() < 0.8 else -1)
    graph = Graph(nodes, np.array([t for t, _ in rows]), weights, np.zeros(len(rows)), tokens=["When", " Mary"])
    graph.parts = [part for _, part in rows]
    for k, (r, s) in enumerate(chosen):
        verdict = ("tested", "refuted", "untested")[k % 3]
        t, part = rows[r]
        if part or k % 2:
            graph.part_verdicts[s, t, part] = verdict
        else:
            graph.verdicts[s, t] = verdict
    return graph


def circuit_file(graph: Graph, **more) -> dict:
    return written(
        graph, slug="ioi", scan="toy", edge_threshold=1.0, scores={},
        generation={}, n_layers=2, **more,
    )  # fmt: skip


def edges_of(graph: Graph) -> dict[tuple[str, str, str], tuple[float, str]]:
    """(source, target, part) -> (weight, verdict), by the names of circuits."""
    rows, sources = np.nonzero(graph.weights)
    return {
        (circuit_name(graph.nodes[s]), circuit_name(graph.nodes[graph.targets[r]]), graph.part(r)): (
            float(graph.weights[r, s]), graph.verdict(r, s),
        )
        for r, s in zip(rows.tolist(), sources.tolist(), strict=True)
    }  # fmt: skip


@pytest.mark.parametrize("edges", [None, 10, 0])
def test_a_circuit_comes_back(edges: int | None) -> None:
    graph = circuit_graph(edges=edges)
    data = json.loads(json.dumps(circuit_file(graph), allow_nan=False))
    check_graph_file(data)
    jsonschema.validate(data, SCHEMA)
    back = graph_from_file(data)
    want, have = edges_of(graph), edges_of(back.graph)
    assert have.keys() == want.keys() and len(want) == (edges if edges is not None else len(want))
    for edge, (weight, verdict) in want.items():
        assert have[edge] == (pytest.approx(weight, rel=1e-5), verdict)
    named = {circuit_name(node) for node in back.graph.nodes}
    assert named == {"input", "a0.h0", "a0.h1", "a0.h2", "m0", "a1.h0", "a1.h1", "a1.h2", "m1", "logits"}
    assert all(node.position is None for node in back.graph.nodes) and back.graph.is_circuit()
    rows = sorted((circuit_name(back.graph.nodes[t]), p) for t, p in zip(back.graph.targets, back.graph.parts))
    assert rows == sorted((circuit_name(graph.nodes[t]), p) for t, p in zip(graph.targets, graph.parts))
    again = back.to_dict()
    assert json.dumps(again) == json.dumps(data)
    assert isinstance(back, GraphFile) and back.warnings == []


def test_what_is_left_out_is_told_for_each_part() -> None:
    graph = circuit_graph()
    graph.constants = np.linspace(0.5, 1.5, len(graph.targets))
    back = graph_from_file(circuit_file(graph, max_links=20)).graph
    kept = dict(zip(zip(back.targets.tolist(), back.parts), back.weights.sum(1) + back.constants))
    place = {circuit_name(node): i for i, node in enumerate(back.nodes)}
    for row, t in enumerate(graph.targets.tolist()):
        here = kept[place[circuit_name(graph.nodes[t])], graph.parts[row]]
        assert here == pytest.approx(graph.weights[row].sum() + graph.constants[row], abs=1e-5)
    for node in back.nodes:
        assert node.dropped == pytest.approx(sum(back.constants[back.targets == back.nodes.index(node)]))


def test_other_pages_find_one_link_between_two_nodes() -> None:
    """What knows nothing of parts reads the sum of them."""
    graph = circuit_graph()
    data = circuit_file(graph)
    pairs = [(link["source"], link["target"]) for link in data["links"]]
    assert len(set(pairs)) == len(pairs) < np.count_nonzero(graph.weights)
    for link in data["links"]:
        link.pop("hooke", None)
    for node in data["nodes"]:
        node["hooke"].pop("parts", None)
    plain = graph_from_file(data).graph
    assert not plain.parts
    place = {circuit_name(node): i for i, node in enumerate(graph.nodes)}
    at = [place[circuit_name(node)] for node in plain.nodes]
    assert plain.square() == pytest.approx(graph.square()[np.ix_(at, at)], rel=1e-4, abs=1e-7)


def test_a_link_with_a_verdict_is_written_whatever_the_cap() -> None:
    graph = circuit_graph()
    data = circuit_file(graph, max_links=3)
    told = {edge for edge, (_, verdict) in edges_of(graph).items() if verdict != "untested"}
    assert told <= edges_of(graph_from_file(data).graph).keys()


def test_damaged_parts_are_one_line() -> None:
    data = circuit_file(circuit_graph())
    link = next(i for i, x in enumerate(data["links"]) if len(x.get("hooke", {}).get("parts", [])) > 1)
    faults = {
        "twice": lambda parts: parts.append(parts[0]),
        "Input should be '', 'q', 'k' or 'v'": lambda parts: parts[0].update(part="x"),
        "finite number": lambda parts: parts[0].update(weight=float("nan")),
        "less than or equal": lambda parts: parts[0].update(weight=1e35),
    }
    for said, spoil in faults.items():
        bad = copy.deepcopy(data)
        spoil(bad["links"][link]["hooke"]["parts"])
        with pytest.raises(HookeError, match=said) as caught:
            graph_from_file(bad)
        assert "\n" not in str(caught.value) and f"link {link}" in str(caught.value)


def test_parts_that_do_not_fit_are_refused() -> None:
    graph = circuit_graph()
    for parts, said in ((graph.parts[:-1], "for each of its targets"), (["x"] * len(graph.parts), "must be one of"),
                        ([""] * len(graph.parts), "distinct"), ([], "distinct")):  # fmt: skip
        spoiled = circuit_graph()
        spoiled.parts = parts
        with pytest.raises(HookeError, match=said):
            circuit_file(spoiled)
