"""Which kernels multiply in single precision on a processor: the fastest of those that round as it does.

Products: torch gives matrix products to MKL, which on processors of other makers than its own takes vectors half as
wide as they have. oneDNN takes whole ones, twice as fast, but torch hands them over only with leave to round to bf16,
which oneDNN takes where a processor multiplies tiles of bf16. So leave is given, for the length of a verb, only where
products come out as exact with it as without; that is looked at once in a process.

Attention: torch's kernel for a processor works in blocks of keys, and takes five times as long as the plain products
do for as few keys as a short prompt has.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

ROUNDING = 1e-5  # of the largest entry of a product; single precision is off by 1e-6, bf16 by 1e-3
SHORT = 64  # keys up to which plain products are faster than torch's blocks on a processor
SHAPES = ((1, 5, 64, 300), (64, 1024), (64, 500))  # rows, inner and columns of the products that are looked at


@contextmanager
def exact_products() -> Iterator[str]:
    """The fastest exact products for the length of the block, then what was before. Gives who makes them. What a
    person has set in torch stays."""
    import torch

    setting: Any = getattr(torch.backends.mkldnn, "matmul", None)
    if setting is None or setting.fp32_precision != "none" or not wider():
        yield "as torch has them"
        return
    setting.fp32_precision = "bf16"
    try:
        yield "oneDNN"
    finally:
        setting.fp32_precision = "none"


@cache
def wider() -> bool:
    """Whether oneDNN makes products of single precision with wider vectors than MKL would, and as exactly. Asked only
    where torch has the setting."""
    import torch

    if torch.backends.cpu.get_cpu_capability() != "AVX512" or not torch.backends.mkl.is_available():
        return False
    if not torch.backends.mkldnn.is_available() or maker() in ("", "GenuineIntel"):
        return False
    setting: Any = getattr(torch.backends.mkldnn, "matmul", None)
    setting.fp32_precision = "bf16"
    try:
        return worst() < ROUNDING
    finally:
        setting.fp32_precision = "none"


def worst() -> float:
    """The largest error of products as torch makes them now, of the largest entry, over shapes that passes have."""
    import torch

    generator, found = torch.Generator().manual_seed(0), 0.0

    def off(x: Tensor, y: Tensor) -> float:
        exact = x.double() @ y.double()
        return float((x @ y - exact).abs().max() / exact.abs().max())

    for rows, inner, columns in product(*SHAPES):
        x = torch.randn(rows, inner, generator=generator)
        y = torch.randn(columns, inner, generator=generator)
        found = max(found, off(x, y.T), off(x, y.T.contiguous()))
    x, y = (torch.randn(9, 14, 64, generator=generator) for _ in range(2))
    return max(found, off(x, y.transpose(1, 2)))


def maker() -> str:
    """Who made the processor, as it says itself; empty where nobody tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor().split(", ")[-1]
    return next((line.split(":")[1].strip() for line in lines if line.startswith("vendor_id")), "")


def short_attention(like: Tensor, n_keys: int) -> AbstractContextManager[Any]:
    """The faster attention for so many keys: plain products for few on a processor, else what torch takes.

    like: a tensor of the device and type that it works on.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    if like.device.type != "cpu" or n_keys > SHORT or like.dtype not in (torch.float32, torch.float64):
        return nullcontext()
    return sdpa_kernel(SDPBackend.MATH)
