"""AUROC, intervals, false-alarm budgets and calibration against slow obvious versions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from hooke.errors import HookeError
from hooke.methods import ranking


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 1)), min_size=2, max_size=40).filter(
        lambda rows: len({label for _, label in rows}) == 2
    )
)
def test_auroc_counts_pairs_and_ties_half(rows: list[tuple[int, int]]) -> None:
    ones = [s for s, label in rows if label == 1]
    zeros = [s for s, label in rows if label == 0]
    pairs = np.mean([1.0 if a > b else 0.5 if a == b else 0.0 for a in ones for b in zeros])
    scores, labels = np.array([float(s) for s, _ in rows]), np.array([label for _, label in rows])
    assert ranking.auroc(scores, labels) == pytest.approx(pairs, abs=1e-12)


def test_a_resample_is_the_auroc_of_the_repeated_rows() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 9, 80).astype(float), rng.integers(0, 2, 80)
    drawn = ranking.weights([str(i // 2) for i in range(80)], resamples=20)
    fast = ranking._aurocs(scores, labels, drawn.counts)
    for row, weight in zip(fast, drawn.counts):
        again = np.repeat(np.arange(80), weight.astype(int))
        assert row == pytest.approx(roc_auc_score(labels[again], scores[again]), abs=1e-9)
    assert np.allclose(drawn.counts[:, 0], drawn.counts[:, 1])  # groups are drawn whole
    assert np.allclose(drawn.counts.sum(1), 80)


def test_intervals_cover_the_truth() -> None:
    """Simulated: scores of two normals a known distance apart, in groups of one. Between 91 and 98 of 100 intervals."""
    from scipy.stats import norm

    truth, covered = norm.cdf(1 / np.sqrt(2)), 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        labels = np.repeat([0, 1], 80)
        scores = rng.standard_normal(160) + labels
        found = ranking.auroc_interval(scores, labels, ranking.weights([str(i) for i in range(160)], resamples=400))
        covered += found.low <= truth <= found.high
    assert 0.91 <= covered / 200 <= 0.98


@pytest.mark.parametrize("groups", [6, 10])
def test_intervals_of_a_few_groups_still_cover_the_truth(groups: int) -> None:
    """Groups that differ in how well they are told apart; plain percentiles cover 80 to 90 of 100 here."""
    truth = np.mean([_group(np.random.default_rng(10_000 + i))[2] for i in range(4000)])
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        made = [_group(rng) for _ in range(groups)]
        scores, labels = np.concatenate([m[0] for m in made]), np.concatenate([m[1] for m in made])
        names = [str(g) for g in range(groups) for _ in range(20)]
        found = ranking.auroc_interval(scores, labels, ranking.weights(names, resamples=400))
        covered += found.low <= truth <= found.high
    assert covered / 200 >= 0.91


def _group(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
    """Twenty rows of one group, far apart or hardly, and the chance of ranking a pair rightly."""
    from scipy.stats import norm

    gap = 1 + 0.6 * rng.standard_normal()
    labels = np.repeat([0, 1], 10)
    return rng.standard_normal(20) + gap * labels, labels, float(norm.cdf(gap / np.sqrt(2)))


def test_too_few_groups_say_nothing() -> None:
    labels, scores = np.tile([0, 1], 10), np.arange(20.0)
    drawn = ranking.weights([str(i // 5) for i in range(20)])
    assert ranking.auroc_interval(scores, labels, drawn).pair == [0, 1]
    assert ranking.gain_interval(scores, -scores, labels, drawn).pair == [-1, 1]


def test_resamples_are_ranked_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    scores, labels = rng.standard_normal(60), rng.integers(0, 2, 60)
    drawn = ranking.weights([str(i) for i in range(60)], resamples=50)
    whole = ranking._aurocs(scores, labels, drawn.counts)
    monkeypatch.setattr(ranking, "CHUNK", 100)
    assert np.array_equal(ranking._aurocs(scores, labels, drawn.counts), whole)


def test_groups_widen_the_interval() -> None:
    """The same rows eight times are no more evidence than once."""
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], 40)
    scores = rng.standard_normal(80) + labels
    many, told = np.tile(scores, 8), np.tile(labels, 8)
    groups = [str(i % 80) for i in range(640)]
    once = ranking.auroc_interval(scores, labels, ranking.weights([str(i) for i in range(80)]))
    honest = ranking.auroc_interval(many, told, ranking.weights(groups))
    naive = ranking.auroc_interval(many, told, ranking.weights([str(i) for i in range(640)]))
    assert honest.high - honest.low == pytest.approx(once.high - once.low, rel=0.1)
    assert naive.high - naive.low < 0.5 * (honest.high - honest.low)


def test_a_gain_is_paired() -> None:
    rng = np.random.default_rng(2)
    labels = np.repeat([0, 1], 100)
    base = rng.standard_normal(200) + labels
    better = base + 0.3 * labels
    drawn = ranking.weights([str(i) for i in range(200)])
    gain = ranking.gain_interval(better, base, labels, drawn)
    apart = ranking.auroc_interval(better, labels, drawn)
    assert gain.low > 0  # the same rows, so a small gain is sure
    assert gain.high - gain.low < 0.5 * (apart.high - apart.low)
    same = ranking.gain_interval(base, base, labels, drawn)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_a_budget_needs_enough_benign_items() -> None:
    labels, scores = np.array([0, 1, 1, 1]), np.array([0.0, 1.0, 5.0, 9.0])
    drawn = ranking.weights(["a", "b", "c", "d"], resamples=100)
    few = ranking.recall_at(scores, labels, np.arange(999) / 999, 0.01, drawn)
    assert few["recall"] is None and "1,000" in few["refused"]
    benign = np.arange(1000) / 250  # 0 to 4
    row = ranking.recall_at(scores, labels, benign, 0.01, drawn)
    assert (benign > row["threshold"]).mean() == pytest.approx(0.01)
    assert row["recall"] == pytest.approx(2 / 3) and row["own_false_positives"] == 0
    assert ranking.needed(0.001) == 10_000


def test_calibration_of_true_and_of_boastful_chances() -> None:
    rng = np.random.default_rng(3)
    chance = rng.random(20_000)
    labels = (rng.random(20_000) < chance).astype(int)
    assert ranking.calibration(chance, labels)["ece"] < 0.02
    assert ranking.calibration((chance > 0.5).astype(float), labels)["ece"] == pytest.approx(0.25, abs=0.02)


def test_rates_have_exact_bounds() -> None:
    assert ranking.upper_bound(0, 10) == pytest.approx(1 - 0.05 ** (1 / 10))  # zero of ten still allows 26 %
    assert ranking.lower_bound(10, 10) == pytest.approx(0.05 ** (1 / 10))
    both = ranking.rate_interval(10, 10)
    assert both.high == 1.0 and both.low == pytest.approx(0.025 ** (1 / 10))


def test_one_class_and_no_numbers_are_refused() -> None:
    drawn = ranking.weights(["a", "b"])
    with pytest.raises(HookeError, match="one class"):
        ranking.auroc_interval(np.array([1.0, 2.0]), np.array([1, 1]), drawn)
    with pytest.raises(HookeError, match="not numbers"):
        ranking.auroc_interval(np.array([1.0, np.nan]), np.array([1, 0]), drawn)
