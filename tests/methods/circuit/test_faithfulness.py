"""Areas under a curve of faithfulness, and what is pruned of a circuit."""

from __future__ import annotations

import pytest
import torch

from hooke.methods.circuit.faithfulness import Curve, prune
from hooke.methods.circuit.measure import top
from hooke.methods.computation_graph import ComputationGraph


def test_areas_by_hand() -> None:
    found = Curve([0.0, 0.5, 1.0], [0, 5, 10], [0.0, 1.5, 1.0])
    assert found.cpr == pytest.approx(0.5 * (0.75 + 1.25))
    assert found.cmd == pytest.approx(0.5 * (0.75 + 0.25))


def test_pruning_takes_out_what_carries_nothing() -> None:
    computation = ComputationGraph(2, 2, 2, parallel=False)
    live = ["input->a0.h0<v>", "a0.h0->m1", "m1->logits", "input->m1"]
    idle = ["a0.h1->m1", "input->a1.h0<q>", "m0->a1.h1<k>", "a1.h1->logits"]
    # a0.h1 has nothing entering, a1.h0 nothing leaving, m0 nothing entering, so a1.h1 has nothing entering either
    assert sorted(computation.edge_names(prune(computation.mask([*live, *idle]), computation))) == sorted(live)
    grouped = ComputationGraph(1, 4, 2, parallel=False)
    names = ["input->a0.h2<k>", "input->a0.h3<k>", "a0.h3->logits"]
    assert sorted(grouped.edge_names(prune(grouped.mask(names), grouped))) == sorted(names)


def test_equal_scores_are_taken_in_order() -> None:
    found = [top(torch.zeros(4), n) for n in range(5)]
    assert [int(keep.sum()) for keep in found] == [0, 1, 2, 3, 4]
    assert bool((found[3] >= found[2]).all()) and found[1].tolist() == [True, False, False, False]
