"""Where patches are made: the written form of sites, their values in a run, and what a run is given instead.

A place is one point in some layers, whole or by unit: `resid_post` (all layers), `mlp_out.7`, `z` (each head),
`z.9.6` (one head), `mlp_act.3.100` (one neuron), or (dictionary, ids) for features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hooke.dictionaries import Dictionary
from hooke.errors import HookeError
from hooke.model import Model
from hooke.model.recorded import Recorded
from hooke.model.run_each import Writes
from hooke.sites import POINTS, Site

HEADED = ("q", "k", "v", "z", "pattern")
PlaceLike = str | Site | tuple[Dictionary, Sequence[int]]


@dataclass
class Place:
    """One point in some layers; `units` are its heads, neurons or features, or None for whole values."""

    name: str
    sites: list[Site]  # one a layer; of a dictionary, what it reads first
    units: list[int] | None
    dictionary: Dictionary | None = None

    @property
    def layers(self) -> list[int | None]:
        return [site.layer for site in self.sites]

    def reads(self) -> list[Site]:
        """Sites that must be read of each run."""
        if self.dictionary is not None:
            return sorted({*self.dictionary.reads, *self.dictionary.writes})
        return self.sites

    def values(self, acts: Mapping[Site, Tensor]) -> list[Tensor]:
        """What a run has there, per layer: (pos, width …), or (pos, unit, width …) by unit.

        acts: reads of one row, (1, pos, …).
        """
        if self.dictionary is not None:
            assert self.units is not None
            codes = self.dictionary.encode({site: acts[site][0] for site in self.dictionary.reads})
            positions = torch.arange(codes.shape[0], device=codes.values.device)[:, None].expand(-1, len(self.units))
            ids = torch.tensor(self.units, device=positions.device).expand_as(positions)
            return [codes.at(positions.reshape(-1), ids.reshape(-1)).view(positions.shape)]
        found = []
        for site in self.sites:
            x = acts[site][0]
            x = x.transpose(0, 1) if site.point == "pattern" else x
            found.append(x if self.units is None else x[:, self.units])
        return found

    def slopes(self, grads: Mapping[Site, Tensor], acts: Mapping[Site, Tensor]) -> list[Tensor]:
        """The derivative by what `values` gives, in the same shape, from those at `reads` (1, pos, …) of a run."""
        if self.dictionary is None:
            return self.values(grads)
        parts = [
            torch.einsum("pd,pid->pi", grads[s][0], self.writers(s, acts).to(grads[s])) for s in self.dictionary.writes
        ]
        return [torch.stack(parts).sum(0)]

    def writers(self, site: Site, acts: Mapping[Site, Tensor]) -> Tensor:
        """(pos, unit, width): what one unit of each feature writes at a site in a run."""
        assert self.dictionary is not None and self.units is not None
        n_pos, n = acts[self.dictionary.reads[0]].shape[1], len(self.units)
        ids = torch.tensor(self.units, device=acts[self.dictionary.reads[0]].device).repeat(n_pos)
        at = {s: acts[s][0].repeat_interleave(n, 0) for s in self.dictionary.reads}
        return self.dictionary.writer(ids, site, at).unflatten(0, (n_pos, n))

    def writes(self, base: Recorded, layer: int, new: Tensor, old: Tensor, runs: Tensor, at: Tensor) -> list[Writes]:
        """The base run with values of the `layer`-th site replaced, entry i in run `runs[i]`.

        at: (n, 2) position and unit (0 for whole values); new and old: (n, width …), the value to put there
        and the one that is there.
        """
        site, positions = self.sites[layer], at[:, 0]
        units = None if self.units is None else torch.tensor(self.units, device=at.device)[at[:, 1]]
        if self.dictionary is not None:
            assert units is not None
            made = []
            here = {s: base.acts[s][0][positions] for s in self.dictionary.reads}
            for target in self.dictionary.writes:
                change = (new - old)[:, None] * self.dictionary.writer(units, target, here).to(new)
                # added to what the run has there: what it writes earlier has moved that already
                made.append(Writes(target, runs, positions, None, change, add=True))
            return made
        if site.point == "pattern":  # one query's pattern moves only its z, which the base's values give
            assert units is not None
            values = base.values[site.layer or 0]  # (pos, kv_head, d_head)
            group = base.acts[site].shape[1] // values.shape[1]
            z = torch.einsum("nk,knd->nd", new.to(values), values[:, units // group])
            return [Writes(Site("z", site.layer), runs, positions, units, z)]
        return [Writes(site, runs, positions, units, new)]


def find_places(model: Model, given: PlaceLike | Sequence[PlaceLike]) -> list[Place]:
    """Read the written form of places. Raises HookeError, saying how to write them, for what the model lacks."""
    feature = isinstance(given, tuple) and len(given) == 2 and hasattr(given[0], "n_features")
    several = isinstance(given, Sequence) and not isinstance(given, str) and not feature
    items: Sequence[PlaceLike] = given if several else [given]  # type: ignore[assignment, list-item]
    if not items:
        raise HookeError("no sites to patch; give for example resid_post, attn_out or z")
    places = [_place(model, item) for item in items]
    if len({place.name for place in places}) < len(places):
        raise HookeError("the same site is given twice")
    return places


def wanted(places: Sequence[Place]) -> list[Site]:
    """All sites that the places read or write, in the order of the pass."""
    return sorted({site for place in places for site in place.reads()})


def _place(model: Model, item: PlaceLike) -> Place:
    if isinstance(item, tuple):
        dictionary, ids = item
        features = [int(i) for i in ids]
        if not features or not all(0 <= i < dictionary.n_features for i in features):
            raise HookeError(f"features must be numbers from 0 to {dictionary.n_features - 1}, not {list(ids)[:5]}")
        own = getattr(dictionary, "site", None)
        if own is not None and own.point == "mlp_act":  # its features are values of the model itself
            return Place(dictionary.hash, [own], features)
        return Place(dictionary.hash, [dictionary.reads[0]], features, dictionary)
    name = str(item)
    point, *numbers = name.split(".")
    if point not in POINTS or len(numbers) > 2 or not all(n.isdecimal() for n in numbers):
        raise HookeError(
            f"cannot read site {name!r}; write a point for all its layers (resid_post, z), a layer of it (z.9), or a "
            f"head or neuron of that (z.9.6); the points are {', '.join(POINTS)}"
        )
    if point == "scores":
        raise HookeError("scores are patched as the pattern that they give: use pattern")
    if POINTS[point].scope == "model":
        if numbers:
            raise HookeError(f"{point} has no layers")
        return Place(name, [Site(point)], None)
    sites = [site for site in model.sites if site.point == point]
    if numbers:
        sites = [Site(point, int(numbers[0]))]
        if sites[0] not in model.sites:
            sites = []
    if not sites:
        from hooke.model.hooks import check_site

        check_site(model.parts, Site(point, int(numbers[0]) if numbers else 0))  # says why there is none
    width = _n_units(model, point)
    units: list[int] | None = list(range(width)) if point in HEADED else None
    if len(numbers) == 2:
        unit = int(numbers[1])
        if not unit < width:
            raise HookeError(f"{name}: {point} has {width} units, numbered from 0")
        units = [unit]
    return Place(name, sites, units)


def _n_units(model: Model, point: str) -> int:
    """How long the first axis of features of a point is."""
    parts = model.parts
    if point in ("k", "v"):
        return parts.n_kv_heads
    if point in HEADED:
        return parts.n_heads
    if point in ("mlp_pre", "mlp_up", "mlp_act"):
        return parts.d_mlp
    return 1 if point.endswith("scale") else parts.d_model
