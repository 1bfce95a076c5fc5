"""`Dictionary`: one encoder block, and the calls that every kind of it answers.

MLP neurons, an SAE, a transcoder, a probe and a steering vector all answer the same calls, so an
attribution graph is drawn in any of them by one code path. A per-layer set is a tuple of blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

import torch
from torch import Tensor

from hooke.dictionaries.codes import Codes
from hooke.model import Edit, Model, Tokens
from hooke.model.budget import budget
from hooke.sites import Site

STEP = 1e-3  # of finite differences, of what is read
Values = Mapping[Site, Tensor]  # by read site: (pos, width) of a prompt, or (n, width) at the places of n features


class Dictionary(Protocol):
    """One encoder block of a dictionary of features.

    Contract, tested on every implementation by `check_dictionary`: for a feature i active at x, the sum over read
    sites of `reader(i, x) · x`, plus its constant, is the value that edges into i sum to; `decode` is `offset` plus
    the sum of codes times writers. A class that names `Dictionary` as its base gets the calls that have a body here;
    the neurons have faster ones of their own.
    """

    reads: tuple[Site, ...]  # several for a joint encoder
    writes: tuple[Site, ...]
    n_features: int
    hash: str  # identifies the dictionary in results
    skips: bool = False  # whether its offset depends on what it reads, as with a skip connection

    def encode(self, x: Values) -> Codes:
        """Values at the read sites, each (pos, width), to codes."""
        ...

    def reader(self, ids: Tensor, at: Values) -> tuple[dict[Site, Tensor], Tensor]:
        """Readers (n, width) at each read site and constants (n,) of features `ids` (n,), held at read values."""
        ...

    def slopes(self, ids: Tensor, at: Values) -> dict[Site, Tensor]:
        """(n, width) at each read site: how the values of features change with what is read, at read values; of a gated
        feature, how what its gate is asked for does."""
        return self.reader(ids, at)[0]

    def writer(self, ids: Tensor, site: Site, at: Values) -> Tensor:
        """(n, width): what one unit of each feature writes at `site`, held at read values (n, width)."""
        ...

    def offset(self, site: Site, x: Values) -> Tensor | None:
        """(pos, width): what `decode` writes at `site` with all features at zero; None for nothing."""
        return None

    def pull_offset(self, site: Site, cotangent: Tensor, x: Values) -> dict[Site, Tensor]:
        """The transpose of what `offset` takes from the read sites, as a skip connection does: a cotangent at `site`
        (… pos width) to read sites. Only asked of a dictionary that `skips`."""
        return {}

    def decode(self, codes: Codes, x: Values) -> dict[Site, Tensor]:
        """Codes to what the dictionary writes, each (pos, width)."""
        out = {}
        for site in self.writes:
            offset = self.offset(site, x)
            first = x[self.reads[0]]
            total = torch.zeros_like(first) if offset is None else offset.clone()
            for part in _steps(codes, x):
                at = codes.positions[part]
                rows = self.writer(codes.ids[part], site, {s: y[at] for s, y in x.items()}).to(total.dtype)
                total.index_add_(0, at, rows * codes.values[part, None].to(total.dtype))
            out[site] = total
        return out

    def effects(self, codes: Codes, site: Site, cotangent: Tensor, x: Values) -> Tensor:
        """(… n): what one unit of each entry of the codes is worth, of a cotangent at `site` (… pos width)."""
        out = cotangent.new_zeros(*cotangent.shape[:-2], len(codes))
        ids = codes.ids
        for p, here in codes.by_position():
            at = {s: y[p].expand(here.stop - here.start, -1) for s, y in x.items()}
            out[..., here] = cotangent[..., p, :] @ self.writer(ids[here], site, at).to(cotangent.dtype).T
        return out

    def push_back(self, cotangent: Codes, x: Values) -> dict[Site, Tensor]:
        """Cotangents on features (as values of codes) to the read sites, each (pos, width): the sum of cotangent times
        reader, held at the read values (pos, width)."""
        out = {site: torch.zeros_like(x[site]) for site in self.reads}
        for part in _steps(cotangent, x):
            at = cotangent.positions[part]
            readers, _ = self.reader(cotangent.ids[part], {s: y[at] for s, y in x.items()})
            for site, rows in readers.items():
                out[site].index_add_(0, at, rows * cotangent.values[part, None])
        return out

    def edits(self, ids: Tensor, value: Tensor | float, positions: Tensor | None = None) -> list[Edit]:
        """Edits that set features `ids` (n,) to `value` in a live run: everywhere, or feature i at
        positions[i] (one feature by itself: at each of them). What the dictionary does not
        reconstruct stays as it is."""
        index = ids if positions is None else (positions, ids.expand(len(positions)) if len(ids) == 1 else ids)
        return [Edit(site, "feature", value, index=index, feature=(self, "set")) for site in sorted(self.writes)]

    def hold(self, entries: Codes, weight: Tensor, values: Tensor | None = None) -> list[Edit]:
        """Edits that move entries of a prompt to their values by weight ([row,] n), 0 (it stays live) to 1, and set all
        other features to zero. values: ([row,] n) instead of theirs."""
        index, value = (entries.positions, entries.ids), entries.values if values is None else values
        return [
            Edit(site, "feature", value, index=index, weight=weight, feature=(self, "hold"))
            for site in sorted(self.writes)
        ]


def _steps(codes: Codes, x: Values) -> Iterator[slice]:
    """Entries whose readers or writers are there at once."""
    widest = max(y.shape[-1] * y.itemsize for y in x.values())
    step = budget(codes.values.device).fit(8 * widest)
    return (slice(start, start + step) for start in range(0, len(codes), step))


def check_dictionary(dictionary: Dictionary, x: Values, *, atol: float = 1e-4) -> None:
    """Prove the contract on values at the read sites (pos, width). Raises AssertionError saying what fails.

    atol is relative to the largest value compared, or absolute where that is under 1.
    """
    codes, first = dictionary.encode(x), x[dictionary.reads[0]]
    assert codes.shape == (len(first), dictionary.n_features), f"codes have the shape {codes.shape}"
    assert bool((codes.values != 0).all()), "codes hold features that are not active"
    positions, ids = codes.positions, codes.ids
    at = {site: x[site][positions] for site in dictionary.reads}
    readers, consts = dictionary.reader(ids, at)
    assert set(readers) == set(dictionary.reads), f"readers are of {sorted(readers)}, not of the read sites"
    edges = sum((readers[site] * at[site]).sum(-1) for site in readers) + consts
    _same(edges, codes.values, atol, "reader · x + const differs from the value")
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(first)

    decoded = dictionary.decode(codes, x)
    assert set(decoded) == set(dictionary.writes), f"decode gives {sorted(decoded)}, not the written sites"
    for site, whole in decoded.items():
        writers = dictionary.writer(ids, site, at).to(whole.dtype)
        total = torch.zeros_like(whole).index_add(0, positions, writers * codes.values[:, None])
        offset = dictionary.offset(site, x)
        total = total if offset is None else total + offset
        _same(total, whole, atol, f"decode differs from the sum of writers at {site}")
        cotangent = random(2, *whole.shape)
        expected = torch.stack([(writers * each[positions]).sum(-1) for each in cotangent])
        _same(dictionary.effects(codes, site, cotangent, x), expected, atol, f"effects differ from writers at {site}")
        step = {s: random(*y.shape) for s, y in x.items()}
        ends = [dictionary.offset(site, {s: y + h * step[s] for s, y in x.items()}) for h in (STEP, -STEP)]
        moved = [(cotangent[0] * end).sum() for end in ends if end is not None]
        change = (moved[0] - moved[1]) / (2 * STEP) if moved else torch.zeros(())
        pulled = dictionary.pull_offset(site, cotangent[0], x) if dictionary.skips else {}
        _same(
            sum((pulled[s] * step[s]).sum() for s in pulled) + torch.zeros_like(change),
            change, atol * 10, f"pull_offset is not the transpose of offset at {site}",
        )  # fmt: skip
    worth = codes.valued(random(len(codes)))
    for site, pushed in dictionary.push_back(worth, x).items():
        expected = torch.zeros_like(x[site]).index_add(0, positions, readers[site] * worth.values[:, None])
        _same(pushed, expected, atol, f"push_back differs from the sum of readers at {site}")


def check_edits(dictionary: Dictionary, model: Model, tokens: Tokens, *, atol: float = 1e-4) -> None:
    """Prove on a live run that `edits` moves what a dictionary writes by the change of its features times their
    writers, and nothing else, at positions and everywhere. Raises AssertionError saying what fails.

    tokens: one prompt. The dictionary must not read later than it writes.
    """
    clean = model.run(tokens, read=dictionary.reads).acts
    x = {site: clean[site][0] for site in dictionary.reads}
    codes, n_pos = dictionary.encode(x), tokens.ids.shape[1]
    picked = torch.linspace(0, len(codes) - 1, 3).long().unique()
    ids, positions = codes.ids[picked], codes.positions[picked]
    value = codes.values[picked] * -0.5 + 0.7
    everywhere = torch.arange(n_pos, device=ids.device).repeat_interleave(len(ids.unique()))
    cases = {
        "at positions": (ids, positions, value, dictionary.edits(ids, value, positions)),
        "everywhere": (
            ids.unique().repeat(n_pos), everywhere, value.new_full((len(everywhere),), 0.3),
            dictionary.edits(ids.unique(), 0.3),
        ),
    }  # fmt: skip
    for where, (which, at, goal, edits) in cases.items():
        change = goal - codes.at(at, which)
        adds = []
        for site in dictionary.writes:
            rows = dictionary.writer(which, site, {s: y[at] for s, y in x.items()}).to(change.dtype)
            step = torch.zeros_like(next(iter(x.values()))).index_add(0, at, rows * change[:, None])
            adds.append(Edit(site, "add", step))
        found, expected = (model.run(tokens, edits=made, read=dictionary.writes) for made in (edits, adds))
        for site in dictionary.writes:
            _same(found.acts[site], expected.acts[site], atol, f"an edit {where} is not the change of {site}")
        assert found.logits is not None and expected.logits is not None
        _same(found.logits, expected.logits, atol, f"an edit {where} changes something else")


def _same(a: Tensor, b: Tensor, atol: float, what: str) -> None:
    if not a.numel():
        return
    worst = float((a - b).abs().max()) / max(1.0, float(b.abs().max()))
    if not worst <= atol:  # also catches NaN
        raise AssertionError(f"{what} by {worst:.2g}")
