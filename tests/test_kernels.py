"""Kernels: products in a verb are as exact as outside one, attention is that of a naive loop, settings are put back."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from hooke import kernels
from hooke.threads import fitting

setting = torch.backends.mkldnn.matmul


def other_maker(monkeypatch, name, capability="AVX512"):
    monkeypatch.setattr(kernels, "maker", lambda: name)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    return kernels.wider.__wrapped__()


def test_a_verb_multiplies_as_exactly_as_single_precision_does():
    torch.manual_seed(0)
    x, y = torch.randn(120, 700), torch.randn(300, 700)
    exact = x.double() @ y.double().T
    off = fitting(lambda: (x @ y.T - exact).abs().max())()
    assert off < 1e-5 * exact.abs().max()
    assert (x.bfloat16() @ y.bfloat16().T - exact).abs().max() > 1e-4 * exact.abs().max()  # the check can fail


def test_leave_is_given_only_inside_and_taken_back_after_a_failure(monkeypatch):
    monkeypatch.setattr(kernels, "wider", lambda: True)
    with pytest.raises(ValueError), kernels.exact_products() as who:
        assert who == "oneDNN" and setting.fp32_precision == "bf16"
        with kernels.exact_products():  # a verb inside a verb
            assert setting.fp32_precision == "bf16"
        assert setting.fp32_precision == "bf16"
        raise ValueError
    assert setting.fp32_precision == "none" and torch.get_float32_matmul_precision() == "highest"


def test_what_a_person_set_stays(monkeypatch):
    monkeypatch.setattr(kernels, "wider", lambda: True)
    torch.set_float32_matmul_precision("high")
    try:
        with kernels.exact_products() as who:
            assert who == "as torch has them" and torch.get_float32_matmul_precision() == "high"
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("name, capability", [("GenuineIntel", "AVX512"), ("", "AVX512"), ("AuthenticAMD", "AVX2")])
def test_no_leave_where_mkl_is_as_wide_or_nobody_knows(monkeypatch, name, capability):
    assert not other_maker(monkeypatch, name, capability)


@pytest.mark.parametrize("worst, given", [(1e-3, False), (1e-6, True)])
def test_no_leave_where_products_would_be_rounded(monkeypatch, worst, given):
    monkeypatch.setattr(kernels, "worst", lambda: worst)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    assert other_maker(monkeypatch, "AuthenticAMD") is given
    assert setting.fp32_precision == "none"


def test_the_error_is_found_where_products_are_rounded(monkeypatch):
    """A product rounded to bf16 on the way is seen for what it is."""
    assert kernels.worst() < kernels.ROUNDING
    plain = torch.Tensor.__matmul__

    def rounded(x, y):
        return plain(x, y) if x.dtype == torch.float64 else plain(x.bfloat16().float(), y.bfloat16().float())

    monkeypatch.setattr(torch.Tensor, "__matmul__", rounded)
    assert kernels.worst() > 10 * kernels.ROUNDING


@pytest.mark.parametrize("n_keys", [7, kernels.SHORT, kernels.SHORT + 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_attention_is_that_of_a_loop(n_keys, dtype):
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, n_keys, 8, dtype=dtype) for _ in range(3))
    seen = torch.ones(n_keys, n_keys, dtype=torch.bool).tril()
    with kernels.short_attention(q, n_keys):
        found = scaled_dot_product_attention(q, k, v, attn_mask=seen)
    for at in range(n_keys):
        scores = torch.einsum("bhd,bhkd->bhk", q[:, :, at].double(), k[:, :, : at + 1].double()) / math.sqrt(8)
        want = torch.einsum("bhk,bhkd->bhd", scores.softmax(-1), v[:, :, : at + 1].double())
        assert (found[:, :, at] - want).abs().max() < (2e-2 if dtype == torch.bfloat16 else 1e-5)


def test_only_few_keys_on_a_processor_are_plain_products():
    flash = torch.backends.cuda.flash_sdp_enabled  # the switch of the blocked kernel, on a processor too
    for n_keys, dtype, plain in ((64, torch.float32, True), (65, torch.float32, False), (9, torch.bfloat16, False)):
        with kernels.short_attention(torch.zeros(1, dtype=dtype), n_keys):
            assert flash() is not plain
        assert flash()
    elsewhere = SimpleNamespace(device=SimpleNamespace(type="cuda"), dtype=torch.float32)
    with kernels.short_attention(elsewhere, 9):
        assert flash()
