"""Numbers are what they are called: printed changes against plain transformers with plain hooks, soft caps included."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import hooke
from families import new_hf
from hooke.errors import HookeError
from hooke.methods.metric import Metric
from hooke.methods.patch.pair import NAMED
from hooke.methods.phrases import quote
from hooke.methods.quantities import QUANTITIES
from hooke.model import Model
from hooke.results import Result
from hooke.results.verdicts import WORDS

ROOT = Path(__file__).parents[2]


def neurons_of(hf: Any, ids: Sequence[int]) -> list[Tensor]:
    """What enters every down projection, (pos, d_mlp) a layer, by plain hooks."""
    seen: list[Tensor] = []
    hooks = [
        b.mlp.down_proj.register_forward_pre_hook(lambda m, args: seen.append(args[0][0])) for b in hf.model.layers
    ]
    with torch.no_grad():
        hf(torch.tensor([list(ids)]))
    for hook in hooks:
        hook.remove()
    return seen


def with_neurons(hf: Any, ids: Sequence[int], wanted: dict[tuple[int, int, int], float]) -> Tensor:
    """Last logits with neurons (layer, position, neuron) set to values, by plain hooks."""

    def setter(layer: int) -> Any:
        def hook(module: Any, args: Any) -> Any:
            x = args[0].clone()
            for (at, p, i), value in wanted.items():
                if at == layer:
                    x[0, p, i] = value
            return (x,)

        return hook

    hooks = [b.mlp.down_proj.register_forward_pre_hook(setter(k)) for k, b in enumerate(hf.model.layers)]
    with torch.no_grad():
        logits = hf(torch.tensor([list(ids)])).logits[0, -1].float()
    for hook in hooks:
        hook.remove()
    return logits


def reported(logits: Tensor, target: int, contrast: int | None) -> float:
    """Log-probability, or the difference of two logits, of what the model gives."""
    return float(logits.log_softmax(-1)[target] if contrast is None else logits[target] - logits[contrast])


def place(name: str) -> tuple[int, int, int]:
    layer, neuron, position = (int(x) for x in name.split("_"))
    return layer, position, neuron


def check_groups(model: Model, ids: Sequence[int], result: Result) -> int:
    """Every measured number of a trace, again by plain hooks on the counterfactuals whose ids it holds."""
    hf, texts = model.hf, model.text(range(model.parts.d_vocab))
    payload = json.loads(result.to_json())["payload"]
    target = payload["target"]["id"]
    contrast = None if payload["contrast"] is None else payload["contrast"]["id"]
    assert payload["quantity"]["name"] == ("log-probability" if contrast is None else "logit difference")
    clean = with_neurons(hf, ids, {})
    runs = [neurons_of(hf, row["ids"]) for row in payload["counterfactuals"]["prompts"]]
    told = [(g["nodes"], g["measured"], g) for g in payload["groups"]]
    for nodes, said, group in told:
        changes, words = [], []
        for run in runs:
            off = {(at := place(name)): float(run[at[0]][at[1], at[2]]) for name in nodes}
            after = with_neurons(hf, ids, off)
            changes.append(reported(after, target, contrast) - reported(clean, target, contrast))
            words.append(after.log_softmax(-1) - clean.log_softmax(-1))
        mean = sum(changes) / len(changes)
        assert said == pytest.approx(mean, abs=2e-3)
        if group is not None:
            assert f"changes the {payload['quantity']['name']} by {said:+.2f}" in group["text"]
            assert group["range"] == pytest.approx([min(changes), max(changes)], abs=2e-3)
            for name in group["promotes"]:
                assert quote(name) in group["text"]
                same = [i for i, text in enumerate(texts) if text == name]
                assert any(float(torch.stack(words).mean(0)[i]) < 0 for i in same)
    for row in payload["counterfactuals"]["prompts"]:
        after = with_neurons(hf, row["ids"], {})
        change = reported(after, target, contrast) - reported(clean, target, contrast)
        assert row["change"] == pytest.approx(change, abs=2e-3)
    for run in payload["interventions"]:
        names = {n["id"]: n for n in payload["graph"]["nodes"]}
        goal = {}
        for name in run["nodes"]:
            own = names[name]
            base = own["value"] - own["delta"] if own.get("delta") is not None else 0.0
            goal[place(name)] = base if run["op"] == "off" else 2 * own["value"]
        after = with_neurons(hf, ids, goal)
        change = reported(after, target, contrast) - reported(clean, target, contrast)
        assert run["change"] == pytest.approx(change, abs=5e-3)
    return len(told)


def test_a_measured_change_is_the_change_of_log_probability(glass: Model) -> None:
    prompt = "Alice was beginning to get very tired of sitting"
    result = hooke.trace(glass, prompt, nodes=60)
    assert check_groups(glass, glass.tokens(prompt).ids[0].tolist(), result) > 2


def test_with_a_contrast_it_is_the_logit_difference(glass: Model) -> None:
    prompt, other = "Alice was beginning to get very", "Alice was beginning to look very"
    ids, others = glass.tokens(prompt).ids[0].tolist(), glass.tokens(other).ids[0].tolist()
    assert len(ids) == len(others)
    logits = with_neurons(glass.hf, ids, {})
    target, contrast = logits.topk(2).indices.tolist()
    result = hooke.trace(glass, prompt, target=target, contrast=contrast, counterfactual=other, nodes=60)
    assert check_groups(glass, ids, result) > 0
    assert "centred" not in result.payload["sentence"]  # what is predicted is what is measured


@pytest.mark.parametrize("contrast", [None, 11])
def test_soft_caps_are_in_what_is_reported(glass: Model, contrast: int | None) -> None:
    """Gemma 2 squeezes its logits; a graph adds up to what they were before, and says so."""
    hf = new_hf("gemma2", vocab_size=glass.parts.d_vocab)
    model = Model(hf, glass.tokenizer, name="gemma2")
    ids = [5, 40, 77, 12, 90, 33]
    other = [5, 41, 70, 12, 88, 33]
    result = hooke.trace(
        model, model.tokens(torch.tensor(ids)), target=7, contrast=contrast, nodes=40,
        counterfactual=[model.tokens(torch.tensor(other))],
    )  # fmt: skip
    assert check_groups(model, ids, result) > 0
    inside = "centred logit" if contrast is None else "logit difference before the soft cap"
    assert result.payload["graph_quantity"]["name"] == inside and f"the {inside} by" in result.payload["sentence"]


def test_the_reported_sign_is_the_sign_of_what_is_reported(smol: Model) -> None:
    """Where all tokens repeat, switching groups off can raise a token's logit and lower what is above the average."""
    prompt = "apple apple apple apple apple apple"
    ids = smol.tokens(prompt).ids[0].tolist()
    result = hooke.trace(smol, prompt, nodes=60)
    assert check_groups(smol, ids, result) > 2


def test_traces_of_before_say_how_to_make_them_again(glass: Model, tmp_path: Path) -> None:
    """Older traces measured what the graph adds up to, called it the logit, and had signed paths."""
    old = json.loads(hooke.trace(glass, "Alice was beginning to get very tired", nodes=40).to_json())
    for key in ("quantity", "graph_quantity", "counterfactuals", "tested"):
        old["payload"].pop(key)
    for path in old["payload"]["paths"]:
        path["sign"] = -1
    file = tmp_path / "old.json"
    file.write_text(json.dumps(old))
    with pytest.raises(
        HookeError, match=r"old\.json holds a trace .* does not read \(quantity: .*again \(hooke trace\)"
    ):
        hooke.load_result(file)


def test_metric_and_its_two_quantities() -> None:
    torch.manual_seed(0)
    before = 4 * torch.randn(3, 50).double()
    capped = 5 * torch.tanh(before / 5)
    one, two = Metric(3, None, 5.0), Metric(3, 8, 5.0)
    assert torch.allclose(one(capped), capped.log_softmax(-1)[:, 3])
    assert torch.allclose(two(capped), capped[:, 3] - capped[:, 8])
    assert torch.allclose(one.graph(capped), before[:, 3] - before.mean(-1), atol=1e-4)
    assert torch.allclose(two.graph(capped), before[:, 3] - before[:, 8], atol=1e-4)
    assert torch.allclose(one(capped[0]), capped[0].log_softmax(-1)[3])
    assert [m.quantity.name for m in (one, two)] == ["log-probability", "logit difference"]
    assert Metric(3, 8, None).graph_quantity == Metric(3, 8, None).quantity


def test_patch_measures_log_probability_and_the_plain_logit(glass: Model) -> None:
    clean, corrupt = "Alice was beginning to get very", "Alice was beginning to look very"
    rows = [glass.tokens(p).ids[0].tolist() for p in (clean, corrupt)]
    ends = [with_neurons(glass.hf, row, {}) for row in rows]
    target = int(ends[0].argmax())
    for name, of in (("log-probability", lambda x: x.log_softmax(-1)[target]), ("logit", lambda x: x[target])):
        payload = hooke.patch(glass, clean, corrupt, metric=name, target=target).payload
        assert [payload["clean"], payload["corrupt"]] == pytest.approx([float(of(x)) for x in ends], abs=1e-4)
        with pytest.raises(HookeError, match="takes no contrast"):
            hooke.patch(glass, clean, corrupt, metric=name, target=target, contrast=5)


def test_every_quantity_has_one_name_and_stands_in_the_docs() -> None:
    names = [q.name for q in QUANTITIES]
    assert len(set(names)) == len(names) and all(q.about and q.equation and q.unit for q in QUANTITIES)
    assert {name.replace("-", " ") for name in NAMED} - {"kl"} <= {name.replace("-", " ") for name in names}
    page = (ROOT / "docs" / "quantities.md").read_text()
    for q in QUANTITIES:
        assert f"| {q.name} | `{q.equation}` | {q.unit} | {q.about} |" in page


def test_the_words_of_verdicts_are_the_same_everywhere() -> None:
    source = (ROOT / "web" / "src" / "core" / "Verdict.tsx").read_text()
    docs = (ROOT / "docs" / "quantities.md").read_text()
    built = (ROOT / "src" / "hooke" / "viewer" / "static" / "page.js").read_text()
    for verdict, words in WORDS.items():
        assert f'"{words}"' in source and verdict in source
        assert f"| `{verdict}` | {words} |" in docs and words in built
