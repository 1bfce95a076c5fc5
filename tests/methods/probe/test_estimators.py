"""Each way of finding a direction, on data whose answer is known, and each pool against a loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hooke.errors import HookeError
from hooke.harvest import Harvest
from hooke.methods.probe import estimators
from hooke.methods.probe.parts import Block, pooled, score_harvest
from hooke.methods.ranking import auroc
from hooke.sites import Site


def planted(n: int = 400, d: int = 20, gap: float = 2.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of rows that share a strong nuisance and differ along one direction. Returns x, y, the direction."""
    rng = np.random.default_rng(seed)
    w = rng.standard_normal(d)
    w /= np.linalg.norm(w)
    y = np.tile([1, 0], n // 2)
    nuisance = np.repeat(rng.standard_normal((n // 2, d)), 2, axis=0)
    x = nuisance + 0.3 * rng.standard_normal((n, d)) + np.outer(y * gap, w)
    return x.astype(np.float32), y, w


PAIRS = [str(i // 2) for i in range(400)]


@pytest.mark.parametrize("kind", ["logistic", "means", "lda", "lat", "ccs"])
def test_a_planted_direction_is_found(kind: str) -> None:
    x, y, w = planted(n=800)
    (x, test_x), (y, test_y) = np.split(x, 2), np.split(y, 2)
    pairs = estimators.pairs_of(y, PAIRS, PAIRS)
    found = {
        "logistic": lambda: estimators.logistic_path(x, y, (1e-2,))[0],
        "means": lambda: estimators.difference_of_means(x, y),
        "lda": lambda: estimators.lda(x, y),
        "lat": lambda: estimators.lat(x, y, pairs),
        "ccs": lambda: estimators.ccs(x, y, pairs),
    }[kind]()
    assert found.direction @ w / np.linalg.norm(found.direction) > 0.8
    assert auroc(found(test_x), test_y) > 0.85
    assert abs(float(found(x[y == 1]).mean() + found(x[y == 0]).mean())) < 0.7 * float(np.ptp(found(x)))


def test_logistic_is_the_regression_it_says() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    x, y, _ = planted()
    z = StandardScaler().fit_transform(x.astype(float))
    reference = LogisticRegression(C=1e-2, class_weight="balanced", tol=1e-8, max_iter=1000).fit(z, y)
    found = estimators.logistic_path(x, y)[estimators.STRENGTHS.index(1e-2)]
    assert np.allclose(found(x), reference.decision_function(z), atol=0.02)


def test_lda_is_the_closed_form_when_nothing_is_shrunk() -> None:
    """With many rows the Ledoit-Wolf shrinkage vanishes and the direction is inverse covariance times difference."""
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((5, 5))
    y = rng.integers(0, 2, 50_000)
    x = (rng.standard_normal((50_000, 5)) @ mix + np.outer(y, [1, 0, 0, 0, 0])).astype(np.float32)
    inside = x - np.where(y[:, None] == 1, x[y == 1].mean(0), x[y == 0].mean(0))
    exact = np.linalg.solve(inside.T @ inside / len(x), x[y == 1].mean(0) - x[y == 0].mean(0))
    found = estimators.lda(x, y).direction
    assert found @ exact / np.linalg.norm(found) / np.linalg.norm(exact) > 0.999


def test_unsupervised_methods_use_labels_for_the_sign_only() -> None:
    """With the labels of half of the pairs exchanged they find the same axis, which methods that use labels lose."""
    x, y, _ = planted()
    wrong = np.where(np.random.default_rng(1).random(200).repeat(2) < 0.5, 1 - y, y)

    def cosine(one: estimators.Linear, other: estimators.Linear) -> float:
        a, b = one.direction, other.direction
        return float(abs(a @ b) / np.linalg.norm(a) / np.linalg.norm(b))

    pairs, turned = estimators.pairs_of(y, PAIRS, PAIRS), estimators.pairs_of(wrong, PAIRS, PAIRS)
    for method in (estimators.lat, estimators.ccs):
        assert cosine(method(x, y, pairs), method(x, wrong, turned)) > 0.95
    assert cosine(estimators.difference_of_means(x, y), estimators.difference_of_means(x, wrong)) < 0.9


def test_a_sparse_probe_reads_k_coordinates_and_finds_the_right_one() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 300)
    x = rng.standard_normal((300, 50)).astype(np.float32)
    x[:, 7] += 3 * y
    for k in (1, 4):
        found = estimators.sparse(x, y, k)
        assert (found.direction != 0).sum() == k and found.direction[7] > 0
    assert auroc(estimators.sparse(x, y, 1)(x), y) > 0.95


def test_constant_coordinates_and_shuffled_labels_are_harmless() -> None:
    x, y, _ = planted()
    x[:, 3] = 5.0
    for found in (*estimators.logistic_path(x, y), estimators.lda(x, y), estimators.difference_of_means(x, y)):
        assert np.isfinite(found.direction).all() and np.isfinite(found.bias)
    wrong = np.random.default_rng(0).permutation(y)
    half = np.arange(400) < 200
    found = estimators.logistic_path(x[half], wrong[half], (1e-3,))[0]
    assert 0.3 < auroc(found(x[~half]), wrong[~half]) < 0.7


def test_ccs_is_the_same_with_gradients_by_autograd() -> None:
    """The slow obvious version: every start on its own, in the same coordinates, differentiated by torch."""
    rng = np.random.default_rng(3)
    y = np.tile([0, 1], 60)
    x = rng.standard_normal((120, 6)).astype(np.float32)
    x[:, 2] += np.where(y == 1, 1.5, -1.5)
    pairs = np.stack([np.arange(1, 120, 2), np.arange(0, 120, 2)], 1)
    found = estimators.ccs(x, y, pairs, restarts=4)
    swap = np.random.default_rng(0).random(60) < 0.5
    sides = [np.where(swap, pairs[:, 1], pairs[:, 0]), np.where(swap, pairs[:, 0], pairs[:, 1])]
    deviation = x.std(0)
    axes = estimators._principal((x - x.mean(0)) / deviation, 64)
    a, b = (torch.tensor((x[i] - x[i].mean(0)) / deviation @ axes).float() for i in sides)
    starts = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)) / 6**0.5
    tried = []
    for start in starts.T:
        w, bias = start.clone().requires_grad_(), torch.zeros(1, requires_grad=True)
        optimiser = torch.optim.AdamW([w, bias], lr=1e-2, weight_decay=1e-2)
        for _ in range(200):
            p, q = torch.sigmoid(a @ w + bias), torch.sigmoid(b @ w + bias)
            loss = ((p - (1 - q)) ** 2 + torch.minimum(p, q) ** 2).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        tried.append((loss.item(), axes @ w.detach().numpy() / deviation))
    expected = min(tried, key=lambda t: t[0])[1]
    cosine = found.direction @ expected / np.linalg.norm(found.direction) / np.linalg.norm(expected)
    assert abs(cosine) > 0.9999


def test_attention_finds_the_one_token_that_says_it() -> None:
    """Texts of 3 to 12 tokens, one of which carries a marker and, beside it, the sign: a mean cannot see as well."""
    rng = np.random.default_rng(0)
    n, d = 300, 16
    lengths = rng.integers(3, 13, n)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = rng.standard_normal((offsets[-1], d)).astype(np.float32)
    y = rng.integers(0, 2, n)
    for i in range(n):
        at = offsets[i] + rng.integers(lengths[i])
        tokens[at, 0] += 6
        tokens[at, 1] = 3 * (2 * y[i] - 1)
    half = np.arange(n // 2)
    rest = np.arange(n // 2, n)
    found = estimators.attention(tokens, offsets, half, y[half], steps=150, decay=0.1)
    blocks = [
        Block(Site("resid_post", 0), "attention", v, found.bias / len(found.values), q)
        for q, v in zip(found.queries, found.values)
    ]
    kept = Harvest({}, {Site("resid_post", 0): tokens}, offsets, np.zeros(n), lengths, [])
    values = score_harvest(blocks, kept)
    mean = np.stack([tokens[offsets[i] : offsets[i + 1]].mean(0) for i in range(n)])
    plain = estimators.logistic_path(mean[half], y[half], (1e-1,))[0]
    assert auroc(values[rest], y[rest]) > 0.95
    assert auroc(values[rest], y[rest]) > auroc(plain(mean[rest]), y[rest])


def test_attention_pooling_is_softmax_per_text() -> None:
    rng = np.random.default_rng(0)
    logits, values = torch.tensor(rng.standard_normal((7, 2))), torch.tensor(rng.standard_normal((7, 2)))
    owner = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    found = estimators.pooled_by_attention(logits.float(), values.float(), owner, 2)
    for text in (0, 1):
        at = owner == text
        slow = (logits[at].softmax(0) * values[at]).sum()
        assert float(found[text]) == pytest.approx(float(slow), abs=1e-5)
        each = [pooled("attention", values[at, h].numpy(), logits[at, h].numpy()) for h in (0, 1)]
        assert sum(each) == pytest.approx(float(slow), abs=1e-5)


def test_pools_are_the_loops_they_stand_for() -> None:
    values = np.random.default_rng(0).standard_normal(37)
    smooth, most = values[0], -np.inf
    for v in values:
        smooth = 0.8 * smooth + 0.2 * v
        most = max(most, smooth)
    assert pooled("ema", values) == pytest.approx(most)
    windows = [values[i : i + 10].mean() for i in range(28)]
    assert pooled("rolling", values) == pytest.approx(max(windows))
    assert pooled("rolling", values[:3]) == pytest.approx(values[:3].mean())
    assert pooled("max", values) == values.max() and pooled("last", values) == values[-1]
    assert pooled("mean", values) == pytest.approx(values.mean())
    with pytest.raises(HookeError, match="no pool"):
        pooled("median", values)


def test_pairs_are_needed_where_they_are() -> None:
    y = np.array([1, 0, 1, 0])
    with pytest.raises(HookeError, match="give `pair`"):
        estimators.pairs_of(y, ["a", "b", "c", "d"], ["a", "b", "c", "d"])
    made = estimators.pairs_of(np.array([0, 1] * 6), [str(i // 2) for i in range(12)], [""] * 12)
    assert made.tolist() == [[2 * i + 1, 2 * i] for i in range(6)]
