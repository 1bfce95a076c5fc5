"""How far a stage of a method is: a callback that is called often, and may raise to stop the work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

Progress = Callable[[str, float], None]  # a stage and how much of it is done, 0 to 1
Tick = Callable[[float], None]  # how much of the stage at hand is done, 0 to 1


def idle(done: float) -> None:
    """A tick for those whom nobody watches."""


def stretch(tick: Tick, start: float, end: float) -> Tick:
    """The ticks of one part of a stage, which takes it from `start` to `end`."""
    return lambda done: tick(start + (end - start) * done)


# what a stage takes of the whole, roughly: seconds of a trace, or of a probe, of the default model on two cores
SHARES = {
    "load": 5.0,
    "forward": 0.3,
    "select": 8.0,
    "graph": 4.0,
    "verification": 4.5,
    "write": 0.8,
    "interventions": 1.0,
    "patches": 4.0,
    "activations": 60.0,
    "fit": 40.0,
    "random weights": 12.0,
    "benign texts": 20.0,
    "report": 1.0,
    "answers": 30.0,
    "base": 25.0,
    "states": 6.0,
    "training": 75.0,
    "perplexity": 3.0,
    "models": 60.0,
    "edges": 10.0,
    "size": 6.0,
    "curve": 25.0,
    "stability": 1.0,
    "cuts": 40.0,
    "text": 5.0,
    "controls": 6.0,
    "reconstruction": 15.0,
    "losses": 50.0,
    "derivatives": 20.0,
    "letters": 8.0,
    "tasks": 25.0,
    "search": 100.0,
    "random search": 60.0,
    "labels": 300.0,
    "neighbours": 60.0,
    "equations": 1.5,
    "reads and edits": 5.0,
}
VERB_STAGES = {
    "trace": ("load", "forward", "select", "graph", "verification", "interventions", "write"),
    "lens": ("load", "forward"),
    "harvest": ("load", "text", "activations"),
    "train": ("load", "text", "activations", "training", "report"),
    "catalogue": ("load", "text", "activations", "labels", "neighbours", "write"),
    "visualise": ("load", "text", "search", "random search"),
    "evaluate": (
        "load", "text", "controls", "reconstruction", "losses", "derivatives", "letters", "tasks", "report",
    ),
}  # fmt: skip


def overall(stages: Sequence[str], stage: str, done: float) -> float:
    """How much of all stages is done when one of them is done so far."""
    if stage not in stages:
        return 0.0
    before = sum(SHARES[name] for name in stages[: stages.index(stage)])
    return (before + SHARES[stage] * min(max(done, 0.0), 1.0)) / sum(SHARES[name] for name in stages)


class Clock:
    """Seconds by stage, and the ticks of the stage at hand: `with clock("graph") as tick`."""

    def __init__(self, progress: Progress | None) -> None:
        self.start, self.progress = time.perf_counter(), progress
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[Tick]:
        progress = self.progress
        tick = idle if progress is None else lambda done: progress(stage, done)
        before = time.perf_counter()
        tick(0.0)
        yield tick
        self.seconds[stage] = round(time.perf_counter() - before, 3)
        tick(1.0)

    def done(self) -> dict[str, float]:
        """The seconds of every stage, and of all."""
        return {**self.seconds, "total": round(time.perf_counter() - self.start, 3)}
