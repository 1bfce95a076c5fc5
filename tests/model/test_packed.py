"""Runs packed into one row of tokens equal single runs with an edit, at every kind of site of every family."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from families import (
    N_LAYERS,
    NAMES,
    close,
    model_of,
    new_hf,
    one_thread,  # noqa: F401
    random_ids,
    untouched,
)
from hooke.errors import HookeError
from hooke.model import Edit, Model, Tokens
from hooke.model.recorded import record
from hooke.model.run_each import Writes, substitute
from hooke.sites import Site

HEADS = ("q", "k", "v", "z")
N_POS = 5  # more than the sliding window of the families that have one


def some_writes(model: Model, sites: list[Site], seed: int = 3) -> tuple[list[Writes], list[list[Edit]]]:
    """One value at one place for each run, and the same as edits."""
    generator = torch.Generator().manual_seed(seed)
    read = model.run(random_ids(1, N_POS, seed=8), read=sites).acts
    writes, edits = [], []
    for site in sites:
        x = read[site][0]
        for position in range(N_POS):
            unit = int(torch.randint(x.shape[1], (1,), generator=generator)) if site.point in HEADS else None
            value = x[position] if unit is None else x[position, unit]
            run = torch.tensor([len(edits)])
            at = None if unit is None else torch.tensor([unit])
            writes.append(Writes(site, run, torch.tensor([position]), at, value[None]))
            edits.append([Edit(site, value=value, positions=[position], index=None if unit is None else [unit])])
    return writes, edits


def one_by_one(model: Model, ids: Tensor, edits: list[list[Edit]]) -> Tensor:
    return torch.cat([model.run(ids, edits=e, logits="last").logits for e in edits])


@pytest.mark.parametrize("narrow", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_packed_runs_equal_single_runs(name: str, narrow: bool) -> None:
    """narrow: nothing is set inside the last block, so that only last positions go through it."""
    model, ids = model_of(name), random_ids(1, N_POS)
    sites = [s for s in model.sites if s.point not in ("scores", "pattern")]
    inside = [s for s in sites if s.layer == N_LAYERS - 1 and s.point not in ("resid_pre", "resid_post")]
    sites = [s for s in sites if s.point in ("resid_pre", "resid_post", "z") and s not in inside] if narrow else inside
    if not narrow:
        sites += [s for s in model.sites if s.point in ("k", "mlp_act", "attn_scale") and s.layer == 0]
    base = record(model, model.tokens(ids))
    writes, edits = some_writes(model, sites)
    expected = one_by_one(model, ids, edits)
    assert float((expected - base.logits).abs().amax(1).max()) > 1e-2  # the patches do something
    for max_bytes in (2**30, 60_000, 1):
        close(substitute(model, base, len(edits), writes, max_bytes=max_bytes), expected)
    some = torch.tensor([5, 90, 7])
    close(substitute(model, base, len(edits), writes, vocabulary=some), expected[:, some])
    assert untouched(model.hf)


@pytest.mark.parametrize("name", ["llama", "gemma3", "neox", "gpt2"])
def test_a_run_may_have_several_writes(name: str) -> None:
    model, ids = model_of(name), random_ids(1, N_POS)
    base = record(model, model.tokens(ids))
    other = model.run(random_ids(1, N_POS, seed=8), read=["z.0", "mlp_in.1", "resid_pre.2"]).acts
    at = torch.tensor([1, 3])
    both = torch.tensor([0, 0])
    writes = [
        Writes(Site("z", 0), both, at, torch.tensor([2, 1]), other["z.0"][0, at, torch.tensor([2, 1])]),
        Writes(Site("mlp_in", 1), both, at, None, other["mlp_in.1"][0, at]),
        Writes(Site("resid_pre", 2), torch.tensor([2]), torch.tensor([4]), None, other["resid_pre.2"][0, 4:]),
    ]
    edits = [
        [
            Edit("z.0", value=other["z.0"][0, 1, 2], positions=[1], index=[2]),
            Edit("z.0", value=other["z.0"][0, 3, 1], positions=[3], index=[1]),
            Edit("mlp_in.1", value=other["mlp_in.1"][0, at], positions=[1, 3]),
        ],
        [],
        [Edit("resid_pre.2", value=other["resid_pre.2"][0, 4], positions=[4])],
    ]
    close(substitute(model, base, 3, writes), one_by_one(model, ids, edits))


def test_only_what_can_change_is_computed() -> None:
    """Counts the rows of every block: from the layer and the position of a patch on, in the last block one each."""
    model = Model(new_hf("llama"), None, name="llama")
    rows: list[tuple[int, int]] = []
    for i, layer in enumerate(model.hf.model.layers):
        layer.mlp.register_forward_pre_hook(lambda _, args, i=i: rows.append((i, args[0].shape[1])))
    base = record(model, model.tokens(random_ids(1, N_POS)))
    x = torch.ones(1, model.parts.d_model)

    def at(point: str, layer: int, run: int, position: int) -> Writes:
        return Writes(Site(point, layer), torch.tensor([run]), torch.tensor([position]), None, x)

    rows.clear()
    substitute(model, base, 3, [at("resid_pre", 1, 0, 3), at("resid_post", 1, 1, 1), at("mlp_out", 0, 2, 4)])
    assert rows == [(0, 1), (1, 1 + 2), (2, 3)]
    rows.clear()  # what nothing reads afterwards is not run at all
    out = substitute(model, base, 2, [at("mlp_out", N_LAYERS - 1, 0, 2), at("resid_post", N_LAYERS - 1, 1, 3)])
    assert rows == [] and bool((out == base.logits).all())
    rows.clear()  # and after the last block there is only the unembedding
    moved = substitute(model, base, 1, [at("resid_post", N_LAYERS - 1, 0, N_POS - 1)])
    assert rows == [] and float((moved - base.logits).abs().max()) > 1e-3


def test_a_part_that_does_not_fit_is_split(monkeypatch: pytest.MonkeyPatch) -> None:
    import hooke.model.packed as packed

    model, ids = model_of("llama"), random_ids(1, N_POS)
    base = record(model, model.tokens(ids))
    writes, edits = some_writes(model, [Site("resid_pre", 1), Site("resid_pre", 2)])
    real, sizes = packed._pass, []

    def short_of_memory(model: Model, base: object, layout: packed.Layout, *rest: object) -> Tensor:
        sizes.append(len(layout.runs))
        if len(layout.runs) > 3:
            raise torch.OutOfMemoryError
        return real(model, base, layout, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(packed, "_pass", short_of_memory)
    close(substitute(model, base, len(edits), writes), one_by_one(model, ids, edits))
    assert max(sizes) == len(edits) and sum(size for size in sizes if size <= 3) == len(edits)


def test_what_is_refused() -> None:
    model = model_of("llama")
    base = record(model, model.tokens(random_ids(1, 4)))
    nothing = (torch.tensor([0]), torch.tensor([0]), None, torch.zeros(1, 1))
    with pytest.raises(HookeError, match="each pair of positions"):
        substitute(model, base, 1, [Writes(Site("pattern", 0), *nothing)])
    with pytest.raises(HookeError, match="3 layers"):
        substitute(model, base, 1, [Writes(Site("z", 7), *nothing)])
    with pytest.raises(HookeError, match="one prompt without padding"):
        record(model, Tokens(random_ids(2, 4), torch.ones(2, 4, dtype=torch.bool)))
