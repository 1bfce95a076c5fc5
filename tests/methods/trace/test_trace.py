"""`trace` end to end: exact sums, what scripts rely on, and the refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import hooke
from hooke.dictionaries import neurons
from hooke.errors import HookeError
from hooke.methods.metric import Metric, logit_targets
from hooke.methods.trace import draw as inf
from hooke.methods.trace import select
from hooke.methods.trace.coded import encode
from hooke.methods.trace.counterfactuals import baselines
from hooke.methods.trace.draw import logit_values
from hooke.methods.trace.edges import edges, readers
from hooke.methods.trace.parts import NAMED
from hooke.methods.trace.select import relp, unit_effects, units_at
from hooke.methods.trace.tries import Verification, judge, weigh
from hooke.model import Edit, held_view
from hooke.results import WORDS
from hooke.results.formats.graph_file import check_graph_file, file_of, graph_from_file
from hooke.sites import Site

PROMPT = "Alice was beginning to get very tired of sitting"


@pytest.fixture(scope="module")
def traced(glass):
    return hooke.trace(glass, PROMPT, nodes=60)


def test_keys_that_scripts_rely_on(traced, glass):
    data = json.loads(traced.to_json())
    assert set(data) >= {"kind", "version", "arguments", "provenance", "status", "seconds", "payload"}
    assert data["kind"] == "trace" and data["status"] == "complete" and "total" in data["seconds"]
    payload = data["payload"]
    assert set(payload["target"]) == {"token", "id", "probability"} and payload["contrast"] is None
    assert {"completeness", "replacement", "unexplained"} <= set(payload["scores"])
    verification = payload["verification"]
    wanted = {
        "spearman",
        "sign_agreement",
        "groups_spearman",
        "fit",
        "random_fit",
        "as_predicted",
        "not_as_predicted",
        "no_effect",
        "gradient_spearman",
        "groups_gradient_spearman",
    }
    assert wanted <= set(verification)
    assert payload["checks"]["replacement_max_abs_diff"] < 1e-3
    assert payload["checks"]["reader_max_rel_error"] < 1e-5 and payload["checks"]["derivative_max_rel_error"] < 1e-3
    with torch.no_grad():
        own = int(glass.hf(glass.tokens(PROMPT).ids).logits[0, -1].argmax())
    assert payload["target"]["id"] == own
    assert len(payload["top"]) == 5 and payload["top"][0]["id"] == own


def test_graph_file_is_valid_and_reads_back(traced):
    graph = file_of(traced, "t")
    check_graph_file(graph)
    assert graph_from_file(graph).to_dict() == graph
    features = [n for n in graph["nodes"] if n["hooke"]["kind"] == "feature"]
    links = [n for n in graph["nodes"] if n["hooke"]["kind"] == "link"]
    assert features and {n["hooke"]["rank"] for n in (*features, *links)} == set(range(1, 61))
    for node in links:
        own = node["hooke"]
        assert node["node_id"] == f"{node['layer']}_unknown_link{own['index']}-{own['key']}_{node['ctx_idx']}"
        assert set(own["parts"]) == {"q", "k", "v"} and own["key"] <= node["ctx_idx"] and abs(own["seen"]) <= 1
    for node in features:
        layer, index, position = (int(x) for x in node["node_id"].split("_"))
        assert int(node["layer"]) == layer and node["ctx_idx"] == position and 0 <= index < 341
    remainders = [n for n in graph["nodes"] if n["hooke"]["kind"] == "remainder"]
    assert remainders
    for node in remainders:
        assert node["node_id"] == f"{node['layer']}_error_mlp_{node['ctx_idx']}"
        assert node["feature_type"] == "mlp reconstruction error"


def test_sums_can_be_checked_from_the_file(traced):
    graph = file_of(traced, "t")
    incoming: dict[str, float] = {}
    for link in graph["links"]:
        incoming[link["target"]] = incoming.get(link["target"], 0.0) + link["weight"]
    checked = 0
    for node in graph["nodes"]:
        own = node["hooke"]
        if own["kind"] in ("feature", "link", "logit"):
            total = incoming.get(node["node_id"], 0.0) + own["dropped"]
            assert total == pytest.approx(own["delta"], abs=1e-4)
            checked += 1
    assert checked > 60


def test_selected_values_are_the_models_own_activations(traced, glass):
    sites = [Site("mlp_act", layer) for layer in range(glass.parts.n_layers)]
    acts = glass.run(PROMPT, read=sites).acts
    for node in traced.payload["graph"]["nodes"]:
        if node["kind"] == "feature":
            layer, index, position = (int(x) for x in node["id"].split("_"))
            own = float(acts[Site("mlp_act", layer)][0, position, index])
            assert node["value"] == pytest.approx(own, abs=1e-4)


def test_result_saves_and_loads_with_its_tensors(traced, tmp_path):
    path = traced.save(tmp_path / "t.json")
    back = hooke.load_result(path)
    assert back.id == traced.id and back.payload == json.loads(traced.to_json())["payload"]
    assert np.array_equal(back.tensors["weights"], traced.tensors["weights"])
    weights, constants = back.tensors["weights"].astype(float), back.tensors["constants"]
    assert weights.shape == (len(back.tensors["targets"]), weights.shape[1]) and np.isfinite(weights).all()
    assert len(constants) == len(weights)


def test_equal_work_gives_equal_ids(glass):
    a, b = (hooke.trace(glass, PROMPT, nodes=20, verify=False) for _ in range(2))
    assert a.id == b.id
    assert hooke.trace(glass, PROMPT, nodes=21, verify=False).id != a.id


def test_smaller_budget_is_a_prefix_of_the_larger(glass):
    def ranked(n):
        nodes = hooke.trace(glass, PROMPT, nodes=n, verify=False).payload["graph"]["nodes"]
        found = sorted((x["rank"], x["id"]) for x in nodes if x["kind"] in ("feature", "link"))
        return [name for _, name in found]

    assert ranked(80)[:30] == ranked(30)


def test_counterfactual_gives_deltas_and_contrast_one_logit(glass):
    other = "Alice was beginning to get very tired of reading"
    ids = [len(glass.tokenizer(t)["input_ids"]) for t in (PROMPT, other)]
    if ids[0] != ids[1]:
        other = PROMPT.replace("Alice", "Queen")
    tokens, changed = glass.tokens(PROMPT).ids[0], glass.tokens(PROMPT).ids[0].clone()
    changed[2] = int(changed[2]) % 900 + 5
    from hooke.model import Tokens

    result = hooke.trace(
        glass,
        PROMPT,
        nodes=40,
        contrast=7,
        target=11,
        form="held",
        counterfactual=[Tokens(changed[None], torch.ones(1, len(tokens), dtype=torch.bool))],
    )
    graph = file_of(result, "t")
    check_graph_file(graph)
    logits = [n for n in graph["nodes"] if n["feature_type"] == "logit"]
    assert len(logits) == 1 and logits[0]["hooke"]["contrast"]["id"] == 7
    assert any("delta" in link.get("hooke", {}) for link in graph["links"])
    assert result.payload["checks"]["edge_sum_max_rel_error"] < 1e-5
    # a token that both prompts share has no delta anywhere
    same = {f"E_{int(t)}_{p}" for p, t in enumerate(tokens) if p != 2}
    for link in graph["links"]:
        if link["source"] in same:
            assert link["hooke"]["delta"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("bad, message", [
    ({"prompt": ""}, "empty"),
    ({"prompt": "word " * 400}, "context"),
    ({"target": "Alice was"}, "is \\d+ tokens"),
    ({"counterfactual": "short"}, "token by token"),
    ({"counterfactual": PROMPT}, "the prompt itself"),
    ({"nodes": 0}, "at least 1"),
    ({"target": 3, "contrast": 3}, "the same token"),
    ({"target": 10**9}, "not in the vocabulary"),
    ({"basis": "dreams"}, "no basis called"),
    ({"nodes": 10**7}, "would fit"),
])  # fmt: skip
def test_bad_input_is_one_clear_line(glass, bad, message):
    arguments = {"prompt": PROMPT, "nodes": 10, "verify": False} | bad
    with pytest.raises(HookeError, match=message) as error:
        hooke.trace(glass, arguments.pop("prompt"), **arguments)
    assert "\n" not in str(error.value)


def test_one_token_prompt_and_one_node(glass):
    result = hooke.trace(glass, glass.tokens(torch.tensor([40])), nodes=1)
    assert any("one token" in note for note in result.payload["notes"])
    check_graph_file(file_of(result, "t"))


def strongest(scores, count):
    return torch.cat([s.abs() for s in scores]).topk(count).indices


def test_prediction_is_the_sum_over_paths_of_the_exported_graph(glass):
    tokens = glass.tokens(PROMPT)
    view = held_view(glass, tokens)
    basis = neurons(glass)
    coded = encode(view, basis)
    based = baselines(glass, tokens, [], basis, view.dtype)
    metric = Metric(int(view.logits.argmax()), None, None)
    kept = units_at(coded, strongest(relp(view, coded, metric, based), 50), based)
    found = edges(view, coded, kept, readers(view, coded, kept).join(metric.row(view)))
    masks = [torch.zeros_like(codes.dense(), dtype=torch.bool) for codes in coded.codes]
    for b, p, i in zip(kept.blocks, kept.positions, kept.ids, strict=True):
        masks[b][p, i] = True
    masks = [mask.flatten() for mask in masks]  # every neuron is an entry of the codes
    effects, _ = unit_effects(view, coded, metric.row(view), keep=masks)
    matrix, direct = found.unit[:50].double(), found.unit[50].double()
    slow = direct.clone()  # every path, one length at a time
    step = direct.clone()
    for _ in range(glass.parts.n_layers):
        step = step @ matrix
        slow += step
    tables = [effect.view(codes.shape) for effect, codes in zip(effects, coded.codes, strict=True)]
    fast = torch.stack([tables[b][p, i] for b, p, i in zip(kept.blocks, kept.positions, kept.ids, strict=True)])
    assert torch.allclose(fast.double(), slow, atol=1e-5)


def test_faithfulness_of_everything_is_one_and_of_nothing_zero(glass):
    from hooke.methods.trace.coded import Case
    from hooke.methods.trace.verify import faithfulness

    tokens = glass.tokens(PROMPT)
    view = held_view(glass, tokens)
    basis = neurons(glass)
    coded = encode(view, basis)
    based = baselines(glass, tokens, [], basis, view.dtype)
    metric = Metric(int(view.logits.argmax()), None, None)
    bench = Case(glass, glass.record(tokens), view, coded, metric, based)
    scores = [torch.ones_like(codes.values) for codes in coded.codes]
    everything = units_at(coded, strongest(scores, sum(len(codes) for codes in coded.codes)), based)
    found = faithfulness(bench, everything, based[0])
    assert found["fit"] == pytest.approx(1, abs=1e-3) and found["complement"] == pytest.approx(0, abs=1e-3)
    assert found["kl"] == pytest.approx(0, abs=1e-4)
    # against a slow obvious version: one plain run with every neuron set
    kept = units_at(coded, strongest(relp(view, coded, metric, based), 100), based)
    slow_edits = []
    for b in range(len(basis)):
        values = based[0].codes[b].dense().clone()
        mask = torch.ones_like(values, dtype=torch.bool)
        here = kept.blocks == b
        mask[kept.positions[here], kept.ids[here]] = False
        slow_edits.append(Edit(Site("mlp_act", b), value=values, index=mask))
    m = [float(metric(glass.run(tokens, edits=e, logits="last").logits[0])) for e in ([], slow_edits)]
    nothing = float(metric(glass.run(tokens, logits="last", edits=[
        Edit(Site("mlp_act", b), value=based[0].codes[b].dense()) for b in range(len(basis))]).logits[0]))  # fmt: skip
    assert faithfulness(bench, kept, based[0])["fit"] == pytest.approx((m[1] - nothing) / (m[0] - nothing), abs=1e-3)


def test_influence_against_the_inverse():
    rng = np.random.default_rng(0)
    n, ends, logits = 6, 4, 2
    square = np.zeros((n + ends + logits, n + ends + logits))
    for t in range(n):
        square[t, t + 1 : n] = rng.normal(size=n - t - 1)  # acyclic: feature t reads later-numbered ones
        square[t, n : n + ends] = rng.normal(size=ends)
    square[n + ends :, : n + ends] = rng.normal(size=(logits, n + ends))
    targets = np.array([*range(n), n + ends, n + ends + 1])
    weight = np.array([0.0] * n + [0.7, 0.2])
    is_end = np.zeros(len(square), dtype=bool)
    is_end[n : n + ends] = True
    found = inf.influence(square[targets], targets, weight, is_end)
    a = np.zeros_like(square)
    a[targets] = inf.normalised(square[targets])
    w = np.zeros(len(square))
    w[n + ends :] = [0.7, 0.2]
    slow = w @ (np.linalg.inv(np.eye(len(a)) - a) - np.eye(len(a)))
    assert np.allclose(found.nodes, slow)
    assert found.steps.sum() == pytest.approx(0.9)  # all influence ends somewhere
    hidden = np.zeros(len(square), dtype=bool)
    assert inf.completeness_score(square[targets], found.rows, hidden) == pytest.approx(1)
    hidden[n : n + ends] = True
    assert inf.replacement_score(found.nodes, ~is_end & False, hidden) == pytest.approx(0)


@pytest.mark.parametrize("predicted, measured, control, verdict", [
    (1.0, 0.9, 0.1, "as-predicted"), (-1.0, -0.5, 0.1, "as-predicted"), (1.0, 0.9, 0.95, "no-effect"),
    (1.0, -0.05, 0.1, "no-effect"), (1.0, -3.6, 0.2, "not-as-predicted"), (1.0, 0.3, 0.1, "not-as-predicted"),
    (1.0, 2.5, 0.1, "not-as-predicted"), (0.0, -4.4, 0.5, "not-as-predicted"), (0.0, 0.0, 0.0, "no-effect"),
])  # fmt: skip
def test_verdicts(predicted, measured, control, verdict):
    assert judge(predicted, measured, control)[0] == verdict


def test_whether_it_matters_is_asked_of_what_is_reported():
    """The prediction and the controls may be of two quantities: each is compared with its own."""
    assert judge(-2.0, -1.9, 0.5, reported=-0.1)[0] == "no-effect"
    assert judge(-2.0, -1.9, 0.5, reported=+3.0)[0] == "as-predicted"
    assert judge(-2.0, +0.1, 0.5, reported=-3.0)[0] == "not-as-predicted"


def test_logit_targets():
    p = torch.tensor([0.5, 0.3, 0.16, 0.04])
    assert logit_targets(p).tolist() == [0, 1, 2]
    assert logit_targets(torch.full((100,), 0.01)).numel() == 10
    assert logit_targets(torch.tensor([0.97, 0.03])).tolist() == [0]


def test_logit_values_are_what_the_rows_sum_to(glass):
    tokens = glass.tokens(PROMPT)
    view = held_view(glass, tokens)
    from hooke.methods.trace.draw import Logits

    metric = Metric(3, 8, None)
    row = metric.row(view)
    assert float(logit_values(view, Logits([3], [1.0], row), metric)[0]) == pytest.approx(
        float(view.replayed[3] - view.replayed[8])
    )


def test_without_a_counterfactual_the_answer_is_tested_on_prompts_that_the_ranking_did_not_see(glass, monkeypatch):
    seen = []
    real = select.ranking

    def ranking(case, contrasts, tick):
        seen.append((contrasts, [b.ids for b in case.baselines]))
        return real(case, contrasts, tick)

    monkeypatch.setattr(select, "ranking", ranking)
    prompt = "Alice was beginning to get very tired of sitting"
    result = hooke.trace(glass, prompt, nodes=20)
    (learned, held_out) = seen[0]
    assert len(learned) > 5 and len(held_out) == 3
    ids = glass.tokens(prompt).ids[0]
    for row in held_out:
        assert len(row) == len(ids) and not torch.equal(row, ids) and int(row[0]) == int(ids[0])
        assert not any(torch.equal(row, other) for other in learned)
    assert [b["ids"] for b in result.payload["verification"]["baselines"]] == [row.tolist() for row in held_out]
    assert result.payload["graph"]["form"] == "live" and result.payload["graph"]["links"]["weight"]
    held = hooke.trace(glass, prompt, nodes=20, form="held")
    assert "deltas" in held.tensors and "deltas" not in result.tensors

    monkeypatch.setattr(select, "LONGEST", 3)
    result = hooke.trace(glass, prompt, nodes=20)
    assert (
        result.arguments["form"] == "held"
        and seen[2][0] == []
        and result.payload["verification"]["baselines"][0]["text"] == "passage 1"
    )
    assert "deltas" not in result.tensors


def test_nodes_that_a_counterfactual_cannot_move_are_not_sampled(glass, monkeypatch):
    """A counterfactual changes nothing before its first other token, so samples and controls come from after it."""
    from hooke.methods.trace import verify as ver

    ids = glass.tokens(PROMPT).ids.clone()
    ids[0, -2] = 500
    seen = []
    real = ver.tries

    def tries(*given):
        made = real(*given)
        seen.extend(made.sampled() + made.controls + made.groups)
        return made

    monkeypatch.setattr(ver, "tries", tries)
    start = ids.shape[1] - 2
    result = hooke.trace(glass, PROMPT, counterfactual=[glass.tokens(ids)], nodes=60)
    assert seen and all(bool((e.members.positions >= start).all()) for e in seen)
    assert result.payload["verification"]["spearman"] is not None
    few = hooke.trace(glass, PROMPT, counterfactual=[glass.tokens(ids)], nodes=1)
    assert few.payload["verification"]["nodes_tried"] <= 2


def test_a_confirmed_group_does_more_than_the_same_push_on_random_neurons(glass):
    for prompt in (
        "Alice was beginning to get very",
        "Alice was beginning to get so",
        "the cat sat on the mat",
        "she was",
    ):
        payload = hooke.trace(glass, prompt, nodes=120).payload
        runs = {frozenset(r["nodes"]): r for r in payload["interventions"] if r["op"] == "off"}
        for group in payload["groups"][:NAMED]:
            run = runs[frozenset(group["nodes"])]
            inside = (
                run["control_least"] is not None and run["control_least"] <= run["change"] <= run["control_greatest"]
            )
            assert not (group["verdict"] in ("as-predicted", "not-as-predicted") and inside)
            words = WORDS[group["verdict"]].replace("matters", "they matter")
            assert f": {words} (" in group["text"]


def test_weighing_takes_a_verdict_only_inside_the_range_of_random_groups():
    said = [("as-predicted", "a"), ("not-as-predicted", "b"), ("no-effect", "c"), ("as-predicted", "d")]
    made = Verification({}, {}, {}, [], said, [], [], [], [])
    runs = [(-1.0, -0.5, 0.5), (-0.2, -0.5, 0.5), (0.0, -1.0, 1.0), (-0.2, None, None)]
    replays = [{"change": c, "control_least": least, "control_greatest": most} for c, least, most in runs]
    assert weigh(made, replays)
    assert [v for v, _ in made.group_verdicts] == ["as-predicted", "no-effect", "no-effect", "as-predicted"]
    assert "random neurons pushed as far do as much" in made.group_verdicts[1][1]
    assert not weigh(made, replays)
