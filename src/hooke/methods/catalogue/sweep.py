"""The pass over text: every shard of a plan once, all blocks of features together, gone on with after an interruption.

How much features matter is measured on the way, on each EVERY-th piece: the mean of |a · ∂L/∂a| over tokens, L the sum
of -log p of the tokens that follow in the piece (attribution: what the loss would change by if the feature were
silenced, were the model straight).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from hooke.dictionaries import Codes, Dictionary, Neurons
from hooke.dictionaries.coder import Coder
from hooke.harvest import Plan
from hooke.harvest.stream import Batch, batches_of, tokens_of
from hooke.kernels import exact_products
from hooke.methods.catalogue.tally import Seen, Tally, add, nothing, peaks_of
from hooke.methods.catalogue.windows import AFTER, ASIDE, BEFORE, LONG, WIDE, Windows
from hooke.methods.progress import Tick
from hooke.model import Edit, Model
from hooke.sites import Site

EVERY = 8


@dataclass(eq=False)
class Swept:
    """What is known after some shards: of each block what is kept, and the sums of effects (sides of features,)."""

    kept: list[Tally]
    effect: list[Tensor]
    tokens: int = 0  # that effects are of
    shard: int = 0  # the next one


def sides(block: Dictionary) -> int:
    """2 where features can be negative, else 1."""
    return 1 if isinstance(block, Coder) and block.gate != "abstopk" else 2


def sparse(block: Dictionary) -> bool:
    """Whether a feature is silent on most tokens."""
    return isinstance(block, Coder)


def begun(blocks: Sequence[Dictionary], kinds: int) -> Swept:
    rows = [sides(block) * block.n_features for block in blocks]
    kept = [nothing(n, kinds, LONG, ASIDE) for n in rows]
    return Swept(kept, [torch.zeros(n, dtype=torch.float64) for n in rows])


def next_shard(model: Model, blocks: Sequence[Dictionary], wins: Windows, swept: Swept, tick: Tick) -> None:
    """Run one shard more."""
    number, plan = swept.shard, wins.plan
    tick(0.0)
    done, total = 0, plan.kept(number)
    with exact_products():
        for n, batch in enumerate(batches_of(model, plan, number)):
            _forward(model, blocks, wins, swept, batch, [plan.seed, number, n])
            done += len(batch.keep)
            tick(0.75 * done / total)
        for batch in batches_of(model, plan, number, every=EVERY):
            _effects(model, blocks, plan, swept, batch)
    swept.shard += 1
    tick(1.0)


# ---- forward ------------------------------------------------------------------------------------


def sites_of(block: Dictionary) -> tuple[Site, ...]:
    """Where its activations come from."""
    return (block.site,) if isinstance(block, Neurons) else block.reads


def activations(block: Dictionary, read: Mapping[Site, Tensor]) -> Tensor:
    """(tokens, n_features) of values (tokens, width) at `sites_of`."""
    if isinstance(block, Neurons):
        return read[block.site].float()
    assert isinstance(block, Coder)
    return block.dense({site: read[site].to(block.bias.dtype) for site in block.reads}).float()


def _forward(
    model: Model, blocks: Sequence[Dictionary], wins: Windows, swept: Swept, batch: Batch, seed: list[int]
) -> None:
    wanted = sorted({site for block in blocks for site in sites_of(block)})
    grid, counted, near, token, kind, place = _laid_out(wins, batch)
    run = model.run(tokens_of(model, batch), read=wanted, logits=None)
    values = {site: x.flatten(0, 1).flatten(1) for site, x in run.acts.items()}
    for b, (block, kept) in enumerate(zip(blocks, swept.kept, strict=True)):
        x = activations(block, values).cpu()
        peaks, at = peaks_of(x, grid, sides(block))
        generator = torch.Generator().manual_seed(int(np.random.default_rng([*seed, b]).integers(2**62)))
        add(kept, x, counted, Seen(peaks, at, near, token, kind, place), generator, sides(block))


def _laid_out(wins: Windows, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Of a batch, its tokens counted row by row: grid (w, WIDE) of windows; which tokens count; what is near each;
    which token of the plan each is; the kind of each window; where each is set aside."""
    plan, width = wins.plan, batch.ids.shape[1]
    token = np.zeros(batch.ids.numel(), np.int32)
    near = np.full((batch.ids.numel(), LONG), -1, np.int64)
    grid, kind, place, counted = [], [], [], []
    for row, piece in enumerate(batch.pieces):
        first, length = int(plan.offsets[piece]), len(plan.piece(piece))
        here = row * width - first
        own = np.arange(length)
        token[row * width + own] = first + own
        around = own[:, None] + np.arange(-BEFORE, AFTER + 1)
        near[row * width + own] = np.where((around >= plan.skip) & (around < length), around + row * width, -1)
        counted.append(np.arange(row * width + plan.skip + (plan.skip == 0), row * width + length))
        for number, window in enumerate(wins.of(piece)):
            told = np.full(WIDE, -1, np.int64)
            told[: len(window)] = np.where(wins.told[window], window + here, -1)
            if (told >= 0).any():
                grid.append(told)
                kind.append(wins.kinds.index(int(wins.kind[piece])))
                place.append(wins.aside.get((piece, number), -1))
    arrays = [np.array(grid, np.int64).reshape(-1, WIDE), np.concatenate(counted), near, token]
    return (*(torch.from_numpy(x) for x in arrays), torch.tensor(kind, dtype=torch.long), torch.tensor(place))  # type: ignore


# ---- effects ------------------------------------------------------------------------------------


def _effects(model: Model, blocks: Sequence[Dictionary], plan: Plan, swept: Swept, batch: Batch) -> None:
    """Add |a · ∂L/∂a| of every feature over the tokens of some pieces."""
    reads = sorted({site for block in blocks for site in (*sites_of(block), *block.reads)})
    writes = sorted({site for block in blocks for site in block.writes})
    held = [Edit(site, "add", 0.0) for site in writes]  # so that what is differentiated stands on the way
    run = model.run(tokens_of(model, batch), read=[*reads, *writes], edits=held, grad=True)
    assert run.logits is not None
    own = batch.mask.to(run.logits.device)
    follows = own[:, 1:] & own[:, :-1]
    loss = cross_entropy(run.logits[:, :-1][follows].float(), batch.ids.to(own.device)[:, 1:][follows], reduction="sum")
    grads = dict(zip(writes, torch.autograd.grad(loss, [run.acts[site] for site in writes]), strict=True))
    values = {site: run.acts[site].detach().flatten(0, 1).flatten(1) for site in reads}
    counts = own.clone()
    counts[:, : plan.skip + (plan.skip == 0)] = False
    inside = counts.flatten().nonzero()[:, 0]
    values = {site: x[inside] for site, x in values.items()}
    for block, total in zip(blocks, swept.effect, strict=True):
        codes = Codes.of(activations(block, values))
        read = {site: values[site] for site in block.reads}
        worth = sum(
            block.effects(codes, site, grads[site].flatten(0, 1)[inside].to(codes.values.dtype), read)
            for site in block.writes
        )
        effect = (codes.values * worth).abs().double().cpu()
        n = sides(block)
        row = codes.ids.cpu() * n + (codes.values.cpu() < 0 if n == 2 else 0)
        total.index_add_(0, row, effect)
    swept.tokens += len(inside)
