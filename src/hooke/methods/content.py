"""Which tokens of a prompt carry content: what an answer may hang on, and what a counterfactual must change."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from hooke.data import FUNCTION_WORDS, ROLES
from hooke.model import Model

MARKS = frozenset("([{<+*/%&|^")  # of code and sums; other marks hold a text together as function words do
_BYTE = re.compile("<0x[0-9A-F]{2}>")  # as `model.text` shows a byte that is no character
ARROWS = frozenset({"->", "=>", "-->", "/>"})


def is_function_word(text: str) -> bool:
    """Whether the text of a token is a whole function word, or nothing but white space and punctuation."""
    rest = text.strip()
    if any(c.isalnum() for c in rest):
        return rest.lower() in FUNCTION_WORDS
    return rest in ARROWS or not any(c in MARKS for c in rest)


def content_places(model: Model, ids: Tensor) -> Tensor:
    """(pos,) true for tokens of content words: no function words, no punctuation, nothing of a chat template.

    ids: (pos,). A word may be several tokens; all of them count. Numbers, brackets and operators are content.
    """
    pieces = model.text(ids)
    special = set() if model.tokenizer is None else set(model.tokenizer.all_special_ids)
    pieces = ["\n" if i in special else piece for i, piece in zip(ids.tolist(), pieces, strict=True)]
    words = _words("".join(pieces))
    roles = _roles(ids.tolist(), pieces, special)
    out, at = [], 0
    for k, piece in enumerate(pieces):
        inside = {w.lower() for start, end, w in words if start < at + len(piece) and end > at}
        at += len(piece)
        if k in roles or int(ids[k]) in special or is_broken(piece):
            out.append(False)
        elif inside:
            out.append(not inside <= FUNCTION_WORDS)
        else:
            out.append(not is_function_word(piece))
    return torch.tensor(out, dtype=torch.bool, device=ids.device)


def is_broken(text: str) -> bool:
    """Whether the text of a token is, or holds, a part of a character: another part makes no other word."""
    return _BYTE.search(text) is not None


def _roles(ids: Sequence[int], pieces: Sequence[str], special: set[int]) -> set[int]:
    """Where a chat template names a role: behind a special token, and in however many tokens."""
    found: set[int] = set()
    for k in (k for k, i in enumerate(ids) if i in special):
        end, name = k + 1, ""
        while end < len(ids) and ids[end] not in special and "\n" not in name and len(name) < 20:
            name += pieces[end]
            end += 1
        line = name.split("\n")[0]
        if line.strip() in ROLES and ("\n" in name or end == len(ids) or ids[end] in special):
            found.update(range(k + 1, end))
    return found


def _words(text: str) -> Sequence[tuple[int, int, str]]:
    return [(found.start(), found.end(), found[0]) for found in re.finditer(r"[^\W_]+", text)]
