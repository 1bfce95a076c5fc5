"""Ways of finding a direction that tells two classes apart. Each returns (direction, bias) in the data's units.

x: (n, d) float32 activations; y: (n,) 0 or 1. A positive value says label 1.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor

from hooke.errors import HookeError

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)  # C of the logistic regression: the inverse of its L2 penalty


class Linear(NamedTuple):
    """A value direction · x + bias."""

    direction: np.ndarray  # (d,)
    bias: float

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return x @ self.direction + self.bias


def standardised(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each coordinate; a constant one gets deviation 1."""
    deviation = x.std(0)
    return x.mean(0), np.where(deviation < 1e-8, 1.0, deviation).astype(x.dtype)


def _unscaled(direction: np.ndarray, bias: float, mean: np.ndarray, deviation: np.ndarray) -> Linear:
    w = (direction / deviation).astype(np.float32)
    return Linear(w, float(bias - mean @ w))


def logistic_path(x: np.ndarray, y: np.ndarray, strengths: tuple[float, ...] = STRENGTHS) -> list[Linear]:
    """Logistic regression with an L2 penalty on standardised coordinates, one for each C, classes weighing the same.

    From the strongest penalty to the weakest, each starting where the last ended.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    mean, deviation = standardised(x)
    z = (x - mean) / deviation
    model = LogisticRegression(class_weight="balanced", warm_start=True, max_iter=100, tol=1e-3)
    found = []
    # what goes in is checked to be finite; some kernels of products leave a flag up that numpy then takes for theirs
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        warnings.simplefilter("ignore", ConvergenceWarning)  # separable classes have no end at a weak penalty
        for strength in strengths:
            model.set_params(C=strength).fit(z, y)
            found.append(_unscaled(model.coef_[0], float(model.intercept_[0]), mean, deviation))
    return found


def difference_of_means(x: np.ndarray, y: np.ndarray) -> Linear:
    """mean of label 1 less mean of label 0; zero half way between them."""
    one, zero = x[y == 1].mean(0), x[y == 0].mean(0)
    w = one - zero
    return Linear(w, float(-w @ (one + zero) / 2))


def lda(x: np.ndarray, y: np.ndarray) -> Linear:
    """Linear discriminant: inverse covariance within classes, shrunk (Ledoit and Wolf), times the difference."""
    from sklearn.covariance import ledoit_wolf

    one, zero = x[y == 1].mean(0), x[y == 0].mean(0)
    deviation = standardised(x)[1]
    inside = np.where((y == 1)[:, None], x - one, x - zero) / deviation
    covariance, _ = ledoit_wolf(inside, assume_centered=True)
    w = np.linalg.solve(covariance, (one - zero) / deviation) / deviation
    return Linear(w.astype(np.float32), float(-w @ (one + zero) / 2))


def lat(x: np.ndarray, y: np.ndarray, pairs: np.ndarray, *, seed: int = 0) -> Linear:
    """Reading vector (RepE, 2310.01405): the first principal component of paired differences, each with a
    random sign; labels fix the sign and the bias only. pairs: (m, 2) rows of label 1 and of label 0."""
    sign = np.random.default_rng(seed).choice([-1.0, 1.0], len(pairs))[:, None]
    differences = (x[pairs[:, 0]] - x[pairs[:, 1]]) * sign
    w = _principal(differences - differences.mean(0), 1)[:, 0]
    return _signed(w.astype(np.float32), x, y)


def ccs(x: np.ndarray, y: np.ndarray, pairs: np.ndarray, *, seed: int = 0, restarts: int = 10) -> Linear:
    """Contrast-consistent search (2212.03827): σ(w·x + b) of the two sides of a pair should add up to one
    and be sure. Sides are drawn at random and centred; the best of ten starts; labels fix the sign only.

    All starts are trained at once, AdamW 1e-2 with decay over 200 steps, in the 64 principal coordinates of
    the standardised data (the paper trains on all of them, for longer; a probe is tried hundreds of times here).
    """
    generator = torch.Generator().manual_seed(seed)
    swap = np.random.default_rng(seed).random(len(pairs)) < 0.5
    first, second = np.where(swap, pairs[:, 1], pairs[:, 0]), np.where(swap, pairs[:, 0], pairs[:, 1])
    deviation = standardised(x)[1]
    axes = _principal((x - x.mean(0)) / deviation, 64)
    a, b = (((x[i] - x[i].mean(0)) / deviation @ axes).astype(np.float32) for i in (first, second))
    start = torch.randn(a.shape[1], restarts, generator=generator).numpy() / a.shape[1] ** 0.5
    # weights and bias as one array, with AdamW by hand: a step is so small that torch's overhead would be most of it
    w = np.concatenate([start, np.zeros((1, restarts), np.float32)]).astype(np.float32)
    a, b = (np.concatenate([side, np.ones((len(side), 1), np.float32)], axis=1) for side in (a, b))
    m, v, loss = np.zeros_like(w), np.zeros_like(w), np.zeros(restarts)
    for step in range(1, 201):
        p, q = expit(a @ w), expit(b @ w)
        both, p_least = p + q - 1, p <= q
        loss = (both**2 + np.where(p_least, p, q) ** 2).mean(0)
        p_grad = 2 * (both + p * p_least) * p * (1 - p)
        q_grad = 2 * (both + q * ~p_least) * q * (1 - q)
        grad = (a.T @ p_grad + b.T @ q_grad) / len(a)
        m += 0.1 * (grad - m)
        v += 0.001 * (grad**2 - v)
        w *= 1 - 1e-4  # decay 1e-2 at a rate of 1e-2
        w -= 1e-2 * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
    best = int(loss.argmin())
    return _signed(axes @ w[:-1, best] / deviation, x, y)


def _principal(x: np.ndarray, k: int) -> np.ndarray:
    """(d, k): the first principal axes of centred data, each scaled so that its coordinate has variance one."""
    from scipy.linalg import eigh

    gram = x.T @ x / len(x)
    k = min(k, len(x) - 1, len(gram))
    values, vectors = eigh(gram, subset_by_index=[len(gram) - k, len(gram) - 1], check_finite=False)
    return vectors / np.sqrt(np.maximum(values, 1e-6))


def _signed(w: np.ndarray, x: np.ndarray, y: np.ndarray) -> Linear:
    """The direction turned so that label 1 lies higher, zero half way between the classes."""
    w = w.astype(np.float32)
    values = x @ w
    one, zero = float(values[y == 1].mean()), float(values[y == 0].mean())
    turn = 1.0 if one >= zero else -1.0
    return Linear(np.float32(turn) * w, -turn * (one + zero) / 2)


def sparse(x: np.ndarray, y: np.ndarray, k: int, *, strength: float = 1.0) -> Linear:
    """k-sparse probe: the k coordinates whose standardised class means lie furthest apart, and a logistic
    regression on them (as in 2305.01610, 2502.16681)."""
    mean, deviation = standardised(x)
    z = (x - mean) / deviation
    gap = np.abs(z[y == 1].mean(0) - z[y == 0].mean(0))
    chosen = np.argsort(-gap, kind="stable")[:k]
    small = logistic_path(np.ascontiguousarray(x[:, chosen]), y, (strength,))[0]
    w = np.zeros(x.shape[1], np.float32)
    w[chosen] = small.direction
    return Linear(w, small.bias)


class Attention(NamedTuple):
    """Heads that weigh a text's tokens by softmax(query · x) and add up value · x; plus a bias."""

    queries: np.ndarray  # (heads, d)
    values: np.ndarray  # (heads, d)
    bias: float


def attention(
    tokens: np.ndarray,
    offsets: np.ndarray,
    chosen: np.ndarray,
    y: np.ndarray,
    *,
    heads: int = 2,
    steps: int = 80,
    decay: float = 1.0,
    seed: int = 0,
) -> Attention:
    """Attention probe: trained by AdamW on texts `chosen`, whose tokens are tokens[offsets[i]:offsets[i+1]].

    y: (len(chosen),). Queries start at zero, so that it begins as a probe of the mean.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = np.concatenate([np.arange(offsets[i], offsets[i + 1]) for i in chosen])
    mean, deviation = standardised(tokens[rows])
    z = torch.from_numpy((tokens[rows] - mean) / deviation)
    lengths = torch.tensor([int(offsets[i + 1] - offsets[i]) for i in chosen])
    owner = torch.arange(len(chosen)).repeat_interleave(lengths)
    label = torch.from_numpy(y.astype(np.float32))
    weight = torch.where(label == 1, 0.5 / label.mean(), 0.5 / (1 - label.mean()))
    # queries above values, as rows of one matrix: a product with few columns is several times slower
    both = torch.zeros(2 * heads, z.shape[1])
    both[heads:] = torch.randn(z.shape[1], heads, generator=generator).T * 1e-3
    both.requires_grad_()
    bias = torch.zeros((), requires_grad=True)
    optimiser = torch.optim.AdamW([both, bias], lr=3e-3, weight_decay=decay)
    for _ in range(steps):
        logits, values = torch.nn.functional.linear(z, both).split(heads, dim=1)
        score = pooled_by_attention(logits, values, owner, len(chosen)) + bias
        loss = torch.nn.functional.binary_cross_entropy_with_logits(score, label, weight=weight)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    q, v = (both.detach().numpy() / deviation).reshape(2, heads, -1)
    # the mean that was taken off moves the values by a constant, and the queries by one that softmax ignores
    return Attention(q.astype(np.float32), v.astype(np.float32), float(bias.detach()) - float((v @ mean).sum()))


def pooled_by_attention(logits: Tensor, values: Tensor, owner: Tensor, n: int) -> Tensor:
    """Σ over heads of Σ over tokens softmax(logits)·values, per text. logits, values: (tokens, heads)."""
    at = owner[:, None].expand_as(logits)
    top = torch.full((n, logits.shape[1]), -torch.inf).scatter_reduce(0, at, logits.detach(), "amax")
    grown = (logits - top[owner]).exp()
    total = torch.zeros(n, logits.shape[1]).scatter_add(0, at, grown)
    return (torch.zeros(n, logits.shape[1]).scatter_add(0, at, grown * values) / total).sum(1)


def pairs_of(labels: np.ndarray, pairs: list[str], groups: list[str]) -> np.ndarray:
    """(m, 2) indices of a row of label 1 and one of label 0 that share a pair (or, without pairs, a group)."""
    names = pairs if any(pairs) else groups
    sides: dict[str, tuple[list[int], list[int]]] = {}
    for i, (name, label) in enumerate(zip(names, labels)):
        if name:
            sides.setdefault(name, ([], []))[int(label)].append(i)
    made = [(one, zero) for zeros, ones in sides.values() for one, zero in zip(ones, zeros)]
    if len(made) < 5:
        raise HookeError(f"ccs and lat need pairs of rows with opposite labels, and there are {len(made)}; give `pair`")
    return np.array(made)
