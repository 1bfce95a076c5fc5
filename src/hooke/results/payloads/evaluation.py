"""The payload of an evaluation of a dictionary."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from hooke.results.payloads.base import Part, Payload, told
from hooke.results.payloads.common import Ends


class Gain(Part):
    """How much better a dictionary is than a control, both on the same resamples."""

    value: float = told("above zero where the dictionary is better", "metric")
    interval: Ends | None = told("95 %; null where there is none", "metric", "low high")


class BlockScore(Part):
    """A metric at one site that a dictionary writes, or of all of them at once."""

    name: str = told("the site, or all")
    value: float | None = told("of the dictionary; null where it has none", "metric")
    interval: Ends | None = told("95 %; null where there is none", "metric", "low high")
    controls: dict[str, float | None] = told("of each control", "metric", "control")
    raw: dict[str, float | None] = told("other numbers that it was made of", "as each is named", "number")


class Metric(Part):
    """A metric of a dictionary beside its controls: the mean over the sites that it writes, and each of them."""

    title: str = told("its name for people")
    unit: str = told("what it is counted in")
    better: Literal["higher", "lower", "one"] = told("which values are better: one is nearer to 1")
    about: str = told("what it is, exactly")
    over: str = told("what the intervals are over; empty where there are none")
    units: int = told("how many of these", "units")
    value: float | None = told("of the dictionary, mean over sites; null where it has none", "metric")
    interval: Ends | None = told("95 %; null where there is none", "metric", "low high")
    controls: dict[str, float | None] = told("of each control, mean over sites", "metric", "control")
    control_intervals: dict[str, Ends | None] = told("95 %", "metric", "control low high")
    gains: dict[str, Gain] = told("how much better it is than each control", axes="control")
    blocks: list[BlockScore] = told("of each site", axes="site")


class EvaluatedBlock(Part):
    """A block of the dictionary."""

    reads: list[str] = told("sites that it reads", axes="site")
    writes: list[str] = told("sites that it writes", axes="site")
    features: int = told("how many", "features")
    gate: str = told("the rule by which they fire")
    hash: str = told("of its weights")


class ProbedTask(Part):
    """A data set that features were probed on."""

    name: str = told("of the data set")
    about: str = told("what is labelled")
    fitted_to: int = told("of it", "rows")
    tested_on: int = told("of groups that nothing was fitted to", "rows")
    groups: int = told("of these", "groups")
    scores: dict[str, dict[str, float]] = told("by number of features: mean over sites", "AUROC", "number probe")


class Evaluation(Payload):
    """How good a dictionary is, beside what it has to beat."""

    made_by: ClassVar[str] = "hooke evaluate"
    dictionary: str = told("the name of its folder", place=True)
    dictionaries: list[EvaluatedBlock] = told("its blocks", axes="block")
    differs: list[str] = told("from the model that it belongs to", axes="difference")
    text: dict[str, Any] = told("what is recorded of the text, and how many passages were left out of it")
    tokens: int = told("that were measured on", "tokens")
    passages: int = told("that they are of", "passages")
    fitted_to: int = told("of other passages, that controls were fitted to", "tokens")
    patched: int = told("that the model was run on with reconstructions put in", "tokens")
    kept: int = told("at the start of each piece of text that keep their true values and count nowhere", "tokens")
    metrics: dict[str, Metric] = told("by name", axes="metric")
    controls: dict[str, str] = told("what each of them is", axes="control")
    tasks: list[ProbedTask] = told("of sparse probing", axes="task")
    left_out: dict[str, str] = told("why something was not measured", axes="measure")
    notes: list[str] = told("what a reader should know", axes="note")
    sentence: str = told("the same in words")
