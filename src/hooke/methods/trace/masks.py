"""Which neurons and which links of attention carry an answer: relaxed masks, optimised on the model itself.

A set explains an answer if it carries it whatever it is contrasted with. Masks of several sizes are optimised together,
against the counterfactuals given and against many more made from the prompt. In each step
  - a keep row holds every neuron outside a mask at a variant's value, and every link inside it at what it brings on the
    prompt, and should still give the clean prediction;
  - a drop row holds all that is inside it at a variant's, and should give the prediction with every neuron held.
What is neither held nor kept is live: attention of a keep row looks where its own stream makes it look.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from hooke.methods.metric import Metric
from hooke.methods.metrics import rounding
from hooke.methods.progress import Tick, idle
from hooke.methods.trace.hold_links import Looks, hold, looks
from hooke.model import Edit, Model, Tokens
from hooke.model.run import Prefix
from hooke.sites import Site

SIZES = (100, 1000)  # masks that are optimised together; a smaller one leads in the ranking
KEEP_ROWS = (0, 1, 1, 1)  # which mask each keep row of a step uses
DROP_ROW = 1  # and the drop row
N_STEPS = 6
AMPLIFY = 1.15  # variants are taken a little further from the prompt than they are, as a margin
FIRST_MOVE, LAST_MOVE, DECAY = 0.67, 0.13, 0.75
MARGIN_WEIGHT, DROP_WEIGHT = 3.0, 1.2


class Scores(NamedTuple):
    """The higher, the more is a neuron or a link wanted: (position, neuron) for each site, and (layer, head, query,
    key), minus infinity where nothing is looked at."""

    neurons: list[Tensor]
    links: Tensor


class Variants(NamedTuple):
    """What is put in the place of the prompt's own: neurons of each layer (variant, pos, neuron), and what links are
    made of in the prompt, row 0, and in the first variants."""

    neurons: Tensor
    looks: list[Looks]


def learn(
    model: Model,
    tokens: Tokens,
    metric: Metric,
    sites: Sequence[Site],
    contrasts: Sequence[Tensor],
    tick: Tick = idle,
) -> Scores:
    """Scores from masks optimised against prompts (pos,). sites: those of neurons, of one width, one a layer."""
    ids = tokens.ids[0]
    rows = torch.stack([ids, *contrasts])
    start = _shared(ids, contrasts)
    after = model.prefix(ids[:start]) if start else None
    ids = ids[start:]
    held, logits = _variants(model, rows[:, start:], sites, after)
    if float((logits[1:] - logits[0]).abs().max()) <= rounding(logits[0], model.dtype):
        return _none(tokens, held)  # there is nothing to learn from, and rounding would be learned
    tick(0.15)
    clean, log, watched = logits[0].float(), logits[0].float().log_softmax(-1), _watched(logits, metric)
    # a drop row runs against variant 0, 1, … in turn; the keep rows are spread over all
    n_variants, n_dropped, n_keep = held.neurons.shape[1], len(held.looks[0].pattern) - 1, len(KEEP_ROWS)
    everything = [Edit(s, value=h[:n_dropped]) for s, h in zip(sites, held.neurons, strict=True)]
    nothing = model.run(_rows(ids.expand(n_dropped, -1)), edits=everything, logits="last", after=after).logits
    assert nothing is not None
    empty = nothing.float().log_softmax(-1)
    masks = [Masks.zero(x.shape[1:], x) for x in held.neurons]
    masks += [Masks.zero(look.pattern.shape[1:], look.pattern) for look in held.looks]
    for step in range(N_STEPS):
        tick(0.2 + 0.8 * step / N_STEPS)
        drop = step % n_dropped
        against = [*((row * n_variants // n_keep + step) % n_variants for row in range(n_keep)), drop]
        leaves = [m.rows().requires_grad_() for m in masks]
        edits = _edits(sites, held, leaves, against)
        again = _rows(ids.expand(len(against), -1))
        out = model.run(again, edits=edits, grad=True, logits="last", after=after).logits
        assert out is not None
        kept, rest = out[:n_keep].float(), out[n_keep].float()
        loss = divergence(log, kept.log_softmax(-1)).sum() + MARGIN_WEIGHT * margin_error(kept, clean, watched).sum()
        loss = loss + divergence(empty[drop], rest.log_softmax(-1))
        _step(masks, torch.autograd.grad(loss, leaves), step / N_STEPS)
    top = max(float(m.wanted.sum(0).abs().max()) for m in masks)
    found = [m.scores(top) for m in masks]
    unseen = torch.stack([look.pattern[0] for look in held.looks]) == 0
    links = torch.stack(found[len(sites) :]).masked_fill(unseen, -torch.inf)
    neurons = [pad(x, (0, 0, start, 0)) for x in found[: len(sites)]]
    return Scores(neurons, pad(links, (0, 0, start, 0), value=-torch.inf))


def _none(tokens: Tokens, held: Variants) -> Scores:
    """Scores that prefer no neuron, and no link at all."""
    n_pos, like = tokens.ids.shape[1], held.neurons
    links = like.new_full((len(held.looks), held.looks[0].pattern.shape[1], n_pos, n_pos), -torch.inf)
    return Scores([like.new_zeros(n_pos, like.shape[-1]) for _ in like], links)


class Masks(NamedTuple):
    """Of what there is in one layer, how much of each is kept by each mask, 0 to 1, and how much more was wanted (size,
    …)."""

    kept: Tensor
    wanted: Tensor

    @classmethod
    def zero(cls, shape: torch.Size, like: Tensor) -> Masks:
        """Nothing kept."""
        return cls(*(like.new_zeros(len(SIZES), *shape) for _ in range(2)))

    def rows(self) -> Tensor:
        """(row, …): what each row of a step keeps, or drops."""
        return self.kept[[*KEEP_ROWS, DROP_ROW]]

    def scores(self, top: float) -> Tensor:
        """(…): what small masks keep before what larger ones do, and then by what was wanted late. top: of all that."""
        weight = torch.arange(len(SIZES), 0, -1, device=self.kept.device, dtype=self.kept.dtype)
        return torch.einsum("z,z...->...", weight, self.kept) + 1e-3 * self.wanted.sum(0) / max(top, 1e-20)


def _step(masks: Sequence[Masks], grads: Sequence[Tensor], done: float) -> None:
    """Move masks by the slopes (row, …) of the loss in what each row keeps: what is wanted most rises, all else
    sinks."""
    sizes = torch.cat([grad.flatten(1).abs().topk(min(300, grad[0].numel())).values for grad in grads], 1)
    mean = sizes.topk(min(300, sizes.shape[1])).values.mean(1)
    least = torch.finfo(mean.dtype).tiny
    largest = mean.clamp(min=least).tolist()  # divided by as it is: one over it may overflow half precision
    for mask, grad in zip(masks, grads, strict=True):
        mask.wanted.mul_(DECAY)
        for row, size in enumerate((*KEEP_ROWS, DROP_ROW)):
            weight = DROP_WEIGHT if row == len(KEEP_ROWS) else 1.0
            mask.wanted[size].sub_(grad[row] / largest[row], alpha=weight)
    move = FIRST_MOVE * (1 - done) + LAST_MOVE
    for z, size in enumerate(SIZES):
        best = torch.cat([m.wanted[z].flatten().topk(min(size, m.wanted[z].numel())).values for m in masks])
        cut = best.topk(min(size, len(best))).values[-1].clamp(min=0.0)
        for mask in masks:
            mask.kept[z] = (mask.kept[z] + torch.where(mask.wanted[z] > cut, move, -move)).clamp_(0, 1)


def _variants(model: Model, rows: Tensor, sites: Sequence[Site], after: Prefix | None) -> tuple[Variants, Tensor]:
    """What variants, all rows but the first, put in the place of the prompt's own, and the logits of all rows."""
    run = model.run(_rows(rows), read=sites, logits="last", after=after)
    assert run.logits is not None
    neurons = run.acts[sites[0]].new_empty(len(sites), len(rows) - 1, *run.acts[sites[0]].shape[1:])
    for layer, s in enumerate(sites):  # one layer after another, and each let go: all of them would be there four times
        acts = run.acts.pop(s)  # (1 + variant, pos, neuron)
        torch.sub(acts[1:], acts[:1], out=neurons[layer]).mul_(AMPLIFY).add_(acts[:1])
    return Variants(neurons, looks(model, _rows(rows[: 1 + N_STEPS]), after)), run.logits


def _edits(sites: Sequence[Site], held: Variants, leaves: Sequence[Tensor], against: Sequence[int]) -> list[Edit]:
    """What the rows of a step hold, by what each keeps of neurons and links (row, …), the last what it drops."""
    edits = []
    for site, values, w in zip(sites, held.neurons, leaves[: len(sites)], strict=True):
        edits.append(Edit(site, value=values[against], weight=torch.cat([1 - w[:-1], w[-1:]])))
    for layer, (look, w) in enumerate(zip(held.looks, leaves[len(sites) :], strict=True)):
        here, there = look.row(0).bring(w), look.row(1 + against[-1]).bring(w[-1:])
        edits += hold(layer, w, torch.cat([here[:-1], here[-1:].lerp(there, AMPLIFY)]))
    return edits


def _shared(ids: Tensor, contrasts: Sequence[Tensor]) -> int:
    """How many tokens at the beginning are the same in all, and so need to be run only once."""
    return min(int((row != ids).int().argmax()) for row in contrasts)


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) of log-probabilities (… d_vocab), in nats."""
    return (p.exp() * (p - q)).sum(-1)


def margin_error(logits: Tensor, clean: Tensor, watched: Tensor) -> Tensor:
    """Squared error of the watched logits relative to the first of them, in units of the clean ones."""
    want = clean[watched[1:]] - clean[watched[0]]
    have = logits[:, watched[1:]] - logits[:, watched[:1]]
    return (have - want).pow(2).mean(-1) / want.pow(2).mean().clamp(min=1e-12)


def _watched(logits: Tensor, metric: Metric) -> Tensor:
    """The target, then the likely answers of the prompt and of its variants."""
    likely = logits.topk(min(10, logits.shape[-1])).indices.flatten()
    if metric.contrast is not None:
        likely = torch.cat([likely, likely.new_tensor([metric.contrast])])
    likely = likely.unique()
    return torch.cat([likely.new_tensor([metric.target]), likely[likely != metric.target]])


def _rows(ids: Tensor) -> Tokens:
    return Tokens(ids, torch.ones_like(ids, dtype=torch.bool))
