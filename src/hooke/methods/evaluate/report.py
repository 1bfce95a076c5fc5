"""What an evaluation says: every metric with its controls, what it gains on each, claims and a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hooke.methods.evaluate.asked import Asked
from hooke.methods.evaluate.estimates import Estimate, mean
from hooke.methods.evaluate.measures import DICTIONARY, METRICS, Measured
from hooke.methods.evaluate.standins import ABOUT
from hooke.methods.phrases import phrase
from hooke.results import Claim
from hooke.results.verdicts import Verdict

NAMES = {about: name for name, about in METRICS.items()}
NO_GAIN = ("l0", "dead")  # metrics by which nothing is better or worse
# what is claimed: metrics, and what they are compared with
CLAIMED = ("explained_variance", "kl", "hard_agreement", "local_jacobian", "sparse_probing")
AGAINST = ("random_decoder", "untrained", "neurons", "pca", "linear", "dense_probe", "shuffled_labels")
WORDS = {
    "random_decoder": "a random decoder",
    "untrained": "an untrained dictionary",
    "neurons": "neurons at equal L0",
    "pca": "as many principal components",
    "linear": "a linear map",
    "dense_probe": "a dense probe",
    "shuffled_labels": "shuffled labels",
    "mean": "the mean",
    "zero": "zero",
    "oracle": "the site itself",
}


def metrics_of(found: Sequence[Measured]) -> dict[str, dict[str, Any]]:
    """Every metric as the payload has it: the mean over targets, and each of them."""
    return {NAMES[measured.about]: _metric(measured) for measured in found}


def _metric(measured: Measured) -> dict[str, Any]:
    about = measured.about
    rows = {target: _with_oracle(row, about.oracle) for target, row in measured.rows.items()}
    names = [name for name in dict.fromkeys(key for row in rows.values() for key in row) if name != DICTIONARY]
    whole = {
        name: mean([row[name] for row in rows.values() if name in row])
        for name in (DICTIONARY, *sorted(names, key=_place))
    }
    own = whole.pop(DICTIONARY)
    gains = {} if NAMES[about] in NO_GAIN else {name: _gain(own, each, about.better) for name, each in whole.items()}
    return {
        "title": about.title,
        "unit": about.unit,
        "better": about.better,
        "about": about.about,
        "over": measured.over,
        "units": own.units,
        "value": own.value,
        "interval": own.interval,
        "controls": {name: each.value for name, each in whole.items()},
        "control_intervals": {name: each.interval for name, each in whole.items()},
        "gains": {
            name: {"value": gain.value, "interval": gain.interval}
            for name, gain in gains.items()
            if name != "oracle" and gain.value is not None
        },
        "blocks": [
            {
                "name": target,
                "value": row[DICTIONARY].value,
                "interval": row[DICTIONARY].interval,
                "controls": {name: row[name].value for name in sorted(row, key=_place) if name != DICTIONARY},
                "raw": measured.raw.get(target, {}),
            }
            for target, row in rows.items()
        ],
    }


def _place(name: str) -> int:
    return list(ABOUT).index(name) if name in ABOUT else -1


def _with_oracle(row: dict[str, Estimate], oracle: float | None) -> dict[str, Estimate]:
    return row if oracle is None or "oracle" in row else row | {"oracle": Estimate(oracle)}


def _gain(own: Estimate, other: Estimate, better: str) -> Estimate:
    """How much better than a control: above zero where it is."""
    if better == "one":
        return own.off(1.0).less(other.off(1.0), -1.0)
    return own.less(other, 1.0 if better == "higher" else -1.0)


def claims_of(metrics: dict[str, dict[str, Any]], sentence: str) -> list[Claim]:
    """The sentence, and whether it beats what it has to beat: tested and true if the whole interval of the difference
    is above zero, else refuted. What has no interval claims nothing."""
    cited = [f"#metrics.{name}" for name in (*CLAIMED, "l0") if name in metrics][:4]
    found = [Claim(text=sentence, evidence=cited)]
    for name in CLAIMED:
        metric = metrics.get(name, {})
        for control in AGAINST:
            gain = metric.get("gains", {}).get(control)
            if gain is None or gain["interval"] is None:
                continue
            low, high = gain["interval"]
            text = (
                f"It beats {WORDS[control]} in {metric['title']}: by {gain['value']:+.3f} ({low:+.3f} to {high:+.3f}, "
                f"95 % over {metric['over']})"
            )
            verdict: Verdict = "tested" if low > 0 else "refuted"
            found.append(Claim(text=text, verdict=verdict, evidence=[f"#metrics.{name}.gains.{control}"]))
    return found


def sentence_of(asked: Asked, metrics: dict[str, dict[str, Any]], tokens: int) -> str:
    """One sentence: what it explains, what the model loses with it, and what stands beside that."""
    parts = []
    for name, words in (
        ("explained_variance", "explains {} of the variance"),
        ("loss_recovered", "recovers {} of the loss"),
        ("hard_agreement", "keeps {} of the model's hard first choices"),
    ):
        metric = metrics.get(name)
        if metric is None or metric["value"] is None:
            continue
        beside = [
            f"{WORDS[control]} {metric['controls'][control]:.1%}"
            for control in ("neurons", "pca", "linear", "random_decoder")
            if metric["controls"].get(control) is not None
        ]
        parts.append(words.format(f"{metric['value']:.1%}") + (f" ({', '.join(beside[:2])})" if beside else ""))
    if (probing := metrics.get("sparse_probing")) is not None:
        beside = [
            f"{WORDS[control]} {probing['controls'][control]:.2f}"
            for control in ("dense_probe", "neurons")
            if probing["controls"].get(control) is not None
        ]
        parts.append(f"reaches AUROC {probing['value']:.2f} in sparse probing ({', '.join(beside)})")
    many = "It" if len(asked.targets) == 1 else f"On average over {len(asked.targets)} sites it"
    return f"{many} {phrase(parts) if parts else 'was run'}, on {tokens:,} tokens that nothing was fitted to"
