"""Rotations that depend on how long the whole sequence is (LongRoPE, dynamic NTK).

With such a rotation the keys of a token change with how many tokens follow it. So a stored key serves only a
sequence that turns it the same way, and in a batch each row must be turned by its own length: transformers turns
all rows by the longest, and what a module has seen before can change what it gives next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

FEW = 8  # positions at the beginning, whose rotation is looked at
_DEPENDING = ("dynamic", "longrope")  # words in the names of transformers' kinds that depend on the length


class Rotary:
    """The rotary modules of a model that depend on the length, and what they give. Most models have none."""

    def __init__(self, hf: nn.Module) -> None:
        found = [m for m in hf.modules() if hasattr(m, "rope_type") or "RotaryEmbedding" in type(m).__name__]
        lengths = _named_lengths(getattr(hf, "config", None))
        self.modules = [module for module in found if _depends(module, lengths)]
        self._known: dict[int, bytes] = {}

    def turns(self, length: int) -> bytes | None:
        """A mark of how a sequence of so many tokens is turned: equal for two lengths that share keys."""
        if not self.modules:
            return None
        if length not in self._known:
            with _kept(self.modules):
                self._known[length] = b"".join(_measured(module, length) for module in self.modules)
            if len(self._known) > 1 << 14:
                self._known.pop(next(iter(self._known)))
        return self._known[length]

    def kept(self) -> AbstractContextManager[None]:
        """Leave the modules as they were after a run of the model as it is."""
        return _kept(self.modules)

    @contextmanager
    def turned(self, lengths: Sequence[int]) -> Iterator[None]:
        """Turn row i of a pass as part of a sequence of `lengths[i]` tokens (one number: every row), whatever
        positions the pass itself has and whatever was run before; the modules are left as they were."""
        if not self.modules:
            yield
            return
        with ExitStack() as stack:
            stack.enter_context(_kept(self.modules))
            for module in self.modules:
                own = module.__dict__.get("forward")
                stack.callback(_put_back, module, own)
                module.forward = _by_row(module.forward, list(lengths))
            yield


def _put_back(module: nn.Module, own: Any) -> None:
    module.__dict__.pop("forward", None)
    if own is not None:
        module.__dict__["forward"] = own


def _by_row(original: Callable[..., Any], lengths: list[int]) -> Callable[..., Any]:
    def at(length: int, x: Tensor, positions: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # a module that has grown goes back to its beginning where it is given a short sequence
        original(x, positions.new_zeros(1, 1), *args, **kwargs)
        # modules take the last position for the length, so one more says what it is
        far = positions.new_full((positions.shape[0], 1), length - 1)
        return _each(lambda y: y[:, :-1], original(x, torch.cat([positions, far], 1), *args, **kwargs))

    def forward(x: Tensor, position_ids: Tensor, *args: Any, **kwargs: Any) -> Any:
        if len(set(lengths)) == 1:
            return at(lengths[0], x, position_ids, args, kwargs)
        positions = position_ids.expand(len(lengths), -1)
        out: Any = None
        for length in sorted(set(lengths)):
            rows = torch.tensor([i for i, n in enumerate(lengths) if n == length], device=positions.device)
            part = at(length, x, positions[rows], args, kwargs)
            if out is None:
                out = _each(lambda y: y.new_empty(len(lengths), *y.shape[1:]), part)
            for whole, own in zip(_tuple(out), _tuple(part), strict=True):
                whole[rows] = own
        return out

    return forward


def _tuple(x: Any) -> tuple[Tensor, ...]:
    return x if isinstance(x, tuple) else (x,)


def _each(change: Callable[[Tensor], Tensor], x: Any) -> Any:
    """The same of a tensor, or of each of a tuple (cosines and sines)."""
    return tuple(change(y) for y in x) if isinstance(x, tuple) else change(x)


def _named_lengths(config: Any) -> list[int]:
    """The lengths at which a rotation may turn: all that a configuration names, and powers of two up to them."""
    found: set[int] = set()

    def look(value: Any, name: str) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                look(inner, str(key))
        elif isinstance(value, int) and not isinstance(value, bool) and ("position" in name or "length" in name):
            found.add(value)

    look(dict(getattr(config, "__dict__", {})), "")
    most = max(found, default=0)
    found |= {1 << i for i in range(4, 22) if 1 << i <= most}
    return sorted({n + more for n in found for more in (0, 1) if n > FEW})


def _depends(module: nn.Module, lengths: Sequence[int]) -> bool:
    """Whether the rotation at the beginning is another one in a longer sequence: by name, and by trying."""
    kinds = getattr(module, "rope_type", None)
    names = list(kinds.values()) if isinstance(kinds, dict) else [kinds]
    if any(isinstance(name, str) and word in name for name in names for word in _DEPENDING):
        return True
    try:
        with _kept([module]):
            return len({_measured(module, n) for n in (FEW + 1, *lengths)}) > 1
    except (TypeError, ValueError, RuntimeError, AttributeError, KeyError):  # of another signature
        return False


def _measured(module: nn.Module, length: int) -> bytes:
    """What a module gives the first positions of a sequence of so many tokens, from a fresh beginning."""
    device = next((b.device for b in module.buffers()), torch.device("cpu"))
    x = torch.zeros(1, 1, 1, device=device)
    few = torch.arange(min(FEW, length), device=device)[None]
    kinds = getattr(module, "rope_type", None)
    calls: list[dict[str, Any]] = [{"layer_type": key} for key in kinds] if isinstance(kinds, dict) else [{}]
    forward = _by_row(type(module).forward.__get__(module), [length])
    with torch.no_grad():
        given = [y for kwargs in calls for y in _tuple(forward(x, few, **kwargs))]
    plain = [torch.view_as_real(y) if y.is_complex() else y for y in given]
    return b"".join(y.cpu().numpy().tobytes() for y in plain)


@contextmanager
def _kept(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Leave the modules' buffers and plain values as they were; they change them when they are called."""
    before = []
    for module in modules:
        values = {key: buffer.clone() for key, buffer in module._buffers.items() if buffer is not None}
        before.append((module, dict(module.__dict__), dict(module._buffers), values))
    try:
        yield
    finally:
        for module, plain, buffers, values in before:
            for name in [name for name in module.__dict__ if name not in plain]:
                del module.__dict__[name]
            module.__dict__.update(plain)
            module._buffers.clear()
            module._buffers.update(buffers)
            for name, value in values.items():
                buffer = buffers[name]
                if buffer is not None:  # written to in its place
                    buffer.copy_(value)
