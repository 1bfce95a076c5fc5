"""Circuits in graph files: heads with one input each for queries, keys and values, and no positions."""

import copy
import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from graph_files import circuit_file, circuit_graph, edges_of
from hooke.errors import HookeError
from hooke.results.formats.graph_file import GraphFile, check_graph_file, graph_from_file
from hooke.results.graph_names import circuit_name

SCHEMA = json.loads((Path(__file__).parent / "graph_file_schema.json").read_text())


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
