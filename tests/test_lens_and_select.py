"""`lens`, and the ranking of features."""

from __future__ import annotations

import pytest
import torch

import hooke
from hooke.dictionaries import neurons
from hooke.errors import HookeError
from hooke.methods import select
from hooke.methods.baselines import baselines, passages
from hooke.methods.edges import encode
from hooke.methods.metric import Metric
from hooke.methods.variants import Vocabulary, elsewhere, like_counterfactuals
from hooke.methods.verify import faithfulness, make_bench
from hooke.model import freeze
from hooke.sites import Site

PROMPT = "Alice was beginning to get very tired of sitting"


def test_lens_against_a_slow_version(glass):
    result = hooke.lens(glass, PROMPT, top=3)
    payload = result.payload
    n = glass.parts.n_layers
    assert payload["layers"] == list(range(-1, n)) and len(payload["next"]) == n + 1
    acts = glass.run(PROMPT, read=[Site("resid_post", 1)]).acts
    with torch.no_grad():
        logits = glass.hf.lm_head(glass.hf.model.norm(acts["resid_post.1"][0]))
    best = logits.softmax(-1).topk(3)
    for position, row in enumerate(payload["next"][2]):
        assert [t["id"] for t in row] == best.indices[position].tolist()
        assert [t["probability"] for t in row] == pytest.approx(best.values[position].tolist(), abs=1e-5)
    final = glass.run(PROMPT).logits[0].softmax(-1).amax(-1)
    assert [row[0]["probability"] for row in payload["next"][-1]] == pytest.approx(final.tolist(), abs=1e-5)
    assert payload["choice"]["id"] == payload["next"][-1][-1][0]["id"]
    with pytest.raises(HookeError, match="top"):
        hooke.lens(glass, PROMPT, top=0)
    with pytest.raises(HookeError, match="one prompt"):
        hooke.lens(glass, glass.tokens([PROMPT, PROMPT]))


def test_variants_differ_only_where_they_should(glass):
    tokens = glass.tokens(PROMPT)
    ids = tokens.ids[0]
    other = ids.clone()
    other[3] = 500
    generator = torch.Generator().manual_seed(0)
    kinds = Vocabulary(glass).kinds
    for row in like_counterfactuals(glass, ids, [other], 8, generator):
        changed = (row != ids).nonzero()[:, 0].tolist()
        echoes = [p for p in range(len(ids)) if int(ids[p]) in (int(ids[3]), 500)]
        assert changed and set(changed) <= {3, *echoes}
        assert all(kinds[row[p]] in (kinds[ids[p]], kinds[other[p]]) for p in changed)
    for row in elsewhere(glass, tokens, 8, generator):
        changed = (row != ids).nonzero()[:, 0].tolist()
        assert changed and 0 not in changed
        assert len({int(ids[p]) for p in changed}) == 1


def test_passages_keep_the_first_token(glass):
    tokens = glass.tokens(PROMPT)
    rows = passages(glass, tokens)
    assert len(rows) == 3 and all(len(r) == tokens.ids.shape[1] and r[0] == tokens.ids[0, 0] for r in rows)


def prepared(model, prompt, others):
    tokens = model.tokens(prompt)
    frozen = freeze(model, tokens)
    basis = neurons(model)
    book = encode(frozen, basis, 1e-3)
    based = baselines(model, tokens, others, basis, frozen.dtype)
    return tokens, frozen, book, based


def test_ranking_is_repeatable_and_complete(glass):
    tokens, frozen, book, based = prepared(glass, PROMPT, [])
    metric = Metric(int(frozen.logits.argmax()), None, None)
    one, two = (select.ranking(glass, tokens, frozen, book, metric, based, given=False) for _ in range(2))
    assert torch.equal(one, two)
    assert torch.equal(one.sort().values, torch.arange(sum(v.numel() for v in book.values)))
    units = select.units_at(book, one[:20], based)
    for b, p, i, value in zip(units.blocks, units.positions, units.ids, units.values):
        assert float(book.values[b][p, i]) == float(value)


def test_long_prompts_are_ranked_by_relp(glass, monkeypatch):
    tokens, frozen, book, based = prepared(glass, PROMPT, [])
    metric = Metric(int(frozen.logits.argmax()), None, None)
    monkeypatch.setattr(select, "LONGEST", 3)
    order = select.ranking(glass, tokens, frozen, book, metric, based, given=False)
    scores = torch.cat([s.abs().flatten() for s in select.relp(frozen, book, metric, based)])
    assert torch.equal(order, scores.argsort(descending=True, stable=True))


def test_target_of_the_issue_on_real_weights_carries_to_an_unseen_counterfactual(smol):
    """Real weights, real interventions: the chosen thousand beat random ones and RelP's on a prompt never seen."""
    prompt = "The capital city of France is called"
    tokens, frozen, book, based = prepared(smol, prompt, ["The capital city of Italy is called"])
    (unseen,) = prepared(smol, prompt, ["The capital city of Japan is called"])[3]
    metric = Metric(smol.token(" Paris"), smol.token(" Tokyo"), None)
    bench = make_bench(smol, tokens, frozen, book, metric, [unseen])
    seen = Metric(smol.token(" Paris"), smol.token(" Rome"), None)
    order = select.ranking(smol, tokens, frozen, book, Metric(seen.target, None, None), based, given=True)
    relp = torch.cat([s.abs().flatten() for s in select.relp(frozen, book, seen, based)]).argsort(descending=True)
    f, plain = (faithfulness(bench, select.units_at(book, o[:1000], based), unseen) for o in (order, relp))
    assert f["fit"] > 0.4 and f["fit"] > plain["fit"] + 0.1 and abs(f["random_fit"]) < 0.1
    assert f["kl"] < plain["kl"] and f["kl"] < f["kl_random"] / 2


def test_indirect_object_on_real_weights(smol):
    prompt = "When Mary and John went to the store, John gave a drink to"
    result = hooke.trace(smol, prompt, nodes=300)
    payload = result.payload
    assert payload["target"]["token"] == " Mary" and payload["target"]["probability"] > 0.8
    assert payload["checks"]["replacement_max_abs_diff"] < 1e-3
    assert payload["checks"]["edge_sum_max_rel_error"] < 1e-5
    assert payload["verification"]["gradient_spearman"] > 0.9  # interventions are real: the gradient predicts them
    assert " Mary" in payload["sentence"] and payload["verification"]["named_sign_agreement"] >= 0.5
    assert set(result.seconds) >= {"forward", "select", "graph", "verification", "total"}
