"""Scores of dictionaries whose scores are known, against loops and against each other."""

from __future__ import annotations

import itertools

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from torch import Tensor
from torch.testing import assert_close

from hooke.errors import HookeError
from hooke.truth.world import (
    Coded,
    Size,
    World,
    draw,
    make_world,
    matched,
    oracle_scores,
    principal,
    probes,
    random_directions,
    references,
    sample,
    scores,
)
from hooke.truth.world.references import frequent
from hooke.truth.world.scoring import nearest, scores_of

TINY = Size(n_features=60, d=24, roots=2, latents=16, k=3, depth=2)
N = 4000


@pytest.fixture(scope="module")
def tiny() -> World:
    return make_world(TINY, 0)


@pytest.fixture(scope="module")
def busy() -> World:
    """One where something fires in every sample."""
    return make_world(TINY._replace(most=0.9, least=0.1), 0)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "FIT", 8000)


def score(world: World, coded: Coded, n: int = N) -> dict[str, float]:
    return scores(world, coded.decoder, coded.encode, n, 7, coded.offset)


def same(world: World, n: int = N) -> tuple[Tensor, Tensor]:
    """The samples that scores of seed 7 are made on, while they fit in one batch."""
    return sample(world, n, torch.Generator().manual_seed(7))


def by_loops(world: World, coded: Coded) -> dict[str, float]:
    x, truth = same(world)
    codes = coded.encode(x)
    back = codes @ coded.decoder + coded.offset
    f1, precision, recall, near = [], [], [], []
    for j, row in enumerate(coded.decoder):
        cosines = [abs(float(torch.cosine_similarity(row, other, dim=0))) for other in world.directions]
        best = max(range(len(cosines)), key=cosines.__getitem__)
        near.append(best)
        on, there = codes[:, j] != 0, truth[:, best] > 0
        both = int((on & there).sum())
        p = both / int(on.sum()) if int(on.sum()) else 0.0
        r = both / int(there.sum()) if int(there.sum()) else 0.0
        precision.append(p)
        recall.append(r)
        f1.append(2 * p * r / (p + r) if p + r else 0.0)
    xs, backs = x.double(), back.double()
    long, short = xs.norm(dim=1), backs.norm(dim=1)
    return {
        "f1": sum(f1) / len(f1),
        "precision": sum(precision) / len(f1),
        "recall": sum(recall) / len(f1),
        "uniqueness": len(set(near)) / len(near),
        "dead": sum(not bool(codes[:, j].any()) for j in range(codes.shape[1])) / codes.shape[1],
        "l0": float((codes != 0).double().sum(1).mean()),
        "true_l0": float((truth > 0).double().sum(1).mean()),
        "explained_variance": 1 - float(((xs - backs) ** 2).sum() / ((xs - xs.mean(0)) ** 2).sum()),
        "shrinkage": float((short / long).mean()),
        "cosine": float(torch.cosine_similarity(xs, backs).mean()),
        "reconstruction_bias": float((short**2).mean() / (xs * backs).sum(1).mean()),
    }


@pytest.mark.parametrize("make", [random_directions, matched])
def test_scores_are_those_of_loops(tiny: World, make) -> None:  # type: ignore[no-untyped-def]
    coded = make(tiny, 16, 3, 1)
    decoder = coded.decoder.clone()
    decoder[3] = decoder[2]  # a double, and rows of other lengths
    decoder[5] *= 3
    coded = coded._replace(decoder=decoder, encode=lambda x, read=coded.encode: read(x) * (torch.arange(16) != 7))
    found, expected = score(tiny, coded), by_loops(tiny, coded)
    assert set(found) == {*expected, "mcc"}
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-6), name
    assert expected["dead"] > 0 and expected["uniqueness"] < 1


def test_the_matching_is_the_best_of_all(tiny: World) -> None:
    decoder = torch.randn(3, 24, generator=torch.Generator().manual_seed(0))
    few = tiny.directions[:6]
    cosine = (decoder / decoder.norm(dim=1, keepdim=True) @ few.T).abs()
    best = max(
        sum(float(cosine[i, j]) for i, j in enumerate(columns)) / 3 for columns in itertools.permutations(range(6), 3)
    )
    assert nearest(decoder, few).mcc == pytest.approx(best, abs=1e-6)
    assert nearest(tiny.directions, few).mcc == pytest.approx(1, abs=1e-6)  # more latents than features
    doubles = nearest(torch.stack([few[0], few[0] + 0.1 * few[1]]), few)
    assert doubles.uniqueness == 0.5 and 0.5 < doubles.mcc < 0.9  # only one of them can have it


def test_the_truth_has_full_marks(tiny: World) -> None:
    whole = oracle_scores(tiny, 60, 40_000, 7)  # enough for the rarest to fire
    for name in ("f1", "precision", "recall", "mcc", "uniqueness", "explained_variance", "shrinkage", "cosine"):
        assert whole[name] == pytest.approx(1, abs=1e-5), name
    assert whole["dead"] == 0 and whole["l0"] == whole["true_l0"]
    part = oracle_scores(tiny, 16, N, 7)
    assert [part[name] for name in ("f1", "mcc", "uniqueness")] == pytest.approx([1, 1, 1], abs=1e-5)
    assert part["l0"] < part["true_l0"] and part["explained_variance"] < 0.95
    x, truth = same(tiny)
    at = frequent(tiny, 16)
    left = truth.clone()
    left[:, at] = 0
    unexplained = (left @ tiny.directions).square().sum() / (x - x.mean(0)).square().sum()
    assert part["explained_variance"] == pytest.approx(1 - float(unexplained), abs=1e-4)


def test_order_sign_and_length_of_directions_do_not_matter(tiny: World) -> None:
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    sign = torch.where(torch.arange(60) % 2 == 0, -2.0, 0.5)
    decoder = tiny.directions[order] * sign[:, None]
    found = scores_of(tiny, decoder, lambda drawn: drawn.codes(60)[:, order] / sign, N, 7, tiny.bias)
    expected = oracle_scores(tiny, 60, N, 7)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-5), name


def test_half_a_dictionary_has_half_the_marks(tiny: World) -> None:
    """Half of the latents are true, the others doubles of them that never fire."""
    at = frequent(tiny, 16)[:8]
    decoder = tiny.directions[torch.cat([at, at])]
    silent = torch.cat([torch.ones(8), torch.zeros(8)])
    found = scores_of(tiny, decoder, lambda drawn: drawn.codes(60)[:, torch.cat([at, at])] * silent, N, 7, tiny.bias)
    assert [found[name] for name in ("f1", "precision", "recall", "dead", "uniqueness")] == pytest.approx([0.5] * 5)
    others = [i for i in range(60) if i not in at.tolist()]
    leftover = nearest(tiny.directions[at], tiny.directions[others]).mcc  # the doubles go to other features
    assert 0.5 < found["mcc"] < 0.5 + leftover / 2 + 1e-6


def test_nothing_has_no_marks(tiny: World) -> None:
    x, _ = same(tiny)
    decoder = torch.zeros(5, 24)
    found = scores(tiny, decoder, lambda x: torch.zeros(len(x), 5), N, 7, x.mean(0))
    assert found["f1"] == found["mcc"] == found["l0"] == 0 and found["dead"] == 1
    assert found["explained_variance"] == pytest.approx(0, abs=1e-4)


def test_more_latents_are_scored_in_smaller_batches(tiny: World, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    monkeypatch.setitem(scores_of.__globals__["AT_ONCE"], "cpu", 92 * 30)  # 30 samples at once
    found = scores(tiny, tiny.directions[:16], lambda x: sizes.append(len(x)) or (x @ tiny.directions[:16].T), 100, 7)
    assert sizes == [30, 30, 30, 10] and found["l0"] == 16


@pytest.mark.parametrize(
    ("rows", "encode", "words"),
    [
        (torch.ones(4, 23), lambda x: torch.ones(len(x), 4), "rows of 24"),
        (torch.ones(4, 24), lambda x: torch.ones(len(x), 5), "4 latents are not"),
        (torch.ones(4, 24), lambda x: torch.full((len(x), 4), torch.nan), "not finite"),
        (torch.ones(0, 24), lambda x: torch.ones(len(x), 0), "rows of 24"),
    ],
)
def test_a_dictionary_of_another_world_is_refused(tiny: World, rows: Tensor, encode, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(HookeError, match=words):
        scores(tiny, rows, encode, 100, 0)


# ---- what dictionaries are held against --------------------------------------------------------


def test_references_stand_in_their_order(busy: World) -> None:
    truth = oracle_scores(busy, 16, N, 7)
    read, alone = score(busy, matched(busy, 16, 4, 1)), score(busy, random_directions(busy, 16, 4, 1))
    components = score(busy, principal(busy, 4, 1))
    told = score(busy, probes(busy, 16, 60_000, 1, batch=256))
    assert truth["f1"] > told["f1"] > read["f1"] > 1.2 * max(alone["f1"], components["f1"])
    assert read["mcc"] == pytest.approx(1, abs=1e-5) and max(alone["mcc"], components["mcc"]) < 0.7
    assert read["l0"] == pytest.approx(4, rel=0.05) and alone["l0"] == pytest.approx(4, rel=0.05)
    assert components["l0"] == 4 and components["explained_variance"] > alone["explained_variance"] > 0


def test_all_components_are_everything_and_their_largest_are_kept(tiny: World) -> None:
    x, _ = same(tiny, 500)
    whole = principal(tiny, 24, 1)
    assert score(tiny, whole)["explained_variance"] == pytest.approx(1, abs=1e-5)
    few = principal(tiny, 3, 1)
    h = (x - few.offset) @ few.decoder.T
    codes = few.encode(x)
    for row, kept in zip(h, codes):
        order = sorted(range(24), key=lambda i: -abs(float(row[i])))
        assert set(kept.nonzero()[:, 0].tolist()) == set(order[:3])
        assert_close(kept[order[:3]], row[order[:3]])
    fitted = draw(tiny, references.FIT, torch.Generator().manual_seed(1)).x
    spread = ((fitted - few.offset) @ few.decoder.T).var(0)
    assert bool((spread.diff() < 1e-4).all())  # the largest first


def test_random_latents_fire_equally_often(busy: World) -> None:
    x = draw(busy, 50_000, torch.Generator().manual_seed(2)).x
    often = (random_directions(busy, 16, 3, 1).encode(x) != 0).float().mean(0)
    assert_close(often, torch.full((16,), 3 / 16), atol=0.02, rtol=0)
    for k in (1, 3, 8):  # no other scale of their codes would reconstruct better
        coded = random_directions(busy, 16, k, 1)
        fitted = draw(busy, references.FIT, torch.Generator().manual_seed(1)).x - coded.offset
        back = coded.encode(fitted + coded.offset) @ coded.decoder
        assert abs(float(((fitted - back) * back).sum() / back.square().sum())) < 1e-3


def test_probes_are_as_good_as_logistic_regression(tiny: World) -> None:
    at = frequent(tiny, 16)
    x, truth = sample(tiny, 20_000, torch.Generator().manual_seed(3))
    new, known = same(tiny)
    told = probes(tiny, 16, 100_000, 1, batch=256)
    assert torch.equal(told.decoder, tiny.directions[at])
    codes = told.encode(new)
    for latent in (0, 5, 15):
        i = int(at[latent])
        model = LogisticRegression(C=100, max_iter=2000).fit(x.numpy(), (truth[:, i] > 0).numpy())
        theirs = f1_score((known[:, i] > 0).numpy(), model.predict(new.numpy()))
        ours = f1_score((known[:, i] > 0).numpy(), (codes[:, latent] > 0).numpy())
        assert ours == pytest.approx(theirs, abs=0.04) and theirs > 0.5
