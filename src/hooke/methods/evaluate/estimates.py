"""Estimates with 95 % intervals, from resamples that everything that is compared shares.

What is drawn are passages (or tasks, or letters), never tokens: the tokens of a passage are not independent. Sums are
drawn and then divided, so that a ratio is one of whole sums; ends are percentiles (`ranking.spread`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hooke.methods.ranking import FEW, RESAMPLES, spread

Formula = Callable[[np.ndarray], np.ndarray]  # sums (…, statistics) to values (…)


@dataclass(frozen=True, eq=False)
class Estimate:
    """A value and its resamples (resamples,) over so many units; None of either where there is none."""

    value: float | None
    each: np.ndarray | None = None
    units: int = 0

    @cached_property
    def interval(self) -> list[float] | None:
        """Both ends; None where units are fewer than five, or half of the resamples have no value."""
        if self.value is None or self.each is None or self.units < FEW:
            return None
        kept = self.each[np.isfinite(self.each)]
        return spread(kept, self.units) if len(kept) > len(self.each) / 2 else None

    def less(self, other: Estimate, sign: float = 1.0) -> Estimate:
        """The difference, paired: both on the same resamples. sign: -1 for the other way round."""
        if self.value is None or other.value is None:
            return Estimate(None)
        each = None if self.each is None else sign * (self.each - (other.value if other.each is None else other.each))
        return Estimate(sign * (self.value - other.value), each, self.units)

    def off(self, from_: float) -> Estimate:
        """How far it is from a number."""
        if self.value is None:
            return self
        return Estimate(abs(self.value - from_), None if self.each is None else np.abs(self.each - from_), self.units)


def draws(n: int, seed: int) -> np.ndarray:
    """(resamples, n): how often each of n units is drawn."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float64)


def estimate(sums: np.ndarray, formula: Formula, drawn: np.ndarray) -> Estimate:
    """A formula of sums over units. sums: (units, statistics). drawn: from `draws`."""
    with np.errstate(invalid="ignore", divide="ignore"):
        value, each = float(formula(sums.sum(0))), formula(drawn @ sums)
    return Estimate(value if np.isfinite(value) else None, each, len(sums))


def mean(parts: Sequence[Estimate]) -> Estimate:
    """The mean of estimates of the same units, those without a value left out."""
    kept = [part for part in parts if part.value is not None]
    if not kept:
        return Estimate(None)
    each = [part.each for part in kept if part.each is not None]
    whole = np.mean(each, axis=0) if len(each) == len(kept) else None
    return Estimate(float(np.mean([part.value for part in kept])), whole, kept[0].units)
