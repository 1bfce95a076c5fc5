"""What a public function does with an argument of a wrong type: one line that names it, before any work.

The annotations of the function are the rule. Numbers of numpy and torch become Python's, arrays and other iterables
become lists where a list is asked for; what an annotation leaves open is for the function itself to check.
"""

from __future__ import annotations

import inspect
import math
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from itertools import islice
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from hooke.errors import HookeError
from hooke.threads import fitting

P = ParamSpec("P")
T = TypeVar("T")
MOST_SEED = 2**32  # what the generators of all libraries take
MOST = 100_000  # elements of a list that are looked at
_WORDS: dict[Any, str] = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a text",
    type(None): "None",
    Path: "a path",
}
_KINDS = {
    "Model": "a model from hooke.load",
    "Result": "a result",
    "Dataset": "a data set",
    "Tokens": "tokens from model.tokens",
}


class _Unfit(Exception):
    """A value that an annotation does not allow."""


def verb(work: Callable[P, T]) -> Callable[P, T]:
    """What every verb has around it: its arguments are `checked`, and it takes as many threads as are free."""
    return fitting(checked(work))


def checked(work: Callable[P, T]) -> Callable[P, T]:
    """The same function, which refuses arguments that its annotations do not allow with a HookeError."""
    signature = inspect.signature(work)
    hints: dict[str, Any] = {}

    @wraps(work)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        if not hints:
            hints.update(get_type_hints(work))
        bound = signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            kind = signature.parameters[name].kind
            if name in hints and kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
                bound.arguments[name] = argument(name, value, hints[name])
        return work(*bound.args, **bound.kwargs)

    return call


def argument(name: str, value: Any, hint: Any) -> Any:
    """The value as the annotation has it. Raises HookeError if it does not allow the value."""
    try:
        found = _fit(value, hint)
    except _Unfit:
        raise HookeError(f"{name} must be {_described(hint)}, not {shown(value)}") from None
    if name == "seed" and not 0 <= found < MOST_SEED:
        raise HookeError(f"a seed is a whole number from 0 to {MOST_SEED - 1:,}, not {str(found)[:20]}")
    return found


def shown(value: Any) -> str:
    """A value of any kind in a few words, for an error: its type, and itself where that is short."""
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        text = repr(value)
        return text if len(text) <= 60 else text[:57] + "..."
    if type(value) in (list, tuple) and all(isinstance(each, (int, float, str, type(None))) for each in value[:9]):
        text = repr(value[:9])
        return text if len(text) <= 60 and len(value) < 10 else f"{text[:40]}…"
    shape = getattr(value, "shape", None)
    return f"{type(value).__name__}{f' {tuple(shape)}' if isinstance(shape, tuple) else ''}"


def _fit(value: Any, hint: Any) -> Any:
    origin = get_origin(hint)
    if hint is Any or isinstance(hint, TypeVar):
        return value
    if origin in (Union, types.UnionType):
        return _first(value, get_args(hint))
    if hint is None or hint is type(None):
        return _is(value is None, value)
    if origin is Literal:
        return _is(type(value) in {type(option) for option in get_args(hint)}, value)
    if hint in (bool, int, float):
        return _number(value, hint)
    if hint is str:
        return _is(isinstance(value, str), value)
    if origin is Callable or hint is Callable:
        return _is(callable(value) and not isinstance(value, type), value)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _is(isinstance(value, Mapping), value)
    if origin is tuple and Ellipsis not in get_args(hint):
        fits = isinstance(value, tuple) and len(value) == len(get_args(hint))
        return _is(fits, value) and tuple(_fit(*pair) for pair in zip(value, get_args(hint), strict=True))
    if isinstance(origin, type) and issubclass(origin, Iterable):
        return _several(value, get_args(hint))
    if isinstance(hint, type) and getattr(hint, "_is_protocol", False):
        names = [name for name in {**vars(hint), **hint.__annotations__} if not name.startswith("_")]
        return _is(all(hasattr(value, name) for name in names), value)
    if isinstance(hint, type):  # of a named tuple, a plain one will do
        return _is(isinstance(value, (tuple, list) if issubclass(hint, tuple) and hint is not tuple else hint), value)
    return value


def _first(value: Any, options: Sequence[Any]) -> Any:
    for option in options:
        try:
            return _fit(value, option)
        except _Unfit:
            continue
    raise _Unfit


def _is(fits: bool, value: Any) -> Any:
    if not fits:
        raise _Unfit
    return value


def _number(value: Any, kind: type) -> Any:
    """A number of Python out of one of numpy, or of a tensor of one number."""
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        try:
            value = value.item()
        except (RuntimeError, TypeError):
            raise _Unfit from None
    if kind is bool or isinstance(value, bool):
        return _is(kind is bool and isinstance(value, bool), value)
    if kind is int:
        return int(_is(isinstance(value, Integral), value))
    value = _is(isinstance(value, Real), value)
    return value if isinstance(value, Integral) else float(_is(math.isfinite(value), value))


def _several(value: Any, inner: Sequence[Any]) -> Any:
    if isinstance(value, (str, bytes, Mapping)) or hasattr(value, "model_dump") or not isinstance(value, Iterable):
        raise _Unfit
    if hasattr(value, "tolist"):
        try:
            value = value.tolist()  # an array or a tensor
        except (RuntimeError, TypeError):  # of torch, for what holds no numbers
            raise _Unfit from None
        _is(isinstance(value, list), value)
    elif not isinstance(value, (list, tuple)):
        value = list(islice(value, MOST + 1))
        if len(value) > MOST:
            raise HookeError(f"a list that is made on the way ends after {MOST:,} elements: give a shorter one")
    if not inner or len(value) > MOST:
        return value
    found = [_fit(each, inner[0]) for each in value]
    return value if all(a is b for a, b in zip(found, value, strict=True)) else found


def _described(hint: Any) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        found = list(dict.fromkeys(_described(each) for each in inner))
        return ", ".join(found[:-1]) + f" or {found[-1]}" if len(found) > 1 else found[0]
    if origin is Literal:
        return " or ".join(map(repr, inner))
    if hint in _WORDS:
        return _WORDS[hint]
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "a dictionary"
    if origin is Callable or hint is Callable:
        return "a function"
    if isinstance(origin, type) and issubclass(origin, Iterable):
        return "a list" + (f" (each {_described(inner[0])})" if inner and inner[0] is not Any else "")
    name = getattr(hint, "__name__", str(hint))
    return _KINDS.get(name, f"a {name}")
