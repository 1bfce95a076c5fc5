"""How well a site is reconstructed: sums over all tokens, by passage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from hooke.dictionaries.coder import Coder
from hooke.errors import HookeError
from hooke.methods.evaluate.estimates import Estimate, Formula, draws, estimate
from hooke.methods.evaluate.measures import DICTIONARY, METRICS, Measured
from hooke.methods.evaluate.seen import Seen, seen
from hooke.methods.evaluate.standins import Fitted
from hooke.methods.evaluate.texts import Pieces, batched
from hooke.methods.progress import Tick
from hooke.model import Model
from hooke.model.budget import pass_tokens

# columns of the sums of one stand-in; behind them those of y - c by coordinate, c being a fixed centre
N, ERROR, DOT, SQUARE, LENGTH, OWN_LENGTH, COSINE, FIRED, FAR, FIRST = range(10)


def reconstruction(model: Model, fits: Sequence[Fitted], pieces: Pieces, *, seed: int, tick: Tick) -> list[Measured]:
    """L0, dead features, explained variance, cosine, length kept and relative bias of every target.

    Raises HookeError where a site does not vary.
    """
    parts = [_Sums(fit, pieces.n_documents) for fit in fits]
    sites = sorted({site for fit in fits for site in fit.reads})
    done = 0
    for batch in batched(model, pieces, pass_tokens(model)):
        x = seen(model, batch, sites)
        for part in parts:
            part.add(x, batch.document)
        done += len(batch.document)
        tick(done / pieces.n_tokens)
    drawn = draws(pieces.n_documents, seed)
    found = [Measured(METRICS[name], "passages", {}) for name in FORMULAS]
    l0, dead = Measured(METRICS["l0"], "passages", {}), Measured(METRICS["dead"], "", {})
    for part in parts:
        name, arrays = part.fit.target.name, part.arrays()
        whole = arrays[DICTIONARY].sum(0)
        if not _variance(whole) > 1e-12 * max(1.0, float(whole[FAR])):
            raise HookeError(f"{name} does not vary over the text, so there is nothing to explain; give other --text")
        for measure, formula in zip(found, FORMULAS.values()):
            measure.rows[name] = {key: estimate(sums, formula, drawn) for key, sums in arrays.items()}
        l0.rows[name] = {key: Estimate(part.fit.standins[key].size) for key in arrays if key in SPARSE}
        l0.rows[name][DICTIONARY] = estimate(arrays[DICTIONARY], lambda s: s[..., FIRED] / s[..., N], drawn)
        dead.rows[name], dead.raw[name] = part.dead(), {"tokens": float(pieces.n_tokens)}
    return [l0, dead, *found]


SPARSE = (DICTIONARY, "random_decoder", "untrained", "neurons", "pca")


@dataclass(eq=False)
class _Sums:
    """What is added up of one target. sums: by stand-in (passages, FIRST). far: (passages, width). fired: by block,
    (n_features,) whether each ever fired."""

    fit: Fitted
    n_documents: int
    sums: dict[str, Tensor] = field(default_factory=dict)
    far: Tensor | None = None
    fired: dict[int, Tensor] = field(default_factory=dict)

    def add(self, x: Seen, document: Tensor) -> None:
        """Add the tokens of one batch; document: (n,)."""
        y = x.values[self.fit.target.site]
        away = (y - self.fit.mean).double()
        fires = sum((x.code(b).entries.offsets.diff() for b in self.fit.target.own), document.new_zeros(len(y)))
        for block in (*self.fit.target.own, *self.fit.untrained):
            self._mark(block, x)
        for name, standin in self.fit.standins.items():
            made = standin.make(x)
            lengths, own, dot = made.norm(dim=1), y.norm(dim=1), (made * y).sum(1)
            cosine = dot / (lengths * own).clamp(min=1e-30)
            error = (y - made).square().sum(1)
            columns = (
                torch.ones_like(own),
                error,
                dot,
                lengths.square(),
                lengths,
                own,
                cosine,
                fires,
                away.square().sum(1),
            )
            part = torch.stack([column.double() for column in columns], 1)
            total = self.sums.setdefault(name, part.new_zeros(self.n_documents, FIRST))
            total.index_add_(0, document, part)
        if self.far is None:
            self.far = away.new_zeros(self.n_documents, away.shape[1])
        self.far.index_add_(0, document, away)

    def _mark(self, block: Coder, x: Seen) -> None:
        ids = x.code(block).entries.ids
        self.fired.setdefault(id(block), torch.zeros(block.n_features, dtype=torch.bool, device=ids.device))[ids] = True

    def arrays(self) -> dict[str, np.ndarray]:
        """By stand-in, (passages, FIRST + width)."""
        assert self.far is not None
        return {name: torch.cat([part, self.far], 1).cpu().numpy() for name, part in self.sums.items()}

    def dead(self) -> dict[str, Estimate]:
        """Share of features that never fired."""
        both = {DICTIONARY: self.fit.target.own, "untrained": self.fit.untrained}
        masks = {name: [self.fired[id(block)] for block in blocks] for name, blocks in both.items() if blocks}
        return {name: Estimate(float((~torch.cat(some)).float().mean())) for name, some in masks.items()}


def _variance(s: np.ndarray) -> np.ndarray:
    found: np.ndarray = s[..., FAR] - np.square(s[..., FIRST:]).sum(-1) / s[..., N]
    return found


FORMULAS: dict[str, Formula] = {
    "explained_variance": lambda s: 1 - s[..., ERROR] / _variance(s),
    "cosine": lambda s: s[..., COSINE] / s[..., N],
    "shrinkage": lambda s: s[..., LENGTH] / s[..., OWN_LENGTH],
    "relative_bias": lambda s: s[..., SQUARE] / s[..., DOT],
}
