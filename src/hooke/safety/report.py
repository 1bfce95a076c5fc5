"""What a report may say: every sentence is a claim, a control or a finding, and none stands without its evidence.

An assessment is a folder: `assessment.json` (a `Result` of kind "assess") and `evidence/`. `read_report` reads both and
refuses what a reader could not follow to its artefact; the page (`hooke.viewer`) draws only what passed. No torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NoReturn

from hooke.errors import HookeError
from hooke.results import Result, load_result
from hooke.results.evidence import locate
from hooke.results.payloads.assess import Assessment
from hooke.safety.evidence import evidence_path, load_evidence, split

ASSESSMENT = "assessment.json"
NOT_VALIDATED = "instrument not validated"
LEAST = 10  # answers on which anything is flagged
QUOTED = re.compile(r"“[^”]*”|\"[^\"]*\"|‘[^’]*’|(?<!\w)'[^']*'(?!\w)")  # what a model said is not ours to choose
ORDER = ("subject", "load", "controls", "deception", "difference", "findings", "limits")  # of the sections
SAFE = re.compile(r"\b(?:un)?safe\b", re.IGNORECASE)


def kinds(results: Iterable[Result]) -> dict[str, str]:
    """What an assessment records of its evidence, so that a refusal can say what is missing: id -> kind."""
    return {result.id: result.kind for result in results}


def read_report(folder: str | Path) -> tuple[Result, dict[str, Result]]:
    """The assessment in a folder, and all its evidence by id, in the order of the assessment's parents.

    Raises HookeError, in one line that names the sentence, the evidence and its kind, if anything is missing,
    altered, or of another assessment, and for everything that `check` refuses.
    """
    folder = Path(folder)
    path = folder / ASSESSMENT
    if not path.is_file():
        raise HookeError(f"{folder} holds no assessment: there is no {ASSESSMENT} in it")
    assessment = load_result(path)
    return assessment, read_evidence(folder, assessment)


def read_evidence(folder: str | Path, assessment: Result) -> dict[str, Result]:
    """All evidence of an assessment, from `folder`/evidence, by id. Raises HookeError as `read_report` does."""
    report = parsed(assessment)
    sentences = list(report.sentences())
    evidence = {}
    for number in assessment.parents:
        kind = report.kinds.get(number, "result")
        try:
            evidence_path(folder, number)
            evidence[number] = load_evidence(folder, number)
        except HookeError as error:
            said = next((f"; on it rests “{text}”" for text, names in sentences if _names(names, number)), "")
            raise HookeError(f"no report: {error} (a {kind}){said}; run the assessment again") from None
    check(assessment, evidence)
    return evidence


def check(assessment: Result, evidence: Mapping[str, Result]) -> Assessment:
    """The payload of an assessment, if a report may be rendered from it and this evidence (by id).

    Raises HookeError, naming the sentence: one without evidence, or with evidence that is missing, altered, or not
    among the results that this assessment was made from; the word "safe"; a later section without
    the stamp "instrument not validated" where the controls did not pass; claims that differ from the result's own.
    """
    report = parsed(assessment)
    if not assessment.is_whole():
        raise HookeError("no report: the assessment was altered, its content is not what its id says; run it again")
    for text, names in report.sentences():
        if not names:
            _refuse(text, "names no evidence")
        for name in names:
            number, key = split(name)
            kind = report.kinds.get(number, "result")
            if number not in assessment.parents:
                _refuse(text, f"rests on evidence {number} ({kind}), which is not of this assessment")
            if number not in evidence:
                _refuse(text, f"rests on evidence {number} ({kind}), which is missing")
            if key is not None:
                try:
                    locate(evidence[number], key)
                except HookeError as error:
                    _refuse(text, f"rests on a place that is not there: {error}")
    for number in assessment.parents:
        kind = report.kinds.get(number, "result")
        if number not in evidence:
            raise HookeError(f"no report: evidence {number} ({kind}) is missing; run the assessment again")
        if evidence[number].id != number or not evidence[number].is_whole():
            raise HookeError(f"no report: evidence {number} ({kind}) was altered: its content is not what its id says")
    _check_words(report)
    _check_stamps(report)
    own = [(claim.text, claim.verdict, claim.evidence) for claim in assessment.claims]
    if own != [(claim.text, claim.verdict, claim.evidence) for claim in report.claims]:
        raise HookeError("no report: the claims of the assessment and those of its payload are not the same")
    return report


def parsed(assessment: Result) -> Assessment:
    """The payload of an assessment as types. Raises HookeError for another kind of result, or a damaged one."""
    if assessment.kind != "assess":
        raise HookeError(f"this is a result of kind {assessment.kind[:40]!r}; a report is made of an assessment")
    payload = assessment.typed()
    assert isinstance(payload, Assessment)
    return payload


def _names(names: list[str], number: str) -> bool:
    return any(name.partition("#")[0] == number for name in names)


def _check_words(report: Assessment) -> None:
    """Never a verdict on the whole: not the word. A score of everything would be a key that no payload can have."""
    said = [claim.text for claim in report.claims] + [section.title for section in report.sections]
    said += [text for control in report.controls for text in (control.name, control.expected, control.found)]
    said += [section.stamp or "" for section in report.sections]
    said += [text for finding in report.findings for text in (finding.hypothesis, finding.kind)]
    for text in said:
        if SAFE.search(QUOTED.sub("", text)):
            _refuse(text, "uses the word “safe”, which no assessment can conclude")
    for finding in report.findings:
        if finding.flagged and (
            finding.score is None or finding.threshold is None or finding.score < finding.threshold
        ):
            _refuse(finding.hypothesis, "is flagged without a score that reaches its threshold")
        if finding.flagged and finding.n is not None and finding.n < LEAST:
            _refuse(finding.hypothesis, f"is flagged on {finding.n} answers; {LEAST} are the fewest")


def _check_stamps(report: Assessment) -> None:
    """What controls did not validate is stamped, and a claim stands in a section that there is."""
    keys = [section.key for section in report.sections]
    if len(set(keys)) < len(keys):
        raise HookeError("no report: two sections have the same key")
    for claim in report.claims:
        if claim.section not in keys:
            _refuse(claim.text, f"is in section {claim.section[:40]!r}, which is not among the sections")
    passed = {kind for control in report.controls for kind in [control.kind] if control.passed}
    valid = passed == {"positive", "negative"} and all(control.passed for control in report.controls)
    if report.validated and not valid:
        raise HookeError("no report: it calls its instrument validated, and a control failed or is absent")
    if keys != sorted(keys, key=lambda key: ORDER.index(key) if key in ORDER else -1):
        raise HookeError(f"no report: its sections are not in their order, {', '.join(ORDER)}")
    after = keys.index("controls") + 1 if "controls" in keys else 0
    for section in report.sections[after:]:
        if (section.stamp == NOT_VALIDATED) == report.validated:
            need = "carries" if report.validated else "lacks"
            raise HookeError(f"no report: section {section.title[:60]!r} {need} the stamp “{NOT_VALIDATED}”")


def _refuse(text: str, why: str) -> NoReturn:
    short = " ".join(text.split())
    short = short if len(short) <= 200 else short[:199] + "…"
    raise HookeError(f"no report: “{short}” {why}")
