"""What a prompt is contrasted with: counterfactual prompts, or passages of the same length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hooke.data import PASSAGES
from hooke.dictionaries import Codes, Dictionary
from hooke.errors import HookeError
from hooke.methods.trace.coded import encode_run
from hooke.model import Model, Tokens
from hooke.sites import Site

N_PASSAGES = 3


@dataclass
class Baseline:
    """One run to compare with: its codes (per block), tokens (pos d_model) and last logits."""

    name: str
    ids: Tensor  # (pos,)
    codes: list[Codes]
    tokens: Tensor
    logits: Tensor


def baselines(
    model: Model,
    tokens: Tokens,
    counterfactuals: Sequence[str | Tokens],
    basis: Sequence[Dictionary],
    dtype: torch.dtype,
) -> list[Baseline]:
    """Run the counterfactuals, or, with none, several passages cut to the prompt's length.

    Raises HookeError for a counterfactual of another length, showing the tokens of both.
    """
    if counterfactuals:
        batches = [model.one(c, "a counterfactual is") for c in counterfactuals]
        names = [
            c if isinstance(c, str) else model.said(b.ids[0]) for c, b in zip(counterfactuals, batches, strict=True)
        ]
        for name, batch in zip(names, batches, strict=True):
            _same_length(model, tokens, batch, name)
            if bool((batch.ids == tokens.ids).all()):
                raise HookeError(f"the counterfactual {name!r} is the prompt itself; change at least one token")
    else:
        batches = [Tokens(ids[None], tokens.mask) for ids in passages(model, tokens)]
        names = [f"passage {i + 1}" for i in range(len(batches))]
    return [run_baseline(model, name, batch, basis, dtype) for name, batch in zip(names, batches, strict=True)]


def run_baseline(model: Model, name: str, batch: Tokens, basis: Sequence[Dictionary], dtype: torch.dtype) -> Baseline:
    """One forward pass over one prompt, encoded in the basis."""
    first = Site("resid_pre", 0)
    run = model.run(batch, read=sorted({first, *(site for block in basis for site in block.reads)}), logits="last")
    assert run.logits is not None
    codes = encode_run(basis, run.acts, dtype)
    return Baseline(name, batch.ids[0], codes, run.acts[first][0].to(dtype), run.logits[0])


def passages(model: Model, tokens: Tokens, count: int = N_PASSAGES) -> list[Tensor]:
    """Passages as ids of the prompt's length; the first token is the prompt's own, so that the position
    which most models use as an attention sink stays untouched."""
    length = tokens.ids.shape[1]
    out = []
    for start in range(count):
        order = [PASSAGES[(start + i) % len(PASSAGES)] for i in range(len(PASSAGES))]
        ids: list[int] = []
        while len(ids) < length:
            for text in order:
                ids += model.continued(" " + text)
        row = torch.tensor(ids[:length], device=tokens.ids.device)
        row[0] = tokens.ids[0, 0]
        out.append(row)
    return out


def _same_length(model: Model, tokens: Tokens, other: Tokens, name: str) -> None:
    n, m = tokens.ids.shape[1], other.ids.shape[1]
    if n != m:
        pieces = "|".join(model.text(tokens.ids[0])), "|".join(model.text(other.ids[0]))
        raise HookeError(
            f"the prompt has {n} tokens and the counterfactual {name!r} has {m}; they must match token by token: "
            f"{pieces[0]} against {pieces[1]}"
        )
