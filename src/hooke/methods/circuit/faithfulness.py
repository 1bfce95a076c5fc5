"""How much of a model's behaviour is left when only a circuit's edges carry it (MIB, 2504.13151).

f(C) = (m(C) - m(∅)) / (m(M) - m(∅)): C keeps its edges and takes all others from the corrupt run, ∅ takes every
edge from there, M is the whole model. Circuits of growing size are prefixes of one ranking of edges.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hooke.methods.computation_graph import HEAD_PARTS, ComputationGraph

SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # of the edges


class Curve(NamedTuple):
    """Faithfulness by size. shares: of all edges asked for; edges: kept after pruning; values: f of each."""

    shares: list[float]
    edges: list[int]
    values: list[float]

    @property
    def cpr(self) -> float:
        """Area under f over the share of edges, linear: 1 is a model that loses nothing; larger is better."""
        return float(np.trapezoid(self.values, self.shares))

    @property
    def cmd(self) -> float:
        """Area of |1 - f|: 0 is best."""
        return float(np.trapezoid(np.abs(1 - np.array(self.values)), self.shares))


def prune(keep: Tensor, computation: ComputationGraph) -> Tensor:
    """Without edges that carry nothing: those out of a node that no kept edge enters, or that lead nowhere."""
    kept = keep.cpu().numpy().copy()
    share = computation.n_heads // computation.n_kv_heads
    alive = np.zeros(len(computation.writers), bool)  # something enters
    alive[0] = True
    for layer in range(computation.n_layers):
        entered = [(kept[computation.rows(layer, part)] & alive).any(1) for part in HEAD_PARTS]
        alive[computation.heads(layer)] = entered[0] | np.repeat(entered[1] | entered[2], share)
        alive[computation.mlp(layer)] = (kept[computation.rows(layer, "mlp")] & alive).any()
    kept &= alive
    useful = kept[-1].copy()  # something leaves, and arrives
    for layer in reversed(range(computation.n_layers)):
        rows = computation.rows(layer, "mlp")
        kept[rows] &= useful[computation.mlp(layer)]
        useful |= kept[rows].any(0)
        heads = useful[computation.heads(layer)]
        groups = heads.reshape(-1, share).any(1)
        for part, own in zip(HEAD_PARTS, (heads, groups, groups), strict=True):
            rows = computation.rows(layer, part)
            kept[rows] &= own[:, None]
            useful |= kept[rows].any(0)
    return torch.from_numpy(kept)
