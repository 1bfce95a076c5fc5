"""Whether derivatives through a reconstruction are those through what it stands for.

The correlation of g and h over all directions and positions is Σ g·h / √(Σ|g|² Σ|h|²): what the correlation of g·v and
h·v over random directions v comes to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hooke.methods.evaluate.estimates import Estimate, draws, estimate
from hooke.methods.evaluate.measures import METRICS, Measured
from hooke.methods.evaluate.seen import Seen, inside, put
from hooke.methods.evaluate.standins import Fitted, Neurons, Standin
from hooke.methods.evaluate.texts import Batch, Pieces, batched
from hooke.methods.progress import Tick
from hooke.model import Model
from hooke.model.budget import budget, pass_tokens, token_bytes
from hooke.model.local_mlp import activations
from hooke.model.run import Activations
from hooke.sites import Site

MOST = 512  # tokens whose graph is kept at once
LEFT_OUT = ("zero",)  # its derivative is that of the mean, at another place


class _True(NamedTuple):
    """Derivatives of the tokens' log-probability in the model as it is: by the stream that enters the layer (n, width),
    by the site (n, width), and by what the dictionary's own block reads, through the site alone."""

    stream: Tensor
    site: Tensor
    reads: dict[Site, Tensor]


def jacobians(model: Model, fits: Sequence[Fitted], pieces: Pieces, *, seed: int, tick: Tick) -> list[Measured]:
    """The correlation of derivatives for every target and stand-in, of the whole model and through the site alone."""
    whole: dict[tuple[str, str], Tensor] = {}
    alone: dict[tuple[str, str], Tensor] = {}
    sites = sorted({site for fit in fits for site in fit.reads} | {_enters(model, fit) for fit in fits})
    done, steps = 0, pieces.n_tokens * sum(len(fit.standins) + 1 for fit in fits)

    def keep(into: dict[tuple[str, str], Tensor], key: tuple[str, str], g: Tensor, h: Tensor, batch: Batch) -> None:
        part = torch.stack([(g * h).sum(1), g.square().sum(1), h.square().sum(1)], 1).double()
        into.setdefault(key, part.new_zeros(pieces.n_documents, 3)).index_add_(0, batch.document, part)

    for batch in batched(model, pieces, _tokens(model)):
        acts = model.run(batch.tokens, read=sites, logits=None).acts
        for fit in fits:
            true = _of_model(model, batch, acts, fit)
            done += len(batch.document)
            for name, standin in fit.standins.items():
                done += len(batch.document)
                tick(done / steps)
                if name in LEFT_OUT:
                    continue
                key = fit.target.name, name
                keep(whole, key, true.stream, _with(model, batch, acts, fit, standin), batch)
                through = _alone(model, batch, acts, fit, standin, true) if true.reads else None
                if through is not None:
                    g, h = (torch.cat([some[site] for site in true.reads], 1) for some in (true.reads, through))
                    keep(alone, key, g, h, batch)
    drawn, found = draws(pieces.n_documents, seed), []
    for metric, sums in (("jacobian_correlation", whole), ("local_jacobian", alone)):
        if not sums:
            continue
        rows: dict[str, dict[str, Estimate]] = {}
        for (target, name), part in sums.items():
            rows.setdefault(target, {})[name] = estimate(part.cpu().numpy(), _correlation, drawn)
        found.append(Measured(METRICS[metric], "passages", rows))
    return found


def _correlation(s: np.ndarray) -> np.ndarray:
    size = np.sqrt(s[..., 1] * s[..., 2])
    return np.where(size > 0, s[..., 0] / np.where(size > 0, size, 1.0), 0.0)


def _tokens(model: Model) -> int:
    """How many tokens' graph fits, through all layers."""
    fit = budget(model.device).free // (4 * token_bytes(model) * model.parts.n_layers)
    return min(pass_tokens(model), MOST, max(64, fit))


def _enters(model: Model, fit: Fitted) -> Site:
    layer = fit.target.layer
    return Site("resid_pre", model.parts.n_layers - 1 if layer is None else layer)


def _likelihood(logits: Tensor, batch: Batch) -> Tensor:
    """The log-probability of all next tokens that are predicted from one that counts, added up."""
    at = batch.inside.clone()
    at[:, :-1] &= batch.tokens.mask[:, 1:]
    at[:, -1] = False
    following = torch.roll(batch.tokens.ids, -1, 1)[at]
    own = logits[at]
    return (own.gather(1, following[:, None])[:, 0] - own.logsumexp(1)).sum()


def _run(
    model: Model, batch: Batch, acts: Activations, fit: Fitted, taps: dict[Site, Callable[[Tensor], Tensor]]
) -> tuple[Tensor, Tensor]:
    """The log-probability of a run from the layer on, and the stream that enters there."""
    enters = _enters(model, fit)
    stream = acts[enters].detach().clone().requires_grad_()
    run = model.run(batch.tokens, taps=taps, grad=True, entering=(enters.layer or 0, stream))
    assert run.logits is not None
    return _likelihood(run.logits, batch), stream


def _of_model(model: Model, batch: Batch, acts: Activations, fit: Fitted) -> _True:
    kept: dict[Site, Tensor] = {}

    def keep(site: Site, value: Tensor) -> Tensor:
        kept[site] = value + 0.0  # what is read may be a view beside the path of the pass
        return kept[site]

    site, first = fit.target.site, _enters(model, fit)
    own = [read for read in fit.target.own_reads if read >= first]
    total, stream = _run(model, batch, acts, fit, {at: partial(keep, at) for at in {site, *own}})
    by_stream, by_site = torch.autograd.grad(total, [stream, kept[site]], retain_graph=True)
    reads = {}
    if len(own) == len(fit.target.own_reads):
        found = torch.autograd.grad(kept[site], [kept[read] for read in own], by_site, allow_unused=True)
        reads = {read: inside(g, batch, model) for read, g in zip(own, found) if g is not None}
    return _True(inside(by_stream, batch, model), inside(by_site, batch, model), reads)


def _with(model: Model, batch: Batch, acts: Activations, fit: Fitted, standin: Standin) -> Tensor:
    """(n, width): the derivative by the stream that enters the layer, with a stand-in at the target."""
    first, site = _enters(model, fit), fit.target.site
    needs = {*fit.target.reads, *standin.reads}
    x = Seen({read: inside(acts[read], batch, model) for read in needs if read < first})

    def keep(read: Site, value: Tensor) -> Tensor:
        x.values[read] = inside(value, batch, model)
        return value

    def change(value: Tensor) -> Tensor:
        return put(keep(site, value), standin.make(x), batch)

    taps: dict[Site, Callable[[Tensor], Tensor]] = {read: partial(keep, read) for read in needs if read >= first}
    total, stream = _run(model, batch, acts, fit, taps | {site: change})
    (found,) = torch.autograd.grad(total, [stream])
    return inside(found, batch, model)


def _alone(
    model: Model, batch: Batch, acts: Activations, fit: Fitted, standin: Standin, true: _True
) -> dict[Site, Tensor] | None:
    """By read site (n, width): what a stand-in passes back of the true derivative by the site. None where it is made of
    something else than what the dictionary reads."""
    needs = {*fit.target.reads, *standin.reads, fit.target.site}
    values = {read: inside(acts[read], batch, model) for read in needs}
    with torch.enable_grad():
        leaves = {read: values[read].clone().requires_grad_() for read in true.reads}
        x = Seen(values | leaves)
        if isinstance(standin.make, Neurons):
            if list(leaves) != [Site("mlp_in", fit.target.layer)]:
                return None
            x.values[standin.make.act] = activations(standin.make.block, next(iter(leaves.values())))
        made = standin.make(x)
        if not made.requires_grad:
            return {read: torch.zeros_like(leaf) for read, leaf in leaves.items()}
        found = torch.autograd.grad(made, list(leaves.values()), true.site, allow_unused=True)
    return {read: torch.zeros_like(leaf) if g is None else g for (read, leaf), g in zip(leaves.items(), found)}
