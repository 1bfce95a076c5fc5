"""Attention links: what each carries, what taking it away does, and the sum that its score is."""

from __future__ import annotations

import pytest
import torch

import hooke
from hooke import Edit
from hooke.methods.trace import links
from hooke.sites import Site
from linear_map import F64
from live_cases import N_POS, case_of


@pytest.mark.usefixtures("exact_norms")
@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2", "neox", "phi3", "olmo2"])
def test_links_add_up_to_what_heads_give_and_are_taken_away_exactly(name: str) -> None:
    case = case_of(name, changed=slice(1, 3))
    other = case.baselines[0].ids
    model, tokens = case.model, case.run.tokens
    assert case.live is not None
    guessed, at = links.links_by_slope(case, case.live)
    sites = [Site("z", layer) for layer in range(model.parts.n_layers)]
    here, there = (model.run(ids, read=sites).acts for ids in (tokens, model.tokens(other)))
    layer, head, query = 1, model.parts.n_heads - 1, N_POS - 1
    moved = (here[sites[layer]] - there[sites[layer]])[0, query, head]
    row = at(torch.tensor([(layer, head, query, key) for key in range(N_POS)]))
    assert torch.allclose(row.changes.sum(0), moved, atol=1e-6)
    assert torch.allclose(row.deltas, guessed[layer, head, query])
    # by slopes: of the head as a whole, against a small step of it in the model
    step = 1e-4
    value = torch.zeros(1, model.parts.n_heads, model.parts.d_head, dtype=F64)
    value[0, head] = step * moved
    up, down = (
        case.metric.graph(
            model.run(tokens, edits=Edit(sites[layer], "add", s * value, positions=[query])).logits[0, -1]
        )
        for s in (1, -1)
    )
    assert float(guessed[layer, head, query].sum()) == pytest.approx(float((up - down) / (2 * step)), abs=1e-6)
    # one link taken away, against a run in which it is taken away by hand
    key = int(guessed[layer, head, query].abs().argmax())
    pattern, v = (model.run(tokens, read=[Site(p, layer)]).acts[Site(p, layer)][0] for p in ("pattern", "v"))
    pattern2, v2 = (model.run(other[None], read=[Site(p, layer)]).acts[Site(p, layer)][0] for p in ("pattern", "v"))
    group = head // (model.parts.n_heads // model.parts.n_kv_heads)
    new = here[sites[layer]][0].clone()
    new[query, head] -= pattern[head, query, key] * v[key, group] - pattern2[head, query, key] * v2[key, group]
    wanted = model.run(tokens, edits=Edit(sites[layer], value=new)).logits[0, -1]
    edit = links.without(case, row.here[key], list(row.there[:, key]), (layer, head, query, key))
    found = model.run(tokens, edits=edit)
    assert torch.allclose(found.logits[0, -1], wanted, atol=1e-9)


@pytest.mark.usefixtures("exact_norms")
@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2", "neox", "olmo2"])
def test_what_stands_there_adds_up_and_so_does_the_score(name: str) -> None:
    case = case_of(name, changed=slice(1, 3))
    found = case.coded.units(
        torch.tensor([0, 0, 1]), torch.tensor([2, 5, 2]), torch.tensor([3, 4, 5]), [b.codes for b in case.baselines]
    )
    standing = links.Standing(case, found)
    layer = case.model.parts.n_layers - 1
    for at in (2, 5):
        names, vectors = standing.at(layer, at)
        assert torch.allclose(vectors.sum(0), case.view.values[Site("resid_pre", layer)][at])
        assert float(vectors[-1].norm()) < 1e-6 * float(vectors.norm()) or name == "gpt2"  # nothing is left over
        assert {part.unit for part in names if part.unit is not None} == ({0, 2} if at == 2 else {1})
        unit = next(k for k, part in enumerate(names) if part.unit in (0, 1))
        assert float(vectors[unit].norm()) > 0
    assert case.live is not None
    made = links.attention_links(case, found, links.links_by_slope(case, case.live), 0)
    assert made and [abs(link.measured) for link in made] == sorted((abs(m.measured) for m in made), reverse=True)
    for link in made[: links.N_LINKS]:
        layer, head, query, key = link.place
        scores = case.model.run(case.run.tokens, read=[Site("scores", layer)]).acts[Site("scores", layer)][0]
        assert case.live is not None
        cap = case.live.attention[layer].heads.softcap
        wanted = float(scores[head, query, key])
        score = link.score if cap is None else cap * float(torch.tanh(torch.tensor(link.score / cap)))
        assert score == pytest.approx(wanted, abs=1e-4)
        if link.runner_up is not None:
            row = scores[head, query].clone()
            row[key] = -torch.inf
            assert int(row.argmax()) == link.runner_up


def test_a_held_graph_says_nothing_of_attention(glass) -> None:
    assert hooke.trace(glass, "Alice was beginning to get", form="held", nodes=10).payload["attention"] == []


def test_the_head_that_moves_the_name_is_among_the_first(smol) -> None:
    """Of an indirect object: from the last token to the other name, by measured effect, with the repeated name next."""
    prompt = "When Mary and John went to the store, John gave a drink to"
    found = hooke.trace(smol, prompt, counterfactual=prompt.replace(", John", ", Mary"), nodes=100).payload
    tokens = found["graph"]["tokens"]
    first = [(tokens[link["query"]], tokens[link["key"]]) for link in found["attention"]]
    assert (" to", " Mary") in first
    link = found["attention"][first.index((" to", " Mary"))]
    assert link["score"] > link["runner_up_score"] and link["verdict"] == "as-predicted"
    assert 'looks at " Mary"' in link["text"] and link["pairs"]


def test_the_sentence_names_the_link_that_matters_most_and_the_graph_has_links(smol) -> None:
    """A claim of its own, after the parts, with what the payload has of it; and the nodes are told with their links."""
    prompt = "When Mary and John went to the store, John gave a drink to"
    result = hooke.trace(smol, prompt, counterfactual=prompt.replace(", John", ", Mary"), nodes=60)
    best, nodes = result.payload["attention"][0], result.payload["graph"]["nodes"]
    (claim,) = [c for c in result.claims if c.evidence == ["#attention.0"]]
    assert claim.verdict == best["verdict"] and claim.text in result.payload["sentence"]
    assert f"attention of head {best['head']} of layer {best['layer']}" in claim.text
    assert f"{best['measured']:+.2f}" in claim.text
    links = [n for n in nodes if n["kind"] == "link"]
    features = [n for n in nodes if n["kind"] == "feature"]
    assert len(links) + len(features) == 60 and len(links) > 5
    assert f"{len(features)} neurons and {len(links)} attention links alone keep" in result.payload["tested"]
    strongest = max(links, key=lambda n: abs(n["total"]))
    assert strongest["verdict"] == "as-predicted" and "looks at" in strongest["label"]
    assert result.payload["verification"]["fit"] > 0.5
