"""Tools for heads, frequencies and superposition, on models whose right answer is known and on random ones."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

from families import close, logits_of, model_of, one_thread  # noqa: F401
from hooke.errors import HookeError
from hooke.model import Edit, Model, check_model
from hooke.sites import Site
from hooke.truth.mixed import computation, effects
from hooke.truth.toys import fourier, heads
from hooke.truth.toys.dimensionality import PLATEAUS, dimensionality, dimensions_per_feature, nearest_plateau
from hooke.truth.toys.induction import CONTEXT, VOCAB, draw, induction_model, new_attention_only
from hooke.truth.toys.modular import P, all_sums, modular_addition, new_sums, split, sum_logits, train_sums
from hooke.truth.toys.planted import planted
from hooke.truth.toys.superposition import train_superposition

# ---- superposition -----------------------------------------------------------------------------


def polygon(n: int) -> Tensor:
    angles = 2 * math.pi * torch.arange(n) / n
    return torch.stack([angles.cos(), angles.sin()], 1)


@pytest.mark.parametrize(
    ("directions", "name"),
    [
        (torch.eye(4), "own dimension"),
        (polygon(3), "triangle"),
        (3 * torch.cat([torch.eye(4), -torch.eye(4)]), "antipodal pair"),
        (0.5 * polygon(5), "pentagon"),
        (torch.zeros(3, 2), "not learned"),
    ],
)
def test_dimensionality_of_regular_shapes(directions: Tensor, name: str) -> None:
    shares = dimensionality(directions)
    close(shares, torch.full((len(directions),), PLATEAUS[name]))
    assert nearest_plateau(float(shares[0]))[0] == name
    turn = torch.linalg.qr(torch.randn(directions.shape[1], directions.shape[1])).Q
    close(dimensionality(directions @ turn), shares)


def test_dimensionality_by_its_definition_and_its_bound() -> None:
    w = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    slow = [w[i].norm() ** 2 / sum((w[i] / w[i].norm() @ w[j]) ** 2 for j in range(9)) for i in range(9)]
    close(dimensionality(w), torch.stack(slow))
    assert float(dimensionality(w).sum()) <= 4 + 1e-4
    assert dimensions_per_feature(torch.eye(3)) == 1.0
    with pytest.raises(HookeError, match="are a matrix"):
        dimensionality(torch.ones(3))


def test_sparse_features_share_dimensions_in_pairs_and_dense_ones_do_not() -> None:
    """The published plateaus: 1/2 for sparse features; with decaying importance, the first m keep one each."""
    sparse = train_superposition((0.3,), seed=0)
    shares = dimensionality(sparse.directions[0])
    assert sorted(nearest_plateau(float(x))[0] for x in shares) == ["antipodal pair"] * 10 + ["not learned"] * 10
    assert all(nearest_plateau(float(x))[1] < 0.03 for x in shares)
    assert abs(dimensions_per_feature(sparse.directions[0]) - 0.5) < 0.03
    dense = train_superposition((1.0,), importance=0.7, seed=0)
    shares = dimensionality(dense.directions[0])
    assert bool((shares[:5] > 0.97).all()) and float(dense.directions[0][5:].norm()) < 0.2
    pentagon = train_superposition((0.05,), n=5, m=2, seed=1)
    assert all(nearest_plateau(float(x))[0] == "pentagon" for x in dimensionality(pentagon.directions[0]))
    assert float(sparse.loss[0]) < 0.7 < 1.0
    random = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
    assert sum(nearest_plateau(float(x))[1] < 0.03 for x in dimensionality(random)) < 8


# ---- modular addition --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sums() -> tuple[Model, Tensor]:
    model = modular_addition()
    return model, all_sums(model)


def test_the_waves_are_orthonormal_and_complete() -> None:
    waves = fourier.basis(11)
    close(waves @ waves.T, torch.eye(11, dtype=torch.float64))
    with pytest.raises(HookeError, match="odd p"):
        fourier.basis(8)


def test_power_and_shares_of_known_waves() -> None:
    p = 13
    x = torch.arange(p)
    wave = torch.cos(2 * math.pi * 4 * x / p)[:, None] * torch.tensor([1.0, -2.0]) + 7.0
    power = fourier.power(wave)
    assert power.argmax() == 3 and float(power[3]) > 0.999
    assert fourier.key_frequencies(wave) == [4]
    turn = x[:, None, None] + x[:, None] - x
    logits = 3 * torch.cos(2 * math.pi * 2 * turn / p) + 4 * torch.cos(2 * math.pi * 5 * turn / p)
    shares = fourier.logit_shares(logits)
    close(shares[[1, 4]], torch.tensor([9 / 25, 16 / 25]).double())
    assert abs(fourier.explained(logits, [2, 5, 5]) - 1) < 1e-6
    noise = torch.randn(p, p, p, generator=torch.Generator().manual_seed(0))
    assert fourier.explained(noise, range(1, 7)) < 0.05
    close(fourier.logit_shares(logits + noise[..., :1]), shares)  # the same for all c
    with pytest.raises(HookeError, match=r"are \(p, p, p\)"):
        fourier.logit_shares(torch.ones(3, 3))


def test_restricting_an_embedding_is_a_projection() -> None:
    e = torch.randn(11, 6, generator=torch.Generator().manual_seed(0))
    kept, rest = (fourier.restricted(e, [2, 3], keep=keep) for keep in (True, False))
    close(kept + rest, e + e.mean(0))  # the mean is in both
    assert set(fourier.key_frequencies(kept, 0.01)) == {2, 3}
    assert set(fourier.key_frequencies(rest, 0.01)) == {1, 4, 5}


def test_the_grokked_model_adds_with_its_key_frequencies(sums: tuple[Model, Tensor]) -> None:
    model, logits = sums
    number = torch.arange(P)
    right = (number[:, None] + number) % P
    trained = split(P, model.info["share"], model.info["seed"])
    assert bool((logits.argmax(-1) == right)[~trained].float().mean() > 0.99)
    history = model.info["history"]
    assert any(train < 0.01 and other > 2 for _, train, other in history)  # it had first learned by heart
    embedding = model.hf.get_input_embeddings().weight[:P]  # type: ignore[operator]
    keys = fourier.key_frequencies(embedding)
    assert 1 <= len(keys) <= 6
    assert fourier.explained(logits, keys) > 0.95
    others = [k for k in range(1, P // 2 + 1) if k not in keys]
    assert fourier.explained(logits, others) < 0.02
    for keep, low, high in ((True, 0.99, 1.0), (False, 0.0, 0.15)):  # they are needed, and they are enough
        changed = copy.deepcopy(model.hf)
        changed.get_input_embeddings().weight[:P] = fourier.restricted(embedding, keys, keep=keep)  # type: ignore[operator]
        share = float((sum_logits(changed, P).argmax(-1) == right).float().mean())
        assert low <= share <= high, (keep, share)


def test_a_random_model_of_sums_has_no_key_frequencies() -> None:
    hf = new_sums(P, seed=5)
    keys = fourier.key_frequencies(hf.transformer.wte.weight[:P])
    assert not keys
    assert fourier.explained(sum_logits(hf, P), range(1, P // 2 + 1)) < 0.2


def test_the_fast_sums_are_the_models(sums: tuple[Model, Tensor]) -> None:
    close(sum_logits(sums[0].hf, P), sums[1])
    check_model(sums[0])
    assert sums[0].text(sums[0].tokens("3 4 =").ids[0]) == ["3", "4", "="]


def test_training_sums_begins() -> None:
    seen: list[tuple[int, float, float]] = []
    made = train_sums(7, steps=201, look=lambda *step: seen.append(step))
    assert [step for step, _, _ in seen] == [0, 100, 200]
    assert seen[-1][1] < 0.5 * seen[0][1]
    assert int(made.trained.sum()) == 20


# ---- heads -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inductor() -> tuple[Model, Tensor]:
    model = induction_model()
    return model, heads.repeated(model, 16, first=0, lowest=1)


def test_repeated_tokens(inductor: tuple[Model, Tensor]) -> None:
    model, ids = inductor
    assert ids.shape == (32, 33) and bool((ids[:, 0] == 0).all())
    assert torch.equal(ids[:, 1:17], ids[:, 17:]) and int(ids[:, 1:].min()) >= 1
    with pytest.raises(HookeError, match="do not fit the context"):
        heads.repeated(model, 20)


@pytest.mark.parametrize("first", [None, 0])
def test_head_scores_by_their_definition(first: int | None) -> None:
    model, length = model_of("gpt2"), 5
    ids = heads.repeated(model, length, batch=3, first=first, lowest=3)
    start = 0 if first is None else 1
    before, match = torch.zeros(3, 4), torch.zeros(3, 4)
    for layer in range(3):
        pattern = model.run(ids, read=[f"pattern.{layer}"]).acts[f"pattern.{layer}"]
        n = ids.shape[1]
        before[layer] = torch.stack([pattern[:, :, t, t - 1] for t in range(1, n)]).mean((0, 1))
        second = range(start + length, start + 2 * length)
        match[layer] = torch.stack([pattern[:, :, t, t - length + 1] for t in second]).mean((0, 1))
    close(heads.previous_token(model, ids), before)
    close(heads.prefix_matching(model, ids, length), match)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_copying_is_the_sign_of_the_eigenvalues_over_the_vocabulary(name: str) -> None:
    """Against the whole matrix of tokens to logits, made one token at a time through a head."""
    model = model_of(name)
    parts = model.parts
    found = heads.copying(model)
    embed = model.hf.get_input_embeddings().weight.double()  # type: ignore[operator]
    for layer, block in enumerate(parts.blocks):
        norm, last = block.attn_norm, parts.final_norm
        assert norm is not None
        x = (embed - embed.mean(1, keepdim=True) if norm.centred else embed) * norm.weight.double()
        for head in range(parts.n_heads):
            kv = head // (parts.n_heads // parts.n_kv_heads)
            v = block.v.weight.double()[kv * parts.d_head : (kv + 1) * parts.d_head]
            o = block.o.weight.double()[:, head * parts.d_head : (head + 1) * parts.d_head]
            y = x @ v.T @ o.T
            y = (y - y.mean(1, keepdim=True) if last.centred else y) * last.weight.double()
            values = torch.linalg.eigvals(y @ parts.unembed.weight.double().T)
            close(found[layer, head].double(), values.real.sum() / values.abs().sum(), 1e-3)


def test_in_context_gain_by_its_definition() -> None:
    model, length = model_of("gpt2"), 6
    ids = heads.repeated(model, length, batch=2, first=1, lowest=3)
    logits = logits_of(model, ids, edits=[Edit(Site("z", 1), index=[2]), Edit(Site("z", 0), index=[1])])
    loss = {t: -logits[:, t - 1].log_softmax(-1).gather(1, ids[:, t : t + 1]).mean() for t in range(1, 13)}
    first, second = (sum(loss[t] for t in where) / 5 for where in (range(2, 7), range(8, 13)))
    assert heads.in_context_gain(model, ids, length, without=[(1, 2), (0, 1)]) == pytest.approx(
        float(first - second), abs=1e-4
    )


def test_the_induction_model_has_the_known_circuit(inductor: tuple[Model, Tensor]) -> None:
    """Heads of layer 0 attend to the token before; those of layer 1 match prefixes and copy; without either there is
    no gain; a random model has none of it."""
    model, ids = inductor
    check_model(model)
    before, match = heads.previous_token(model, ids), heads.prefix_matching(model, ids, 16)
    copying = heads.copying(model)
    assert bool((match[1] > 0.7).all()) and bool((match[0] < 0.1).all())
    assert float(before[0].max()) > 0.3 and float(before[1].max()) < 0.1
    assert bool((copying[1] > 0.9).all())
    gain = heads.in_context_gain(model, ids, 16)
    assert gain > 0.9 * math.log(VOCAB - 1)
    for layer in (0, 1):
        assert heads.in_context_gain(model, ids, 16, without=[(layer, 0), (layer, 1)]) < 0.3 * gain
    random = Model(new_attention_only(seed=7), None, name="random")
    assert float(heads.prefix_matching(random, ids, 16).max()) < 0.2
    assert abs(heads.in_context_gain(random, ids, 16)) < 0.5
    assert float(heads.copying(random).abs().max()) < 0.8


def test_what_the_induction_model_learns_from_can_be_told() -> None:
    ids, known = draw(50, torch.Generator().manual_seed(0))
    assert ids.shape == known.shape == (50, CONTEXT)
    for row, told in zip(ids.tolist(), known.tolist()):
        length = next(n for n in range(5, CONTEXT) if row[1 : CONTEXT - n] == row[1 + n :])
        assert told == [t > length + 1 for t in range(CONTEXT)]


# ---- the planted circuit -----------------------------------------------------------------------


def test_the_planted_contributions_add_up_to_the_logits() -> None:
    made = planted()
    check_model(made.model)
    ids = made.inputs(200)
    logits = logits_of(made.model, ids, logits="last")
    parts = made.contributions(ids)
    close(sum(parts.values()), logits)  # type: ignore[arg-type]
    for node, part in parts.items():
        layer = int(node[1])
        site = Site("mlp_out", layer) if node.startswith("m") else Site("z", layer)
        gone = Edit(site) if node.startswith("m") else Edit(site, index=[int(node[4])])
        through = parts["m1"] if node == "a0.h1" else 0  # the MLP reads that head
        close(logits - logits_of(made.model, ids, logits="last", edits=[gone]), part + through)


def test_the_planted_edges_are_those_that_matter() -> None:
    made = planted()
    base, source = made.inputs(300, seed=1), made.inputs(300, seed=2)
    every = list(computation(made.model.hf).places)
    moved = effects(made.model.hf, base, source, every)[:, :, -1].amax(1)
    assert {edge for edge, size in zip(every, moved.tolist()) if size > 1e-3} == made.edges
    assert {end.partition("<")[0] for edge in made.edges for end in edge.split("->")} == made.nodes
    text = " ".join(made.model.text(base[0, 1:]))
    assert torch.equal(made.model.tokens(text).ids[0], base[0])
