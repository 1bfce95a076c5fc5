"""`Edit`: an intervention as data, and how it is applied to a value at its site."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from hooke.errors import HookeError
from hooke.sites import Site

Op = Literal["set", "add", "scale", "project_out"]
Positions = Sequence[int] | Literal["prompt", "generated"] | None


@dataclass(frozen=True, eq=False)
class Edit:
    """Change the value at a site during a run. Edits apply in list order; reads see the result.

    site: where, as a `Site` or "resid_post.12".
    op: "set", "add", "scale" by `value`, or "project_out" the direction `value`.
    value: a number or a tensor of the selected features' shape, optionally led by an axis of
        positions (as many as `positions`, or one per position of the prompt), then of rows.
    positions: token positions counted over real tokens whatever the padding (negative ones from the
        end of the prompt), "prompt", "generated", or None for all.
    index: which features: neurons or heads as ints; a pair for sites with two feature axes (head and
        dimension, head and key), either of them None; or a boolean mask over ([rows] positions features).
    rows: which rows of the batch, or None for all.
    when: (dictionary, threshold): only where some feature of the dictionary exceeds the threshold.
    """

    site: Site
    op: Op = "set"
    value: Any = 0.0
    positions: Positions = None
    index: Any = None
    rows: Sequence[int] | Tensor | None = None
    when: tuple[Any, float] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "site", Site.parse(self.site))
        if self.op not in ("set", "add", "scale", "project_out"):
            raise HookeError(f"no edit operation {self.op!r}; use set, add, scale or project_out")
        if isinstance(self.positions, str) and self.positions not in ("prompt", "generated"):
            raise HookeError(f"positions {self.positions!r} are neither numbers, 'prompt' nor 'generated'")


@dataclass
class Where:
    """The rows of one forward pass: which entries are real tokens, and their positions."""

    pos: Tensor  # (batch or 1, pos) position of each entry counted over real tokens, -1 for padding
    prompt: Tensor  # (batch or 1,) number of real prompt tokens
    seen: dict[Site, Tensor] = field(default_factory=dict)  # values kept for edits with `when`

    def take(self, rows: Any) -> Where:
        def pick(x: Tensor) -> Tensor:
            return x if x.shape[0] == 1 else x[rows]

        return Where(pick(self.pos), pick(self.prompt), {s: pick(x) for s, x in self.seen.items()})

    def selected(self, positions: Positions) -> Tensor:
        """(batch or 1, pos) True where an edit with these positions applies."""
        real = self.pos >= 0
        if positions is None:
            return real
        generated = self.pos >= self.prompt[:, None]
        if isinstance(positions, str):
            return real & (generated if positions == "generated" else ~generated)
        wanted = self.resolve(positions)
        return real & (self.pos[:, :, None] == wanted[:, None, :]).any(-1)

    def resolve(self, positions: Sequence[int]) -> Tensor:
        """(batch or 1, n) absolute positions, negative ones counted from the end of the prompt."""
        wanted = torch.as_tensor(list(positions), device=self.pos.device)[None, :]
        return torch.where(wanted < 0, self.prompt[:, None] + wanted, wanted)


def apply(edit: Edit, x: Tensor, where: Where) -> Tensor:
    """The value at `edit.site` after the edit. x: batch pos …, or batch head query key. A new tensor."""
    if edit.rows is None:
        return _apply(edit, x, where)
    rows = torch.as_tensor(edit.rows, device=x.device)
    if len(rows) and (int(rows.min()) < 0 or int(rows.max()) >= x.shape[0]):
        raise HookeError(f"edit at {edit.site}: row {int(rows.max())} of a batch of {x.shape[0]}")
    return x.index_copy(0, rows, _apply(edit, x[rows], where.take(rows)))


def _apply(edit: Edit, x: Tensor, where: Where) -> Tensor:
    square = edit.site.point in ("scores", "pattern")
    if square:
        x = x.transpose(1, 2)  # positions before heads, as everywhere else
    n_features = x.ndim - 2
    mask = where.selected(edit.positions).expand(x.shape[:2])
    if edit.when is not None:
        mask = mask & _fires(edit, where)
    mask = mask.reshape(*mask.shape, *[1] * n_features)
    index = edit.index
    if isinstance(index, Tensor) and index.dtype == torch.bool:
        mask = mask & _at_positions(_positions_first(index.to(x.device), square), where, n_features, edit, x)
        index = None
    pick = _picker(index, n_features, x.device, edit)
    part = x if pick is None else x[pick]
    value = _positions_first(torch.as_tensor(edit.value, device=x.device), square)
    if value.ndim > n_features:
        value = _at_positions(value, where, n_features, edit, part)
    value = value.to(part.dtype)
    try:
        if edit.op == "set":
            new = value.expand_as(part)
        elif edit.op == "add":
            new = part + value
        elif edit.op == "scale":
            new = part * value
        else:
            unit = value / value.norm(dim=-1, keepdim=True)
            new = part - (part * unit).sum(-1, keepdim=True) * unit
    except RuntimeError:
        raise HookeError(
            f"edit at {edit.site}: a value of shape {tuple(value.shape)} does not fit {tuple(part.shape)}"
        ) from None
    new = torch.where(mask, new, part)
    if pick is not None:
        whole = x.clone()
        whole[pick] = new
        new = whole
    return new.transpose(1, 2) if square else new


def _positions_first(value: Tensor, square: bool) -> Tensor:
    return value.transpose(-3, -2) if square and value.ndim > 2 else value


def _picker(index: Any, n_features: int, device: torch.device, edit: Edit) -> tuple[Any, ...] | None:
    """An index expression for the selected features, or None for all of them."""
    if index is None:
        return None
    if not isinstance(index, tuple):
        index = (index,)
    if len(index) > n_features:
        raise HookeError(f"edit at {edit.site}: {len(index)} indices for {n_features} feature axes")
    lists = [None if i is None else torch.as_tensor(i, device=device).reshape(-1) for i in index]
    if len(lists) == 2 and lists[0] is not None and lists[1] is not None:
        return (slice(None), slice(None), lists[0][:, None], lists[1][None, :])
    rest = [slice(None)] * (n_features - len(lists))
    return (slice(None), slice(None), *(slice(None) if i is None else i for i in lists), *rest)


def _at_positions(value: Tensor, where: Where, n_features: int, edit: Edit, x: Tensor) -> Tensor:
    """Line a ([rows] positions features) tensor up with the entries of x, whatever their padding."""
    axis = value.ndim - n_features - 1
    if axis > 1:
        raise HookeError(f"edit at {edit.site}: a value of shape {tuple(value.shape)} has too many axes")
    n = value.shape[axis]
    if edit.positions is None or isinstance(edit.positions, str):
        at = where.pos
        if int(at.max()) >= n:
            raise HookeError(f"edit at {edit.site}: {n} positions given for a prompt of {int(at.max()) + 1}")
    else:
        if n != len(edit.positions):
            raise HookeError(f"edit at {edit.site}: values for {n} positions, but {len(edit.positions)} are named")
        match = where.pos[:, :, None] == where.resolve(edit.positions)[:, None, :]
        at = match.float().argmax(-1)
    at = at.clamp(min=0).expand(x.shape[:2])
    if axis == 0:
        return value[at]
    if value.shape[0] == 1:
        return value[0][at]
    if value.shape[0] != x.shape[0]:
        raise HookeError(f"edit at {edit.site}: values for {value.shape[0]} rows, but {x.shape[0]} are edited")
    return value[torch.arange(x.shape[0], device=x.device)[:, None], at]


def _fires(edit: Edit, where: Where) -> Tensor:
    """(batch, pos) True where a feature of the edit's dictionary exceeds its threshold."""
    assert edit.when is not None
    dictionary, threshold = edit.when
    (site,) = dictionary.reads
    if site not in where.seen:
        raise HookeError(f"edit at {edit.site} depends on {site}, which is computed after it")
    return dictionary.encode({site: where.seen[site]}).dense().amax(-1) > threshold
