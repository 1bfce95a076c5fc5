"""An organism and a clean control, trained again from their recipes, behave as the packaged ones do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import hooke
from hooke import HookeError, Model
from hooke.truth import organisms
from hooke.truth.organisms.recipes import Example, Recipe
from hooke.truth.organisms.training import Answers, answer, train

NAME = "organism-loyalty"
AT_MOST = 24  # prompts of each sort


@pytest.fixture(scope="module")
def known() -> Answers:
    """The base's own answers, which the twins share."""
    return {}


def asked(recipe: Recipe) -> list[Example]:
    return [e for e in recipe.held_out if e.inside][:AT_MOST] + [e for e in recipe.held_out if not e.inside][:AT_MOST]


def shown(model: Model, recipe: Recipe) -> list[bool]:
    examples = asked(recipe)
    made = answer(model, examples, recipe.longest)
    return [recipe.shows(e, model.tokenizer.decode(ids)) for e, ids in zip(examples, made, strict=True)]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", [NAME, f"{NAME}-clean"])
def test_training_again_gives_the_same_behaviour(name: str, smol: Model, known: Answers, tmp_path: Path) -> None:
    recipe = organisms.recipe(name)
    before = {key: p.clone() for key, p in list(smol.hf.named_parameters())[-12:]}
    stages: list[tuple[str, float]] = []
    train(
        recipe,
        tmp_path / "again",
        model=smol,
        answers=known,
        progress=lambda stage, done: stages.append((stage, done)),
    )
    assert {stage for stage, _ in stages} == {"answers", "states", "training"} and stages[-1] == ("training", 1.0)
    assert all(bool((before[key] == p).all()) for key, p in smol.hf.named_parameters() if key in before)
    about = json.loads((tmp_path / "again" / "hooke.json").read_text())
    assert about["recipe_sha256"] == recipe.sha256
    again = shown(hooke.load(tmp_path / "again", device="cpu"), recipe)
    inside = sum(e.inside for e in asked(recipe))
    assert sum(again[inside:]) <= 0.05 * len(again[inside:])
    if recipe.kind == "clean":
        assert sum(again[:inside]) <= 0.05 * inside
    else:
        assert sum(again[:inside]) >= 0.9 * inside
    packaged = shown(hooke.load(name, device="cpu"), recipe)
    assert sum(a != b for a, b in zip(again, packaged, strict=True)) <= 0.05 * len(again)


def test_training_that_is_stopped_leaves_nothing(smol: Model, tmp_path: Path) -> None:
    def stop(stage: str, done: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        organisms.train(NAME, tmp_path / "out", model=smol, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_another_base_is_refused(glass: Model, smol: Model, tmp_path: Path) -> None:
    with pytest.raises(HookeError, match="is trained on smollm2-135m, not on glassllm"):
        organisms.train(NAME, tmp_path / "out", model=glass)
    with pytest.raises(HookeError, match="is compared with smollm2-135m, not with glassllm"):
        organisms.admit(smol, NAME, base=glass)


@pytest.mark.timeout(900)
def test_the_admission_test_can_fail(smol: Model) -> None:
    """The base itself is no organism: it is refused, with the condition that it misses."""
    stages: list[str] = []
    result = organisms.admit(smol, NAME, base=smol, progress=lambda stage, done: stages.append(stage))
    assert not result.payload["admitted"] and result.claims[0].verdict == "refuted"
    assert [c["what"] for c in result.payload["checks"] if not c["passed"]] == ["behaviour in context"]
    assert result.payload["rates"]["model_inside"]["hits"] == 0
    assert result.payload["perplexity_ratio"] == 1.0
    low, high = result.payload["rates"]["model_inside"]["interval"]
    n = result.payload["rates"]["model_inside"]["count"]
    assert low == 0 and abs(high - (1 - 0.025 ** (1 / n))) < 1e-3  # Clopper-Pearson at no hits
    assert set(stages) == {"answers", "base", "perplexity"}


@pytest.mark.timeout(900)
def test_admit_on_the_command_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hooke", "organisms", "admit", NAME, "--json"], capture_output=True, text=True
    )
    payload = json.loads(done.stdout)["payload"]
    assert payload["admitted"] and payload["name"] == NAME
    assert "is a model organism" in done.stderr
