"""A dictionary against the world that it was trained on.

The measures of SynthSAEBench (2602.14687), as its code computes them: matching by cosine of directions, each latent as
a detector of the feature that it is nearest to, and reconstruction. They ask for different things: a dictionary can
reconstruct well with directions that are no feature's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from hooke.errors import HookeError
from hooke.truth.world.make import World
from hooke.truth.world.samples import Drawn, draw

AT_ONCE = {"cpu": 2**24, "cuda": 2**28}  # features and latents of all samples in one batch


def scores(
    world: World,
    decoder: Tensor,
    encode: Callable[[Tensor], Tensor],
    n: int,
    seed: int,
    offset: Tensor | None = None,
) -> dict[str, float]:
    """How well a dictionary found the features of a world, on n new samples.

    decoder: (m, d), what one unit of each latent writes. encode: samples (rows, d) to codes (rows, m) with their zeros.
    offset: (d,), what is added to every reconstruction; none means zero.

    f1, precision, recall: of each latent (code not zero) as a detector of the feature whose direction is nearest by
    |cosine|, mean over latents; 0 where nothing is detected. mcc: mean |cosine| of the best pairing of latents with
    features, one to one. uniqueness: how many features are nearest to some latent, over the number of latents. dead:
    share of latents that never fire here. l0, true_l0: how many latents and features fire in a sample.
    explained_variance: 1 - Σ|x - x̂|² / Σ|x - x̄|² over all samples. shrinkage: mean |x̂| / |x|. cosine: mean of x and
    x̂. reconstruction_bias: E|x̂|² / E[x·x̂].

    Raises HookeError for shapes that do not fit and for codes that are not finite.
    """
    return scores_of(world, decoder, lambda drawn: encode(drawn.x), n, seed, offset)


def scores_of(
    world: World,
    decoder: Tensor,
    coding: Callable[[Drawn], Tensor],
    n: int,
    seed: int,
    offset: Tensor | None = None,
) -> dict[str, float]:
    """`scores` of codes that may be taken from the truth itself."""
    m = len(decoder)
    if decoder.shape != (m, world.size.d) or m == 0 or n < 1:
        raise HookeError(f"a dictionary of this world has rows of {world.size.d}, not {tuple(decoder.shape)}")
    decoder = decoder.detach().to(world.directions)
    offset = world.bias.new_zeros(world.size.d) if offset is None else offset.detach().to(world.bias)
    near = nearest(decoder, world.directions)
    kept = _Kept.empty(m, world.size.d, world.device)
    generator = torch.Generator(world.device).manual_seed(seed)
    step = max(1, AT_ONCE.get(world.device.type, AT_ONCE["cuda"]) // (world.size.n_features + 2 * m))
    with torch.no_grad():
        for start in range(0, n, step):
            drawn = draw(world, min(step, n - start), generator)
            codes = coding(drawn)
            if codes.shape != (len(drawn.x), m):
                raise HookeError(f"codes of {len(drawn.x)} samples in {m} latents are not {tuple(codes.shape)}")
            codes = codes.to(decoder)
            kept.add(drawn, codes, codes @ decoder + offset, drawn.fires(world.size.n_features)[:, near.best])
    found = {**kept.detection(), **kept.reconstruction(n), "mcc": near.mcc, "uniqueness": near.uniqueness}
    if not torch.isfinite(torch.tensor(list(found.values()), dtype=torch.float64)).all():
        raise HookeError("this dictionary gives codes or reconstructions that are not finite")
    return found


class Nearest(NamedTuple):
    """How directions match: best: (m,), the feature nearest to each latent."""

    best: Tensor
    mcc: float
    uniqueness: float


def nearest(decoder: Tensor, directions: Tensor) -> Nearest:
    """decoder: (m, d). directions: (F, d). Memory: some four times (m, F) in single precision."""
    cosine = (unit(decoder) @ unit(directions).T).abs()
    best = cosine.argmax(1)
    at = linear_sum_assignment(cosine.cpu().numpy(), maximize=True)
    rows, columns = (torch.from_numpy(index).to(cosine.device) for index in at)
    return Nearest(best, float(cosine[rows, columns].mean()), len(best.unique()) / len(best))


def unit(rows: Tensor) -> Tensor:
    """Rows of length 1; those of length zero stay."""
    return rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-8)


class _Kept(NamedTuple):
    """Sums over samples: of latents (m,), whole numbers; of x (d,) and of squares and ratios, in double precision."""

    fired: Tensor
    there: Tensor  # the feature nearest to the latent fires
    both: Tensor
    x: Tensor
    sums: Tensor  # |x|², |x - x̂|², |x̂|², x·x̂, |x̂|/|x|, cosine, features that fire

    @classmethod
    def empty(cls, m: int, d: int, device: torch.device) -> _Kept:
        fired, there, both = torch.zeros(3, m, dtype=torch.long, device=device)
        wide = torch.float64
        return cls(
            fired, there, both, torch.zeros(d, dtype=wide, device=device), torch.zeros(7, dtype=wide, device=device)
        )

    def add(self, drawn: Drawn, codes: Tensor, back: Tensor, there: Tensor) -> None:
        on = codes != 0
        self.fired.add_(on.sum(0))
        self.there.add_(there.sum(0))
        self.both.add_((on & there).sum(0))
        x, back = drawn.x.double(), back.double()
        self.x.add_(x.sum(0))
        long, short, inner = x.norm(dim=1), back.norm(dim=1), (x * back).sum(1)
        cosine = inner / (long * short).clamp(min=1e-12)
        ratio = short / long.clamp(min=1e-12)
        per_sample = (long.square(), (x - back).square().sum(1), short.square(), inner, ratio, cosine)
        fires = torch.tensor(float(len(drawn.rows)), dtype=torch.float64, device=x.device)
        self.sums.add_(torch.stack([*(value.sum() for value in per_sample), fires]))

    def detection(self) -> dict[str, float]:
        fired, there, both = self.fired.double(), self.there.double(), self.both.double()
        return {
            "f1": float((2 * both / (fired + there).clamp(min=1)).mean()),
            "precision": float((both / fired.clamp(min=1)).mean()),
            "recall": float((both / there.clamp(min=1)).mean()),
            "dead": float((fired == 0).double().mean()),
        }

    def reconstruction(self, n: int) -> dict[str, float]:
        square, error, back, inner, ratio, cosine, fires = self.sums.tolist()
        variance = square - float(self.x.square().sum()) / n
        return {
            "explained_variance": 1 - error / max(variance, 1e-12),
            "shrinkage": ratio / n,
            "cosine": cosine / n,
            "reconstruction_bias": back / inner if inner else 0.0,
            "l0": float(self.fired.sum()) / n,
            "true_l0": fires / n,
        }
