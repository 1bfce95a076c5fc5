"""Which features of a catalogue fire on a text, and not on another: contrast search."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hooke.dictionaries import Dictionary, neurons
from hooke.errors import HookeError
from hooke.features.catalogue import Catalogue
from hooke.features.search import Hit
from hooke.methods.catalogue.sweep import activations, sites_of
from hooke.model import Model


def fires(
    model: Model, found: Catalogue, text: str, than: str | None, top: int, blocks: Sequence[Dictionary] | None = None
) -> list[Hit]:
    """Rows by the largest activation on one text less that on another, both as shares of the largest in the catalogue.

    blocks: those that the catalogue is of; the model's neurons if None.
    """
    own = strongest(model, found, text, blocks)
    if than is not None:
        own = own - strongest(model, found, than, blocks)
    order = np.argsort(-own, kind="stable")[:top]
    return [Hit(int(i), float(own[i])) for i in order if own[i] > 0]


def strongest(model: Model, found: Catalogue, text: str, blocks: Sequence[Dictionary] | None = None) -> np.ndarray:
    """(rows,) the largest activation of each side on a text, first token apart, as a share of the largest known."""
    known = np.array([row["largest"] for row in found.ask("select largest from {features} order by id")], np.float32)
    values = torch.cat([part.amax(0) for part in sides_on(model, found, text, blocks)]).numpy()
    return values / np.maximum(known, 1e-9)


def sides_on(model: Model, found: Catalogue, text: str, blocks: Sequence[Dictionary] | None = None) -> list[Tensor]:
    """Of each block (pos, sides of features): activations on a text, each of its side, 0 where it is on the other."""
    if blocks is None:
        blocks = neurons(model)
    known = {block["hash"]: block for block in found.about["blocks"]}
    some = [block for block in blocks if block.hash in known]
    if len(some) != len(known):
        raise HookeError("the catalogue is of other dictionaries than are given; name those that it was built from")
    run = model.run(model.one(text, "search with"), read=sorted({s for b in some for s in sites_of(b)}), logits=None)
    values = {site: x[0, 1:].flatten(1) if len(x[0]) > 1 else x[0].flatten(1) for site, x in run.acts.items()}
    parts = [activations(block, values).cpu() for block in some]
    if found.about["sides"] == 1:
        return parts
    return [torch.stack([x.clamp(min=0), (-x).clamp(min=0)], -1).flatten(1) for x in parts]
