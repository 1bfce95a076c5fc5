"""One loop for all kinds: `start` makes a `Fit`, `advance` is one step on a batch, `finish` makes coders of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hooke.dictionaries.coder import Coder
from hooke.dictionaries.kinds import Block, Code, Kind, When
from hooke.errors import HookeError
from hooke.sites import Site

WARM = 1000  # steps over which the learning rate rises, a twentieth of all at most
FALL = 0.2  # share of all steps over which it falls to zero at the end
CLIP = 1.0  # length of the gradient at most
Rows = Mapping[Site, Tensor]  # activations by site, (batch, width), as the model has them


@dataclass(frozen=True)
class Place:
    """What one block reads and writes. skip: with a matrix from the first that it reads to each that it writes."""

    reads: tuple[Site, ...]
    writes: tuple[Site, ...]
    skip: bool = False


@dataclass
class Fit:
    """Blocks that train together: one, or those that add up at a site.

    scale: by site, what activations are multiplied by, so that their mean squared length is what the kind asks for.
    widths: by site, how many numbers a token has there.
    """

    kind: Kind
    blocks: list[Block]
    scale: dict[Site, float]
    widths: dict[Site, int]
    optimizer: torch.optim.Adam
    lr: float
    when: When

    @property
    def done(self) -> bool:
        return self.when.step >= self.when.steps


def start(
    kind: Kind,
    places: Sequence[Place],
    first: Rows,
    *,
    n_features: int,
    when: When,
    lr: float | None = None,
    seed: int = 0,
    rough: torch.dtype = torch.float32,
) -> Fit:
    """Blocks at their start.

    first: activations that scales, offsets and thresholds are set by. lr: the kind's own if None. rough: the precision
    in which features are chosen. Raises HookeError where blocks add up and their kind cannot.
    """
    if len(places) > 1 and not kind.joint:
        raise HookeError(f"{kind.name} dictionaries train by themselves, so they cannot write the same sites together")
    if kind.own and any(place.reads != place.writes or len(place.reads) > 1 for place in places):
        raise HookeError(f"{kind.name} is a kind of autoencoder of one site; it cannot write other than it reads")
    sites = {site for place in places for site in (*place.reads, *place.writes)}
    scale = {site: _scale(first[site], kind) for site in sorted(sites)}
    generator = torch.Generator().manual_seed(seed)
    blocks = [_block(kind, place, first, scale, n_features, generator) for place in places]
    for block in blocks:
        block.rough = rough
        for x in block.params.values():
            x.requires_grad_()
    lr = kind.lr if lr is None else lr
    widths = {site: first[site].flatten(1).shape[1] for site in scale}
    return Fit(kind, blocks, scale, widths, adam(kind, blocks, lr), lr, when)


def adam(kind: Kind, blocks: Sequence[Block], lr: float) -> torch.optim.Adam:
    """The optimiser of all parameters, in the order of blocks and names."""
    return torch.optim.Adam(
        [block.params[name] for block in blocks for name in sorted(block.params)], lr, kind.betas, fused=True
    )


def _scale(x: Tensor, kind: Kind) -> float:
    mean = float(x.float().square().sum(1).mean())
    if not 0 < mean < math.inf:
        raise HookeError("the activations to train on are all zero, or not finite; look at the text and the site")
    return math.sqrt((x.shape[1] if kind.squared == "width" else 1.0) / mean)


def _block(
    kind: Kind, place: Place, first: Rows, scale: Mapping[Site, float], n: int, generator: torch.Generator
) -> Block:
    x, y = (side_by_side(first, sites, scale) for sites in (place.reads, place.writes))
    device = x.device

    def rows(width: int) -> Tensor:
        made = torch.randn(n, width, generator=generator)
        return (made / made.norm(dim=1, keepdim=True)).to(device)

    decoder, centred = rows(y.shape[1]), place.reads == place.writes
    encoder = decoder.clone() if centred else rows(x.shape[1])
    own = y.shape[1] if centred else first[place.writes[0]].shape[1]  # of the last sites others write the mean
    offset = torch.zeros(y.shape[1], device=device)
    offset[:own] = median(y[:4096, :own]) if centred else y[:, :own].mean(0)
    params = {"encoder": encoder, "bias": torch.zeros(n, device=device), "offset": offset}
    params["decoder"] = decoder if centred else torch.zeros_like(decoder) if kind.unit else 0.1 * decoder
    if place.skip:
        params["skip"] = torch.zeros(y.shape[1], first[place.reads[0]].shape[1], device=device)
    block = Block(place.reads, place.writes, params, {"idle": torch.zeros(n, device=device)})
    with torch.no_grad():
        kind.start(block, x)
    return block


def median(x: Tensor, steps: int = 20) -> Tensor:
    """(width,): the geometric median of rows, by Weiszfeld's iteration."""
    at = x.mean(0)
    for _ in range(steps):
        weight = 1 / (x - at).norm(dim=1).clamp(min=1e-6)
        at = (weight @ x) / weight.sum()
    return at


def side_by_side(values: Rows, sites: Sequence[Site], scale: Mapping[Site, float]) -> Tensor:
    """(batch, all widths): scaled activations of several sites."""
    return _beside({site: values[site].flatten(1).float() * scale[site] for site in sites}, sites)


def _beside(parts: Rows, sites: Sequence[Site]) -> Tensor:
    """(batch, all widths): what is at several sites."""
    return parts[sites[0]] if len(sites) == 1 else torch.cat([parts[site] for site in sites], 1)


def rate(fit: Fit) -> float:
    """The learning rate of the next step: a rise, a plain, and a fall to zero."""
    step, steps = fit.when.step, fit.when.steps
    rise = (step + 1) / max(1.0, min(WARM, steps / 20))
    return fit.lr * min(1.0, rise, (steps - step) / max(1.0, FALL * steps))


def advance(fit: Fit, values: Rows, *, tell: bool = True) -> dict[str, float]:
    """One step on a batch of activations as the model has them.

    Returns loss (per row, of scaled activations), and with `tell` explained (share of the variance of the batch), l0
    and dead (share of features that have not fired for a tenth of all steps). Raises HookeError if the loss is not
    finite any more.
    """
    kind, when = fit.kind, fit.when
    sites = {site for block in fit.blocks for site in (*block.reads, *block.writes)}
    scaled = {site: side_by_side(values, (site,), fit.scale) for site in sites}
    reads = [_beside(scaled, block.reads) for block in fit.blocks]
    codes = [kind.code(block, x, when) for block, x in zip(fit.blocks, reads)]
    goal = {site: scaled[site] for block in fit.blocks for site in block.writes}
    left = dict(goal)
    for block, x, code in zip(fit.blocks, reads, codes):
        made = written(block, x, code)
        for site, part in zip(block.writes, made.split([fit.widths[site] for site in block.writes], 1)):
            left[site] = left[site] - part
    errors = torch.stack([x.square().sum(1) for x in left.values()]).sum(0)
    weights = kind.weights(errors.detach())
    loss = (errors if weights is None else errors * weights).mean()
    for block, x, code in zip(fit.blocks, reads, codes):
        own, want = (_beside(part, block.writes) for part in (left, goal))
        terms = kind.penalty(block, code, when) + kind.extra(block, code, x, want, own, when)
        loss = loss + (terms.mean() if isinstance(terms, Tensor) else terms)
    total = float(loss.detach())
    if not math.isfinite(total):
        raise HookeError(f"the loss is {total} at step {when.step}; a smaller --lr may help, and what was kept is good")
    _descend(fit, loss)
    with torch.no_grad():
        _after(fit, codes)
        told = {"loss": total}
        if tell:
            whole = sum(float((y - y.mean(0)).square().sum()) for y in goal.values())
            told["explained"] = 1 - float(errors.sum()) / max(whole, 1e-30)
            told["l0"] = sum(float(code.counts().sum()) for code in codes) / when.batch
            idle = torch.cat([block.state["idle"] for block in fit.blocks])
            told["dead"] = float((idle > 0.1 * when.steps * when.batch).float().mean())
    fit.when = When(when.step + 1, when.steps, when.batch)
    return told


def written(block: Block, x: Tensor, code: Code) -> Tensor:
    """(batch, written): what a block makes of what it read."""
    made = code.decoded(block.params["decoder"]) + block.params["offset"]
    if "skip" in block.params:
        made = made + x[:, : block.params["skip"].shape[1]] @ block.params["skip"].T
    return made


def _descend(fit: Fit, loss: Tensor) -> None:
    """The gradient, less what would only make rows of the decoder longer, and a step of Adam."""
    fit.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    unit = [block for block in fit.blocks if fit.kind.unit and block.centred]
    with torch.no_grad():
        for block in unit:
            rows, gradient = block.params["decoder"], block.params["decoder"].grad
            if gradient is not None:
                gradient.addcmul_((gradient * rows).sum(1, keepdim=True), rows, value=-1)
        torch.nn.utils.clip_grad_norm_([x for block in fit.blocks for x in block.params.values()], CLIP, foreach=True)
        for group in fit.optimizer.param_groups:
            group["lr"] = rate(fit)
        fit.optimizer.step()
        for block in unit:
            block.params["decoder"].div_(block.params["decoder"].norm(dim=1, keepdim=True).clamp(min=1e-8))


def _after(fit: Fit, codes: Sequence[Code]) -> None:
    for block, code in zip(fit.blocks, codes):
        idle = block.state["idle"]
        idle += fit.when.batch
        idle[code.counts() > 0] = 0
        fit.kind.after(block, code, fit.when)


def finish(fit: Fit, about: Mapping[str, Any] | None = None) -> list[Coder]:
    """The blocks as coders of activations as the model has them: scales and what is subtracted are folded in."""
    made = []
    for block in fit.blocks:
        params = {name: x.detach() for name, x in block.params.items()}
        gate: dict[str, Any] = fit.kind.gate(block)
        gate = {name: x.detach() if isinstance(x, Tensor) else x for name, x in gate.items()}
        encoder = gate.pop("encoder", params["encoder"])
        bias = gate.pop("bias", params["bias"])
        if block.centred:
            bias = bias - encoder @ params["offset"]
        into, out = ([fit.widths[site] for site in sites] for sites in (block.reads, block.writes))
        encoders = dict(zip(block.reads, encoder.split(into, 1)))
        decoders, offsets = (
            dict(zip(block.writes, part.split(out, -1))) for part in (params["decoder"], params["offset"])
        )
        skips = {}
        if "skip" in params:
            rows = params["skip"].split(out, 0)
            skips = {s: r * fit.scale[block.reads[0]] / fit.scale[s] for s, r in zip(block.writes, rows)}
        made.append(
            Coder(
                {site: (x * fit.scale[site]).contiguous() for site, x in encoders.items()},
                bias.contiguous().clone(),
                {site: (x / fit.scale[site]).contiguous() for site, x in decoders.items()},
                {site: x / fit.scale[site] for site, x in offsets.items()},
                skip=skips,
                about=dict(about or {}),
                **gate,
            )
        )
    return made
