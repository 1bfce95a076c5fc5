"""Which features and which links of attention carry an answer: relaxed masks, optimised on the model itself.

A set explains an answer if it carries it whatever it is contrasted with. Masks of several sizes are optimised together,
against the counterfactuals given and against many more made from the prompt. In each step
  - a keep row holds every feature outside a mask at a variant's value, and every link inside it at what it brings on
    the prompt, and should still give the clean prediction;
  - a drop row holds all that is inside it at a variant's, and should give the prediction with every feature held.
Features are neurons, or of dictionaries those that are active on the prompt or in a variant. What is neither held nor
kept is live: attention of a keep row looks where its own stream makes it look.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from hooke.dictionaries import Codes, Dictionary, Neurons
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
    """The higher, the more is a feature or a link wanted: codes of each block, and (layer, head, query, key), minus
    infinity where nothing is looked at."""

    features: list[Codes]
    links: Tensor


class Held(NamedTuple):
    """What features of one block are held at in variants: entries of the prompt, and values (variant, entries)."""

    block: Dictionary
    entries: Codes
    values: Tensor

    def edits(self, against: Sequence[int], weight: Tensor) -> list[Edit]:
        """Edits that move each row towards one of the variants, by weight (row, entries)."""
        return self.block.hold(self.entries, weight, self.values[list(against)])


class Variants(NamedTuple):
    """What is put in the place of the prompt's own: features of each block, and what links are made of in the prompt,
    row 0, and in the first variants."""

    features: list[Held]
    looks: list[Looks]


def learn(
    model: Model,
    tokens: Tokens,
    metric: Metric,
    basis: Sequence[Dictionary],
    contrasts: Sequence[Tensor],
    tick: Tick = idle,
) -> Scores:
    """Scores from masks optimised against prompts (pos,). basis: neurons of layers, or dictionaries."""
    ids = tokens.ids[0]
    rows = torch.stack([ids, *contrasts])
    start = _shared(ids, contrasts)
    after = model.prefix(ids[:start]) if start else None
    ids = ids[start:]
    held, logits = _variants(model, rows[:, start:], basis, after)
    if float((logits[1:] - logits[0]).abs().max()) <= rounding(logits[0], model.dtype):
        return _none(tokens, held, start)  # there is nothing to learn from, and rounding would be learned
    tick(0.15)
    clean, log, watched = logits[0].float(), logits[0].float().log_softmax(-1), _watched(logits, metric)
    # a drop row runs against variant 0, 1, … in turn; the keep rows are spread over all
    n_variants, n_dropped, n_keep = len(contrasts), len(held.looks[0].pattern) - 1, len(KEEP_ROWS)
    everything = [
        edit
        for each in held.features
        for edit in each.edits(range(n_dropped), torch.ones_like(each.values[:n_dropped]))
    ]
    nothing = model.run(_rows(ids.expand(n_dropped, -1)), edits=everything, logits="last", after=after).logits
    assert nothing is not None
    empty = nothing.float().log_softmax(-1)
    masks = [Masks.zero(each.values.shape[1:], each.values) for each in held.features]
    masks += [Masks.zero(look.pattern.shape[1:], look.pattern) for look in held.looks]
    for step in range(N_STEPS):
        tick(0.2 + 0.8 * step / N_STEPS)
        drop = step % n_dropped
        against = [*((row * n_variants // n_keep + step) % n_variants for row in range(n_keep)), drop]
        leaves = [m.rows().requires_grad_() for m in masks]
        edits = _edits(held, leaves, against)
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
    links = torch.stack(found[len(basis) :]).masked_fill(unseen, -torch.inf)
    features = [_later(each, x, start) for each, x in zip(held.features, found, strict=False)]
    return Scores(features, pad(links, (0, 0, start, 0), value=-torch.inf))


def _none(tokens: Tokens, held: Variants, start: int) -> Scores:
    """Scores that prefer no neuron, and no link at all."""
    n_pos, pattern = tokens.ids.shape[1], held.looks[0].pattern
    links = pattern.new_full((len(held.looks), pattern.shape[1], n_pos, n_pos), -torch.inf)
    return Scores([_later(each, torch.zeros_like(each.values[0]), start) for each in held.features], links)


def _later(held: Held, scores: Tensor, start: int) -> Codes:
    """Scores of entries, (entries,), as codes of the whole prompt, which has so many tokens before."""
    n_pos, width = held.entries.shape
    if held.entries.keys is None:
        return Codes(pad(scores, (start * width, 0)), None, (start + n_pos, width))
    return held.entries.valued(scores)


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


def _variants(model: Model, rows: Tensor, basis: Sequence[Dictionary], after: Prefix | None) -> tuple[Variants, Tensor]:
    """What variants, all rows but the first, put in the place of the prompt's own, and the logits of all rows."""
    read = {site for block in basis for site in ((block.site,) if isinstance(block, Neurons) else block.reads)}
    run = model.run(_rows(rows), read=sorted(read), logits="last", after=after)
    assert run.logits is not None
    held, start = [], 0 if after is None else after.length
    for block in basis:  # one after another, and neurons let go: all of them would be there four times
        if isinstance(block, Neurons):
            acts = run.acts.pop(block.site)  # (1 + variant, pos, neuron)
            entries = Codes(acts[0].flatten(), None, (acts.shape[1], acts.shape[2]))
            acts = acts.flatten(1)
        else:
            acts, entries = _active(block, {site: run.acts[site] for site in block.reads}, start)
        held.append(Held(block, entries, torch.sub(acts[1:], acts[:1]).mul_(AMPLIFY).add_(acts[:1])))
    return Variants(held, looks(model, _rows(rows[: 1 + N_STEPS]), after)), run.logits


def _active(block: Dictionary, acts: Mapping[Site, Tensor], start: int) -> tuple[Tensor, Codes]:
    """(row, entries): what a block makes of what it reads in several runs, each (row, pos, width), of the features that
    are active at a position in any of them; and these with the values of the first run. start: tokens before."""
    n_rows, n_pos = next(iter(acts.values())).shape[:2]
    codes = block.encode({site: x.flatten(0, 1) for site, x in acts.items()})
    size = n_pos * block.n_features
    keys, at = (codes.places() % size).unique(return_inverse=True)
    values = codes.values.new_zeros(n_rows, len(keys))
    values[codes.places() // size, at] = codes.values
    whole = (start + n_pos, block.n_features)
    return values, Codes(values[0], keys + start * block.n_features, whole)


def _edits(held: Variants, leaves: Sequence[Tensor], against: Sequence[int]) -> list[Edit]:
    """What the rows of a step hold, by what each keeps of features and links (row, …), the last what it drops."""
    edits, n = [], len(held.features)
    for each, w in zip(held.features, leaves[:n], strict=True):
        edits += each.edits(against, torch.cat([1 - w[:-1], w[-1:]]))
    for layer, (look, w) in enumerate(zip(held.looks, leaves[n:], strict=True)):
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
