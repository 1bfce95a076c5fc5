"""The shards of a harvest over the workers of a Ray cluster: each writes its own, and only their names come back."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import torch

from hooke.errors import HookeError
from hooke.harvest.places import Place
from hooke.harvest.plans import Progress, load_plan
from hooke.harvest.stored import PLAN, Stored, write_shard
from hooke.model import Model
from hooke.model.belongs import differences
from hooke.model.load import load


class Worker:
    """One model on one worker, which writes the shards that it is given."""

    def __init__(self, asked: dict[str, Any], place: Place, spec: dict[str, Any]) -> None:
        """asked: what `load` takes. Raises HookeError if that is not the model of the harvest here."""
        self.model = load(**asked)
        if others := differences(spec["model"], self.model):
            raise HookeError(f"a worker has another {asked['name']}: {'; '.join(others)}")
        with place.reading(PLAN) as path:
            self.plan = load_plan(path)
        self.place, self.spec = place, spec

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        numbers = [int(number) for number in batch["shard"]]
        rows = [write_shard(self.model, self.plan, number, self.place, self.spec) for number in numbers]
        return {"shard": numbers, "sha256": [row["sha256"] for row in rows]}


def store_with_ray(model: Model, begun: Stored, workers: int | None, progress: Progress | None = None) -> None:
    """Write the shards that a harvest lacks, as a Ray Data job: on the cluster that is named or running, or else on one
    on this machine for as long as it takes.

    workers: how many; None is as many as the cluster has room for.
    A shard whose worker dies is written by another; what was finished stays.
    Raises HookeError without Ray, for a folder that others cannot reach, and if a worker has another model.
    """
    if begun.place.fs is not None and "memory" in begun.place.fs.protocol:
        raise HookeError(f"{begun.place} lies in the memory of this process; give a folder that all workers reach")
    try:
        import ray
        from ray.data import ActorPoolStrategy, DataContext, from_items
    except ImportError:
        raise HookeError("the engine ray needs Ray; pip install 'hooke-microscope[ray]'") from None
    own = not ray.is_initialized()
    if own:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anybody
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
    context, log = DataContext.get_current(), logging.getLogger("ray.data")
    before = context.enable_progress_bars, log.level
    context.enable_progress_bars = False
    log.setLevel(logging.ERROR)
    try:
        most = len(begun.missing) if workers is None else min(workers, len(begun.missing))
        count, each = shares(ray.cluster_resources(), model.device, begun.spec["threads"], most, workers is not None)
        missing = from_items([{"shard": n} for n in begun.missing], override_num_blocks=len(begun.missing))
        written = missing.map_batches(
            Worker,
            fn_constructor_args=(_asked(model), begun.place, begun.spec),
            batch_size=1,
            compute=ActorPoolStrategy(size=count),
            **each,
        )
        for done, _ in enumerate(written.iter_batches(batch_size=1, prefetch_batches=0), 1):
            if progress is not None:
                progress(done / len(begun.missing))
    except ray.exceptions.RayError as error:
        raise HookeError(f"a worker failed: {_reason(error)}") from None
    finally:
        context.enable_progress_bars = before[0]
        log.setLevel(before[1])
        if own:
            ray.shutdown()


def shares(
    total: dict[str, float], device: torch.device, threads: int, most: int, exactly: bool = False
) -> tuple[int, dict[str, float]]:
    """How many workers, and what of the cluster each is given: on accelerators one each, on processors as many cores
    as a worker has threads. One core stays free for what feeds them, or nothing would ever begin.

    total: what the cluster has. most: more are not wanted; exactly: nor fewer.
    """
    cores = max(0.0, total.get("CPU", 1.0) - 1)
    there = total.get("GPU", 0.0) if device.type == "cuda" else None
    count = most if exactly else max(1, min(most, int(cores // threads if there is None else there)))
    each = cores / count if cores < count * threads else float(threads)
    found = {"num_cpus": float(int(each)) if each >= 1 else int(100 * each) / 100}
    if there is not None:
        found["num_gpus"] = min(1.0, int(100 * there / count) / 100)
    return count, found


def _asked(model: Model) -> dict[str, Any]:
    """What makes the same model again on another machine: a name there, or a folder that all reach."""
    name = os.path.abspath(model.name) if Path(model.name).is_dir() or Path(model.name).is_file() else model.name
    dtype = str(model.dtype).removeprefix("torch.")
    return {"name": name, "revision": model.info.get("revision"), "device": model.device.type, "dtype": dtype}


def _reason(error: Any) -> str:
    """The last line of what went wrong on a worker, without where it stood."""
    cause = getattr(error, "cause", None)
    lines = [line.strip() for line in str(cause if cause is not None else error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__).removeprefix("hooke.errors.HookeError: ")[:500]
