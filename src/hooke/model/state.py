"""What state a model is in: held still for a run and put back after it, and known again by its weights.

A person's model is theirs: training flags, gradients, hooks and configuration are the same after Hooke as before.
And what a result says about the weights is about those that ran, however they were changed since they were loaded.
"""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hooke.errors import HookeError

BLOCK = 1024  # words of eight bytes that are summed together
# what a configuration may say anew without the model computing anything else
_HARMLESS = ("use_cache", "output_", "_token_id", "dtype", "architectures", "name_or_path", "version")
_PLAIN = (bool, int, float, str, type(None))


Hung = tuple[nn.Module, Any]


class Turn:
    """Whose turn it is, and how many runs are inside one another now."""

    def __init__(self) -> None:
        self.lock, self.depth = threading.RLock(), 0


# A run changes the model's hooks and its configuration, so runs take turns, also those of several
# `Model`s over one transformers model or one configuration. By id of the configuration.
_TURNS: weakref.WeakValueDictionary[int, Turn] = weakref.WeakValueDictionary()


def turn_of(hf: nn.Module) -> Turn:
    """The one turn of all runs of a model."""
    return _TURNS.setdefault(id(hf.config), Turn())


class Loaded(NamedTuple):
    """What a model was when it was loaded: which module stands where in which, of which class; its configuration."""

    tree: list[tuple[nn.Module, str, nn.Module, type]]
    config: dict[str, Any]


def loaded(hf: nn.Module) -> Loaded:
    """What a model is now."""
    tree = [(m, name, child, type(child)) for m in modules_of(hf) for name, child in m._modules.items() if child]
    return Loaded(tree, config_of(hf))


def refuse_changed(hf: nn.Module, name: str, before: Loaded) -> None:
    """Raise HookeError if a model was taken apart or its configuration changed since it was loaded, because what Hooke
    knows of it is then wrong."""
    for parent, key, child, kind in before.tree:
        found = parent._modules.get(key)
        if found is not child or (type(found) is not kind and not hasattr(found, "parametrizations")):
            where = next((path for path, m in hf.named_modules() if m is parent), "")
            path = f"{where}.{key}".strip(".")
            now = "gone" if found is None else type(found).__name__
            now = f"another {now}" if now == kind.__name__ else now
            raise HookeError(
                f"modules of {name} were replaced since it was loaded ({path} was {kind.__name__}, is {now}); load "
                "it again"
            )
    other = what_differs(before.config, config_of(hf))
    if other:
        raise HookeError(f"the configuration of {name} changed since it was loaded ({other}); load it again")


def hung_on(modules: Iterable[nn.Module]) -> list[Hung]:
    """What people hung on modules that may change what they compute: hooks, other forwards, compiled calls."""
    found: list[Hung] = []
    for module in modules:
        own = module.__dict__
        if module._forward_hooks or module._forward_pre_hooks or "forward" in own or own.get("_compiled_call_impl"):
            each = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
            each += [own[key] for key in ("forward", "_compiled_call_impl") if own.get(key) is not None]
            found += [(m, hook) for m, hook in ((module, e) for e in each) if not _ours(hook)]
    return found


def _ours(hook: Any) -> bool:
    return str(getattr(hook, "__module__", "")).startswith("hooke.")


def hung_names(hf: nn.Module) -> list[str]:
    """The same as a result records it: the path of the module, and the name of what hangs there."""
    names = [(path or type(hf).__name__, hook) for path, m in hf.named_modules() for _, hook in hung_on([m])]
    return sorted(f"{path}: {getattr(hook, '__qualname__', type(hook).__name__)}" for path, hook in names)


@contextmanager
def noticed(hung: list[Hung]) -> Iterator[list[Any]]:
    """While it is open, note which hooks change what passes them; other forwards and compiled calls are taken to."""
    modules = {id(module): module for module, _ in hung}.values()
    stores = [(module, store) for module in modules for store in (module._forward_hooks, module._forward_pre_hooks)]
    hooks = [(store, key, hook) for m, store in stores for key, hook in store.items() if (m, hook) in hung]
    changing = [each for _, each in hung if not any(each is hook for *_, hook in hooks)]
    try:
        for store, key, hook in hooks:
            store[key] = _asked(hook, changing)
        yield changing
    finally:
        for store, key, hook in hooks:
            if key in store:  # it may have been removed meanwhile
                store[key] = hook


def _asked(hook: Any, changing: list[Any]) -> Any:
    """The hook, which tells whether it returned something or wrote into what it was given."""

    def ask(*args: Any, **kwargs: Any) -> Any:
        passing = [x for each in args[1:] for x in _tensors(each)]
        before = [x._version for x in passing]
        given = hook(*args, **kwargs)
        if given is not None or before != [x._version for x in passing]:
            changing.append(hook)
        return given

    return ask


def _tensors(value: Any) -> list[Tensor]:
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, (tuple, list)) else [value]
    return [x for x in inner if isinstance(x, Tensor) and not x.is_inference()]


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


def glance(hf: nn.Module, passing: Collection[nn.Module] = ()) -> tuple[Any, ...]:
    """A mark of the weights that costs next to nothing: addresses and versions of all, and a few numbers
    of each. passing: modules whose buffers runs set anew."""
    found, some = [], []
    with torch.no_grad():
        for module in modules_of(hf):
            own = module._parameters.values()
            found += [(p.data_ptr(), 0 if p.is_inference() else p._version) for p in own if p is not None]
            buffers = () if module in passing else module._buffers.values()
            for value in (*own, *buffers):
                if value is not None:
                    flat, n = value.contiguous(), value.numel()
                    some.append(flat.as_strided((min(64, n),), (max(1, n // 64),)))
        return (*found, torch.cat(some).float().cpu().numpy().tobytes())


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
