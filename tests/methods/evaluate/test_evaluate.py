"""`hooke evaluate` from end to end: dictionaries whose scores are known, one line for everything that cannot be."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import hooke
from families import one_thread  # noqa: F401  (used by all tests here)
from hooke import HookeError, Model, Result, Site, cli
from hooke.dictionaries.coder import Coder
from hooke.dictionaries.folder import save_dictionary
from hooke.methods.evaluate.measures import METRICS
from hooke.methods.evaluate.standins import ABOUT
from hooke.methods.train import train
from hooke.model.belongs import belongs_to
from verbs import word_model

STREAM = Site("resid_post", 1)
FIRST = ("reconstruction", "losses", "replacement", "jacobian")


@cache
def words() -> Model:
    return word_model("llama", torch.float32)


@cache
def relu() -> Model:
    """A tiny model whose MLPs are ReLU networks, which are transcoders themselves."""
    return word_model("gpt2", torch.float32, activation_function="relu")


def both_signs(site: Site, width: int) -> Coder:
    """The identity: each coordinate is two features, one for what is above zero and one for what is below."""
    eye = torch.eye(width)
    rows = torch.cat([eye, -eye])
    return Coder({site: rows}, torch.zeros(2 * width), {site: rows.clone()}, {site: torch.zeros(width)})


def of_mlp(model: Model, layer: int) -> Coder:
    """The neurons of a ReLU network as a transcoder."""
    block = model.parts.blocks[layer]
    up, down = block.up, block.down
    assert up.bias is not None and down.bias is not None
    read, site = Site("mlp_in", layer), Site("mlp_out", layer)
    return Coder({read: up.weight.clone()}, up.bias.clone(), {site: down.weight.T.clone()}, {site: down.bias.clone()})


def random(read: str, write: str, *, n: int = 16, seed: int = 0) -> Coder:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    a, b = Site.parse(read), Site.parse(write)
    return Coder({a: draw(n, 32) / 4}, draw(n) / 4, {b: draw(n, 32) / 4}, {b: draw(32) / 4})


def value(result: Result, name: str) -> float | None:
    found: float | None = result.payload["metrics"][name]["value"]
    return found


def asked(book: str, **changes: Any) -> dict[str, Any]:
    return {"text": [book], "tokens": 700, "patched": 250, "context": 32, "measures": FIRST} | changes


def test_the_identity_scores_one_everywhere(glass: Model, topics: str) -> None:
    """On the stream of a trained model, where taking a value away costs something."""
    block = both_signs(STREAM, glass.parts.d_model)
    result = hooke.evaluate(glass, [block], text=[topics], tokens=900, patched=300, context=64, measures=FIRST)
    for name in ("explained_variance", "cosine", "shrinkage", "relative_bias", "loss_recovered", "kl_recovered"):
        assert value(result, name) == pytest.approx(1.0, abs=1e-5), name
    for name in ("jacobian_correlation", "local_jacobian"):
        assert value(result, name) == pytest.approx(1.0, abs=1e-4), name
    assert value(result, "kl") == pytest.approx(0.0, abs=1e-6)
    assert value(result, "l0") == pytest.approx(glass.parts.d_model) and value(result, "dead") == 0.0
    controls = result.payload["metrics"]["loss_recovered"]["controls"]
    assert controls["mean"] < 0.9 and controls["random_decoder"] < 0.9
    loss = result.payload["metrics"]["ce_loss"]["blocks"][0]["raw"]
    assert loss["clean"] == pytest.approx(loss["patched"], abs=1e-5) and loss["zero"] > loss["clean"]
    assert "neurons" not in controls and "pca" in controls and "linear" not in controls
    assert "agreement" not in result.payload["metrics"] and "replaces none" in result.payload["left_out"]["replacement"]


def test_a_dictionary_of_zeros_scores_nothing(glass: Model, topics: str) -> None:
    block = both_signs(STREAM, glass.parts.d_model)
    zeros = replace(block, decoders={STREAM: torch.zeros_like(block.decoders[STREAM])})
    result = hooke.evaluate(glass, [zeros], text=[topics], tokens=900, patched=300, context=64, measures=FIRST)
    metrics = result.payload["metrics"]
    assert metrics["explained_variance"]["value"] <= 0 and metrics["cosine"]["value"] == 0.0
    assert metrics["loss_recovered"]["value"] == metrics["kl_recovered"]["value"] == 0.0
    assert metrics["ce_loss"]["value"] == metrics["ce_loss"]["controls"]["zero"]
    assert metrics["local_jacobian"]["value"] == 0.0 and metrics["relative_bias"]["value"] is None
    refuted = {claim.text.split(" in ")[0] for claim in result.claims if claim.verdict == "refuted"}
    assert "It beats as many principal components" in refuted


def test_neurons_as_a_transcoder_are_the_mlp(book: str) -> None:
    """Every MLP replaced by itself, written as a dictionary: nothing changes, and the controls do worse."""
    model = relu()
    result = hooke.evaluate(model, [of_mlp(model, layer) for layer in range(3)], **asked(book))
    for name in ("explained_variance", "cosine", "agreement", "jacobian_correlation", "local_jacobian"):
        assert value(result, name) == pytest.approx(1.0, abs=1e-4), name
    assert value(result, "replacement_kl") == pytest.approx(0.0, abs=1e-6)
    assert value(result, "hard_agreement") in (None, 1.0)
    metrics = result.payload["metrics"]
    assert [block["name"] for block in metrics["explained_variance"]["blocks"]] == [f"mlp_out.{n}" for n in range(3)]
    assert [block["name"] for block in metrics["agreement"]["blocks"]] == ["all"]
    for control in ("neurons", "linear", "random_decoder", "untrained", "mean"):
        assert metrics["explained_variance"]["controls"][control] < 0.999
        assert metrics["replacement_kl"]["controls"][control] > 1e-4
    ours, l0 = metrics["explained_variance"]["controls"], metrics["l0"]
    assert ours["neurons"] > ours["untrained"]  # some of the very neurons
    assert l0["controls"]["neurons"] == pytest.approx(l0["value"], abs=1.0)
    held = {claim.text.split(":")[0] for claim in result.claims if claim.verdict == "tested"}
    assert "It beats neurons at equal L0 in explained variance" in held


def test_each_site_and_the_mean_of_all(book: str) -> None:
    blocks = [random("mlp_in.1", "mlp_out.1"), random("mlp_in.2", "mlp_out.2", seed=1)]
    result = hooke.evaluate(words(), blocks, **asked(book, measures=["reconstruction", "losses"]))
    for name, metric in result.payload["metrics"].items():
        values = [block["value"] for block in metric["blocks"] if block["value"] is not None]
        assert metric["value"] == (pytest.approx(sum(values) / len(values)) if values else None), name
        assert metric["title"] == METRICS[name].title and metric["about"] and set(metric["controls"]) <= set(ABOUT)
        if metric["interval"] is not None:
            low, high = metric["interval"]
            assert low <= metric["value"] <= high
    alone = hooke.evaluate(words(), blocks, **asked(book, measures=["reconstruction", "losses"], layers="2"))
    assert alone.payload["metrics"]["kl"]["value"] == pytest.approx(
        result.payload["metrics"]["kl"]["blocks"][1]["value"]
    )
    gains = alone.payload["metrics"]["explained_variance"]["gains"]
    controls = alone.payload["metrics"]["explained_variance"]["controls"]
    assert gains["mean"]["value"] == pytest.approx(
        alone.payload["metrics"]["explained_variance"]["value"] - controls["mean"]
    )
    for claim in alone.claims[1:]:
        _, name, _, control = claim.evidence[0].split(".")
        low = alone.payload["metrics"][name]["gains"][control]["interval"][0]
        assert claim.verdict == ("tested" if low > 0 else "refuted")


def test_a_seed_gives_the_same_result(book: str) -> None:
    blocks = [random("mlp_in.1", "mlp_out.1")]
    first, again = (hooke.evaluate(words(), blocks, **asked(book)) for _ in range(2))
    other = hooke.evaluate(words(), blocks, **asked(book, seed=1))
    assert first.id == again.id != other.id
    assert value(first, "explained_variance") == pytest.approx(value(other, "explained_variance"), abs=0.3)
    few = hooke.evaluate(words(), blocks, **asked(book, controls=["neurons"]))
    assert set(few.payload["controls"]) == {"neurons", "oracle"}
    assert value(few, "explained_variance") == value(first, "explained_variance")


def test_sites_with_heads_and_the_last_norm_can_be_measured(book: str) -> None:
    for site in (Site("z", 1), Site("final_norm")):
        result = hooke.evaluate(words(), [both_signs(site, 32)], **asked(book))
        assert value(result, "explained_variance") == pytest.approx(1.0, abs=1e-5)
        assert value(result, "kl") == pytest.approx(0.0, abs=1e-6)
        assert value(result, "jacobian_correlation") == pytest.approx(1.0, abs=1e-4)


def test_half_precision_is_measured_in_single(book: str) -> None:
    model = word_model("llama", torch.bfloat16)
    result = hooke.evaluate(model, [both_signs(STREAM, 32)], **asked(book))
    assert value(result, "explained_variance") == pytest.approx(1.0, abs=1e-3)
    assert value(result, "kl") == pytest.approx(0.0, abs=1e-3)


REFUSED: dict[str, tuple[Callable[[], list[Coder]], dict[str, Any], str]] = {
    "no blocks": (list, {}, "no dictionary is given"),
    "another width": (lambda: [both_signs(STREAM, 16)], {}, "takes 16 numbers at resid_post.1, and llama has 32"),
    "no such layer": (lambda: [both_signs(Site("resid_post", 9), 32)], {}, "resid_post.9, which llama does not have"),
    "patterns": (lambda: [both_signs(Site("pattern", 1), 32)], {}, "a value for each two tokens"),
    "reads late": (lambda: [random("mlp_out.2", "mlp_out.1")], {}, "reads mlp_out.2 after mlp_out.1, which it writes"),
    "twice": (lambda: [random("mlp_in.1", "mlp_out.1"), random("mlp_in.1", "mlp_out.1", seed=2)], {}, "one by one"),
    "a layer that it lacks": (lambda: [random("mlp_in.1", "mlp_out.1")], {"layers": "2"}, "writes nothing in layer 2"),
    "no such measure": (lambda: [random("mlp_in.1", "mlp_out.1")], {"measures": ["scr"]}, "no measure called 'scr'"),
    "no such control": (lambda: [random("mlp_in.1", "mlp_out.1")], {"controls": ["x"]}, "no control called 'x'"),
    "no such task": (
        lambda: [random("mlp_in.1", "mlp_out.1")], {"measures": ["probing"], "tasks": ["tens"]}, "did you mean 'tense'",
    ),
    "more than there is": (lambda: [random("mlp_in.1", "mlp_out.1")], {"tokens": 10**6}, "give other --text, or fewer"),
    "too few tokens": (lambda: [random("mlp_in.1", "mlp_out.1")], {"tokens": 20, "patched": 5}, "too few to say anything"),
    "more patched": (lambda: [random("mlp_in.1", "mlp_out.1")], {"patched": 9000}, "a part of the 700 tokens"),
    "long context": (lambda: [random("mlp_in.1", "mlp_out.1")], {"context": 999}, "llama reads 17 to 64"),
    "short context": (lambda: [random("mlp_in.1", "mlp_out.1")], {"context": 9}, "llama reads 17 to 64"),
    "no text": (lambda: [random("mlp_in.1", "mlp_out.1")], {"text": ["nowhere.txt"]}, "there is no file or folder"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_one_line(case: str, book: str) -> None:
    blocks, changes, words_of = REFUSED[case]
    with pytest.raises(HookeError) as error:
        hooke.evaluate(words(), blocks(), **asked(book, **changes))
    assert words_of in str(error.value) and "\n" not in str(error.value)


def test_a_folder_of_another_model_is_refused_unless_it_is_allowed(book: str, tmp_path: Path) -> None:
    with pytest.raises(HookeError, match="no file or folder"):
        hooke.evaluate(words(), tmp_path / "nothing", **asked(book))
    (tmp_path / "empty").mkdir()
    with pytest.raises(HookeError):
        hooke.evaluate(words(), tmp_path / "empty", **asked(book))
    save_dictionary([random("mlp_in.1", "mlp_out.1")], tmp_path / "sweep" / "k-8")
    with pytest.raises(HookeError, match="sweep holds the dictionaries of a sweep; evaluate one of them: k-8"):
        hooke.evaluate(words(), tmp_path / "sweep", **asked(book))
    other = word_model("qwen2", torch.float32)
    save_dictionary([random("mlp_in.1", "mlp_out.1")], tmp_path / "d", belongs_to=belongs_to(other))
    with pytest.raises(HookeError, match=r"made from 'qwen2' and differs from 'llama' in its weights"):
        hooke.evaluate(words(), tmp_path / "d", **asked(book))
    result = hooke.evaluate(words(), str(tmp_path / "d"), **asked(book, transfer=True, measures=["reconstruction"]))
    assert result.payload["differs"][0].startswith("weights") and result.arguments["transfer"] is True
    assert any("belongs to another model" in note for note in result.payload["notes"])


def test_a_constant_site_has_nothing_to_explain(book: str) -> None:
    model = word_model("gpt2", torch.float32)
    with torch.no_grad():
        model.hf.transformer.h[2].mlp.c_proj.weight.zero_()
    block = random("mlp_in.2", "mlp_out.2")
    with pytest.raises(HookeError, match=r"mlp_out.2 does not vary|all zero"):
        hooke.evaluate(model, [block], **asked(book, controls=["mean"]))


def test_what_was_trained_is_measured_and_told(
    glass: Model, topics: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From training to the table and to the keys that scripts rely on."""
    train(
        glass, "transcoder", layers="1-2", text=[topics], tokens=6000, features=96, k=[8], batch=128, context=64, lr=2e-3,
        out=tmp_path / "t",
    )  # fmt: skip
    monkeypatch.setattr("hooke.model.load.load", lambda name=None, **_: glass)
    words_of = [
        "hooke", "evaluate", str(tmp_path / "t"), "--text", topics, "--tokens", "1200", "--patched", "600", "--context", "64",
        "--task", "tense", "--task", "number", "--out", str(tmp_path / "e.json"),
    ]  # fmt: skip
    seen = []
    for more in (["--json"], ["--measure", "reconstruction", "--measure", "absorption"]):
        monkeypatch.setattr(sys, "argv", [*words_of, *more])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code in (0, None)
        seen.append(capsys.readouterr().out)
    found = json.loads(seen[0])
    assert found["kind"] == "evaluation" and found["payload"]["dictionary"] == "t"
    metrics = found["payload"]["metrics"]
    assert set(metrics) == set(METRICS) - {"absorption", "absorption_fraction", "first_letter_f1"}
    assert "single tokens" in found["payload"]["left_out"]["absorption"]  # the tiny tokenizer has letters
    for name in ("explained_variance", "ce_loss", "kl", "agreement", "replacement_loss", "jacobian_correlation"):
        assert {"random_decoder", "neurons"} <= set(metrics[name]["controls"])
        assert metrics[name]["interval"][0] <= metrics[name]["value"] <= metrics[name]["interval"][1]
    assert metrics["explained_variance"]["value"] > metrics["explained_variance"]["controls"]["random_decoder"]
    assert {"dense_probe", "neurons", "pca", "shuffled_labels"} <= set(metrics["sparse_probing"]["controls"])
    assert [task["name"] for task in found["payload"]["tasks"]] == ["tense", "number"]
    assert found["payload"]["text"]["left_out"] > 0 and str(tmp_path) not in json.dumps(found["arguments"])
    table = seen[1]
    for text in (
        "explained variance",
        "random",
        "neurons, equal L0",
        "mlp_out.2",
        "It beats",
        "Not measured: absorption",
    ):
        assert text in table
    assert hooke.load_result(tmp_path / "e.json").payload["metrics"].keys() < metrics.keys()
