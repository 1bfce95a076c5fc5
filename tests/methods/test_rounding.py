"""What rounding does is no effect: no verdict, share or correlation is made of it, and nothing of NaN."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import hooke
from families import new_hf, random_ids
from hooke import HookeError
from hooke.methods.attribute import correlations
from hooke.methods.metrics import logit_difference, rounding
from hooke.methods.patch.path import path_patch
from verbs import word_model

HALF = [torch.float32, torch.bfloat16, torch.float16]
LONG = " ".join(f"w{i}" for i in (11, 5, 9, 23, 7, 8, 13, 14, 15, 16, 17, 18))
FAR = LONG.replace("w11 ", "w77 ", 1)  # differs where a window of three tokens in three layers does not reach back to


@pytest.mark.parametrize("dtype", HALF)
def test_a_counterfactual_out_of_reach_has_no_effects(dtype: torch.dtype) -> None:
    """The logits are bit for bit the same with plain transformers, so there is nothing that a neuron could matter for."""
    hf, ids = new_hf("mistral", dtype), [[int(w[1:]) for w in text.split()] for text in (LONG, FAR)]
    plain = [hf(torch.tensor([row])).logits[0, -1] for row in ids]
    assert torch.equal(*plain)
    model = word_model("mistral", dtype)
    p = hooke.trace(model, LONG, counterfactual=FAR, nodes=40).payload
    v = p["verification"]
    assert v["as_predicted"] == v["not_as_predicted"] == 0 and v["no_effect"] > 0
    assert v["fit"] is None and v["random_fit"] is None
    assert all(v[key] is None for key in ("spearman", "gradient_spearman", "groups_spearman", "sign_agreement"))
    assert {g["verdict"] for g in p["groups"]} == {"no-effect"}
    assert "matters" not in {path["verdict"] for path in p["paths"]}


def test_a_share_of_next_to_nothing_is_not_printed() -> None:
    """The counterfactual moves the answer by less than 0.01 nats; the nodes were said to keep -8.6 of that."""
    p = hooke.trace(word_model("gpt2", torch.float32), LONG, counterfactual=FAR, nodes=40).payload
    assert 0 < abs(p["verification"]["range"]) < 0.01
    assert p["verification"]["fit"] is None and "keep - of the effect" in p["tested"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_prompts_that_only_rounding_tells_apart_have_a_note(dtype: torch.dtype) -> None:
    """Clean and corrupt differ by one spacing of the type at the largest logit, or less."""
    model = word_model("gpt2", dtype)
    logits = [model.run(text, logits="last").logits[0].float() for text in (LONG, FAR)]  # type: ignore[index]
    step = float(logits[0].abs().max()) * torch.finfo(dtype).eps
    apart = logits[0] - logits[1]
    pair = next(
        (int(a), int(b))
        for a in apart.argsort()[:20]
        for b in apart.argsort()
        if a != b and 0 < abs(float(apart[a] - apart[b])) < step
    )
    ends: dict[str, int] = {"target": pair[0], "contrast": pair[1]}
    for said in (
        hooke.patch(model, LONG, FAR, **ends).payload,  # type: ignore[arg-type]
        path_patch(model, LONG, FAR, ["input->m0"], **ends).payload,  # type: ignore[arg-type]
        hooke.attribute(model, LONG, FAR, method="atp", **ends).payload["pairs"][0],  # type: ignore[arg-type]
    ):
        assert "rounding alone may move the metric" in said["notes"][-1]


def test_where_one_patch_does_far_more_than_the_prompts_differ_by_a_note_says_so() -> None:
    model = word_model("gpt2", torch.float32)
    p = hooke.patch(model, LONG, FAR, target="w5", contrast="w9").payload
    shares = np.array(p["normalised"]["resid_post"], float)
    assert np.abs(shares).max() > 3
    assert "moves the metric most, and the wrong way: by -" in p["sentence"]
    assert f"differ by {abs(p['clean'] - p['corrupt']):.2g} only" in p["notes"][-1]
    near = hooke.patch(model, LONG, LONG.replace("w18", "w19"), target="w5", contrast="w9").payload
    assert near["notes"] == [] and "brings back" in near["sentence"]


def test_the_same_effect_at_all_places_has_no_rank() -> None:
    """The stream at the last position is all there is, so each layer of it restores the whole difference."""
    model = word_model("gpt2", torch.float32)
    clean, corrupt = "w11 w5 w9 w23", "w11 w5 w9 w24"
    result = hooke.attribute(model, clean, corrupt, sites="resid_post", method="atp")
    exact = result.tensors["exact:resid_post:0"][:, -1]
    assert np.ptp(exact) < 1e-5 < abs(exact[0])
    assert result.payload["agreement"]["atp"]["spearman"] is None
    assert "one side is the same everywhere" in result.payload["sentence"]
    more = hooke.attribute(model, clean, corrupt, sites=["resid_post", "mlp_out"], method="atp")
    assert "Over 6 places of one pair" in more.payload["sentence"]
    two = hooke.attribute(model, clean, corrupt, sites=["mlp_out.1", "mlp_out.2"], method="atp")
    assert two.payload["agreement"]["atp"] | {"intervals": 0} == {
        "pearson": None, "spearman": None, "spearman_size": None, "n_places": 2, "n_pairs": 1, "intervals": 0,
    }  # fmt: skip


def test_correlations_of_what_is_constant() -> None:
    none = {"pearson": None, "spearman": None, "spearman_size": None}
    for both in (np.zeros((2, 0)), np.ones((2, 1)), np.array([[0.1] * 3, [1.0, 2.0, 3.0]]), np.full((2, 7), 0.3)):
        assert correlations(both) == none
    noisy = np.array([[1.0, 2.0, 3.0, 4.0], [0.5, 0.5 + 1e-7, 0.5 - 1e-7, 0.5]])
    assert correlations(noisy, 1e-6) == none and correlations(noisy)["spearman"] is not None
    sizes = correlations(np.array([[1.0, -1.0, 1.0, -1.0], [1.0, -2.0, 3.0, -4.0]]))
    assert sizes["spearman_size"] is None and sizes["spearman"] is not None


def test_metrics_are_taken_in_single_precision() -> None:
    """Two half-precision logits have a difference that their type cannot hold."""
    logits = torch.tensor([[10.0, 0.0078125]], dtype=torch.bfloat16)
    assert float(logit_difference(0, 1)(logits)) == 10.0 - 0.0078125


def test_generation_from_logits_that_say_nothing_ends_in_a_line() -> None:
    """NaN counts as the largest of numbers, so an answer was made of it."""
    hf = new_hf("gpt2")
    hf.transformer.h[1].mlp.c_proj.weight[0, 0] = torch.inf
    model = hooke.Model(hf, None, name="broken")
    for temperature in (0.0, 1.0):
        with pytest.raises(HookeError, match="logits are not finite"):
            model.generate(random_ids(1, 4), max_new_tokens=2, temperature=temperature)
    fine = hooke.Model(new_hf("gpt2"), None, name="fine")
    cold = fine.generate(random_ids(1, 4), max_new_tokens=3, temperature=1e-300)
    assert torch.equal(cold.tokens, fine.generate(random_ids(1, 4), max_new_tokens=3).tokens)


@pytest.mark.parametrize("token", [3, 60, 77])
def test_a_token_whose_embedding_is_nan_is_exchanged_for_nothing(token: int) -> None:
    model = word_model("llama", torch.float32)
    model.hf.get_input_embeddings().weight[token] = torch.nan  # type: ignore[operator]
    p = hooke.trace(model, "w11 w5 w9 w23", nodes=30).payload
    assert all(token not in row["ids"] for row in p["counterfactuals"]["prompts"])


def test_rounding_by_hand() -> None:
    logits = torch.tensor([1.0, -20.0, 5.0])
    assert rounding(logits, torch.bfloat16) == 2 * 2**-7 * 16 and rounding(logits, torch.float32) == 16 * 2**-23 * 16
    assert rounding(torch.zeros(3), torch.float16) == rounding(torch.tensor([torch.nan, 1]), torch.float16) == 0
    assert rounding(torch.tensor([torch.inf, 1]), torch.float16) == 0
