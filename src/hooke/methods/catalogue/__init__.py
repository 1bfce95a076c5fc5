"""`catalogue`: what every feature of a basis fires on and does, from one pass over text, with a score on every label.

windows      which tokens may be examples, of which kind of text, what is held out
tally        what a pass keeps of every feature; sweep: the pass itself; standing: where it stands, in a file
weights      tokens that the weights alone say a feature makes likelier, or fires on
outputs      what setting every feature does
atoms        what can be said of one token; rules: descriptions put together of that
score        how well a rule says where a feature fires; describe: the labels of a block, beside their controls
words        descriptions in words
neighbours   which features fire together
rows         the rows of the tables; indexed: what a search looks up; report: what a result says
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from hooke.arguments import verb
from hooke.data.texts.sources import label_of
from hooke.dictionaries import Dictionary, neurons
from hooke.dictionaries.coder import Coder
from hooke.errors import HookeError
from hooke.features.catalogue import VERSION
from hooke.harvest import Plan, plan
from hooke.methods.catalogue.blocks import Ready, finished, made
from hooke.methods.catalogue.indexed import index
from hooke.methods.catalogue.report import report
from hooke.methods.catalogue.standing import NAME, load, save
from hooke.methods.catalogue.sweep import Swept, begun, next_shard, sides
from hooke.methods.catalogue.windows import Windows, windows_of
from hooke.methods.kept import Kept, Work, kept
from hooke.methods.progress import Clock, Progress, stretch
from hooke.methods.train.asked import layers_in
from hooke.model import Model
from hooke.model.belongs import belongs_to
from hooke.results import Result

WORK = Work("catalogue", "is making a catalogue in", "spec.json", NAME)
SHARD = 2**13  # tokens between two places to go on from
FEWEST = 500  # tokens that say anything


@verb
def catalogue(
    model: Model,
    *,
    out: str | Path,
    basis: str | Sequence[Dictionary] = "neurons",
    text: Sequence[str] = ("docs",),
    tokens: int = 200_000,
    context: int | None = None,
    layers: str | None = None,
    checkpoint_seconds: float = 120.0,
    seed: int = 0,
    say: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> Result:
    """Make a catalogue of features: what each fires on, what it makes likelier, how much it matters, and a label where
    one holds.

    out: a folder. The same call on one that was stopped goes on, and on a finished one returns what is there. basis:
    "neurons", or dictionaries, one block a layer. text: sources (`hooke.data.texts`); several kinds guard against what
    is so in one of them alone. tokens: of the text. context: tokens that the model reads at once, 256 or what it can if
    None. layers: "10", "0,5,9-11" or "all" of the basis. checkpoint_seconds: between two places to go on from. seed: of
    the order of the texts and of every sample. say: called with what it will take, in words. progress: with a stage and
    how much of it is done.

    Returns a `Result` of kind "catalogue" (docs/catalogue.md). Raises HookeError for what is no basis, too little text,
    and a folder of another catalogue.
    """
    blocks = _blocks(model, basis, layers)
    context = min(256, model.parts.context) if context is None else context
    if tokens < FEWEST:
        raise HookeError(f"a catalogue of {tokens:,} tokens would say nothing; ask for {FEWEST:,} at least")
    arguments = {
        "basis": basis if isinstance(basis, str) else [block.hash for block in blocks],
        "text": list(map(label_of, text)),
        "tokens": tokens, "context": context, "layers": layers, "seed": seed,
    }  # fmt: skip
    clock, before = Clock(progress), torch.get_num_threads()
    with kept(Path(out), WORK, arguments, belongs_to(model)) as folder:
        if (done := folder.result()) is not None:
            return done
        torch.set_num_threads(folder.threads(before))
        try:
            return _built(model, blocks, list(text), arguments, folder, clock, checkpoint_seconds, say)
        finally:
            torch.set_num_threads(before)


def _blocks(model: Model, basis: str | Sequence[Dictionary], layers: str | None) -> list[Dictionary]:
    """The blocks, one a layer. Raises HookeError for what cannot be catalogued."""
    if isinstance(basis, str) and basis != "neurons":
        raise HookeError(f"no basis called {basis[:40]!r}; use 'neurons', or give dictionaries")
    found: list[Dictionary] = list(neurons(model)) if isinstance(basis, str) else list(basis)
    if not found:
        raise HookeError("no dictionary is given; give 'neurons' or the blocks of one")
    for block in found:
        if isinstance(basis, str):
            continue
        if not isinstance(block, Coder):
            raise HookeError(f"a catalogue is of neurons or of trained dictionaries, not of {type(block).__name__}")
        if any(site.other for site in (*block.reads, *block.writes)):
            raise HookeError("a crosscoder is of two models, and a catalogue of one")
    where = [layer_of(block) for block in found]
    twice = next((layer for layer in where if where.count(layer) > 1), None)
    if twice is not None:
        raise HookeError(f"two dictionaries read last in layer {twice}, and features are named by layer; give one")
    if layers is not None:
        wanted = layers_in(layers, model.parts.n_layers)
        found = [block for block in found if layer_of(block) in wanted]
        if not found:
            raise HookeError(f"the basis has nothing in layers {layers}; it has layers {', '.join(map(str, where))}")
    if len({sides(block) for block in found}) > 1:
        raise HookeError("some of these features can be negative and some cannot; make a catalogue of each kind")
    return sorted(found, key=layer_of)


def layer_of(block: Dictionary) -> int:
    """The layer that a block's features are named by: where it reads last."""
    return max(block.reads).layer or 0


def _built(
    model: Model, blocks: list[Dictionary], text: list[str], arguments: dict[str, Any], folder: Kept, clock: Clock,
    checkpoint_seconds: float, say: Callable[[str], None] | None,
) -> Result:  # fmt: skip
    with clock("text") as tick:
        wanted = folder.plan(lambda: _plan(model, text, arguments, tick))
        wins = windows_of(wanted)
    with clock("activations") as tick:
        swept = _swept(model, blocks, wins, folder, checkpoint_seconds, say, tick)
    with clock("labels") as tick:
        ready = Ready(model, wins, swept, arguments["seed"])
        for number, block in enumerate(blocks):
            part = stretch(tick, number / len(blocks), (number + 1) / len(blocks))
            made(ready, block, number, layer_of(block), _first(blocks, number), folder.path, part)
    with clock("neighbours") as tick:
        tables = finished(folder.path, swept, len(blocks), tick)
    with clock("write") as tick:
        index(model, ready.atoms, wanted.ids, tables, folder.path, tick)
        about = {
            "version": VERSION,
            "belongs_to": belongs_to(model),
            "sides": sides(blocks[0]),
            "blocks": [{"layer": layer_of(b), "features": b.n_features, "hash": b.hash} for b in blocks],
            "skip": wanted.skip,
            "texts": wanted.texts,
            **arguments,
        }
        return folder.finish(report(model, about, wins, swept, tables, folder.path, clock.done()))


def _plan(model: Model, text: list[str], arguments: dict[str, Any], tick: Any) -> Plan:
    found = plan(
        model, text, n_tokens=arguments["tokens"], context=arguments["context"], shard_tokens=SHARD,
        seed=arguments["seed"], progress=tick,
    )  # fmt: skip
    return found


def _first(blocks: Sequence[Dictionary], number: int) -> int:
    """The id of the first row of a block."""
    return sum(sides(block) * block.n_features for block in blocks[:number])


def _swept(
    model: Model, blocks: list[Dictionary], wins: Windows, folder: Kept, checkpoint_seconds: float,
    say: Callable[[str], None] | None, tick: Any,
) -> Swept:  # fmt: skip
    swept = begun(blocks, len(wins.kinds))
    load(swept, folder.path)
    n, last = len(wins.plan.shards), time.monotonic()
    for number in range(swept.shard, n):
        began = time.monotonic()
        next_shard(model, blocks, wins, swept, stretch(tick, number / n, (number + 1) / n))
        if say is not None and number == 0:
            say(_expected(blocks, swept, (time.monotonic() - began) * n))
        if time.monotonic() - last >= checkpoint_seconds or number == n - 1:
            save(swept, folder.path)
            last = time.monotonic()
    return swept


def _expected(blocks: Sequence[Dictionary], swept: Swept, seconds: float) -> str:
    rows = sum(len(part.count) for part in swept.kept)
    size = sum(x.numel() * x.element_size() for part in swept.kept for x in vars(part).values())
    return (
        f"{sum(b.n_features for b in blocks):,} features, {rows:,} sides: about {seconds / 60:,.0f} minutes for the "
        f"pass, {size / 2**20:,.0f} MB while it is made"
    )
