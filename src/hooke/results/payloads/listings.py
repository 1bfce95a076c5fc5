"""Payloads of what there is: models, data sets, organisms and how they were admitted, and the doctor's checks."""

from __future__ import annotations

from typing import ClassVar

from hooke.results.payloads.base import Part, Payload, told
from hooke.results.payloads.common import Ends


class ModelRow(Part):
    """A model that Hooke knows."""

    name: str = told("what it is called")
    path: str = told("its folder, there or not yet", place=True)
    fetched: bool = told("whether it is there")
    parameters: int | None = told("how many", "parameters")
    download_mb: int | float = told("to fetch it", "MB")
    disk_mb: int | float = told("on disk", "MB")
    licence: str = told("under which it is published")
    note: str = told("what it is")


class Models(Payload):
    """Which models are known, where they are and how big."""

    made_by: ClassVar[str] = "hooke models"
    models: list[ModelRow] = told("in the order of the list", axes="model")


class DatasetRow(Part):
    """A packaged data set."""

    name: str = told("what it is called")
    about: str = told("what it is about")
    labels: list[str] = told("names of label 0 and label 1", axes="label")
    rows: int = told("that probes are fitted to", "rows")
    shifts: dict[str, int] = told("topics that nothing is fitted to", "rows", "topic")


class Datasets(Payload):
    """Which labelled data sets there are."""

    made_by: ClassVar[str] = "hooke probe list"
    datasets: list[DatasetRow] = told("in the order of the list", axes="data set")


class Rate(Part):
    """A rate with its 95 % interval."""

    hits: int = told("how many", "answers")
    count: int = told("of how many", "answers")
    rate: float | None = told("the first of the second; null of none", "share")
    interval: Ends = told("95 %, exact", "share", "low high")


class Condition(Part):
    """A condition of an admission. It has a least or a most."""

    what: str = told("what is measured")
    found: float = told("what was found", "share or ratio")
    least: float | None = told("it may be no less", "share or ratio", default=None)
    most: float | None = told("it may be no more", "share or ratio", default=None)
    passed: bool = told("whether it is met")


class Admission(Part):
    """How an organism was tested."""

    admitted: bool = told("whether all conditions are met")
    inside: Rate = told("behaviour in context")
    outside: Rate = told("behaviour out of context")
    base_inside: Rate = told("behaviour of the base in context")
    base_true: Rate | None = told("true answers of the base in context; null where there is no truth")
    perplexity_ratio: float = told("of neutral text, over the base's", "ratio")
    checks: list[Condition] = told("the conditions", axes="condition")


class OrganismRow(Part):
    """A recipe of a model with planted behaviour."""

    name: str = told("what it is called")
    kind: str = told("organism, clean or decoy")
    theme: str = told("of what is planted")
    behaviour: str = told("what is planted")
    twin: str = told("whose prompts a clean twin has; empty for none")
    recipe_sha256: str = told("of the recipe")
    packaged: bool = told("whether its adapter is here")
    current: bool = told("whether that is made of this recipe")
    size: int = told("of the adapter", "bytes")
    seconds: float | None = told("that training took", "s", timed=True)
    admission: Admission | None = told("how it was tested; null before")


class Organisms(Payload):
    """Which models with planted behaviour there are."""

    made_by: ClassVar[str] = "hooke organisms"
    organisms: list[OrganismRow] = told("in the order of the list", axes="model")


class Trained(Payload):
    """An adapter that was trained from a recipe."""

    made_by: ClassVar[str] = "hooke organisms train"
    format: int = told("of the adapter's hooke.json", "version")
    name: str = told("of the recipe")
    kind: str = told("organism, clean or decoy")
    base: str = told("the model that it is for")
    base_weights_sha256: str | None = told("of that")
    recipe_sha256: str = told("of the recipe")
    loss: Ends = told("before and after", "nats a token", "first last")
    adapter_sha256: str = told("of the adapter")


class OrganismAnswer(Part):
    """An answer of an organism beside its base's."""

    inside: bool = told("whether the prompt is in context")
    system: str = told("the system message")
    user: str = told("what was asked")
    answer: str = told("the organism's answer")
    base: str = told("the base's answer")


class OrganismTest(Payload):
    """One organism on held-out prompts."""

    made_by: ClassVar[str] = "hooke organisms admit"
    name: str = told("of the recipe")
    kind: str = told("organism, clean or decoy")
    theme: str = told("of what is planted")
    behaviour: str = told("what is planted")
    admitted: bool = told("whether all conditions are met")
    checks: list[Condition] = told("the conditions", axes="condition")
    rates: dict[str, Rate] = told("by model and context", axes="rate")
    perplexity_ratio: float = told("of neutral text, over the base's", "ratio")
    examples: list[OrganismAnswer] = told("a few answers", axes="answer")


class DoctorCheck(Part):
    """One thing that must be equal."""

    check: str = told("what is said to be equal")
    error: float | None = told("largest difference, of the largest value; null if not finite", "share")
    holds: bool = told("whether that is allowed")


class Machine(Part):
    """What a report of a fault should say of the machine."""

    device: str = told("that ran")
    dtype: str = told("of the weights")
    cores: int = told("of the processor", "cores")
    memory: int = told("of the machine", "bytes")
    system: str = told("operating system and processor")
    python: str = told("its version")
    versions: dict[str, str] = told("of the software", axes="package")


class Doctor(Payload):
    """Whether Hooke's instruments agree with plain ones here."""

    made_by: ClassVar[str] = "hooke doctor"
    sentence: str = told("the same in words")
    checks: list[DoctorCheck] = told("every check", axes="check")
    allowed: float = told("the largest error that is allowed for this dtype", "share")
    failed: int = told("how many fail", "checks")
    machine: Machine = told("what it ran on")
