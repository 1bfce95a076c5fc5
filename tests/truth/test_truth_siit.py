"""Kept models that were trained to hold a program: measured again on fresh inputs; a small training from scratch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from families import close, logits_of, one_thread  # noqa: F401
from hooke.errors import HookeError
from hooke.model import Edit, check_model
from hooke.sites import Site
from hooke.truth.known import Known, compiled, known, labelled, random_twin
from hooke.truth.mixed import computation
from hooke.truth.plain import KEPT
from hooke.truth.programs import program
from hooke.truth.trained import siit
from hooke.truth.trained.recipes import RECIPES
from hooke.truth.trained.siit import Recipe

NAMES = siit.kept()


def of(name: str, kind: str = "siit") -> Known:
    return next(known(kind, [name]))


def test_enough_models_are_kept_and_they_are_small() -> None:
    assert set(NAMES) == set(RECIPES) == set(siit.kept("nodes"))
    assert "indirect-object" in NAMES and len(NAMES) >= 25
    assert len({program(name).family for name in NAMES}) >= 8
    assert sum(path.stat().st_size for path in KEPT.iterdir()) < 10_000_000


@pytest.mark.parametrize("kind", ["siit", "nodes"])
@pytest.mark.parametrize("name", NAMES)
def test_a_kept_model_holds_its_program_on_fresh_inputs(name: str, kind: str) -> None:
    """At least 99.5 % of entries are right: plain, with a node of the circuit from another input, and with a node
    outside from another input; of single edges nearly as many, where those were trained."""
    one = of(name, kind)
    assert one.kind == kind and one.model.info.get("nodes_only", False) == (kind == "nodes")
    assert siit.Recipe(**one.model.info["recipe"]) == RECIPES[name]
    found = siit.measure(
        compiled(name), one.model.hf, labelled(name)[0].living, one.model.info["alignment"], pairs=24, seed=99
    )
    for measure in ("accuracy", "interchange", "strictness"):
        assert found[measure] >= 0.995, found
    assert kind == "nodes" or (found["edge_interchange"] >= 0.97 and found["edge_strictness"] >= 0.99), found
    assert one.model.info["measures"]["accuracy"] >= 0.995
    assert one.model.info["seconds"] > 0


@pytest.mark.parametrize("name", ["histogram", "fraction-a", "indirect-object"])
def test_kept_models_are_ordinary_models_with_norms(name: str) -> None:
    one = of(name)
    check_model(one.model)
    assert one.kind == "siit" and one.model.hf.config.activation_function == "gelu"
    labels = labelled(name)[0]
    assert one.edges == {siit.renamed(edge, one.model.info["alignment"]) for edge in labels.true}
    assert len(one.edges) == len(labels.true) and len(one.labels.dead) == len(labels.dead)
    assert one.labels.circuits == (one.edges,) and one.labels.alone == one.edges
    parts = computation(one.model.hf)
    every = parts.places
    assert one.edges | one.labels.dead < set(every)
    assert set(parts.writers) - one.nodes  # there are parts outside the circuit
    base, source = one.pairs(100, seed=5)
    answers = one.answers(base)
    logits = logits_of(one.model, base)
    if one.numeric:
        close(logits[:, 1:, one.outputs["value"]], answers, 0.06)
    else:
        assert bool((logits[:, 1:].argmax(-1) == answers).float().mean() > 0.99)
    assert bool((one.metric(logits_of(one.model, source), logits) > 0.01).float().mean() > 0.95)


def test_interchange_by_plain_edits() -> None:
    """The share of right outputs with one head from the source, by ordinary runs and the program's own Python."""
    one, made = of("histogram"), compiled("histogram")
    to = one.model.info["alignment"]
    nodes, bank = siit.node_swaps(made, one.model.hf, labelled("histogram")[0].living, to)
    assert nodes == sorted({"m0", next(iter(to))}) and len(bank.low) == 2
    base, source = one.pairs(60, seed=8)
    head = next(iter(to.values()))
    layer, number = int(head[1]), int(head[4])
    z = one.model.run(source, read=[f"z.{layer}"]).acts[f"z.{layer}"][:, :, number : number + 1]
    edit = Edit(Site("z", layer), value=z, index=[number])
    got = logits_of(one.model, base, edits=[edit])[:, 1:].argmax(-1)
    # the head holds how many there are, and all that follows is read from it
    assert bool((got == one.answers(source)).float().mean() > 0.995)
    outside = next(n for n in computation(one.model.hf).writers if n.startswith("a") and n not in one.nodes)
    layer, number = int(outside[1]), int(outside[4])
    z = one.model.run(source, read=[f"z.{layer}"]).acts[f"z.{layer}"][:, :, number : number + 1]
    edit = Edit(Site("z", layer), value=z, index=[number])
    got = logits_of(one.model, base, edits=[edit])[:, 1:].argmax(-1)
    assert bool((got == one.answers(base)).float().mean() > 0.995)


def test_a_random_twin_holds_nothing() -> None:
    one = of("histogram")
    twin = random_twin(one, seed=3)
    check_model(twin.model)
    found = siit.measure(
        compiled("histogram"), twin.model.hf, labelled("histogram")[0].living, one.model.info["alignment"], pairs=16
    )
    assert found["accuracy"] < 0.6 and found["interchange"] < 0.6


def test_a_small_training_learns_all_three(tmp_path: Path) -> None:
    """Seconds are enough to come far from where a random model is."""
    made, living = compiled("shift-one"), labelled("shift-one")[0].living
    recipe = Recipe("shift-one", steps=140, tail=60, rows=24, n_heads=3, d_head=8, d_mlp=32)
    hf, record = siit.train(made, living, recipe)
    found = siit.measure(made, hf, living, record["alignment"], pairs=32)
    assert found["accuracy"] > 0.9 and found["interchange"] > 0.8 and found["strictness"] > 0.85, found
    assert record["recipe_sha256"] == recipe.sha256 and not any(p.requires_grad for p in hf.parameters())


def test_an_interrupted_training_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(siit, "SAVE_EVERY", 4)
    made, living = compiled("shift-one"), labelled("shift-one")[0].living
    recipe = Recipe("shift-one", steps=10, tail=5, rows=8, n_heads=3, d_head=4, d_mlp=8)
    whole, _ = siit.train(made, living, recipe)
    file = tmp_path / "state.safetensors"
    real, steps = siit.loss, []

    def interrupted(*args: object) -> torch.Tensor:
        steps.append(1)
        if len(steps) > 18:  # three losses a step: in the seventh
            raise KeyboardInterrupt
        return real(*args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(siit, "loss", interrupted)
        with pytest.raises(KeyboardInterrupt):
            siit.train(made, living, recipe, file)
    resumed, record = siit.train(made, living, recipe, file)
    assert record["steps"] == 10
    for a, b in zip(whole.parameters(), resumed.parameters()):
        assert torch.equal(a, b)
    other = Recipe("shift-one", steps=2, tail=1, rows=8, n_heads=3, d_head=4, d_mlp=8)
    assert siit.train(made, living, other, file)[1]["steps"] == 2  # another recipe's state is not gone on from
    file.write_bytes(b"damaged")
    with pytest.raises(HookeError, match="is damaged"):
        siit.train(made, living, recipe, file)


def test_what_cannot_be_loaded_or_aligned() -> None:
    with pytest.raises(HookeError, match="siit-nothing"):
        siit.load("nothing", compiled("histogram"))
    with pytest.raises(HookeError, match="needs more than"):
        siit.alignment(compiled("peak"), Recipe("peak", n_heads=2))
    assert next(known("siit", ["histogram"])).name == "histogram"
