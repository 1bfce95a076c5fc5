"""Attribution-graph files of others, and files that are damaged."""

import copy
import json
from pathlib import Path

import jsonschema
import pytest

from graph_files import neuronpedia_file, tracer_file
from hooke.errors import HookeError
from hooke.results.formats.graph_file import check_graph_file, graph_from_file

SCHEMA = json.loads((Path(__file__).parent / "graph_file_schema.json").read_text())


def by_id(data):
    return {node["node_id"]: node for node in data["nodes"]}


def weight(graph, source, target):
    ids = [node.id for node in graph.nodes]
    return float(graph.weights[graph.targets.tolist().index(ids.index(target)), ids.index(source)])


def test_reads_circuit_tracer():
    read = graph_from_file(tracer_file())
    graph = read.graph
    ids = {node.id: node for node in graph.nodes}
    assert {"0_5_1", "5_error_mlp_1", "2_error_mlp_0", "E_17_0", "9_42_2"} <= set(ids)
    assert (ids["6_300_2"].layer, ids["6_300_2"].index, ids["6_300_2"].value) == (6, 300, 4.0)
    assert ids["6_300_2"].label == "my label" and ids["E_18_1"].label == "a" and ids["E_18_1"].index == 18
    assert ids["9_42_2"].label == " Austin" and ids["9_42_2"].probability == 0.61 and ids["9_42_2"].is_target
    assert (ids["9_256003_2"].index, ids["9_256003_2"].label) == (256003, "A - B")  # a virtual target
    assert ids["E_17_0"].cumulative == 0.0  # never hidden
    assert weight(graph, "0_5_1", "3_9_1") == 1.25 and weight(graph, "5_error_mlp_1", "3_9_1") == 0
    assert weight(graph, "0_5_1", "6_300_2") == 2.0 and weight(graph, "5_error_mlp_1", "6_300_2") == -1.0
    assert weight(graph, "5_error_mlp_1", "9_42_2") == 0.75 and weight(graph, "0_5_1", "9_256003_2") == 0.5
    assert [warning.split()[0] for warning in read.warnings] == ["1", "1"]
    assert ids["6_300_2"].dropped == pytest.approx(4.0 - 1.5)
    assert read.qparams["pinnedIds"] == ["0_5_1", "6_300_2"] and read.qparams["clickedId"] == ""
    assert read.qparams["supernodes"] == [["say", "6_300_2", "3_9_1"]] and read.qparams["pruningThreshold"] == 0.6
    again = read.to_dict()
    assert graph_from_file(again).to_dict() == again
    with pytest.raises(HookeError, match="scan"):
        check_graph_file(again)  # its scan is not a name that Neuronpedia takes
    again["metadata"]["scan"] = "gemma-2-2b"
    check_graph_file(again)
    jsonschema.validate(again, SCHEMA)


def test_reads_neuronpedia():
    read = graph_from_file(neuronpedia_file())
    kinds = {node.id: node.kind for node in read.graph.nodes}
    assert kinds == {
        "E_5_0": "token", "1_7_0": "feature", "1_lor_7_0": "feature", "1_error_attn_0": "error",
        "1_error_mlp_0": "error", "1_bias_tc_bD_0": "bias", "1_error_unknown-blocks_1_hook_0": "error",
        "1_error_unknown-1_novel_0_0": "error", "2_9_0": "logit",
    }  # fmt: skip
    assert read.graph.nodes[-1].probability == 0.25 and read.graph.nodes[-1].label == " y"
    assert read.graph.nodes[2].index == 7 and weight(read.graph, "1_lor_7_0", "2_9_0") == 2.5
    again = read.to_dict()
    assert by_id(again)["1_lor_7_0"]["feature_type"] == "lorsa" and again["metadata"]["info"] == {"creator_name": "me"}
    check_graph_file(again)
    assert graph_from_file(again).to_dict() == again


def test_reads_legacy_numbers():
    base = neuronpedia_file()
    del base["metadata"]["schema_version"], base["metadata"]["feature_details"]
    feature = {"node_id": "x", "jsNodeId": "12_345-0", "feature": 1200345, "layer": "12", "ctx_idx": 0, "clerp": "it",
               "feature_type": "unexplored node"}  # fmt: skip
    cases = [({}, 345), ({"feature": "1200345-0"}, 345), ({"node_id": "12_00042_0", "feature": None}, 42),
             ({"feature": 77}, 77), ({"layer": 12, "node_id": "12_345_0"}, 345)]  # fmt: skip
    for change, index in cases:
        base["nodes"], base["links"] = [feature | change], []
        (node,) = graph_from_file(base).graph.nodes
        assert (node.kind, node.layer, node.index, node.cumulative) == ("feature", 12, index, 0.0)
    logit = {"node_id": "L", "feature": 3, "layer": "E1", "ctx_idx": 0, "feature_type": "logit"}
    for label, token, chance in [("output: 'Austin' (p=1.000)", "Austin", 1.0), ('output: " a" (p=0.5)', " a", 0.5),
                                 ("", "", None), ("plain", "plain", None),
                                 ('"(p=1.2.3)', '"(p=1.2.3)', None)]:  # fmt: skip
        base["nodes"] = [logit | {"clerp": label}]
        (node,) = graph_from_file(base).graph.nodes
        assert (node.label, node.probability, node.index) == (token, chance, 3)


@pytest.mark.parametrize("key", ["pinnedIds", "supernodes", "clerps"])
def test_query_parameters_in_every_form(key):
    lists = {"pinnedIds": ["1_cro_7_0"], "supernodes": [["n", "1_cro_7_0"]], "clerps": [["1_43_0", "typed"]]}
    forms = [lists[key], json.dumps(lists[key])] + (["1_cro_7_0"] if key == "pinnedIds" else [])
    for form in forms:
        data = neuronpedia_file()
        data["qParams"] = {key: form}
        read = graph_from_file(data)
        if key == "clerps":
            assert read.graph.nodes[1].label == "typed"
        else:
            assert read.qparams[key] == ([["n", "1_7_0"]] if key == "supernodes" else ["1_7_0"])
    for bad in (7, {"a": 1}, [7], [[7]], "[oops", [None]):
        data["qParams"] = {key: bad}
        with pytest.raises(HookeError, match=key):
            graph_from_file(data)


# --------------------------------------------------------------------------------------------- malformed


def put(*path_and_value):
    *path, key, value = path_and_value

    def change(data):
        for part in path:
            data = data[part]
        data[key] = value

    return change


def drop(*path):
    *path, key = path

    def change(data):
        for part in path:
            data = data[part]
        del data[key]

    return change


BOTH = [
    *[(drop(key), key) for key in ("metadata", "qParams", "nodes", "links")],
    *[(put(key, value), key) for key in ("metadata", "qParams", "nodes", "links") for value in (None, 3, "x")],
    *[(drop("metadata", key), f"metadata: {key}") for key in ("slug", "scan", "prompt", "prompt_tokens")],
    (put("metadata", "prompt_tokens", "abc"), "prompt_tokens"),
    (put("metadata", "prompt_tokens", 0, 5), "prompt_tokens.0"),
    (put("nodes", 2, "text"), "node 2"),
    *[(drop("nodes", 2, key), f"node 2.*{key}") for key in ("node_id", "layer", "ctx_idx", "feature_type")],
    (put("nodes", 2, "node_id", 5), "node 2: node_id"),
    (put("nodes", 2, "node_id", ""), "node 2"),
    (put("nodes", 2, "node_id", "a\nb" * 999), "node 2"),
    (put("nodes", 2, "ctx_idx", "1"), "node 2.*ctx_idx"),
    (put("nodes", 2, "ctx_idx", True), "node 2.*ctx_idx"),
    (put("nodes", 2, "ctx_idx", 10**4999), "node 2.*ctx_idx"),
    (put("nodes", 2, "feature", 10**4999), "node 2.*feature"),
    (put("nodes", 2, "feature", [1]), "node 2.*feature"),
    (put("nodes", 2, "layer", None), "node 2.*layer"),
    (put("nodes", 2, "influence", float("nan")), "node 2.*influence"),
    (put("nodes", 2, "influence", "0.5"), "node 2.*influence"),
    (put("nodes", 2, "activation", 10**400), "node 2.*activation"),
    (put("nodes", 2, "hooke", "x"), "node 2.*hooke"),
    (put("nodes", 2, "hooke", "kind", "neuron"), "node 2.*hooke.kind"),
    (put("nodes", 2, "hooke", "verdict", "proved"), "node 2.*hooke.verdict"),
    (put("nodes", 2, "hooke", "dropped", float("inf")), "node 2.*hooke.dropped"),
    (lambda data: data["nodes"].append(copy.deepcopy(data["nodes"][2])), "id .* is also that of node 2"),
    (put("links", 1, 5), "link 1 is not"),
    *[(drop("links", 1, key), f"link 1.*{key}") for key in ("source", "target", "weight")],
    (put("links", 1, "source", 5), "link 1.*source"),
    *[(put("links", 1, "weight", value), "link 1.*weight") for value in
      (None, "1", True, float("nan"), float("-inf"), 1e31, 10**4999, [])],
    (put("links", 1, "hooke", {"verdict": 1}), "link 1.*verdict"),
    (put("links", [{}] * 2_000_001), "2,000,001 links"),
    (put("nodes", [{}] * 200_001), "200,001 nodes"),
    (put("qParams", "linkType", 5), "linkType"),
]  # fmt: skip
STRICT = [
    *[(put("metadata", key, value), key) for key in ("slug", "scan")
      for value in ("", "a b", "../a", "a/b", "ü", ".x")],
    (put("metadata", "schema_version", 0), "schema_version"),
    (put("metadata", "node_threshold", 7), "node_threshold"),
    (put("metadata", "replacement_score", "x"), "replacement_score"),
    (put("qParams", "pinnedIds", "a,b"), "pinnedIds"),
    (put("qParams", "supernodes", [[]]), "supernodes"),
    *[(drop("nodes", 2, key), f"node 2.*{key}") for key in ("feature", "jsNodeId", "clerp", "influence")],
    (put("nodes", 2, "feature", "7"), "node 2.*feature"),
    (put("nodes", 2, "feature_type", "attention"), "node 2.*feature_type"),
    (put("nodes", 2, "influence", None), "node 2.*influence"),
    (put("nodes", 2, "influence", 1.5), "node 2.*influence"),
    (put("nodes", 2, "ctx_idx", 99), "node 2.*ctx_idx"),
    (put("nodes", 7, "layer", "0"), "node 7.*embedding"),
    (put("nodes", 2, "layer", "E"), "node 2.*layer"),
    (put("nodes", 2, "feature", -1), "node 2.*feature"),
    *[(put("nodes", 0, "clerp", value), "node 0.*logit") for value in
      ("", "Austin", 'Output "a"b" (p=0.1)', 'Output "a"', 'Output "a" (p=x)', 'Output "a" (p=0.1)\n')],
    (put("nodes", 0, "token_prob", None), "node 0.*token_prob"),
    (put("links", 1, "source", "nowhere\n"), "link 1: no node 'nowhere"),
    (lambda data: data["links"].append(data["links"][1]), "repeats link 1"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), BOTH + STRICT)
def test_malformed_is_one_clear_line(change, message):
    data = graph_from_file(tracer_file()).to_dict()
    data["metadata"]["scan"] = "gemma-2-2b"
    check_graph_file(data)
    assert [data["nodes"][i]["feature_type"] for i in (0, 2, 7)] == ["logit", "cross layer transcoder", "embedding"]
    change(data)
    calls = [check_graph_file, graph_from_file] if (change, message) in BOTH else [check_graph_file]
    for call in calls:
        with pytest.raises(HookeError, match=message) as error:
            call(data)
        assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_not_a_graph_file():
    for data in (None, [], 3, "x", {}):
        with pytest.raises(HookeError, match="graph file"):
            check_graph_file(data)
