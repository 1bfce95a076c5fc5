"""`harvest`: what a model computes over a text, kept in a folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from hooke.arguments import verb
from hooke.errors import HookeError
from hooke.harvest import Plan, estimate, open_store, plan, store
from hooke.harvest.stored import DTYPES
from hooke.methods.progress import Clock, Progress
from hooke.model import Model
from hooke.model.belongs import belongs_to
from hooke.results import Claim, Result

SHARD = 2**17  # tokens


@verb
def harvest(
    model: Model,
    *,
    out: str | Path,
    site: Sequence[str],
    text: Sequence[str] = ("docs",),
    tokens: int = 1_000_000,
    context: int | None = None,
    keep: str = "float32",
    shard: int = SHARD,
    engine: Literal["local", "ray"] = "local",
    workers: int | None = None,
    seed: int = 0,
    say: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> Result:
    """Run a model over a text in one pass and keep what is at sites, for `train`, probes, or tools of one's own.

    out: a folder, or an address that fsspec knows (s3://…). The same call on one that was stopped goes on. site: where
    to read. text: sources (`hooke.data.texts`). tokens: how many to keep. context: tokens that the model reads at
    once, 256 or what it can if None.
    keep: the type of the numbers. shard: tokens of a file. engine: "ray" gives files to the workers of a Ray cluster.
    say: called with what it will take, in words, before it begins. progress: with a stage and how much of it is done.

    Returns a `Result` of kind "harvest". Raises HookeError for what cannot be read, does not fit on the disk, or a
    folder of another harvest.
    """
    clock, context = Clock(progress), min(256, model.parts.context) if context is None else context
    if keep not in DTYPES:
        raise HookeError(f"activations are kept as {', '.join(DTYPES)}, not {keep}")
    with clock("text") as tick:
        wanted = plan(model, text, n_tokens=tokens, context=context, shard_tokens=shard, seed=seed, progress=tick)
    with clock("activations") as tick:
        before = set(_there(out, model))
        if say is not None and not before:
            say(_expected(model, wanted, site, keep, out))
        found = store(model, wanted, site, out, dtype=DTYPES[keep], progress=tick, engine=engine, workers=workers)
    rows = [found.rows[number] for number in sorted(found.rows)]
    total, size = sum(row["n_rows"] for row in rows), sum(row["bytes"] for row in rows)
    sites = [
        {
            "site": entry["site"],
            "width": len(entry["sum"]),
            "mean_norm": sum(row["sites"][i]["mean_norm"] * row["n_rows"] for row in rows) / total,
        }
        for i, entry in enumerate(rows[0]["sites"])
    ]
    names = ", ".join(entry["site"] for entry in sites)
    sentence = f"{total:,} tokens at {names} in {len(rows)} file{'s' * (len(rows) != 1)}, {size / 2**20:,.0f} MB"
    return Result.make(
        "harvest",
        arguments={
            "site": list(site), "text": list(text), "tokens": tokens, "context": context, "keep": keep, "shard": shard,
            "engine": engine, "seed": seed,
        },
        provenance=model.provenance(),
        seconds=clock.done(),
        claims=[Claim(text=sentence, evidence=["#sites"])],
        payload={
            "belongs_to": belongs_to(model),
            "text": wanted.texts,
            "tokens": total,
            "shards": len(rows),
            "bytes": size,
            "dtype": keep,
            "sites": sites,
            "new": len(set(found.rows) - before),
            "hash": found.hash,
            "sentence": sentence + ".",
        },
    )  # fmt: skip


def _there(out: str | Path, model: Model) -> list[int]:
    """The files that are finished."""
    try:
        return list(open_store(out, model=model).rows)
    except HookeError:
        return []


def _expected(model: Model, wanted: Plan, site: Sequence[str], keep: str, out: str | Path) -> str:
    """What a harvest will take, in words, by the time of one batch."""
    found = estimate(model, wanted, site, out, dtype=DTYPES[keep])
    free = "" if found.free is None else f" of {found.free / 2**30:,.1f} GB that are free"
    return f"about {found.bytes / 2**20:,.0f} MB{free}, and {_time(found.seconds)}"


def _time(seconds: float) -> str:
    return f"{seconds:,.0f} seconds" if seconds < 120 else f"{seconds / 60:,.0f} minutes"
