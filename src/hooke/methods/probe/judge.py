"""`probe_test`: how a fitted probe does on rows of anybody's, beside everything it has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import expit

from hooke.arguments import verb
from hooke.data.labelled.benign import benign as benign_rows
from hooke.data.labelled.rows import Dataset, Row, check_rows
from hooke.dictionaries import Dictionary
from hooke.errors import HookeError
from hooke.harvest import Harvest
from hooke.methods.asking import data_hash
from hooke.methods.probe.baselines import random_twin, score_words
from hooke.methods.probe.parts import score_harvest, token_scores
from hooke.methods.probe.score import blocks_of, check_belongs, check_dictionaries, read
from hooke.methods.progress import Clock, Progress
from hooke.methods.ranking import (
    FEW,
    auroc,
    auroc_interval,
    calibration,
    gain_interval,
    needed,
    recall_at,
    roc,
    weights,
)
from hooke.model import Model
from hooke.results import Claim, Result

BUDGETS = (0.01, 0.001)  # false positives on benign text
BASELINES = ("bag_of_words", "log_probability", "length", "random_direction", "shuffled_labels", "random_weights")
MISTAKES = 10


@verb
def probe_test(
    model: Model,
    fitted: Result,
    dataset: Dataset,
    *,
    benign: Sequence[Row] | int = 1000,
    dictionaries: Sequence[Dictionary] = (),
    transfer: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Test a probe on labelled rows: AUROC with its interval, paired gain over the best baseline, recall at
    a false-alarm budget set on unrelated benign texts, calibration, topics, worst mistakes.

    benign: texts that have nothing to do with the concept, or how many of the packaged ones to take (answers
        of an assistant, if the probe was fitted to answers). A
        rate is refused when fewer than ten items lie above its threshold: 1,000 for 1 %, 10,000 for 0.1 %.
    dictionaries: those whose features the probe reads, if it does.
    transfer: allow a probe of another model; what differs is recorded and said.
    Returns a `Result` of kind "probe_test" (payload in docs/probe.md) with the probe as its parent.
    Raises HookeError for one class only, malformed rows, or a probe that does not belong to the model.
    """
    clock = Clock(progress)
    rows = dataset.rows
    check_rows(rows, dataset.name)
    differ = check_belongs(model, fitted, transfer=transfer)
    blocks, template = blocks_of(fitted), fitted.payload.get("template")
    codes = check_dictionaries(fitted, dictionaries)
    with clock("activations") as tick:
        kept = read(
            model, blocks, rows, template=template, dictionaries=codes, tokens=True, likelihood=True, progress=tick
        )
    scores = _scores(fitted, kept, rows)
    if "random_weights.direction" in fitted.tensors:
        with clock("random weights") as tick:
            twin = random_twin(model, int(fitted.arguments.get("seed", 0)))
            blank = blocks_of(fitted, "random_weights")
            noise = read(twin, blank, rows, template=template, dictionaries=codes, progress=tick)
            scores["random_weights"] = score_harvest(blank, noise)
    with clock("benign texts") as tick:
        calm = _calm(benign, fitted, rows)
        quiet = np.zeros(0)
        if calm:
            heard = read(model, blocks, calm, template=template, dictionaries=codes, progress=tick)
            quiet = score_harvest(blocks, heard)
    with clock("report"):
        y = np.array([row.label for row in rows])
        mistakes = _mistakes(model, rows, y, scores["probe"], blocks, kept)
        payload = _payload(fitted, dataset, y, scores, quiet, mistakes, differ)
    return Result.make(
        "probe_test",
        parents=[fitted.id],
        arguments={
            "dataset": dataset.name,
            "dataset_sha256": dataset.sha256,
            "benign": len(calm),
            "benign_sha256": data_hash([row.key for row in calm]),
            "transfer": transfer,
        },
        provenance=model.provenance(),
        seconds=clock.done(),
        claims=[
            Claim(
                text=payload["sentence"],
                verdict="tested" if payload["gain_interval"][0] > 0 else "refuted",
                evidence=["#gain_interval", fitted.id],
            )
        ],
        payload=payload,
        tensors={"scores": scores["probe"], "labels": y, "benign": quiet},
    )


def _scores(fitted: Result, kept: Harvest, rows: Sequence[Row]) -> dict[str, np.ndarray]:
    """(n,) each: of the probe, and of what it has to beat."""
    fit = fitted.payload["baselines"]
    return {
        "probe": score_harvest(blocks_of(fitted), kept),
        "bag_of_words": score_words(fit["words"], fitted.tensors["bag_of_words"], rows),
        "log_probability": fit["turns"]["log_probability"] * kept.log_probability,
        "length": fit["turns"]["length"] * kept.length.astype(float),
        "random_direction": score_harvest(blocks_of(fitted, "random_direction"), kept),
        "shuffled_labels": score_harvest(blocks_of(fitted, "shuffled_labels"), kept),
    }


def _calm(benign: Sequence[Row] | int, fitted: Result, rows: Sequence[Row]) -> list[Row]:
    """The texts that were given, or so many of the packaged ones."""
    calm = list(benign) if not isinstance(benign, int) else []
    if isinstance(benign, int) and benign:
        calm = list(benign_rows(benign, chat=bool(fitted.payload.get("chat"))))
    check_benign(calm, rows)
    return calm


def _payload(
    fitted: Result,
    dataset: Dataset,
    y: np.ndarray,
    scores: dict[str, np.ndarray],
    quiet: np.ndarray,
    mistakes: list[dict[str, Any]],
    differ: list[str],
) -> dict[str, Any]:
    """How the probe does, and by how much it beats the best baseline."""
    rows, values = dataset.rows, scores["probe"]
    drawn = weights([row.group for row in rows])
    each = {name: auroc_interval(scores[name], y, drawn) for name in ("probe", *BASELINES) if name in scores}
    found = each.pop("probe")
    best = max(each, key=lambda name: each[name].value)
    gain = gain_interval(values, scores[best], y, drawn)
    payload: dict[str, Any] = {
        "auroc": found.value,
        "auroc_interval": found.pair,
        "n": len(rows),
        "n_groups": len({row.group for row in rows}),
        "negative": fitted.payload["negative"],
        "positive": fitted.payload["positive"],
        "probe": {key: fitted.payload[key] for key in ("name", "kind", "sites", "pool", "strength")},
        "baselines": {name: {"auroc": own.value, "interval": own.pair} for name, own in each.items()},
        "best_baseline": best,
        "gain": gain.value,
        "gain_interval": gain.pair,
        "recall_at_fpr": [recall_at(values, y, quiet, rate, drawn) for rate in BUDGETS],
        "accuracy": float(((values > 0) == (y == 1)).mean()),
        "calibration": calibration(expit(values), y),
        "roc": roc(values, y),
        "topics": _topics(rows, y, values, scores[best]),
        "mistakes": mistakes,
        "overlap": _overlap(fitted, dataset),
        "differs": differ,
    }
    names = None
    if tuple(dataset.labels) != (payload["negative"], payload["positive"]):
        names = (
            f"The rows are labelled {dataset.labels[0]} and {dataset.labels[1]}, the probe's {payload['negative']} "
            f"and {payload['positive']}: label 1 is taken for {payload['positive']}."
        )
    payload["notes"] = _notes(rows, quiet, differ, payload["overlap"]["rows_seen_in_fitting"], names)
    payload["sentence"] = _sentence(payload)
    return payload


def check_benign(calm: Sequence[Row], rows: Sequence[Row]) -> None:
    """Raise HookeError for benign texts that cannot be counted on: labelled 1, twice there, or among the test's."""
    if any(row.label == 1 for row in calm):
        raise HookeError("some benign texts have label 1; give texts without the concept")
    keys = {row.key for row in calm}
    if len(keys) < len(calm):
        raise HookeError(f"only {len(keys)} of {len(calm)} benign texts differ; leave out repetitions")
    shared = keys & {row.key for row in rows}
    if shared:
        raise HookeError(f"{len(shared)} benign texts are rows of the test too; give others")


def _topics(rows: Sequence[Row], y: np.ndarray, values: np.ndarray, rival: np.ndarray) -> list[dict[str, Any]]:
    """AUROC of the probe and of the best baseline within each topic that has both labels, worst first."""
    made = []
    for topic in sorted({row.topic for row in rows}):
        at = np.array([row.topic == topic for row in rows])
        if len(set(y[at].tolist())) < 2:
            continue
        drawn = weights([row.group for row in rows if row.topic == topic], resamples=500)
        own = auroc_interval(values[at], y[at], drawn)
        row = {"topic": topic or "(none)", "n": int(at.sum()), "groups": drawn.groups}
        row |= {"auroc": own.value, "interval": own.pair}
        made.append(row | {"best_baseline": auroc(rival[at], y[at])})
    return sorted(made, key=lambda row: row["auroc"])


def _mistakes(
    model: Model, rows: Sequence[Row], y: np.ndarray, values: np.ndarray, blocks: Any, kept: Any
) -> list[dict[str, Any]]:
    """The rows that are surest and wrong, of both labels, with the value at each token."""
    wrong = np.where(y == 1, -values, values)
    made = []
    for i in np.argsort(-wrong)[:MISTAKES]:
        if wrong[i] <= 0:
            break
        row = rows[int(i)]
        made.append(
            {
                "text": row.text,
                "user": row.user,
                "label": row.label,
                "topic": row.topic,
                "score": float(values[i]),
                "tokens": model.text(kept.ids[int(i)]),
                "token_scores": token_scores(blocks, kept, int(i)).round(3).tolist(),
            }
        )
    return made


def _overlap(fitted: Result, dataset: Dataset) -> dict[str, Any]:
    """Whether the test rows are the fitting rows: by data set, and by text."""
    same = fitted.payload["dataset"]["sha256"] == dataset.sha256
    known = set(fitted.payload["dataset"]["fitted_to"])
    return {"same_dataset": same, "rows_seen_in_fitting": sum(row.key in known for row in dataset.rows)}


def _notes(rows: Sequence[Row], quiet: np.ndarray, differ: Sequence[str], seen: int, names: str | None) -> list[str]:
    notes = []
    if seen:
        notes.append(f"{seen} of {len(rows)} rows were fitted to: on these the probe has an unfair advantage.")
    groups = len({row.group for row in rows})
    if groups < FEW:
        notes.append(f"{groups} groups: too few for an interval, so each covers all that is possible.")
    elif groups < 20:
        notes.append(f"{groups} groups: the intervals are rough.")
    if groups == len(rows):
        notes.append("No two rows share a group: if some are wordings of one fact, the intervals are too narrow.")
    if len(quiet) < needed(BUDGETS[0]):
        notes.append(f"{len(quiet)} benign texts: no recall at a false-alarm budget can be claimed.")
    if names is not None:
        notes.append(names)
    if differ:
        notes.append("The probe was fitted to another model: " + "; ".join(differ) + ".")
    return notes


def _sentence(p: dict[str, Any]) -> str:
    low, high = p["auroc_interval"]
    worst, most = p["gain_interval"]
    rival = p["best_baseline"].replace("_", " ")
    verdict = "beats" if worst > 0 else "falls behind" if most < 0 else "is not told apart from"
    return (
        f"The probe tells {p['positive']} from {p['negative']} on {p['n']} rows with AUROC {p['auroc']:.2f} "
        f"({low:.2f} to {high:.2f}) and {verdict} the best baseline, {rival}, "
        f"by {p['gain']:+.2f} ({worst:+.2f} to {most:+.2f})."
    )
