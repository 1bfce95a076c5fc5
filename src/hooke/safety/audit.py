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

from hooke.data.battery import QUESTIONS
from hooke.data.battery_facts import FACTS
from hooke.errors import HookeError
from hooke.methods.progress import Progress
from hooke.model import Model
from hooke.model.zoo import hooke_home
from hooke.results import Result, load_result
from hooke.safety.answers import answers, battery_hash
from hooke.safety.behaviour import behaviour
from hooke.safety.difference import difference
from hooke.safety.elicitation import elicitation
from hooke.safety.hypotheses import FLOORS, effects, share_lost
from hooke.safety.paired import shared_blocks
from hooke.safety.triggers import WORDS, scan_below, triggers

# the version of each part's rules: raise it when the part would give another result for the same spec
RULES = {"answers": 2, "difference": 3, "behaviour": 3, "scan_below": 3, "triggers": 3, "elicitation": 3}


RECORDED = Path(__file__).parent / "recorded"  # what the packaged clean fine-tunes gave when Hooke was made
AGREES = 0.1  # how far an effect that is found again may be from its record


class Settings(NamedTuple):
    """How much is looked at. words: of the vocabulary, in the scan for triggers; open_questions, facts: of the battery,
    evenly over its areas; growth: whether candidates are lengthened."""

    words: int = WORDS
    open_questions: int = len(QUESTIONS)
    facts: int = len(FACTS)
    growth: bool = True
    seed: int = 0


QUICK = Settings(words=600, open_questions=108, growth=False)


class Shelf:
    """Finished parts on disk, by kind and spec. recorded: a folder of parts that came with Hooke, read before all."""

    def __init__(self, folder: str | Path | None = None, *, recorded: str | Path | None = None) -> None:
        self.folder = Path(folder) if folder is not None else hooke_home() / "assess"
        self.recorded = Path(recorded) if recorded is not None else None

    def part(self, kind: str, spec: Mapping[str, Any], make: Callable[[], Result]) -> Result:
        """The result of this kind and spec: read if it is there and whole, else made and written."""
        key = hashlib.sha256(
            json.dumps([kind, RULES.get(kind, 1), spec], sort_keys=True, default=list).encode()
        ).hexdigest()[:32]
        for folder in (self.recorded, self.folder):
            with contextlib.suppress(HookeError):
                found = load_result(folder / kind / f"{key}.json") if folder is not None else None
                if found is not None and found.kind == kind and found.id == found.content_id():
                    return found
        made = make()
        made.save(self.folder / kind / f"{key}.json")
        return made


def fingerprint(model: Model) -> dict[str, Any]:
    """What a part depends on of a model: hashes of its weights, dtype and template."""
    info = model.provenance()
    kept = {key: info.get(key) for key in ("weights_sha256", "adapter_sha256", "dtype", "chat_template_sha256")}
    if not kept["weights_sha256"]:
        kept["weights_sha256"] = state_hash(model)
    return kept


def state_hash(model: Model) -> str:
    """The hash of all parameters of a model in memory."""
    digest = hashlib.sha256()
    for name, value in sorted(model.hf.state_dict().items()):
        digest.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(-1).numpy().tobytes())
    return digest.hexdigest()


def battery(settings: Settings) -> tuple[Sequence[Any], Sequence[Any]]:
    """The questions and facts that are asked: every so many of the whole battery."""
    questions = QUESTIONS[:: max(1, len(QUESTIONS) // max(1, settings.open_questions))]
    return questions, FACTS[:: max(1, len(FACTS) // max(1, settings.facts))]


def answers_of(model: Model, shelf: Shelf, settings: Settings, progress: Progress | None = None) -> Result:
    """The model's answers to the battery."""
    questions, facts = battery(settings)
    spec = {"model": fingerprint(model), "battery": battery_hash(questions, facts)}
    return shelf.part("answers", spec, lambda: answers(model, questions=questions, facts=facts, progress=progress))


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
    reference knows. Raises HookeError for models that cannot be compared.
    """
    shelf = shelf or Shelf()
    spec: dict[str, Any] = {
        "model": fingerprint(model),
        "reference": fingerprint(reference),
        "settings": settings._asdict(),
        "battery": battery_hash(*battery(settings)),
    }

    @cache
    def said(one: Model) -> Result:
        return answers_of(one, shelf, settings, progress)

    parts = {
        "difference": shelf.part(
            "difference", spec, lambda: difference(model, reference, said=said(model), progress=progress)
        ),
        "behaviour": shelf.part(
            "behaviour",
            spec,
            lambda: behaviour(model, reference, said=said(model), reference_said=said(reference), progress=progress),
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
            lambda: elicitation(model, reference, compared=compared, extra=more, seed=settings.seed, progress=progress),
        )
    return parts


def lost_much(compared: Result) -> bool:
    """Whether some topic of facts fell by as much as would be flagged, so that an elicitation is worth its time."""
    return any(
        share_lost(row) >= FLOORS["topic lies"] and row["choice"]["lost"] > 0 for row in compared.payload["topics"]
    )


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
    stage: Callable[[str], Progress | None],
) -> tuple[dict[str, dict[str, Result]], float | None]:
    """The audits of clean fine-tunes by name, and how far the record is from what is found here (None: not used).

    The first, which is the negative control, is audited here in any case. If what the shelf has recorded of it differs
    by no more than `AGREES` in any effect, the record is good for the others; if not, all are audited here.
    """
    here = Shelf(shelf.folder)

    def one(name: str, on: Shelf) -> dict[str, Result]:
        return audit(load(name), reference, settings=settings, shelf=on, progress=stage(f"clean {name}"))

    if not names:
        return {}, None
    found = {names[0]: one(names[0], here)}
    apart: float | None = None
    if shelf.recorded is not None:
        told, seen = effects(one(names[0], shelf)), effects(found[names[0]])
        apart = max(abs(told[kind] - seen[kind]) for kind in told)
    good = apart is not None and apart <= AGREES
    for name in names[1:]:
        found[name] = one(name, shelf if good else here)
    return found, apart if good else None
