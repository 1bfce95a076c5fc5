"""Which features to draw: one ranking of (block, feature, position), nested in the budget.

A set explains an answer if it carries it whatever it is contrasted with. So the ranking is learned on
the model itself: relaxed masks of several sizes are optimised together, against the counterfactuals
given and against many more made from the prompt. In each step
  - a keep row holds everything outside a mask at a variant's values, and should still give the clean
    prediction;
  - a drop row holds everything inside it there, and should give the prediction with everything held.
Where features are not part of the model's own computation (transcoders), and on long prompts, one-pass
RelP scores stand in.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from hooke.dictionaries import Neurons
from hooke.errors import HookeError
from hooke.methods.metric import Metric
from hooke.methods.progress import Tick, idle, stretch
from hooke.methods.trace.coded import Baseline, Case, Coded, Units
from hooke.methods.trace.edges import pass_offset
from hooke.methods.variants import variants
from hooke.model import Descent, Edit, LinearView, Model, Rows, Tokens
from hooke.sites import Site

SIZES = (100, 1000)  # masks that are optimised together; a smaller one leads in the ranking
KEEP_ROWS = (0, 1, 1, 1)  # which mask each keep row of a step uses
DROP_ROW = 1  # and the drop row
N_VARIANTS, N_STEPS = 32, 16
AMPLIFY = 1.15  # variants are taken a little further from the prompt than they are, as a margin
FIRST_MOVE, LAST_MOVE, DECAY = 0.25, 0.05, 0.75
MARGIN_WEIGHT, DROP_WEIGHT = 3.0, 1.2
SHORT = 32  # tokens; a longer prompt gets half the variants and half the steps, each twice as long
LONGEST = 192  # tokens; a longer prompt is ranked by RelP


def relp(view: LinearView, coded: Coded, metric: Metric, baselines: list[Baseline]) -> list[Tensor]:
    """RelP scores (2508.21258) of the entries of the codes, per block: (value − baseline) times the effect of one
    unit, averaged over baselines."""
    effects, _ = unit_effects(view, coded, metric.row(view))
    _all_linked(coded, effects)
    out = []
    for b, codes in enumerate(coded.codes):
        positions, ids = codes.positions, codes.ids
        mean = torch.stack([other.codes[b].at(positions, ids) for other in baselines]).mean(0)
        out.append((codes.values - mean) * effects[b])
    return out


def _all_linked(coded: Coded, effects: Sequence[Tensor]) -> None:
    """Raise HookeError for a dictionary of which nothing goes on, because others cut what it writes."""
    for block, codes, worth in zip(coded.basis, coded.codes, effects, strict=True):
        last = codes.positions == codes.shape[0] - 1
        if bool(last.any()) and not bool(worth[last].any()):
            written = ", ".join(map(str, block.writes))
            raise HookeError(
                f"what {block.hash} writes at {written} leads nowhere: other dictionaries write later and nothing "
                "reads in between; leave one of them out"
            )


def ranking(case: Case, contrasts: Sequence[Tensor], tick: Tick = idle) -> Tensor:
    """Indices into the entries of all codes, one block after another, best first; a smaller budget is a prefix of a
    larger.

    contrasts: prompts (pos,) to learn against (`contrasts`); none of them, or features that are not values of the model
    itself: RelP alone.
    """
    coded = case.coded
    linear = torch.cat([s.abs() for s in relp(case.view, coded, case.metric, case.baselines)])
    sites = [block.site for block in coded.basis if isinstance(block, Neurons)]
    if not contrasts or len(sites) < len(coded.basis):
        return linear.argsort(descending=True, stable=True)
    tick(0.05)
    everything = learn(case.model, case.run.tokens, case.metric, sites, contrasts, stretch(tick, 0.1, 1.0))
    learned = torch.cat([x if c.keys is None else x[c.keys] for x, c in zip(everything, coded.codes, strict=True)])
    # what no mask ever wanted follows in the order of RelP
    return (learned + 1e-6 * linear / linear.max().clamp(min=1e-12)).argsort(descending=True, stable=True)


def searched(tokens: Tokens) -> bool:
    """Whether counterfactuals are looked for: not for a prompt that is too long, or of one token."""
    return 1 < tokens.ids.shape[1] <= LONGEST


def contrasts(
    model: Model,
    tokens: Tokens,
    target: int,
    others: Sequence[Tensor] = (),
    *,
    extra: int = 0,
    seed: int = 0,
    tick: Tick = idle,
) -> list[Tensor]:
    """What a ranking is learned against, in random order: the counterfactuals `others` and prompts that ask
    for another answer, `extra` of them beyond the number that learning needs. None of them where none is found, or
    none is `searched` for."""
    n_pos = tokens.ids.shape[1]
    if not searched(tokens):
        return []
    generator = torch.Generator().manual_seed(seed)
    count = N_VARIANTS if n_pos <= SHORT else N_VARIANTS // 2
    made = variants(model, tokens, target, others, max(1, count - len(others)) + extra, generator, tick)
    rows = [*others, *made]
    return [rows[i] for i in torch.randperm(len(rows), generator=generator).tolist()]


def learn(
    model: Model,
    tokens: Tokens,
    metric: Metric,
    sites: Sequence[Site],
    contrasts: Sequence[Tensor],
    tick: Tick = idle,
) -> list[Tensor]:
    """Scores of all values at sites of one width, flat over (position, neuron) for each, from masks optimised against
    prompts (pos,)."""
    ids, n_layers = tokens.ids[0], len(sites)
    steps = N_STEPS if len(ids) <= SHORT else N_STEPS // 2
    rows = torch.stack([ids, *contrasts])
    start = _shared(ids, contrasts)
    after = model.prefix(ids[:start]) if start else None
    ids = ids[start:]
    run = model.run(_rows(rows[:, start:]), read=sites, logits="last", after=after)
    assert run.logits is not None
    tick(0.1)
    held = run.acts[sites[0]].new_empty(n_layers, len(contrasts), *run.acts[sites[0]].shape[1:])
    for layer, s in enumerate(sites):  # one layer after another, and each let go: all of them would be there four times
        acts = run.acts.pop(s)  # (1 + variant, pos, neuron)
        torch.sub(acts[1:], acts[:1], out=held[layer]).mul_(AMPLIFY).add_(acts[:1])
    clean, log = run.logits[0].float(), run.logits[0].float().log_softmax(-1)
    watched = _watched(run.logits, metric)
    n_variants, shape = held.shape[1], (n_layers, *held.shape[2:])
    # a drop row runs against variant 0, 1, … in turn; the keep rows are spread over the rest
    dropped = held[:, : min(steps, n_variants)]
    everything = [Edit(s, value=h) for s, h in zip(sites, dropped, strict=True)]
    tick(0.15)
    nothing = model.run(_rows(ids.expand(dropped.shape[1], -1)), edits=everything, logits="last", after=after).logits
    assert nothing is not None
    empty = nothing.float().log_softmax(-1)
    n_sizes, n_keep = len(SIZES), len(KEEP_ROWS)
    mask = held.new_zeros(n_layers, n_sizes, *shape[1:])
    gain = torch.zeros_like(mask)
    sizes = [min(size, mask[:, 0].numel()) for size in SIZES]
    for step in range(steps):
        tick(0.2 + 0.8 * step / steps)
        drop = step % dropped.shape[1]
        against = [*((row * n_variants // n_keep + step) % n_variants for row in range(n_keep)), drop]
        hold = [torch.cat([1 - m[list(KEEP_ROWS)], m[[DROP_ROW]]]).requires_grad_() for m in mask]
        edits = [Edit(s, value=h[against], weight=w) for s, h, w in zip(sites, held, hold, strict=True)]
        again = _rows(ids.expand(len(against), -1))
        out = model.run(again, edits=edits, grad=True, logits="last", after=after).logits
        assert out is not None
        kept, rest = out[:n_keep].float(), out[n_keep].float()
        loss = divergence(log, kept.log_softmax(-1)).sum() + MARGIN_WEIGHT * margin_error(kept, clean, watched).sum()
        loss = loss + divergence(empty[drop], rest.log_softmax(-1))
        grad = torch.stack(torch.autograd.grad(loss, hold))
        largest = grad.transpose(0, 1).flatten(1).abs().topk(min(300, mask[:, 0].numel())).values.mean(1)
        grad = grad / largest.clamp(min=1e-20).view(1, -1, 1, 1)
        # a drop row holds what its mask keeps, so both gradients say how much the loss falls if it grows
        gain = DECAY * gain
        for row, size in enumerate(KEEP_ROWS):
            gain[:, size] += grad[:, row]
        gain[:, DROP_ROW] -= DROP_WEIGHT * grad[:, n_keep]
        move = (FIRST_MOVE * (1 - step / steps) + LAST_MOVE) * N_STEPS / steps
        for z, size in enumerate(sizes):  # the best rise, the others sink
            cut = gain[:, z].flatten().topk(size).values[-1]
            mask[:, z] = (mask[:, z] + torch.where(gain[:, z] >= cut, move, -move)).clamp_(0, 1)
    weight = torch.arange(n_sizes, 0, -1, device=mask.device, dtype=mask.dtype).view(1, -1, 1, 1)
    late = gain.sum(1)
    scores = (mask * weight).sum(1) + 1e-3 * late / late.abs().max().clamp(min=1e-20)
    return list(pad(scores, (0, 0, start, 0)).flatten(1))


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


def units_at(coded: Coded, flat: Tensor, baselines: list[Baseline]) -> Units:
    """Units from indices into the entries of all codes, in the given order."""
    ends = torch.tensor([len(codes) for codes in coded.codes], device=flat.device).cumsum(0)
    blocks = torch.searchsorted(ends, flat, right=True)
    inside = flat - torch.cat([ends.new_zeros(1), ends[:-1]])[blocks]
    positions, ids = torch.zeros_like(flat), torch.zeros_like(flat)
    for b, codes in enumerate(coded.codes):
        here = (blocks == b).nonzero()[:, 0]
        key = inside[here] if codes.keys is None else codes.keys[inside[here]]
        positions[here], ids[here] = key // codes.shape[1], key % codes.shape[1]
    return coded.units(blocks, positions, ids, [other.codes for other in baselines])


def unit_effects(
    view: LinearView, coded: Coded, target: Rows, *, keep: Sequence[Tensor] | None = None
) -> tuple[list[Tensor], Tensor]:
    """Effect on one target of one unit of every active feature, through all paths of the linear rule.

    target: one row. keep: per block (n_entries,) True for entries of the codes that pass the effect on (None:
    all of them); with the kept nodes of a graph it gives the sum over paths of that graph.
    Returns per block (n_entries,), and the cotangent at the tokens (pos, d_model).
    """
    effects = [torch.zeros_like(codes.values) for codes in coded.codes]
    way = Descent(view, target, frozenset(coded.cuts), carry={})
    down = torch.zeros_like(view.tokens())[None]
    for site, first, cotangents in way:
        if site is None:
            down = cotangents
            continue
        n = cotangents.shape[1]
        for b in coded.writing(site):
            block, codes = coded.basis[b], coded.codes[b].until(n)
            x = {s: y[:n] for s, y in coded.inputs[b].items()}
            effects[b][: len(codes)] += block.effects(codes, site, cotangents[0], x)
            pass_offset(coded, b, way, site, first, cotangents)
            if site == min(block.writes):  # all that it writes has been passed
                worth = effects[b][: len(codes)]
                passing = worth if keep is None else torch.where(keep[b][: len(codes)], worth, 0.0)
                for read, pushed in block.push_back(codes.valued(passing), x).items():
                    way.put(read, pushed[None])
    later = view.n_tokens - down.shape[1]  # positions after the target, which it cannot depend on
    return effects, pad(down[0], (0, 0, 0, later))
