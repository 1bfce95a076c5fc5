"""Payloads of an assessment: its claims, controls and findings, what it looked at, and what causes a finding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from hooke.results.payloads.base import Part, Payload, told
from hooke.results.payloads.battery import ASSESS
from hooke.results.payloads.common import Alarms, Ends, Token
from hooke.results.verdicts import Verdict

Role = Literal["finding", "noted", "measured", "control", "run", "gap"]


class Sentence(Part):
    """A claim of a report, in one of its sections.

    role: a finding that was flagged, a hypothesis that was not, something measured in the subject, a control, a fact
    about the run, or what was not tested.
    """

    id: str = told("its number in the report")
    section: str = told("key of a section")
    text: str = told("what it says")
    verdict: Verdict = told("how it fared")
    role: Role = told("what sort of sentence it is", default="measured")
    evidence: list[str] = told("ids of results, or id#key for a place inside; never empty", axes="evidence")


class Control(Part):
    """A model whose right answer is known, put through the same instrument in the same run."""

    name: str = told("of the model")
    kind: Literal["positive", "negative"] = told("whether something is planted in it")
    behaviour: list[str] = told("kinds of what is planted", axes="kind", default=[])
    expected: str = told("what the instrument should say")
    found: str = told("what it says")
    passed: bool = told("whether that is the same")
    evidence: list[str] = told("ids of results, or id#key", axes="evidence")


class Section(Part):
    """A part of a report. stamp: what a reader has to know before anything in it."""

    key: str = told("its name in claims")
    title: str = told("its title")
    stamp: str | None = told("what a reader has to know first", default=None)


class Finding(Part):
    """A hypothesis about the subject, with its rank among all. threshold: null where no clean models set one. hits, n,
    interval: in how many of how many answers it shows, and the 95 % interval of that share."""

    rank: int = told("1 is the first", "rank")
    hypothesis: str = told("what it says")
    kind: str = told("of behaviour")
    score: float | None = told("the effect", "share")
    threshold: float | None = told("from which it is flagged", "share")
    flagged: bool = told("whether it is")
    tokens: list[str] = told("that show it", axes="token", default=[])
    evidence: list[str] = told("ids of results, or id#key", axes="evidence")
    hits: int | None = told("answers in which it shows", "answers", default=None)
    n: int | None = told("of how many", "answers", default=None)
    interval: Ends | None = told("95 % of that share", "share", "low high", default=None)


class About(Part):
    """What an assessment says of a model."""

    name: str = told("its name")
    weights_sha256: str | None = told("of its weights", default=None)
    adapter: str | None = told("of its adapter", default=None)
    adapter_sha256: str | None = told("of its adapter", default=None)
    base: str | None = told("what the adapter was made for", default=None)
    base_weights_sha256: str | None = told("of that", default=None)
    revision: str | None = told("of the hub", default=None)
    note: str | None = told("what a reader must know of it", default=None)
    family: str | None = told("of architectures", default=None)
    dtype: str | None = told("of its weights", default=None)
    chat_template_sha256: str | None = told("of its chat template", default=None)
    versions: dict[str, str] | None = told("of the software", axes="package", default=None)


class Assessment(Payload):
    """A model beside its reference, clean fine-tunes and controls: every sentence with its evidence."""

    made_by: ClassVar[str] = ASSESS
    subject: About = told("the model")
    reference: About | None = told("what it is compared with", default=None)
    claims: list[Sentence] = told("what the report says", axes="sentence")
    controls: list[Control] = told("models whose right answer is known", axes="control")
    validated: bool = told("whether the controls passed")
    sections: list[Section] = told("in their order", axes="section")
    findings: list[Finding] = told("hypotheses", axes="finding", default=[])
    quick: bool = told("whether it was a first look", default=False)
    false_alarms: Alarms | None = told("of the same rules on clean fine-tunes", default=None)
    kinds: dict[str, str] = told("of the evidence, by id", axes="evidence", default={})

    def sentences(self) -> Iterator[tuple[str, list[str]]]:
        """Everything that the report asserts, with its evidence."""
        yield from ((claim.text, claim.evidence) for claim in self.claims)
        yield from ((f"control {control.name}", control.evidence) for control in self.controls)
        yield from ((finding.hypothesis, finding.evidence) for finding in self.findings)


class Hypothesis(Finding):
    """A hypothesis with the areas in which it shows."""

    areas: list[str] = told("of the battery", axes="area")


class Hypotheses(Payload):
    """What the tools found in one model, weighed against what they find in clean fine-tunes."""

    made_by: ClassVar[str] = ASSESS
    findings: list[Hypothesis] = told("the first is the likeliest", axes="finding")
    flagged: bool = told("whether any is")
    suspicion: float | None = told("largest ratio of a score to its threshold; null without clean models", "ratio")
    thresholds: dict[str, float] | None = told("of each kind; null without clean models", "share", "kind")
    null: dict[str, dict[str, float]] = told("what clean fine-tunes reach", "share", "model kind")
    false_alarms: Alarms = told("clean fine-tunes that would be flagged by the others")


class ScoredModel(Part):
    """One model of a blind game."""

    name: str = told("of the model")
    group: Literal["organism", "clean", "decoy"] = told("what it is")
    flagged: bool = told("whether it was flagged")
    kinds: list[str] = told("as what", axes="kind")
    suspicion: float | None = told("largest ratio of a score to its threshold", "ratio")
    rank: int | None = told("of the truth among the findings", "rank")
    kind_rank: int | None = told("of the first finding of the right kind", "rank")
    found: bool = told("whether it was flagged with the truth among the first")


class Found(Part):
    """Organisms that were found."""

    found: int = told("how many", "models")
    n: int = told("of how many", "models")
    lower_95: float = told("the rate is at least this, with 95 % confidence", "share")


class Flagged(Part):
    """Clean models and decoys that were flagged."""

    flagged: int = told("how many", "models")
    n: int = told("of how many", "models")
    upper_95: float = told("the rate is at most this, with 95 % confidence", "share")


class Shuffled(Part):
    """The same findings against the truth of another organism."""

    hits: int = told("truths that would be among the first", "pairs")
    n: int = told("of how many", "pairs")


class Score(Payload):
    """Sealed findings scored by what was planted."""

    made_by: ClassVar[str] = "python bench/assess.py"
    seal: str = told("hash of all findings, taken before the truth was read")
    rows: list[ScoredModel] = told("every model", axes="model")
    organisms: Found = told("of organisms")
    others: Flagged = told("of clean models and decoys")
    shuffled: Shuffled = told("against the truth of others")


class LoadCheck(Part):
    """An equation that a loaded model keeps."""

    model: str = told("its name")
    equation: str = told("what is equal")
    error: float = told("largest difference, of the largest value", "share")


class LoadChecks(Payload):
    """Every equation that a model proves when it is loaded, proved again."""

    made_by: ClassVar[str] = ASSESS
    checks: list[LoadCheck] = told("of the model and its reference", axes="equation")
    worst: float = told("largest error", "share")
    n: int = told("how many", "equations")


class LookedAt(Part):
    """How much was looked at."""

    questions: int = told("open questions", "questions")
    facts: int = told("questions of fact", "questions")
    answer_tokens: int = told("of all answers", "tokens")
    strings: int = told("tried as triggers", "strings")
    clean_fine_tunes: int = told("that set thresholds", "models")
    of_these_recorded: int = told("of which a record was used", "models")
    record_differs_by: float | None = told("the most that one differs from its record", "share")
    probes: list[str] = told("that were fitted and tested", axes="probe")
    languages: list[str] = told("of the battery", axes="language")
    turns: int = told("of a conversation", "turns")
    context_tokens: int = told("longest question with its answer", "tokens")
    context_of_the_model: int | None = told("what the model takes", "tokens")
    reference: bool = told("whether there was one")
    quick: bool = told("whether it was a first look")


class Coverage(Payload):
    """What an assessment looked at, and what it did not."""

    made_by: ClassVar[str] = ASSESS
    looked_at: LookedAt = told("how much")
    not_looked_at: list[str] = told("what was left out", axes="sentence")
    cannot_be_concluded: list[str] = told("what follows from none of it", axes="sentence")


class Lead(Part):
    """The logit of the target less that of the contrast."""

    model: float = told("in the model", "logits")
    reference: float = told("in the reference", "logits")


class RestoredLayer(Part):
    """The stream after one layer exchanged for the reference's, at the last token."""

    layer: int = told("the layer", "layer")
    lead: float = told("of the target over the contrast", "logits")
    random: float = told("the same with random changes of equal size, mean", "logits")
    random_least: float = told("least of these", "logits")


class Restore(Payload):
    """From which layer on the reference's stream gives back the reference's token."""

    made_by: ClassVar[str] = ASSESS
    question: str = told("where the finding shows")
    target: Token = told("what the model says")
    contrast: Token = told("what its reference says")
    lead: Lead = told("of the first over the second")
    rows: list[RestoredLayer] = told("layer by layer", axes="layer")
    decided: int | None = told("the first layer that gives back the contrast", "layer")
