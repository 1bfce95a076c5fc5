"""Rotary positions as a GGUF file states them, as transformers' rope parameters.

What scales the frequencies stands in a GGUF file in two places: keys (`rope.scaling.*`) and tensors (`rope_freqs`,
`rope_factors_long`, `rope_factors_short`) by which each frequency is divided.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from hooke.model.gguf_file import GgufFile, missing, unsupported

FREQS, LONG, SHORT = "rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"
# factors come as fp32, computed by other people's order of operations
_CLOSE = 2e-6

# a key, and the values that change nothing (None: any value)
KEYS: dict[str, tuple[Any, ...] | None] = {
    "rope.dimension_count": None,
    "rope.freq_base": None,
    "rope.freq_base_swa": None,
    "rope.scale_linear": None,
    "rope.scaling.type": None,
    "rope.scaling.factor": None,
    "rope.scaling.attn_factor": None,
    "rope.scaling.original_context_length": None,
    "rope.scaling.finetuned": None,  # says that the scaling was trained, not how it works
    "rope.scaling.yarn_attn_factor": None,
    "rope.scaling.yarn_beta_fast": None,
    "rope.scaling.yarn_beta_slow": None,
    "rope.scaling.yarn_ext_factor": (1,),
    "rope.scaling.yarn_log_multiplier": (0,),
    "rope.scaling.alpha": (0,),
}


def rope_parameters(file: GgufFile, *, dim: int, context: int) -> dict[str, Any]:
    """The `rope_parameters` of a configuration that turn each pair of the `dim` rotated dimensions as the file says.

    context: the length that the file gives the model. Raises HookeError, naming the key or tensor, for scaling that
    no such parameters can express.
    """
    base = float(file.number("rope.freq_base", 10000.0))
    kind, factor = _kind(file)
    original = int(file.number("rope.scaling.original_context_length", context) or context)
    attention = float(file.number("rope.scaling.attn_factor", 1.0) or 1.0)
    long, short, freqs = (_factors(file, name, dim) for name in (LONG, SHORT, FREQS))
    if (long is None) != (short is None):
        raise missing(file, SHORT if short is None else LONG, "it has the other half of the rotary factors")
    if kind == "yarn":
        if long is not None or freqs is not None:
            raise unsupported(file, "rope.scaling.type", "yarn beside tensors of rotary factors")
        return _yarn(file, base, factor, original, attention)
    if long is not None and short is not None:
        if freqs is not None or factor != 1:
            raise unsupported(file, FREQS if freqs else "rope.scaling.factor", "a second scaling beside rotary factors")
        if "rope.scaling.attn_factor" not in file.keys and original < context:
            raise missing(file, f"{file.arch}.rope.scaling.attn_factor", "its rotary factors need one")
        return _divided(base, short, long, original, attention)
    if kind == "longrope":
        raise missing(file, LONG, "its rope.scaling.type is longrope")
    each = [factor * f for f in freqs or [1.0] * (dim // 2)]
    plain = {"rope_theta": base}
    if attention != 1:  # only parameters with a list of factors have one
        return _divided(base, each, each, context, attention)
    if all(abs(f - 1) < _CLOSE for f in each):
        return {"rope_type": "default", **plain}
    if max(each) - min(each) < _CLOSE * max(each):
        return {"rope_type": "linear", "factor": each[0] if freqs else factor, **plain}
    return _llama3(each, base, dim, original) or _divided(base, each, each, context, 1.0)


def _kind(file: GgufFile) -> tuple[str, float]:
    """The kind of scaling and its factor; a factor alone is linear, as llama.cpp reads it."""
    factor = float(file.number("rope.scaling.factor", file.number("rope.scale_linear", 1.0)) or 1.0)
    kind = str(file.keys.get("rope.scaling.type", "linear"))
    if kind not in ("none", "linear", "yarn", "longrope"):
        raise unsupported(file, "rope.scaling.type", f"the kind {kind!r}")
    if not math.isfinite(factor) or factor <= 0:
        raise unsupported(file, "rope.scaling.factor", f"the factor {factor}")
    if kind == "none" and factor != 1:
        raise unsupported(file, "rope.scaling.factor", f"a factor {factor:g} with rope.scaling.type none")
    return kind, factor


def _factors(file: GgufFile, name: str, dim: int) -> list[float] | None:
    if name not in file.tensors:
        return None
    values = [float(x) for x in file.values(name).reshape(-1)]
    if len(values) != dim // 2:
        raise unsupported(file, name, f"{len(values)} factors for {dim // 2} rotary frequencies")
    if not all(math.isfinite(x) and x > 0 for x in values):
        raise unsupported(file, name, "factors that are not all positive numbers")
    return values


def _divided(
    base: float, short: Sequence[float], long: Sequence[float], original: int, attention: float
) -> dict[str, Any]:
    """Each frequency divided by a factor of its own: what transformers calls longrope, with equal lists any scaling."""
    return {
        "rope_type": "longrope",
        "short_factor": list(short),
        "long_factor": list(long),
        "original_max_position_embeddings": original,
        "attention_factor": attention,
        "rope_theta": base,
    }


def _yarn(file: GgufFile, base: float, factor: float, original: int, attention: float) -> dict[str, Any]:
    if factor == 1:
        raise missing(file, f"{file.arch}.rope.scaling.factor", "its rope.scaling.type is yarn")
    if "rope.scaling.original_context_length" not in file.keys:
        raise missing(file, f"{file.arch}.rope.scaling.original_context_length", "its rope.scaling.type is yarn")
    attention *= float(file.number("rope.scaling.yarn_attn_factor", 1.0)) * (1 + 0.1 * math.log(factor))
    return {
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": original,
        "attention_factor": attention,
        "beta_fast": float(file.number("rope.scaling.yarn_beta_fast", 32.0)),
        "beta_slow": float(file.number("rope.scaling.yarn_beta_slow", 1.0)),
        "rope_theta": base,
    }


def _llama3(each: Sequence[float], base: float, dim: int, original: int) -> dict[str, Any] | None:
    """The formula of Llama 3 that gives these factors to rounding, if there is one.

    It leaves short waves alone, divides long ones by the factor, and goes over in between: there, the factors say
    where the passage begins and ends. Only the two lengths count, so the one is called 1 as in Llama 3.
    """
    turns = [base ** -(2 * i / dim) / (2 * math.pi) for i in range(dim // 2)]  # a token
    factor = max(each)
    between = [
        (turn, (1 / f - 1 / factor) / (1 - 1 / factor))
        for turn, f in zip(turns, each)
        if 1 + 1e-4 < f < factor * (1 - 1e-4)
    ]
    tries = [(4.0, float(n)) for n in (original, 8192)]
    if len(between) > 1:
        (x0, s0), (x1, s1) = between[0], between[-1]
        slope = (s1 - s0) / (x1 - x0)
        start = slope * x0 - s0  # the share is slope * turn - start
        if start > 0:
            high = 1 + 1 / start
            tries.insert(0, (high, slope / start))
            tries.insert(0, (round(high, 3), float(round(slope / start))))
    for high, length in tries:
        if high > 1 and all(
            abs(_llama3_factor(turn, factor, high, length) / f - 1) < _CLOSE for turn, f in zip(turns, each)
        ):
            return {
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": 1.0,
                "high_freq_factor": high,
                "original_max_position_embeddings": int(length) if length == int(length) else length,
                "rope_theta": base,
            }
    return None


def _llama3_factor(turn: float, factor: float, high: float, length: float) -> float:
    if turn * length > high:
        return 1.0
    if turn * length < 1:
        return factor
    share = (turn * length - 1) / (high - 1)
    return 1 / ((1 - share) / factor + share)
