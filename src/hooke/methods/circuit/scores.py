"""How much does each edge matter? Estimates from gradients and from the forward pass, and the exact answer.

Every function here gives, for each pair of a clean and a corrupt prompt and each edge u→r, (an estimate of) the
change of a metric when that edge alone is cut in the clean run: r reads what u wrote in the corrupt run. The metric
is the gain of an `Objective`, for exact cuts its effect. With Δ_u what u wrote there less what it wrote here, and
g_r the gradient of the metric with respect to what r reads, the estimate of first order is g_r · Δ_u (EAP,
2310.10348); the variants differ in where g_r is taken.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hooke.methods.computation_graph import (
    ComputationGraph,
    Tap,
    terms,
    write_sites,
    written,
)
from hooke.methods.edge_cuts import cut_each, packs
from hooke.methods.edge_runs import PairRuns, pair_runs, rows_at_once, run_edges
from hooke.methods.objective import Measure, Objective
from hooke.methods.progress import Tick, idle
from hooke.model import Edit, Model, Tokens
from hooke.model.families import Norm
from hooke.model.run import Activations
from hooke.sites import Site

READERS = 80  # whose products with the writers are taken together


def eap(model: Model, clean: Tokens, corrupt: Tokens, objective: Objective) -> Tensor:
    """Edge attribution patching (2310.10348): the gradient at the clean run. (batch, n_readers, n_writers)"""
    return _at_clean(model, clean, corrupt, objective, rules=False)


def relp(model: Model, clean: Tokens, corrupt: Tokens, objective: Objective) -> Tensor:
    """Relevance patching (2508.21258): EAP with the backward rules of `gradients(rules=True)`. Queries and keys
    get nothing, because patterns are held. (batch, n_readers, n_writers)"""
    return _at_clean(model, clean, corrupt, objective, rules=True)


def _at_clean(model: Model, clean: Tokens, corrupt: Tokens, objective: Objective, *, rules: bool) -> Tensor:
    """Two runs and one backward pass: the clean run gives its values and its gradients together."""
    sites = write_sites(model)
    with torch.no_grad():
        other = model.run(corrupt, read=sites, logits=None).acts
    slopes, own = backward(model, clean, objective, read=sites, rules=rules)
    return _product(model, terms(model, other, own), slopes)


def eap_ig_inputs(model: Model, clean: Tokens, corrupt: Tokens, objective: Objective, *, steps: int = 5) -> Tensor:
    """EAP-IG (2403.17806): gradients averaged over embeddings on the way from corrupt to clean, k/steps for k = 1 …
    steps (the corrupt end is left out, the clean one is not). (batch, n_readers, n_writers)"""
    sites, first = write_sites(model), Site("resid_pre", 0)
    with torch.no_grad():
        other = model.run(corrupt, read=sites, logits=None).acts
        a, b = other[first], model.run(clean, read=[first], logits=None).acts[first]
    total, own = backward(model, clean, objective, read=sites)  # the last step is the clean run
    for k in range(1, steps):
        total += gradients(model, clean, objective, edits=[Edit(first, "set", a + (k / steps) * (b - a))])
    return _product(model, terms(model, other, own), total / steps)


def eap_ig_activations(model: Model, clean: Tokens, corrupt: Tokens, objective: Objective, *, steps: int = 5) -> Tensor:
    """EAP-IG over activations (2403.17806): for the edges out of a layer's writers, gradients averaged over runs in
    which all of that layer's writers are on the way from corrupt to clean. (batch, n_readers, n_writers)"""
    computation = ComputationGraph.of(model.parts)
    groups: list[tuple[Site, slice]] = [(Site("resid_pre", 0), slice(0, 1))]
    for layer in range(computation.n_layers):
        groups.append((Site("z", layer), computation.heads(layer)))
        groups.append((Site("mlp_out", layer), slice(computation.mlp(layer), computation.mlp(layer) + 1)))
    sites = write_sites(model)
    with torch.no_grad():
        other = model.run(corrupt, read=sites, logits=None).acts
    last, own = backward(model, clean, objective, read=sites)  # every group's last step is the clean run
    change = terms(model, other, own)
    found = last.new_zeros(len(clean.ids), len(computation.readers), len(computation.writers))
    for site, group in groups:
        a, b = other[site], own[site].detach()
        total = last.clone()
        for k in range(1, steps):
            total += gradients(model, clean, objective, edits=[Edit(site, "set", a + (k / steps) * (b - a))])
        found[:, :, group] = torch.einsum("ubpd,rbpd->bru", change[group], total / steps)
    return found * computation.edges.to(found)


def flow(model: Model, clean: Tokens, corrupt: Tokens, objective: Objective) -> Tensor:
    """Information flow routes (2403.00824): the share of each writer in what a reader reads, by how near its term
    comes to the whole (clamped, in the 1-norm), spread back from the logits. Forward only; no counterfactual and no
    metric. (batch, n_readers, n_writers)"""
    computation = ComputationGraph.of(model.parts)
    terms = written(model, clean)  # (U, b, p, d)
    terms = terms if terms.dtype == torch.float64 else terms.float()  # sums of sizes overflow in halves
    pattern = [Site("pattern", layer) for layer in range(computation.n_layers)]
    acts = model.run(clean, read=pattern, logits=None).acts
    batch, pos = clean.ids.shape
    found = terms.new_zeros(batch, len(computation.readers), len(computation.writers))
    weight = terms.new_zeros(len(computation.writers), batch, pos)  # how much of the answer passes through a writer
    for r in range(len(computation.readers) - 1, -1, -1):
        layer, part, head, before = computation.readers[r]
        own = terms[:before]
        total = own.sum(0)
        near = (total.abs().sum(-1) - (total - own).abs().sum(-1)).clamp(min=0)  # (u, b, p)
        share = near / near.sum(0).clamp(min=1e-12)
        if layer is None:
            at = torch.zeros_like(weight[0])
            at[:, -1] = 1
        elif head is None:
            at = weight[computation.mlp(layer)]
        else:
            group = computation.n_heads // computation.n_kv_heads if part != "q" else 1
            mine = range(head * group, (head + 1) * group)
            through = [weight[computation.heads(layer).start + h] for h in mine]
            if part == "q":
                at = through[0]
            else:
                at = sum(torch.einsum("bq,bqk->bk", w, acts[pattern[layer]][:, h].to(w)) for w, h in zip(through, mine))  # type: ignore[assignment]
            at = at / 3  # a head's weight is divided over its query, keys and values
        passed = share * at
        found[:, r, :before] = passed.sum(-1).T
        weight[:before] += passed
    return found


def exact(
    model: Model,
    clean: Tokens,
    corrupt: Tokens,
    objective: Objective,
    *,
    edges: Tensor | None = None,
    max_rows: int | None = None,
    tick: Tick = idle,
) -> Tensor:
    """Each edge cut alone, really: as many runs as there are edges. (batch, n_readers, n_writers)

    edges: (n_readers, n_writers) which to try; the others get 0. In a large model a run computes only what its cut can
    change (`edge_cuts.py`); otherwise `max_rows` whole runs (as many as the budget has room for) are made at once.
    """
    computation = ComputationGraph.of(model.parts)
    tried = (computation.edges if edges is None else edges.cpu() & computation.edges).nonzero()
    batch = len(clean.ids)
    found = torch.zeros(batch, len(computation.readers), len(computation.writers), device=model.device)
    size = max(1, (max_rows or rows_at_once(model, clean.ids.shape[1])) // batch)
    with torch.no_grad():
        pairs = torch.arange(batch, device=model.device)
        base = objective.effect(plain_logits(model, clean, objective), pairs)
        if packs(model, clean, corrupt, objective, len(tried)):
            found[:, tried[:, 0], tried[:, 1]] = (
                cut_each(model, clean, corrupt, objective, tried, tick=tick) - base[:, None]
            ).to(found)
            return found
        runs = pair_runs(model, clean, corrupt)
        for start in range(0, len(tried), size):
            chunk = tried[start : start + size]
            keep = torch.ones(len(chunk), *computation.edges.shape, device=model.device)
            keep[torch.arange(len(chunk)), chunk[:, 0], chunk[:, 1]] = 0
            values = measured(model, runs, keep, objective, objective.effect)
            found[:, chunk[:, 0], chunk[:, 1]] = (values - base).T.to(found)
            tick(min(1.0, (start + size) / len(tried)))
    return found


def measured(model: Model, runs: PairRuns, keep: Tensor, objective: Objective, measure: Measure) -> Tensor:
    """(n_masks, batch): a measure of the clean prompts when only the edges of each mask are kept, in one batch.

    keep: (n_masks, n_readers, n_writers).
    """
    batch = len(runs.tokens.ids)
    logits = run_edges(model, runs, keep.repeat_interleave(batch, 0), logits=objective.logits)
    pairs = torch.arange(batch, device=logits.device).repeat(len(keep))
    return measure(logits, pairs).view(len(keep), batch)


def everything_cut(model: Model, runs: PairRuns, objective: Objective) -> float:
    """The mean distance when every edge is cut: the unit of what cuts do."""
    none = torch.zeros(1, *ComputationGraph.of(model.parts).edges.shape, device=model.device)
    with torch.no_grad():
        return float(measured(model, runs, none, objective, objective.distance).mean())


def plain_logits(model: Model, tokens: Tokens, objective: Objective) -> Tensor:
    """What the measures of an objective read, of a run without cuts."""
    with torch.no_grad():
        logits = model.run(tokens, logits=objective.logits).logits
    assert logits is not None
    return logits


def _product(model: Model, change: Tensor, slopes: Tensor) -> Tensor:
    """g_r · Δ_u summed over positions: (batch, n_readers, n_writers), zero where there is no edge."""
    computation = ComputationGraph.of(model.parts)
    found = slopes.new_zeros(slopes.shape[1], len(computation.readers), len(computation.writers))
    left, right = slopes.flatten(2).transpose(0, 1), change.to(slopes.dtype).flatten(2).transpose(0, 1)
    for start in range(0, len(computation.readers), READERS):  # a block takes no more writers than come before it
        block = computation.readers[start : start + READERS]
        n = max(reader.before for reader in block)
        rows = slice(start, start + len(block))
        found[:, rows, :n] = left[:, rows] @ right[:, :n].transpose(1, 2)
    return found * computation.edges.to(found)


def gradients(
    model: Model, tokens: Tokens, objective: Objective, *, edits: Sequence[Edit] = (), rules: bool = False
) -> Tensor:
    """(n_readers, batch, pos, d_model): the gradient of the gain with respect to what each reader reads, live.

    rules: RelP's backward pass: norm denominators and attention patterns held, a nonlinearity σ(z) as z times the
    held σ(z)/z, and half the gradient to each factor of a product.
    """
    return backward(model, tokens, objective, edits=edits, rules=rules)[0]


def backward(
    model: Model,
    tokens: Tokens,
    objective: Objective,
    *,
    read: Sequence[Site] = (),
    edits: Sequence[Edit] = (),
    rules: bool = False,
) -> tuple[Tensor, Activations]:
    """`gradients`, and what the same run reads."""
    parts, computation = model.parts, ComputationGraph.of(model.parts)
    nudges: dict[Site, Tensor] = {}
    streams: dict[Site, Tensor] = {}

    def nudge(site: Site) -> Tap:
        def tap(x: Tensor) -> Tensor:
            nudges[site] = torch.zeros_like(x, requires_grad=True)
            return x + nudges[site]

        return tap

    def keep(site: Site) -> Tap:
        def tap(x: Tensor) -> Tensor:
            streams[site] = x.detach()
            return x

        return tap

    taps: dict[Site, Tap] = _rules(model) if rules else {}
    for layer in range(computation.n_layers):
        for point in ("q", "k", "v", "mlp_in"):
            taps[Site(point, layer)] = nudge(Site(point, layer))
        for point in ("resid_pre",) if parts.parallel else ("resid_pre", "resid_mid"):
            taps[Site(point, layer)] = keep(Site(point, layer))
    taps[Site("final_norm")] = nudge(Site("final_norm"))
    last = Site("resid_post", computation.n_layers - 1)
    taps[last] = keep(last)
    run = model.run(tokens, read=read, taps=taps, edits=edits, grad=True, logits=objective.logits)
    assert run.logits is not None
    value = objective.gain(run.logits, torch.arange(len(tokens.ids), device=model.device)).sum()
    order = list(nudges)
    taken = torch.autograd.grad(value, [nudges[s] for s in order], allow_unused=True)
    # what the rules hold has no gradient
    grads = {s: torch.zeros_like(nudges[s]) if g is None else g for s, g in zip(order, taken, strict=True)}
    first = streams[last]
    found = first.new_empty(len(computation.readers), *first.shape)
    for layer, block in enumerate(parts.blocks):
        g = torch.cat([grads[Site(point, layer)] for point in ("q", "k", "v")], 2)
        w = torch.cat([linear.weight for linear in (block.q, block.k, block.v)]).to(g.dtype).unflatten(0, g.shape[2:])
        of_heads = found[computation.rows(layer, "q").start : computation.rows(layer, "v").stop]
        torch.bmm(g.flatten(0, 1).transpose(0, 1), w, out=of_heads.flatten(1, 2))
        of_heads[:] = pull(block.attn_norm, of_heads, streams[Site("resid_pre", layer)], held=rules)
        mid = streams[Site("resid_pre" if parts.parallel else "resid_mid", layer)]
        found[computation.rows(layer, "mlp")] = pull(block.mlp_norm, grads[Site("mlp_in", layer)], mid, held=rules)
    found[-1] = pull(parts.final_norm, grads[Site("final_norm")], first, held=rules)
    return found, run.acts


def pull(norm: Norm | None, g: Tensor, x: Tensor, *, held: bool = False) -> Tensor:
    """A gradient at the output of a norm to its input x: J(x)ᵀ g, or with the denominator held at x."""
    if norm is None:
        return g
    scale = norm.scale(x)
    if held:
        return norm.pull(g, scale).to(g.dtype)
    centred = x - x.mean(-1, keepdim=True) if norm.centred else x
    g = g * (norm.weight / scale).to(g.dtype)
    along = (g * centred).mean(-1, keepdim=True) / scale.square()
    g = torch.addcmul(g, centred.to(g.dtype), along.to(g.dtype), value=-1)
    return (g - g.mean(-1, keepdim=True) if norm.centred else g).to(x.dtype)


def _rules(model: Model) -> dict[Site, Tap]:
    """Taps that leave every value as it is and change how gradients pass (2508.21258)."""
    taps: dict[Site, Tap] = {}
    held = [s for s in model.sites if s.point.endswith("_scale") or s.point == "pattern"]
    for site in held:
        taps[site] = lambda x: x.detach().clone()  # a new tensor, so that the norm is computed from it
    for layer, block in enumerate(model.parts.blocks):
        seen: dict[str, Tensor] = {}

        def remember(name: str, seen: dict[str, Tensor] = seen) -> Tap:
            def tap(x: Tensor) -> Tensor:
                seen[name] = x
                return x

            return tap

        def activated(act: Tensor, seen: dict[str, Tensor] = seen, gated: bool = block.gate is not None) -> Tensor:
            pre = seen["pre"]
            if not gated:
                return secant(pre, act.detach())
            up = seen["up"]
            gate = torch.where(up.detach() == 0, 0.0, act.detach() / up.detach())
            product = secant(pre, gate) * up
            return product / 2 + (product / 2).detach()

        taps[Site("mlp_pre", layer)] = remember("pre")
        if block.gate is not None:
            taps[Site("mlp_up", layer)] = remember("up")
        taps[Site("mlp_act", layer)] = activated
    return taps


def secant(pre: Tensor, value: Tensor) -> Tensor:
    """σ(z) as z times the held σ(z)/z: the value as it is, its gradient the slope of the line from the origin."""
    slope = torch.where(pre.detach().abs() < 1e-6, 0.0, value / pre.detach())
    line = pre * slope
    return line + (value - line).detach()
