"""What a patch puts in: what the other prompt has there, what other prompts have by position, or nothing."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hooke.errors import HookeError
from hooke.methods.asking import data_hash
from hooke.methods.patch.pair import Case
from hooke.methods.patch.places import Place, wanted
from hooke.model import Model
from hooke.model.model import Prompt
from hooke.model.recorded import record

Source = list[list[Tensor]]  # values by place and layer, lined up with the base's positions: (aligned pos, …)


def sources_of(
    model: Model, places: list[Place], case: Case, ablation: str, data: Sequence[Prompt], samples: int, seed: int
) -> list[Source]:
    """What the patches put in: one source, or as many as are drawn. data: for "mean" and "resample"."""
    base, other = case.base, case.other
    if ablation == "counterfactual":
        same = len(other.run.tokens.ids[0]) == len(base.run.tokens.ids[0])
        if not same and any(p.sites[0].point == "pattern" for p in places):
            raise HookeError("patterns of prompts of different length have different keys and cannot be patched")
        return [[[x[other.at.to(x.device)] for x in place.values(other.run.acts)] for place in places]]
    if ablation == "zero":
        return [[[torch.zeros_like(x)[base.at.to(x.device)] for x in place.values(base.run.acts)] for place in places]]
    if not data:
        raise HookeError(f"{ablation} ablation needs data: prompts of the same token length as the clean one")
    chosen = list(data)
    if ablation == "resample":
        if samples < 1:
            raise HookeError("resampling needs at least one sample")
        drawn = random.Random(seed)
        chosen = drawn.sample(chosen, samples) if samples <= len(chosen) else drawn.choices(chosen, k=samples)
    found: list[Source] = []
    for text in chosen:
        tokens = model.one(text, "each row of the data is")
        if tokens.ids.shape != base.run.tokens.ids.shape:
            raise HookeError(
                f"{ablation} ablation goes by position: {_quoted(text)} has {tokens.ids.shape[1]} tokens and the "
                f"prompt has {base.run.tokens.ids.shape[1]}"
            )
        run = record(model, tokens, wanted(places))
        here = [[x[base.at.to(x.device)] for x in place.values(run.acts)] for place in places]
        if ablation == "mean" and found:
            found = [[[a + b for a, b in zip(*p, strict=True)] for p in zip(found[0], here, strict=True)]]
        else:
            found.append(here)
    return [[[x / len(chosen) for x in place] for place in found[0]]] if ablation == "mean" else found


def data_recorded(model: Model, data: Sequence[Prompt]) -> dict[str, Any]:
    """The data as the arguments of a result keep it."""
    rows = [x if isinstance(x, str) else model.one(x, "each row of the data is").ids[0].tolist() for x in data]
    return {"n_data": len(data), "data_sha256": data_hash(rows) if data else None}


def _quoted(text: Prompt) -> str:
    return repr(text[:60]) if isinstance(text, str) else "a prompt"
