"""Graphs made by hand, their files in one call, and files as other tools write them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from hooke.results.drawn import drawn_graph
from hooke.results.formats.graph_file import cantor, graph_from_file, graph_to_file
from hooke.results.graph import Graph, Node
from hooke.results.graph_names import circuit_name
from hooke.results.payloads.common import Token

OF_FILES = ("slug", "scan", "scores", "generation", "hooke", "qparams")


def written(graph: Graph, *, contrast: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """The file of a graph: how much of it is kept, and what stands beside it."""
    beside = {key: fields.pop(key) for key in OF_FILES if key in fields}
    drawn = drawn_graph(graph, contrast=None if contrast is None else Token(**contrast), **fields)
    return graph_to_file(drawn, **beside)


def opened(file: dict[str, Any]) -> dict[str, Any]:
    """The payload of the result that a graph file is opened as."""
    return graph_from_file(file, dense=False).payload().model_dump(exclude_unset=True)


def held(file: dict[str, Any]) -> dict[str, Any]:
    """The graph of a file as results hold it."""
    graph: dict[str, Any] = opened(file)["graph"]
    return graph


def small_graph(label: str = "says C", tokens: tuple[str, ...] = ("A", " B")) -> dict[str, Any]:
    nodes = [
        Node("", "token", None, 0, 5, tokens[0]),
        Node("", "feature", 1, 1, 7, label, value=2.0, influence=0.5, cumulative=0.5),
        Node("", "feature", 0, 0, 3, label, value=1.0, influence=0.2, cumulative=0.7),
        Node("", "logit", 3, 1, 9, " C", probability=0.9, is_target=True),
        Node("", "logit", 3, 1, 8, " D", probability=0.1),
    ]
    weights = np.array(
        [[1.5, 0, 0.25, 0, 0], [1.0, 0, 0, 0, 0], [0.5, 2.0, -0.75, 0, 0], [0.25, -1.0, 0.5, 0, 0]], np.float32
    )
    graph = Graph(
        nodes, np.array([1, 2, 3, 4]), weights, np.array([0.25, 0.0, 0.1, 0.0]), {(1, 3): "tested"}, list(tokens)
    )
    return written(
        graph, slug="small", scan="toy", prompt="".join(tokens), edge_threshold=1.0,
        scores={"completeness_score": 0.75}, generation={}, n_layers=2,
    )  # fmt: skip


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


def tracer_file():
    """As circuit-tracer writes them: an error of layer 5 with the id of feature 5 of layer 0."""

    def node(name, feature, layer, position, kind, script, **more):
        base = {"node_id": name, "feature": feature, "layer": layer, "ctx_idx": position, "feature_type": kind,
                "token_prob": 0.0, "is_target_logit": False, "run_idx": 0, "reverse_ctx_idx": 0, "jsNodeId": script,
                "clerp": "", "influence": 0.4, "activation": None}  # fmt: skip
        return base | more

    nodes = [
        node("0_5_1", cantor(0, 5), "0", 1, "cross layer transcoder", "0_5-0", activation=2.0),
        node("3_9_1", cantor(3, 9), "3", 1, "cross layer transcoder", "3_9-0", activation=1.5),
        node("6_300_2", cantor(6, 300), "6", 2, "cross layer transcoder", "6_300-0", activation=4.0),
        node("0_5_1", -1, "5", 1, "mlp reconstruction error", "5_1-0"),
        node("2_-1_0", -1, "2", 0, "mlp reconstruction error", "2_-1-0"),
        node("E_17_0", 0, "E", 0, "embedding", "E_17-0", influence=None),
        node("E_18_1", 1, "E", 1, "embedding", "E_18-1"),
        node("E_19_2", 2, "E", 2, "embedding", "E_19-2"),
        node("9_42_2", 42, "9", 2, "logit", "L_42-2", clerp='Output " Austin" (p=0.610)', token_prob=0.61,
             is_target_logit=True, influence=None),
        node("9_256003_2", 256003, "9", 2, "logit", "L_256003-2", clerp='Output "A - B" (p=0.1)', token_prob=0.1),
    ]  # fmt: skip
    links = [
        ("0_5_1", "3_9_1", 1.25),  # only the feature can act on layer 3
        ("E_18_1", "3_9_1", 0.125),
        ("0_5_1", "6_300_2", 2.0),  # twice: the feature, then the error
        ("3_9_1", "6_300_2", 0.5),
        ("0_5_1", "6_300_2", -1.0),
        ("6_300_2", "9_42_2", 3.0),
        ("2_-1_0", "9_42_2", 0.25),
        ("0_5_1", "9_42_2", 0.75),  # after an error: the error
        ("0_5_1", "9_256003_2", 0.5),  # nobody can tell
        ("E_99_9", "9_42_2", 9.0),  # no such node
    ]
    metadata = {"slug": "austin", "scan": "mntss/clt-gemma-2-2b-426k", "transcoder_list": [], "prompt": "<bos>a b",
                "prompt_tokens": ["<bos>", "a", " b"], "node_threshold": 0.8, "schema_version": 1}  # fmt: skip
    params = {"pinnedIds": "0_5_1,6_300_2", "supernodes": '[["say", "6_300_2", "3_9_1"]]', "linkType": "both",
              "clickedId": "null", "sg_pos": "", "pruningThreshold": "0.6",
              "clerps": json.dumps([[str(cantor(6, 300)), "my label"]])}  # fmt: skip
    return {"metadata": metadata, "qParams": params, "nodes": nodes,
            "links": [{"source": s, "target": t, "weight": w} for s, t, w in links]}  # fmt: skip


def neuronpedia_file():
    """As Neuronpedia's converter of attention-and-MLP graphs writes them."""

    def node(name, feature, layer, position, kind, label, **more):
        return {"node_id": name, "jsNodeId": name, "feature": feature, "layer": layer, "ctx_idx": position,
                "feature_type": kind, "clerp": label, "activation": None, "influence": 0.3} | more  # fmt: skip

    nodes = [
        node("E_5_0", None, "E", 0, "embedding", 'Emb: "x"', token="x"),
        node("1_cro_7_0", cantor(1, 7), 1, 0, "cross layer transcoder", "F43", activation=2.0),
        node("1_lor_7_0", cantor(1, 7), 1, 0, "lorsa", "F43", activation=1.0, qk_tracing_results={
            "pair_wise_contributors": [["E_5_0", "1_bias_tc_bD_0", 0.5]],
            "top_q_marginal_contributors": [], "top_k_marginal_contributors": []}),
        node("1_error_attn_0", None, 1, 0, "lorsa error", 'Err: attn "x"'),
        node("1_error_mlp_0", None, 1, 0, "mlp reconstruction error", 'Err: mlp "x"'),
        node("1_bias_tc_bD_0", None, 1, 0, "bias", "L1 Bias (tc_bD)"),
        node("1_unknown_blocks_1_hook_0", None, 1, 0, "unknown", "blocks.1.hook"),
        node("1_novel_0", None, 1, 0, "some new thing", "?"),
        node("2_9_0", 9, 2, 0, "logit", 'Logit " y" (p=0.250)', token_prob=0.25, token=" y"),
    ]  # fmt: skip
    links = [{"source": n["node_id"], "target": "2_9_0", "weight": 0.5 + i} for i, n in enumerate(nodes[:-1])]
    metadata = {"slug": "s", "scan": "llama", "prompt": "x", "prompt_tokens": ["x"], "schema_version": 1,
                "feature_details": {"neuronpedia_source_set": "scope"}, "info": {"creator_name": "me"}}  # fmt: skip
    return {"metadata": metadata, "qParams": {}, "nodes": nodes, "links": links, "qk_only_nodes": {}}
