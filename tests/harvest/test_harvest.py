"""Activations of many texts in one pass, against one plain run a text."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from hooke import HookeError, Model
from hooke.data.labelled.rows import Row
from hooke.harvest import Wanted, activations, harvest, prompts
from hooke.methods.probe import random_twin
from hooke.model.budget import Budget

TEXTS = ["Alice was tired.", "The rabbit ran very fast down the hole and then", "Oh dear! Oh dear!", "Down."]
ROWS = [Row(text, 0, text) for text in TEXTS]


@pytest.mark.parametrize(
    "template", [None, "Said the cat: {text} And so on", "Once upon a time there was a girl. {text}"]
)
@pytest.mark.parametrize("shared", [activations.SHARED, 999])
def test_one_pass_is_one_run_a_text(
    glass: Model, template: str | None, shared: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activations, "SHARED", shared)  # 999: what all prompts begin with is run with each
    seen: list[float] = []
    kept = harvest(glass, ROWS, Wanted.of(glass, tokens=["resid_post.2"]), template=template, progress=seen.append)
    before, _, after = (template or "{text}").partition("{text}")
    for i, text in enumerate(TEXTS):
        whole = glass.tokenizer(before + text + after, return_offsets_mapping=True)
        ids = torch.tensor(whole["input_ids"])
        inside = [n for n, (a, b) in enumerate(whole["offset_mapping"]) if b > len(before) and a < len(before + text)]
        run = glass.run(ids, read=["resid_post.2", "resid_post.3"])
        for site in ("resid_post.2", "resid_post.3"):
            x = run.acts[site][0].numpy()
            key = next(k for k in kept.pooled if str(k[0]) == site and k[1] == "mean")
            assert np.allclose(kept.pooled[key][i], x[inside].mean(0), atol=1e-4)
            key = next(k for k in kept.pooled if str(k[0]) == site and k[1] == "last")
            assert np.allclose(kept.pooled[key][i], x[-1], atol=1e-4)
        tokens = next(iter(kept.tokens.values()))[kept.rows(i)]
        assert np.allclose(tokens, run.acts["resid_post.2"][0].numpy()[inside[0] :], atol=1e-4)
        log = run.logits[0].log_softmax(-1)
        each = [float(log[n - 1, ids[n]]) for n in inside if n > 0]
        assert kept.log_probability[i] == pytest.approx(np.mean(each), abs=1e-4)
        assert kept.length[i] == len(inside) and kept.ids[i] == ids[inside[0] :].tolist()
    assert seen[-1] == pytest.approx(1.0) and seen == sorted(seen)


def test_answers_are_read_after_the_chat_template(smol: Model) -> None:
    row = Row("Paris.", 1, "g", user="What is the capital of France?", system="Be brief.")
    (prompt,) = prompts(smol, [row])
    assert "".join(smol.text(prompt.ids[prompt.start : prompt.stop])) == "Paris."
    before = "".join(smol.text(prompt.ids[: prompt.start]))
    assert "Be brief." in before and before.endswith("assistant\n") and "France?" in before
    (bare,) = prompts(smol, [Row("Paris.", 1, "g", user="Capital?")])
    assert "You are a helpful AI assistant" not in "".join(smol.text(bare.ids))  # the template's own message


def test_bad_texts_are_refused(glass: Model) -> None:
    with pytest.raises(HookeError, match="no texts"):
        harvest(glass, [])
    with pytest.raises(HookeError, match="row 2 has an empty text"):
        harvest(glass, [ROWS[0], Row("  ", 0, "g")])
    with pytest.raises(HookeError, match=r"row 1 is \d+ tokens"):
        harvest(glass, [Row("word " * 500, 0, "g")])
    with pytest.raises(HookeError, match="exactly once"):
        harvest(glass, ROWS, template="no place for it")
    with pytest.raises(HookeError, match="no chat template"):
        harvest(glass, [Row("yes", 1, "g", user="Is it?")])
    with pytest.raises(HookeError, match="no pool"):
        harvest(glass, ROWS, Wanted.of(glass, pools=["median"]))


def test_what_would_not_fit_is_refused_before_it_is_kept(glass: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activations, "budget", lambda device: Budget(1000, 2**20, 2048))
    with pytest.raises(HookeError, match="give fewer texts, sites or pools"):
        harvest(glass, ROWS)


def test_a_stopped_run_goes_on_where_it_was(glass: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activations, "SHARD", 1)
    whole = harvest(glass, ROWS, Wanted.of(glass, tokens=["resid_post.1"]))

    def stop(done: float) -> None:
        if done >= 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        harvest(glass, ROWS, Wanted.of(glass, tokens=["resid_post.1"]), keep=tmp_path, progress=stop)
    done = sorted(tmp_path.iterdir())
    assert 1 <= len(done) < len(ROWS)
    done[0].write_bytes(done[0].read_bytes()[:100])  # a damaged part is made again
    calls = []
    real = Model.run
    monkeypatch.setattr(Model, "run", lambda self, *a, **k: calls.append(1) or real(self, *a, **k))
    again = harvest(glass, ROWS, Wanted.of(glass, tokens=["resid_post.1"]), keep=tmp_path)
    assert len(calls) == len(ROWS) - len(done) + 1
    for key, x in whole.pooled.items():
        assert np.allclose(again.pooled[key], x, atol=1e-4)
    for site, x in whole.tokens.items():
        assert np.allclose(again.tokens[site], x, atol=1e-4)
    assert np.allclose(again.log_probability, whole.log_probability, atol=1e-4) and again.ids == whole.ids
    assert np.array_equal(again.offsets, whole.offsets)
    other = random_twin(glass)
    calls.clear()
    harvest(other, ROWS, Wanted.of(other, tokens=["resid_post.1"]), keep=tmp_path)
    assert len(calls) == len(ROWS)  # nothing of another model is taken


def test_without_likelihood_the_model_stops_after_the_last_site(glass: Model) -> None:
    whole, part = (
        harvest(glass, ROWS, Wanted.of(glass, sites=["resid_post.1"])),
        harvest(glass, ROWS, Wanted.of(glass, sites=["resid_post.1"], likelihood=False)),
    )
    for key, x in whole.pooled.items():
        assert np.allclose(part.pooled[key], x, atol=1e-5)
    assert np.isnan(part.log_probability).all() and np.isfinite(whole.log_probability).all()


class Said(NamedTuple):
    """A row that nobody has labelled."""

    text: str
    user: str = ""
    system: str = ""


def test_rows_need_no_label(glass: Model) -> None:
    labelled, bare = harvest(glass, ROWS), harvest(glass, [Said(text) for text in TEXTS])
    assert all(np.array_equal(labelled.pooled[key], x) for key, x in bare.pooled.items())


def test_what_is_kept_in_parts_has_to_fit_as_a_whole(
    glass: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activations, "SHARD", 1)
    monkeypatch.setattr(Model, "run", lambda *_, **__: pytest.fail("it was run"))
    one = 4 * 2 * 4 * glass.parts.d_model  # bytes of a text: two pools of four layers
    monkeypatch.setattr(activations, "budget", lambda device: Budget(2 * one, 2**20, 2048))
    with pytest.raises(HookeError, match="give fewer texts, sites or pools"):
        harvest(glass, ROWS, keep=tmp_path)


def test_a_kept_part_of_another_shape_is_made_again(glass: Model, tmp_path: Path) -> None:
    whole = harvest(glass, ROWS, keep=tmp_path)
    (path,) = tmp_path.iterdir()
    harvest(glass, ROWS, Wanted.of(glass, sites=["resid_post.1"]), keep=tmp_path / "other")
    (other,) = (tmp_path / "other").iterdir()
    other.replace(path)
    again = harvest(glass, ROWS, keep=tmp_path)
    assert all(np.array_equal(whole.pooled[key], x) for key, x in again.pooled.items())
