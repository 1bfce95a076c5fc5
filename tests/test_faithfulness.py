"""Faithfulness: 1 for the whole model, 0 for none of it, and prefixes of one ranking in between."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from families import close, model_of, random_tokens
from hooke import HookeError
from hooke.methods.edge_scores import exact
from hooke.methods.faithfulness import Curve, curve, prune, top, values_of
from hooke.methods.objective import Objective
from hooke.methods.wiring import Wiring, run_edges, written


def difference(logits: Tensor, _: object = None) -> Tensor:
    return logits[:, 5] - logits[:, 9]


OBJECTIVE = Objective(difference, difference, difference)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_the_ends_of_the_curve(family: str) -> None:
    model = model_of(family)
    clean, corrupt = random_tokens(3, 5), random_tokens(3, 5, seed=1)
    wiring = Wiring.of(model.parts)
    scores = exact(model, clean, corrupt, OBJECTIVE).abs().mean(0)
    found = curve(model, clean, corrupt, OBJECTIVE, scores, shares=[0.01, 0.3, 1.0])
    assert found.values[-1] == pytest.approx(1, abs=1e-4) and found.edges[-1] == int(wiring.edges.sum())
    rest = curve(model, clean, corrupt, OBJECTIVE, scores, shares=[1.0], complement=True)
    assert rest.values == [pytest.approx(0, abs=1e-4)] and rest.edges == [0]
    masks = [top(scores, wiring, 40), wiring.edges]
    values = values_of(model, clean, corrupt, OBJECTIVE, masks, max_rows=4)
    other = written(model, corrupt)
    for mask, own in zip(masks, values):
        close(own, difference(run_edges(model, clean, mask[None].float(), other, logits="last")))


def test_a_metric_that_does_not_move_is_refused() -> None:
    model = model_of("gpt2")
    ids = random_tokens(2, 5)
    with pytest.raises(HookeError, match="nothing to be faithful to"):
        curve(model, ids, ids, OBJECTIVE, torch.zeros(Wiring.of(model.parts).edges.shape))


def test_areas_by_hand() -> None:
    found = Curve([0.0, 0.5, 1.0], [0, 5, 10], [0.0, 1.5, 1.0])
    assert found.cpr == pytest.approx(0.5 * (0.75 + 1.25))
    assert found.cmd == pytest.approx(0.5 * (0.75 + 0.25))


def test_pruning_takes_out_what_carries_nothing() -> None:
    wiring = Wiring(2, 2, 2, parallel=False)
    live = ["input->a0.h0<v>", "a0.h0->m1", "m1->logits", "input->m1"]
    idle = ["a0.h1->m1", "input->a1.h0<q>", "m0->a1.h1<k>", "a1.h1->logits"]
    # a0.h1 has nothing entering, a1.h0 nothing leaving, m0 nothing entering, so a1.h1 has nothing entering either
    assert sorted(wiring.edge_names(prune(wiring.mask([*live, *idle]), wiring))) == sorted(live)
    grouped = Wiring(1, 4, 2, parallel=False)
    names = ["input->a0.h2<k>", "input->a0.h3<k>", "a0.h3->logits"]
    assert sorted(grouped.edge_names(prune(grouped.mask(names), grouped))) == sorted(names)


def test_equal_scores_are_taken_in_order() -> None:
    wiring = Wiring(1, 1, 1, parallel=False)
    scores = torch.zeros(wiring.edges.shape)
    assert [int(top(scores, wiring, n).sum()) for n in range(4)] == [0, 1, 2, 3]
    assert bool((top(scores, wiring, 3) >= top(scores, wiring, 2)).all())
