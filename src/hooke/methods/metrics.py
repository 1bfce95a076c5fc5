"""What an intervention is measured by: plain functions of the logits at the last position.

A metric takes (batch, d_vocab) to (batch,), larger for more of the clean answer. Any callable will do. Those
made here also say which tokens they read, so that nothing else need be unembedded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hooke.errors import HookeError
from hooke.methods import quantities as q
from hooke.methods.progress import Tick, idle
from hooke.model import Model
from hooke.model.recorded import Recorded
from hooke.model.run_each import Writes, substitute

LEAST_CHANGE = 1e-6  # of the larger of the two values: what clean and corrupt must differ by
SPACINGS = {torch.float16: 2, torch.bfloat16: 2}  # of a type at the largest logit, which rounding takes; of wide ones
WIDE_SPACINGS = 16
MOST_SHARE = 3.0  # of the difference: where one change does more, shares of it say little


@dataclass(frozen=True, eq=False)
class Reading:
    """A metric that says what it reads: `of(logits[:, tokens])`, or of all logits where tokens is None."""

    name: str
    of: Callable[[Tensor], Tensor] = field(repr=False)
    tokens: tuple[int, ...] | None = None

    def __call__(self, logits: Tensor) -> Tensor:
        """(batch, d_vocab) to (batch,)."""
        return self.of(logits if self.tokens is None else logits[:, list(self.tokens)])


Metric = Callable[[Tensor], Tensor]


def logit_difference(target: int | Sequence[int], contrast: int | Sequence[int]) -> Reading:
    """Mean logit of the targets less mean logit of the contrasts."""
    good, bad = _ids(target), _ids(contrast)
    both = sorted({*good, *bad})
    at_good, at_bad = [both.index(i) for i in good], [both.index(i) for i in bad]
    if set(good) == set(bad):
        raise HookeError("the target and the contrast are the same token, so their difference is always zero")
    return Reading(
        q.LOGIT_DIFFERENCE.name,
        lambda part: wide(part)[:, at_good].mean(1) - wide(part)[:, at_bad].mean(1),
        tuple(both),
    )


def logit(target: int | Sequence[int]) -> Reading:
    """Mean logit of the targets. It also moves with what raises all logits alike; prefer a difference."""
    return Reading(q.LOGIT.name, lambda part: wide(part).mean(1), _ids(target))


def log_probability(target: int | Sequence[int]) -> Reading:
    """Logarithm of the summed probability of the targets, in nats."""
    good = list(_ids(target))
    return Reading(q.LOG_PROBABILITY.name, lambda logits: wide(logits).log_softmax(-1)[:, good].logsumexp(1))


def probability(target: int | Sequence[int], contrast: int | Sequence[int] = ()) -> Reading:
    """Summed probability of the targets, less that of the contrasts if there are any."""
    good = list(_ids(target))
    bad = list(_ids(contrast)) if isinstance(contrast, int) or len(contrast) else []

    def of(logits: Tensor) -> Tensor:
        p = wide(logits).softmax(-1)
        return p[:, good].sum(1) - p[:, bad].sum(1)

    return Reading((q.PROBABILITY_DIFFERENCE if bad else q.PROBABILITY).name, of)


def kl(reference: Tensor) -> Reading:
    """Minus KL(reference || prediction) in nats, so that zero is best; reference: logits (d_vocab,).

    Its gradient is zero where the prediction is the reference: gradients must be taken elsewhere.
    """
    log = wide(reference).log_softmax(-1)
    return Reading(q.MINUS_KL.name, lambda x: (log.exp() * (wide(x).log_softmax(-1) - log)).sum(-1))


def accuracy(target: int | Sequence[int], contrast: int | Sequence[int]) -> Reading:
    """1 where the best target exceeds the best contrast, else 0, a tie counting half."""
    good, bad = _ids(target), _ids(contrast)
    n = len(good)

    def of(part: Tensor) -> Tensor:
        margin = part[:, :n].amax(1) - part[:, n:].amax(1)
        return (margin.sign() + 1) / 2

    return Reading(q.ACCURACY.name, of, (*good, *bad))


def name_of(metric: Metric) -> str:
    """What a result records a metric as."""
    return str(getattr(metric, "name", None) or getattr(metric, "__name__", None) or type(metric).__name__)


def evaluate(metric: Metric, logits: Tensor) -> Tensor:
    """The metric of (batch, d_vocab), checked: one finite number a row.

    Raises HookeError for another shape, or numbers that are not finite.
    """
    return checked(metric, metric(logits), logits.shape[0])


def checked(metric: Metric, values: Tensor, batch: int) -> Tensor:
    """What a metric gave (batch,), or a HookeError that says what is wrong with it."""
    if not isinstance(values, Tensor) or values.shape != (batch,):
        shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise HookeError(f"the metric {name_of(metric)} gave {shape} for {batch} rows; it must give one number a row")
    if not bool(torch.isfinite(values).all()):
        raise HookeError(f"the metric {name_of(metric)} gave a number that is not finite")
    return values


def measure(
    model: Model,
    base: Recorded,
    count: int,
    writes: Sequence[Writes],
    metric: Metric,
    *,
    tick: Tick = idle,
) -> Tensor:
    """(count,): the metric of each run of `base` with what is written into it, from no more logits than it reads."""
    vocabulary, of = None, metric
    if isinstance(metric, Reading) and metric.tokens is not None:
        vocabulary, of = torch.tensor(metric.tokens, device=model.device), metric.of
    return substitute(
        model,
        base,
        count,
        writes,
        vocabulary=vocabulary,
        each=lambda logits: checked(metric, of(logits), logits.shape[0]),
        tick=tick,
    )


def rounding(logits: Tensor, dtype: torch.dtype) -> float:
    """How far a number read off logits (… d_vocab) may move though nothing is changed: other batches round otherwise.

    dtype: that the model computes in.
    """
    largest = float(wide(logits).abs().max())
    if largest <= 0 or not math.isfinite(largest):
        return 0.0
    return SPACINGS.get(dtype, WIDE_SPACINGS) * torch.finfo(dtype).eps * 2.0 ** math.floor(math.log2(largest))


def rounding_of(metric: Metric, logits: Tensor, dtype: torch.dtype, size: float) -> float:
    """The same of a metric that is about as large as `size`; 0 for a function of a person's own."""
    step, name = rounding(logits, dtype), name_of(metric).replace("-", " ")
    if name in (q.PROBABILITY.name, q.PROBABILITY_DIFFERENCE.name):
        return step * size
    if name == q.MINUS_KL.name:
        return step**2
    return step if name in (q.LOGIT.name, q.LOGIT_DIFFERENCE.name, q.LOG_PROBABILITY.name) else 0.0


def check_varies(metric: Metric, clean: float, corrupt: float) -> None:
    """Refuse a metric by which clean and corrupt are the same: nothing could be restored."""
    if abs(clean - corrupt) <= LEAST_CHANGE * max(abs(clean), abs(corrupt), LEAST_CHANGE):
        raise HookeError(
            f"the metric {name_of(metric)} is {clean:.6g} on the clean and on the corrupt prompt; choose tokens or a "
            "corrupt prompt for which it differs"
        )


def hardly_apart(span: float, least: float, most: float = 0.0) -> list[str]:
    """A note for a reader where shares of what clean and corrupt differ by (`span`) say little: rounding alone may move
    the metric as far (`least`), or one change moves it much further (`most`)."""
    if abs(span) > least and abs(most) <= MOST_SHARE * abs(span):
        return []
    why = f"one change alone moves the metric by {most:+.2g}"
    if abs(span) <= least:
        why = f"rounding alone may move the metric by {least:.2g} (another --dtype rounds less)"
    return [
        f"clean and corrupt differ by {abs(span):.2g} only and {why}, so shares of that difference say little; choose "
        "tokens or a corrupt prompt for which it is larger"
    ]


def _ids(tokens: int | Sequence[int]) -> tuple[int, ...]:
    ids = (tokens,) if isinstance(tokens, int) else tuple(int(i) for i in tokens)
    if not ids:
        raise HookeError("a metric needs at least one token")
    return ids


def wide(x: Tensor) -> Tensor:
    """In at least fp32."""
    return x if x.dtype == torch.float64 else x.float()
