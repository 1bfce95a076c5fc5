"""Numbers that are none: a result holds finite ones, or says by a null that there is none.

A NaN that is ranked, averaged or rounded looks like a finding, so it is refused where a result is made, for every
verb alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Any

import numpy as np

from hooke.errors import HookeError

_HALF = ("float16", "bfloat16")


def check_finite(kind: str, parts: Mapping[str, Any], dtype: object, n_max: int = 3) -> None:
    """Raise HookeError naming the first places of a result that hold NaN or infinity, and what to do about it.

    parts: the result's fields and arrays by name. dtype: of the model, as results record it.
    """
    found: list[str] = []
    for name, value in parts.items():
        for where in not_finite(value, name):
            found.append(where)
            if len(found) > n_max:
                break
    if not found:
        return
    more = " and others" if len(found) > n_max else ""
    places = ", ".join(found[:n_max])
    if str(dtype) == "float16":
        do = "float16 ends at 65,504; load the model in float32 or bfloat16 (--dtype float32)"
    elif str(dtype) in _HALF:
        do = "load the model in float32 (--dtype float32)"
    else:
        do = "look for NaN, infinity or very large values in the weights of the model"
    raise HookeError(f"{kind} gives numbers that are not finite ({places}{more}); {do}")


def not_finite(value: Any, where: str) -> Iterator[str]:
    """The places in nested dictionaries, lists and arrays whose number is NaN or infinite."""
    if isinstance(value, (float, np.floating)):
        if not math.isfinite(value):
            yield where
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from not_finite(inner, f"{where}.{str(key)[:40]}")
    elif isinstance(value, (list, tuple)):
        if set(map(type, value)) <= {float, int, NoneType}:  # a column of numbers, perhaps of half a million
            yield from (f"{where}[{i}]" for i, x in enumerate(value) if isinstance(x, float) and not math.isfinite(x))
            return
        for i, inner in enumerate(value):
            if not isinstance(inner, (str, int)):
                yield from not_finite(inner, f"{where}[{i}]")
    elif isinstance(value, np.ndarray):
        if value.dtype.kind in "fc" and not bool(np.isfinite(value).all()):
            yield where
        elif value.dtype.kind == "O":
            yield from not_finite(value.tolist(), where)
    elif hasattr(value, "model_dump"):
        yield from not_finite(value.model_dump(), where)
