"""One shard of a plan: all sites of its tokens from one forward pass, shuffled, and the same each time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hooke.errors import HookeError
from hooke.harvest.batches import batches, steady_tokens
from hooke.harvest.plans import Plan, Progress
from hooke.kernels import exact_products
from hooke.model import Model
from hooke.model.budget import budget
from hooke.model.edits import SQUARE
from hooke.model.hooks import check_site
from hooke.model.run import Tokens
from hooke.sites import Site, sites_in


@dataclass(eq=False)
class Activations:
    """The tokens of a shard, shuffled, and what was read of each.

    values: by site (n, width). ids, document, position: (n,) int32, the token, the passage it stands in (a number in
    `Plan.sources`), and where in that passage, without special tokens.
    """

    values: dict[Site, Tensor]
    ids: Tensor
    document: Tensor
    position: Tensor

    def __len__(self) -> int:
        return len(self.ids)


class Batch(NamedTuple):
    """Some pieces that are run together.

    ids: (rows, width), padding on the right. mask: where they are tokens. keep: (m,) which entries of ids, row by row,
    are kept, and at: (m,) the rows of the shard where they go. pieces: which of the plan each row is.
    """

    ids: Tensor
    mask: Tensor
    keep: Tensor
    at: Tensor
    pieces: list[int]


def shard(
    model: Model,
    plan: Plan,
    number: int,
    sites: Sequence[Site | str],
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> Activations:
    """Run the pieces of one shard and keep what is at sites, in one pass that goes no further than the last of them.

    Rows are shuffled by the plan's seed and the number of the shard. The same shard comes out the same to the last bit
    on the same kind of device, on a processor with the same number of threads: how much runs together is a matter of
    the plan and the model, never of free memory.
    dtype: of the values. device: where they are kept; None is where the model is.
    Raises HookeError for a site that the model lacks or that is no vector a token, and for what would not fit.
    """
    wanted = widths(model, sites)
    where = model.device if device is None else torch.device(device)
    n = plan.kept(number)
    _fits(n * sum(wanted.values()) * dtype.itemsize, where)
    values = {site: torch.empty(n, width, dtype=dtype, device=where) for site, width in wanted.items()}
    rows = rows_of(plan, number)
    done = 0
    with exact_products():
        for batch in batches_of(model, plan, number):
            run_batch(model, batch, values)
            done += len(batch.keep)
            if progress is not None:
                progress(done / n)
    return Activations(values, *(torch.from_numpy(part).to(where) for part in rows))


def run_batch(model: Model, batch: Batch, values: dict[Site, Tensor]) -> None:
    """Run some pieces and put what is at the sites of `values` into its rows."""
    where = next(iter(values.values())).device
    keep = batch.keep.to(model.device)
    at = batch.at.to(where)

    def tap(out: Tensor) -> Callable[[Tensor], Tensor]:
        def put(x: Tensor) -> Tensor:
            out.index_copy_(0, at, x.reshape(-1, out.shape[1]).index_select(0, keep).to(out))
            return x

        return put

    model.run(tokens_of(model, batch), read=[max(values)], taps={s: tap(out) for s, out in values.items()}, logits=None)


def tokens_of(model: Model, batch: Batch) -> Tokens:
    """What is run. What stands on the right changes nothing on the left, so padding needs no mask, which would cost
    time, unless the model turns its keys by how many tokens there are."""
    mask = batch.mask if model.parts.rotary.modules else torch.ones_like(batch.mask)
    return Tokens(batch.ids.to(model.device), mask.to(model.device))


def widths(model: Model, sites: Sequence[Site | str]) -> dict[Site, int]:
    """How many numbers a token has at each site, in the order of the pass.

    Raises HookeError for no site, one that the model lacks, and patterns, which are no vector a token.
    """
    parts = model.parts
    if not (wanted := sorted(set(sites_in(sites)))):
        raise HookeError("no site is given; name one, such as resid_post.0")
    for site in wanted:
        check_site(parts, site)
        if site.point in SQUARE:
            raise HookeError(f"{site} holds a value for each two tokens; harvests are of sites with a vector a token")
    return {site: parts.width(site) for site in wanted}


def timed(model: Model, plan: Plan, sites: Sequence[Site | str]) -> float:
    """About how many seconds a plan takes, by the time of one of its batches, which is run twice."""
    *_, batch = batches_of(model, plan, 0)  # the last has the longest pieces, as most have
    values = {site: torch.empty(plan.kept(0), width, dtype=model.dtype) for site, width in widths(model, sites).items()}
    for _ in range(2):
        start = time.perf_counter()
        run_batch(model, batch, values)
        spent = time.perf_counter() - start
    return spent * plan.n_tokens / len(batch.keep)


def batches_of(model: Model, plan: Plan, number: int, *, every: int = 1) -> Iterator[Batch]:
    """The batches of a shard, pieces of like length together. every: only each so manieth piece of the plan."""
    pieces = plan.shards[number]
    lengths = np.diff(plan.offsets[pieces.start : pieces.stop + 1])
    first = np.concatenate([[0], np.cumsum(lengths - plan.skip)])
    place = np.argsort(_order(plan, number))  # where each token goes
    own = [i for i in range(len(pieces)) if (pieces.start + i) % every == 0]
    for part in batches(lengths[own].tolist(), tokens=steady_tokens(model)):
        group = [own[i] for i in part]
        rows = [plan.piece(pieces.start + i) for i in group]
        ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
        mask = np.zeros(ids.shape, bool)
        for row, tokens in enumerate(rows):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = True
        keep = mask.copy()
        keep[:, : plan.skip] = False
        at = np.concatenate([place[first[i] : first[i + 1]] for i in group])
        kept = torch.from_numpy(np.flatnonzero(keep))
        numbers = [pieces.start + i for i in group]
        yield Batch(torch.from_numpy(ids), torch.from_numpy(mask), kept, torch.from_numpy(at), numbers)


def _order(plan: Plan, number: int) -> np.ndarray:
    """(n,) which token of the shard, in the order of its pieces, stands in each row."""
    return np.random.default_rng([plan.seed, number]).permutation(plan.kept(number))


def rows_of(plan: Plan, number: int) -> list[np.ndarray]:
    """ids, document and position of the rows of a shard, (n,) int32 each."""
    pieces = plan.shards[number]
    order = _order(plan, number)
    lengths = np.diff(plan.offsets[pieces.start : pieces.stop + 1])
    inside = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)  # where in its piece
    own = inside >= plan.skip
    start = np.repeat(plan.start[pieces.start : pieces.stop], lengths)
    ids = plan.ids[plan.offsets[pieces.start] : plan.offsets[pieces.stop]]
    document = np.repeat(plan.document[pieces.start : pieces.stop], lengths)
    position = start + inside - plan.skip
    return [part[own][order].astype(np.int32) for part in (ids, document, position)]


def _fits(size: int, device: torch.device) -> None:
    free = budget(device).free
    if size > free:
        raise HookeError(
            f"a shard takes {size / 2**30:.1f} GB and {free / 2**30:.1f} GB are free; ask for smaller shards, fewer "
            "sites, or a smaller dtype"
        )
