"""How edits are applied to a value at their site, in one pass over a batch of prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from hooke.errors import HookeError
from hooke.model.budget import budget
from hooke.model.edits import SQUARE, Edit, Positions
from hooke.sites import Site


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

        last = int(rows.max()) if len(rows) else -1  # rows that joined the pass later have nothing there
        seen = {s: x[rows] for s, x in self.seen.items() if last < len(x)}
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
    if edit.op == "feature":
        return _features(edit, x, where, mask)
    if edit.paired:
        return _at_entries(edit, x, where, mask)
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


def _at_entries(edit: Edit, x: Tensor, where: Where, mask: Tensor | None) -> Tensor:
    """Single features at single positions of x (batch pos width)."""
    row, column, number = _entries(edit, x, where, mask)
    ids = edit.index[1].to(x.device)[number]
    if len(ids) and not -x.shape[2] <= int(ids.min()) <= int(ids.max()) < x.shape[2]:
        raise HookeError(f"edit at {edit.site}: index {int(ids.abs().max())} of {x.shape[2]} features")
    if edit.op == "project_out":
        raise HookeError(f"edit at {edit.site}: project_out takes whole values, not features at positions")
    part = x[row, column, ids]
    value = _numbers(edit.value, edit, x)[row, number]
    new = value if edit.op == "set" else part + value if edit.op == "add" else part * value
    if edit.weight is not None:
        new = part + _numbers(edit.weight, edit, x)[row, number] * (new - part)
    return x.index_put((row, column, ids), new)


def _features(edit: Edit, x: Tensor, where: Where, mask: Tensor | None) -> Tensor:
    """Features of a dictionary edited at one site x (batch pos width) that it writes. mask: (batch, pos, 1), where."""
    assert edit.feature is not None
    dictionary, way = edit.feature
    n_pos = x.shape[1]
    row, column, number = _entries(edit, x, where, mask)
    if not len(row) and way != "hold":
        return x
    ids = (edit.index[1] if edit.paired else edit.index).to(x.device)
    if edit.paired:
        value, weight = (_numbers(given, edit, x)[row, number] for given in (edit.value, edit.weight))
    else:
        like = x.new_empty(*x.shape[:2], len(ids))
        value, weight = (_of_each(given, where, edit, like)[row, column, number] for given in (edit.value, edit.weight))
    # the dictionary encodes only what is edited
    if way == "hold":
        open_ = x.new_ones(x.shape[:2], dtype=torch.bool) if mask is None else mask[..., 0].expand(x.shape[:2])
        flat = open_.flatten().nonzero()[:, 0]
        token = torch.searchsorted(flat, row * n_pos + column)
    else:
        flat, token = (row * n_pos + column).unique(return_inverse=True)
    read = {site: value.flatten(0, 1)[flat] for site, value in _seen(edit, where, dictionary).items()}
    codes, feature = dictionary.encode(read), ids[number]
    live = codes.at(token, feature).to(x.dtype)
    change = value - live if way in ("set", "hold") else value if way == "add" else (value - 1) * live
    named = token * codes.shape[1] + feature
    moved = change.detach() != 0  # of many held features few are active in a row
    if edit.weight is not None:
        change = weight * change
    token, feature, change = token[moved], feature[moved], change[moved]
    if way == "hold":  # what is active and not named goes to zero
        rest = codes.take(~torch.isin(codes.places(), named))
        token, feature = torch.cat([token, rest.positions]), torch.cat([feature, rest.ids])
        change = torch.cat([change, -rest.values.to(x.dtype)])
    out = x.flatten(0, 1)
    for part in torch.arange(len(token), device=x.device).split(budget(x.device).fit(8 * x.shape[2] * x.itemsize)):
        here = {site: values[token[part]] for site, values in read.items()}
        rows = dictionary.writer(feature[part], edit.site, here).to(x.dtype)
        out = out.index_add(0, flat[token[part]], change[part, None] * rows)
    return out.view_as(x)


def _entries(edit: Edit, x: Tensor, where: Where, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """(row, column, which of the edit's features) of every entry of x (batch pos width) that an edit of features
    changes. mask: (batch, pos, 1), where it may."""
    batch, n_pos = x.shape[:2]
    if not edit.paired:
        every = x.new_ones(batch, n_pos, len(edit.index), dtype=torch.bool)
        return (every if mask is None else every & mask).nonzero(as_tuple=True)  # type: ignore[return-value]
    named = edit.index[0].to(x.device)[None]
    named = torch.where(named < 0, where.prompt[:, None] + named, named).expand(batch, -1)
    pos = where.pos.expand(batch, -1)
    most = max(int(pos.max()), int(named.max()) if named.numel() else 0, 0) + 2
    # which column holds a position, none of them the last: padding and what lies elsewhere
    column_of = torch.full((batch, most), -1, device=x.device)
    column_of.scatter_(1, pos.masked_fill(pos < 0, most - 1), torch.arange(n_pos, device=x.device).expand(batch, -1))
    column_of[:, most - 1] = -1
    columns = column_of.gather(1, named.masked_fill(named < 0, most - 1))
    row, number = (columns >= 0).nonzero(as_tuple=True)
    column = columns[row, number]
    if mask is not None:
        open_ = mask.expand(batch, n_pos, 1)[row, column, 0]
        row, column, number = row[open_], column[open_], number[open_]
    return row, column, number


def _numbers(given: Any, edit: Edit, x: Tensor) -> Tensor:
    """(batch, entries): one number for each entry of an edit of features at positions, the same in all rows unless
    rows lead it."""
    number = None if isinstance(given, Tensor) else x.dtype  # a Python number is no fp32 number
    value = torch.as_tensor(1.0 if given is None else given, dtype=number, device=x.device)
    if value.ndim > 2:
        raise HookeError(f"edit at {edit.site}: features at positions take one number each, not {tuple(value.shape)}")
    return _fitted(value.to(x.dtype), torch.Size((len(x), *edit.index[1].shape)), edit, "a value")


def _of_each(given: Any, where: Where, edit: Edit, like: Tensor) -> Tensor:
    """A value or weight for each (row, position, feature) of `like`."""
    number = None if isinstance(given, Tensor) else like.dtype  # a Python number is no fp32 number
    value = torch.as_tensor(1.0 if given is None else given, dtype=number, device=like.device)
    return _fitted(_lined_up(value, where, edit, like).to(like.dtype), like.shape, edit, "a value")


def _seen(edit: Edit, where: Where, dictionary: Any) -> dict[Site, Tensor]:
    """What a dictionary reads in this run, each (batch pos width)."""
    late = [str(site) for site in dictionary.reads if site not in where.seen]
    if late:
        raise HookeError(f"edit at {edit.site} depends on {', '.join(late)}, which is not computed before it")
    return {site: where.seen[site] for site in dictionary.reads}


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
    values = _seen(edit, where, dictionary)
    batch, n_pos = values[dictionary.reads[0]].shape[:2]
    codes = dictionary.encode({site: x.flatten(0, 1) for site, x in values.items()})
    if threshold < 0:  # features that are not coded are zero, and exceed it
        return codes.dense().amax(-1).view(batch, n_pos) > threshold
    fires = torch.zeros(batch * n_pos, dtype=torch.bool, device=codes.values.device)
    fires[codes.positions[codes.values > threshold]] = True
    return fires.view(batch, n_pos)
