"""Named places in the computation of a transformer, each defined by an equation.

A `Site` is a point and a layer, written `resid_post.12`. The points are listed once, below, as data;
`model/checks.py` proves their equations on every model that is loaded. Symbols: x is the residual
stream, LN a norm (RMS or layer norm, y = w (x - mean) / scale + b, mean = 0 for RMS), W matrices as
they act on column vectors, h a head.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import total_ordering
from numbers import Integral
from typing import Any

from hooke.errors import HookeError


@dataclass(frozen=True)
class Point:
    """One row of the table: what is there, its shape, and what it equals."""

    name: str
    shape: str
    equation: str
    scope: str = "layer"  # "layer": one in every block; "model": one in the whole model


# In the order in which a block computes them; edits and early stopping rely on this order.
_ROWS = [
    Point("resid_pre", "batch pos d_model", "the stream entering block l; for l = 0 the embedded tokens"),
    Point("attn_scale", "batch pos 1", "denominator of the norm before attention"),
    Point("attn_in", "batch pos d_model", "what W_Q, W_K and W_V multiply: LN(resid_pre), or resid_pre without a norm"),
    Point("q", "batch pos head d_head", "W_Q attn_in + b_Q, before any query norm and before rotary"),
    Point("k", "batch pos kv_head d_head", "W_K attn_in + b_K, before any key norm and before rotary"),
    Point("v", "batch pos kv_head d_head", "W_V attn_in + b_V"),
    Point("scores", "batch head query key", "scaled, soft-capped and masked query-key products"),
    Point("pattern", "batch head query key", "softmax(scores) over keys"),
    Point("z", "batch pos head d_head", "pattern . v, what W_O multiplies"),
    Point("attn_post_scale", "batch pos 1", "denominator of the norm after attention, where there is one"),
    Point("attn_out", "batch pos d_model", "what the stream receives: W_O z + b_O, after any post-norm"),
    Point("resid_mid", "batch pos d_model", "resid_pre + attn_out (not in parallel blocks)"),
    Point("mlp_scale", "batch pos 1", "denominator of the norm before the MLP"),
    Point(
        "mlp_in", "batch pos d_model", "what the first MLP matrix multiplies: LN(resid_mid), or resid_mid with no norm"
    ),
    Point("mlp_pre", "batch pos d_mlp", "what the nonlinearity takes: W_gate mlp_in (gated) or W_in mlp_in, with bias"),
    Point("mlp_up", "batch pos d_mlp", "W_up mlp_in + b_up (gated MLPs only)"),
    Point("mlp_act", "batch pos d_mlp", "what W_down multiplies: act(mlp_pre) * mlp_up, or act(mlp_pre)"),
    Point("mlp_proj", "batch pos d_model", "W_down mlp_act + b_down, before any post-norm"),
    Point("mlp_post_scale", "batch pos 1", "denominator of the norm after the MLP, where there is one"),
    Point("mlp_out", "batch pos d_model", "what the stream receives: mlp_proj, after any post-norm"),
    Point("resid_post", "batch pos d_model", "resid_pre + attn_out + mlp_out"),
    Point("final_scale", "batch pos 1", "denominator of the last norm", "model"),
    Point("final_norm", "batch pos d_model", "LN(last resid_post); W_U times it, soft-capped, is the logits", "model"),
]
POINTS: dict[str, Point] = {row.name: row for row in _ROWS}
_ORDER = {row.name: i for i, row in enumerate(_ROWS)}
OTHER = "other:"  # how a site in the other of two models begins


@total_ordering
@dataclass(frozen=True)
class Site:
    """A named place in the computation: a point, and a layer where the point has one.

    Sites sort in the order of the forward pass. `Site.parse("resid_post.12")` reads the written form.
    other: it is in the other of two models, which a crosscoder reads together; written other:resid_post.12.
    """

    point: str
    layer: int | None = None
    other: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.other, bool):
            raise HookeError(
                f"a site is in the other of two models or not, True or False, not {str(self.other)[:80]!r}"
            )
        row = POINTS.get(self.point) if isinstance(self.point, str) else None
        if row is None:
            raise HookeError(f"no point called {str(self.point)[:80]!r}; the points are {', '.join(POINTS)}")
        if (row.scope == "layer") != (self.layer is not None):
            need = "needs a layer, as in " + self.point + ".0" if row.scope == "layer" else "takes no layer"
            raise HookeError(f"site {self.point!r} {need}")
        given: Any = self.layer
        if given is not None and (isinstance(given, bool) or not isinstance(given, Integral)):
            raise HookeError(f"the layer of {self.point!r} is a whole number, not {str(self.layer)[:80]!r}")
        if self.layer is not None and self.layer < 0:
            raise HookeError(f"layer {self.layer} of {self.point!r} is negative; layers count from 0")

    @classmethod
    def parse(cls, text: Site | str) -> Site:
        """Read `point.layer` or `point`; a `Site` is returned as it is. Raises HookeError if malformed."""
        if isinstance(text, Site):
            return text
        if not isinstance(text, str):
            raise HookeError(f"a site is written as 'resid_post.12', not {type(text).__name__}")
        place = text.removeprefix(OTHER)
        point, dot, layer = place.partition(".")
        if dot and (not layer.isdecimal() or len(layer) > 9):
            raise HookeError(f"cannot read site {text!r}; write it as resid_post.12")
        return cls(point, int(layer) if dot else None, place != text)

    @property
    def shape(self) -> str:
        """Names of the axes of a read at this site."""
        return POINTS[self.point].shape

    @property
    def equation(self) -> str:
        """What the value at this site equals."""
        return POINTS[self.point].equation

    def __str__(self) -> str:
        place = self.point if self.layer is None else f"{self.point}.{self.layer}"
        return OTHER + place if self.other else place

    def __lt__(self, other: Site) -> bool:
        return self._key() < other._key()

    def _key(self) -> tuple[bool, float, int]:
        return (self.other, float("inf") if self.layer is None else self.layer, _ORDER[self.point])


def sites_in(given: Any) -> list[Site]:
    """Sites as a list: one by itself, none, or several, as `Site` or written. Raises HookeError if malformed."""
    if given is None:
        return []
    if isinstance(given, (Site, str)):
        return [Site.parse(given)]
    if not isinstance(given, Iterable) or getattr(given, "ndim", 1) == 0:
        raise HookeError(f"sites are a list of 'resid_post.12' and the like, not {type(given).__name__}")
    return [Site.parse(each) for each in given]
