"""Crosscoders: directions of one model alone are found where there are any, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import hooke
from families import new_hf
from hooke.dictionaries import check_dictionary
from hooke.dictionaries.coder import Coder
from hooke.dictionaries.feed import divided
from hooke.dictionaries.fit import Fit, Place, advance, finish, start
from hooke.dictionaries.folder import load_dictionary, read_about
from hooke.dictionaries.kinds import KINDS, When
from hooke.dictionaries.two_models import compared
from hooke.errors import HookeError
from hooke.harvest import Activations, load_plan, shard
from hooke.methods.train import train
from hooke.model import Model
from hooke.sites import Site

HERE = Site("resid_post", 1)
THERE = Site("resid_post", 1, other=True)
BOTH, ALONE, WIDTH, STEPS, BATCH = 40, 8, 32, 2500, 256


def world(n: int, seed: int, wider: int = 0) -> dict[Site, Tensor]:
    """Rows of two models that share 40 directions; the second has 8 more, or writes in a space of its own."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(
        torch.randn(BOTH + ALONE, WIDTH, generator=torch.Generator().manual_seed(9)), dim=1
    )
    codes = (torch.rand(n, BOTH + ALONE, generator=generator) < 0.06) * (
        1 + torch.rand(n, BOTH + ALONE, generator=generator)
    )
    turn = torch.randn(WIDTH, WIDTH + wider, generator=torch.Generator().manual_seed(8)) if wider else torch.eye(WIDTH)
    return {HERE: codes[:, :BOTH] @ directions[:BOTH], THERE: 3 * codes @ directions @ turn}


def fitted(apart: float, wider: int = 0, kind: str = "batchtopk") -> tuple[Fit, Coder]:
    place = Place((HERE, THERE), (HERE, THERE), apart=apart)
    first = world(4096, 0, wider)
    fit = start(KINDS[kind](k=3), [place], first, n_features=64, when=When(0, STEPS, BATCH), lr=3e-3)
    for step in range(STEPS):
        advance(fit, world(BATCH, 10 + step, wider), tell=False)
    return fit, finish(fit)[0]


def unseen(wider: int = 0) -> Activations:
    values = world(4000, 5, wider)
    none = torch.zeros(4000, dtype=torch.int32)
    return Activations(values, none, none, none)


@pytest.fixture(scope="module")
def apart() -> tuple[Fit, Coder]:
    return fitted(0.15)


def best(rows: Tensor, wanted: Tensor) -> Tensor:
    """(wanted,): the largest cosine of each with any of the rows."""
    unit = torch.nn.functional.normalize
    return (unit(wanted, dim=1) @ unit(rows, dim=1).T).amax(1)


@pytest.mark.parametrize("share", [0.0, 0.15])
def test_what_one_model_has_alone_is_found_there(share: float, apart: tuple[Fit, Coder]) -> None:
    coder = apart[1] if share else fitted(0.0)[1]
    found = compared(coder, unseen())
    assert min(found.explained) > 0.8
    directions = torch.nn.functional.normalize(
        torch.randn(BOTH + ALONE, WIDTH, generator=torch.Generator().manual_seed(9)), dim=1
    )
    alone = found.alone(1) & ~found.artefacts(1)
    assert int((best(coder.decoders[THERE][alone], directions[BOTH:]) > 0.9).sum()) >= ALONE - 2
    assert int((found.alone(0) & ~found.artefacts(0)).sum()) == 0  # the first has nothing of its own
    both = (found.norm - 0.5).abs() < 0.1
    assert float(best(coder.decoders[HERE][both], directions[:BOTH]).median()) > 0.9


def test_scaling_is_that_of_a_plain_loop(apart: tuple[Fit, Coder]) -> None:
    """β of one feature by least squares: what is left of activations without it, on its direction times its values."""
    coder, held = apart[1], unseen()
    found = compared(coder, held)
    f = coder.dense(held.values)
    written = coder.written(f, held.values)
    assert found.scaling is not None
    for i in (0, 3, 50, 60):
        if not bool((f[:, i] != 0).any()):
            continue
        d = coder.decoders[THERE if float(found.norm[i]) >= 0.5 else HERE][i]
        for k, site in enumerate((HERE, THERE)):
            without = held.values[site] - written[site] + f[:, i, None] * coder.decoders[site][i]
            x = (f[:, i, None] * d).flatten()
            beta = float((x * without.flatten()).sum() / (x * x).sum())
            assert float(found.scaling[k, i]) == pytest.approx(beta, rel=1e-3, abs=1e-4)


def test_features_of_one_model_stay_so(apart: tuple[Fit, Coder]) -> None:
    fit, coder = apart
    which = fit.blocks[0].state["apart"]
    assert (
        which.bincount() if which.dtype == torch.long else [int((which == k).sum()) for k in (0, 1, 2)] == [44, 10, 10]
    )
    for side, site in ((1, THERE), (2, HERE)):
        closed = which == side
        assert not bool(coder.decoders[site][closed].any()) and not bool(coder.encoders[site][closed].any())
        assert bool(coder.decoders[HERE if side == 1 else THERE][closed].any(1).all())


def test_it_is_a_dictionary(apart: tuple[Fit, Coder]) -> None:
    check_dictionary(apart[1], {site: x[:50] for site, x in unseen().values.items()})


def test_models_of_different_widths() -> None:
    coder, held = fitted(0.1, wider=8)[1], unseen(8)
    check_dictionary(coder, {site: x[:50] for site, x in held.values.items()})
    found = compared(coder, held)
    assert found.scaling is None and found.ratio is None and not bool(found.artefacts(1).any())
    assert min(found.explained) > 0.7


def test_a_dictionary_of_one_model_compares_nothing() -> None:
    one = Coder({HERE: torch.eye(4)}, torch.zeros(4), {HERE: torch.eye(4)}, {HERE: torch.zeros(4)})
    with pytest.raises(HookeError, match="no crosscoder"):
        compared(one, unseen())


# ---- on models -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    from pydoc_data.topics import topics

    path = tmp_path_factory.mktemp("text") / "topics.txt"
    path.write_text("\n\n".join(topics[name] for name in sorted(topics)[:40]), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def changed(glass: Model) -> Model:
    """The small model with one direction added to the embeddings of every other token, which mean nothing together."""
    import copy

    hf = copy.deepcopy(glass.hf)
    with torch.no_grad():
        embedding = hf.get_input_embeddings().weight
        direction = torch.randn(embedding.shape[1], generator=torch.Generator().manual_seed(1))
        embedding[1::2] += 2 * embedding.norm(dim=1).mean() * direction / direction.norm()
    return Model(hf, glass.tokenizer, name="changed")


def asked(book: str, **changes: Any) -> dict[str, Any]:
    given = {"text": [book], "tokens": 8000, "features": 128, "k": [8], "batch": 64, "context": 64, "seed": 3}
    return given | {"site": ["resid_post.1"], "lr": 3e-3, "apart": 0.1} | changes


def test_a_crosscoder_of_two_models(glass: Model, changed: Model, text: str, tmp_path: Path) -> None:
    result = train(glass, "crosscoder", out=tmp_path / "both", against=changed, **asked(text))
    (row,) = result.payload["dictionaries"]
    assert row["reads"] == row["writes"] == ["other:resid_post.1", "resid_post.1"]
    models = row["models"]
    assert models["names"] == [glass.name, "changed"] and min(models["explained"]) > 0.2
    _, part = divided(load_plan(tmp_path / "both" / "plan.safetensors"))
    here, there = (shard(model, part, 0, ["resid_post.1"]) for model in (glass, changed))
    assert torch.equal(here.ids, there.ids)
    (block,) = load_dictionary(tmp_path / "both", glass, against=changed)
    x = {HERE: here.values[HERE], THERE: there.values[HERE]}
    codes = block.dense(x)
    for site, explained in zip((HERE, THERE), models["explained"], strict=True):
        left = x[site] - (codes @ block.decoders[site] + block.offsets[site])
        whole = x[site] - x[site].mean(0)
        assert explained == pytest.approx(1 - float(left.square().sum() / whole.square().sum()), abs=1e-4)
    assert models["features"] and models["alone"][1] >= models["artefacts"][1]
    for entry in models["features"]:
        size = [float(block.decoders[site][entry["feature"]].norm()) for site in (HERE, THERE)]
        assert (size[1] > size[0]) == (entry["model"] == "changed") == (entry["norm"] > 0.9)
        assert entry["fires"] == int((codes[:, entry["feature"]] != 0).sum()) > 0
    again = train(glass, "crosscoder", out=tmp_path / "both", against=changed, **asked(text))
    assert again.id == result.id
    assert read_about(tmp_path / "both").against is not None


def test_what_a_crosscoder_cannot_be(glass: Model, changed: Model, text: str, tmp_path: Path) -> None:
    def says(match: str, kind: str = "crosscoder", **changes: Any) -> None:
        given: dict[str, Any] = {"out": tmp_path / "no", "against": changed} | asked(text, **changes)
        with pytest.raises(HookeError, match=match) as error:
            train(glass, kind, **given)
        assert "\n" not in str(error.value) and not (tmp_path / "no" / "training.json").exists()

    says("name the other", against=None)
    says("both models are the same", against=glass)
    says("reads one model", kind="topk")
    says("less than a half", apart=0.5)
    says("autoencoder of one site", gate="record")
    says("has no other:resid_post.1", site=["other:resid_post.1"])
    says("a harvest is of one", activations=tmp_path, text=None, tokens=None, context=None)
    small = Model(new_hf("llama"), glass.tokenizer, name="two layers")
    says("layers", against=small, site=["resid_post.3"])


def test_other_verbs_refuse_a_crosscoder_in_one_line(glass: Model, changed: Model, text: str, tmp_path: Path) -> None:
    train(glass, "crosscoder", out=tmp_path / "both", against=changed, **asked(text, tokens=2000))
    blocks = load_dictionary(tmp_path / "both", glass)
    for call, match in (
        (lambda: hooke.trace(glass, "The value of the attribute", basis=blocks, nodes=5), "other of two models"),
        (lambda: hooke.evaluate(glass, tmp_path / "both"), "crosscoder is of two models"),
        (lambda: load_dictionary(tmp_path / "both", glass, against=glass), "differs from"),
        (lambda: glass.run(glass.tokens("The value"), read=["other:resid_post.1"]), "other of two models"),
    ):
        with pytest.raises(HookeError, match=match) as error:
            call()
        assert "\n" not in str(error.value)


def test_a_site_in_the_other_model_is_written_so() -> None:
    site = Site.parse("other:resid_post.3")
    assert site == Site("resid_post", 3, other=True) and str(site) == "other:resid_post.3"
    assert sorted([site, Site("resid_post", 7)]) == [Site("resid_post", 7), site]
    assert str(Site.parse("other:final_norm")) == "other:final_norm"
    for bad in ("other:", "other:other:resid_post.1", "others:resid_post.1"):
        with pytest.raises(HookeError):
            Site.parse(bad)
