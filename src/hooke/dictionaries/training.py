"""Training several dictionaries on one feed: the loop, its log, its checkpoints, and how it ends."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from hooke import files
from hooke.dictionaries.checkpoint import load_checkpoint, save_checkpoint
from hooke.dictionaries.coder import Coder
from hooke.dictionaries.feed import Feed
from hooke.dictionaries.fit import Fit, advance, finish, rate
from hooke.dictionaries.kinds.base import kept_room
from hooke.dictionaries.spread import Spread
from hooke.errors import HookeError
from hooke.files import write_atomic
from hooke.harvest import Activations

LOG = "log.jsonl"
MOST_LOG = 2**28  # bytes
LINES = 200  # of the log, about
ROWS = 4096  # that are coded at once when a dictionary is measured
Watch = Callable[[dict[str, Any]], None]


def train_fits(
    fits: Sequence[Fit],
    feed: Feed,
    folder: Path,
    *,
    checkpoint_seconds: float = 120.0,
    patience: int = 0,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Train all of them on the same batches, from where the folder's checkpoint stands. Of several processes the first
    has the folder, and decides when to save and to stop.

    patience: stop once the explained variance of what is held out has not risen for so many looks, of which there are
    twenty; 0 never looks. watch: called with every line of the log and with how far it is; what it raises stops the
    work, which then goes on from the last checkpoint.
    Returns facts: resumed_at, stopped_at and why. Raises HookeError if a loss is not finite; the checkpoint before
    stays.
    """
    facts = load_checkpoint(fits, folder) or {"best": None, "since": 0, "spent": 0.0}
    start, spread = fits[0].when.step, fits[0].spread
    world = spread.world
    lines = world.led(lambda: _log_until(folder / LOG, start))
    each, look = max(1, feed.steps // LINES), max(1, feed.steps // 20)
    began, saved, spent = time.perf_counter(), time.perf_counter(), float(facts["spent"])
    held = feed.unseen() if patience and spread.leads else None
    stopped = ""
    with kept_room(), _log(folder / LOG, spread) as write:
        for step, values in enumerate(feed.batches(start), start):
            tell = (step + 1) % each == 0 or step + 1 == feed.steps
            told = [advance(fit, values, tell=tell) for fit in fits]
            now = spent + time.perf_counter() - began
            line: dict[str, Any] = {"step": step + 1, "steps": feed.steps, "tokens": (step + 1) * feed.batch}
            line |= {"seconds": round(now, 2), "rate": rate(fits[0]), "fits": told}
            if tell:
                write(line)
                lines.append(line)
            if patience and (step + 1) % look == 0:
                stopped = _judge(fits, held, facts, patience)
            if watch is not None:
                watch(line)
            due = bool(world.sent(torch.tensor(time.perf_counter() - saved > checkpoint_seconds)))
            if due or stopped or step + 1 == feed.steps:
                _check_finite(fits, step)
                save_checkpoint(fits, folder, facts | {"spent": now})
                saved = time.perf_counter()
            if stopped:
                break
    return {"resumed_at": start, "stopped_at": fits[0].when.step, "why": stopped, "lines": lines}


@contextlib.contextmanager
def _log(path: Path, spread: Spread) -> Iterator[Callable[[dict[str, Any]], None]]:
    """What writes lines to the log."""
    if not spread.leads:
        yield lambda line: None
        return
    with path.open("a", encoding="utf-8", buffering=1) as log:

        def write(line: dict[str, Any]) -> None:
            log.write(json.dumps(line) + "\n")

        yield write


def _check_finite(fits: Sequence[Fit], step: int) -> None:
    """A checkpoint is only of weights that are numbers."""
    params = (x for fit in fits for block in fit.blocks for x in block.params.values())
    if fits[0].spread.world.any(not all(bool(torch.isfinite(x).all()) for x in params)):
        raise HookeError(f"weights are no numbers any more at step {step}; a smaller --lr may help")


def _log_until(path: Path, step: int) -> list[dict[str, Any]]:
    """The lines of the log up to a step; what came after it is taken out, since it will be written again."""
    kept = []
    if path.exists():
        for text in files.read_text(path, MOST_LOG).splitlines():
            try:
                line = json.loads(text)
            except ValueError:  # cut short where a run was killed
                break
            if line["step"] <= step:
                kept.append(line)
    write_atomic(path, "".join(json.dumps(line) + "\n" for line in kept).encode())
    return kept


def _judge(fits: Sequence[Fit], held: Activations | None, facts: dict[str, Any], patience: int) -> str:
    """Why to stop now; empty if there is no reason to. held: of the first process."""
    made = [finish(fit) for fit in fits]

    def explained() -> float:
        assert held is not None
        return sum(measured(blocks, held)["explained_variance"] for blocks in made) / len(made)

    found = fits[0].spread.world.led(explained)
    if facts["best"] is None or found > facts["best"] + 1e-4:
        facts["best"], facts["since"] = found, 0
    else:
        facts["since"] += 1
    if facts["since"] < patience:
        return ""
    return f"what is held out was not explained better for {patience} looks"


@torch.no_grad()
def measured(blocks: Sequence[Coder], held: Activations) -> dict[str, float]:
    """How blocks that write the same sites do together on activations: explained variance over the whole set, L0 of
    all, and the share of features that never fire (methods as in `dictionaries/evaluate`)."""
    sites = sorted({site for block in blocks for site in block.writes})
    needed = {site for block in blocks for site in (*block.reads, *block.writes)}
    means = {site: held.values[site].flatten(1).float().mean(0) for site in sites}
    left = whole = fired = 0.0
    ever = [torch.zeros(block.n_features, dtype=torch.bool, device=block.bias.device) for block in blocks]
    for at in range(0, len(held), ROWS):
        x = {site: held.values[site][at : at + ROWS].flatten(1).float() for site in needed}
        total = {site: torch.zeros_like(x[site]) for site in sites}
        for block, seen in zip(blocks, ever):
            own = {site: x[site] for site in block.reads}
            codes = block.dense(own)
            seen |= (codes != 0).any(0)
            fired += float((codes != 0).sum())
            for site, y in block.written(codes, own).items():
                total[site] = total[site] + y
        left += sum(float((x[site] - total[site]).double().square().sum()) for site in sites)
        whole += sum(float((x[site] - means[site]).double().square().sum()) for site in sites)
    if not whole > 0:
        raise HookeError("the activations that were held out do not vary; there is nothing to explain")
    return {
        "explained_variance": 1 - left / whole,
        "l0": fired / len(held),
        "dead": float(torch.cat(ever).logical_not().float().mean()),
        "tokens": float(len(held)),
    }


def ends(blocks: Mapping[str, Sequence[Coder]]) -> str:
    """One hash of all blocks of a training: the same for the same weights."""
    import hashlib

    names = [block.hash for name in sorted(blocks) for block in blocks[name]]
    return hashlib.sha256("\n".join(names).encode()).hexdigest()
