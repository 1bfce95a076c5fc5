"""What people hold of a prompt, as token ids: texts, lists, arrays, tensors, what a tokenizer returned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hooke.arguments import shown
from hooke.errors import HookeError
from hooke.model.run import Tokens

MOST_ROWS = 2**24  # numbers of a range: a context has no more
MOST_BITS = 2**62  # of an id: what is larger is no id of anything
# what a tokenizer returns beside ids and mask and what changes nothing in a run
_BESIDE = (
    "token_type_ids", "special_tokens_mask", "offset_mapping", "overflow_to_sample_mapping", "length",
    "assistant_masks", "num_truncated_tokens", "overflowing_tokens", "labels",
)  # fmt: skip
_FORMS = "a text, a list of texts, or token ids: a list, an array, a tensor, or what the tokenizer returned"

Pad = Callable[[Sequence[Sequence[int]]], Tokens]


def texts_of(given: Any) -> list[str] | None:
    """The texts, if the prompt is one or a list of them."""
    if isinstance(given, str):
        return [str(given)]
    if isinstance(given, np.ndarray) and given.dtype.kind in "UO":
        given = given.reshape(-1).tolist() if given.ndim < 2 else given
    if isinstance(given, (list, tuple)) and given and all(isinstance(each, str) for each in given):
        return [str(each) for each in given]
    return None


def is_chat(given: Any) -> bool:
    """Whether this is a list of chat messages."""
    several = isinstance(given, (list, tuple)) and len(given) > 0
    return several and all(isinstance(each, Mapping) and "role" in each for each in given)


def ids_of(given: Any, pad: Pad) -> Tokens:
    """Token ids in any form as a batch with its mask. Raises HookeError for anything else, and for a mask that does
    not fit the ids."""
    if isinstance(given, Tokens):
        return _masked(_rows(given.ids), given.mask, pad)
    if isinstance(given, Mapping):
        return _of_mapping(given, pad)
    if hasattr(given, "ids") and hasattr(given, "attention_mask"):  # one of the tokenizers library
        return _masked(_rows(list(given.ids)), list(given.attention_mask), pad)
    return _masked(_rows(given), None, pad)


def _of_mapping(given: Mapping[str, Any], pad: Pad) -> Tokens:
    if "input_ids" not in given:
        held = ", ".join(map(str, list(given)[:5])) or "nothing"
        raise HookeError(f"a prompt given as a dictionary has input_ids; this one has {held}")
    odd = [str(name) for name in given if name not in ("input_ids", "attention_mask", *_BESIDE)]
    if odd:
        raise HookeError(f"a prompt has input_ids and attention_mask, and nothing takes its {odd[0]}; leave it out")
    return _masked(_rows(given["input_ids"]), given.get("attention_mask"), pad)


def _rows(given: Any, what: str = "token ids") -> list[Tensor]:
    """One tensor of whole numbers a row."""
    if isinstance(given, Tensor):
        return _of_tensor(given, what)
    if isinstance(given, np.ndarray) and given.dtype.kind in "biuf":
        if given.dtype.kind == "u":
            given = given.astype(np.int64) if not given.size or int(given.max()) < MOST_BITS else given.astype(float)
        return _of_tensor(torch.from_numpy(np.ascontiguousarray(given)), what)
    if isinstance(given, np.ndarray):
        given = given.tolist()
    if isinstance(given, range):
        if len(given[:MOST_ROWS]) == MOST_ROWS:
            raise HookeError(f"a prompt is {_FORMS}; this range has {MOST_ROWS:,} numbers or more")
        given = list(given)
    if not isinstance(given, (list, tuple)):
        raise HookeError(f"a prompt is {_FORMS}; not {shown(given)}")
    if not len(given):
        raise HookeError("no prompt given")
    if all(_is_number(each) for each in given):
        return [_numbers(given, what)]
    found = []
    for each in given:
        if (
            isinstance(each, (str, Mapping))
            or _is_number(each)
            or not isinstance(each, (list, tuple, Tensor, np.ndarray))
        ):
            raise HookeError(f"a prompt is {_FORMS}; this list holds {shown(each)}")
        row = _rows(each, what) if len(each) else [torch.zeros(0, dtype=torch.long)]
        flat = all(map(_is_number, each)) if isinstance(each, (list, tuple)) else each.ndim == 1
        if len(row) != 1 or not flat:
            raise HookeError(f"{what} must be integers (pos) or (batch, pos), not nested deeper")
        found += row
    return found


def _of_tensor(x: Tensor, what: str) -> list[Tensor]:
    bad = x.is_floating_point() or x.is_complex() or x.layout != torch.strided or x.device.type == "meta"
    if bad or x.ndim not in (1, 2) or (x.dtype == torch.bool and what == "token ids"):
        raise HookeError(f"{what} must be integers (pos) or (batch, pos), not {x.dtype} {tuple(x.shape)}")
    return list((x[None] if x.ndim == 1 else x).detach().long())


def _is_number(each: Any) -> bool:
    if getattr(each, "shape", None) == () and hasattr(each, "item"):
        each = each.item()
    return isinstance(each, (int, float, np.generic))


def _numbers(given: Sequence[Any], what: str) -> Tensor:
    """Whole numbers out of a list, also of numpy's and of tensors of one."""
    plain = [each.item() if hasattr(each, "item") else each for each in given]
    odd = [i for i in plain if not isinstance(i, int) or (isinstance(i, bool) and what == "token ids")]
    if odd or not all(-MOST_BITS < i < MOST_BITS for i in plain):
        raise HookeError(f"{what} must be integers, not {shown(odd[0] if odd else max(plain, key=abs))}")
    return torch.tensor([int(i) for i in plain], dtype=torch.long)


def _masked(rows: list[Tensor], mask: Any, pad: Pad) -> Tokens:
    """The rows as one batch; a mask of zeros and ones, if there is one, says which ids are real."""
    if not rows:
        raise HookeError("no prompt given")
    if mask is None:
        if len({len(row) for row in rows}) == 1:
            ids = torch.stack(rows)
            return Tokens(ids, torch.ones_like(ids, dtype=torch.bool))
        return pad([row.tolist() for row in rows])
    if isinstance(mask, np.ndarray) and mask.dtype.kind == "f":
        mask = torch.from_numpy(np.ascontiguousarray(mask))
    if isinstance(mask, Tensor) and mask.is_floating_point():
        mask = torch.where((mask == 0) | (mask == 1), mask, -1.0).long()  # what is neither is refused below
    marks = _rows(mask, "an attention mask")
    if [len(row) for row in rows] != [len(row) for row in marks]:
        sizes = [f"{len(x)} of {len(x[0])}" if x else "none" for x in (rows, marks)]
        raise HookeError(
            f"the attention mask does not fit the ids: rows of tokens are {sizes[0]}, rows of the mask {sizes[1]}"
        )
    if not all(bool(((row == 0) | (row == 1)).all()) for row in marks):
        raise HookeError("an attention mask holds 1 for a token and 0 for padding, and nothing else")
    if len({len(row) for row in rows}) > 1:
        return pad([ids[mark.bool()].tolist() for ids, mark in zip(rows, marks, strict=True)])
    ids, real = torch.stack(rows), torch.stack(marks).bool()
    # what stands in the padding is never read, so it may be anything (-100, an id beyond the vocabulary)
    return Tokens(ids.masked_fill(~real, 0), real)
