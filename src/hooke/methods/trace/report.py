"""From a drawn and tested graph to the payload of a trace: nodes with their labels and verdicts, the
interchange file, groups, paths and the sentence with its claims."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hooke.methods.asking import lookalike
from hooke.methods.phrases import at, count, phrase, quote
from hooke.methods.quantities import told as quantity_told
from hooke.methods.trace import draw as inf
from hooke.methods.trace import explain, story
from hooke.methods.trace.coded import Coded, jumps
from hooke.methods.trace.draw import Drawn
from hooke.methods.trace.found import Found
from hooke.methods.trace.links import Link, Stood
from hooke.methods.trace.tries import Verification, judge
from hooke.model import Model
from hooke.results import Claim, Graph, Kind, Node, Verdict
from hooke.results.drawn import drawn_graph
from hooke.results.graph import Part
from hooke.results.graph_names import node_id
from hooke.results.payloads.common import Token
from hooke.sites import Site

UNSURE = 0.3  # a first choice below this probability is called unsure


def build_graph(found: Found) -> Graph:
    """Nodes in the order of the matrix's columns, the logits after them."""
    case, kept, drawn, logits, verification = found.case, found.kept, found.drawn, found.logits, found.verification
    model, view, coded, probabilities = case.model, case.view, case.coded, found.probabilities
    n_pos, n_layers = view.n_tokens, model.parts.n_layers
    texts = model.text(view.ids)
    blocks, ids, positions = kept.blocks.tolist(), kept.ids.tolist(), kept.positions.tolist()
    layers = [coded.layer(b) for b in range(len(coded.basis))]
    starts = _starts(coded)
    taken = set() if coded.links is None else set(coded.links.ranks)
    ranks = [rank for rank in range(1, len(kept) + len(taken) + 1) if rank not in taken]
    nodes: list[Node] = []
    gates = jumps(case, kept).tolist() if case.live is not None else [0.0] * len(kept)
    for k, (b, i, p) in enumerate(zip(blocks, ids, positions, strict=True)):
        node = _node("feature", layers[b], p, starts[b] + i)
        node.jump = gates[k] or None
        node.value, node.rank = float(kept.values[k]), ranks[k]
        if (drawn.edges.delta is not None or case.live is not None) and kept.baselines is not None:
            node.delta = float(kept.values[k] - kept.baselines[k])
            node.total = float(drawn.effects[k])
            node.averaged = None if drawn.averaged is None else float(drawn.averaged[k])
        node.reads = [texts[q] for q in drawn.labels.reads[k]]
        node.promotes = model.text(drawn.labels.promotes[k])
        node.suppresses = model.text(drawn.labels.suppresses[k])
        node.label = describe(node)
        if verification is not None:
            node.verdict, node.reason = verification.verdicts.get(k, ("untested", "not in the sample that was tested"))
        else:
            node.reason = "verification was switched off"
        nodes.append(node)
    nodes += _links(found, texts)
    n_nodes = len(nodes)
    for p, token in enumerate(view.ids.tolist()):
        nodes.append(_node("token", None, p, token, texts[p]))
    for b, layer in enumerate(layers):
        several = layers.count(layer) > 1
        label = f"features of {coded.basis[b].reads[-1] if several else f'layer {layer}'} that the budget hides"
        number = layers[:b].count(layer) or None  # of further dictionaries of the layer, so that ids differ
        nodes += [_node("remainder", layer, p, number, label) for p in range(n_pos)]
    for site in sorted(coded.errors):
        nodes += [_node("error", site.layer, p, None, _left_at(site, coded)) for p in range(n_pos)]
    n_sources = len(nodes)
    share = inf.cumulative(drawn.influence.nodes)
    for node, own, rest in zip(nodes, drawn.influence.nodes.tolist(), share.tolist(), strict=True):
        node.influence, node.cumulative = own, min(rest, 1.0)
    for token, text in zip(logits.ids, model.text(logits.ids), strict=True):
        node = _node("logit", n_layers + 1, n_pos - 1, token, text)
        node.probability, node.is_target, node.cumulative = (
            float(probabilities[token]),
            token == case.metric.target,
            0.0,
        )
        nodes.append(node)
    reads = inf.logit_values(case.view, logits, case.metric).tolist()
    for row, (node, value) in enumerate(zip(nodes[n_sources:], reads, strict=True), n_nodes):
        node.value = value
        if case.live is not None:
            node.delta = float(drawn.values[row])
        elif drawn.edges.delta is not None:  # what the linear view says of its change
            node.delta = float(drawn.edges.delta[row].sum())
    targets, weights, constants, parts = _by_input(drawn, len(kept), n_nodes)
    targets = np.where(targets < n_nodes, targets, targets + n_sources - n_nodes)
    verdicts = {} if verification is None else dict(verification.edge_verdicts)
    graph = Graph(nodes, targets, _padded(weights, len(logits.ids)), constants, verdicts, texts, parts, form=case.form)
    if drawn.edges.delta is not None:
        graph.deltas = _padded(drawn.edges.delta, len(logits.ids))
    return graph


def _padded(weights: Tensor, n_logits: int) -> np.ndarray:
    """Weights with the logits as sources, which lead nowhere."""
    return np.pad(weights.cpu().float().numpy(), ((0, 0), (0, n_logits)))


def _by_input(drawn: Drawn, n_units: int, n_nodes: int) -> tuple[np.ndarray, Tensor, np.ndarray, list[Part]]:
    """Targets, weights, constants and inputs of a graph: one row for each feature and logit, one for the value, the
    query and the key of each link. How far the map bends on the way to a link stands with its value."""
    weights, constants = drawn.edges.weights, drawn.edges.constants.cpu().double().numpy()
    targets, n_links = np.arange(len(weights)), n_nodes - n_units
    if drawn.by_way is None:
        return targets, weights, constants, []
    link = targets[n_units:n_nodes]
    targets = np.concatenate([targets[:n_units], link, link, link, targets[n_nodes:]])
    weights = torch.cat([weights[:n_units], drawn.by_way, weights[n_nodes:]])
    constants = np.concatenate([constants[:n_nodes], np.zeros(2 * n_links), constants[n_nodes:]])
    inputs: tuple[Part, ...] = ("v", "q", "k")
    logits: list[Part] = [""] * (len(drawn.edges.weights) - n_nodes)
    units: list[Part] = [""] * n_units
    return targets, weights, constants, [*units, *(i for i in inputs for _ in link), *logits]


def _links(found: Found, texts: list[str]) -> list[Node]:
    """Nodes of the links, in the order of the matrix's columns after the features."""
    links, case = found.case.coded.links, found.case
    if links is None or case.live is None:
        return []
    told = {link.place: link for link in found.links}
    named = explain.link_labels(case, links, found.drawn.bar)
    nodes = []
    for k, row in enumerate(links.places.tolist()):
        layer, head, query, key = row
        node = Node("", "link", layer, query, head, key=key)
        node.id = node_id(node)
        node.value, node.delta = float(links.values[k]), float(links.deltas[k])
        node.rank, node.total = links.ranks[k], float(found.drawn.effects[len(found.kept) + k])
        node.seen = float(links.seen[k])
        node.reads, node.promotes = [texts[key]], case.model.text(named[k])
        node.label = f"head {head} looks at {at(texts, key)}"
        node.label += f", linked with {phrase([quote(t) for t in node.promotes[:3]])}" if node.promotes else ""
        link = told[layer, head, query, key]
        node.verdict, node.reason = link.verdict, link.reason
        nodes.append(node)
    return nodes


def _starts(coded: Coded) -> list[int]:
    """Where the numbers of a block's features begin: files know one list of features a layer."""
    layers = [coded.layer(b) for b in range(len(coded.basis))]
    return [sum(coded.basis[a].n_features for a in range(b) if layers[a] == layer) for b, layer in enumerate(layers)]


def _left_at(site: Site, coded: Coded) -> str:
    """What an error is of: the names that files know, or the point."""
    if site.point == "attn_out":
        return "attn"
    taken = site.point == "mlp_proj" and Site("mlp_out", site.layer) in coded.errors
    return "dictionary" if site.point in ("mlp_out", "mlp_proj") and not taken else site.point


def _node(kind: Kind, layer: int | None, position: int, index: int | None, label: str = "") -> Node:
    node = Node("", kind, layer, position, index, label)
    node.id = node_id(node)
    return node


def describe(node: Node) -> str:
    """The label of a feature: what it reads here, and the words that its output is linked with by the unembedding."""
    parts = []
    if node.reads:
        parts.append("reads " + phrase([quote(t) for t in dict.fromkeys(node.reads[:2])]))
    if node.promotes:
        parts.append("linked with " + phrase([quote(t) for t in node.promotes[:3]]))
    return ", ".join(parts) or "no readable label"


def payload_of(found: Found, graph: Graph, prompt: str) -> tuple[dict[str, Any], list[Claim]]:
    """The payload and the claims."""
    case, drawn, against, probabilities = found.case, found.drawn, found.against, found.probabilities
    model, metric = case.model, case.metric
    best = probabilities.topk(5)
    top = [_token(model, i, float(p)) for i, p in zip(best.indices.tolist(), best.values.tolist(), strict=True)]
    target = _token(model, metric.target, float(probabilities[metric.target]))
    other = metric.contrast
    contrast = None if other is None else _token(model, other, float(probabilities[other]))
    subject = quote(target["token"]) + ("" if contrast is None else f" rather than {quote(contrast['token'])}")
    text, claims, groups = story.tell(found, graph, subject, target["probability"])
    warning, last = against.told(model)
    claims.append(last)
    if warning:
        text += " " + re.split(r": |, so", warning)[0] + "."  # the rest of it is a note
    if found.fault:
        text = f"This graph failed its own check, so nothing below can be relied on: {found.fault}. {text}"
    against_token = None if contrast is None else Token(**contrast)
    held = drawn_graph(graph, prompt=prompt, n_layers=model.parts.n_layers, contrast=against_token)
    return (
        {
            "top": top,
            "target": target,
            "contrast": contrast,
            "quantity": quantity_told(metric.quantity),
            "graph_quantity": quantity_told(metric.graph_quantity),
            "own_choice": top[0],
            "scores": drawn.scores,
            "checks": found.checks,
            "verification": found.summary,
            "tested": _tested(found, metric.quantity.name, against.by) if found.summary else "",
            "sentence": text,
            "groups": groups,
            "flows": story.flows(found),
            "part_paths": story.part_paths(found, graph),
            "paths": [_path(graph, path, found.verification) for path in found.paths],
            "trials": _trials(graph, found.verification),
            "attention": [_link(found, graph, link) for link in found.attention],
            "counterfactuals": against.payload(model, case.view.ids.view(-1)),
            "notes": [
                *([f"this graph failed its own check: {found.fault}"] if found.fault else []),
                *_notes(model, top, target, contrast, case.view.n_tokens, probabilities),
                *_sink(found, graph.tokens),
                *([warning] if warning else []),
            ],
            "units": explain.called(case.coded.basis),
            "graph": held.model_dump(exclude_unset=True),
        },
        claims,
    )


def _tested(found: Found, name: str, by: str) -> str:
    """What verification found, each figure beside its control."""
    v, links = found.summary, found.case.coded.links
    alone = [count(len(found.kept), explain.called(found.case.coded.basis))]
    alone += [] if links is None else [count(len(links), "attention links")]

    def of(key: str) -> str:
        return "-" if v.get(key) is None else f"{v[key]:.2f}"

    beside = ("held", "with attention and norms held")
    if "held_spearman" not in v:
        beside = ("gradient", "by the plain gradient")
    text = (
        f"Tested in the live model: {v['as_predicted']} nodes matter, as predicted; {v['not_as_predicted']} matter, "
        f"not as predicted; {v['no_effect']} have no effect beyond random ones. Rank correlation of predicted and "
        f"measured effects of single nodes: {of('spearman')} ({beside[1]}: {of(beside[0] + '_spearman')}); of groups "
        f"drawn at random: {of('groups_spearman')} ({of(beside[0] + '_groups_spearman')})"
    )
    if v.get("edges_tried"):
        text += (
            f"; of what {v['edges_tried']} single edges carry to the answer: {of('edges_spearman')} "
            f"({of('edges_held_spearman')}; shuffled: {of('edges_shuffled_spearman')})"
        )
    if v.get("parts_spearman") is not None:
        text += f"; of the parts of the story: {of('parts_spearman')}"
    if v.get("paths_sign") is not None:
        text += f". {v['paths_sign']:.0%} of the {v['paths_tried']} paths carry what they should, by sign"
    if v.get("part_paths_sign") is not None:
        text += f", and {v['part_paths_sign']:.0%} of the {v['part_paths_tried']} paths through parts"
    if v.get("curvature") is not None:
        text += f". The edges into the answer leave {v['curvature']:.1%} of its change unaccounted for"
    text += f". {phrase(alone)} alone keep {of('fit')} of the effect on the {name} (random nodes {of('random_fit')})"
    return text + ("" if by != "passages" else ", against neutral passages")


def _sink(found: Found, tokens: list[str]) -> list[str]:
    """A note where attention rests on the first token whatever comes."""
    if not explain.sink(found.case):
        return []
    share = explain.resting(found.case.view)
    return [f"{share:.0%} of all attention rests on the first token, {quote(tokens[0])}: nodes are not told to read it"]


def _trials(graph: Graph, verification: Verification | None) -> list[dict[str, Any]]:
    """What was predicted and measured, with the names of nodes."""
    tokens = {node.position: node.id for node in graph.nodes if node.kind == "token"}
    return [
        {
            "kind": trial.kind,
            "nodes": [
                *([] if trial.token is None else [tokens[trial.token]]),
                *(graph.nodes[u].id for u in trial.units),
            ],
            "predicted": trial.predicted,
            "measured": trial.measured,
        }
        for trial in ([] if verification is None else verification.trials)
    ]


def _link(found: Found, graph: Graph, link: Link) -> dict[str, Any]:
    """A link of attention, why it is there, and what came of taking away what it carries, in words too."""
    layer, head, query, key = link.place
    tokens, name = graph.tokens, found.case.metric.graph_quantity.name
    pairs = [
        {"query": _stood(a, graph, found), "key": _stood(b, graph, found), "amount": amount}
        for a, b, amount in link.pairs
    ]
    text = (
        f"head {head} of layer {layer} at {at(tokens, query)} looks at {at(tokens, key)} with {link.pattern:.0%} of "
        f"its attention: its score is {link.score:.1f} there"
    )
    if link.runner_up is not None:
        text += f" and {link.runner_score:.1f} at {at(tokens, link.runner_up)} ({link.runner_pattern:.0%})"
    if pairs:
        best = pairs[0]
        text += f"; the pair that adds most is {best['query']} here with {best['key']} there ({best['amount']:+.1f})"
    moved = (
        f"{link.predicted:+.2f}, untested"
        if link.measured is None
        else (f"{link.measured:+.2f}, predicted {link.predicted:+.2f}")
    )
    text += f". With what it brings as in the counterfactuals the {name} changes by {moved}"
    return {
        "layer": layer, "head": head, "query": query, "key": key, "pattern": link.pattern, "predicted": link.predicted,
        "measured": link.measured, "verdict": link.verdict, "score": link.score, "runner_up": link.runner_up,
        "runner_up_score": link.runner_score, "runner_up_pattern": link.runner_pattern, "pairs": pairs, "text": text,
    }  # fmt: skip


def _stood(part: Stood | None, graph: Graph, found: Found) -> str:
    """A part of the stream in words."""
    if part is None:
        return "biases"
    if part.unit is not None:
        node = graph.nodes[part.unit]
        return f"{explain.called(found.case.coded.basis).removesuffix('s')} {node.id} ({node.label})"
    if part.kind == "token":
        return "the token"
    if part.kind == "rest":
        return "all else"
    if part.kind == "attention":
        return f"what attention of layer {part.layer} brought"
    return f"other {explain.called(found.case.coded.basis)} of layer {part.layer}"


def _path(graph: Graph, path: explain.Path, verification: Verification | None) -> dict[str, Any]:
    """A path with what replacing its token along it alone did."""
    verdict: Verdict = "untested"
    own = None
    if verification is not None:
        along = [trial for trial in verification.trials if trial.kind == "path"]
        own = next((t for t in along if t.token == path.token and t.units == path.units[::-1]), None)
    if own is not None and verification is not None:
        bar = verification.summary["edges_control_95th_percentile"]
        verdict = judge(own.predicted, own.measured, float(str(bar)))[0]
    return {
        "token": graph.tokens[path.token],
        "position": path.token,
        "nodes": [graph.nodes[u].id for u in reversed(path.units)],
        "labels": [graph.nodes[u].label for u in reversed(path.units)],
        "predicted": -path.weight,
        "carried": None if own is None else own.measured,
        "verdict": verdict,
    }


def _token(model: Model, token: int, probability: float) -> dict[str, Any]:
    return {"token": model.text([token])[0], "id": token, "probability": probability}


def _notes(
    model: Model,
    top: list[dict[str, Any]],
    target: dict[str, Any],
    contrast: dict[str, Any] | None,
    n: int,
    probabilities: Tensor,
) -> list[str]:
    """What a reader must know before anything else."""
    notes = []
    if top[0]["probability"] < UNSURE:
        notes.append(
            f"the model is unsure: its first choice, {quote(top[0]['token'])}, has {top[0]['probability']:.0%}"
        )
    if target["id"] != top[0]["id"]:
        notes.append(
            f"this explains {quote(target['token'])} ({target['probability']:.2%}); "
            f"the model's own choice is {quote(top[0]['token'])} ({top[0]['probability']:.1%})"
        )
    if contrast is not None and contrast["probability"] > target["probability"]:
        notes.append(f"the model prefers the contrast, {quote(contrast['token'])}, to the target")
    for named in (target, contrast) if contrast is not None else (target,):
        meant = lookalike(model, named["id"], probabilities)
        notes += [meant] if meant else []
    if n == 1:
        notes.append("a prompt of one token leaves nothing to compare: nothing precedes it")
    if model.info.get("note"):
        notes.append(str(model.info["note"]))
    return notes


def tensors_of(graph: Graph, drawn: Drawn) -> dict[str, np.ndarray]:
    """The whole matrix, for those who want every edge."""
    out = {
        "weights": graph.weights,
        "targets": graph.targets,
        "constants": graph.constants,
        "influence": drawn.influence.nodes,
    }
    if drawn.edges.delta is not None:
        out["deltas"] = drawn.edges.delta.cpu().float().numpy()
    return out
