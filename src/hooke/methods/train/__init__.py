"""`train`: dictionaries of a model's activations, every layer and setting from one pass over the text.

asked.py   what is trained: kinds by name, the places of their blocks
kept.py    what a folder of a training holds, and when it may go on
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from hooke.arguments import verb
from hooke.dictionaries.coder import Coder
from hooke.dictionaries.feed import Feed, divided, shard_tokens
from hooke.dictionaries.fit import Fit, finish, start
from hooke.dictionaries.folder import save_dictionary
from hooke.dictionaries.kinds import When
from hooke.dictionaries.training import Watch, ends, measured, train_fits
from hooke.errors import HookeError
from hooke.harvest import Plan, plan
from hooke.methods.progress import Clock, Progress
from hooke.methods.train.asked import Setting, rough_of, settings
from hooke.methods.train.kept import Kept, kept
from hooke.model import Model
from hooke.model.belongs import belongs_to
from hooke.model.budget import budget
from hooke.results import Claim, Result

FEATURES = 16  # times the width of the stream


@verb
def train(
    model: Model,
    kind: str,
    *,
    out: str | Path,
    site: Sequence[str] = (),
    layers: str | None = None,
    text: Sequence[str] = ("docs",),
    tokens: int = 1_000_000,
    features: int | None = None,
    gate: str | None = None,
    k: Sequence[int] = (),
    penalty: Sequence[float] = (),
    batch: int = 1024,
    epochs: int = 1,
    context: int = 256,
    lr: float | None = None,
    precision: str = "auto",
    patience: int = 0,
    checkpoint_seconds: float = 120.0,
    seed: int = 0,
    watch: Watch | None = None,
    progress: Progress | None = None,
) -> Result:
    """Train sparse dictionaries on what a model computes over a text, and keep them in a folder.

    kind: relu, gated, topk, batchtopk, jumprelu, jumprelu-tanh, matryoshka or record (autoencoders), transcoder,
    skip-transcoder (an MLP's input to its output) or clt (to the outputs of all later MLPs). gate: of a transcoder or
    clt, how its features fire: one of the first eight; topk if None. site: of autoencoders: sites, or points with
    `layers`; resid_post if empty. layers: "10", "10-12", "0,5,9-11" or "all".
    text: sources (`hooke.data.texts`), "docs" is what is installed, "self" what the model says. tokens: of the text, a
    twentieth of which is held out. epochs: how often they come. context: tokens that the model reads at once.
    features: of each block; None is 16 times the width of the stream. k, penalty: several make several dictionaries
    from the same pass. batch: tokens of a step. lr: None is the kind's own. precision: in which features are compared
    with each other: auto, float32 or bfloat16; their values and all gradients are in float32.
    patience: stop if what is held out is not explained better for so many of twenty looks; 0 never stops.
    checkpoint_seconds: between two checkpoints. out: the folder. The same call on one that was stopped goes on, to the
    same weights as if it had never stopped; on a finished one it returns what is there.
    watch: called with every step's numbers. progress: with a stage and how much of it is done.

    Returns a `Result` of kind "training". Raises HookeError for what cannot be, does not fit in memory, a folder of
    another training, and a loss that is not finite.
    """
    asked = settings(model, kind, site, layers, gate, k, penalty)
    n_features = FEATURES * model.parts.d_model if features is None else features
    _check_sizes(n_features, batch, epochs, checkpoint_seconds, asked)
    arguments: dict[str, Any] = {
        "kind": kind, "site": list(site), "layers": layers, "text": list(text), "tokens": tokens,
        "features": n_features, "gate": gate, "k": list(k), "penalty": list(penalty), "batch": batch,
        "epochs": epochs, "context": context, "lr": lr, "precision": precision, "patience": patience, "seed": seed,
    }  # fmt: skip
    clock = Clock(progress)
    with kept(Path(out), arguments, belongs_to(model)) as folder, threads(folder):
        if (done := folder.result()) is not None:
            return done
        with clock("text") as tick:
            wanted = folder.plan(lambda: _plan(model, asked, text, tokens, context, seed, tick))
        with clock("activations"):
            feed = _feed(model, asked, wanted, batch, epochs)
            fits = _started(model, asked, feed, n_features, lr, seed, folder.rough(rough_of(precision, model.device)))
        with clock("training") as tick:
            facts = train_fits(
                fits, feed, folder.path, checkpoint_seconds=checkpoint_seconds, patience=patience,
                watch=_watching(watch, tick),
            )  # fmt: skip
        with clock("report"):
            made = _save(model, asked, fits, feed, folder.path, arguments)
            result = _result(model, arguments, asked, made, feed, facts, clock.done())
        folder.finish(result)
        return result


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


def _plan(
    model: Model, asked: Sequence[Setting], text: Sequence[str], tokens: int, context: int, seed: int, tick: Any
) -> Plan:
    sites = _sites(asked)
    return plan(
        model, text, n_tokens=tokens, context=context, shard_tokens=shard_tokens(model, sites), seed=seed, progress=tick
    )


def _sites(asked: Sequence[Setting]) -> tuple[Any, ...]:
    places = [place for setting in asked for _, group in setting.groups for place in group]
    return tuple(sorted({site for place in places for site in (*place.reads, *place.writes)}))


def _feed(model: Model, asked: Sequence[Setting], wanted: Plan, batch: int, epochs: int) -> Feed:
    own, held = divided(wanted)
    feed = Feed(model, own, held, _sites(asked), batch, epochs)
    if feed.steps < 1:
        raise HookeError(
            f"{feed.rows * epochs:,} tokens to train on are less than a batch of {batch:,}; ask for more --tokens or a "
            "smaller --batch"
        )
    return feed


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
    numbers = 0
    for _, group in groups:
        for place in group:
            into, out = (sum(model.parts.width(site) for site in some) for some in (place.reads, place.writes))
            numbers += n_features * (into + out) + (out * model.parts.width(place.reads[0]) if place.skip else 0)
    need, free = 16 * numbers + 12 * feed.batch * n_features, budget(model.device).free
    if need > free:
        raise HookeError(
            f"{len(groups)} dictionaries of {n_features:,} features take {need / 2**30:.1f} GB while they train and "
            f"{free / 2**30:.1f} GB are free; ask for fewer --layers, --features or settings"
        )
    first, when = feed.first(), When(0, feed.steps, feed.batch)
    return [
        start(setting.kind, group, first, n_features=n_features, when=when, lr=lr, seed=seed + number, rough=rough)
        for number, (setting, group) in enumerate(groups)
    ]


def _watching(watch: Watch | None, tick: Any) -> Watch:
    def see(line: dict[str, Any]) -> None:
        tick(line["step"] / line["steps"])
        if watch is not None:
            watch(line)

    return see


@contextlib.contextmanager
def threads(folder: Kept) -> Iterator[None]:
    """As many threads as the training began with: sums over threads differ in the last bit with their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(folder.threads(before))
    try:
        yield
    finally:
        torch.set_num_threads(before)


Made = list[tuple[Setting, str, str, list[Coder]]]  # a setting, its folder, the name of a group, its blocks


def _save(
    model: Model, asked: Sequence[Setting], fits: Sequence[Fit], feed: Feed, path: Path, arguments: Mapping[str, Any]
) -> Made:
    """Each setting as one dictionary of all its blocks."""
    made, left = [], iter(fits)
    for setting in asked:
        own = [(setting, setting.name or ".", name, finish(next(left))) for name, _ in setting.groups]
        made += own
        save_dictionary(
            [block for *_, blocks in own for block in blocks],
            path / setting.name,
            belongs_to=belongs_to(model),
            made={"arguments": dict(arguments), "gate": setting.kind.name, "text": feed.plan.texts},
        )
    return made


def _result(
    model: Model,
    arguments: dict[str, Any],
    asked: Sequence[Setting],
    made: Made,
    feed: Feed,
    facts: Mapping[str, Any],
    seconds: dict[str, float],
) -> Result:
    held = feed.unseen()
    rows: list[dict[str, Any]] = []
    for number, (setting, folder, name, blocks) in enumerate(made):
        found = measured(blocks, held)
        curve = {
            key: [line["fits"][number][key] for line in facts["lines"]] for key in ("loss", "explained", "l0", "dead")
        }
        rows.append(
            {
                "name": f"{name}, {setting.name}" if setting.name else name,
                "folder": folder,
                "reads": sorted({str(site) for block in blocks for site in block.reads}),
                "writes": sorted({str(site) for block in blocks for site in block.writes}),
                "features": sum(block.n_features for block in blocks),
                "hash": ends({"": blocks}),
                "curve": curve,
                **{key: found[key] for key in ("explained_variance", "l0", "dead")},
            }
        )
    steps = int(facts["stopped_at"])
    best = [row["explained_variance"] for row in rows]
    sentence = (
        f"{len(rows)} {'dictionary' if len(rows) == 1 else 'dictionaries'} trained on {steps * feed.batch:,} tokens "
        f"explain {min(best):.1%}" + (f" to {max(best):.1%}" if len(rows) > 1 else "") + " of the variance of "
        f"{len(held):,} tokens that nothing was trained on"
    )
    notes = [] if feed.epochs == 1 else [f"Every token came {feed.epochs} times."]
    if steps < 1000:
        notes.append(f"{steps} steps are few: dictionaries of this size are usually trained for tens of thousands.")
    return Result.make(
        "training",
        arguments=arguments,
        provenance=model.provenance() | {"dictionaries": [block.hash for *_, blocks in made for block in blocks]},
        seconds=seconds,
        claims=[Claim(text=sentence, evidence=["#dictionaries"])],
        payload={
            "kind": arguments["kind"],
            "gate": asked[0].kind.name,
            "belongs_to": belongs_to(model),
            "sources": sorted(feed.plan.texts.get("sources", arguments["text"])),
            "text": feed.plan.texts,
            "tokens": steps * feed.batch,
            "held_out": len(held),
            "steps": steps,
            "batch": feed.batch,
            "looks": [line["tokens"] for line in facts["lines"]],
            "stopped": facts["why"],
            "dictionaries": rows,
            "hash": ends({str(number): blocks for number, (*_, blocks) in enumerate(made)}),
            "notes": notes,
            "sentence": sentence + ".",
        },
    )
