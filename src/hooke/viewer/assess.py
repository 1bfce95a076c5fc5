"""The view of an assessment: its sentences, and its evidence cut to what a page can carry; what is cut is said."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hooke.results import Result
from hooke.results.evidence import locate
from hooke.safety.evidence import split
from hooke.safety.report import check
from hooke.viewer.schema import AssessView, Evidence, Inside
from hooke.viewer.titles import title

MAX_EVIDENCE = 2**19  # characters of JSON of one piece that is drawn as tables
MAX_PLACE = 2**14  # of one place in it
ROWS = (1000, 300, 100, 30, 10, 3)  # most entries of a list, tried in this order
MAX_TEXT = 2000  # characters of one text, where anything has to be cut
ALL_LINKS = 300_000  # of all graphs of a report together
FEW_LINKS = 5_000  # that each has at least


def assess_view(assessment: Result, evidence: Sequence[Result], left_out: Sequence[list[str]]) -> AssessView:
    """The report of an assessment with its evidence; raises HookeError for what `hooke.safety.report.check` refuses.

    left_out: of each piece of evidence, what its page does not have.
    """
    there = {result.id: result for result in evidence}
    report = check(assessment, there)
    places = {}
    for name in (name for _, names in report.sentences() for name in names):
        number, key = split(name)
        if key is not None:
            node, value = locate(there[number], key)
            places[name] = Inside(node=node, value=_fitted(value, MAX_PLACE)[0])
    return AssessView(
        subject=report.subject.model_dump(exclude_unset=True),
        reference=None if report.reference is None else report.reference.model_dump(exclude_unset=True),
        claims=report.claims,
        controls=report.controls,
        validated=report.validated,
        sections=report.sections,
        findings=sorted(report.findings, key=lambda finding: finding.rank),
        quick=report.quick,
        false_alarms=report.false_alarms,
        evidence=[Evidence(title=title(r), left_out=gone) for r, gone in zip(evidence, left_out, strict=True)],
        places=places,
    )


def links_each(evidence: Sequence[Result], most: int) -> int:
    """How many links each graph of a report shows; its page says of how many."""
    graphs = sum("graph" in result.payload for result in evidence)
    return max(FEW_LINKS, min(most, ALL_LINKS // max(1, graphs)))


def bounded(result: Result) -> tuple[Result, list[str]]:
    """A result as a report carries it, and a line for each thing that it leaves out. Graphs and lenses stay: their
    views bound and count themselves."""
    if "graph" in result.payload or result.kind in ("lens", "intervention"):
        return result, []
    payload, gone = _fitted(result.payload, MAX_EVIDENCE)
    for name, array in sorted(result.tensors.items()):
        gone.append(f"array {name}, {' × '.join(str(n) for n in array.shape) or 'one number'}")
    return result.model_copy(update={"payload": payload}), gone


def _fitted(value: Any, most: int) -> tuple[Any, list[str]]:
    """The value as JSON of at most so many characters: lists and texts cut until it fits, and what was cut."""
    value = json.loads(json.dumps(value, default=str))
    if len(json.dumps(value)) <= most:
        return value, []
    for rows in ROWS:
        gone: list[str] = []
        small = _cut(value, rows, "", gone)
        if len(json.dumps(small)) <= most:
            shown = gone[:20]
            return small, shown + ([f"and {len(gone) - 20} more lists and texts"] if len(gone) > 20 else [])
    return {}, ["everything: it is too large for a page"]


def _cut(value: Any, rows: int, place: str, gone: list[str]) -> Any:
    if isinstance(value, dict):
        if len(value) > rows and len(value) > ROWS[-2]:
            gone.append(f"{place or 'payload'}: the first {rows:,} of {len(value):,} keys are here")
            value = dict(list(value.items())[: max(rows, ROWS[-2])])
        return {key: _cut(inside, rows, f"{place}.{key}".lstrip("."), gone) for key, inside in value.items()}
    if isinstance(value, str) and len(value) > MAX_TEXT:
        gone.append(f"{place}: the first {MAX_TEXT:,} of {len(value):,} characters are here")
        return value[:MAX_TEXT]
    if not isinstance(value, list):
        return value
    if len(value) > rows:
        gone.append(f"{place}: the first {rows:,} of {len(value):,} entries are here")
    return [_cut(inside, rows, f"{place}.{k}", gone) for k, inside in enumerate(value[:rows])]
