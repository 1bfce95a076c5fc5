"""What several runs share: a beginning that is run once, and many edits of one prompt in one batch."""

from __future__ import annotations

from typing import Any

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
    padded,
    random_ids,
    untouched,
)
from hooke.errors import HookeError
from hooke.model import Edit, Model, Tokens
from hooke.model.run_each import run_each
from hooke.sites import Site

F64 = torch.float64
SLIDING = ("mistral", "gemma2", "gemma3")


# A beginning that is shared


@pytest.mark.parametrize("length", [1, 2, 5])
@pytest.mark.parametrize("name", NAMES)
def test_a_run_after_a_prefix_equals_the_whole_run(name: str, length: int) -> None:
    model = model_of(name)
    rows = random_ids(3, 9)
    rows[:, :length] = rows[0, :length]
    prefix = model.prefix(rows[:1, :length])
    act, late = Site("mlp_act", 1), Site("resid_post", N_LAYERS - 1)
    new = torch.randn(3, 9, model.parts.d_mlp)
    new[:, :length] = model.run(rows, read=[act]).acts[act][:, :length]  # nothing changes in the prefix
    weight = torch.rand(3, 9, 1).expand_as(new)
    whole = model.run(
        rows,
        read=[act, late],
        edits=[Edit(act, value=new, weight=weight), Edit("resid_post.0", "scale", 0.5, positions=[7, -1])],
        grad=True,
    )
    part = model.run(
        rows[:, length:],
        read=[act, late],
        edits=[
            Edit(act, value=new[:, length:], weight=weight[:, length:]),
            Edit("resid_post.0", "scale", 0.5, positions=[7, -1]),
        ],
        grad=True,
        after=prefix,
    )
    assert whole.logits is not None and part.logits is not None
    close(part.logits, whole.logits[:, length:])
    for site in (act, late):
        close(part.acts[site], whole.acts[site][:, length:])
    (grad,) = torch.autograd.grad(whole.logits[:, -1].logsumexp(-1).sum(), whole.acts[act])
    (same,) = torch.autograd.grad(part.logits[:, -1].logsumexp(-1).sum(), part.acts[act])
    close(same, grad[:, length:], 1e-3)
    again = model.run(rows[:, length:], after=prefix, logits="last").logits  # the prefix is as it was
    close(again, model.run(rows, logits="last").logits)


def test_a_prefix_takes_one_row_and_what_follows_no_padding() -> None:
    model = model_of("llama")
    with pytest.raises(HookeError, match="one row"):
        model.prefix(random_ids(2, 3))
    prefix = model.prefix(random_ids(1, 3))
    tokens = Tokens(random_ids(2, 4), torch.tensor([[True] * 4, [False] + [True] * 3]))
    with pytest.raises(HookeError, match="padding"):
        model.run(tokens, after=prefix)
    with pytest.raises(HookeError, match="fit the context"):
        model.run(random_ids(1, model.parts.context - 2), after=prefix)


# Many edits of one prompt


def one_by_one(model: Model, ids: Tensor, sets: list[list[Edit]], read: list[Site]) -> tuple[Tensor, list[Any]]:
    runs = [model.run(ids, edits=edits, read=read) for edits in sets]
    return torch.stack([run.logits[0, -1] for run in runs]), [run.acts for run in runs]


def some_sets(model: Model, n_pos: int) -> list[list[Edit]]:
    generator = torch.Generator().manual_seed(9)
    d, f = model.parts.d_model, model.parts.d_mlp
    masks = [torch.rand(n_pos, f, generator=generator) < 0.2 for _ in range(4)]
    values = [torch.randn(n_pos, f, generator=generator) for _ in range(4)]
    vector = torch.randn(d, generator=generator)

    def late(mask: Tensor, start: int) -> Tensor:
        return mask & (torch.arange(n_pos) >= start)[:, None]

    return [
        [],
        [Edit("resid_post.1", "add", vector, positions=[2])],
        [Edit("mlp_act.0", value=values[0], index=masks[0])],
        [Edit("mlp_act.0", value=values[1], index=masks[1]), Edit("mlp_act.2", value=values[2], index=masks[2])],
        [Edit("mlp_act.2", value=values[3], index=masks[3])],
        # in this order: the masked one first, then the scaling, which another order would undo
        [Edit("mlp_act.1", value=values[1], index=masks[1]), Edit("mlp_act.1", "scale", 3.0)],
        [Edit("mlp_act.1", "scale", 3.0), Edit("mlp_act.1", value=values[1], index=masks[1])],
        [Edit("mlp_act.0", value=values[0], index=masks[0]), Edit("mlp_act.0", value=values[1], index=masks[1])],
        [Edit("mlp_act.1", value=1.0, index=masks[2])],
        [Edit("mlp_act.1", value=torch.ones(f), index=torch.arange(f) % 3 == 0)],
        [Edit("pattern.2", index=(1, 0))],
        [
            Edit("z.0", value=0.0, index=[1, 2]),
            Edit("resid_mid.2" if not model.parts.parallel else "z.2", "scale", 0.5),
        ],
        [Edit("q.1", value=0.3, positions=[-1])],
        [Edit("resid_pre.0", "add", vector, positions=[0])],
        [Edit("final_norm", "scale", 2.0)],
        [Edit("resid_post.2", "project_out", vector)],
        *([Edit(f"mlp_act.{i % 3}", value=values[i], index=late(masks[i], i + 2))] for i in range(4)),
        [
            Edit("mlp_act.0", value=values[0], index=late(masks[0], 5)),
            Edit("mlp_act.2", value=values[1], index=late(masks[1], 3)),
        ],
    ]


@pytest.mark.parametrize("patterns", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_run_each_equals_one_run_for_each_set(name: str, patterns: bool) -> None:
    model, n_pos = model_of(name), 6
    ids = random_ids(1, n_pos)
    sets = some_sets(model, n_pos)
    read = [Site.parse(s) for s in ("mlp_in.0", "resid_pre.1", "mlp_act.1", "pattern.2", "resid_post.2", "final_norm")]
    read = [site for site in read if patterns or site.point != "pattern"]  # with them no beginning is shared
    logits, acts = one_by_one(model, ids, sets, read)
    base = model.record(ids)
    for max_bytes in (2**30, 60_000, 1):
        with torch.no_grad():
            got, reads = run_each(model, base, sets, read=read, max_bytes=max_bytes)
        close(got, logits)
        for edits, found, expected in zip(sets, reads, acts, strict=True):
            first = min((e.site.layer if e.site.layer is not None else 2 for e in edits), default=2)
            for site in read:
                if site.layer is None or site.layer >= first:
                    low = torch.finfo(torch.float32).min / 2
                    close(found[site].clamp(min=low), expected[site][0].clamp(min=low))
                else:
                    assert site not in found
    assert untouched(model.hf)


def test_run_each_computes_only_what_edits_can_change() -> None:
    """Counts rows through each block: from the layer and the position of a first edit on, in the last block one each."""
    model = Model(new_hf("llama"), None, name="llama")
    rows: list[tuple[int, int]] = []
    for i, layer in enumerate(model.hf.model.layers):
        layer.mlp.register_forward_pre_hook(lambda _, args, i=i: rows.append((i, args[0].shape[1])))
    ids, f = random_ids(1, 8), model.parts.d_mlp
    mask = torch.zeros(8, f, dtype=torch.bool)
    early, late = mask.clone(), mask.clone()
    early[1, 3], late[6, 3] = True, True
    base = model.record(ids)
    rows.clear()
    model.run_each(base, [[Edit("mlp_act.0", value=torch.ones(8, f), index=m)] for m in (early, late, late, mask)])
    assert rows == [(0, 7 + 2 + 2), (1, 7 + 2 + 2), (2, 3)]
    rows.clear()  # an edit by position, one everywhere, one after a block, one after all of them
    model.run_each(
        base,
        [
            [Edit("z.1", "scale", 2.0, positions=[-3])],
            [Edit("z.1")],
            [Edit("resid_post.0", "add", 1.0, positions=[5])],
            [Edit("final_norm")],
        ],
    )
    assert rows == [(1, 3 + 8 + 3), (2, 3)]


@pytest.mark.parametrize("name", NAMES)
def test_runs_that_are_only_read_end_where_they_are_read_last(name: str) -> None:
    model, ids, read = model_of(name), random_ids(1, 6), [Site("resid_pre", 1), Site("mlp_in", 1)]
    sets = [edits for edits in some_sets(model, 6) if all(edit.site.point != "pattern" for edit in edits)]
    _, acts = one_by_one(model, ids, sets, read)
    seen: list[int] = []
    hooks = [
        block.module.register_forward_pre_hook(lambda *_, layer=layer: seen.append(layer))
        for layer, block in enumerate(model.parts.blocks)
    ]
    base = model.record(ids, read=read)
    seen.clear()
    try:
        with torch.no_grad():
            got, reads = run_each(model, base, sets, read=read, logits=False)
    finally:
        for hook in hooks:
            hook.remove()
    assert seen and max(seen) == 1
    assert torch.equal(got, base.logits.expand_as(got))
    for edits, found, expected in zip(sets, reads, acts, strict=True):
        for site in read:
            if site in found:
                close(found[site], expected[site][0])
            else:
                assert all(edit.site.layer is None or edit.site.layer > 1 for edit in edits)


def test_run_each_refuses_what_it_cannot_do() -> None:
    model, ids = model_of("llama"), random_ids(1, 5)
    for tokens, sets, says in (
        (random_ids(2, 5), [[]], "one prompt without padding"),
        (padded([random_ids(5), random_ids(3)], "left"), [[]], "one prompt without padding"),
        (ids, [], "no sets of edits"),
        (ids, [[Edit("z.1", rows=[0])]], "neither rows nor a condition"),
        (ids, [[Edit("z.1", positions=[5])]], "position 5"),
        (ids, [[Edit("z.7")]], "3 layers"),
    ):
        with pytest.raises(HookeError, match=says):
            model.run_each(tokens, sets)
    assert untouched(model.hf)
