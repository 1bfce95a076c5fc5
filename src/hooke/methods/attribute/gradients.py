"""Derivatives that stand in for patches: plain, averaged along a path, with layers dropped, by local rules.

Each function gives, for the places asked for, the estimate of what patching each of them would change. All take
the run that is patched (`base`) and the values that are put in (`new`), per place and layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from hooke.errors import HookeError
from hooke.methods.metrics import Metric, checked
from hooke.methods.patch.places import Place, wanted
from hooke.model import Descent, Edit, Model, Rows, Tokens, held_view
from hooke.model.attend import Heads
from hooke.model.recorded import Recorded
from hooke.sites import Site

STEPS = 5  # points of a path (2403.17806 finds five enough)
RELP_POINTS = (
    "resid_pre",
    "v",
    "z",
    "attn_out",
    "resid_mid",
    "mlp_in",
    "mlp_act",
    "mlp_proj",
    "mlp_out",
    "resid_post",
    "final_norm",
)
STREAM = ("resid_pre", "resid_mid", "resid_post", "final_norm", "final_scale")  # in no layer's output
Values = Sequence[Sequence[Tensor]]  # by place and layer: (pos, width …), or (pos, unit, width …)
Scores = list[list[Tensor]]  # by place and layer: (pos,), or (pos, unit)


def gradients(
    model: Model, tokens: Tokens, sites: Sequence[Site], metric: Metric, *, edits: Sequence[Edit] = ()
) -> dict[Site, Tensor]:
    """The derivative of the metric, summed over rows, by the value at each site (batch, pos, …)."""
    run, values = _differentiable(model, tokens, sites, edits)
    return _backward(metric, run, values)


def _differentiable(
    model: Model,
    tokens: Tokens,
    sites: Sequence[Site],
    edits: Sequence[Edit],
    entering: tuple[int, Tensor] | None = None,
) -> tuple[Tensor, dict[Site, Tensor]]:
    # some reads are views beside the path of the pass; a value that was edited is on it
    held = [Edit(site, "add", 0.0) for site in sites]
    run = model.run(tokens, read=sites, edits=[*edits, *held], grad=True, logits="last", entering=entering)
    assert run.logits is not None
    return run.logits, {site: run.acts[site] for site in sites}


def _backward(
    metric: Metric, logits: Tensor, values: Mapping[Site, Tensor], *, keep: bool = False
) -> dict[Site, Tensor]:
    total = checked(metric, metric(logits), logits.shape[0]).sum()
    found = torch.autograd.grad(total, list(values.values()), retain_graph=keep, allow_unused=True)
    return {site: torch.zeros_like(x) if g is None else g for (site, x), g in zip(values.items(), found, strict=True)}


def linear(places: Sequence[Place], base: Recorded, new: Values, grads: Mapping[Site, Tensor]) -> Scores:
    """AtP: (a_new - a_base) · dm/da, summed over the width of each value."""
    scores: Scores = []
    for place, there in zip(places, new, strict=True):
        here, slopes = place.values(base.acts), place.slopes(grads, base.acts)
        scores.append([_dot(x - y, g, place.units is not None) for x, y, g in zip(there, here, slopes, strict=True)])
    return scores


def _dot(change: Tensor, slope: Tensor, by_unit: bool) -> Tensor:
    product = change * slope
    first = 2 if by_unit else 1
    return product.flatten(first).sum(-1) if product.ndim > first else product


def atp(model: Model, base: Recorded, places: Sequence[Place], new: Values, metric: Metric) -> Scores:
    """Attribution patching (Nanda 2023): one backward pass at the run that is patched."""
    return linear(places, base, new, gradients(model, base.tokens, wanted(places), metric))


def atp_star(
    model: Model,
    base: Recorded,
    places: Sequence[Place],
    new: Values,
    metric: Metric,
    *,
    heads: tuple[list[Heads], list[Heads]],
    drop: bool = True,
) -> Scores:
    """AtP* (2403.00745): softmax recomputed exactly for queries and keys, and gradients dropped layer by layer.

    heads: what attention multiplies in the base run and in the other one.
    drop: GradDrop. One backward pass for each layer, with nothing passing through what that layer writes; the sizes
        of the scores are averaged. The published score is that size; the sign here is that of the score without
        dropping. A value within a layer has no score in that layer's pass, so the mean is over the others; a value of
        the stream has one in every pass.
    """
    n_layers = model.parts.n_layers
    patterns = [Site("pattern", layer) for layer in sorted({s.layer or 0 for p in places if _asks(p) for s in p.sites})]
    outs = [Site(point, layer) for layer in range(n_layers) for point in ("attn_out", "mlp_out")] if drop else []
    sites = sorted({*wanted(places), *patterns, *outs})
    logits, values = _differentiable(model, base.tokens, sites, ())
    dropped = [-1]
    for site in outs:
        values[site].register_hook(lambda g, layer=site.layer: torch.zeros_like(g) if layer == dropped[0] else None)

    def scores(keep: bool) -> Scores:
        grads = _backward(metric, logits, values, keep=keep)
        for site in outs:
            if site.layer == dropped[0]:
                grads[site] = torch.zeros_like(grads[site])
        found = linear(places, base, new, grads)
        for i, place in enumerate(places):
            if _asks(place):
                found[i] = [
                    exact_softmax(site, heads[0][site.layer or 0], heads[1][site.layer or 0], grads)[:, place.units]
                    for site in place.sites
                ]
        return found

    full = scores(keep=drop and n_layers > 1)
    if not drop or n_layers == 1:
        return full
    sizes: Scores = [[torch.zeros_like(x) for x in place] for place in full]
    for layer in range(n_layers):
        dropped[0] = layer
        for place, total, part in zip(places, sizes, scores(keep=layer < n_layers - 1), strict=True):
            passes = n_layers if place.dictionary is None and place.sites[0].point in STREAM else n_layers - 1
            for x, y in zip(total, part, strict=True):
                x += y.abs() / passes
    return [[x * y.sign() for x, y in zip(*pair, strict=True)] for pair in zip(sizes, full, strict=True)]


def _asks(place: Place) -> bool:
    """Whether a place holds queries or keys."""
    return place.dictionary is None and place.sites[0].point in ("q", "k")


def exact_softmax(site: Site, here: Heads, there: Heads, grads: Mapping[Site, Tensor]) -> Tensor:
    """(pos, head): what each query or key patched by itself does to its layer's patterns, times dm/d pattern.

    here, there: what the layer multiplies in the run that is patched and in the other.
    """
    slope = grads[Site("pattern", site.layer)][0].double()  # (head, query, key)
    scores = here.scores(here.queries, here.keys)
    pattern = scores.softmax(-1)
    if site.point == "q":  # each query has its own row of the pattern
        moved = here.scores(there.queries, here.keys).softmax(-1) - pattern
        return (moved * slope).sum(-1).T.to(here.queries.dtype)
    # one key changes one score of each later row: p_j -> p_j / Z and p_k -> p_k r / Z, where r = exp(change) and
    # Z = 1 + p_k (r - 1)
    other = here.scores(here.queries, there.keys)
    change = torch.where(torch.isfinite(scores), other - scores, 0.0).nan_to_num(0.0).clamp(max=600.0)
    grown = pattern * torch.expm1(change)
    before = (pattern * slope).sum(-1, keepdim=True)
    after = (before + grown * slope) / (1 + grown)
    effect = (after - before).sum(1)  # over the queries: (head, key)
    groups = here.keys.shape[1]
    return effect.unflatten(0, (groups, -1)).sum(1).T.to(here.queries.dtype)


def ig_inputs(
    model: Model,
    base: Recorded,
    other: Recorded,
    places: Sequence[Place],
    new: Values,
    metric: Metric,
    *,
    steps: int = STEPS,
) -> Scores:
    """The gradient averaged over embedded tokens on the way from the base's to the other run's (EAP-IG, 2403.17806).

    Points lie in the middle of equal steps, which converges faster than the published left ends.
    """
    entry = Site("resid_pre", 0)
    shares = _middles(steps, base.resid[0])
    path = (base.resid[0] + shares[:, None, None] * (other.resid[0] - base.resid[0])).requires_grad_()
    ids = base.tokens.ids.expand(steps, -1)
    rows = Tokens(ids, torch.ones_like(ids, dtype=torch.bool))
    grads = gradients(model, rows, wanted(places), metric, edits=[Edit(entry, value=path)])
    return linear(places, base, new, {site: g.mean(0, keepdim=True) for site, g in grads.items()})


def ig_activations(
    model: Model, base: Recorded, places: Sequence[Place], new: Values, metric: Metric, *, steps: int = STEPS
) -> Scores:
    """The gradient averaged over values of the place itself, all its positions and units on the way together.

    One pass of `steps` rows for each place and layer, from that layer on.
    """
    ids = base.tokens.ids.expand(steps, -1)
    rows = Tokens(ids, torch.ones_like(ids, dtype=torch.bool))
    scores: Scores = []
    for place, there in zip(places, new, strict=True):
        here = place.values(base.acts)
        found = []
        for layer, (x, y) in enumerate(zip(there, here, strict=True)):
            edits, sites = _on_the_way(place, layer, base, x - y, steps)
            first = min(site.layer if site.layer is not None else model.parts.n_layers - 1 for site in sites)
            stream = base.resid[first].repeat(steps, 1, 1).requires_grad_()
            logits, values = _differentiable(model, rows, sites, edits, (first, stream))
            grads = {site: g.mean(0, keepdim=True) for site, g in _backward(metric, logits, values).items()}
            if place.dictionary is not None:
                slope = place.slopes(grads, base.acts)[0]
            else:
                slope = Place(place.name, [place.sites[layer]], place.units).slopes(grads, base.acts)[0]
            found.append(_dot(x - y, slope, place.units is not None))
        scores.append(found)
    return scores


def _on_the_way(place: Place, layer: int, base: Recorded, change: Tensor, steps: int) -> tuple[list[Edit], list[Site]]:
    """Edits that move a place part of the way in each row, and the sites they are at."""
    shares = _middles(steps, change)
    if place.dictionary is not None:
        made = []
        for site in place.dictionary.writes:
            step = torch.einsum("pi,pid->pd", change, place.writers(site, base.acts).to(change))
            made.append(Edit(site, "add", shares[:, None, None] * step))
        return made, sorted(place.dictionary.writes)
    site = place.sites[layer]
    whole = change
    if place.units is not None:
        full = base.acts[site][0]
        full = full.transpose(0, 1) if site.point == "pattern" else full
        whole = torch.zeros_like(full)
        whole[:, place.units] = change
    if site.point == "pattern":
        whole = whole.transpose(0, 1)
    return [Edit(site, "add", shares.reshape(-1, *[1] * whole.ndim) * whole)], [site]


def _middles(steps: int, like: Tensor) -> Tensor:
    return (torch.arange(steps, device=like.device, dtype=like.dtype) + 0.5) / steps


def relp(model: Model, base: Recorded, places: Sequence[Place], new: Values, metric: Metric) -> Scores:
    """RelP (2508.21258): the backward pass with local rules in the place of derivatives.

    Norm denominators and attention patterns are held, an activation is its value times what it takes, held, and
    the two factors of a gate get half each: the linear view with the MLPs let through.
    Raises HookeError for places that it gives no score: queries, keys and patterns.
    """
    for place in places:
        for site in place.sites if place.dictionary is None else place.dictionary.writes:
            if site.point not in RELP_POINTS:
                raise HookeError(
                    f"RelP holds attention patterns and denominators, so it has no score for {site}; it has for "
                    f"{', '.join(RELP_POINTS)}"
                )
    return linear(places, base, new, relp_cotangents(model, base.tokens, metric))


def relp_cotangents(model: Model, tokens: Tokens, metric: Metric) -> dict[Site, Tensor]:
    """What one unit at each site is worth to the metric under the rules, (1, pos, …)."""
    parts, view = model.parts, held_view(model, tokens)
    final = Site("final_norm")
    x = model.run(tokens, read=[final], logits=None).acts[final].detach()
    with torch.enable_grad():
        y = x[:, -1].clone().requires_grad_()
        logits = parts.unembed.apply(y)
        if parts.softcap is not None:
            logits = parts.softcap * torch.tanh(logits / parts.softcap)
        (slope,) = torch.autograd.grad(checked(metric, metric(logits), 1).sum(), [y])
    found: dict[Site, Tensor] = {final: torch.zeros_like(x)}
    found[final][0, -1] = slope[0]
    last = torch.tensor([x.shape[1] - 1], device=x.device)
    rows = Rows.at(final, last, slope.to(view.dtype), torch.zeros(1, dtype=view.dtype, device=x.device))
    points = ("resid_post", "mlp_out", "mlp_proj", "mlp_in", "resid_mid", "attn_out", "resid_pre")
    seen = [Site(point, layer) for point in points for layer in range(parts.n_layers)]
    for site, _, stage in Descent(view, rows, see=frozenset(seen)):
        if site is None:
            continue
        x, block = stage.clone(), parts.blocks[site.layer or 0]  # stages share memory
        found[site] = x
        if site.point == "mlp_proj":
            found[Site("mlp_act", site.layer)] = x @ block.down.weight.to(x.dtype)
        elif site.point == "attn_out":
            norm = block.attn_post_norm
            down = x if norm is None else norm.pull(x, view.scales[Site("attn_post_scale", site.layer)])
            z = (down @ block.o.weight.to(x.dtype)).unflatten(-1, (parts.n_heads, parts.d_head))
            v = torch.einsum("hqk,bqhd->bkhd", view.patterns[site.layer or 0], z)
            found[Site("z", site.layer)] = z
            found[Site("v", site.layer)] = v.unflatten(2, (parts.n_kv_heads, -1)).sum(3)
    return found
