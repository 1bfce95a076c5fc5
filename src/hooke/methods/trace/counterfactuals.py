"""What a prompt is contrasted with: counterfactual prompts that were given or made, or passages of the same length; and
whether the answer hangs on what they change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from hooke.data import PASSAGES
from hooke.dictionaries import Dictionary
from hooke.errors import HookeError
from hooke.methods.metric import Metric
from hooke.methods.phrases import quote
from hooke.methods.trace.coded import Baseline, encode_run
from hooke.methods.variants import LEAST_FALL
from hooke.model import Model, Tokens
from hooke.results import Claim, Verdict
from hooke.sites import Site

N_PASSAGES = 3


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
    final, writes = Site("final_norm"), {site for block in basis for site in block.writes}
    read = {first, final, *writes, *(site for block in basis for site in block.reads)}
    run = model.run(batch, read=sorted(read), logits="last")
    assert run.logits is not None
    codes, errors, inputs = encode_run(basis, run.acts, dtype)
    acts = {site: run.acts[site][0].to(dtype) for site in (first, final, *writes)}
    values = {site: acts[site] for site in writes}
    return Baseline(name, batch.ids[0], codes, acts[first], run.logits[0], acts[final][-1], values, errors, inputs)


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


PHRASES = {
    "given": "their counterfactual values",
    "made": "their values in prompts with another answer",
    "passages": "their values on other passages",
}


@dataclass
class Against:
    """Who chose the baselines, and how far each moves what is explained (in the reported quantity)."""

    by: Literal["given", "made", "passages"]
    searched: bool  # whether counterfactuals were looked for
    baselines: Sequence[Baseline]
    moves: list[float]
    metric: Metric

    @property
    def phrase(self) -> str:
        """What switching off sets neurons to."""
        return PHRASES[self.by]

    @property
    def verdict(self) -> Verdict:
        """Whether the answer hangs on what the baselines change: tested, refuted, or untested as nobody looked."""
        if self.by == "passages":
            return "refuted" if self.searched else "untested"
        return "tested" if min(map(abs, self.moves)) >= LEAST_FALL else "refuted"

    def told(self, model: Model) -> tuple[str, Claim]:
        """A warning for a person, empty where all is well, and the claim."""
        name, target = self.metric.quantity.name, quote(model.text([self.metric.target])[0])
        low, high = min(self.moves, key=abs), max(self.moves, key=abs)
        span = f"{low:+.2f}" if len(self.moves) == 1 else f"{low:+.2f} to {high:+.2f}"
        passages = "this is tested against neutral passages, which says little of what the answer hangs on"
        hint = "give a prompt of equal token length with another answer (--counterfactual)"
        if self.by == "passages" and self.searched:
            text = (
                "No counterfactual was found: no change of a content word that was tried lowers the log-probability "
                f"of {target} by {LEAST_FALL:g} or more, so {passages}; {hint}"
            )
        elif self.by == "passages":
            text = f"No counterfactuals are made for a prompt of this length or basis, so {passages}; {hint}"
        elif self.verdict == "refuted":
            many = "the counterfactual changes" if len(self.moves) == 1 else "one of the counterfactuals changes"
            text = (
                f"What is changed is not what the answer hangs on: {many} the {name} of {target} by {low:+.2f} only, "
                f"so the figures below say little; {hint}"
            )
        else:
            many = "the counterfactual changes" if len(self.moves) == 1 else f"{len(self.moves)} counterfactuals change"
            what = "a content word each, and with it " if self.by == "made" else ""
            text = f"What is changed is what the answer hangs on: {many} {what}the {name} of {target} by {span}"
        claim = Claim(text=text, verdict=self.verdict, evidence=["#counterfactuals"])
        return ("" if self.verdict == "tested" else text), claim

    def payload(self, model: Model, ids: Tensor) -> dict[str, Any]:
        """The baselines as ids, with text to read, what each changes, and what that does."""
        rows = []
        for b, moved in zip(self.baselines, self.moves, strict=True):
            answer = int(b.logits.argmax())
            rows.append(
                {
                    "ids": b.ids.tolist(),
                    "text": b.name,
                    "changed": (b.ids != ids).nonzero()[:, 0].tolist(),
                    "change": moved,
                    "answer": {"token": model.text([answer])[0], "id": answer},
                }
            )
        return {"by": self.by, "verdict": self.verdict, "least": LEAST_FALL, "prompts": rows}
