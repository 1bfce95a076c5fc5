"""How features share dimensions: feature dimensionality of a matrix of feature directions.

Elhage and others, Toy models of superposition (2022).
"""

from __future__ import annotations

from torch import Tensor

from hooke.errors import HookeError

# the share of a dimension that each feature has in the geometries that the paper names
PLATEAUS = {
    "own dimension": 1.0,
    "triangle": 2 / 3,
    "antipodal pair": 1 / 2,
    "pentagon": 2 / 5,
    "square antiprism": 3 / 8,
    "not learned": 0.0,
}


def dimensionality(directions: Tensor) -> Tensor:
    """D_i = |W_i|² / Σ_j (Ŵ_i · W_j)², the share of a dimension that feature i has: (features,), from 0 to 1.

    directions: (features, dimensions), the rows W_i. A feature without a direction has 0. The sum of all D_i is
    at most the number of dimensions.
    Raises HookeError unless it is a matrix.
    """
    if directions.ndim != 2:
        raise HookeError(f"feature directions are a matrix (features, dimensions), not {tuple(directions.shape)}")
    norms = directions.pow(2).sum(1)
    overlaps = (directions @ directions.T).pow(2).sum(1)  # |W_i|² Σ_j (Ŵ_i · W_j)²
    return norms.pow(2) / overlaps.clamp(min=1e-12)


def dimensions_per_feature(directions: Tensor) -> float:
    """m / |W|²_F: dimensions over how many features are represented."""
    return directions.shape[1] / float(directions.pow(2).sum())


def nearest_plateau(share: float) -> tuple[str, float]:
    """The named geometry whose dimensionality is nearest, and how far it is."""
    name = min(PLATEAUS, key=lambda name: abs(PLATEAUS[name] - share))
    return name, abs(PLATEAUS[name] - share)
