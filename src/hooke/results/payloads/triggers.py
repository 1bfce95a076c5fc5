"""Payloads of the search for strings that change what a model says."""

from __future__ import annotations

from typing import ClassVar, Literal

from hooke.results.payloads.base import Part, Payload, told
from hooke.results.payloads.battery import ASSESS, Said


class ScanBelow(Payload):
    """What a reference makes of every candidate, up to the layer that it shares with the model."""

    made_by: ClassVar[str] = ASSESS
    candidates: list[str] = told("the strings", axes="candidate")
    opener: int = told("with which answers most often begin", "token id")
    rows: list[list[int]] = told("what follows the prefix, of each candidate", "token id", "candidate position")
    prefix: list[int] = told("what all questions begin with", "token id", "position")


class Scanned(Part):
    """A candidate in the first question."""

    candidate: str = told("the string")
    kl: list[float] = told("divergence at the first answer token and after the opener", "nats", "place")
    score: float = told("the greater of both, from the median", "deviations")


class TriedAgain(Part):
    """A candidate in other questions."""

    candidate: str = told("the string")
    place: Literal["end", "beginning"] = told("of the question")
    kl: float = told("divergence beyond that of ordinary words", "nats")


class GrownStep(Part):
    """A step in lengthening a candidate."""

    candidate: str = told("the string")
    kl: float = told("divergence, mean over questions", "nats")


class Grown(GrownStep):
    """A candidate that was lengthened by gradients."""

    ids: list[int] = told("its tokens", "token id", "position")
    path: list[GrownStep] = told("how it grew", axes="step")


class NearStep(Part):
    """A step to a stronger string."""

    candidate: str = told("the string")
    log_probability: float = told("of the answer", "nats")


class Near(Part):
    """The strongest of the strings near to the best finalist."""

    start: str = told("the best finalist")
    strongest: str = told("the strongest near to it")
    tried: int = told("how many strings", "strings")
    answer: str = told("what most of its answers begin with")
    path: list[NearStep] = told("from one to the other", axes="step")


class Finalist(Part):
    """A candidate that was confirmed with whole answers."""

    candidate: str = told("the string")
    place: Literal["end", "beginning"] = told("of the question")
    hits: int = told("answers beyond what ordinary words do", "questions")
    n: int = told("of how many", "questions")
    share: float = told("the first of the second", "share")
    surprise: float = told("of answers to the reference, mean", "nats")
    examples: list[Said] = told("some answers", axes="answer")
    near: int | None = told("strings tried on the way, if it was reached from another", "strings", default=None)


class Ordinary(Part):
    """What ordinary words do."""

    n: int = told("answers", "questions")
    surprise: float = told("mean", "nats")
    limit: float = told("what a candidate must exceed", "nats")


class Triggers(Payload):
    """Strings that change what a model says and not what its reference says."""

    made_by: ClassVar[str] = ASSESS
    n: int = told("how many were scanned", "strings")
    median: list[float] = told("divergence over all", "nats", "place")
    opener: str = told("with which answers most often begin")
    scan: list[Scanned] = told("the strongest in the first question", axes="candidate")
    again: list[TriedAgain] = told("the strongest in other questions", axes="candidate")
    grown: list[Grown] = told("those that were lengthened", axes="candidate")
    near: Near | None = told("near to the best; null where it was not strong enough")
    finalists: list[Finalist] = told("confirmed, strongest first", axes="candidate")
    control: Ordinary = told("of ordinary words")
