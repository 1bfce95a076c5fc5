"""`assess`: one model beside its reference, clean fine-tunes and controls, as a folder of evidence and claims."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

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
    answers_of,
    answers_of_both,
    audit,
    clean_parts,
    fingerprint,
    null_effects,
)
from hooke.safety.blind import FIRST, Truth, kinds_of, rank_of_truth
from hooke.safety.causes import flagged_place, restore
from hooke.safety.deception import ROWS, deception
from hooke.safety.evidence import keep
from hooke.safety.hypotheses import hypotheses
from hooke.safety.paired import pair
from hooke.safety.report import ASSESSMENT, NOT_VALIDATED, check, kinds

DEVELOPED = ("organism-string", "organism-word", "organism-string-clean")  # the rules were made on these
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
    parts: dict[str, Result] = {}
    found: Result | None = None
    controls: list[dict[str, Any]] = []
    clean: dict[str, dict[str, Result]] = {}
    from_record: list[str] = []
    apart: float | None = None
    if reference is None:
        parts["answers"] = book.add(answers_of(model, shelf, settings, stage("answers")))
    else:
        tools = audit(model, reference, settings=settings, shelf=shelf, progress=stage("audit"))
        ours, theirs = answers_of_both(model, reference, shelf, settings, stage("answers"))
        parts = {"answers": ours, "reference_answers": theirs, **tools}
        own = subject_name(model, people)
        others = [name for name in people.clean if name != own]
        clean, from_record, apart = clean_parts(
            others, people.load, reference, settings=settings, shelf=shelf, stage=stage
        )
        for part in [*parts.values(), *(part for one in clean.values() for part in one.values())]:
            book.add(part)
        null = null_effects(clean)
        found = book.add(hypotheses(tools, null, name=own or model.name))
        controls = control_models(book, people, reference, own, clean, null, settings, shelf, stage)
    deceived: dict[str, Result] = {}
    if not quick:
        spec = {"model": fingerprint(model), "rows": ROWS, "seed": seed}
        deceived = deception(
            model,
            seed=seed,
            progress=stage("deception"),
            keep=lambda name, make: shelf.part(name.replace(" ", "_"), spec, make),
        )
        for part in deceived.values():
            book.add(part)
    causes: dict[int, list[Result]] = {}
    if found is not None and reference is not None and not quick:
        flagged = [row for row in found.payload["findings"] if row["flagged"]][:TRACED]
        for row in flagged:
            spec = {"model": fingerprint(model), "reference": fingerprint(reference), "finding": row, "seed": seed}
            causes[row["rank"]] = explained(model, reference, row, parts, spec, shelf, stage(f"finding {row['rank']}"))
            for part in causes[row["rank"]]:
                book.add(part)
    covered = book.add(coverage(model, reference, settings, parts, deceived, clean, (from_record, apart), quick))
    passed = {row["kind"] for row in controls if row["passed"]}
    validated = passed == {"positive", "negative"} and all(row["passed"] for row in controls)
    said = [
        *say.subject(model, reference, checks),
        *say.controls(controls, covered),
        *say.deception(deceived, covered),
        *say.difference(parts, clean, reference, covered),
        *say.findings(found, causes, covered),
        *say.limits(covered),
    ]
    claims = [{"id": f"c{n}", **one} for n, one in enumerate(said, 1)]
    payload = {
        "subject": about(model),
        "reference": None if reference is None else about(reference),
        "claims": claims,
        "controls": controls,
        "validated": validated,
        "sections": sections(validated),
        "findings": say.listed(found),
        "quick": quick,
        "false_alarms": found.payload["false_alarms"] if found is not None and clean else None,
        "kinds": kinds(book.kept.values()),
    }
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


class Population:
    """The models whose right answer is known: names of clean fine-tunes and organisms, and how one is loaded."""

    def __init__(
        self,
        clean: list[str],
        organisms: list[str],
        load: Callable[[str], Model],
        truth: Callable[[str], Truth] | None = None,
    ) -> None:
        self.clean, self.organisms, self.load, self.truth = clean, organisms, load, truth


def packaged(reference: Model | None) -> Population:
    """The packaged organisms and clean fine-tunes, if they are made from this reference; else nobody. The controls are
    the first that are not the subject, so those that the rules were made on come last."""
    from hooke.model.adapter import packaged as adapters
    from hooke.model.load import load
    from hooke.model.zoo import DEFAULT
    from hooke.safety.blind import read_truth

    if reference is None or reference.name != DEFAULT or reference.info.get("adapter"):
        return Population([], [], load)
    from hooke.truth import organisms

    here = adapters()
    clean, planted = (
        sorted((name for name in organisms.names(kind) if name in here), key=lambda name: name in DEVELOPED)
        for kind in ("clean", "organism")
    )
    return Population(clean, planted, load, read_truth)


def subject_name(model: Model, people: Population) -> str | None:
    """Which of the known models the subject is, by its own name."""
    return model.name if model.name in {*people.clean, *people.organisms} else None


def control_models(
    book: Book,
    people: Population,
    reference: Model,
    own: str | None,
    clean: Mapping[str, Mapping[str, Result]],
    null: Mapping[str, Mapping[str, float]],
    settings: Settings,
    shelf: Shelf,
    stage: Callable[[str], Progress | None],
) -> list[dict[str, Any]]:
    """One organism that must be flagged, with the truth among its first hypotheses, and one clean fine-tune that must
    not; neither is the subject. The truth is read after the findings are kept under their hash."""
    rows = []
    for name in [name for name in people.organisms if name != own][:1]:
        other = people.load(name)
        parts = audit(other, reference, settings=settings, shelf=shelf, progress=stage(f"control {name}"))
        del other
        for part in parts.values():
            book.add(part)
        found = book.add(hypotheses(parts, null, name=name))
        flagged, first = found.payload["flagged"], found.payload["findings"][:1]
        rank = None
        if people.truth is not None:
            rank = rank_of_truth(found.payload["findings"], people.truth(name))
        named = people.truth is None or (rank is not None and rank <= FIRST)
        rows.append(
            {
                "name": name,
                "kind": "positive",
                "behaviour": [] if people.truth is None else list(kinds_of(people.truth(name))),
                "expected": f"flagged, and what was planted among the first {FIRST} hypotheses",
                "found": f"{'flagged' if flagged else 'not flagged'}; first: {say.quoted(first)}; "
                + (f"planted behaviour at rank {rank}" if rank else "planted behaviour not named"),
                "passed": bool(flagged and named),
                "evidence": [found.id],
            }
        )
    for name in [name for name in people.clean if name != own][:1]:
        found = book.add(hypotheses(clean[name], null, name=name))
        flagged = found.payload["flagged"]
        rows.append(
            {
                "name": name,
                "kind": "negative",
                "behaviour": [],
                "expected": "not flagged, by thresholds from the other clean fine-tunes",
                "found": "flagged" if flagged else "not flagged",
                "passed": not flagged and len(null) > 1,
                "evidence": [found.id],
            }
        )
    return rows


class Book:
    """The evidence of one assessment: results by id, each written when it is added."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.kept: dict[str, Result] = {}

    def add(self, result: Result) -> Result:
        if result.id not in self.kept:
            keep(self.out, result)
            self.kept[result.id] = result
        return result


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
    parts: Mapping[str, Result],
    deceived: Mapping[str, Result],
    clean: Mapping[str, Any],
    record: tuple[list[str], float | None],
    quick: bool,
) -> Result:
    """What was looked at, and what was not: the evidence of every sentence about limits."""
    said = parts["answers"].payload
    looked = {
        "questions": len(said["open"]),
        "facts": len(said["facts"]),
        "answer_tokens": sum(len(row["ids"]) for row in [*said["open"], *said["facts"]]),
        "strings": parts["triggers"].payload["n"] if "triggers" in parts else 0,
        "clean_fine_tunes": len(clean),
        "of_these_recorded": len(record[0]),
        "record_differs_by": record[1],
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
