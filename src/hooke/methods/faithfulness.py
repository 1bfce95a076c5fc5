"""How much of a model's behaviour is left when only a circuit's edges carry it (MIB, 2504.13151).

f(C) = (m(C) - m(∅)) / (m(M) - m(∅)): C keeps its edges and takes all others from the corrupt run, ∅ takes every
edge from there, M is the whole model. Circuits of growing size are prefixes of one ranking of edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hooke.errors import HookeError
from hooke.methods.edge_scores import MAX_ROWS
from hooke.methods.objective import Objective
from hooke.methods.progress import Tick, idle
from hooke.methods.wiring import Part, Wiring, run_edges, written
from hooke.model import Model, Tokens

HEAD_PARTS: tuple[Part, ...] = ("q", "k", "v")
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


def top(scores: Tensor, wiring: Wiring, count: int) -> Tensor:
    """(n_readers, n_writers) True at the `count` edges of the largest scores; of equal ones the first."""
    own = scores.cpu()[wiring.edges]
    chosen = torch.zeros(len(own), dtype=torch.bool)
    chosen[own.argsort(descending=True, stable=True)[:count]] = True
    keep = torch.zeros_like(wiring.edges)
    keep[wiring.edges] = chosen
    return keep


def prune(keep: Tensor, wiring: Wiring) -> Tensor:
    """Without edges that carry nothing: those out of a node that no kept edge enters, or that lead nowhere."""
    kept = keep.cpu().numpy().copy()
    share = wiring.n_heads // wiring.n_kv_heads
    alive = np.zeros(len(wiring.writers), bool)  # something enters
    alive[0] = True
    for layer in range(wiring.n_layers):
        entered = [(kept[wiring.rows(layer, part)] & alive).any(1) for part in HEAD_PARTS]
        alive[wiring.heads(layer)] = entered[0] | np.repeat(entered[1] | entered[2], share)
        alive[wiring.mlp(layer)] = (kept[wiring.rows(layer, "mlp")] & alive).any()
    kept &= alive
    useful = kept[-1].copy()  # something leaves, and arrives
    for layer in reversed(range(wiring.n_layers)):
        rows = wiring.rows(layer, "mlp")
        kept[rows] &= useful[wiring.mlp(layer)]
        useful |= kept[rows].any(0)
        heads = useful[wiring.heads(layer)]
        groups = heads.reshape(-1, share).any(1)
        for part, own in zip(HEAD_PARTS, (heads, groups, groups), strict=True):
            rows = wiring.rows(layer, part)
            kept[rows] &= own[:, None]
            useful |= kept[rows].any(0)
    return torch.from_numpy(kept)


def curve(
    model: Model,
    clean: Tokens,
    corrupt: Tokens,
    objective: Objective,
    scores: Tensor,
    *,
    shares: Sequence[float] = SHARES,
    complement: bool = False,
    max_rows: int = MAX_ROWS,
    tick: Tick = idle,
) -> Curve:
    """f of the best edges by `scores` (n_readers, n_writers), at each share of all edges.

    complement: of all edges but those (completeness: near 0 if the circuit is all there is).
    Raises HookeError if the metric is the same in the whole model and with every edge cut.
    """
    wiring = Wiring.of(model.parts)
    total = int(wiring.edges.sum())
    masks = []
    for share in shares:
        keep = prune(top(scores, wiring, max(1, round(share * total))), wiring)
        masks.append(wiring.edges & ~keep if complement else keep)
    ends = [torch.zeros_like(wiring.edges), wiring.edges]
    values = values_of(model, clean, corrupt, objective, [*ends, *masks], max_rows=max_rows, tick=tick)
    none, whole, *found = values.mean(1).tolist()
    if abs(whole - none) <= 1e-4 * float(values[:2].abs().max()):
        raise HookeError("the metric is the same in the clean and the corrupt run: there is nothing to be faithful to")
    return Curve(list(shares), [int(m.sum()) for m in masks], [(v - none) / (whole - none) for v in found])


def values_of(
    model: Model,
    clean: Tokens,
    corrupt: Tokens,
    objective: Objective,
    masks: Sequence[Tensor],
    *,
    max_rows: int = MAX_ROWS,
    tick: Tick = idle,
) -> Tensor:
    """(n_masks, batch): the gain when only the edges of each mask are kept."""
    batch = len(clean.ids)
    pairs = torch.arange(batch, device=model.device)
    size = max(1, max_rows // batch)
    found = []
    with torch.no_grad():
        other = written(model, corrupt)
        for start in range(0, len(masks), size):
            keep = torch.stack(list(masks[start : start + size])).to(model.device, model.dtype)
            n = len(keep)
            rows, given = keep.repeat_interleave(batch, 0), other.repeat(1, n, 1, 1)
            logits = run_edges(model, clean.times(n), rows, given, logits=objective.logits)
            found.append(objective.gain(logits, pairs.repeat(n)).view(n, batch))
            tick(min(1.0, (start + size) / len(masks)))
    return torch.cat(found)
