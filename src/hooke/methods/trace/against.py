"""What a trace is tested against: counterfactuals that were given or made, or neutral passages; and whether the answer
hangs on what they change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from hooke.methods.metric import Metric
from hooke.methods.phrases import quote
from hooke.methods.trace.counterfactuals import Baseline
from hooke.methods.variants import LEAST_FALL
from hooke.model import Model
from hooke.results import Claim, Verdict

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
