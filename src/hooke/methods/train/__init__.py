"""`train`: dictionaries of a model's activations, every layer and setting from one pass over the text.

asked.py   what is trained: kinds by name, the places of their blocks
report.py  how the dictionaries did
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from hooke.arguments import verb
from hooke.dictionaries.checkpoint import NAME as CHECKPOINT
from hooke.dictionaries.feed import Feed, divided, shard_tokens
from hooke.dictionaries.fit import Fit, finish, start
from hooke.dictionaries.folder import save_dictionary
from hooke.dictionaries.kinds import Kind, When
from hooke.dictionaries.processes import joined, spread_over
from hooke.dictionaries.training import LOG, Watch, train_fits
from hooke.errors import HookeError
from hooke.harvest import Plan, Stored, open_store, plan
from hooke.methods.kept import Kept, Work, agreed, kept
from hooke.methods.progress import Clock, Progress
from hooke.methods.train.asked import CROSS, Setting, rough_of, settings
from hooke.methods.train.report import Made, report
from hooke.model import Model
from hooke.model.belongs import belongs_to
from hooke.model.budget import budget
from hooke.model.hooks import check_site
from hooke.results import Result
from hooke.sites import Site

WORK = Work("training", "is training in", "training.json", CHECKPOINT, (LOG,))
FEATURES = 16  # times the width of the stream
TOKENS = 1_000_000  # of the text, if nobody says how many
STEPS = 400  # that a batch is chosen for
LONG = 20_000  # steps for which kinds have their learning rates
LARGEST = 13.0  # times these rates, on short trainings


@verb
def train(
    model: Model,
    kind: str,
    *,
    out: str | Path,
    site: Sequence[str] = (),
    layers: str | None = None,
    text: Sequence[str] | None = None,
    tokens: int | None = None,
    activations: str | Path | None = None,
    features: int | None = None,
    gate: str | None = None,
    k: Sequence[int] = (),
    penalty: Sequence[float] = (),
    against: Model | None = None,
    apart: float | None = None,
    batch: int | None = None,
    epochs: int = 1,
    context: int | None = None,
    lr: float | None = None,
    precision: str = "auto",
    patience: int = 0,
    checkpoint_seconds: float = 120.0,
    seed: int = 0,
    spread: str = "data",
    watch: Watch | None = None,
    progress: Progress | None = None,
) -> Result:
    """Train sparse dictionaries on what a model computes over a text, and keep them in a folder.

    kind: relu, gated, topk, batchtopk, jumprelu, jumprelu-tanh, matryoshka or record (autoencoders), transcoder,
    skip-transcoder (an MLP's input to its output), clt (to the outputs of all later MLPs), or crosscoder (the same
    sites of two models, `against` the other, with features of both; apart: which share of them each has to itself).
    gate: of the last four, how features fire: one of the first six; topk if None, of a crosscoder batchtopk. site: of
    autoencoders and crosscoders: sites, or points with `layers`; resid_post if empty. layers: "10", "10-12", "0,5,9-11"
    or "all".
    text: sources (`hooke.data.texts`), "docs" is what is installed (also if None), "self" what the model says.
    tokens: of the text, a million if None; a twentieth is held out. epochs: how often they come. context: tokens that
    the model reads at once, 256 or what it can if None. activations: a folder or address of a harvest
    (`hooke.harvest.store`) to read instead, which has its text, tokens and context already.
    features: of each block; None is 16 times the width of the stream. k, penalty: several make several dictionaries
    from the same pass. batch: tokens of a step; None is some 400 steps' worth, 64 to 4,096. lr: None is the kind's own,
    larger where steps are fewer than 20,000, as 1/√steps. precision: in which features are compared with each other:
    auto, float32 or bfloat16; their values and all gradients are in float32.
    patience: stop if what is held out is not explained better for so many of twenty looks; 0 never stops.
    checkpoint_seconds: between two checkpoints. out: the folder. The same call on one that was stopped goes on, to the
    same weights as if it had never stopped; on a finished one it returns what is there.
    spread: over the processes that torchrun started: their "data" is divided, the "dictionary", or both, as "2x4". It
    may be another when a training goes on; the weights are then the same within rounding.
    watch: called with every step's numbers. progress: with a stage and how much of it is done; by the first process.

    Returns a `Result` of kind "training". Raises HookeError for what cannot be, does not fit in memory, a folder of
    another training, and a loss that is not finite.
    """
    asked = settings(model, kind, site, layers, gate, k, penalty, apart or 0.0)
    _check_models(model, kind, against, apart, activations, _sites(asked))
    n_features = FEATURES * model.parts.d_model if features is None else features
    stored = None if activations is None else _stored(model, activations, asked, text, tokens, context)
    text, tokens, context = _text(model, stored, text, tokens, context)
    batch = _batch(tokens * epochs) if batch is None else batch
    _check_sizes(n_features, batch, epochs, checkpoint_seconds, asked)
    arguments: dict[str, Any] = {
        "kind": kind, "site": list(site), "layers": layers, "text": text, "tokens": tokens,
        "features": n_features, "gate": gate, "k": list(k), "penalty": list(penalty), "batch": batch,
        "epochs": epochs, "context": context, "lr": lr, "precision": precision, "patience": patience, "seed": seed,
        "activations": None if stored is None else stored.hash, "apart": apart,
        "against": None if against is None else belongs_to(against),
    }  # fmt: skip
    with _begun(model, Path(out), arguments, spread) as folder:
        clock = Clock(progress if folder.spread.leads else None)
        if (done := folder.result()) is not None:
            return done
        return _trained((model, against), stored, asked, arguments, folder, clock, checkpoint_seconds, watch)


def _trained(
    models: tuple[Model, Model | None],
    stored: Stored | None,
    asked: Sequence[Setting],
    arguments: dict[str, Any],
    folder: Kept,
    clock: Clock,
    checkpoint_seconds: float,
    watch: Watch | None,
) -> Result:
    """Train what was asked for in its folder, from where it stands, and say how it did."""
    (model, against), spread = models, folder.spread
    with clock("text") as tick:
        planned = partial(_plan, model, asked, arguments, tick)
        wanted = folder.plan(planned if stored is None else lambda: stored.plan)
    with clock("activations"):
        batch, epochs = arguments["batch"], arguments["epochs"]
        feed = Feed(model, *divided(wanted), _sites(asked), batch, epochs, spread, stored, against)
        _check_tokens(feed)
        rough = folder.rough(rough_of(arguments["precision"], model.device))
        fits = _started(model, asked, feed, arguments["features"], arguments["lr"], arguments["seed"], rough)
    with clock("training") as tick:
        facts = train_fits(
            fits, feed, folder.path, checkpoint_seconds=checkpoint_seconds, patience=arguments["patience"],
            watch=_watching(watch if spread.leads else None, tick),
        )  # fmt: skip
    with clock("report"):
        made = _made(asked, fits)

        def told() -> Result:
            _save(model, made, feed, folder.path, arguments)
            return folder.finish(report(model, against, arguments, asked, made, feed, facts, clock.done()))

        return agreed(spread.world, told)


def _text(
    model: Model, stored: Stored | None, text: Sequence[str] | None, tokens: int | None, context: int | None
) -> tuple[list[str], int, int]:
    """The sources, how many tokens of them, and how many are read at once: of the harvest, as asked, or by default."""
    if stored is not None:
        return list(stored.plan.texts["sources"]), stored.plan.n_tokens, stored.plan.context
    sources = ["docs"] if text is None else list(text)
    return sources, TOKENS if tokens is None else tokens, min(256, model.parts.context) if context is None else context


def _check_models(
    model: Model,
    kind: str,
    against: Model | None,
    apart: float | None,
    activations: str | Path | None,
    sites: Sequence[Site],
) -> None:
    """Raise HookeError unless two models are given where two are read, which take the same tokens."""
    if kind != CROSS:
        if against is not None or apart is not None:
            raise HookeError(f"a {kind} reads one model; only a crosscoder takes another, and features apart")
        return
    if against is None:
        raise HookeError("a crosscoder reads two models; name the other with --against")
    if activations is not None:
        raise HookeError("a crosscoder reads two models, and a harvest is of one; give a text")
    here, there = belongs_to(model), belongs_to(against)
    if here["tokenizer_sha256"] != there["tokenizer_sha256"]:
        raise HookeError(f"{model.name} and {against.name} have different tokenizers, so no token is read by both")
    if here == there:
        raise HookeError("both models are the same; give another with --against")
    for at in sites:
        check_site(against.parts, replace(at, other=False))


def _stored(
    model: Model,
    activations: str | Path,
    asked: Sequence[Setting],
    text: Sequence[str] | None,
    tokens: int | None,
    context: int | None,
) -> Stored:
    """The harvest to read. Raises HookeError if it is not finished, lacks a site, or is of another model, and for a
    text beside it."""
    if text is not None or tokens is not None or context is not None:
        raise HookeError("a harvest has its text, tokens and context already; give --activations without them")
    stored = open_store(activations, model=model)
    if stored.missing:
        raise HookeError(
            f"{stored.place} is not finished: {len(stored.missing)} of {len(stored.plan.shards)} shards are missing; "
            "run the same harvest again to go on"
        )
    absent = [site for site in _sites(asked) if site not in stored.sites]
    if absent:
        raise HookeError(
            f"{stored.place} holds no {', '.join(map(str, absent[:4]))}; it has {', '.join(map(str, stored.sites[:6]))}"
        )
    return stored


def _batch(tokens: int) -> int:
    """Tokens of a step, a power of two: few of them give more steps, which matter more where tokens are few."""
    return 2 ** min(12, max(6, round(math.log2(max(1.0, tokens / STEPS)))))


def _rate(kind: Kind, steps: int) -> float:
    """A kind's own learning rate is for long trainings; on a short one dictionaries learn more at a larger one."""
    return kind.lr * min(LARGEST, max(1.0, math.sqrt(LONG / max(1, steps))))


def _check_sizes(n_features: int, batch: int, epochs: int, seconds: float, asked: Sequence[Setting]) -> None:
    for value, what in ((n_features, "features"), (batch, "batch"), (epochs, "epochs")):
        if value < 1:
            raise HookeError(f"{what} must be at least 1, not {value}")
    if not seconds >= 0:
        raise HookeError(f"checkpoint_seconds must be at least 0, not {seconds}")
    for setting in asked:
        many = getattr(setting.kind, "k", 1)
        if many > n_features:
            raise HookeError(f"k is {many} and there are {n_features} features; ask for fewer of them to fire")


def _plan(model: Model, asked: Sequence[Setting], arguments: Mapping[str, Any], tick: Any) -> Plan:
    return plan(
        model,
        arguments["text"],
        n_tokens=arguments["tokens"],
        context=arguments["context"],
        shard_tokens=shard_tokens(model, _sites(asked)),
        seed=arguments["seed"],
        progress=tick,
    )


def _sites(asked: Sequence[Setting]) -> tuple[Site, ...]:
    places = [place for setting in asked for _, group in setting.groups for place in group]
    return tuple(sorted({site for place in places for site in (*place.reads, *place.writes)}))


def _check_tokens(feed: Feed) -> None:
    if feed.steps < 1:
        raise HookeError(
            f"{feed.rows * feed.epochs:,} tokens to train on are less than a batch of {feed.batch:,}; ask for more "
            "--tokens or a smaller --batch"
        )


def _started(
    model: Model,
    asked: Sequence[Setting],
    feed: Feed,
    n_features: int,
    lr: float | None,
    seed: int,
    rough: torch.dtype,
) -> list[Fit]:
    """A fit for each group of each setting, once it is clear that all fit in memory: weights, gradients, two moments,
    and what a step needs beside them."""
    groups = [(setting, group) for setting in asked for _, group in setting.groups]
    numbers, spread = 0, feed.spread
    for _, group in groups:
        for place in group:
            into, out = (sum(map(feed.width, some)) for some in (place.reads, place.writes))
            skip = out * feed.width(place.reads[0]) if place.skip else 0
            numbers += n_features * (into + out) // spread.dictionary.size + skip
    step = feed.batch * n_features // (spread.data.size * spread.dictionary.size)
    need, free = spread.beside * (16 * numbers + 12 * step), budget(model.device).free
    if need > free:
        raise HookeError(
            f"{len(groups)} dictionaries of {n_features:,} features take {need / 2**30:.1f} GB while they train and "
            f"{free / 2**30:.1f} GB are free; ask for fewer --layers, --features or settings"
        )
    first, when = feed.first(), When(0, feed.steps, feed.batch, spread)
    return [
        start(
            setting.kind,
            group,
            first,
            n_features=n_features,
            when=when,
            lr=_rate(setting.kind, feed.steps) if lr is None else lr,
            seed=seed + number,
            rough=rough,
        )
        for number, (setting, group) in enumerate(groups)
    ]


def _watching(watch: Watch | None, tick: Any) -> Watch:
    def see(line: dict[str, Any]) -> None:
        tick(line["step"] / line["steps"])
        if watch is not None:
            watch(line)

    return see


@contextlib.contextmanager
def _begun(model: Model, out: Path, arguments: Mapping[str, Any], spread: str) -> Iterator[Kept]:
    """The folder of a training, on all processes that train, with as many threads as it began with: sums over threads
    differ in the last bit with their number."""
    before = torch.get_num_threads()
    with joined() as world:
        over = spread_over(spread, world, model.device, batch=arguments["batch"], n_features=arguments["features"])
        with kept(out, WORK, arguments, belongs_to(model), over) as folder:
            torch.set_num_threads(folder.threads(max(1, before // over.beside)))
            try:
                yield folder
            finally:
                torch.set_num_threads(before)


def _made(asked: Sequence[Setting], fits: Sequence[Fit]) -> Made:
    """The blocks of every group of every setting."""
    left = iter(fits)
    return [(setting, setting.name or ".", name, finish(next(left))) for setting in asked for name, _ in setting.groups]


def _save(model: Model, made: Made, feed: Feed, path: Path, arguments: Mapping[str, Any]) -> None:
    """Each setting as one dictionary of all its blocks."""
    for folder, some in groupby(made, key=lambda entry: entry[1]):
        own = list(some)
        save_dictionary(
            [block for *_, blocks in own for block in blocks],
            path / folder,
            belongs_to=belongs_to(model),
            against=arguments["against"],
            made={"arguments": dict(arguments), "gate": own[0][0].kind.name, "text": feed.plan.texts},
        )
