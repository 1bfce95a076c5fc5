"""The numbers that Hooke measures a prediction by, each with the one name that it has everywhere.

Logits are the model's own, after a soft cap if it has one, at the last position; log is the natural logarithm.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Quantity(NamedTuple):
    """A number read off the next-token prediction."""

    name: str
    equation: str  # of the logits l, of target t and contrast c
    unit: str
    about: str  # half a sentence for people


LOG_PROBABILITY = Quantity(
    "log-probability",
    "l[t] - log(sum(exp(l)))",
    "nats",
    "how likely the token is, on a scale where -0.69 halves the probability",
)
LOGIT_DIFFERENCE = Quantity(
    "logit difference",
    "l[t] - l[c]",
    "nats",
    "how much likelier the one token is than the other, on a scale where 0.69 doubles the ratio",
)
LOGIT = Quantity("logit", "l[t]", "logits", "the token's raw score, which also moves with what raises all tokens alike")
PROBABILITY = Quantity("probability", "exp(l[t]) / sum(exp(l))", "share", "how likely the token is")
PROBABILITY_DIFFERENCE = Quantity(
    "probability difference", "p[t] - p[c]", "share", "how much likelier the one token is than the other"
)
MINUS_KL = Quantity(
    "minus KL",
    "-sum(p0 * log(p0 / p))",
    "nats",
    "how close the whole prediction is to the clean one, p0; 0 is the same",
)
ACCURACY = Quantity(
    "accuracy", "1 if l[t] > l[c], 1/2 if equal, else 0", "share", "whether the one token beats the other"
)
CENTRED_LOGIT = Quantity(
    "centred logit",
    "u[t] - mean(u), u the logits before a soft cap",
    "logits",
    "the token's score above that of the average token, which is what a graph adds up to; it can fall while the token "
    "gets likelier",
)
UNCAPPED_DIFFERENCE = Quantity(
    "logit difference before the soft cap",
    "u[t] - u[c], u the logits before a soft cap",
    "logits",
    "the difference of two scores before the model squeezes them, which is what a graph adds up to",
)
QUANTITIES = (
    LOG_PROBABILITY,
    LOGIT_DIFFERENCE,
    LOGIT,
    PROBABILITY,
    PROBABILITY_DIFFERENCE,
    MINUS_KL,
    ACCURACY,
    CENTRED_LOGIT,
    UNCAPPED_DIFFERENCE,
)


def told(quantity: Quantity) -> dict[str, Any]:
    """A quantity as a payload says it."""
    return dict(quantity._asdict())
