"""Edits: every operation at every kind of site and position. Expected values come from plain forward hooks and
loops over rows and positions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from families import (
    N_LAYERS,
    NAMES,
    close,
    logits_of,
    model_of,
    one_thread,  # noqa: F401
    padded,
    random_ids,
    untouched,
)
from hooke.dictionaries import Codes, neurons
from hooke.errors import HookeError
from hooke.model import Edit, Model, Tokens
from hooke.sites import Site

F64 = torch.float64
SLIDING = ("mistral", "gemma2", "gemma3")


# Edits: expected values by plain hooks and loops


@contextmanager
def by_hand(module: nn.Module, change: Callable[[Tensor], Tensor], *, output: bool) -> Iterator[None]:
    """Replace what enters or leaves a module, with one plain hook."""

    def after(_: nn.Module, args: Any, out: Any) -> Any:
        return (change(out[0]), *out[1:]) if isinstance(out, tuple) else change(out)

    def before(_: nn.Module, args: Any) -> Any:
        return (change(args[0]), *args[1:])

    handle = module.register_forward_hook(after) if output else module.register_forward_pre_hook(before)
    try:
        yield
    finally:
        handle.remove()


def llama_place(hf: Any, site: Site) -> tuple[nn.Module, bool]:
    """Where a site lies in a Llama: a module, and whether it is its output."""
    layer = hf.model.layers[site.layer]
    return {
        "resid_post": (layer, True),
        "q": (layer.self_attn.q_proj, True),
        "z": (layer.self_attn.o_proj, False),
        "attn_out": (layer.self_attn.o_proj, True),
        "mlp_act": (layer.mlp.down_proj, False),
        "mlp_out": (layer.mlp.down_proj, True),
    }[site.point]


def expect(model: Model, batch: Tokens, site: Site, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Logits at real tokens of a run in which `change` acts on (batch pos features…) at a site of a Llama."""
    module, output = llama_place(model.hf, site)
    heads = site.point in ("q", "z")

    def flat(x: Tensor) -> Tensor:
        y = change((x.view(*x.shape[:2], 4, -1) if heads else x).clone())
        return y.reshape(x.shape)

    mask = batch.mask
    model.hf.config._attn_implementation = "sdpa"  # eager attention rounds patterns to fp32
    try:
        with torch.no_grad(), by_hand(module, flat, output=output):
            pos = (mask.cumsum(1) - 1).clamp(min=0)
            logits = model.hf(input_ids=batch.ids, attention_mask=mask.long(), position_ids=pos).logits
    finally:
        model.hf.config._attn_implementation = "eager"
    return logits.masked_fill(~mask[:, :, None], 0)


def columns(batch: Tokens, row: int) -> list[int]:
    """The columns of a row's real tokens, in order: position p of the prompt is columns[p]."""
    return batch.mask[row].nonzero()[:, 0].tolist()


BATCHES = {
    "one": lambda: Tokens(random_ids(1, 6), torch.ones(1, 6, dtype=torch.bool)),
    "left": lambda: padded([random_ids(6), random_ids(4, seed=5), random_ids(5, seed=6)], "left"),
    "right": lambda: padded([random_ids(6), random_ids(4, seed=5), random_ids(5, seed=6)], "right"),
}


def operate(op: str, old: Tensor, value: Tensor | float) -> Tensor:
    """One edit of one vector (d)."""
    if op == "set":
        return torch.zeros_like(old) + value
    if op == "add":
        return old + value
    if op == "scale":
        return old * value
    assert isinstance(value, Tensor)
    return old - (old @ value) * value / (value @ value)


@pytest.mark.parametrize("side", BATCHES)
@pytest.mark.parametrize("op", ["set", "add", "scale", "project_out"])
@pytest.mark.parametrize("site", ["resid_post.1", "mlp_act.0", "attn_out.2", "mlp_out.1"])
def test_each_operation_at_each_kind_of_position(side: str, op: str, site: str) -> None:
    model, batch, place = model_of("llama", F64), BATCHES[side](), Site.parse(site)
    width = model.parts.d_mlp if "mlp_act" in site else model.parts.d_model
    generator = torch.Generator().manual_seed(3)
    direction = torch.randn(width, generator=generator, dtype=F64)
    for positions in (None, [0], [1, -1], [-2], "prompt", "generated", []):
        for value in (direction,) if op == "project_out" else (0.7, direction):

            def change(x: Tensor, positions: Any = positions, value: Any = value) -> Tensor:
                for row in range(len(batch.ids)):
                    real = columns(batch, row)
                    named = {None: range(len(real)), "prompt": range(len(real)), "generated": []}
                    for p in positions if isinstance(positions, list) else named[positions]:
                        if -len(real) <= p < len(real):
                            x[row, real[p]] = operate(op, x[row, real[p]], value)
                return x

            got = logits_of(model, batch, edits=[Edit(place, op, value, positions=positions)])
            close(got, expect(model, batch, place, change), 1e-9)


def test_values_that_differ_by_position_and_row() -> None:
    model, site = model_of("llama", F64), Site("resid_post", 1)
    generator = torch.Generator().manual_seed(4)
    for side in ("left", "right"):
        batch = BATCHES[side]()
        for shape, positions, rows in (
            ((6, 32), None, None),  # one a position of the prompt
            ((6, 32), "prompt", None),
            ((2, 32), [2, -1], None),  # one a named position
            ((2, 32), [2, -1], [2, 0]),
            ((3, 2, 32), [2, -1], None),  # one a row and named position
            ((2, 2, 32), [2, -1], [2, 0]),
            ((1, 2, 32), [2, -1], None),
        ):
            values = torch.randn(*shape, generator=generator, dtype=F64)

            def change(
                x: Tensor, v: Tensor = values, positions: Any = positions, rows: Any = rows, batch: Tokens = batch
            ) -> Tensor:
                for i, row in enumerate(rows or range(3)):
                    real = columns(batch, row)
                    named = isinstance(positions, list)
                    for j, p in enumerate(positions if named else range(len(real))):
                        per_row = v if v.ndim == 2 else v[min(i, len(v) - 1)]
                        if p < len(real):
                            x[row, real[p]] = per_row[j]
                return x

            got = logits_of(model, batch, edits=[Edit(site, value=values, positions=positions, rows=rows)])
            close(got, expect(model, batch, site, change), 1e-9)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("side", ["left", "right"])
def test_what_was_read_can_be_written_back_into_a_padded_batch(name: str, side: str) -> None:
    """The whole of another run's reads makes it that run, at every site that decides the rest."""
    model = model_of(name)
    one = padded([random_ids(6, seed=1), random_ids(4, seed=2)], side)
    two = padded([random_ids(6, seed=3), random_ids(4, seed=4)], side)
    sites = [s for s in model.sites if s.point != "scores"]
    run = model.run(one, read=model.sites)
    same = logits_of(model, one, edits=[Edit(s, value=run.acts[s]) for s in sites])
    close(same, run.logits)
    for point in ("resid_pre", "resid_post"):
        moved = logits_of(model, two, edits=[Edit(Site(point, 1), value=run.acts[Site(point, 1)])])
        close(moved, run.logits)
    # other patterns with the same embedding: written back, they are the first run's again
    edits = [Edit(Site("pattern", layer), value=run.acts[Site("pattern", layer)]) for layer in range(N_LAYERS)]
    edits = [Edit("q.1", value=0.0), Edit("resid_pre.0", value=run.acts["resid_pre.0"]), *edits]
    close(logits_of(model, two, edits=edits), run.logits)


@pytest.mark.parametrize("side", BATCHES)
def test_index_forms(side: str) -> None:
    model, batch = model_of("llama", F64), BATCHES[side]()
    generator = torch.Generator().manual_seed(5)
    five = torch.randn(5, generator=generator, dtype=F64)
    tensor = torch.tensor
    cases: list[tuple[str, Any, Any, Callable[[Tensor], None]]] = [
        ("mlp_act.1", 7, 2.0, lambda v: v[7].fill_(2.0)),
        ("mlp_act.1", -1, 2.0, lambda v: v[55].fill_(2.0)),
        ("mlp_act.1", [3, 9, 1, 0, 4], five, lambda v: v[[3, 9, 1, 0, 4]].copy_(five)),
        ("z.1", 2, 0.5, lambda v: v[2].fill_(0.5)),
        ("z.1", [0, 3], 0.5, lambda v: v[[0, 3]].copy_(torch.full((2, 8), 0.5))),
        ("z.1", (2, 5), 0.5, lambda v: v[2, 5].fill_(0.5)),
        ("q.0", (None, 5), 0.5, lambda v: v[:, 5].fill_(0.5)),
        ("q.0", (tensor([1, 3]), tensor([0, 2, 4])), 0.5, lambda v: None),
        ("z.1", (tensor([True, False, False, True]), None), 0.5, lambda v: None),
    ]
    for text, index, value, _ in cases:
        site = Site.parse(text)

        def change(x: Tensor, index: Any = index, value: Any = value) -> Tensor:
            for row in range(len(batch.ids)):
                for column in columns(batch, row):
                    v = x[row, column]
                    axes = index if isinstance(index, tuple) else (index,)
                    lists = [range(v.shape[0]), range(v.shape[1] if v.ndim == 2 else 1)]
                    for axis, i in enumerate(axes):
                        if i is None:
                            continue
                        i = tensor(i) if not isinstance(i, Tensor) else i
                        i = i.nonzero()[:, 0] if i.dtype == torch.bool else i
                        lists[axis] = i.reshape(-1).tolist()
                    for n, a in enumerate(lists[0]):
                        for b in lists[1]:
                            v[(a, b) if v.ndim == 2 else (a,)] = value[n] if isinstance(value, Tensor) else value
            return x

        got = logits_of(model, batch, edits=[Edit(site, value=value, index=index)])
        wanted = expect(model, batch, site, change)
        close(got, wanted, 1e-9)
        assert float((got - logits_of(model, batch)).abs().max()) > 1e-4  # the edit does something


@pytest.mark.parametrize("side", BATCHES)
def test_boolean_masks(side: str) -> None:
    model, batch, site = model_of("llama", F64), BATCHES[side](), Site("mlp_act", 1)
    generator = torch.Generator().manual_seed(6)
    n_rows = len(batch.ids)
    by_feature = torch.rand(56, generator=generator) < 0.3
    by_position = torch.rand(6, 56, generator=generator) < 0.3
    by_row = torch.rand(n_rows, 6, 56, generator=generator) < 0.3
    values = torch.randn(6, 56, generator=generator, dtype=F64)
    for mask, value in ((by_feature, 1.5), (by_position, 1.5), (by_position, values), (by_row, 1.5)):

        def change(x: Tensor, mask: Tensor = mask, value: Any = value) -> Tensor:
            for row in range(n_rows):
                for p, column in enumerate(columns(batch, row)):
                    for i in range(56):
                        # a mask over rows lines up with the batch, any other with the positions of the prompt
                        on = mask[i] if mask.ndim == 1 else mask[p, i] if mask.ndim == 2 else mask[row, column, i]
                        if on:
                            x[row, column, i] = value[p, i] if isinstance(value, Tensor) else value
            return x

        got = logits_of(model, batch, edits=[Edit(site, value=value, index=mask)])
        close(got, expect(model, batch, site, change), 1e-9)


@pytest.mark.parametrize("side", BATCHES)
def test_pattern_edits_count_keys_over_real_tokens(side: str) -> None:
    """An edited pattern acts as z = pattern · v with the changed entries, key k being the k-th real token."""
    model, batch, site = model_of("llama", F64), BATCHES[side](), Site("pattern", 1)
    acts = model.run(batch, read=["pattern.1", "v.1"]).acts
    generator = torch.Generator().manual_seed(7)
    whole = torch.rand(4, 6, 6, generator=generator, dtype=F64)
    by_key = torch.rand(4, 6, generator=generator, dtype=F64)
    mask = torch.rand(4, 6, 6, generator=generator) < 0.4
    cases: list[tuple[dict[str, Any], Callable[[int, int, int, float], float]]] = [
        ({"index": (2, 0)}, lambda h, q, k, old: 0.0 if h == 2 and k == 0 else old),
        ({"index": ([1, 2], [0, 3]), "value": 0.3}, lambda h, q, k, old: 0.3 if h in (1, 2) and k in (0, 3) else old),
        ({"index": (None, 1), "op": "scale", "value": 2.0}, lambda h, q, k, old: 2 * old if k == 1 else old),
        ({"index": (3, 1), "positions": [3]}, lambda h, q, k, old: 0.0 if (h, q, k) == (3, 3, 1) else old),
        ({"value": whole}, lambda h, q, k, old: float(whole[h, q, k])),
        ({"value": by_key, "positions": [2]}, lambda h, q, k, old: float(by_key[h, k]) if q == 2 else old),
        ({"index": mask, "value": 0.1}, lambda h, q, k, old: 0.1 if mask[h, q, k] else old),
    ]
    for arguments, rule in cases:
        pattern = acts[site].clone()
        for row in range(len(batch.ids)):
            real = columns(batch, row)
            for h in range(4):
                for q, a in enumerate(real):
                    for k, b in enumerate(real):
                        pattern[row, h, a, b] = rule(h, q, k, float(pattern[row, h, a, b]))
        v = acts["v.1"].repeat_interleave(2, 2)
        z = torch.einsum("bhqk,bkhd->bqhd", pattern, v)
        run = model.run(batch, read=[site], edits=[Edit(site, **arguments)])
        close(run.acts[site], pattern, 1e-9)
        wanted = expect(model, batch, Site("z", 1), lambda x, z=z: torch.where(batch.mask[..., None, None], z, x))
        close(run.logits, wanted, 1e-9)


def test_scores_edits_reach_the_pattern() -> None:
    model = model_of("llama", F64)
    batch = BATCHES["left"]()
    acts = model.run(batch, read=["scores.1", "pattern.1"], edits=[Edit("scores.1", "add", 3.0, index=(1, 2))]).acts
    clean = model.run(batch, read=["scores.1"]).acts["scores.1"]
    for row in range(3):
        real = columns(batch, row)
        for q, a in enumerate(real):
            scores = clean[row, 1, a].clone()
            scores[real[2]] += 3.0
            if q >= 2:
                close(acts["scores.1"][row, 1, a], scores, 1e-9)
            close(acts["pattern.1"][row, 1, a], scores.softmax(-1), 1e-9)


def test_edits_apply_in_list_order_and_reads_see_them() -> None:
    model, ids, site = model_of("llama", F64), random_ids(1, 5), Site("resid_post", 1)
    clean = model.run(ids, read=[site]).acts[site]
    add, double = Edit(site, "add", 1.0), Edit(site, "scale", 2.0, positions=[1])
    for edits, rule in (([add, double], lambda x: (x + 1) * 2), ([double, add], lambda x: x * 2 + 1)):
        run = model.run(ids, read=[site, "resid_pre.2"], edits=edits)
        close(run.acts[site][:, 1], rule(clean[:, 1]), 1e-12)
        close(run.acts[site][:, 0], clean[:, 0] + 1, 1e-12)
        assert torch.equal(run.acts[site], run.acts["resid_pre.2"])
    here, rows = Edit(site, "add", 1.0, rows=[0]), Edit(site, "scale", 3.0, rows=[1, 0])
    two = model.run(ids.expand(2, -1), read=[site], edits=[here, rows]).acts[site]
    close(two[0], (clean[0] + 1) * 3, 1e-12)
    close(two[1], clean[0] * 3, 1e-12)


def test_an_edit_leaves_its_value_and_other_reads_alone() -> None:
    model, ids = model_of("llama", F64), random_ids(1, 5)
    value = torch.randn(32, dtype=F64, generator=torch.Generator().manual_seed(0))
    before = value.clone()
    edits = [Edit("resid_post.1", value=value), Edit("resid_post.1", "add", 1.0, rows=[0])]
    run = model.run(ids, read=["mlp_out.1", "resid_post.1"], edits=edits)
    assert torch.equal(value, before)
    assert torch.equal(run.acts["mlp_out.1"], model.run(ids, read=["mlp_out.1"]).acts["mlp_out.1"])


@pytest.mark.parametrize("name", NAMES)
def test_every_site_can_be_edited_and_what_follows_changes(name: str) -> None:
    """An edit at the last real token changes its logits at every site, and nothing before that site."""
    model, ids = model_of(name), random_ids(1, 5)
    clean = model.run(ids, read=model.sites)
    for site in model.sites:
        x = clean.acts[site]
        # neither a constant that a norm takes out, nor the same for all keys, which the softmax takes out
        edit = Edit(site, "add", torch.linspace(-1, 1, x.shape[-1]), positions=[1] if site.point == "k" else None)
        if site.point.endswith("scale"):
            edit = Edit(site, "scale", 1.5)
        run = model.run(ids, read=model.sites, edits=[edit])
        assert float((run.logits - clean.logits).abs().max()) > 1e-6, site
        for other, y in run.acts.items():
            if other < site:
                assert torch.equal(y, clean.acts[other]), (site, other)


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2", "olmo2", "neox"])
def test_a_changed_denominator_is_what_the_norm_divides_by(name: str) -> None:
    model, ids = model_of(name, F64), random_ids(1, 5)
    for site in [s for s in model.sites if s.point.endswith("scale") and s.layer in (1, None)]:
        after = {"attn_scale": "attn_in", "mlp_scale": "mlp_in", "attn_post_scale": "attn_out"}
        read = Site({**after, "mlp_post_scale": "mlp_out", "final_scale": "final_norm"}[site.point], site.layer)
        norm = (
            getattr(model.parts.blocks[1], site.point.replace("scale", "norm"))
            if site.layer
            else model.parts.final_norm
        )
        clean = model.run(ids, read=[site, read]).acts
        changed = model.run(ids, read=[read], edits=[Edit(site, "scale", 2.0)]).acts
        bias = 0 if norm.bias is None else norm.bias
        close(changed[read] - bias, (clean[read] - bias) / 2, 1e-6)


class Above:
    """A dictionary of one feature: the dot product with a direction."""

    hash = "above"

    def __init__(self, site: str, direction: Tensor) -> None:
        self.reads, self.direction = (Site.parse(site),), direction

    def encode(self, x: Any) -> Codes:
        return Codes.of((x[self.reads[0]] @ self.direction)[:, None])


@pytest.mark.parametrize("threshold", [0.5, -0.5])
def test_when_applies_an_edit_only_where_a_feature_fires(threshold: float) -> None:
    model, batch = model_of("llama", F64), BATCHES["left"]()
    direction = torch.randn(32, dtype=F64, generator=torch.Generator().manual_seed(8))
    site = Site("resid_post", 1)
    for read, at in (("resid_post.0", site), ("resid_post.1", site)):
        probe = Above(read, direction)
        value = model.run(batch, read=[read]).acts[read] @ direction
        fires = (value > threshold) & batch.mask
        assert 0 < int(fires.sum()) < int(batch.mask.sum())
        edits = [Edit(at, "add", 2.0, when=(probe, threshold))]
        got = model.run(batch, read=[at], edits=edits).acts[at]
        close(got, model.run(batch, read=[at]).acts[at] + 2.0 * fires[..., None], 1e-12)
        some = model.run(batch, read=[at], edits=[Edit(at, "add", 2.0, rows=[1], when=(probe, threshold))]).acts[at]
        fires[[0, 2]] = False
        close(some, model.run(batch, read=[at]).acts[at] + 2.0 * fires[..., None], 1e-12)
    # what the earlier edits left, at the same site
    shift = Edit(site, "add", 100.0 * direction)
    twice = model.run(
        batch, read=[site], edits=[shift, Edit(site, "set", 1.0, when=(Above("resid_post.1", direction), 50.0))]
    )
    assert bool((twice.acts[site][batch.mask] == 1.0).all())
    with pytest.raises(HookeError, match="not computed before it"):
        model.run(batch, edits=[Edit("resid_post.0", when=(Above("resid_post.1", direction), 0.0))])


def test_when_reads_the_neuron_basis() -> None:
    model, ids = model_of("llama", F64), random_ids(2, 5)
    block = neurons(model)[1]
    value = model.run(ids, read=["mlp_act.1"]).acts["mlp_act.1"].amax(-1)
    middle = float(value.median())
    got = model.run(ids, read=["mlp_out.1"], edits=[Edit("mlp_out.1", value=0.0, when=(block, middle))]).acts[
        "mlp_out.1"
    ]
    assert torch.equal(got.eq(0).all(-1), value > middle)


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda: Edit("resid_post.1", value=torch.zeros(31)), "does not fit"),
        (lambda: Edit("resid_post.1", "add", torch.zeros(31)), "does not fit"),
        (lambda: Edit("z.1", "add", torch.zeros(5, 8), index=2), "does not fit"),
        (lambda: Edit("resid_post.1", "project_out", torch.zeros(31)), "does not fit"),
        (lambda: Edit("resid_post.1", "project_out", 1.0), "takes a direction"),
        (lambda: Edit("resid_post.1", value=torch.zeros(3, 32)), "values for 3 positions, but the batch has 5"),
        (lambda: Edit("resid_post.1", value=torch.zeros(3, 32), positions=[0, 1]), "values for 3 positions, but 2"),
        (lambda: Edit("resid_post.1", value=torch.zeros(3, 5, 32)), "values for 3 rows, but 2"),
        (lambda: Edit("resid_post.1", value=torch.zeros(1, 1, 5, 32)), "too many axes"),
        (lambda: Edit("resid_post.1", positions=[5]), "position 5 of a prompt of 5 tokens"),
        (lambda: Edit("resid_post.1", positions=[-6]), "position -6 of a prompt of 5 tokens"),
        (lambda: Edit("resid_post.1", rows=[2]), r"rows \[2\] of a batch of 2"),
        (lambda: Edit("resid_post.1", rows=[-1]), r"rows \[-1\] of a batch of 2"),
        (lambda: Edit("mlp_act.1", index=56), "index 56 of 56 features"),
        (lambda: Edit("mlp_act.1", index=[0, -57]), "index 57 of 56 features"),
        (lambda: Edit("z.1", index=(1, 2, 3)), "3 indices for 2 feature axes"),
        (lambda: Edit("mlp_act.1", index=1.5), "is no index"),
        (lambda: Edit("mlp_act.1", index="all"), "is no index"),
        (lambda: Edit("mlp_act.1", index=torch.ones(5, 55, dtype=torch.bool)), "does not fit"),
        (lambda: Edit("resid_post.3"), "the model has 3 layers"),
        (lambda: Edit("resid_post"), "needs a layer"),
        (lambda: Edit("resid_post.1", "multiply"), "no edit operation 'multiply'"),  # type: ignore[arg-type]
        (lambda: Edit("resid_post.1", positions="answer"), "are not a list of numbers"),  # type: ignore[arg-type]
        (lambda: Edit("resid_post.1", positions=3), "are not a list of numbers"),  # type: ignore[arg-type]
        (lambda: Edit("resid_post.1", rows=torch.tensor([True, False])), "are not a list of numbers"),
    ],
)
def test_an_edit_that_does_not_fit_is_refused(edit: Callable[[], Edit], says: str) -> None:
    model = model_of("llama")
    with pytest.raises(HookeError, match=says):
        model.run(random_ids(2, 5), edits=[edit()])
    assert untouched(model.hf)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"positions": [2, 2], "value": torch.ones(2, 32)}, "a position is named twice"),
        ({"positions": [4, -1], "value": torch.ones(2, 32)}, "a position is named twice"),
        ({"index": [3, 3], "value": torch.tensor([1.0, 2.0])}, "a feature is named twice"),
        ({"index": [3, -29], "value": torch.tensor([1.0, 2.0])}, "a feature is named twice"),
        ({"rows": [1, 1], "value": torch.ones(2, 5, 32)}, "a row is named twice"),
    ],
)
def test_of_two_values_for_one_place_none_is_dropped(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(HookeError, match=says):
        model_of("llama").run(random_ids(2, 5), edits=Edit("resid_pre.0", **fields))


def test_a_place_that_is_named_twice_is_one_place() -> None:
    """One value for all of them leaves no doubt."""
    model, ids = model_of("llama"), random_ids(1, 5)
    once = Edit("resid_pre.1", op="add", value=1.0, positions=[4], index=[3])
    twice = Edit("resid_pre.1", op="add", value=1.0, positions=[4, -1], index=[3, 3])
    assert torch.equal(model.run(ids, edits=twice).logits, model.run(ids, edits=once).logits)
