"""Values of a batch at sites, and the codes of dictionaries that read them: made once, and kept sparse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from hooke.dictionaries.coder import Coder
from hooke.dictionaries.sparse import Entries, decode
from hooke.methods.evaluate.asked import wide
from hooke.methods.evaluate.texts import Batch
from hooke.model import Model
from hooke.model.budget import budget
from hooke.sites import Site


class Code(NamedTuple):
    """What fires: values (entries,) and where they are."""

    values: Tensor
    entries: Entries


@dataclass(eq=False)
class Seen:
    """Values of tokens at sites, (n, width) each. Codes come of them when they are asked for."""

    values: dict[Site, Tensor]
    _codes: dict[int, Code] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))

    def code(self, coder: Coder) -> Code:
        """The codes of a block of these tokens; kept as long as they are."""
        found = self._codes.get(id(coder))
        if found is None:
            found = self._codes[id(coder)] = coded(coder, {site: self.values[site] for site in coder.reads})
        return found

    def decoded(self, coder: Coder, site: Site, rows: Tensor | None = None) -> Tensor:
        """(n, width): what the features of a block write at a site, without its offset. rows: unit ones (n_features,
        width), along which they write as much instead."""
        code, own = self.code(coder), coder.decoders[site]
        values = code.values if rows is None else code.values * own.norm(dim=1)[code.entries.ids]
        made = decode(values, own if rows is None else rows, code.entries)
        if not coder.restores:
            return made
        ids = torch.zeros(len(made), dtype=torch.long, device=made.device)
        unit = own[:1].square().sum(-1, keepdim=True).clamp(min=1e-30)
        scale = (coder.writer(ids, site, {site: self.values[site]}) * own[:1]).sum(-1, keepdim=True) / unit
        return made * scale

    def offset(self, coder: Coder, site: Site) -> Tensor:
        """(n, width): what a block writes at a site with no feature firing."""
        found = coder.offset(site, {read: self.values[read] for read in coder.reads})
        assert found is not None
        return found


def coded(coder: Coder, x: Mapping[Site, Tensor]) -> Code:
    """Codes of values (n, width) by site: some rows at once, so that no dense matrix of all of them is ever there."""
    n = len(x[coder.reads[0]])
    step = budget(coder.bias.device).fit(4 * coder.n_features * coder.bias.itemsize)
    values, ids, counts = [], [], []
    for at in range(0, n, step):
        dense = coder.dense({site: y[at : at + step] for site, y in x.items()})
        fires = dense != 0
        values.append(dense[fires])
        ids.append(fires.nonzero()[:, 1])
        counts.append(fires.sum(1))
    count = torch.cat(counts) if counts else torch.zeros(0, dtype=torch.long)
    offsets = torch.cat([count.new_zeros(1), count.cumsum(0)])
    return Code(torch.cat(values), Entries(torch.cat(ids), offsets, coder.n_features))


def seen(model: Model, batch: Batch, sites: Sequence[Site]) -> Seen:
    """What stands at sites for the tokens of a batch that count, from a pass that goes no further than the last."""
    run = model.run(batch.tokens, read=sites, logits=None)
    return Seen({site: inside(run.acts[site], batch, model) for site in sites})


def inside(x: Tensor, batch: Batch, model: Model) -> Tensor:
    """(n, width) of values (rows, pos, …): those of the tokens that count, in the precision of measuring."""
    return x.flatten(2)[batch.inside].to(wide(model))


def put(x: Tensor, new: Tensor, batch: Batch) -> Tensor:
    """Values (rows, pos, …) with other ones (n, width) for the tokens that count; the others stay."""
    flat = x.flatten(2).index_put((batch.inside,), new.to(x.dtype))
    return flat.view_as(x)
