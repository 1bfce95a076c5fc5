"""Which tokens of a prompt carry content: what an answer may hang on, and what a counterfactual must change."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from hooke.data import FUNCTION_WORDS, ROLES
from hooke.model import Model

MARKS = frozenset("([{<+*/%&|^")  # of code and sums; other marks hold a text together as function words do
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
    out, at = [], 0
    for k, piece in enumerate(pieces):
        inside = {w.lower() for start, end, w in words if start < at + len(piece) and end > at}
        at += len(piece)
        role = k > 0 and int(ids[k - 1]) in special and piece.strip() in ROLES
        if role or int(ids[k]) in special:
            out.append(False)
        elif inside:
            out.append(not inside <= FUNCTION_WORDS)
        else:
            out.append(not is_function_word(piece))
    return torch.tensor(out, dtype=torch.bool, device=ids.device)


def _words(text: str) -> Sequence[tuple[int, int, str]]:
    return [(found.start(), found.end(), found[0]) for found in re.finditer(r"[^\W_]+", text)]
