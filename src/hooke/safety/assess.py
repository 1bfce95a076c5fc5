"""`assess`: one model beside its reference, clean fine-tunes and controls, as a folder of evidence and claims."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hooke.arguments import verb
from hooke.errors import HookeError
from hooke.methods.progress import Progress
from hooke.methods.trace import trace
from hooke.model import Model, Tokens, check_model
from hooke.results import Claim, Result
from hooke.safety import statements as say
from hooke.safety.audit import (
    QUICK,
    RECORDED,
    Settings,
    Shelf,
    Stage,
    answers_of,
    answers_of_both,
    audit,
    clean_parts,
    fingerprint,
    null_effects,
)
from hooke.safety.causes import flagged_place, restore
from hooke.safety.controls import Population, control_models, packaged, subject_name
from hooke.safety.deception import ROWS, deception
from hooke.safety.evidence import Book
from hooke.safety.hypotheses import hypotheses
from hooke.safety.paired import pair
from hooke.safety.report import ASSESSMENT, NOT_VALIDATED, check, kinds

TRACED = 2  # flagged findings that are traced
TRACE_NODES = 300


@verb
def assess(
    model: Model,
    *,
    reference: Model | None = None,
    out: str | Path,
    quick: bool = False,
    fresh: bool = False,
    seed: int = 0,
    settings: Settings | None = None,
    shelf: Shelf | None = None,
    population: Population | None = None,
    progress: Progress | None = None,
) -> Result:
    """Examine a model and write what was found, with all its evidence, into the folder `out`.

    reference: the model before its training. Without one the comparisons are not made, and the report says so.
    quick: fewer questions and strings, no probes, no traces; for a first look. settings: how much exactly.
    fresh: examine every clean fine-tune here. Without it, what was recorded of them when Hooke was made is used if
    one of them, which is examined here in any case, gives what was recorded of it.
    shelf: where finished parts are kept (None: in Hooke's own folder, shared by all assessments), so that a run
        that was interrupted goes on where it was. population: the models of the controls (None: the packaged ones).
    progress: called often with a stage and how much of it is done, 0 to 1; what it raises stops the work.
    Returns a `Result` of kind "assess", saved as `out`/assessment.json with its evidence beside it. Its payload has
    subject, reference, claims, controls, validated, sections and findings; no score of the whole, and no verdict on it.
    The thresholds come from packaged clean fine-tunes of the reference; where there are none, nothing is flagged, and
    everything after the controls is stamped.
    Raises HookeError for a model without a chat template, a reference of another shape, or a folder that cannot be
    written.
    """
    start = time.perf_counter()
    require_chat(model)
    if reference is not None:
        pair(model, reference)  # refuses what cannot be compared, before anything is written
    out, shelf = Path(out), shelf or Shelf(recorded=None if fresh else RECORDED)
    settings = (settings or (QUICK if quick else Settings()))._replace(seed=seed)
    people = population or packaged(reference)
    book = Book(out)
    seconds: dict[str, float] = {}

    def stage(name: str) -> Progress | None:
        seconds[name] = round(time.perf_counter() - start, 1)
        if progress is None:
            return None
        progress(name, 0.0)
        return lambda part, done: progress(f"{name}: {part}", done)

    stage("load")
    checks = book.add(load_checks(model, reference))
    seen = _compared(book, model, reference, people, settings, shelf, stage)
    deceived = {} if quick else _deceived(book, model, shelf, seed, stage("deception"))
    causes = {} if quick or reference is None else _causes(book, model, reference, seen, shelf, seed, stage)
    covered = book.add(coverage(model, reference, settings, seen, deceived, quick))
    claims = _claims(model, reference, checks, seen, deceived, causes, covered)
    payload = _payload(model, reference, claims, seen, book, quick)
    seconds["total"] = round(time.perf_counter() - start, 1)
    result = Result.make(
        "assess",
        parents=list(book.kept),
        arguments={
            "reference": None if reference is None else reference.name,
            "quick": quick,
            "fresh": fresh,
            **settings._asdict(),
        },
        provenance=model.provenance(),
        seconds=seconds,
        claims=[Claim(text=c["text"], verdict=c["verdict"], evidence=c["evidence"]) for c in claims],
        payload=payload,
    )
    check(result, book.kept)
    result.save(out / ASSESSMENT)
    return result


class Compared(NamedTuple):
    """What was found of a model beside its reference; without one there are its answers and nothing else.

    parts: what the tools gave, by name. clean: the same of clean fine-tunes; recorded: those of them that were taken
    from the record, which differs by `apart` from what is found here. found: the hypotheses. controls: how the models
    fared whose right answer is known.
    """

    parts: dict[str, Result]
    clean: dict[str, dict[str, Result]]
    recorded: list[str]
    apart: float | None
    found: Result | None
    controls: list[dict[str, Any]]


def _compared(
    book: Book,
    model: Model,
    reference: Model | None,
    people: Population,
    settings: Settings,
    shelf: Shelf,
    stage: Stage,
) -> Compared:
    """Run the tools over the model, the clean fine-tunes and the controls."""
    if reference is None:
        own_answers = book.add(answers_of(model, shelf, settings, stage("answers")))
        return Compared({"answers": own_answers}, {}, [], None, None, [])

    def examine(one: Model, name: str) -> dict[str, Result]:
        return audit(one, reference, settings=settings, shelf=shelf, progress=stage(name))

    tools = examine(model, "audit")
    ours, theirs = answers_of_both(model, reference, shelf, settings, stage("answers"))
    parts = {"answers": ours, "reference_answers": theirs, **tools}
    own = subject_name(model, people)
    others = [name for name in people.clean if name != own]
    clean, recorded, apart = clean_parts(others, people.load, reference, settings=settings, shelf=shelf, stage=stage)
    for part in [*parts.values(), *(part for one in clean.values() for part in one.values())]:
        book.add(part)
    null = null_effects(clean)
    found = book.add(hypotheses(tools, null, name=own or model.name))
    return Compared(parts, clean, recorded, apart, found, control_models(book, people, own, clean, null, examine))


def _deceived(book: Book, model: Model, shelf: Shelf, seed: int, progress: Progress | None) -> dict[str, Result]:
    """Probes of truth and honesty, and how they do."""
    spec = {"model": fingerprint(model), "rows": ROWS, "seed": seed}
    found = deception(
        model, seed=seed, progress=progress, keep=lambda name, make: shelf.part(name.replace(" ", "_"), spec, make)
    )
    for part in found.values():
        book.add(part)
    return found


def _causes(
    book: Book, model: Model, reference: Model, seen: Compared, shelf: Shelf, seed: int, stage: Stage
) -> dict[int, list[Result]]:
    """By rank, what explains the first flagged findings."""
    causes: dict[int, list[Result]] = {}
    findings = [] if seen.found is None else seen.found.payload["findings"]
    for row in [row for row in findings if row["flagged"]][:TRACED]:
        spec = {"model": fingerprint(model), "reference": fingerprint(reference), "finding": row, "seed": seed}
        progress = stage(f"finding {row['rank']}")
        causes[row["rank"]] = explained(model, reference, row, seen.parts, spec, shelf, progress)
        for part in causes[row["rank"]]:
            book.add(part)
    return causes


def explained(
    model: Model,
    reference: Model,
    finding: Mapping[str, Any],
    parts: Mapping[str, Result],
    spec: Mapping[str, Any],
    shelf: Shelf,
    progress: Progress | None,
) -> list[Result]:
    """The interventions and the trace at the place where a flagged finding shows; empty if it shows nowhere."""
    import torch

    place = flagged_place(model, reference, finding, parts)
    if place is None:
        return []
    restored = shelf.part(
        "restore", spec, lambda: restore(model, reference, place, seed=int(spec["seed"]), progress=progress)
    )
    ids = torch.tensor(place.ids)[None]

    def traced() -> Result:
        return trace(
            model,
            Tokens(ids, torch.ones_like(ids, dtype=torch.bool)),
            target=place.target,
            contrast=place.contrast,
            nodes=TRACE_NODES,
            seed=int(spec["seed"]),
            progress=progress,
        )

    return [restored, shelf.part("trace", {**spec, "place": place}, traced)]


def load_checks(model: Model, reference: Model | None) -> Result:
    """Every equation that a model proves when it is loaded, proved again, as evidence."""
    rows: list[dict[str, Any]] = []
    for one in (model, reference):
        if one is not None:
            rows += [{"model": one.name, "equation": c.equation, "error": c.error} for c in check_model(one)]
    worst = max(row["error"] for row in rows)
    text = f"{len(rows)} site equations hold, the worst to {worst:.1e}"
    return Result.make(
        "load_checks",
        provenance=model.provenance(),
        claims=[Claim(text=text, verdict="tested", evidence=["#checks"])],
        payload={"checks": rows, "worst": worst, "n": len(rows)},
    )


def coverage(
    model: Model,
    reference: Model | None,
    settings: Settings,
    seen: Compared,
    deceived: Mapping[str, Result],
    quick: bool,
) -> Result:
    """What was looked at, and what was not: the evidence of every sentence about limits."""
    parts = seen.parts
    said = parts["answers"].payload
    looked = {
        "questions": len(said["open"]),
        "facts": len(said["facts"]),
        "answer_tokens": sum(len(row["ids"]) for row in [*said["open"], *said["facts"]]),
        "strings": parts["triggers"].payload["n"] if "triggers" in parts else 0,
        "clean_fine_tunes": len(seen.clean),
        "of_these_recorded": len(seen.recorded),
        "record_differs_by": seen.apart,
        "probes": sorted(deceived),
        "languages": ["English"],
        "turns": 1,
        "context_tokens": max(len(row["prompt"]) + len(row["ids"]) for row in [*said["open"], *said["facts"]]),
        "context_of_the_model": model.parts.context,
        "reference": reference is not None,
        "quick": quick,
    }
    text = f"{looked['questions']} questions and {looked['facts']} facts were asked"
    return Result.make(
        "coverage",
        parents=[parts["answers"].id],
        arguments=settings._asdict(),
        provenance=model.provenance(),
        claims=[Claim(text=text, verdict="tested", evidence=["#looked_at"])],
        payload={
            "looked_at": looked,
            "not_looked_at": list(say.NOT_LOOKED_AT),
            "cannot_be_concluded": list(say.CANNOT),
        },
    )


def _claims(
    model: Model,
    reference: Model | None,
    checks: Result,
    seen: Compared,
    deceived: Mapping[str, Result],
    causes: Mapping[int, list[Result]],
    covered: Result,
) -> list[dict[str, Any]]:
    """Every sentence of the report, in its order."""
    said = [
        *say.subject(model, reference, checks),
        *say.controls(seen.controls, covered),
        *say.deception(deceived, covered),
        *say.difference(seen.parts, seen.clean, reference, covered),
        *say.findings(seen.found, causes, covered),
        *say.limits(covered),
    ]
    return [{"id": f"c{n}", **one} for n, one in enumerate(said, 1)]


def _payload(
    model: Model, reference: Model | None, claims: list[dict[str, Any]], seen: Compared, book: Book, quick: bool
) -> dict[str, Any]:
    passed = {row["kind"] for row in seen.controls if row["passed"]}
    validated = passed == {"positive", "negative"} and all(row["passed"] for row in seen.controls)
    return {
        "subject": about(model),
        "reference": None if reference is None else about(reference),
        "claims": claims,
        "controls": seen.controls,
        "validated": validated,
        "sections": sections(validated),
        "findings": say.listed(seen.found),
        "quick": quick,
        "false_alarms": seen.found.payload["false_alarms"] if seen.found is not None and seen.clean else None,
        "kinds": kinds(book.kept.values()),
    }


def about(model: Model) -> dict[str, Any]:
    """What an assessment says of a model: name, hashes, family, quantisation, template."""
    known = model.provenance()
    kept = ("weights_sha256", "adapter", "adapter_sha256", "base", "base_weights_sha256", "revision", "note")
    found = {"name": model.name} | {key: known[key] for key in kept if known.get(key) is not None}
    return found | {key: known[key] for key in ("family", "dtype", "chat_template_sha256", "versions")}


def sections(validated: bool) -> list[dict[str, Any]]:
    """The sections of a report in their order; what follows the controls is stamped unless they passed."""
    titles = {
        "subject": "What was assessed",
        "load": "Does Hooke read this model rightly?",
        "controls": "Does the instrument work here?",
        "deception": "Probes of truth and honesty",
        "difference": "What changed against the reference",
        "findings": "What was found, and what it rests on",
        "limits": "What was not looked at, and what cannot be concluded",
    }
    order = list(titles)
    after = order.index("controls")
    return [
        {"key": key, "title": title, "stamp": NOT_VALIDATED if order.index(key) > after and not validated else None}
        for key, title in titles.items()
    ]


def require_chat(model: Model) -> None:
    """Raise HookeError at once for a model that cannot be asked questions."""
    if not getattr(model.tokenizer, "chat_template", None):
        raise HookeError(f"{model.name} has no chat template, so it cannot be asked the battery; assess a chat model")
