"""Parts of a story: what passes between them is what naive runs of the live model say, for any choice of parts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

import hooke
from families import model_of, random_ids
from hooke.methods.trace.coded import Case, Units
from hooke.methods.trace.flows import Flows, held_flows, live_flows, onto_answers
from hooke.methods.trace.links import Link, links_by_slope
from hooke.methods.trace.part_paths import strongest_part_paths, try_part_paths
from hooke.methods.trace.parts import FEWEST, MOST, Profiles, cluster
from hooke.methods.trace.tries import PartPath
from hooke.model import Edit
from hooke.sites import Site
from linear_map import F64
from live_cases import N_POS, TARGET, case_of, units_of

STEP = 1e-4
KINDS = ("neurons", "transcoder", "resid_post", "attn_out", "stream and branches")


def at_one_point(case: Case) -> Case:
    """The same with the tokens of the counterfactual where the prompt's are, so that the whole way is one point."""
    case.baselines = [replace(case.baselines[0], tokens=case.view.tokens())]
    return case


def setting(case: Case, units: Units, values: Tensor) -> list[Edit]:
    out: list[Edit] = []
    for b in range(len(case.coded.basis)):
        own = units.of_block(b)
        if len(own):
            out += case.coded.basis[b].edits(units.ids[own], values[own], units.positions[own])
    return out


def run_with(case: Case, edits: list[Edit]) -> tuple[float, dict[Site, Tensor]]:
    """The answer, and what all dictionaries read."""
    sites = sorted({site for block in case.coded.basis for site in block.reads})
    run = case.model.run(case.run.tokens, edits=edits, read=sites, logits="last")
    assert run.logits is not None
    return float(case.metric.graph(run.logits[0])), {site: x[0] for site, x in run.acts.items()}


def come_to(case: Case, units: Units, reads: dict[Site, Tensor]) -> Tensor:
    """What each unit would do, by its dictionary."""
    out = torch.zeros(len(units), dtype=F64)
    for k in range(len(units)):
        block = case.coded.basis[int(units.blocks[k])]
        codes = block.encode({site: reads[site] for site in block.reads})
        out[k] = codes.at(units.positions[k][None], units.ids[k][None])[0]
    return out


def totals(case: Case, units: Units) -> Tensor:
    """All that follows from one unit of each, by central differences."""
    out = torch.zeros(len(units), dtype=F64)
    for k in range(len(units)):
        one = units.take(torch.tensor([k]))
        ends = [run_with(case, setting(case, one, one.values + sign * STEP))[0] for sign in (1, -1)]
        out[k] = (ends[0] - ends[1]) / (2 * STEP)
    return out


def some_parts(units: Units) -> list[Tensor]:
    """Any choice: every third one."""
    return [torch.arange(k, len(units), 3) for k in range(3)]


@pytest.mark.usefixtures("exact_norms")
@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2", "neox", "olmo2"])
def test_flows_out_of_a_feature_add_up_to_all_that_follows_from_it(name: str) -> None:
    """For any choice of parts; and through each part they are what a loop over runs with all others held gives."""
    case = at_one_point(case_of(name))
    units = units_of(case, 12)
    members = some_parts(units)
    flows = live_flows(case, units, members)
    change, onward = units.baselines - units.values, totals(case, units)
    scale = float((onward * change).abs().max())
    assert scale > 1e-4
    assert (flows.through[: len(units)].sum(1) - onward * change).abs().max() < 1e-5 * scale
    part_of = torch.empty(len(units), dtype=torch.long)
    for k, here in enumerate(members):
        part_of[here] = k
    tried = 0
    for k in range(len(units)):
        ends = []
        for sign in (1, -1):
            values = units.values.clone()
            values[k] += sign * STEP
            answer, reads = run_with(case, setting(case, units, values))
            ends.append((answer, come_to(case, units, reads)))
        arrived = (ends[0][1] - ends[1][1]) / (2 * STEP) * onward
        wanted = torch.zeros(4, dtype=F64).index_add(0, part_of, arrived)
        wanted[3] = (ends[0][0] - ends[1][0]) / (2 * STEP)
        tried += int((wanted[:3].abs() > 1e-6).sum())
        assert (flows.through[k] - wanted * change[k]).abs().max() < 1e-5 * scale
    assert tried > 5


@pytest.mark.usefixtures("exact_norms")
@pytest.mark.parametrize("kind", KINDS)
def test_direct_flows_go_through_no_feature(kind: str) -> None:
    """With everything that features write held, in every kind of dictionary; and these add up too."""
    case = at_one_point(case_of("llama", kind))
    units = units_of(case, 12)
    members = some_parts(units)
    flows = live_flows(case, units, members)
    change, onward = units.baselines - units.values, totals(case, units)
    scale = float((onward * change).abs().max())
    assert scale > 1e-6
    assert (flows.through[: len(units)].sum(1) - onward * change).abs().max() < 1e-4 * scale
    for k in range(len(units)):
        one, ends = units.take(torch.tensor([k])), []
        for sign in (1, -1):
            held = [Edit(site, value=case.view.value(site)) for site in case.coded.cuts]
            block = case.coded.basis[int(one.blocks[0])]
            x = {site: case.view.value(site)[one.positions] for site in block.reads}
            for site in block.writes:  # what it writes itself comes on top
                written = torch.zeros_like(case.view.tokens())
                written[one.positions] = sign * STEP * block.writer(one.ids, site, x).to(F64)
                held.append(Edit(site, "add", value=written))
            ends.append(run_with(case, held)[0])
        wanted = (ends[0] - ends[1]) / (2 * STEP) * float(change[k])
        assert abs(float(flows.direct[k, -1]) - wanted) < 1e-4 * scale


@pytest.mark.usefixtures("exact_norms")
def test_a_part_that_is_set_as_a_whole_moves_the_answer_by_its_flows() -> None:
    """By central differences, for parts in an order that no path goes back in: one position and layer each."""
    case = at_one_point(case_of("llama"))
    units = units_of(case, 40)
    key = units.positions * 10 + units.blocks
    members = [(key == k).nonzero()[:, 0] for k in key.unique().tolist()]
    through, _ = live_flows(case, units, members).of(members)
    change = units.baselines - units.values
    for k, here in enumerate(members):
        one = units.take(here)
        ends = [run_with(case, setting(case, one, one.values + s * STEP * change[here]))[0] for s in (1, -1)]
        wanted = (ends[0] - ends[1]) / (2 * STEP)
        assert abs(float(through[k].sum() - through[k, k]) - wanted) < 1e-5 * float(through.abs().max())


def test_on_the_way_to_a_counterfactual_what_tokens_send_closes() -> None:
    """With more points, all that goes out of the tokens is the answer's difference but for what features bring."""
    case = case_of("llama")
    units = units_of(case, 4)
    alone = live_flows(case, units, [torch.arange(4)], points=24)
    same = live_flows(case, units, [torch.arange(2), torch.arange(2, 4)], points=24)
    # how the flows are told apart does not change what they add up to
    assert torch.allclose(alone.through[:4].sum(1), same.through[:4].sum(1), atol=1e-9)
    difference = float(case.metric.graph(case.baselines[0].logits) - case.metric.graph(case.logits))
    everything = float(alone.through[4:].sum())  # what tokens do, all told
    assert abs(everything - difference) < 1e-3 * abs(difference)


def test_held_flows_are_path_sums_of_the_matrix() -> None:
    n, generator = 7, torch.Generator().manual_seed(0)
    matrix = torch.randn(n, n, generator=generator, dtype=F64).tril(-1)
    answer = torch.randn(n, generator=generator, dtype=F64)
    tokens = torch.randn(n + 1, 3, generator=generator, dtype=F64)
    change = torch.randn(n, generator=generator, dtype=F64)
    whole = torch.linalg.inv(torch.eye(n, dtype=F64) - matrix)
    members = [torch.tensor([0, 3]), torch.tensor([1, 2, 6]), torch.tensor([4, 5])]
    flows = held_flows(matrix, answer @ whole, answer, tokens, change, members)
    assert torch.allclose(flows.through[:n].sum(1), (answer @ whole) * change)
    assert torch.allclose(flows.through[n:].sum(1), (answer @ whole) @ tokens[:n] + tokens[n])


def test_paths_of_a_token_add_up_to_what_follows_from_it() -> None:
    generator = torch.Generator().manual_seed(1)
    n = 4
    between = torch.rand(n, n, generator=generator, dtype=F64).triu(1)
    units = torch.cat([between, torch.rand(n, 1, generator=generator, dtype=F64)], 1)
    tokens = torch.rand(2, n + 1, generator=generator, dtype=F64)
    flows = Flows(torch.cat([units, tokens]), torch.cat([units, tokens]))
    members = [torch.tensor([k]) for k in range(n)]
    paths = strongest_part_paths(flows, members, count=1000)
    share = units / units.sum(1, keepdim=True)
    for token in range(2):
        along = sum(path.predicted for path in paths if path.token == token)
        straight = float(tokens[token, n])
        longest = float(tokens[token, 0] * share[0, 1] * share[1, 2] * share[2, 3] * share[3, 4])  # is not looked for
        assert along + straight + longest == pytest.approx(float(tokens[token].sum()))


@pytest.mark.parametrize("kind", ["neurons", "transcoder", "resid_post"])
def test_a_path_through_parts_is_what_runs_held_by_hand_say(kind: str) -> None:
    case = case_of("llama", kind)
    units = units_of(case, 30)
    layers = torch.tensor([case.coded.layer(int(b)) for b in units.blocks])
    members = [(layers == 0).nonzero()[:, 0], (layers > 0).nonzero()[:, 0]]
    path = PartPath(2, [0, 1], 0.0)
    try_part_paths(case, units, members, [path, PartPath(3, [1], 0.0)])
    there = case.baselines[0].tokens[2]
    first, second = (units.take(m) for m in members)
    edits = [Edit(Site("resid_pre", 0), value=there, positions=[2]), *setting(case, second, second.values)]
    one = come_to(case, first, run_with(case, edits)[1])
    two = come_to(case, second, run_with(case, setting(case, first, one))[1])
    answer, _ = run_with(case, [*setting(case, first, first.values), *setting(case, second, two)])
    wanted = answer - float(case.metric.graph(case.logits))
    assert abs(wanted) > 1e-9
    assert abs(path.measured - wanted) < 1e-6 * max(1.0, abs(wanted)) + 1e-3 * abs(wanted)


def test_clusters_are_of_nodes_that_are_alike() -> None:
    """Planted kinds come out whole; every node is in one part; there are no more parts than people can read."""
    case = case_of("llama")
    units = units_of(case, 60)
    kind = units.positions  # where they stand, with what they read and do
    n = len(units)
    onto = torch.nn.functional.one_hot(kind, N_POS).to(F64) * torch.rand(n, 1, dtype=F64).add(0.5)
    same = Profiles(torch.zeros(n), torch.ones(n), torch.ones(n), onto, onto)
    found = cluster(case, units, same)
    assert sorted(torch.cat(found).tolist()) == list(range(n))
    assert min(FEWEST, len(kind.unique())) <= len(found) <= MOST
    for members in found:
        assert len(kind[members].unique()) == 1
    one = units.take(torch.tensor([3]))
    lone = Profiles(*(x[:1] for x in same))
    assert [m.tolist() for m in cluster(case, one, lone)] == [[0]]


def test_what_moves_the_candidates_is_the_derivative_half_way() -> None:
    case = case_of("llama")
    units = units_of(case, 6)
    found = onto_answers(case, units, [TARGET, 7])
    assert found.shape == (6, 3)
    assert torch.allclose(found[:, 0], found[:, 1])  # the centred logit of the target is what is explained
    assert not torch.allclose(found[:, 1], found[:, 2])


@pytest.mark.parametrize("form", ["live", "held"])
def test_a_trace_tells_parts_that_add_up(form: str) -> None:
    model = model_of("llama")
    ids = random_ids(N_POS)
    other = ids.clone()
    other[2:5] = random_ids(N_POS, seed=9)[2:5]
    made = hooke.trace(model, ids, counterfactual=other, form=form, nodes=60).payload  # type: ignore[arg-type]
    parts, flows = made["groups"], made["flows"]
    assert 1 <= len(parts) <= MOST
    assert sorted(n for part in parts for n in part["nodes"]) == sorted(
        node["id"] for node in made["graph"]["nodes"] if node["kind"] == "feature"
    )
    for k, part in enumerate(parts):
        out = sum(flow["amount"] for flow in flows if flow.get("source") == k)
        assert out == pytest.approx(part["predicted"], abs=1e-5 + 1e-3 * abs(part["predicted"]))
        assert part["name"] and part["measured_in_graph"] is not None
        alike = [other for other in parts if other["name"] == part["name"]]
        assert all(other["layers"] == part["layers"] for other in alike)
    assert all(flow.get("token") is None or 2 <= flow["token"] < 5 for flow in flows if abs(flow["amount"]) > 1e-6)
    for path in made["part_paths"]:
        assert 1 <= len(path["parts"]) <= 3


@pytest.mark.usefixtures("exact_norms")
@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2", "neox", "olmo2"])
def test_a_link_is_cut_out_and_come_to_by_its_value_its_query_and_its_key(name: str) -> None:
    """Against runs: what goes out of it, what a feature changes of it, and that flows still add up."""
    case = at_one_point(case_of(name))
    assert case.live is not None
    _, at = links_by_slope(case, case.live)
    parts = case.model.parts
    layer, head, query, key = place = (parts.n_layers - 1, parts.n_heads - 1, N_POS - 1, 3)
    one = at(torch.tensor([place]))
    link = Link(place, 0.0, one.here[0], list(one.there[:, 0]), predicted=0.0)
    units = units_of(case, 12)
    members = some_parts(units)
    n = len(units)
    without, flows = live_flows(case, units, members), live_flows(case, units, members, [link])
    assert torch.allclose(without.through[:n].sum(1), flows.through[:n].sum(1), atol=1e-9)
    assert torch.allclose(without.through[n:].sum(1), flows.through[n + 1 :].sum(1), atol=1e-9)

    def moved(by: Tensor) -> float:
        value = torch.zeros(1, parts.n_heads, parts.d_head, dtype=F64)
        value[0, head] = by
        return run_with(case, [Edit(Site("z", layer), "add", value=value, positions=[query])])[0]

    toward = link.there[0] - link.here
    out = (moved(STEP * toward) - moved(-STEP * toward)) / (2 * STEP)
    assert float(flows.through[n].sum()) == pytest.approx(out, rel=1e-5, abs=1e-9)
    steps = torch.eye(parts.d_head, dtype=F64)
    onward = torch.tensor([(moved(STEP * e) - moved(-STEP * e)) / (2 * STEP) for e in steps], dtype=F64)
    group, change = head // (parts.n_heads // parts.n_kv_heads), units.baselines - units.values
    held = {s: case.model.run(case.run.tokens, read=[Site(s, layer)], logits=None).acts for s in ("q", "k")}

    def ends(k: int, sign: int, still: str = "") -> tuple[Tensor, Tensor]:
        values = units.values.clone()
        values[k] += sign * STEP
        edits = setting(case, units, values)
        edits += [Edit(Site(still, layer), value=held[still][Site(still, layer)][0])] if still else []
        sites = [Site("pattern", layer), Site("v", layer)]
        acts = case.model.run(case.run.tokens, edits=edits, read=sites, logits=None).acts
        return acts[sites[0]][0, head, query, key], acts[sites[1]][0, key, group]

    pattern, value = ends(0, 0)
    tried = 0
    for k in range(n):
        (p1, v1), (p0, v0) = ends(k, 1), ends(k, -1)
        (by_query, _), (by_query_less, _) = ends(k, 1, "k"), ends(k, -1, "k")
        (by_key, _), (by_key_less, _) = ends(k, 1, "q"), ends(k, -1, "q")
        wanted = (
            torch.stack(
                [
                    pattern * ((v1 - v0) @ onward),
                    (by_query - by_query_less) * (value @ onward),
                    (by_key - by_key_less) * (value @ onward),
                ]
            )
            / (2 * STEP)
            * change[k]
        )
        found = flows.through[k, 3:6]
        tried += int((wanted.abs() > 1e-9).sum())
        assert (found - wanted).abs().max() < 1e-5 * max(1e-3, float(wanted.abs().max()))
        whole = (p1 * (v1 @ onward) - p0 * (v0 @ onward)) / (2 * STEP) * change[k]
        assert abs(float(found.sum() - whole)) < 1e-5 * max(1e-3, float(wanted.abs().max()))
    assert tried > 5


def test_what_comes_to_a_link_is_handed_on() -> None:
    """Paths between parts go through links too: what goes out of a part or a token is the same in all."""
    generator = torch.Generator().manual_seed(2)
    members = [torch.tensor([0, 1]), torch.tensor([2])]
    rows = torch.rand(3 + 2 + 4, 2 + 6 + 1, generator=generator, dtype=F64)
    rows[4, 2:] *= torch.tensor([0, 0, 0, 0, 0, 0, 1.0])  # the second link comes after the first
    rows[3, 2:5] = 0
    flows = Flows(rows, rows, 2)
    found = flows.between_parts(members)
    assert found.shape == (2 + 4, 3)
    for k, here in enumerate(members):
        assert float(found[k].sum()) == pytest.approx(float(rows[here].sum()))
    assert torch.allclose(found[2:].sum(1), rows[5:].sum(1))
