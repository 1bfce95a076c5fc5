"""What state a model is in: held still for a run and put back after it, and known again by its weights.

A person's model is theirs: training flags, gradients, hooks and configuration are the same after Hooke as before.
And what a result says about the weights is about those that ran, however they were changed since they were loaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

BLOCK = 1024  # words of eight bytes that are summed together
# what a configuration may say anew without the model computing anything else
_HARMLESS = ("use_cache", "return_dict", "output_", "_token_id", "dtype", "architectures", "name_or_path", "version")
_PLAIN = (bool, int, float, str, type(None))


def modules_of(hf: nn.Module) -> Iterator[nn.Module]:
    """Every module, faster than `modules()`; one that is in two places comes twice."""
    stack = [hf]
    while stack:
        module = stack.pop()
        yield module
        stack.extend(child for child in module._modules.values() if child is not None)


@contextmanager
def evaluating(modules: list[nn.Module], *, grad: bool) -> Iterator[None]:
    """Without dropout, and with no gradients to the weights, for the length of the block."""
    training = [module for module in modules if module.training]
    open_ = [p for m in modules for p in m._parameters.values() if p is not None and p.requires_grad] if grad else []
    try:
        for module in training:
            module.training = False
        for parameter in open_:
            parameter.requires_grad_(False)
        yield
    finally:
        for module in training:
            module.training = True
        for parameter in open_:
            parameter.requires_grad_(True)


def config_of(hf: nn.Module) -> dict[str, Any]:
    """What a configuration says about the computation."""
    plain = getattr(getattr(hf, "config", None), "__dict__", {})
    return {k: _copied(v) for k, v in plain.items() if not k.startswith("_") and not any(w in k for w in _HARMLESS)}


def what_differs(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first key under which two configurations differ, and how; nothing if none does."""
    if before == now:
        return ""
    key = min(
        key for key in before.keys() | now.keys() if key not in before or key not in now or before[key] != now[key]
    )
    return f"{key} was {before.get(key)!r:.40}, is {now.get(key)!r:.40}"


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _copied(v) for k, v in value.items()}
    return list(value) if isinstance(value, list) else value


def settings_of(hf: nn.Module) -> dict[str, Any]:
    """The plain values that modules hold (an epsilon, a scale, a cap, a window), by name."""
    found = {}
    for name, module in hf.named_modules():
        for key, value in module.__dict__.items():
            if key[0] != "_" and key not in ("training", "max_seq_len_cached") and isinstance(value, _PLAIN):
                found[f"{name}.{key}"] = value
    return found


def tensors_of(hf: nn.Module, passing: Collection[nn.Module] = ()) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers by name, but for frequencies that `passing` modules set anew in every run."""
    yield from hf.named_parameters()
    for name, module in hf.named_modules():
        for key, buffer in module._buffers.items():
            if buffer is not None and not (module in passing and key.endswith("inv_freq") and "original" not in key):
                yield f"{name}.{key}", buffer


def stamp(hf: nn.Module, passing: Collection[nn.Module] = ()) -> str:
    """A quick mark of all weights and settings: other content, another mark, whichever way it was changed.

    Versions and addresses of tensors miss what is written through `.data` or a NumPy view, so the content is
    summed: a block at a time and across blocks, exactly, at the speed of memory.
    """
    digest = hashlib.sha256(repr(sorted(settings_of(hf).items())).encode())
    for name, value in tensors_of(hf, passing):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(_sums(value))
    return digest.hexdigest()


def _sums(value: Tensor) -> bytes:
    flat = value.detach().contiguous().view(-1)
    if not flat.numel():
        return b""
    if flat.data_ptr() % 8:
        flat = flat.clone()
    raw = flat.view(torch.uint8)
    n = raw.numel() // (8 * BLOCK)
    out = [raw[n * 8 * BLOCK :].cpu().numpy().tobytes()]
    if n:
        words = raw[: n * 8 * BLOCK].view(torch.int64).view(n, BLOCK)
        out += [words.sum(axis).cpu().numpy().tobytes() for axis in (0, 1)]
    return b"".join(out)


def memory_hash(hf: nn.Module, settings: Mapping[str, Any], passing: Collection[nn.Module] = ()) -> str:
    """The sha256 of the weights in memory, and of the settings that are no longer these."""
    now = settings_of(hf)
    changed = {k: now.get(k) for k in now.keys() | settings.keys() if now.get(k) != settings.get(k)}
    digest = hashlib.sha256(repr(sorted(changed.items())).encode() if changed else b"")
    for name, value in sorted(tensors_of(hf, passing), key=lambda pair: pair[0]):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        raw: Any = value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
        digest.update(raw)
    return digest.hexdigest()
