"""One loop for all kinds: `start` makes a `Fit`, `advance` is one step on a batch, `finish` makes coders of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from hooke.dictionaries.coder import Coder
from hooke.dictionaries.kinds import Block, Code, Kind, When
from hooke.dictionaries.kinds.base import alike
from hooke.dictionaries.spread import WHOLE, Spread
from hooke.errors import HookeError
from hooke.sites import Site

WARM = 1000  # steps over which the learning rate rises, a twentieth of all at most
FALL = 0.2  # share of all steps over which it falls to zero at the end
CLIP = 1.0  # length of the gradient at most
Rows = Mapping[Site, Tensor]  # activations by site, (batch, width), as the model has them


@dataclass(frozen=True)
class Place:
    """What one block reads and writes. skip: with a matrix from the first that it reads to each that it writes. apart:
    of two sites that are read and written, which share of the features each has to itself (2602.11729)."""

    reads: tuple[Site, ...]
    writes: tuple[Site, ...]
    skip: bool = False
    apart: float = 0.0


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

    @property
    def spread(self) -> Spread:
        """The processes that it trains on."""
        return self.when.spread

    def params(self) -> tuple[list[Tensor], list[Tensor]]:
        """Those that every process has, and those of which each has the part of its own features."""
        found = [(alike(name, x), x) for block in self.blocks for name, x in block.params.items()]
        return [x for same, x in found if same], [x for same, x in found if not same]


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
    in which features are chosen. when: also over which processes; each begins with its part of what one would begin
    with. Raises HookeError where blocks add up and their kind cannot.
    """
    if len(places) > 1 and not kind.joint:
        raise HookeError(f"{kind.name} dictionaries train by themselves, so they cannot write the same sites together")
    if kind.own and any(place.reads != place.writes or len(place.reads) > 1 for place in places):
        raise HookeError(f"{kind.name} is a kind of autoencoder of one site; it cannot write other than it reads")
    sites = {site for place in places for site in (*place.reads, *place.writes)}
    scale = {site: _scale(first[site], kind) for site in sorted(sites)}
    generator = torch.Generator().manual_seed(seed)
    blocks = [_own(_block(kind, place, first, scale, n_features, generator), when.spread) for place in places]
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
    state = {"idle": torch.zeros(n, device=device)}
    if any(site.other for site in place.writes):
        widths = [first[site].flatten(1).shape[1] for site in place.writes]
        decoder, state["apart"] = _of_two(decoder, widths, place.apart)
    encoder = decoder.clone() if centred else rows(x.shape[1])
    own = y.shape[1] if centred else first[place.writes[0]].shape[1]  # of the last sites others write the mean
    offset = torch.zeros(y.shape[1], device=device)
    offset[:own] = median(y[:4096, :own]) if centred else y[:, :own].mean(0)
    params = {"encoder": encoder, "bias": torch.zeros(n, device=device), "offset": offset}
    params["decoder"] = decoder if centred else torch.zeros_like(decoder) if kind.unit else 0.1 * decoder
    if place.skip:
        params["skip"] = torch.zeros(y.shape[1], first[place.reads[0]].shape[1], device=device)
    block = Block(place.reads, place.writes, params, state)
    with torch.no_grad():
        kind.start(block, x)
    return block


def _of_two(rows: Tensor, widths: Sequence[int], share: float) -> tuple[Tensor, Tensor]:
    """Directions (n, both widths) of features of two models, alike in both where the widths are, or in one alone; and
    (n,) of which model a feature is: 1 the first, 2 the second, 0 both."""
    n, each = len(rows), round(share * len(rows))
    apart = torch.zeros(n, device=rows.device)
    apart[n - 2 * each : n - each], apart[n - each :] = 1, 2
    parts = list(rows.split(list(widths), 1))
    if widths[0] == widths[1]:
        parts[1] = parts[0]
    rows = torch.cat([part.masked_fill((apart == 2 - which)[:, None], 0.0) for which, part in enumerate(parts)], 1)
    return rows / rows.norm(dim=1, keepdim=True), apart


def _close(block: Block, widths: Sequence[int]) -> None:
    """Features of one model alone learn nothing of the other."""
    for name in ("encoder", "decoder"):
        gradient = block.params[name].grad
        for which, part in enumerate(() if gradient is None else gradient.split(list(widths), 1)):
            part[block.state["apart"] == 2 - which] = 0.0


def _own(block: Block, spread: Spread) -> Block:
    """What of a whole block is this process's."""
    axis = spread.dictionary
    if axis.size > 1:
        for some in (block.params, block.state):
            some.update({name: x[axis.part(len(x))].clone() for name, x in some.items() if not alike(name, x)})
    return replace(block, spread=spread)


def _whole(block: Block) -> Block:
    """The block of all processes of the dictionary axis together."""
    axis = block.spread.dictionary
    if axis.size == 1:
        return block

    def joined(some: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: x if alike(name, x) else axis.gathered(x.detach()).flatten(0, 1) for name, x in some.items()}

    return replace(block, params=joined(block.params), state=joined(block.state), spread=WHOLE)


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
    """One step on a batch of activations as the model has them, or on the rows of it that are this process's.

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
    weights = kind.weights(errors.detach(), fit.spread.data)
    loss = (errors if weights is None else errors * weights).mean()
    for block, x, code in zip(fit.blocks, reads, codes):
        own, want = (_beside(part, block.writes) for part in (left, goal))
        terms = kind.penalty(block, code, when) + kind.extra(block, code, x, want, own, when)
        loss = loss + (terms.mean() if isinstance(terms, Tensor) else terms)
    total = float(fit.spread.data.average(loss.detach().clone()))
    if not math.isfinite(total):
        raise HookeError(f"the loss is {total} at step {when.step}; a smaller --lr may help, and what was kept is good")
    _descend(fit, loss)
    with torch.no_grad():
        counts = _after(fit, codes)
        told = {"loss": total} | (_told(fit, goal, errors, counts) if tell else {})
    fit.when = replace(when, step=when.step + 1)
    return told


def written(block: Block, x: Tensor, code: Code) -> Tensor:
    """(batch, written): what a block makes of what it read."""
    made = block.decoded(code) + block.once("offset")
    if "skip" in block.params:
        skip = block.once("skip")
        made = made + x[:, : skip.shape[1]] @ skip.T
    return made


def _told(fit: Fit, goal: Rows, errors: Tensor, counts: Sequence[Tensor]) -> dict[str, float]:
    """What is told of a step beside its loss."""
    when, data, dictionary = fit.when, fit.spread.data, fit.spread.dictionary
    means = {site: data.average(y.mean(0)) for site, y in goal.items()}
    whole = sum(float(data.sum((y - means[site]).square().sum())) for site, y in goal.items())
    idle = torch.cat([block.state["idle"] for block in fit.blocks])
    return {
        "explained": 1 - float(data.sum(errors.sum())) / max(whole, 1e-30),
        "l0": sum(float(dictionary.sum(n.sum())) for n in counts) / when.batch,
        "dead": float(dictionary.average((idle > 0.1 * when.steps * when.batch).float().mean())),
    }


def _descend(fit: Fit, loss: Tensor) -> None:
    """The gradient, less what would only make rows of the decoder longer, and a step of Adam."""
    spread = fit.spread
    fit.optimizer.zero_grad(set_to_none=True)
    (loss if spread.data.size == 1 else loss / spread.data.size).backward()
    if spread.world.size > 1:
        _add_up(fit)
    unit = [block for block in fit.blocks if fit.kind.unit and block.centred]
    with torch.no_grad():
        for block in fit.blocks:
            if "apart" in block.state:
                _close(block, [fit.widths[site] for site in block.writes])
        for block in unit:
            rows, gradient = block.params["decoder"], block.params["decoder"].grad
            if gradient is not None:
                gradient.addcmul_((gradient * rows).sum(1, keepdim=True), rows, value=-1)
        _clip(fit)
        for group in fit.optimizer.param_groups:
            group["lr"] = rate(fit)
        fit.optimizer.step()
        for block in unit:
            block.params["decoder"].div_(block.params["decoder"].norm(dim=1, keepdim=True).clamp(min=1e-8))


def _add_up(fit: Fit) -> None:
    """The gradients of the whole batch, and of what every process has, those of all its readers."""
    common, own = fit.params()
    for x in (*common, *own):
        if x.grad is None:  # nothing here learns from it, and something elsewhere may
            x.grad = torch.zeros_like(x)
    fit.spread.dictionary.add([x.grad for x in common if x.grad is not None])
    fit.spread.data.add([x.grad for x in (*common, *own) if x.grad is not None])


def _clip(fit: Fit) -> None:
    """Shorten the gradient of all parameters of all processes where it is too long."""
    common, own = fit.params()
    axis = fit.spread.dictionary
    if axis.size == 1:
        torch.nn.utils.clip_grad_norm_([x for block in fit.blocks for x in block.params.values()], CLIP, foreach=True)
        return
    parts = [torch.nn.utils.get_total_norm([x.grad for x in some if x.grad is not None]) for some in (common, own)]
    length = (parts[0].square() + axis.sum(parts[1].square())).sqrt()
    torch.nn.utils.clip_grads_with_norm_([*common, *own], CLIP, length, foreach=True)


def _after(fit: Fit, codes: Sequence[Code]) -> list[Tensor]:
    """Keep what is not trained. Gives for each block (n_features,) rows of the whole batch on which each fired."""
    found = []
    for block, code in zip(fit.blocks, codes):
        counts, idle = fit.spread.data.sum(code.counts()), block.state["idle"]
        idle += fit.when.batch
        idle[counts > 0] = 0
        fit.kind.after(block, code, counts, fit.when)
        found.append(counts)
    return found


def finish(fit: Fit, about: Mapping[str, Any] | None = None) -> list[Coder]:
    """The blocks as coders of activations as the model has them: scales and what is subtracted are folded in. Of
    several processes, all of which have to call it, the first gets them and the others an empty list."""
    made: list[Coder] = []
    for block in fit.blocks if fit.spread.data.rank == 0 else ():
        block = _whole(block)
        if not fit.spread.leads:
            continue
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
