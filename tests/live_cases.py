"""Prompts of tiny models in fp64 beside a counterfactual, as a live trace has them, and features of them."""

from __future__ import annotations

import torch

from families import model_of, random_ids
from hooke.methods.metric import Metric
from hooke.methods.trace.coded import Case, Units, encode
from hooke.methods.trace.counterfactuals import run_baseline
from hooke.model import held_view, live_view
from linear_map import F64, basis_of

N_POS, TARGET = 6, 5


def case_of(name: str, kind: str = "neurons", changed: slice = slice(2, 5)) -> Case:
    """A prompt against one with other tokens where they are changed."""
    model = model_of(name, F64)
    ids = random_ids(N_POS)
    other = ids.clone()
    other[changed] = random_ids(N_POS, seed=9)[changed]
    tokens, basis = model.tokens(ids), basis_of(kind, name)
    view = held_view(model, tokens)
    case = Case(model, model.record(tokens), view, encode(view, basis), Metric(TARGET, None, model.parts.softcap), [])
    case.baselines = [run_baseline(model, "other", model.tokens(other), basis, F64)]
    case.live = live_view(model, view)
    return case


def units_of(case: Case, count: int = 24) -> Units:
    """Different features, spread over blocks and positions, that the counterfactual changes."""
    found = [
        (b, p, i)
        for b, codes in enumerate(case.coded.codes)
        for p, i in zip(codes.positions.tolist(), codes.ids.tolist(), strict=True)
        if p >= 2
    ]
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(0))[:count]
    b, p, i = torch.tensor([found[j] for j in order.tolist()]).T
    return case.coded.units(b, p, i, [other.codes for other in case.baselines])
