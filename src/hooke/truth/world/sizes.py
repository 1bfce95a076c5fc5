"""What a world is made of, as data. No torch.

SynthSAEBench (Chanin and Garriga-Alonso, 2602.14687) names the parts; the numbers of `full` are those of its
SynthSAEBench-16k. `small` has 5/64 of its features, trees and latents in a sixth of its dimensions: few enough that one
core trains a dictionary on half a million samples in half a minute, and about as hard: a supervised probe gets as far.
"""

from __future__ import annotations

from typing import NamedTuple


class Size(NamedTuple):
    """Features are numbered by how often they are meant to fire: first the roots of all trees, then level by level
    their children, then those that belong to no tree."""

    n_features: int
    d: int  # dimensions that they share
    roots: int
    latents: int  # of a dictionary that is trained on it
    k: int  # of these, per sample: about as many as fire of the `latents` most frequent features
    branching: int = 4  # children of a feature that has any; at most one fires
    depth: int = 3  # levels of children
    most: float = 0.4  # how often the most frequent feature fires,
    least: float = 5e-4  # and the least frequent
    exponent: float = 0.5  # of the rank, in between (Zipf)
    rank: int = 25  # directions along which features fire together,
    correlation: float = 0.1  # and the standard deviation of a feature's weights on them
    first: float = 5.0  # mean strength of the most frequent feature when it fires,
    last: float = 4.0  # and of the least frequent; linear in between
    spread: tuple[float, float] = (0.5, 0.5)  # a feature's own standard deviation is |N(mean, standard deviation)|
    bias: float = 0.5  # length of what is added to every sample
    steps: int = 100  # of Adam, that make directions more orthogonal,
    rate: float = 3e-4  # and their learning rate

    @property
    def levels(self) -> list[tuple[int, int]]:
        """First and last feature + 1 of each level of the trees, roots first."""
        found, start, count = [], 0, self.roots
        for _ in range(self.depth + 1):
            found.append((start, start + count))
            start, count = start + count, count * self.branching
        return found


SIZES = {
    "small": Size(n_features=1280, d=128, roots=10, latents=320, k=6),
    "full": Size(n_features=16_384, d=768, roots=128, latents=4096, k=25),
}
