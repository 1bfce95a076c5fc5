"""Links of attention as nodes: what holding one does, and that edges from and into links are derivatives of the model
with the links cut out of it. Truth is the model with taps written here, which know nothing of edits and views."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hooke.methods.trace.answer import into_answer
from hooke.methods.trace.coded import Case
from hooke.methods.trace.draw import link_readers
from hooke.methods.trace.edges import WAYS, edges, readers
from hooke.methods.trace.hold_links import hold_places, looks
from hooke.methods.trace.links import links_by_slope
from hooke.methods.trace.verify import faithfulness
from hooke.model import Edit
from hooke.sites import Site
from live_cases import N_POS, case_of, units_of

DIFFERENT = ("llama", "gemma2", "gpt2", "neox", "olmo2")
STEP = 1e-5


def with_links(name: str, count: int = 6) -> Case:
    """A case with nodes at links that the answer hangs on, two at one head and query among them."""
    case = case_of(name)
    assert case.live is not None
    guessed, at = links_by_slope(case, case.live)
    every = guessed.nonzero().tolist()
    order = torch.randperm(len(every), generator=torch.Generator().manual_seed(1))[:count].tolist()
    first = every[order[0]]
    beside = next(place for place in every if place[:3] == first[:3] and place != first)
    case.coded.links = at(torch.tensor([*(every[i] for i in order if every[i] != beside), beside]))
    return case


def noting(seen: dict, key: object, free: bool = True) -> Callable[[Tensor], Tensor]:
    """A tap that notes what passes; what is not free passes without its graph."""

    def tap(x: Tensor) -> Tensor:
        seen[key] = x if free else x.detach()
        return seen[key]

    return tap


def cut_run(case: Case, edits: list[Edit], shift: dict[int, Tensor]) -> tuple[dict[Site, Tensor], Tensor, Tensor]:
    """MLP inputs, logits, and what links would bring as the answer sees it, with each link held at what it brings on the
    prompt plus a shift (d_head,), by taps."""
    links, parts = case.coded.links, case.model.parts
    assert links is not None
    seen: dict[tuple[str, int], Tensor] = {}
    brought = links.here.new_zeros(len(links))

    def bring(layer: int) -> Callable[[Tensor], Tensor]:
        def tap(z: Tensor) -> Tensor:
            z = z.clone()
            for k, (at, head, query, key) in enumerate(links.places.tolist()):
                if at == layer:
                    value = seen["v", layer][0, key, head // (parts.n_heads // parts.n_kv_heads)]
                    live = seen["pattern", layer][0, head, query, key] * value
                    brought[k] = float(live @ links.toward[k])
                    z[0, query, head] += links.here[k] + shift.get(k, torch.zeros(())) - live
            return z

        return tap

    taps = {
        Site(point, layer): noting(seen, (point, layer))
        for layer in range(parts.n_layers)
        for point in ("pattern", "v")
    }
    taps |= {Site("z", layer): bring(layer) for layer in range(parts.n_layers)}
    read = [Site("mlp_in", layer) for layer in range(parts.n_layers)]
    run = case.model.run(case.run.tokens, edits=edits, taps=taps, read=read, logits="last")
    assert run.logits is not None
    return run.acts, run.logits[0], brought


@pytest.mark.usefixtures("exact_norms")
@pytest.mark.parametrize("name", DIFFERENT)
def test_edges_from_and_into_links_are_central_differences(name: str) -> None:
    """One node moves, all other neurons and links stay: how far every later one goes, and the answer."""
    case = with_links(name)
    units, links = units_of(case, 12), case.coded.links
    assert case.live is not None and links is not None and units.baselines is not None
    rows = readers(case.map, case.coded, units).join(link_readers(case.live, links)).join(case.metric.row(case.view))
    split = edges(case.map, case.coded, units, rows, case.baselines)
    found = split.merged(len(units), len(links))
    change = units.values - units.baselines
    assert torch.allclose(found.weights[:, : len(units)], found.unit[:, : len(units)] * change)
    assert torch.allclose((links.along() * links.toward).sum(1), (links.seen.abs() >= 0.1).double())
    acts = [Site("mlp_act", layer) for layer in range(case.model.parts.n_layers)]
    clean = case.model.run(case.run.tokens, read=acts).acts
    depth = [(int(b), 1) for b in units.blocks] + [(int(layer), 0) for layer in links.places[:, 0]]
    tried = {"unit": 0, "link": 0}
    every = [(s, None, found.unit[:, s]) for s in range(len(units))]  # and links by all that they differ, and by a unit
    for k in range(len(links)):
        s = len(units) + k
        every += [(s, links.changes[k], found.weights[:, s]), (s, links.along()[k], found.unit[:, s])]
    for s, step, got in every:
        ends = []
        for sign in (1, -1):
            edits, shift = [], {}
            if s < len(units):
                one = units.take(torch.tensor([s]))
                edits = case.coded.edits(one, one.values + sign * STEP)
            else:
                shift = {s - len(units): sign * STEP * step}
            # every neuron is held but where one moves: at its site it is alone
            layer = depth[s][0] + depth[s][1]
            held = [Edit(site, value=clean[site][0]) for site in acts[layer:]]
            reads, logits, brought = cut_run(case, [*held, *edits], shift)
            values = [
                case.coded.basis[int(b)].encode({s_: x[0] for s_, x in reads.items()}).at(p[None], i[None])[0]
                for b, p, i in zip(units.blocks, units.positions, units.ids, strict=True)
            ]
            ends.append(torch.cat([torch.stack(values), brought, case.metric.graph(logits)[None]]))
        wanted = (ends[0] - ends[1]) / (2 * STEP)
        for t, at in enumerate(depth):  # what no run computes of it: what stands before it, and beside
            if at <= depth[s]:
                wanted[t] = 0.0
        assert (got - wanted).abs().max() < 2e-6 * max(1.0, float(wanted.abs().max()))
        tried["unit"] += int((wanted[: len(units)].abs() > 1e-6).sum())
        tried["link"] += int((wanted[len(units) : -1].abs() > 1e-6).sum())
    assert tried["unit"] > 10 and tried["link"] > 5
    uncut = edges(case.live, case.coded, units, readers(case.live, case.coded, units), case.baselines)
    assert not torch.allclose(uncut.unit, found.unit[: len(units), : len(units)], atol=1e-4)  # the cut is one


@pytest.mark.usefixtures("exact_norms")
@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_each_way_into_a_link_is_its_own_derivative(name: str) -> None:
    """By value, by query and by key: torch's own derivative of p · v with the other two held."""
    case = with_links(name)
    links, parts = case.coded.links, case.model.parts
    assert case.live is not None and links is not None
    rows = link_readers(case.live, links)
    got = torch.zeros(len(rows), N_POS, parts.d_model, dtype=torch.float64)
    for part in rows.parts:
        at = rows.positions[part.rows] if part.positions is None else part.positions
        got[part.rows, at] += part.vectors
    for k, (layer, head, query, key) in enumerate(links.places.tolist()):
        for way, point in enumerate(("v", "q", "k")):
            x = case.model.run(case.run.tokens, read=[Site("resid_pre", layer)], logits=None).acts[
                Site("resid_pre", layer)
            ]
            leaf, seen = x.clone().requires_grad_(), {}
            taps = {Site(other, layer): noting(seen, other, other == point) for other in ("q", "k", "v")}
            taps |= {
                Site("pattern", layer): noting(seen, "pattern"),
                Site("resid_pre", layer): lambda _, leaf=leaf: leaf,
            }
            case.model.run(case.run.tokens, taps=taps, grad=True, logits="last")
            value = seen["v"][0, key, head // (parts.n_heads // parts.n_kv_heads)]
            worth = seen["pattern"][0, head, query, key] * (value @ links.toward[k])
            (wanted,) = torch.autograd.grad(worth, leaf, materialize_grads=True)
            off = (got[way * len(links) + k] - wanted[0]).abs().max()
            assert off < 1e-9 * max(1.0, float(wanted.abs().max())), (WAYS[way], float(off))


@pytest.mark.usefixtures("exact_norms")
@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2"])
def test_edges_into_the_answer_add_up_with_links_among_them(name: str) -> None:
    """Averaged over the way, those of links among them, they add up; and links do carry some of it."""
    case = with_links(name)
    units = units_of(case, 10)
    total, left = into_answer(case, units, case.metric.row(case.view), points=24)
    measured = float(case.metric.graph(case.logits) - case.metric.graph(case.baselines[0].logits))
    assert abs(float(total.sum() + left) - measured) < 1e-9 * max(1.0, abs(measured))
    assert abs(float(left)) < 1e-4 * abs(measured)
    assert case.coded.links is not None
    links = total[0, len(units) : len(units) + len(case.coded.links)]
    assert float(links.abs().max()) > 1e-6
    case.coded.links = None
    without = into_answer(case, units, case.metric.row(case.view), points=24)[0]
    assert not torch.allclose(without[0, : len(units)], total[0, : len(units)], atol=1e-6)


@pytest.mark.parametrize("name", DIFFERENT)
def test_a_held_link_brings_what_it_is_told_whatever_comes(name: str) -> None:
    """Beside a loop over links in taps; with the stream changed before it, so that there is something to hold."""
    case = with_links(name)
    links = case.coded.links
    assert links is not None
    upset = Edit(
        Site("resid_pre", 0),
        "add",
        torch.randn(case.view.tokens().shape, generator=torch.Generator().manual_seed(3)).double(),
    )
    _, wanted, _ = cut_run(case, [upset], {})
    found = looks(case.model, case.run.tokens)
    edits = [upset, *hold_places(found, 0, links.places)]
    logits, _ = case.model.run_each(case.run, [edits, [upset]])
    assert torch.allclose(logits[0], wanted, atol=1e-9)
    assert not torch.allclose(logits[1], wanted, atol=1e-4)  # a hold that did nothing would be seen


def test_all_links_kept_are_the_prompt_and_all_dropped_the_counterfactual_s_attention() -> None:
    """With every neuron and every link held at the prompt's own, nothing but the tokens is left of the counterfactual."""
    case = case_of("llama")
    places = torch.stack(case.view.patterns).nonzero()
    kept = units_of(case, 4)
    found = faithfulness(case, kept, case.baselines[0], places)
    alone = faithfulness(case, kept, case.baselines[0])
    assert found["fit"] != pytest.approx(alone["fit"], abs=1e-3)
    # all that heads give as on the prompt, by another edit: z itself
    z = [Site("z", layer) for layer in range(case.model.parts.n_layers)]
    clean = case.model.run(case.run.tokens, read=z).acts
    other = case.baselines[0].codes

    def held(masks: list[Tensor]) -> list[Edit]:
        edits = []
        for b, block in enumerate(case.coded.basis):
            gone = case.coded.codes[b].take(~masks[b])
            edits += block.edits(gone.ids, other[b].at(gone.positions, gone.ids), gone.positions)
        return edits

    keep = case.coded.masks(kept)
    own = [Edit(site, value=clean[site][0]) for site in z]
    logits, _ = case.model.run_each(case.run, [held([x & False for x in keep]), [*held(keep), *own], []])
    m = case.metric(logits).tolist()
    assert found["fit"] == pytest.approx((m[1] - m[0]) / (m[2] - m[0]), abs=1e-6)
