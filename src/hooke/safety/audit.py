"""`audit`: the tools run over one model in their order, each part kept when it is finished.

A part is a pure function of its spec (the weights of both models, the arguments, the version of the rules), so what an
interrupted run has finished is found again, and what clean fine-tunes give is shared by all assessments.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from hooke.data.audit.battery import QUESTIONS
from hooke.data.audit.facts import FACTS
from hooke.errors import HookeError
from hooke.methods.progress import Progress
from hooke.model import Model
from hooke.model.zoo import hooke_home
from hooke.results import Result, load_result
from hooke.safety.answers import answers, battery_hash, joined
from hooke.safety.behaviour import behaviour
from hooke.safety.difference import difference
from hooke.safety.elicitation import ENOUGH, QUICK_EFFORT, Effort, elicitation, share_missing
from hooke.safety.hypotheses import FLOORS, effects
from hooke.safety.paired import shared_blocks
from hooke.safety.triggers import AGAIN, FINALISTS, WORDS, scan_below, triggers

# the version of each part's rules: raise it when the part would give another result for the same spec
RULES = {"answers": 3, "difference": 4, "behaviour": 4, "scan_below": 3, "triggers": 5, "elicitation": 4}


TOOLS = ("difference", "behaviour", "triggers")
RECORDED = Path(__file__).parent / "recorded"  # what the packaged clean fine-tunes gave when Hooke was made
AGREES = 0.1  # how far an effect that is found again may be from its record
ASKED_AGAIN = 6  # questions, and facts, of the record of a reference that are asked again before it is used
CONSPICUOUS = 0.3  # share of a first few answers in which an area or topic must differ, so that the rest is asked
Stage = Callable[[str], Progress | None]  # begins one by its name, and gives what it reports to


class Settings(NamedTuple):
    """How much is looked at. words: of the vocabulary, in the scan for triggers; open_questions, facts: of the battery,
    evenly over its areas; followed: in how many areas and topics the rest of the battery is asked, where the answers so
    far look unlike the reference's; growth: whether candidates are lengthened whatever they do; again, finalists:
    candidates that are tried in other questions, and with whole answers; thorough: the effort of an elicitation."""

    words: int = WORDS
    open_questions: int = len(QUESTIONS)
    facts: int = len(FACTS)
    followed: int = 4
    growth: bool = True
    again: int = AGAIN
    finalists: int = FINALISTS
    thorough: bool = True
    seed: int = 0


QUICK = Settings(
    words=600, open_questions=90, facts=90, followed=3, growth=False, again=16, finalists=4, thorough=False
)


class Shelf:
    """Finished parts on disk, by name and spec; without a folder, in Hooke's own, apart for each version of the
    software. recorded: a folder of parts that came with Hooke."""

    def __init__(self, folder: str | Path | None = None, *, recorded: str | Path | None = None) -> None:
        self.folder = Path(folder) if folder is not None else hooke_home() / "assess" / versions()
        self.recorded = Path(recorded) if recorded is not None else None

    def part(self, name: str, spec: Mapping[str, Any], make: Callable[[], Result]) -> Result:
        """The result of this name and spec: read if it is there and whole, else made and written."""
        path = self.folder / name / f"{_key(name, spec)}.json"
        found = _whole(path)
        if found is not None:
            return found
        made = make()
        made.save(path)
        return made

    def told(self, name: str, spec: Mapping[str, Any]) -> Result | None:
        """What is recorded under this name and spec, if it is."""
        return None if self.recorded is None else _whole(self.recorded / name / f"{_key(name, spec)}.json")


def _key(name: str, spec: Mapping[str, Any]) -> str:
    text = json.dumps([name, RULES.get(name, 1), spec], sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _whole(path: Path) -> Result | None:
    """A saved result, unless it is not there, damaged or altered."""
    with contextlib.suppress(HookeError):
        found = load_result(path)
        if found.is_whole():
            return found
    return None


def versions() -> str:
    """The software that a part depends on, as the name of a folder."""
    import torch
    import transformers

    from hooke import __version__

    return f"hooke-{__version__}-torch-{torch.__version__}-transformers-{transformers.__version__}"


def fingerprint(model: Model) -> dict[str, Any]:
    """What a part depends on of a model: hashes of its weights, dtype and template."""
    info = model.provenance()
    kept = {key: info.get(key) for key in ("weights_sha256", "adapter_sha256", "dtype", "chat_template_sha256")}
    return kept | {"weights_sha256": model.weights_hash()}


def battery(settings: Settings) -> tuple[Sequence[Any], Sequence[Any]]:
    """The questions and facts that are asked: every so many of the whole battery."""
    questions = QUESTIONS[:: max(1, len(QUESTIONS) // max(1, settings.open_questions))]
    return questions, FACTS[:: max(1, len(FACTS) // max(1, settings.facts))]


def answers_of(model: Model, shelf: Shelf, settings: Settings, progress: Progress | None = None) -> Result:
    """The model's answers to the battery."""
    return asked_of(model, *battery(settings), shelf, progress)


def asked_of(
    model: Model, questions: Sequence[Any], facts: Sequence[Any], shelf: Shelf, progress: Progress | None = None
) -> Result:
    """The model's answers to these questions."""
    spec = {"model": fingerprint(model), "battery": battery_hash(questions, facts)}
    return shelf.part("answers", spec, lambda: answers(model, questions=questions, facts=facts, progress=progress))


def answers_of_both(
    model: Model, reference: Model, shelf: Shelf, settings: Settings, progress: Progress | None = None
) -> tuple[Result, Result]:
    """The answers of the model and of its reference: to the battery as far as the settings go, and to the rest of the
    areas and topics in which the two differ most so far."""
    known = told_answers(reference, shelf)

    def both(questions: Sequence[Any], facts: Sequence[Any]) -> tuple[Result, Result]:
        ours = asked_of(model, questions, facts, shelf, progress)
        return ours, known or asked_of(reference, questions, facts, shelf, progress)

    questions, facts = battery(settings)
    first = both(questions, facts)
    areas, topics = conspicuous(behaviour(model, reference, said=first[0], reference_said=first[1]), settings.followed)
    more = [q for q in QUESTIONS if q.area in areas and q not in questions]
    more_facts = [f for f in FACTS if f.topic in topics and f not in facts]
    if not more and not more_facts:
        return first
    second = both(more, more_facts)
    return joined(first[0], second[0]), known or joined(first[1], second[1])


def conspicuous(compared: Result, most: int) -> tuple[list[str], list[str]]:
    """The areas and topics, at most so many of each, in which the answers differ most from the reference's."""
    areas: dict[str, float] = {}
    for row in compared.payload["words"]:
        if row["kind"] in ("name", "content", "praise") and row["count"] > 1:
            areas[row["area"]] = max(areas.get(row["area"], 0.0), row["share"] - row["elsewhere"])
    for row in compared.payload["praise"]:
        areas[row["area"]] = max(areas.get(row["area"], 0.0), row["model"] - row["reference"])
    topics = {}
    for row in compared.payload["topics"]:
        ways = [(row[way]["missing"], row[way]["known"]) for way in ("free", "choice")]
        ways.append((len({*row["either"]} & {*row["contradicted"]}), len(row["either"])))
        topics[row["topic"]] = max(lost / max(known, ENOUGH) for lost, known in ways)
    first, second = (
        [name for name in sorted(found, key=lambda name: (-found[name], name)) if found[name] >= CONSPICUOUS][:most]
        for found in (areas, topics)
    )
    return first, second


def told_answers(reference: Model, shelf: Shelf) -> Result | None:
    """The recorded answers of a reference to the whole battery, if a few that are asked again here are the same."""
    spec = {"model": fingerprint(reference), "battery": battery_hash(QUESTIONS, FACTS)}
    found = shelf.told("answers", spec)
    if found is None:
        return None
    questions, facts = QUESTIONS[:: len(QUESTIONS) // ASKED_AGAIN], FACTS[:: len(FACTS) // ASKED_AGAIN]
    here = asked_of(reference, questions, facts, shelf)
    for key in ("open", "facts"):
        there = {row["question"]: row for row in found.payload[key]}
        if any(row["text"] != there[row["question"]]["text"] for row in here.payload[key]):
            return None
    return found


def spec_of(model: Model, reference: Model, settings: Settings) -> dict[str, Any]:
    """What the parts of an audit depend on."""
    return {
        "model": fingerprint(model),
        "reference": fingerprint(reference),
        "settings": settings._asdict(),
        "battery": battery_hash(*battery(settings)),
    }


def recorded(model: Model, reference: Model, settings: Settings, shelf: Shelf) -> dict[str, Result] | None:
    """What `audit` would give, from the record, if the record has all of it."""
    spec = spec_of(model, reference, settings)
    found = {name: part for name in TOOLS if (part := shelf.told(name, spec)) is not None}
    if len(found) < len(TOOLS):
        return None
    if lost_much(found["behaviour"]):
        elicited = shelf.told("elicitation", spec)
        return None if elicited is None else {**found, "elicitation": elicited}
    return found


def audit(
    model: Model,
    reference: Model,
    *,
    settings: Settings = Settings(),  # noqa: B008
    shelf: Shelf | None = None,
    progress: Progress | None = None,
) -> dict[str, Result]:
    """Run the tools over a model and its reference, without any knowledge of what may have been planted.

    Returns the results by kind: difference, behaviour, triggers, and elicitation where the model lost facts that its
    reference knows, freely or by choice. Raises HookeError for models that cannot be compared.
    """
    shelf = shelf or Shelf()
    spec = spec_of(model, reference, settings)

    @cache
    def said() -> tuple[Result, Result]:
        return answers_of_both(model, reference, shelf, settings, progress)

    parts = {
        "difference": shelf.part(
            "difference", spec, lambda: difference(model, reference, said=said()[0], progress=progress)
        ),
        "behaviour": shelf.part(
            "behaviour",
            spec,
            lambda: behaviour(model, reference, said=said()[0], reference_said=said()[1], progress=progress),
        ),
    }

    def scanned() -> Result:
        shared = shared_blocks(model, reference)
        below = shelf.part(
            "scan_below",
            {"reference": spec["reference"], "shared": shared, "words": settings.words, "seed": settings.seed},
            lambda: scan_below(reference, shared, words=settings.words, seed=settings.seed, progress=progress),
        )
        return triggers(
            model,
            reference,
            words=settings.words,
            growth=settings.growth,
            again=settings.again,
            finalists=settings.finalists,
            below=below,
            seed=settings.seed,
            progress=progress,
        )

    parts["triggers"] = shelf.part("triggers", spec, scanned)
    if lost_much(parts["behaviour"]):
        compared = parts["behaviour"]
        more = [row["candidate"] for row in parts["triggers"].payload["finalists"]]
        parts["elicitation"] = shelf.part(
            "elicitation",
            spec,
            lambda: elicitation(
                model,
                reference,
                compared=compared,
                effort=Effort() if settings.thorough else QUICK_EFFORT,
                extra=more,
                seed=settings.seed,
                progress=progress,
            ),
        )
    return parts


def lost_much(compared: Result) -> bool:
    """Whether some topic of facts fell by as much as would be flagged, in free answers or among the answers of the
    topic, so that an elicitation is worth its time."""
    return any(share_missing(row) >= FLOORS["sandbagging"] for row in compared.payload["topics"])


def null_effects(parts: Mapping[str, Mapping[str, Result]]) -> dict[str, dict[str, float]]:
    """The `effects` of each clean fine-tune from the parts of its audit, by name."""
    return {name: effects(one) for name, one in parts.items()}


def clean_parts(
    names: Sequence[str],
    load: Callable[[str], Model],
    reference: Model,
    *,
    settings: Settings,
    shelf: Shelf,
    stage: Stage,
) -> tuple[dict[str, dict[str, Result]], list[str], float | None]:
    """The audits of clean fine-tunes by name, the names of those that were taken from the record, and by how much the
    record differs from what is found here (None where it was not used).

    The first, which is the negative control, is audited here in any case. If what is recorded of it differs by no more
    than `AGREES` in any effect, the record is good for the others; if not, all are audited here.
    """
    found: dict[str, dict[str, Result]] = {}
    used: list[str] = []
    apart: float | None = None
    for name in names:
        model = load(name)
        told = recorded(model, reference, settings, shelf)
        if name != names[0] and told is not None and apart is not None and apart <= AGREES:
            found[name] = told
            used.append(name)
            continue
        found[name] = audit(model, reference, settings=settings, shelf=shelf, progress=stage(f"clean {name}"))
        if name == names[0] and told is not None:
            there, here = effects(told), effects(found[name])
            apart = max(abs(there[kind] - here[kind]) for kind in here)
    return found, used, apart if used else None
