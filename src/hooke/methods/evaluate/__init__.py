"""`evaluate`: how good a dictionary is, beside what it has to beat.

asked           the blocks of a dictionary by what they write, and what is refused
texts           passages that nothing was trained on, in pieces
seen            values of a batch at sites, and sparse codes of them
standins        what is put in the place of a site: the dictionary and its controls, fitted to other text
reconstruction  L0, dead features, explained variance, cosine, length, bias
losses          loss and KL with a reconstruction put in, and the model with every MLP replaced
jacobian        derivatives through a reconstruction
letters         absorption of first letters
tasks           sparse probing
estimates       intervals; measures: what each metric is; report: what a result says
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hooke.arguments import verb
from hooke.data.labelled.rows import Dataset
from hooke.data.texts.sources import label_of
from hooke.dictionaries.coder import Coder
from hooke.errors import HookeError
from hooke.methods.evaluate.asked import Asked, asked
from hooke.methods.evaluate.jacobian import jacobians
from hooke.methods.evaluate.letters import absorption
from hooke.methods.evaluate.losses import losses, measured
from hooke.methods.evaluate.measures import Measured
from hooke.methods.evaluate.reconstruction import reconstruction
from hooke.methods.evaluate.report import claims_of, metrics_of, sentence_of
from hooke.methods.evaluate.standins import ABOUT, Fitted, check_controls, fitted
from hooke.methods.evaluate.tasks import check_tasks, probing
from hooke.methods.evaluate.texts import Pieces, Texts, texts
from hooke.methods.progress import Clock, Progress
from hooke.model import Model
from hooke.results import Result

MEASURES = ("reconstruction", "losses", "replacement", "jacobian", "absorption", "probing")
DERIVED, SHORT = 384, 32  # tokens that derivatives are taken of, in pieces of so many


@verb
def evaluate(
    model: Model,
    dictionary: str | Path | Sequence[Coder],
    *,
    text: Sequence[str] = ("docs",),
    tokens: int = 16_384,
    patched: int | None = None,
    context: int = 128,
    layers: str | None = None,
    measures: Sequence[str] = (),
    tasks: Sequence[str] = (),
    controls: Sequence[str] = (),
    transfer: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> Result:
    """Measure a dictionary on text that it was not trained on, beside controls that are fitted to other text.

    dictionary: a folder (`hooke train` makes one; other tools' are read too), or blocks of one dictionary.
    text: sources (`hooke.data.texts`); the passages that training took are left out. tokens: to measure on; half as
    many more, at most 8,192, are fitted to. patched: how many of them the model is run on with reconstructions put in;
    a sixth if None. context: tokens that it reads at once. layers: "10", "10-12" or "all", of what is written.
    measures: some of reconstruction, losses, replacement, jacobian, absorption and probing; all if empty. tasks:
    packaged data sets for probing; twelve if empty. controls: some of random_decoder, untrained, neurons, pca, linear,
    mean and zero; all if empty. transfer: allow a dictionary of another model, which is recorded. seed: of the order of
    texts, of random rows and of resamples. progress: with a stage and how much of it is done.

    The first token of each piece (with special tokens: these) keeps its true value and counts nowhere.

    Returns a `Result` of kind "evaluation" (docs/evaluate.md); payload.metrics[name]: value, interval, controls, and
    `blocks`, the same for each site that is written. Raises HookeError for what is no dictionary, is of another model
    or no basis, for a site that nothing can be put in at, and for too little text.
    """
    wanted, names = _measures(measures), check_controls(controls)
    if patched is not None and not 0 < patched <= tokens:
        raise HookeError(f"patched is {patched:,}; it is a part of the {tokens:,} tokens")
    clock = Clock(progress)
    what = asked(model, dictionary, layers, transfer)
    data = check_tasks(tasks, seed) if "probing" in wanted else []
    with clock("text") as tick:
        found = texts(model, text, what.made, tokens=tokens, context=context, seed=seed, tick=tick)
    with clock("controls") as tick:
        fits = fitted(model, what.targets, found.fit, names, seed=seed, tick=tick)
    few = found.test.first(tokens // 6 if patched is None else patched)
    run = _Run(model, what, fits, found.test, few, wanted, data, seed)
    _measure(run, clock)
    with clock("report"):
        metrics = metrics_of(run.found)
        sentence = sentence_of(what, metrics, found.test.n_tokens)
        payload = _payload(run, found, metrics, sentence)
    return Result.make(
        "evaluation",
        arguments={
            "dictionary": [block.hash for block in what.blocks], "text": [label_of(name) for name in text],
            "tokens": tokens, "patched": patched, "context": context, "layers": layers, "measures": wanted,
            "tasks": [task.name for task in data], "controls": names, "transfer": transfer, "seed": seed,
        },
        provenance=model.provenance() | {"dictionaries": [block.hash for block in what.blocks]},
        seconds=clock.done(),
        claims=claims_of(metrics, sentence),
        payload=payload,
    )  # fmt: skip


@dataclass(eq=False)
class _Run:
    """What is measured on what, and what was found. few: the pieces that reconstructions are put in on. told: of each
    task. left_out: why something was not measured."""

    model: Model
    asked: Asked
    fits: list[Fitted]
    test: Pieces
    few: Pieces
    wanted: list[str]
    data: list[Dataset]
    seed: int
    found: list[Measured] = field(default_factory=list)
    told: list[dict[str, Any]] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def _measures(names: Sequence[str]) -> list[str]:
    for name in names:
        if name not in MEASURES:
            raise HookeError(f"no measure called {name!r}; there are {', '.join(MEASURES)}")
    return [name for name in MEASURES if not names or name in names]


def _measure(run: _Run, clock: Clock) -> None:
    """Everything that is wanted, one after another."""
    model, fits, seed, wanted = run.model, run.fits, run.seed, run.wanted
    if "reconstruction" in wanted:
        with clock("reconstruction") as tick:
            run.found += reconstruction(model, fits, run.test, seed=seed, tick=tick)
    replace = "replacement" in wanted and run.asked.replaces_mlps
    if "replacement" in wanted and not replace:
        run.left_out["replacement"] = "it does not write what MLPs write, or reads that itself, and so replaces none"
    if "losses" in wanted or replace:
        with clock("losses") as tick:
            of_runs = losses(model, fits, run.few, patch="losses" in wanted, replace=replace, tick=tick)
            run.found += measured(of_runs, seed=seed)
    if "jacobian" in wanted:
        with clock("derivatives") as tick:
            short = run.few.first(DERIVED, longest=SHORT)
            run.found += jacobians(model, fits, short, seed=seed, tick=tick)
    if "absorption" in wanted:
        with clock("letters") as tick:
            try:
                run.found += absorption(model, fits, seed=seed, tick=tick)
            except HookeError as error:
                run.left_out["absorption"] = str(error)
    if "probing" in wanted:
        with clock("tasks") as tick:
            found, run.told = probing(model, fits, run.data, seed=seed, tick=tick)
            run.found += found


def _payload(run: _Run, found: Texts, metrics: dict[str, dict[str, Any]], sentence: str) -> dict[str, Any]:
    what, used = run.asked, {name for metric in metrics.values() for name in metric["controls"]}
    notes = list(found.notes)
    if what.differs:
        notes.append(f"It belongs to another model, which was allowed: it differs in {', '.join(what.differs)}.")
    if what.belongs is None:
        notes.append("Nobody says which model this dictionary was made from.")
    if found.test.n_documents < 20:
        notes.append(f"{found.test.n_documents} passages are few: the intervals are rough.")
    return {
        "dictionary": what.name,
        "dictionaries": [
            {
                "reads": [str(site) for site in block.reads],
                "writes": [str(site) for site in block.writes],
                "features": block.n_features,
                "gate": block.gate,
                "hash": block.hash,
            }
            for block in what.blocks
        ],
        "differs": what.differs,
        "text": found.about,
        "tokens": found.test.n_tokens,
        "passages": found.test.n_documents,
        "fitted_to": found.fit.n_tokens,
        "patched": run.few.n_tokens,
        "kept": found.test.skip,
        "metrics": metrics,
        "controls": {name: words for name, words in ABOUT.items() if name in used},
        "tasks": run.told,
        "left_out": run.left_out,
        "notes": notes,
        "sentence": sentence + ".",
    }
