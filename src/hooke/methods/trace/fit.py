"""How much of the effect is left when only the kept features carry it, beside random ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hooke.methods.trace.coded import Units
from hooke.methods.trace.counterfactuals import Baseline
from hooke.methods.trace.verify import Bench
from hooke.model import Edit

LEAST_SPAN = 0.01  # nats; of an effect that is smaller a share says nothing


def faithfulness(bench: Bench, kept: Units, baseline: Baseline, *, seed: int = 0) -> dict[str, float]:
    """f = (m(C) − m(∅)) / (m(M) − m(∅)) with everything outside C at its baseline, attention live; beside
    it a random set of equal size, the complement (C at its baseline), and the KL from the model's own
    next-token distribution in nats. No shares of an effect that is next to nothing."""
    generator = torch.Generator().manual_seed(seed)
    sizes, inside = [len(codes) for codes in bench.coded.codes], bench.coded.masks(kept)
    random = torch.zeros(sum(sizes), dtype=torch.bool)
    random[torch.randperm(sum(sizes), generator=generator)[: len(kept)]] = True
    chance = [r.to(here.device) for r, here in zip(random.split(sizes), inside, strict=True)]
    none, every = [torch.zeros_like(here) for here in inside], [torch.ones_like(here) for here in inside]
    masks = (none, inside, chance, [~here for here in inside], every)
    logits, _ = bench.model.run_each(bench.run, [_holding(bench, mask, baseline) for mask in masks])
    m = bench.metric(logits).tolist()
    span = m[4] - m[0]
    log = logits.float().log_softmax(-1)
    kl = (log[4].exp() * (log[4] - log)).sum(-1).tolist()
    if abs(span) <= max(LEAST_SPAN, bench.rounding):
        return {"range": span, "kl": kl[1]}
    return {
        "fit": (m[1] - m[0]) / span,
        "random_fit": (m[2] - m[0]) / span,
        "complement": (m[3] - m[0]) / span,
        "range": span,
        "kl": kl[1],
        "kl_nothing_kept": kl[0],
        "kl_random": kl[2],
    }


def _holding(bench: Bench, keep: Sequence[Tensor], baseline: Baseline) -> list[Edit]:
    """Edits that hold every feature outside `keep` (per block, of the entries of the codes) at its baseline value, and
    every feature that is active in the baseline alone as well, unless all is kept."""
    out: list[Edit] = []
    everything = all(bool(each.all()) for each in keep)
    for b, block in enumerate(bench.coded.basis):
        codes, other = bench.coded.codes[b], baseline.codes[b]
        gone = codes.take(~keep[b])
        positions, ids = gone.positions, gone.ids
        if other.keys is not None and not everything:
            alone = codes.find(other.positions, other.ids) < 0
            positions = torch.cat([positions, other.positions[alone]])
            ids = torch.cat([ids, other.ids[alone]])
        if len(ids):
            out += block.edits(ids, other.at(positions, ids), positions)
    return out
