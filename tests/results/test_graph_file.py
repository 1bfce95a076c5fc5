"""Attribution-graph files: what we write, and that we read it back unchanged."""

import json
import re
import time
from collections import defaultdict
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph_files import written
from hooke.errors import HookeError
from hooke.results.formats.graph_file import (
    cantor,
    cantor_inverse,
    check_graph_file,
    graph_from_file,
    node_id,
    safe_name,
    write_graph_file,
)
from hooke.results.graph import Graph, Node

SCHEMA = json.loads((Path(__file__).parent / "graph_file_schema.json").read_text())
HOSTILE = ['"', ' "quoted" (p=0.5)', "\n", "\r\t", "\x00\x1b", "</script>", "\u202eevil\u200f", "\u2028", "", "\ud800",
           "'", "\\", "(p=", "é🙂", " - ", "__vs__", "\ufeff"]  # fmt: skip


def make(seed=0, tokens=4, layers=3, features=8, logits=2, tail=4.0):
    """A random graph with every kind of node; influences as a tracer would compute them is not the point here."""
    rng = np.random.default_rng(seed)
    words = [f" w{i}" for i in range(tokens)]
    nodes = [Node("", "token", position=i, index=100 + i, label=words[i], cumulative=0.5) for i in range(tokens)]
    places = set()
    while len(places) < features:
        places.add((int(rng.integers(layers)), int(rng.integers(2**17)), int(rng.integers(tokens))))
    for rank, (layer, index, position) in enumerate(sorted(places), 1):
        nodes.append(Node("", "feature", layer, position, index, f"feature {index}", rank=rank,
                          delta=float(rng.normal()), influence=float(rng.random()), cumulative=float(rng.random()),
                          verdict="tested" if rank % 2 else "untested", reason="it was", reads=[" w0"],
                          promotes=["a", "b"], suppresses=["c"] if rank == 1 else []))  # fmt: skip
    for layer in range(layers):
        for position in range(tokens):
            nodes.append(Node("", "remainder", layer, position, cumulative=0.9))
            nodes.append(Node("", "error", layer, position, label="dictionary", cumulative=0.9, value=1.5))
    nodes += [Node("", "bias", 1, 0, label="mlp_bout"), Node("", "error", 1, 0, label="attn")]
    nodes += [Node("", "head", 0, None, 3), Node("", "mlp", 1, tokens - 1)]
    probability = rng.dirichlet(np.ones(logits + 1))
    for i in range(logits):
        nodes.append(Node("", "logit", index=900 - i, label=f" out{i}", probability=float(probability[i]),
                          is_target=i == 0, cumulative=0.0))  # fmt: skip
    targets = np.array([i for i, node in enumerate(nodes) if node.kind in ("feature", "logit")])
    weights = rng.standard_t(df=max(tail, 1.0), size=(len(targets), len(nodes))) ** 3
    weights[:, targets] = 0.0  # features do read features, but only earlier ones
    for row, t in enumerate(targets):
        for s in targets:
            if nodes[s].kind == "feature" and (nodes[t].kind == "logit" or nodes[s].layer < nodes[t].layer):
                weights[row, s] = rng.normal()
    constants = rng.normal(size=len(targets))
    weights = weights.astype(np.float32)
    for row, t in enumerate(targets[1:], 1):  # the first has none, and is given the sum
        nodes[t].value = float(weights[row].sum(dtype=np.float64) + constants[row])
    s = int(np.argmin(np.abs(weights[0]) + (weights[0] == 0) * 1e9))  # the weakest link, kept because tested
    graph = Graph(nodes, targets, weights, constants, {(s, int(targets[0])): "refuted"}, words)
    return graph


def write(graph, **fields):
    words = graph.tokens
    given = {"slug": "toy-1", "scan": "toy-3l", "prompt": "".join(words),
             "scores": {"replacement_score": 0.5, "completeness_score": np.float32(0.75), "unexplained": float("nan")},
             "generation": {"max_n_logits": 10, "seed": np.int64(3)}, "n_layers": 3}  # fmt: skip
    fields = given | fields
    graph.deltas = fields.pop("deltas", None)
    return written(graph, **fields)


def by_id(data):
    return {node["node_id"]: node for node in data["nodes"]}


def through_json(data):
    return json.loads(json.dumps(data, allow_nan=False, ensure_ascii=False).encode())


def check_sums(data):
    """Written links plus what was dropped are the value, for every feature and logit."""
    sums = defaultdict(float)
    for link in data["links"]:
        sums[link["target"]] += link["weight"]
    checked = 0
    for node in data["nodes"]:
        if node["hooke"]["kind"] in ("feature", "logit"):
            own = node["hooke"]
            size = sum(abs(link["weight"]) for link in data["links"] if link["target"] == node["node_id"])
            assert abs(sums[node["node_id"]] + own["dropped"] - own["value"]) <= 1e-7 * max(1.0, size)
            checked += 1
    assert checked


@given(st.integers(0, 2**70), st.integers(0, 2**70))
def test_cantor_is_exact(layer, index):
    assert cantor_inverse(cantor(layer, index)) == (layer, index)


@given(st.integers(0, 2**140))
def test_every_number_is_some_feature(number):
    assert cantor(*cantor_inverse(number)) == number


def test_cantor_known_value_and_refusal():
    assert cantor(1, 7) == 43
    assert cantor_inverse(1670217704) == (1, 57794)
    for bad in (lambda: cantor(-1, 0), lambda: cantor(0, -1), lambda: cantor_inverse(-1)):
        with pytest.raises(HookeError):
            bad()


def test_schema_accepts_what_we_write():
    data = through_json(write(make()))
    jsonschema.validate(data, SCHEMA)
    check_graph_file(data)
    assert data["metadata"]["hooke"]["scores"]["unexplained"] is None
    assert data["metadata"]["completeness_score"] == 0.75


def test_ids_by_kind():
    nodes = by_id(write(make()))
    assert {"E_100_0", "4_899_3", "4_900_3", "1_bias_mlp_bout_0", "1_error_attn_0", "0_unknown_head3_3"} <= set(nodes)
    assert nodes["E_100_0"]["layer"] == "E" and nodes["E_100_0"]["feature"] == 0
    assert nodes["1_error_attn_0"]["feature_type"] == "lorsa error"
    error, rest = nodes["1_error_dictionary_2"], nodes["1_error_mlp_2"]
    assert error["feature_type"] == rest["feature_type"] == "mlp reconstruction error"
    assert (error["hooke"]["kind"], rest["hooke"]["kind"]) == ("error", "remainder")
    assert (error["feature"], rest["feature"]) == (-1, None)  # equal numbers would be one feature to the pages
    for name, node in nodes.items():
        assert node["jsNodeId"] == name and isinstance(node["influence"], float)
        if node["hooke"]["kind"] == "feature":
            layer, index, position = map(int, name.split("_"))
            assert cantor_inverse(node["feature"]) == (layer, index)
            assert (node["layer"], node["ctx_idx"]) == (str(layer), position)
            assert node["activation"] == node["hooke"]["value"] and node["hooke"]["rank"] >= 1
        else:
            assert "rank" not in node["hooke"]
    keys = [(node["layer"], node["feature"], node["ctx_idx"], node["feature_type"]) for node in nodes.values()]
    assert len(set(keys)) == len(keys)
    assert node_id(Node("", "bias", 2, 1, label="a b/c")) == "2_bias_a-b-c_1"


def test_logits_come_first_in_the_order_of_their_ids():
    data = write(make(logits=4))
    kinds = [node["hooke"]["kind"] for node in data["nodes"]]
    assert kinds[:4] == ["logit"] * 4 and "logit" not in kinds[4:]
    vocabulary = [node["feature"] for node in data["nodes"][:4]]
    assert vocabulary == sorted(vocabulary)


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.9, 0.98, 1.0])
def test_sums_hold_at_every_threshold(threshold):
    graph = make(seed=3, features=20)
    data = write(graph, edge_threshold=threshold)
    check_sums(data)
    written = data["metadata"]["hooke"]["links"]
    assert written["written"] == len(data["links"]) and written["score"] >= threshold - 1e-6
    kinds = [node["hooke"]["kind"] for node in data["nodes"]]
    assert (kinds.count("feature"), kinds.count("token"), kinds.count("logit")) == (20, 4, 2)
    if threshold == 1.0:
        assert len(data["links"]) == np.count_nonzero(graph.weights)
    if threshold == 0.0:
        assert len(data["links"]) == 1 and "remainder" not in kinds


def test_links_kept_are_the_strongest_by_score():
    graph = make(seed=5)
    graph.verdicts.clear()
    data = write(graph, edge_threshold=0.9)
    size = np.abs(graph.weights.astype(float))
    ends = [graph.nodes[t] for t in graph.targets]
    output = np.array([node.influence + (node.probability or 0.0) for node in ends])
    score = size / size.sum(1, keepdims=True) * output[:, None]
    kept = len(data["links"])
    best = np.sort(score.ravel())[::-1]
    assert best[:kept].sum() >= 0.9 * best.sum() > best[: kept - 1].sum()
    ids = {}
    for i, n in enumerate(graph.nodes):
        layer = 4 if n.kind == "logit" else n.layer
        ids[node_id(Node("", n.kind, layer, n.position, n.index, n.label), last=3)] = i
    rows = {int(t): row for row, t in enumerate(graph.targets)}
    written = [score[rows[ids[link["target"]]], ids[link["source"]]] for link in data["links"]]
    assert min(written) >= best[kept] - 1e-9


def test_tested_links_are_always_written_with_what_was_measured():
    graph = make()
    deltas = np.full(graph.weights.shape, 0.123456789)
    data = write(graph, edge_threshold=0.1, deltas=deltas)
    assert all(link["hooke"]["delta"] == 0.123457 for link in data["links"])
    said = [link["hooke"] for link in data["links"] if "verdict" in link["hooke"]]
    assert said == [{"verdict": "refuted", "delta": 0.123457}]
    back = graph_from_file(data)
    assert list(back.graph.verdicts.values()) == ["refuted"] and set(
        back.graph.deltas[back.graph.deltas != 0].tolist()
    ) == {np.float32(0.123457)}


def test_cap_on_links_is_told():
    data = write(make(features=20), max_links=10)
    assert len(data["links"]) <= 11 and data["metadata"]["hooke"]["links"]["score"] < 0.9
    check_sums(data)


def test_no_influences_still_gives_links():
    graph = make(logits=0)
    for node in graph.nodes:
        node.influence = 0.0
    assert write(graph)["links"]


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 4), st.integers(0, 12), st.integers(1, 3), st.floats(0, 1)
)
def test_round_trip_is_the_identity(seed, tokens, layers, features, logits, threshold):
    graph = make(seed, tokens, max(layers, 2), features, logits)
    data = write(graph, n_layers=max(layers, 2), edge_threshold=threshold, qparams={"pinnedIds": [f"E_100_{0}"]})
    text = json.dumps(data)
    back = graph_from_file(json.loads(text))
    assert json.dumps(back.to_dict()) == text
    again = back.graph
    assert not back.warnings and again.tokens == graph.tokens
    left = again.weights.sum(1, dtype=np.float64) + again.constants
    values = [again.nodes[t].value for t in again.targets]  # the one that had none included
    np.testing.assert_allclose(left, values, rtol=1e-5, atol=1e-4 * (1 + np.abs(again.weights).sum()))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(st.characters(), max_size=12), min_size=3, max_size=3))
def test_any_text_survives(texts):
    hostile(*texts)


@pytest.mark.parametrize("token", HOSTILE)
def test_hostile_tokens(token):
    hostile(token, token, token)


def hostile(token, output, label):
    graph = make()
    graph.tokens = [token] * 4
    for node in graph.nodes:
        node.label = output if node.kind == "logit" else label if node.kind != "error" else node.label
        node.reason, node.reads, node.promotes = label, [token], [output]
    data = write(graph, prompt=token * 4, generation={label: output})
    text = json.dumps(data, ensure_ascii=False).encode()  # UTF-8 can hold it
    jsonschema.validate(json.loads(text), SCHEMA)
    for node in data["nodes"]:
        if node["hooke"]["kind"] == "logit":
            # as the pages take it apart
            name = node["clerp"].split('"')[1]
            assert 0 <= float(node["clerp"].split("(p=")[1].split(")")[0]) <= 1
            assert node["clerp"] == f'Output "{name}" (p={node["token_prob"]:.3f})'
            assert not re.search("[\x00-\x1f\u202e\u2028]", name)
            assert node["token"].encode("utf-16", "surrogatepass").decode("utf-16", "replace") == node["token"]
    assert json.dumps(graph_from_file(json.loads(text)).to_dict()) == json.dumps(data)


@pytest.mark.parametrize("token", [*HOSTILE, " Rome", "A - B"])
def test_contrast_is_one_logit(token):
    graph = make(logits=1)
    graph.nodes[-1].label = token
    data = write(graph, contrast={"token": token, "id": 77})
    (logit,) = [node for node in data["nodes"] if node["feature_type"] == "logit"]
    assert logit["node_id"] == "4_900_3" and logit["hooke"]["contrast"]["id"] == 77
    assert len(logit["clerp"].split('"')) == 3 and logit["clerp"].count("(p=") == 1
    jsonschema.validate(through_json(data), SCHEMA)
    assert graph_from_file(data).to_dict() == data
    if token == " Rome":
        assert logit["clerp"].startswith('Output " Rome -  Rome" (p=')
    with pytest.raises(HookeError, match="one logit"):
        write(make(logits=2), contrast={"token": "x", "id": 1})


def test_names_are_made_safe():
    data = write(make(), slug="../../why A?", scan="google/gemma-2-2b")
    assert (data["metadata"]["slug"], data["metadata"]["scan"]) == ("why-A", "gemma-2-2b")
    assert data["metadata"]["hooke"]["scan"] == "google/gemma-2-2b"
    assert safe_name("") == safe_name("...") == "graph"
    assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", safe_name("/home/ü/..hidden"))


def test_no_threshold_is_left_out():
    data = write(make(), node_threshold=None)
    assert "node_threshold" not in data["metadata"]
    jsonschema.validate(through_json(data), SCHEMA)


def test_logit_layer_without_n_layers():
    ids = {node["node_id"] for node in write(make(), n_layers=None)["nodes"]}
    assert "4_900_3" in ids  # highest layer 2, so three layers


def test_write_and_read_from_disk(tmp_path):
    data = write(make())
    path = write_graph_file(data, tmp_path / "toy-1.json")
    assert graph_from_file(path).to_dict() == data
    assert [file.name for file in tmp_path.iterdir()] == ["toy-1.json"]
    for name, content, message in [
        ("a.json", "{", "not JSON"),
        ("b.json", "[]", "one object"),
        ("c.json", None, "no file"),
    ]:
        if content is not None:
            (tmp_path / name).write_text(content)
        with pytest.raises(HookeError, match=message) as error:
            graph_from_file(tmp_path / name)
        assert name in str(error.value) and "\n" not in str(error.value)
    data["nodes"][0]["influence"] = None
    with pytest.raises(HookeError, match="influence"):
        write_graph_file(data, tmp_path / "d.json")
    assert not (tmp_path / "d.json").exists()


def test_a_large_graph_is_quick_and_small():
    rng = np.random.default_rng(0)
    nodes = [Node("", "token", position=i, index=i, label="x") for i in range(100)]
    nodes += [Node("", "feature", i % 26, i % 100, i, influence=float(rng.random())) for i in range(3000)]
    nodes += [Node("", "remainder", i % 26, i // 26) for i in range(1899)]
    nodes += [Node("", "logit", index=7, label="y", probability=0.5, is_target=True)]
    targets = np.array([i for i, node in enumerate(nodes) if node.kind in ("feature", "logit")])
    weights = rng.lognormal(0, 4, size=(len(targets), len(nodes))).astype(np.float32)
    graph = Graph(nodes, targets, weights, np.zeros(len(targets)), {}, ["x"] * 100)
    begin = time.perf_counter()
    data = write(graph, n_layers=26)
    took = time.perf_counter() - begin
    assert took < 30, took  # about 5 s alone on two busy cores
    assert len(data["links"]) <= 500_000

    text = json.dumps(data, separators=(",", ":"))
    assert len(text) < 500 * len(data["nodes"]) + 70 * len(data["links"])  # 3 MB: 1,000 nodes and 35,000 links


@pytest.mark.parametrize(("change", "message"), [
    (lambda g: g.weights.__setitem__((1, 0), np.nan), "not a finite number"),
    (lambda g: g.constants.__setitem__(1, np.inf), "constant"),
    (lambda g: setattr(g, "weights", g.weights[:, :-1]), "do not fit"),
    (lambda g: g.targets.__setitem__(0, g.targets[1]), "distinct"),
    (lambda g: g.targets.__setitem__(0, 10**6), "distinct"),
    (lambda g: setattr(g.nodes[4], "cumulative", np.nan), "cumulative of node 4"),
    (lambda g: setattr(g.nodes[4], "cumulative", 1.5), "influence"),
    (lambda g: setattr(g.nodes[4], "index", None), "node 4"),
    (lambda g: setattr(g.nodes[1], "position", 77), "ctx_idx 77"),
    (lambda g: vars(g.nodes[5]).update(vars(g.nodes[4])), "nodes 4 and 5"),
])  # fmt: skip
def test_refuses_graphs_that_no_page_could_show(change, message):
    graph = make()
    change(graph)
    with pytest.raises(HookeError, match=message) as error:
        write(graph)
    assert "\n" not in str(error.value)
    for threshold in (-0.1, 1.1, float("nan")):
        with pytest.raises(HookeError, match="edge_threshold"):
            write(make(), edge_threshold=threshold)
