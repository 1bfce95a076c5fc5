"""Live graphs: edges are derivatives times differences, those into the answer add up to its difference, and what a saved
file predicts is what was done in the live model."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

import hooke
from families import model_of, random_ids
from hooke import HookeError
from hooke.methods.trace.along import Way, measure_ways
from hooke.methods.trace.answer import derivative_error, gradient, into_answer
from hooke.methods.trace.coded import Case, Units
from hooke.methods.trace.draw import leading, spread
from hooke.methods.trace.edges import changes, edges, hidden_edges, readers
from hooke.model import Edit, held_view, live_view
from hooke.results.drawn import graph_of
from hooke.results.formats.graph_file import file_of, graph_from_file
from hooke.results.payloads.graph import DrawnGraph
from hooke.sites import Site
from live_cases import N_POS, case_of, units_of

KINDS = ("neurons", "some neurons", "transcoder", "resid_post", "cross-layer", "attn_out", "stream and branches")
DIFFERENT = ("llama", "gemma2", "gpt2", "neox", "olmo2")


def moved(case: Case, unit: Units, step: float) -> list[Edit]:
    """A neuron a step away from its value."""
    block = case.coded.basis[int(unit.blocks[0])]
    return block.edits(unit.ids, unit.values + step, unit.positions)


@pytest.mark.usefixtures("exact_norms")
@pytest.mark.parametrize("name", DIFFERENT)
def test_single_edges_are_central_differences(name: str) -> None:
    """A neuron moves, all others in between stay as they are, attention and norms move: how far another one goes."""
    case = case_of(name)
    units = units_of(case)
    assert case.live is not None
    rows = readers(case.live, case.coded, units).join(case.metric.row(case.view))
    found = edges(case.live, case.coded, units, rows, case.baselines)
    change = units.values - units.baselines
    assert torch.allclose(found.weights[:, : len(units)], found.unit * change)
    acts = [Site("mlp_act", layer) for layer in range(case.model.parts.n_layers)]
    clean = case.model.run(case.run.tokens, read=acts).acts
    step, tried = 1e-5, 0
    for s in range(len(units)):
        layer = int(units.blocks[s])
        held = [Edit(site, value=clean[site][0]) for site in acts[layer + 1 :]]
        ends = []
        for sign in (1, -1):
            run = case.model.run(
                case.run.tokens, edits=[*moved(case, units.take(torch.tensor([s])), sign * step), *held],
                read=[Site("mlp_in", k) for k in range(len(acts))], logits="last",
            )  # fmt: skip
            values = [
                case.coded.basis[int(b)].encode({s_: x[0] for s_, x in run.acts.items()}).at(p[None], i[None])[0]
                for b, p, i in zip(units.blocks, units.positions, units.ids, strict=True)
            ]
            ends.append(torch.stack([*values, case.metric.graph(run.logits[0])]))
        wanted = (ends[0] - ends[1]) / (2 * step)
        wanted[:-1][units.blocks <= layer] = 0  # the step itself, and what no run computes of it
        tried += int((wanted.abs() > 1e-6).sum())
        assert (found.unit[:, s] - wanted).abs().max() < 1e-6 * max(1.0, float(wanted.abs().max()))
    assert tried > 20


@pytest.mark.parametrize("form", ["live", "held"])
@pytest.mark.parametrize("kind", ["neurons", "transcoder", "resid_post"])
def test_what_is_hidden_is_every_edge_that_is_not_drawn(kind: str, form: str) -> None:
    """With every feature drawn, its edges stand there one by one; errors are columns in either."""
    case = case_of("gemma2", kind)
    view = case.live if form == "live" else case.view
    assert view is not None
    others, units, n_pos = case.baselines, units_of(case, 10), case.view.n_tokens
    rows = readers(view, case.coded, units).join(case.metric.row(case.view))
    there = [other.codes for other in others]
    union = [codes.less([t[b] for t in there]) for b, codes in enumerate(case.coded.codes)]  # active here or there
    every = [(b, int(p), int(i)) for b, c in enumerate(union) for p, i in zip(c.positions, c.ids, strict=True)]
    b, p, i = torch.tensor(every).T
    whole = edges(view, case.coded, case.coded.units(b, p, i, there), rows, others)
    amounts = whole.weights if form == "live" else whole.delta
    kept = set(zip(units.blocks.tolist(), units.positions.tolist(), units.ids.tolist(), strict=True))
    left = torch.tensor([place not in kept for place in every])
    errors = amounts[:, len(every) + n_pos * (1 + len(case.coded.basis)) :].abs().sum(1)
    wanted = (amounts[:, : len(every)].abs() * left).sum(1) + errors
    got = hidden_edges(view, case.coded, units, rows, others)
    assert torch.allclose(got, wanted, rtol=1e-8) and bool((got > 0).any())


def test_targets_are_spread_over_their_influence() -> None:
    """All of them if they are few; else as many as are asked for, each standing for an equal share."""
    rows = np.random.default_rng(0).gamma(0.5, size=500)
    leaders = leading(rows)
    assert np.array_equal(spread(leaders, rows, 500)[0], leaders)
    some, weights = spread(leaders, rows, 64)
    assert len(some) < len(leaders) and weights.sum() == 64
    value = np.sort(np.random.default_rng(1).random(500))
    whole = np.average(value[leaders], weights=rows[leaders])
    assert abs(np.average(value[some], weights=weights) - whole) < 0.1


@pytest.mark.usefixtures("exact_norms")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", DIFFERENT)
def test_edges_into_the_answer_add_up_to_its_difference(name: str, kind: str) -> None:
    """The more points, the less is left; the held view, and one point, leave more."""
    case = case_of(name, kind)
    units = units_of(case, 10)
    row = case.metric.row(case.view)
    measured = float(case.metric.graph(case.logits) - case.metric.graph(case.baselines[0].logits))
    total, left = into_answer(case, units, row, points=24)
    assert abs(float(total.sum() + left) - measured) < 1e-9 * max(1.0, abs(measured))
    assert abs(float(left)) < 1e-4 * abs(measured)
    few = abs(float(into_answer(case, units, row, points=2)[1]))
    assert few > abs(float(left)) or few < 1e-9
    # one source at a time: what is kept is taken out of its block's remainder, not added to it
    other = into_answer(case, units_of(case, 3), row, points=24)[0]
    assert torch.allclose(other.sum(), total.sum())


@pytest.mark.usefixtures("exact_norms")
@pytest.mark.parametrize("name", DIFFERENT)
def test_the_view_is_the_model_s_derivative_and_totals_are_it(name: str) -> None:
    case = case_of(name)
    assert case.live is not None and derivative_error(case, case.live) < 1e-9
    assert derivative_error(case, live_of_another(case)) > 1e-3  # the check can fail
    units, slopes, step = units_of(case, 8), gradient(case), 1e-5
    found = case.coded.at_units(slopes, units)
    for k in range(len(units)):
        sets = [moved(case, units.take(torch.tensor([k])), sign * step) for sign in (1, -1)]
        up, down = (case.metric.graph(case.model.run(case.run.tokens, edits=s, logits="last").logits[0]) for s in sets)
        assert abs(float((up - down) / (2 * step) - found[k])) < 1e-6


def live_of_another(case: Case):
    ids = random_ids(N_POS, seed=3)
    held = held_view(case.model, case.model.tokens(ids))
    return live_view(case.model, held)


@pytest.mark.usefixtures("exact_norms")
@pytest.mark.parametrize("kind", ["neurons", "transcoder", "resid_post", "cross-layer"])
def test_ways_are_those_of_plain_runs(kind: str) -> None:
    """One edge and one path against whole runs in which everything else is held by hand."""
    case = case_of("llama", kind)
    units = units_of(case)
    units = units.take(units.blocks.argsort(stable=True))
    # features of the stream reach no further than the next ones
    second = int((units.blocks == 1).nonzero()[-1]) if kind == "resid_post" else int(units.blocks.argmax())
    first = next(k for k in range(second) if units.blocks[k] == 0 and units.positions[k] <= units.positions[second])
    ways = [Way(None, [first, second], True), Way(2, [first, second], False), Way(None, [second], False)]
    measure_ways(case, units, ways)
    run, tokens, coded = case.model.run, case.run.tokens, case.coded
    clean = run(tokens, read=coded.cuts).acts
    before = case.metric.graph(case.logits)

    def block(unit: int):
        return coded.basis[int(units.blocks[unit])]

    def value(unit: int, edits: list[Edit]) -> Tensor:
        reads = run(tokens, edits=edits, read=block(unit).reads, logits=None).acts
        there = block(unit).encode({site: x[0] for site, x in reads.items()})
        return there.at(units.positions[unit][None], units.ids[unit][None])

    def alone(unit: int, to: Tensor, until: Site | None) -> list[Edit]:
        """What the unit writes with its new value; all else that is written until then as it was."""
        writes, p = block(unit).writes, units.positions[unit]
        found = []
        for site in coded.cuts:
            if site < min(writes) or (until is not None and site >= until):
                continue
            x = clean[site][0].clone()
            if site in writes:
                one = {s: y[p][None] for s, y in coded.inputs[int(units.blocks[unit])].items()}
                x[p] += ((to - units.values[unit]) * block(unit).writer(units.ids[unit][None], site, one)[0]).to(x)
            found.append(Edit(site, value=x))
        return found

    def answer(edits: list[Edit]) -> float:
        return float(case.metric.graph(run(tokens, edits=edits, logits="last").logits[0]) - before)

    there = value(second, alone(first, units.baselines[first], max(block(second).reads)))
    onward = block(second).edits(units.ids[second][None], there.view(1), units.positions[second][None])
    assert abs(ways[0].measured - answer(onward)) < 1e-9
    assert abs(ways[2].measured - answer(alone(second, units.baselines[second], None))) < 1e-9
    others = [Edit(s, value=clean[s][0]) for s in coded.cuts if s < max(block(first).reads)]
    at_first = value(first, [Edit("resid_pre.0", value=case.baselines[0].tokens[2], positions=[2]), *others])
    at_second = value(second, alone(first, at_first, max(block(second).reads)))
    assert abs(ways[1].measured - answer(alone(second, at_second, None))) < 1e-9
    assert any(abs(way.measured) > 1e-9 for way in ways)


@pytest.mark.usefixtures("exact_norms")
def test_a_side_counts_what_the_counterfactual_has_more() -> None:
    """Features that are active there alone are part of the difference."""
    case = case_of("llama", "transcoder")
    side = changes(case.view, case.coded, units_of(case), case.baselines)
    for b, block in enumerate(case.coded.basis):
        (site,) = block.writes
        there = case.baselines[0].values[site]
        whole = side.written[site][b] + side.errors[site]
        assert torch.allclose(whole, case.view.value(site) - there)


PROMPT = "Alice was beginning to get very tired of sitting"


@pytest.fixture(scope="module")
def live(glass):
    ids = glass.tokens(PROMPT).ids
    other = ids.clone()
    other[0, 4:6] = ids[0, [6, 4]]  # "get to"
    return hooke.trace(glass, ids, counterfactual=other, nodes=80)


def test_what_the_file_predicts_is_what_was_predicted(live, tmp_path) -> None:
    """From the saved file alone: nodes by the total that it states, groups and edges and paths by its edges."""
    live.save(tmp_path / "t.json")
    saved = hooke.load_result(tmp_path / "t.json")
    graph = graph_of(DrawnGraph.model_validate(saved.payload["graph"]))
    assert graph.form == "live" and saved.arguments["form"] == "live"
    place = {node.id: k for k, node in enumerate(graph.nodes)}
    ids = [node.id for node in graph.nodes if node.kind in ("feature", "link")]  # in the order of the matrix
    n, column = len(ids), {name: k for k, name in enumerate(ids)}
    weights, targets = saved.tensors["weights"].astype(float), saved.tensors["targets"]
    weights = np.stack([weights[targets == t].sum(0) for t in dict.fromkeys(targets.tolist())])  # of a link all three
    assert len(targets) > len(weights)
    delta, total = (np.array([getattr(graph.nodes[place[i]], key) for i in ids]) for key in ("delta", "total"))
    seen = np.array([graph.nodes[place[i]].seen for i in ids], float)  # none of features
    each = np.where(np.abs(np.nan_to_num(seen, nan=1.0)) >= 0.1, 1 / delta, 0.0)
    tokens = {node.id: n + node.position for node in graph.nodes if node.kind == "token"}
    answer = n + [node.is_target for node in graph.nodes if node.kind == "logit"].index(True)
    found: dict[str, list[tuple[float, float, float]]] = {}
    for trial in saved.payload["trials"]:
        units = [column[name] for name in trial["nodes"] if name in column]
        if trial["kind"] == "node":
            value = total[units[0]]
        elif trial["kind"] == "group":
            value = by_paths(weights[:n, :n] * each, total, units, delta)
        elif trial["kind"] == "edge":
            (source, *rest) = units
            value = weights[rest[0], source] * total[rest[0]] / delta[rest[0]] if rest else -weights[answer, source]
        else:
            value = -weights[units[0], tokens[trial["nodes"][0]]]
            for source, target in pairwise(units):
                value *= weights[target, source] * each[source]
            value *= weights[answer, units[-1]] * each[units[-1]]
        found.setdefault(trial["kind"], []).append((value, trial["predicted"], trial["measured"]))
    assert set(found) == {"node", "group", "edge", "path"}
    for kind, rows in found.items():
        value, predicted, _ = np.array(rows).T
        assert np.allclose(value, predicted, rtol=2e-3, atol=2e-5 * np.abs(predicted).max()), kind
    for k, group in enumerate(saved.payload["groups"]):  # parts: by their nodes, and by what flows out of them
        averaged = sum(graph.nodes[place[name]].averaged for name in group["nodes"])
        assert averaged - group["within"] == pytest.approx(group["predicted"], rel=1e-3, abs=1e-5)
        out = sum(flow["amount"] for flow in saved.payload["flows"] if flow.get("source") == k)
        assert out == pytest.approx(group["predicted"], rel=1e-3, abs=1e-5)
    value, _, measured = np.array(found["edge"]).T
    assert spearmanr(value, measured).statistic == pytest.approx(
        live.payload["verification"]["edges_spearman"], abs=0.02
    )


def by_paths(matrix: np.ndarray, total: np.ndarray, units: list[int], delta: np.ndarray) -> float:
    """What setting several at once does: each is held at its new value, so nothing passes from one through another."""
    direct = -total / delta - (-total / delta) @ matrix
    change = np.zeros(len(total))
    change[units] = -delta[units]
    held = change.copy()
    for _ in range(60):
        change = matrix @ change
        change[units] = held[units]
    return float(direct @ change)


def test_live_is_marked_in_every_form_of_the_graph(live, glass) -> None:
    file = file_of(live, "t")
    assert file["metadata"]["hooke"]["form"] == "live"
    again = graph_from_file(file)
    assert again.graph.form == "live" and again.to_dict() == file
    assert any(node.total for node in again.graph.nodes)
    held = hooke.trace(glass, PROMPT, form="held", nodes=20, verify=False)
    assert held.payload["graph"].get("form", "held") == "held" and held.arguments["form"] == "held"
    assert held.id != hooke.trace(glass, PROMPT, form="live", nodes=20, verify=False).id
    with pytest.raises(HookeError, match="form"):
        hooke.trace(glass, PROMPT, form="frozen")


def test_links_and_what_is_left_add_up_to_the_change(live) -> None:
    graph = DrawnGraph.model_validate(live.payload["graph"])
    rows = np.array(graph.dropped)
    np.add.at(rows, graph.links.row, graph.links.weight)
    sums = np.zeros(len(graph.nodes))
    np.add.at(sums, graph.targets, rows)
    targets = sorted(set(graph.targets))
    assert "link" in {graph.nodes[t].kind for t in targets} and len(targets) < len(rows)  # of a link three rows
    changes_ = np.array([graph.nodes[t].delta for t in targets])
    assert np.allclose(sums[targets], changes_, atol=1e-4 * np.abs(changes_).max())


def test_two_prompts_that_differ_in_nothing_that_counts(glass) -> None:
    """A counterfactual that leaves the answer as it is is drawn all the same, and nothing is made of shares of zero."""
    ids = glass.tokens(PROMPT).ids
    other = ids.clone()
    other[0, 0] = ids[0, 1]
    found = hooke.trace(glass, ids, counterfactual=other, nodes=10)
    assert found.status == "complete" and found.arguments["form"] == "live"
    assert found.payload["checks"]["derivative_max_rel_error"] < 1e-3


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_half_precision_says_how_far_it_is_off(name: str) -> None:
    model = model_of(name, torch.bfloat16)
    ids, other = random_ids(8), random_ids(8, seed=4)
    other[0] = ids[0]
    found = hooke.trace(model, ids, counterfactual=[other], nodes=20)
    assert found.arguments["form"] == "live" and found.payload["checks"]["derivative_max_rel_error"] < 0.2
