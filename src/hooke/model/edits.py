"""`Edit`: an intervention as data. `apply.py` carries it out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from numbers import Real
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from hooke.arguments import shown
from hooke.errors import HookeError
from hooke.sites import Site

Op = Literal["set", "add", "scale", "project_out", "feature"]
WAYS = ("set", "add", "scale", "hold")  # in which features are edited
Positions = Sequence[int] | Literal["prompt", "generated"] | None
MOST = 2**24  # positions that an edit may name, more than any context has
SQUARE = ("scores", "pattern")  # points whose values are (batch head query key)


@dataclass(frozen=True, eq=False)
class Edit:
    """Change the value at a site during a run. Edits apply in list order; reads see the result.

    site: where, as a `Site` or "resid_post.12".
    op: "set", "add", "scale" by `value`, "project_out" the direction `value`, or "feature": features of a dictionary,
        at one of the sites that it writes. What the dictionary does not reconstruct stays as it is: the site changes by
        (new value − live value) times what the feature writes. `Dictionary.edits` makes the edits of all its sites.
        "hold" sets features at positions, and every other feature of the dictionary to zero (`Dictionary.hold`).
    value: a number, or a tensor of the selected features' shape. An axis of positions may lead it: as
        many as `positions`, or else one per position of the prompt, counted over real tokens. An axis
        of rows may lead that; then, without named positions, the two line up with the batch, padding
        included, as a read does, so that what was read can be written back.
    positions: token positions counted over real tokens whatever the padding (negative ones from the
        end of the prompt), "prompt", "generated", or None for all.
    index: which features: neurons or heads as ints; a pair for sites with two feature axes (head and
        dimension, head and key), either of them None; or a boolean mask over ([[rows] positions] features),
        led like `value`. Keys are counted over real tokens, like positions. At a site with one feature axis, and of
        features of a dictionary, also a pair (positions, ids) of equal length, entry by entry: `value` is then a
        number for all, or one for each, and an axis of rows may lead it.
    rows: which rows of the batch, or None for all.
    weight: how much of the change to make, from 0 (none) to 1 (all, also if None); shaped like `value`.
    when: (dictionary, threshold): only where some feature of the dictionary exceeds the threshold. If it
        reads the edited site, it reads what the earlier edits left there.
    """

    site: Site
    op: Op = "set"
    value: Any = 0.0
    positions: Positions = None
    index: Any = None
    rows: Sequence[int] | Tensor | None = None
    weight: Any = None
    when: tuple[Any, float] | None = None
    feature: tuple[Any, str] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "site", Site.parse(self.site))
        if not isinstance(self.op, str) or self.op not in ("set", "add", "scale", "project_out", "feature"):
            raise HookeError(f"no edit operation {shown(self.op)}; use set, add, scale, project_out or feature")
        if (self.op == "feature") != (self.feature is not None):
            raise HookeError(f"edit at {self.site}: the operation feature comes with feature=(dictionary, 'set')")
        if self.feature is not None:
            _check_feature(self.feature, self.site)
        if self.feature is not None or self.paired:
            object.__setattr__(self, "index", _check_entries(self))
        for name in ("value", "weight"):
            given = getattr(self, name)
            if name == "value" or given is not None:
                _check_numbers(given, f"edit at {self.site}: the {name}")
            if type(given) is int:
                object.__setattr__(self, name, float(given))
        if self.when is not None:
            _check_when(self.when, self.site)
        for name in ("positions", "rows"):
            given = getattr(self, name)
            if given is None or (name == "positions" and isinstance(given, str) and given in ("prompt", "generated")):
                continue
            try:
                listed = given.tolist() if isinstance(given, Tensor) else list(islice(given, MOST + 1))
                numbers = [int(i) for i in listed if not isinstance(i, bool) and int(i) == i]
            except (TypeError, ValueError, RuntimeError):
                listed, numbers = [None], []
            if len(numbers) != len(listed) or len(listed) > MOST or not all(abs(i) < 2**62 for i in numbers):
                also = ", 'prompt' or 'generated'" if name == "positions" else ""
                raise HookeError(f"edit at {self.site}: {name} {shown(given)} are not a list of numbers{also}")
            object.__setattr__(self, name, numbers)

    @property
    def paired(self) -> bool:
        """Whether the index is (positions, ids), entry by entry."""
        one_axis = self.feature is not None or len(self.site.shape.split()) == 3
        return one_axis and isinstance(self.index, tuple) and len(self.index) == 2


def _check_numbers(value: Any, what: str) -> None:
    if isinstance(value, range) and len(value[:MOST]) == MOST:
        raise HookeError(f"{what} is a number or a tensor, not a range of {MOST:,} numbers or more")
    try:
        x = value if isinstance(value, Tensor) else torch.as_tensor(float(value) if type(value) is int else value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise HookeError(f"{what} is a number or a tensor, not {shown(value)}") from None
    if x.is_complex() or x.layout != torch.strided or x.device.type == "meta":
        raise HookeError(f"{what} is a number or an ordinary tensor, not {shown(value)} of {x.dtype}")


def _check_when(when: Any, site: Site) -> None:
    pair = (
        isinstance(when, (tuple, list)) and len(when) == 2 and hasattr(when[0], "reads") and hasattr(when[0], "encode")
    )
    if not pair or isinstance(when[1], bool) or not isinstance(when[1], Real):
        raise HookeError(f"edit at {site}: when is (dictionary, threshold), not {shown(when)}")


def _check_feature(feature: Any, site: Site) -> None:
    """Raise HookeError unless this is a dictionary that writes the site, and a way to edit its features."""
    pair = isinstance(feature, tuple | list) and len(feature) == 2 and hasattr(feature[0], "writer")
    if not pair or feature[1] not in WAYS:
        ways = ", ".join(map(repr, WAYS[:-1]))
        raise HookeError(f"edit at {site}: feature is (dictionary, {ways} or {WAYS[-1]!r}), not {shown(feature)}")
    if site not in feature[0].writes:
        places = ", ".join(map(str, feature[0].writes))
        raise HookeError(f"edit at {site}: this dictionary writes {places}; dictionary.edits makes its edits")


def _check_entries(edit: Edit) -> Any:
    """The index of an edit as ids of features or as (positions, ids), each a list of numbers. Raises HookeError."""
    index, site = edit.index, edit.site
    try:
        columns = [torch.as_tensor(x).reshape(-1) for x in (index if edit.paired else (index,))]
    except (TypeError, ValueError, RuntimeError):
        columns = []
    hold = edit.feature is not None and edit.feature[1] == "hold"  # even if it names none
    least = 0 if hold else 1
    if not columns or any(x.is_floating_point() or x.dtype == torch.bool or x.numel() < least for x in columns):
        raise HookeError(f"edit at {site}: index {shown(index)} is no list of features, nor (positions, features)")
    columns = [x.long() for x in columns]
    ids = columns[-1]
    if hold and not edit.paired:
        raise HookeError(f"edit at {site}: features are held at positions, so the index is (positions, features)")
    if len(ids) and edit.feature is not None and not 0 <= int(ids.min()) <= int(ids.max()) < edit.feature[0].n_features:
        raise HookeError(f"edit at {site}: feature {int(ids.max())} of {edit.feature[0].n_features}")
    if len(columns[0]) != len(ids) or (edit.paired and edit.positions is not None):
        raise HookeError(f"edit at {site}: features at positions are two lists of equal length, and no other positions")
    if len(ids) and _twice(ids if not edit.paired else columns[0] * (int(ids.max()) + 1) + ids):
        raise HookeError(f"edit at {site}: a feature is named twice")
    return tuple(columns) if edit.paired else ids


def _twice(numbers: Tensor) -> bool:
    """Whether a number is there twice."""
    low, high = int(numbers.min()), int(numbers.max())
    if high - low < 16 * len(numbers):  # counting is faster than sorting
        return int((numbers - low).bincount().max()) > 1
    return len(numbers.unique()) < len(numbers)


def edits_in(given: Any) -> list[Edit]:
    """Edits as a list: one by itself, none, or several. Raises HookeError for what is no edit."""
    if isinstance(given, Edit) or given is None:
        return [] if given is None else [given]
    odd = given if not isinstance(given, Iterable) or isinstance(given, (str, Mapping, Tensor, np.ndarray)) else None
    several: list[Edit] = []
    for each in [odd] if odd is not None else given:  # which may go on for ever
        if not isinstance(each, Edit):
            raise HookeError(f"edits are Edit(site, op, value), one or a list of them, not {shown(each)}")
        several.append(each)
    return several


def edit_sets_in(given: Any) -> list[list[Edit]]:
    """Sets of edits, one for each run; an edit by itself is a set of one."""
    if not isinstance(given, Iterable) or isinstance(given, (str, Mapping, Tensor, np.ndarray)):
        raise HookeError(f"edit sets are a list with a list of edits for each run, not {shown(given)}")
    return [edits_in(each) for each in given]
