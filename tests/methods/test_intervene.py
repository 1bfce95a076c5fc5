"""`intervene`: against a slow obvious version, its controls, and the refusals."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
import torch

import hooke
from hooke.errors import HookeError
from hooke.methods.intervene import Unit, intervene, interventions, matched, percent, prepare
from hooke.methods.trace.parts import NAMED
from hooke.model import Edit
from hooke.results import Result
from hooke.results.payloads.trace import Intervention
from hooke.sites import Site

PROMPT = "Alice was beginning to get very tired of sitting"


@pytest.fixture(scope="module")
def traced(glass):
    return hooke.trace(glass, PROMPT, nodes=60)


@pytest.fixture(scope="module")
def ready(glass, traced):
    return prepare(glass, traced)


def features(traced):
    """Node id -> (layer, neuron, position, value, delta), from the file alone."""
    out = {}
    for node in traced.payload["graph"]["nodes"]:
        if node["kind"] == "feature":
            layer, neuron, position = (int(x) for x in node["id"].split("_"))
            out[node["id"]] = (layer, neuron, position, node["value"], node.get("delta"))
    return out


def one_by_one(model, prompt, places):
    """Next-token logits with each (layer, neuron, position, value) set by an edit of its own."""
    edits = [Edit(Site("mlp_act", layer), value=v, positions=[p], index=[n]) for layer, n, p, v in places]
    return model.run(prompt, edits=edits, logits="last").logits[0]


@pytest.mark.parametrize("op", ["off", "double"])
@pytest.mark.parametrize("count", [1, 7, 60])
def test_equals_the_slow_obvious_version(glass, traced, ready, op, count):
    nodes = list(features(traced))[:count]
    view = intervene(glass, traced, nodes, op=op, prepared=ready).payload
    Intervention.model_validate(view)
    places = []
    for layer, neuron, position, value, delta in (features(traced)[n] for n in nodes):
        assert delta is not None
        places.append((layer, neuron, position, value - delta if op == "off" else 2 * value))
    clean = glass.run(PROMPT, logits="last").logits[0]
    slow = one_by_one(glass, PROMPT, places)
    for row in view["rows"]:
        assert row["before"] == pytest.approx(float(clean.softmax(-1)[row["id"]]), abs=1e-5)
        assert row["after"] == pytest.approx(float(slow.softmax(-1)[row["id"]]), abs=1e-5)
        assert row["token"] == glass.text([row["id"]])[0]
    target = traced.payload["target"]["id"]
    change = slow.log_softmax(-1)[target] - clean.log_softmax(-1)[target]
    assert view["change"] == pytest.approx(float(change), abs=1e-4)
    shown = {row["id"] for row in view["rows"]}
    assert shown == {target, *clean.topk(5).indices.tolist(), *slow.topk(5).indices.tolist()}


def test_controls_are_other_neurons_moved_by_the_same_amounts(glass, traced, ready):
    nodes = list(features(traced))
    members = [ready.units[n] for n in nodes]
    inside = {(u.layer, u.position, u.neuron) for u in ready.units.values()}
    picks = matched(ready, members, np.random.default_rng(0))
    assert None not in picks and len(set(picks)) == len(picks) and not inside & set(picks)
    assert [p[:2] for p in picks] == [(u.layer, u.position) for u in members]
    own = np.array([u.value for u in members])
    theirs = np.array([float(ready.acts[layer][at, neuron]) for layer, at, neuron in picks])
    assert np.corrcoef(own, theirs)[0, 1] > 0.5  # as near as the graph leaves them
    # one control group, set one by one
    view = intervene(glass, traced, nodes, op="double", controls=1, seed=4, prepared=ready).payload
    picks = matched(ready, members, np.random.default_rng(4))
    places = [
        (layer, neuron, at, float(ready.acts[layer][at, neuron]) + unit.value)
        for (layer, at, neuron), unit in zip(picks, members, strict=True)
    ]
    slow = one_by_one(glass, PROMPT, places)
    for row in view["rows"]:
        assert row["control"] == pytest.approx(float(slow.softmax(-1)[row["id"]]), abs=1e-5)
    assert view["controls"] == 1 and view["control_size"] == len(members)
    assert view["control_least"] == view["control_change"] == view["control_greatest"]


def test_several_in_one_batch_are_each_alone(ready, traced):
    nodes = list(features(traced))
    wanted = [(nodes[:3], "off"), (nodes[3:30], "double"), (nodes, "off")]
    together = interventions(ready, wanted, controls=3, seed=1)
    for view, one in zip(together, wanted, strict=True):
        (alone,) = interventions(ready, [one], controls=3, seed=1)
        assert alone["nodes"] == view["nodes"] and alone["change"] == pytest.approx(view["change"], abs=1e-4)
        assert alone["control_change"] == pytest.approx(view["control_change"], abs=1e-4)


def changed(traced, change):
    """A copy of a trace with another content, as somebody may have edited the file."""
    data = json.loads(traced.to_json())
    change(data)
    return Result.model_validate(data)


def test_doubling_nothing_changes_nothing(glass, traced):
    """A neuron that is silent stays silent when doubled, and its controls stay where they are."""
    ready = prepare(glass, traced)
    layer, position = 2, 5
    neuron = int(ready.acts[layer][position].abs().argmin())
    silent = Unit(layer, position, neuron, float(ready.acts[layer][position, neuron]), 1.0)
    assert abs(silent.value) < 1e-3
    ready.units["silent"] = silent
    view = intervene(glass, traced, ["silent"], op="double", prepared=ready).payload
    assert view["change"] == pytest.approx(0, abs=1e-3) and view["control_change"] == pytest.approx(0, abs=1e-3)
    assert all(row["before"] == pytest.approx(row["after"], abs=1e-3) for row in view["rows"])
    # and so is switching off what the counterfactuals leave as it is
    for name, unit in ready.units.items():
        ready.units[name] = unit._replace(baseline=unit.value)
    view = intervene(glass, traced, list(ready.units), op="off", prepared=ready).payload
    assert view["change"] == pytest.approx(0, abs=1e-4) and view["control_greatest"] == pytest.approx(0, abs=1e-4)


def test_result_is_an_envelope_with_a_parent_and_one_claim(glass, traced, tmp_path):
    nodes = list(features(traced))[:4]
    result = intervene(glass, traced, nodes[::-1] + nodes)
    assert result.kind == "intervention" and result.parents == [traced.id] and result.payload["trace"] == traced.id
    assert result.payload["nodes"] == nodes  # each once, in the order of the graph
    (claim,) = result.claims
    assert (
        claim.text == result.payload["sentence"]
        and claim.verdict == "tested"
        and claim.evidence == ["#change", *(f"{traced.id}#{node}" for node in nodes)]
    )
    assert "Switching off 4 neurons moves" in claim.text and "random groups of equal size move it to" in claim.text
    assert intervene(glass, traced, nodes).id == result.id  # equal work, equal id
    back = hooke.load_result(result.save(tmp_path / "i.json"))
    assert back.payload == json.loads(result.to_json())["payload"]
    saved = hooke.load_result(traced.save(tmp_path / "t.json"))
    assert intervene(glass, saved, nodes).payload["change"] == pytest.approx(result.payload["change"], abs=1e-6)


def test_contrast_is_a_difference(glass):
    traced = hooke.trace(glass, PROMPT, nodes=30, target=11, contrast=7, verify=False)
    view = intervene(glass, traced, list(features(traced))[:5]).payload
    assert view["contrast"]["id"] == 7 and {7, 11} <= {row["id"] for row in view["rows"]}
    places = [(a, n, p, v - d) for a, n, p, v, d in list(features(traced).values())[:5]]
    clean, slow = glass.run(PROMPT, logits="last").logits[0], one_by_one(glass, PROMPT, places)
    assert view["change"] == pytest.approx(float((slow[11] - slow[7]) - (clean[11] - clean[7])), abs=1e-4)
    assert "the logit difference to" in view["sentence"] and view["quantity"]["name"] == "logit difference"


def test_without_counterfactual_values_off_is_zero(glass):
    traced = hooke.trace(glass, glass.tokens(torch.tensor([40])), nodes=20, verify=False)
    found = features(traced)
    assert all(delta is None for *_, delta in found.values())
    view = intervene(glass, traced, list(found)).payload
    slow = one_by_one(glass, torch.tensor([40]), [(a, n, p, 0.0) for a, n, p, _, _ in found.values()])
    for row in view["rows"]:
        assert row["after"] == pytest.approx(float(slow.softmax(-1)[row["id"]]), abs=1e-5)
    assert view["sentence"].startswith("Setting to zero 20 neurons")


def test_a_graph_that_leaves_no_neurons_says_so(glass):
    everything = glass.parts.n_layers * glass.parts.d_mlp
    traced = hooke.trace(glass, glass.tokens(torch.tensor([40])), nodes=everything, verify=False)
    view = intervene(glass, traced, list(features(traced))[:3]).payload
    Intervention.model_validate(view)
    assert view["controls"] == 0 and view["control_change"] is None and view["rows"][0]["control"] is None
    assert view["control_size"] == 0
    assert "no neurons there" in view["sentence"]


def test_the_size_of_random_groups_is_what_the_graph_leaves(glass):
    prompt = glass.tokens(torch.tensor([40]))
    traced = hooke.trace(glass, prompt, nodes=glass.parts.n_layers * glass.parts.d_mlp - 4, verify=False)
    by_layer = {
        layer: [n for n, f in features(traced).items() if f[0] == layer] for layer in range(glass.parts.n_layers)
    }
    left = {layer: glass.parts.d_mlp - len(nodes) for layer, nodes in by_layer.items()}
    layer = max(left, key=lambda layer: left[layer])
    view = intervene(glass, traced, by_layer[layer]).payload
    Intervention.model_validate(view)
    assert view["control_size"] == left[layer] > 0
    assert ("of one neuron" if left[layer] == 1 and len(by_layer[layer]) == 1 else f"of {left[layer]}, all") in view[
        "sentence"
    ]


def test_a_verified_trace_brings_its_groups_along(traced, glass, ready):
    groups, done = traced.payload["groups"], traced.payload["interventions"]
    assert [(v["nodes"], v["op"]) for v in done] == [
        (sorted(g["nodes"], key=list(ready.units).index), op) for g in groups[:NAMED] for op in ("off", "double")
    ]
    for view in done:
        Intervention.model_validate(view)
        again = intervene(glass, traced, view["nodes"], op=view["op"], prepared=ready).payload
        assert again["change"] == pytest.approx(view["change"], abs=1e-4)
        assert again["control_change"] == pytest.approx(view["control_change"], abs=1e-4)
    assert hooke.trace(glass, PROMPT, nodes=10, verify=False).payload["interventions"] == []


def test_refusals_are_one_line(glass, traced, ready):
    graph = traced.payload["graph"]
    kinds = {n["kind"]: n["id"] for n in graph["nodes"]}
    one = list(features(traced))[:1]
    cases = [
        ([kinds["token"]], {}, "is a token; only neurons"),
        ([kinds["remainder"]], {}, "is a remainder; only neurons"),
        ([kinds["logit"]], {}, "is a logit; only neurons"),
        (["0_1_99"], {}, "no node '0_1_99' in this graph"),
        (["x\n" * 500], {}, "no node"),
        ([], {}, "no nodes given"),
        ("0_1_2", {}, "nodes must be a list"),
        ([3], {}, "nodes must be a list"),
        (one, {"op": "triple"}, "no operation called 'triple'"),
        (one, {"controls": 0}, "controls must lie between"),
    ]
    for nodes, options, message in cases:
        with pytest.raises(HookeError, match=message) as error:
            intervene(glass, traced, nodes, prepared=ready, **options)
        assert "\n" not in str(error.value) and len(str(error.value)) < 200
    other = hooke.trace(glass, "Alice was beginning", nodes=5, verify=False)
    with pytest.raises(HookeError, match="belongs to another trace"):
        intervene(glass, other, one, prepared=ready)


@pytest.mark.parametrize("change, message", [
    (lambda d: d["provenance"].update(weights_sha256="0" * 64), "made with glassllm .weights 000000000000"),
    (lambda d: d["arguments"].update(basis=["abc"]), "not in the neuron basis"),
    (lambda d: d.update(kind="lens"), "this is a lens"),
    (lambda d: d["payload"].pop("graph"), "graph: Field required"),
    (lambda d: d["payload"].pop("target"), "target: Field required"),
    (lambda d: d["payload"]["target"].update(id=10**9), "not a token"),
    (lambda d: d["payload"]["graph"].update(nodes=[]), "not there"),
    (lambda d: d["payload"]["graph"]["nodes"].append({"a": 1}), "nodes.\\d+"),
    (lambda d: d["payload"]["graph"]["links"]["source"].append(1), "not of one length"),
    (lambda d: _retoken(d), "differ from the model's own"),
    (lambda d: _renumber(d, "77_5_3"), "no neuron of glassllm"),
    (lambda d: _renumber(d, "0_99999_3"), "no neuron of glassllm"),
])  # fmt: skip
def test_files_that_somebody_changed_are_refused(glass, traced, change, message):
    with pytest.raises(HookeError, match=message) as error:
        prepare(glass, changed(traced, change))
    assert "\n" not in str(error.value)


def _retoken(data):
    for node in data["payload"]["graph"]["nodes"]:
        if node["kind"] == "token":
            node["index"] = 100 + node["position"]


def _renumber(data, name):
    node = next(n for n in data["payload"]["graph"]["nodes"] if n["kind"] == "feature")
    layer, number, position = (int(x) for x in name.split("_"))
    node.update(id=name, layer=layer, index=number, position=position)


def test_progress_is_told_often_and_can_stop_the_work(glass):
    seen: list[tuple[str, float]] = []
    hooke.trace(glass, PROMPT, nodes=30, progress=lambda stage, done: seen.append((stage, done)))
    stages = list(dict.fromkeys(stage for stage, _ in seen))
    assert stages == ["forward", "select", "graph", "verification", "interventions", "write"]
    for stage in stages:
        told = [done for name, done in seen if name == stage]
        assert told == sorted(told) and told[0] == 0 and told[-1] == 1
    assert sum(stage == "select" for stage, _ in seen) > 12

    class Enough(BaseException):
        pass

    for stop in stages:

        def stopping(stage, done, stop=stop):
            if stage == stop and done > 0:
                raise Enough

        with pytest.raises(Enough):
            hooke.trace(glass, PROMPT, nodes=30, progress=stopping)
    assert hooke.trace(glass, PROMPT, nodes=5, verify=False).payload["target"]  # nothing is left behind in the model
    told = []
    hooke.lens(glass, PROMPT, progress=lambda stage, done: told.append(done))
    assert told == sorted(told) and len(told) == glass.parts.n_layers + 2


def test_a_second_is_enough_on_the_default_model(smol):
    traced = hooke.trace(smol, "The capital of France is", nodes=1000, verify=False)
    ready = prepare(smol, traced)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        intervene(smol, traced, list(ready.units), prepared=ready)
        times.append(time.perf_counter() - start)
    assert min(times) < 3, times  # half a second when nothing else runs; this only guards


def test_percent():
    assert [percent(x) for x in (0.773, 0.0123, 0.0057, 0.00004, 1e-9, 0.0, 1.0)] == [
        "77.3%", "1.2%", "0.57%", "0.004%", "under 0.001%", "0.0%", "100.0%"]  # fmt: skip
