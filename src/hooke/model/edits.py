"""`Edit`: an intervention as data, and how it is applied to a value at its site."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from numbers import Real
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from hooke.arguments import shown
from hooke.errors import HookeError
from hooke.sites import Site

Op = Literal["set", "add", "scale", "project_out"]
Positions = Sequence[int] | Literal["prompt", "generated"] | None
MOST = 2**24  # positions that an edit may name, more than any context has
SQUARE = ("scores", "pattern")  # points whose values are (batch head query key)


@dataclass(frozen=True, eq=False)
class Edit:
    """Change the value at a site during a run. Edits apply in list order; reads see the result.

    site: where, as a `Site` or "resid_post.12".
    op: "set", "add", "scale" by `value`, or "project_out" the direction `value`.
    value: a number, or a tensor of the selected features' shape. An axis of positions may lead it: as
        many as `positions`, or else one per position of the prompt, counted over real tokens. An axis
        of rows may lead that; then, without named positions, the two line up with the batch, padding
        included, as a read does, so that what was read can be written back.
    positions: token positions counted over real tokens whatever the padding (negative ones from the
        end of the prompt), "prompt", "generated", or None for all.
    index: which features: neurons or heads as ints; a pair for sites with two feature axes (head and
        dimension, head and key), either of them None; or a boolean mask over ([[rows] positions] features),
        led like `value`. Keys are counted over real tokens, like positions.
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

    def __post_init__(self) -> None:
        object.__setattr__(self, "site", Site.parse(self.site))
        if not isinstance(self.op, str) or self.op not in ("set", "add", "scale", "project_out"):
            raise HookeError(f"no edit operation {shown(self.op)}; use set, add, scale or project_out")
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


@dataclass
class Where:
    """The rows of one forward pass: which entries are real tokens, and their positions."""

    pos: Tensor  # (batch or 1, pos) position of each entry counted over real tokens, -1 for padding
    prompt: Tensor  # (batch or 1,) number of real prompt tokens
    keys: Tensor  # (batch or 1, key) like pos, for the cached tokens and then these
    padded: bool = False  # some entry of pos or keys is padding
    first: bool = True  # this pass is over the prompt; else over a generated token
    seen: dict[Site, Tensor] = field(default_factory=dict)  # values kept for edits with `when`

    def take(self, rows: Tensor) -> Where:
        """The same for some rows of the batch."""

        def pick(x: Tensor) -> Tensor:
            return x if x.shape[0] == 1 else x[rows]

        seen = {s: pick(x) for s, x in self.seen.items()}
        return Where(pick(self.pos), pick(self.prompt), pick(self.keys), self.padded, self.first, seen)

    def covers(self, positions: Positions) -> bool | None:
        """True if an edit with these positions applies to every real token of the pass, False if to none."""
        if positions is None:
            return True
        return (positions == "prompt") == self.first if isinstance(positions, str) else None

    def selected(self, positions: Positions) -> Tensor:
        """(batch or 1, pos) True where an edit with these positions applies."""
        real = self.pos >= 0
        if positions is None or isinstance(positions, str):
            return real if self.covers(positions) else torch.zeros_like(real)
        return real & self._match(positions).any(-1)

    def place(self, positions: Sequence[int]) -> Tensor:
        """(batch or 1, pos) which of the positions each entry is; 0 where it is none of them."""
        return self._match(positions).long().argmax(-1)

    def twice(self, positions: Sequence[int]) -> bool:
        """Whether an entry is named more than once (4 and -1 of five tokens)."""
        return bool((self._match(positions).sum(-1) > 1).any())

    def _match(self, positions: Sequence[int]) -> Tensor:
        """(batch or 1, pos, n); negative positions count from the end of the prompt."""
        wanted = torch.tensor(list(positions), dtype=torch.long, device=self.pos.device)[None, :]
        wanted = torch.where(wanted < 0, self.prompt[:, None] + wanted, wanted)
        return self.pos[:, :, None] == wanted[:, None, :]


def apply(edit: Edit, x: Tensor, where: Where, *, owned: bool = False) -> Tensor:
    """The value at `edit.site` after the edit: a new tensor, or x itself where nothing changes.

    x: batch pos …, or batch head query key. owned: x may be written to (an earlier edit made it).
    """
    if where.covers(edit.positions) is False:
        return x
    if edit.rows is None:
        return _apply(edit, x, where)
    if any(not 0 <= row < x.shape[0] for row in edit.rows):
        raise HookeError(f"edit at {edit.site}: rows {list(edit.rows)} of a batch of {x.shape[0]}")
    rows = torch.tensor(list(edit.rows), dtype=torch.long, device=x.device)
    new = _apply(edit, x[rows], where.take(rows))
    if owned and not torch.is_grad_enabled():
        return x.index_copy_(0, rows, new)
    return x.index_copy(0, rows, new)


def _apply(edit: Edit, x: Tensor, where: Where) -> Tensor:
    if edit.site.point not in SQUARE:
        return _change(edit, x, where)
    x = x.transpose(1, 2)  # positions before heads, as everywhere else
    # What leads with rows lines up with the batch as it is; everything else counts keys over real tokens.
    by_batch = 4 in (getattr(edit.value, "ndim", 0), getattr(edit.index, "ndim", 0))
    if by_batch and (edit.index is None or isinstance(edit.index, Tensor)):
        return _change(edit, x, where).transpose(1, 2)
    return _by_key(x, where, edit.site, lambda y: _change(edit, y, where)).transpose(1, 2)


def _by_key(x: Tensor, where: Where, site: Site, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Change x (batch query head key) with column k being the k-th real token, whatever the padding and
    whatever a sliding window has dropped."""
    keys = where.keys[:, -x.shape[-1] :]
    if not where.padded and keys.shape[1] == where.keys.shape[1]:
        return change(x)
    n = int(keys.max()) + 1
    at = keys.masked_fill(keys < 0, n)[:, None, None, :].expand(x.shape)  # padding goes to one more column
    absent = torch.finfo(x.dtype).min if site.point == "scores" else 0.0
    lined = x.new_full((*x.shape[:-1], n + 1), absent).scatter(-1, at, x)
    lined = torch.cat([change(lined[..., :n]), lined[..., n:]], -1)
    return torch.where(keys[:, None, None, :] < 0, x, lined.gather(-1, at))


def _change(edit: Edit, x: Tensor, where: Where) -> Tensor:
    """The edit on x (batch pos features…)."""
    square = edit.site.point in SQUARE
    n_features = x.ndim - 2
    mask: Tensor | None = None  # None: everywhere
    if where.padded or where.covers(edit.positions) is None:
        mask = _open(where.selected(edit.positions), n_features)
    if edit.when is not None:
        fires = _open(_fires(edit, where), n_features)
        mask = fires if mask is None else mask & fires
    index = edit.index
    if isinstance(index, Tensor) and index.dtype == torch.bool:
        chosen = _lined_up(_positions_first(index.to(x.device), square), where, edit, x)
        chosen = _fitted(chosen, x.shape, edit, "a mask")
        mask = chosen if mask is None else mask & chosen
        index = None
    pick = None if index is None else _picker(index, x, edit)
    if pick is not None and isinstance(edit.value, Tensor) and edit.value.ndim:
        _once(pick, x.shape, edit)
    part = x if pick is None else x[pick]
    given = None if isinstance(edit.value, Tensor) else x.dtype  # a Python number is no fp32 number
    value = torch.as_tensor(edit.value, dtype=given, device=x.device)
    value = _lined_up(_positions_first(value, square), where, edit, part)
    if edit.op == "project_out":
        new = _without(part, value, edit)
    else:
        value = _fitted(value.to(part.dtype), part.shape, edit, "a value")
        new = value if edit.op == "set" else part + value if edit.op == "add" else part * value
    if edit.weight is not None:
        weight = _lined_up(_positions_first(torch.as_tensor(edit.weight, device=x.device), square), where, edit, part)
        new = part + _fitted(weight.to(part.dtype), part.shape, edit, "a weight") * (new - part)
    if mask is not None:
        new = torch.where(mask, new, part)
    elif edit.op == "set":
        new = new.clone()  # the caller's tensor stays theirs
    if pick is None:
        return new
    whole = x.clone()
    whole[pick] = new
    return whole


def _once(pick: tuple[Any, ...], shape: torch.Size, edit: Edit) -> None:
    """Refuse a feature that is named twice, with a value for each."""
    for i, size in zip(pick, shape, strict=False):
        if isinstance(i, Tensor) and i.numel() > 1 and len(torch.unique(i % size)) < i.numel():
            raise HookeError(f"edit at {edit.site}: a feature is named twice, with a value for each")


def _without(x: Tensor, direction: Tensor, edit: Edit) -> Tensor:
    """x less its component along the direction (… d), computed in at least fp32."""
    if direction.ndim == 0:
        raise HookeError(f"edit at {edit.site}: project_out takes a direction, not a number")
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    direction = _fitted(direction.to(wide), x.shape, edit, "a direction")
    y = x.to(wide)
    square = direction.pow(2).sum(-1, keepdim=True).clamp(min=torch.finfo(wide).tiny)
    return (y - (y * direction).sum(-1, keepdim=True) / square * direction).to(x.dtype)


def _open(mask: Tensor, n_features: int) -> Tensor:
    return mask.reshape(*mask.shape, *[1] * n_features)


def _positions_first(value: Tensor, square: bool) -> Tensor:
    return value.transpose(-3, -2) if square and value.ndim > 2 else value


def _fitted(value: Tensor, shape: torch.Size, edit: Edit, what: str) -> Tensor:
    try:
        return value.expand(shape)
    except RuntimeError:
        raise HookeError(
            f"edit at {edit.site}: {what} of shape {tuple(value.shape)} does not fit {tuple(shape)}"
        ) from None


def _picker(index: Any, x: Tensor, edit: Edit) -> tuple[Any, ...]:
    """An index expression for the selected features of x (batch pos features…)."""
    sizes = x.shape[2:]
    if not isinstance(index, tuple):
        index = (index,)
    if len(index) > len(sizes):
        raise HookeError(f"edit at {edit.site}: {len(index)} indices for {len(sizes)} feature axes")
    found: list[Any] = []
    for i, size in zip(index, sizes, strict=False):
        if i is None:
            found.append(slice(None))
            continue
        try:
            if isinstance(i, range):
                i = i[: 2 * size + 1]  # so many different ones have one that is none of the features
            numbers = torch.as_tensor(i).reshape(-1)
        except (TypeError, ValueError, RuntimeError):
            numbers = torch.empty(1)
        if numbers.dtype == torch.bool and len(numbers) == size:
            numbers = numbers.nonzero()[:, 0]
        if numbers.numel() and (numbers.is_floating_point() or numbers.dtype == torch.bool):
            raise HookeError(f"edit at {edit.site}: {i!r} is no index of {size} features")
        numbers = numbers.long()
        if numbers.numel() and not -size <= int(numbers.min()) <= int(numbers.max()) < size:
            raise HookeError(f"edit at {edit.site}: index {int(numbers.abs().max())} of {size} features")
        found.append(numbers.to(x.device))
    if len(found) == 2 and all(isinstance(i, Tensor) for i in found):
        found = [found[0][:, None], found[1][None, :]]
    return (slice(None), slice(None), *found, *[slice(None)] * (len(sizes) - len(found)))


def _lined_up(value: Tensor, where: Where, edit: Edit, x: Tensor) -> Tensor:
    """Line a ([[rows] positions] features) tensor up with the entries of x (batch pos features…)."""
    axis = value.ndim - (x.ndim - 2) - 1  # the axis of positions
    if axis < 0:
        return value
    if axis > 1:
        raise HookeError(f"edit at {edit.site}: a value of shape {tuple(value.shape)} has too many axes")
    if axis == 1 and value.shape[0] not in (1, x.shape[0]):
        raise HookeError(f"edit at {edit.site}: values for {value.shape[0]} rows, but {x.shape[0]} are edited")
    if axis == 1 and value.shape[0] > 1 and edit.rows is not None and len({*map(int, edit.rows)}) < len(edit.rows):
        raise HookeError(f"edit at {edit.site}: a row is named twice, with a value for each: {list(edit.rows)}")
    n, named = value.shape[axis], not (edit.positions is None or isinstance(edit.positions, str))
    if named:
        if n != len(edit.positions or ()):
            raise HookeError(
                f"edit at {edit.site}: values for {n} positions, but {len(edit.positions or ())} are named"
            )
        at = where.place(edit.positions)  # type: ignore[arg-type]
        if n > 1 and where.twice(edit.positions):  # type: ignore[arg-type]
            raise HookeError(f"edit at {edit.site}: a position is named twice, with a value for each: {edit.positions}")
    elif axis == 1 or (where.first and not where.padded):
        if n != x.shape[1] and not (n == 1 and not where.first):  # of generated tokens: the same for each
            raise HookeError(f"edit at {edit.site}: values for {n} positions, but the batch has {x.shape[1]}")
        return value
    else:
        at = where.pos
        if int(at.max()) >= n:
            raise HookeError(f"edit at {edit.site}: {n} positions given for a prompt of {int(at.max()) + 1}")
    at = at.clamp(min=0)
    if axis == 0:
        return value[at]
    rows = torch.arange(value.shape[0], device=x.device)[:, None]
    return value[rows, at]


def _fires(edit: Edit, where: Where) -> Tensor:
    """(batch, pos) True where a feature of the edit's dictionary exceeds its threshold."""
    assert edit.when is not None
    dictionary, threshold = edit.when
    late = [str(site) for site in dictionary.reads if site not in where.seen]
    if late:
        raise HookeError(f"edit at {edit.site} depends on {', '.join(late)}, which is computed after it")
    values = {site: where.seen[site] for site in dictionary.reads}
    batch, n_pos = values[dictionary.reads[0]].shape[:2]
    codes = dictionary.encode({site: x.flatten(0, 1) for site, x in values.items()})
    if threshold < 0:  # features that are not coded are zero, and exceed it
        return codes.dense().amax(-1).view(batch, n_pos) > threshold
    fires = torch.zeros(batch * n_pos, dtype=torch.bool, device=codes.values.device)
    fires[codes.positions[codes.values > threshold]] = True
    return fires.view(batch, n_pos)
