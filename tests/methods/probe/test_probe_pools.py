"""How the values of a text's tokens become one number."""

from __future__ import annotations

import numpy as np
import pytest

from hooke.methods.probe.explain import _pool_weights
from hooke.methods.probe.parts import Block, pooled
from hooke.sites import Site


@pytest.mark.parametrize("pool", ["last", "mean", "max", "ema", "rolling", "attention"])
def test_calibration_moves_a_score_and_changes_no_ranking(pool: str) -> None:
    rng = np.random.default_rng(1)
    block = Block(Site("resid_post", 0), pool, rng.standard_normal(6).astype(np.float32), 0.3)
    moved = block.scaled(2.0, -5.0)
    for length in (1, 4, 25):
        x = rng.standard_normal((length, 6)).astype(np.float32)
        logits = x[:, 0]
        before, after = (pooled(pool, x @ b.direction + b.bias, logits) for b in (block, moved))
        assert after == pytest.approx(2 * before - 5, abs=1e-5)


@pytest.mark.parametrize("pool", ["max", "ema", "rolling", "attention"])
def test_pool_weights_give_the_pooled_value(pool: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((25, 6)).astype(np.float32)
    block = Block(Site("resid_post", 0), pool, rng.standard_normal(6).astype(np.float32), 0.3, x[0])
    weight = _pool_weights(block, x, 3, 25)
    values = x @ block.direction + block.bias
    expected = pooled(pool, values[3:], x[3:] @ block.query)
    assert weight @ values == pytest.approx(expected, abs=1e-5)
