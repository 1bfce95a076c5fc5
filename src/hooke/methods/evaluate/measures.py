"""What is measured: each metric with its title, unit and equation, and what was found for each target and control."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from hooke.methods.evaluate.estimates import Estimate

Better = Literal["higher", "lower", "one"]
DICTIONARY = "dictionary"
COUNTS = (1, 2, 5, 16)  # features that are probed


class About(NamedTuple):
    """What a metric is. oracle: what it would be if the site itself stood there, where that is known beforehand."""

    title: str
    unit: str
    better: Better
    about: str
    oracle: float | None = None


@dataclass(eq=False)
class Measured:
    """A metric by target: of the dictionary and of each control. over: what the intervals are over. raw: other numbers
    that it was made of, by target."""

    about: About
    over: str
    rows: dict[str, dict[str, Estimate]]
    raw: dict[str, dict[str, float | None]] = field(default_factory=dict)


METRICS: dict[str, About] = {
    "l0": About("L0", "features", "lower", "features that fire on a token, on average"),
    "dead": About("dead", "share", "lower", "features that fire on none of the tokens that are measured on"),
    "explained_variance": About(
        "explained variance", "share", "higher",
        "1 - Σ|y - ŷ|² / Σ|y - ȳ|², each sum and the mean over all tokens", 1.0,
    ),
    "cosine": About("cosine", "cosine", "higher", "of y and ŷ, mean over tokens", 1.0),
    "shrinkage": About("length kept", "ratio", "one", "Σ|ŷ| / Σ|y| over all tokens; below 1 it shrinks", 1.0),
    "relative_bias": About(
        "relative bias", "ratio", "one", "Σ|ŷ|² / Σ y·ŷ over all tokens; 1 where no other scale would do better", 1.0
    ),
    "ce_loss": About(
        "loss with ŷ put in", "nats", "lower",
        "cross-entropy a token of the model with ŷ in the place of y; the oracle is the model's own, mean and zero are "
        "ablations",
    ),
    "loss_recovered": About(
        "loss recovered", "share", "higher",
        "(loss with zero - loss with ŷ) / (loss with zero - the model's own)", 1.0,
    ),
    "kl": About(
        "KL with ŷ put in", "nats", "lower",
        "Σ p log(p / p̂), p being the model's next tokens and p̂ those with ŷ put in; mean over tokens", 0.0,
    ),
    "kl_recovered": About("KL recovered", "share", "higher", "1 - KL with ŷ / KL with zero", 1.0),
    "agreement": About(
        "agreement", "share", "higher",
        "tokens after which the model and the replacement model (every MLP that is covered replaced at once, attention "
        "live, no error terms) have the same likeliest token", 1.0,
    ),
    "hard_agreement": About(
        "agreement, hard tokens", "share", "higher",
        "the same where the model is right with a probability below 0.8", 1.0,
    ),
    "replacement_loss": About("loss, MLPs replaced", "nats", "lower", "cross-entropy a token of the replacement model"),
    "replacement_kl": About("KL, MLPs replaced", "nats", "lower", "from the model to the replacement model", 0.0),
    "jacobian_correlation": About(
        "Jacobian correlation", "correlation", "higher",
        "of derivatives by the stream that enters the layer, over all directions and positions, of the log-probability "
        "of the text: with y, and with ŷ in its place", 1.0,
    ),
    "local_jacobian": About(
        "Jacobian of ŷ alone", "correlation", "higher",
        "of derivatives by what the dictionary reads, through y and through ŷ alone, the rest of the model held as it "
        "is", 1.0,
    ),
    "first_letter_f1": About(
        "first letter, F1", "F1", "higher",
        "of a logistic regression on the few main features of a letter, for whether a word begins with it; mean over "
        "letters",
    ),
    "absorption": About(
        "absorption", "share", "lower",
        "words whose letter a probe finds while its main features are silent and one other supplies 0.4 of the probe's "
        "projection; a dictionary that knows no letters has none, so see its F1 first",
    ),
    "absorption_fraction": About(
        "absorption, in part", "share", "lower",
        "of the probe's projection, what up to three other features supply in the place of the main ones",
    ),
    "sparse_probing": About(
        "sparse probing", "AUROC", "higher", "mean over 1, 2, 5 and 16 features, and over tasks"
    ),
    **{
        f"sparse_probing_{k}": About(
            f"sparse probing, {k}", "AUROC", "higher",
            f"of logistic regressions on the {k} features whose class means lie furthest apart, on groups held out; "
            "mean over tasks",
        )
        for k in COUNTS
    },
}  # fmt: skip
