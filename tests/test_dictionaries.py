"""The contract of dictionaries, and the neuron basis of every family."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu, silu

from families import NAMES, model_of, one_thread, random_ids  # noqa: F401
from hooke.dictionaries import Codes, check_dictionary, neurons
from hooke.model import Edit
from hooke.sites import Site
from transcoders import Transcoder

F64 = torch.float64


def inputs(name: str, dtype: torch.dtype = F64) -> list[dict[Site, Tensor]]:
    """What each layer's MLP reads on a prompt."""
    model = model_of(name, dtype)
    acts = model.run(random_ids(1, 6), read=[f"mlp_in.{layer}" for layer in range(model.parts.n_layers)]).acts
    return [{site: x[0]} for site, x in sorted(acts.items())]


def test_codes_are_sparse_and_come_back() -> None:
    dense = torch.tensor([[0.0, 2.0, 0.0], [0.0, 0.0, 0.0], [-1.0, 0.0, 3.0]])
    codes = Codes.of(dense)
    assert codes.positions.tolist() == [0, 2, 2] and codes.ids.tolist() == [1, 0, 2]
    assert codes.values.tolist() == [2.0, -1.0, 3.0] and codes.shape == (3, 3)
    assert torch.equal(codes.dense(), dense)
    assert torch.equal(Codes.of(torch.zeros(2, 5)).dense(), torch.zeros(2, 5))


@pytest.mark.parametrize(("dtype", "atol"), [(F64, 1e-12), (torch.float32, 1e-5)], ids=["fp64", "fp32"])
@pytest.mark.parametrize("name", NAMES)
def test_neurons_keep_the_contract(name: str, dtype: torch.dtype, atol: float) -> None:
    basis = neurons(model_of(name, dtype))
    for block, x in zip(basis, inputs(name, dtype), strict=True):
        check_dictionary(block, x, atol=atol)
    assert len({block.hash for block in basis}) == len(basis)


@pytest.mark.parametrize("name", NAMES)
def test_neurons_are_what_the_model_computes(name: str) -> None:
    model = model_of(name, F64)
    for layer, block in enumerate(neurons(model)):
        read = [f"mlp_in.{layer}", f"mlp_act.{layer}", f"mlp_proj.{layer}"]
        x, act, proj = model.run(random_ids(1, 6), read=read).acts.values()
        codes = block.encode({block.reads[0]: x[0]})
        torch.testing.assert_close(codes.dense(), act[0], atol=1e-12, rtol=0)
        torch.testing.assert_close(block.decode(codes)[block.writes[0]], proj[0], atol=1e-12, rtol=0)
        assert block.n_features == act.shape[-1]


def test_the_reader_of_a_gated_neuron_is_the_half_rule() -> None:
    model = model_of("llama", F64)
    block, x = neurons(model)[1], inputs("llama")[1]
    at = next(iter(x.values()))[[2, 2, 5]]
    ids = torch.tensor([0, 17, 55])
    readers, consts = block.reader(ids, at)
    mlp = model.hf.model.layers[1].mlp
    for i in range(3):
        w_g, b_g = mlp.gate_proj.weight[ids[i]], mlp.gate_proj.bias[ids[i]]
        w_u, b_u = mlp.up_proj.weight[ids[i]], mlp.up_proj.bias[ids[i]]
        z, u = w_g @ at[i] + b_g, w_u @ at[i] + b_u
        ratio = silu(z) / z
        torch.testing.assert_close(readers[i], 0.5 * (ratio * u * w_g + silu(z) * w_u), atol=1e-12, rtol=0)
        torch.testing.assert_close(consts[i], 0.5 * (ratio * u * b_g + silu(z) * b_u), atol=1e-12, rtol=0)


def test_the_reader_without_a_gate_is_the_held_ratio() -> None:
    model = model_of("gpt2", F64)
    block, x = neurons(model)[1], inputs("gpt2")[1]
    at = next(iter(x.values()))[[0, 3]]
    ids = torch.tensor([3, 100])
    readers, consts = block.reader(ids, at)
    mlp = model.hf.transformer.h[1].mlp
    for i in range(2):
        w, b = mlp.c_fc.weight[:, ids[i]], mlp.c_fc.bias[ids[i]]
        z = w @ at[i] + b
        ratio = gelu(z, approximate="tanh") / z
        torch.testing.assert_close(readers[i], ratio * w, atol=1e-12, rtol=0)
        torch.testing.assert_close(consts[i], ratio * b, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", ["qwen2", "gpt2"])
def test_a_neuron_at_zero_has_its_limit(name: str) -> None:
    """act(z) / z is a half at zero, for SiLU and GELU alike; a zero input of a model without biases gets there."""
    block = neurons(model_of(name, F64))[0]
    assert torch.allclose(block._ratio(torch.zeros(3, dtype=F64)), torch.tensor(0.5, dtype=F64), atol=1e-6)
    at = torch.zeros(2, 32, dtype=F64)
    readers, consts = block.reader(torch.tensor([0, 1]), at)
    assert bool(readers.isfinite().all()) and bool(consts.isfinite().all())
    assert bool(block.push_back(torch.ones(2, block.n_features, dtype=F64), at).isfinite().all())


@pytest.mark.parametrize("name", ["llama", "gpt2", "phi3"])
def test_edits_set_neurons_in_the_live_model(name: str) -> None:
    model, ids = model_of(name, F64), random_ids(1, 6)
    block = neurons(model)[1]
    clean = model.run(ids, read=["mlp_act.1"]).acts["mlp_act.1"][0]
    chosen, positions = torch.tensor([3, 3, 40]), torch.tensor([0, 5, 2])
    for value in (0.1, torch.tensor([0.1, -0.2, 0.3], dtype=F64)):
        expected = clean.clone()
        for i, (feature, position) in enumerate(zip(chosen.tolist(), positions.tolist(), strict=True)):
            expected[position, feature] = value if isinstance(value, float) else value[i]
        got = model.run(ids, read=["mlp_act.1"], edits=block.edits(chosen, value, positions, 6)).acts["mlp_act.1"][0]
        tolerance = 1e-8 if isinstance(value, float) else 1e-12
        torch.testing.assert_close(got, expected, atol=tolerance, rtol=0)
    everywhere = model.run(ids, read=["mlp_act.1"], edits=block.edits(chosen[1:], torch.tensor([1.0, 2.0]))).acts[
        "mlp_act.1"
    ][0]
    expected = clean.clone()
    expected[:, 3], expected[:, 40] = 1.0, 2.0
    assert torch.equal(everywhere, expected)


@pytest.mark.parametrize(
    ("read", "writes"),
    [
        ("mlp_in.1", ["mlp_out.1"]),
        ("resid_mid.1", ["mlp_out.1"]),
        ("mlp_in.0", ["mlp_out.0", "mlp_out.1", "mlp_out.2"]),
    ],
)
def test_transcoders_keep_the_contract(read: str, writes: list[str]) -> None:
    model = model_of("llama", F64)
    block = Transcoder(read, writes, 32, 40, seed=0)
    x = model.run(random_ids(1, 6), read=[read]).acts[read][0]
    check_dictionary(block, {block.reads[0]: x}, atol=1e-12)
    codes = block.encode({block.reads[0]: x})
    assert 0.2 < len(codes.values) / codes.dense().numel() < 0.8  # it is sparse, so the active ones matter


def broken(how: str) -> Transcoder:
    class Broken(Transcoder):
        def reader(self, ids: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
            readers, consts = super().reader(ids, at)
            return readers * (1.01 if how == "reader" else 1.0), consts * (float("nan") if how == "nan" else 1.0)

        def writer(self, ids: Tensor, site: Site) -> Tensor:
            return super().writer(ids, site) + (0.01 if how == "writer" else 0.0)

        def offset(self, site: Site) -> Tensor | None:
            return None if how == "offset" else super().offset(site)

        def push_back(self, cotangent: Tensor, at: Tensor) -> Tensor:
            if how == "push_back":  # forgets which features are active
                return cotangent @ self.encoder
            return super().push_back(cotangent, at)

    return Broken("mlp_in.1", ["mlp_out.1"], 32, 40, seed=0)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("reader", "reader"),
        ("nan", "reader"),
        ("writer", "decode"),
        ("offset", "decode"),
        ("push_back", "push_back"),
    ],
)
def test_a_broken_dictionary_is_caught(how: str, says: str) -> None:
    x: dict[Site, Any] = inputs("llama")[1]
    check_dictionary(broken("nothing"), x)
    with pytest.raises(AssertionError, match=says):
        check_dictionary(broken(how), x)


def test_a_dictionary_with_nothing_active_passes() -> None:
    block = Transcoder("mlp_in.1", ["mlp_out.1"], 32, 40, seed=0)
    block.bias = block.bias - 1e6
    check_dictionary(block, inputs("llama")[1])


def test_an_edit_keeps_the_precision_of_its_value() -> None:
    block = neurons(model_of("llama", F64))[0]
    (edit,) = block.edits(torch.tensor([1]), torch.tensor([1 / 3], dtype=F64), torch.tensor([0]), 2)
    assert isinstance(edit, Edit) and edit.value.dtype == F64 and float(edit.value[0, 1]) == 1 / 3
