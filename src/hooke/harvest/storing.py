"""Filling a folder with the shards of a plan: estimated first, gone on with after an interruption."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from hooke.errors import HookeError
from hooke.harvest.cluster import store_with_ray
from hooke.harvest.places import Place
from hooke.harvest.plans import Plan, Progress, save_plan
from hooke.harvest.stored import BESIDE, MANIFEST, PLAN, SPEC, Stored, open_store, spec_of, write_shard
from hooke.harvest.stream import timed, widths
from hooke.model import Model
from hooke.sites import Site

SPARE = 64 * 2**20  # bytes of disk that stay free


class Estimate(NamedTuple):
    """What a harvest will take: bytes in its folder, seconds, and the bytes that are free there (None: unknown)."""

    bytes: int
    seconds: float
    free: int | None


def estimate(
    model: Model,
    plan: Plan,
    sites: Sequence[Site | str],
    folder: str | Path | None = None,
    *,
    dtype: torch.dtype = torch.float32,
) -> Estimate:
    """What a harvest would take: its bytes, and seconds by the time of one batch, run now. No file is written."""
    size = sum(shard_bytes(model, plan, number, sites, dtype) for number in range(len(plan.shards)))
    size += plan.ids.nbytes + plan.offsets.nbytes + plan.document.nbytes + plan.start.nbytes
    return Estimate(size, timed(model, plan, sites), None if folder is None else Place.of(folder).free())


def shard_bytes(model: Model, plan: Plan, number: int, sites: Sequence[Site | str], dtype: torch.dtype) -> int:
    """About how many bytes a shard takes."""
    return plan.kept(number) * (dtype.itemsize * sum(widths(model, sites).values()) + 4 * len(BESIDE))


def store(
    model: Model,
    plan: Plan,
    sites: Sequence[Site | str],
    folder: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    progress: Progress | None = None,
    engine: Literal["local", "ray"] = "local",
    workers: int | None = None,
) -> Stored:
    """Write the shards of a plan that a folder lacks, one after another, and the table when all are there.

    folder: a path, or an address that fsspec knows (s3://…, memory://…). The same again goes on where it was
    interrupted, or finds that all is there: on a processor with as many threads as it began with. engine: "ray" gives
    the shards to `workers` of a Ray cluster, which reach the folder too and load the model by its name.
    Raises HookeError before anything is run for a folder that holds another harvest, saying what differs, and for a
    disk with less room than it takes.
    """
    if engine not in ("local", "ray"):
        raise HookeError(f"there is no engine {engine!r}; there are local and ray")
    place = Place.of(folder)
    spec = spec_of(model, plan, sites, dtype)
    found = _begun(place, plan, spec)
    need = sum(shard_bytes(model, plan, number, sites, dtype) for number in found.missing)
    free = place.free()
    if free is not None and found.missing and need + SPARE > free:
        raise HookeError(
            f"the harvest takes {need / 2**30:.2f} GB more and {place} has {free / 2**30:.2f} GB free; ask for fewer "
            "tokens or sites, for a smaller dtype, or choose another folder"
        )
    if engine == "ray" and found.missing:
        store_with_ray(model, found, workers, progress)
    else:
        for done, number in enumerate(found.missing):
            write_shard(model, plan, number, place, found.spec, _part(progress, done, len(found.missing)))
    return _finished(open_store(place)) if found.missing or MANIFEST not in place.sizes() else found


def _finished(found: Stored) -> Stored:
    """Write the table."""
    from pyarrow.parquet import write_table

    if found.missing:  # somebody has removed what was written
        raise HookeError(f"shard {found.missing[0]} of {found.place} is gone again; run the same harvest again")
    with found.place.writing(MANIFEST) as path:
        write_table(found.manifest, path)
    return found


def _begun(place: Place, plan: Plan, spec: dict[str, Any]) -> Stored:
    """The folder with plan and spec in it. Raises HookeError if it holds another harvest."""
    names = place.sizes()
    if SPEC in names:
        found = open_store(place)
        other = [key for key in spec if key != "threads" and found.spec.get(key) != spec[key]]
        if other:
            what = "; ".join(f"{key} {_shown(found.spec.get(key))} there, {_shown(spec[key])} here" for key in other)
            raise HookeError(f"{place} holds another harvest: {what}; choose another folder, or empty this one")
        return found
    foreign = sorted(name for name in names if not name.startswith(".") and name != PLAN)
    if foreign:
        raise HookeError(f"{place} holds {foreign[0]} and no harvest; choose a folder that is empty")
    with place.writing(PLAN) as path:
        save_plan(plan, path)
    with place.writing(SPEC) as path:
        path.write_text(json.dumps(spec, indent=1) + "\n", encoding="utf-8")
    return open_store(place)  # what somebody else may have begun a moment later


def _shown(value: Any) -> str:
    text = json.dumps(value) if not isinstance(value, str) else value
    return text if len(text) <= 60 else f"{text[:57]}…"


def _part(progress: Progress | None, done: int, of: int) -> Progress | None:
    if progress is None:
        return None
    return lambda share: progress((done + share) / of)
