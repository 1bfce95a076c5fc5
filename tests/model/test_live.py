"""The live linear view is the derivative: against central differences of whole runs, in every family, in fp64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from families import NAMES, model_of, random_ids
from hooke import Edit, Model
from hooke.model import Descent, Rows, held_view, live_view
from hooke.model.linear_view import Part
from hooke.sites import Site

pytestmark = pytest.mark.usefixtures("exact_norms")
F64 = torch.float64
N_POS, STEP = 6, 2e-6
CLOSE = 1e-7  # of the largest: what central differences of this step are off by


def rows_at(model: Model) -> tuple[Rows, list[tuple[Site, int]]]:
    """A few random readers, of the last norm and of MLPs, and where each reads."""
    n = model.parts.n_layers
    where = [(Site("final_norm"), N_POS - 1), (Site("mlp_in", n - 1), N_POS - 2), (Site("mlp_in", 1), 3)]
    vectors = torch.randn(len(where), model.parts.d_model, dtype=F64, generator=torch.Generator().manual_seed(0))
    parts = [Part(site, torch.tensor([i]), vectors[i : i + 1]) for i, (site, _) in enumerate(where)]
    positions = torch.tensor([p for _, p in where])
    return Rows(positions, torch.zeros(len(where), dtype=F64), parts), where


def slopes(model: Model, ids: Tensor, rows: Rows, edit: Site, held: list[Edit]) -> tuple[Tensor, Tensor]:
    """How what the rows read changes along a random direction (pos, d_model) at a site, by two runs; and the
    direction."""
    along = torch.randn(N_POS, model.parts.d_model, dtype=F64, generator=torch.Generator().manual_seed(1))
    found = []
    for sign in (1, -1):
        edits = [Edit(edit, "add", sign * STEP * along), *held]
        acts = model.run(ids, read={part.site for part in rows.parts}, edits=edits, logits=None).acts
        found.append([float(acts[s][0, int(rows.positions[i[0]])] @ v[0]) for s, i, v, _ in rows.parts])
    up, down = torch.tensor(found, dtype=F64)
    return (up - down) / (2 * STEP), along


def close(found: Tensor, wanted: Tensor) -> None:
    assert wanted.abs().max() > 1e-6  # something does reach them
    assert (found - wanted).abs().max() <= CLOSE * wanted.abs().max().clamp(min=1)


@pytest.mark.parametrize("cut", [True, False], ids=["at the MLPs", "nowhere"])
@pytest.mark.parametrize("name", NAMES)
def test_what_passes_is_the_derivative(name: str, cut: bool) -> None:
    """Cut where MLPs write, only the paths through attention and norms count: the MLPs of runs are held."""
    model = model_of(name, F64)
    ids = random_ids(N_POS)
    held = held_view(model, model.tokens(ids))
    live = live_view(model, held)
    writing = [Site("mlp_proj", layer) for layer in range(model.parts.n_layers)]
    clean = model.run(ids, read=writing).acts
    rows, _ = rows_at(model)
    seen = {}
    way = Descent(live, rows, frozenset(writing if cut else ()), frozenset(writing), carry={} if cut else None)
    for site, first, cotangents in way:
        whole = torch.zeros(len(rows), N_POS, model.parts.d_model, dtype=F64)
        whole[first : first + len(cotangents), : cotangents.shape[1]] = cotangents
        seen[site] = whole
    for source in [Site("resid_pre", 0), *writing]:
        later = [Edit(site, value=clean[site]) for site in writing if site > source] if cut else []
        wanted, along = slopes(model, ids, rows, source, later)
        close((seen[None if source == Site("resid_pre", 0) else source] * along).sum((1, 2)), wanted)


@pytest.mark.parametrize("name", NAMES)
def test_holding_is_something_else(name: str) -> None:
    """The comparison above can fail: the held view does not give the derivative."""
    model = model_of(name, F64)
    ids = random_ids(N_POS)
    held = held_view(model, model.tokens(ids))
    rows, _ = rows_at(model)
    for site, _, cotangents in Descent(held, rows):
        assert site is None
        wanted, along = slopes(model, ids, rows, Site("resid_pre", 0), [])
        found = (cotangents * along[: cotangents.shape[1]]).sum((1, 2))
        assert (found - wanted).abs().max() > 1e-3 * wanted.abs().max()
