"""The world of known features, against loops over its definition and against mathematics."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from scipy.stats import multivariate_normal, norm
from torch import Tensor
from torch.testing import assert_close

from hooke.errors import HookeError
from hooke.truth.world import SIZES, Size, World, batches, draw, make_world, overlap, rates, sample, samples
from hooke.truth.world.make import luck, orthogonalised, overlap_gradient, raised, trees, zipf

TINY = Size(n_features=60, d=24, roots=2, latents=16, k=3, depth=2)  # 42 in trees: 2, 8 and 32
N = 100_000


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def tiny() -> World:
    return make_world(TINY, 0)


@pytest.fixture(scope="module")
def codes(tiny: World) -> Tensor:
    return sample(tiny, N, seeded(1))[1]


# ---- what it is made of ------------------------------------------------------------------------


def test_the_published_world_has_the_published_numbers() -> None:
    full = SIZES["full"]
    assert (full.n_features, full.d, full.latents, full.k) == (16_384, 768, 4096, 25)
    assert full.levels == [(0, 128), (128, 640), (640, 2688), (2688, 10_880)]
    meant = zipf(full)
    assert float(meant[0]) == pytest.approx(0.4) and float(meant[-1]) == pytest.approx(5e-4)
    assert (full.rank, full.correlation, full.first, full.last, full.spread, full.bias) == (
        25, 0.1, 5.0, 4.0, (0.5, 0.5), 0.5,
    )  # fmt: skip


def test_chances_and_trees_as_loops_over_their_definition_have_them() -> None:
    meant, (parent, child) = zipf(TINY), trees(TINY)
    for i in range(TINY.n_features):
        stretched = ((i + 1) ** -0.5 - 60**-0.5) / (1 - 60**-0.5)
        assert float(meant[i]) == pytest.approx(5e-4 + (0.4 - 5e-4) * stretched, rel=1e-5)
    above = {}  # breadth first
    waiting, free = [(root, 0) for root in range(TINY.roots)], TINY.roots
    for node, level in waiting:
        if level < TINY.depth:
            above |= {free + i: node for i in range(TINY.branching)}
            assert int(child[node]) == free
            waiting += [(free + i, level + 1) for i in range(TINY.branching)]
            free += TINY.branching
        else:
            assert int(child[node]) == -1
    assert parent.tolist() == [above.get(i, -1) for i in range(TINY.n_features)]
    assert free == 42 and bool((child[42:] == -1).all())
    chance = raised(TINY, meant, parent)
    for i in range(TINY.n_features):
        expected = float(meant[i])
        if i in above:
            p = float(meant[above[i]])
            rivals = sum(float(meant[j]) for j in above if above[j] == above[i] and j != i)
            expected = min(1.0, expected / p * (1 + rivals / p))
        assert float(chance[i]) == pytest.approx(expected, rel=1e-4)


def test_the_gradient_that_makes_directions_orthogonal_is_that_of_the_loss() -> None:
    e = torch.randn(20, 6, generator=seeded(0), dtype=torch.float64, requires_grad=True)
    products = e @ e.T
    off = products - torch.diag(products.diag())
    (off.square().sum() + 20 * (products.diag() - 1).square().sum()).backward()
    assert_close(overlap_gradient(e.detach()), e.grad)


def test_directions_are_unit_rows_that_overlap_less_than_random_ones(tiny: World) -> None:
    start = torch.randn(60, 24, generator=seeded(0))
    moved = orthogonalised(start.clone(), 100, 3e-3)
    assert_close(moved.norm(dim=1), torch.ones(60))
    cosines = (start / start.norm(dim=1, keepdim=True)) @ (start / start.norm(dim=1, keepdim=True)).T
    assert overlap(start, at_once=7) == pytest.approx(float((cosines.abs() - torch.eye(60)).amax(1).mean()), abs=1e-5)
    assert overlap(moved) < overlap(start) - 0.05
    assert_close(tiny.directions.norm(dim=1), torch.ones(60))
    assert float(tiny.bias.norm()) == pytest.approx(0.5)


def test_what_features_share_and_what_is_their_own_make_up_one() -> None:
    strong = make_world(TINY._replace(correlation=0.4), 0)
    for world in (strong, make_world(TINY, 0)):
        assert_close(world.factor.square().sum(1) + world.own.square(), torch.ones(60))
    assert float(strong.own.min()) == pytest.approx(0.1, abs=1e-4)  # weights that would leave less are shortened


def test_a_seed_is_a_world(tiny: World) -> None:
    again, other = make_world(TINY, 0), make_world(TINY, 1)
    for name in ("directions", "bias", "spread", "factor", "rate"):
        assert torch.equal(getattr(again, name), getattr(tiny, name))
        assert not torch.equal(getattr(other, name), getattr(tiny, name))


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ("large", "there are small, full"),
        (TINY._replace(n_features=41), "need 42 features"),
        (TINY._replace(branching=1), "at least 2"),
        (TINY._replace(least=0.5), "within 0 and 1"),
        (TINY._replace(d=0), "at least one"),
    ],
)
def test_a_world_that_cannot_be_is_refused_in_one_line(size: str | Size, words: str) -> None:
    with pytest.raises(HookeError, match=words):
        make_world(size, 0)


# ---- samples -----------------------------------------------------------------------------------


@pytest.mark.parametrize("spread", [(0.5, 0.5), (5.0, 1.0)])
def test_samples_are_what_loops_over_the_definition_make_of_the_same_noise(spread: tuple[float, float]) -> None:
    """Which fires, which sibling wins and how strong it is, one feature at a time; with much spread, some strengths are
    cut off at zero, and their features do not fire."""
    tiny, n, g = make_world(TINY._replace(spread=spread), 0), 80, seeded(3)
    free = [i for i in range(60) if int(tiny.parent[i]) < 0]
    shared, noise = torch.randn(n, TINY.rank, generator=g), torch.randn(n, len(free), generator=g)
    found: list[tuple[int, int]] = []
    for row in range(n):
        for at, i in enumerate(free):
            level = float(shared[row] @ tiny.factor[i]) + float(tiny.own[i] * noise[row, at])
            if level > norm.isf(float(tiny.chance[i])):
                found.append((row, i))
    strength = torch.randn(len(found), generator=g)
    expected = torch.zeros(n, 60)
    for at, (row, i) in enumerate(found):
        expected[row, i] = max(0.0, float(tiny.mean[i] + tiny.spread[i] * strength[at]))
    parents = [(row, i) for row, i in found if int(tiny.child[i]) >= 0 and expected[row, i] > 0]
    for _ in range(TINY.depth):
        own, strengths = torch.randn(2, len(parents), TINY.branching, generator=g)
        lot = torch.rand(len(parents), TINY.branching, generator=g)
        below = []
        for at, (row, i) in enumerate(parents):
            ready = {}
            for b in range(TINY.branching):
                j = int(tiny.child[i]) + b
                level = float(shared[row] @ tiny.factor[j]) + float(tiny.own[j] * own[at, b])
                value = float(tiny.mean[j] + tiny.spread[j] * strengths[at, b])
                if level > norm.isf(float(tiny.chance[j])) and value > 0:
                    ready[j] = (float(lot[at, b]), value)
            if ready:
                j = max(ready, key=lambda j: ready[j][0])
                expected[row, j] = ready[j][1] * expected[row, i] / tiny.mean[i]
                if int(tiny.child[j]) >= 0:
                    below.append((row, j))
        parents = below
    x, got = sample(tiny, n, seeded(3))
    assert int((expected[:, 10:42] > 0).sum()) > 5  # some grandchildren fire
    assert_close(got, expected, atol=1e-5, rtol=1e-5)
    assert_close(x, expected @ tiny.directions + tiny.bias, atol=1e-4, rtol=1e-4)


def test_no_child_fires_without_its_parent_and_no_two_siblings_together(tiny: World, codes: Tensor) -> None:
    on, has = codes > 0, tiny.parent >= 0
    assert int(on[:, has].sum()) > N // 10
    assert not bool((on[:, has] & ~on[:, tiny.parent[has]]).any())
    siblings = on[:, TINY.roots : 42].unflatten(1, (-1, TINY.branching)).sum(2)
    assert int(siblings.max()) == 1
    parents = on[:, : TINY.roots + 8]
    assert not bool((siblings > parents).any())
    assert bool((siblings.sum(0) < parents.sum(0)).any())  # and parents fire without children too


def test_features_fire_as_often_as_they_should(tiny: World, codes: Tensor) -> None:
    """Those without a parent with their chance, whatever they share; with nothing shared all, exactly."""
    strong = torch.special.ndtr(tiny.mean.double() / tiny.spread)

    def off(count: Tensor, p: Tensor) -> Tensor:
        return (count / N - p) / (p * (1 - p) / N).sqrt()

    free = tiny.parent < 0
    z = off((codes > 0).sum(0).double(), tiny.chance * strong)[free]
    assert float(z.abs().max()) < 4.5 and float(z.square().mean()) < 2
    alone = replace(tiny, factor=torch.zeros_like(tiny.factor), own=torch.ones_like(tiny.own))
    count = torch.bincount(draw(alone, N, seeded(2)).features, minlength=60).double()
    z = off(count, rates(alone, 1))
    assert float(z.abs().max()) < 4.5 and float(z.square().mean()) < 1.6
    z = off((codes > 0).sum(0).double(), rates(tiny, 30_000))
    assert float(z.abs().max()) < 4.5 and float(z.square().mean()) < 1.8
    wrong = off((codes > 0).sum(0).double(), zipf(TINY).double())  # children fire less often than their rank says
    assert float(wrong.abs().max()) > 20


def test_features_fire_together_as_often_as_the_copula_says() -> None:
    world = make_world(TINY._replace(depth=0, correlation=0.15), 0)  # nobody has children
    on = sample(world, N, seeded(1))[1][:, :12] > 0
    rho = world.factor[:12] @ world.factor[:12].T
    rho.fill_diagonal_(0)
    for best in (int(rho.argmax()), int(rho.argmin())):
        i, j = best // 12, best % 12
        shared, edge = float(rho[i, j]), [-float(world.threshold[i]), -float(world.threshold[j])]
        assert abs(shared) > 0.2
        both = multivariate_normal([0, 0], [[1, shared], [shared, 1]]).cdf(edge)
        for feature in (i, j):
            both *= norm.cdf(float(world.mean[feature] / world.spread[feature]))
        p, error = float((on[:, i] & on[:, j]).float().mean()), math.sqrt(both / N)
        assert abs(p - both) < 4.5 * error
        assert abs(p - float(world.chance[i] * world.chance[j])) > 9 * error  # not as often as by chance


def test_strengths_are_normal_above_zero(tiny: World, codes: Tensor) -> None:
    for i in (0, 1, 45):
        mean, spread = float(tiny.mean[i]), float(tiny.spread[i])
        values = codes[:, i][codes[:, i] > 0].double()
        ratio = mean / spread
        expected = mean + spread * norm.pdf(ratio) / norm.cdf(ratio)
        assert abs(float(values.mean()) - expected) < 4.5 * spread / math.sqrt(len(values))
    mean = TINY.first + torch.arange(60) / 59 * (TINY.last - TINY.first)
    assert_close(tiny.mean, mean)


def test_luck_is_the_mean_over_all_ways_that_events_can_happen() -> None:
    chances = torch.tensor([[0.2, 0.7, 1.0], [0.0, 0.5, 0.9]], dtype=torch.float64)
    for row, got in zip(chances.tolist(), luck(chances).tolist()):
        total = 0.0
        for happen in itertools.product([0, 1], repeat=3):
            total += math.prod(q if h else 1 - q for q, h in zip(row, happen)) / (1 + sum(happen))
        assert got == pytest.approx(total)


def test_samples_drawn_in_parts_are_put_together(tiny: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(samples.AT_ONCE, "cpu", 45 * 7)  # 7 samples at once
    drawn = draw(tiny, 20, seeded(5))
    assert drawn.x.shape == (20, 24) and bool((drawn.rows.diff() >= 0).all()) and int(drawn.rows.max()) > 13
    assert_close(drawn.x, drawn.codes(60) @ tiny.directions + tiny.bias, atol=1e-5, rtol=1e-5)
    assert torch.equal(drawn.fires(60), drawn.codes(60) > 0)
    assert bool((drawn.values > 0).all())
    one = draw(tiny, 7, seeded(5))
    assert torch.equal(one.x, drawn.x[:7])
    none = draw(tiny, 0, seeded(5))
    assert none.x.shape == (0, 24) and len(none.rows) == len(none.values) == 0


def test_a_seed_gives_the_same_batches(tiny: World) -> None:
    first, again, other = (list(batches(tiny, 32, 100, seed)) for seed in (1, 1, 2))
    assert [len(x) for x in first] == [32, 32, 32, 4]
    assert all(torch.equal(a, b) for a, b in zip(first, again))
    assert not any(torch.equal(a, b) for a, b in zip(first, other))
    assert not torch.equal(first[0], first[1])


def test_the_small_world_is_of_the_size_it_says() -> None:
    world = make_world("small", 0)
    drawn = draw(world, 20_000, seeded(0))
    assert 8 < len(drawn.rows) / 20_000 < 12
    assert float(world.rate.topk(world.size.latents).values.sum()) == pytest.approx(world.size.k, abs=0.5)
    assert 0.25 < overlap(world.directions) < 0.33
