"""`tasks`: what there is to look for circuits in, and whether a model can do it at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from hooke.arguments import verb
from hooke.data.prompts.circuit_tasks import CIRCUIT_TASKS, CircuitTask, Example
from hooke.errors import HookeError
from hooke.methods import metrics
from hooke.methods.metrics import Metric, evaluate
from hooke.methods.patch.pair import ids_of
from hooke.methods.progress import Clock, Progress
from hooke.methods.ranking import Interval, rate_interval
from hooke.model import Model
from hooke.model.budget import pass_tokens
from hooke.results import Claim, Result

ATTEMPTS = 40  # draws for each pair that is wanted, before a task is given up
MISSES = 4000  # draws one after another that give no new pair, before it is given up too
MOST = 10_000  # pairs


@dataclass
class Skill:
    """How often a model prefers a target over a contrast on clean prompts of a task.

    chance: how often a blind choice among the targets and contrasts would be right.
    """

    task: CircuitTask
    examples: list[Example]
    accuracy: Interval
    chance: float
    clean: float  # mean metric of clean prompts
    corrupt: float  # and of corrupt ones

    @property
    def able(self) -> bool:
        """Whether even the lower end of the interval is above chance."""
        return self.accuracy.low > self.chance


def find_task(name: str) -> CircuitTask:
    """A task by its name. Raises HookeError listing what there is."""
    if name not in CIRCUIT_TASKS:
        raise HookeError(f"no task called {name!r}; there are {', '.join(CIRCUIT_TASKS)}")
    return CIRCUIT_TASKS[name]


def examples(
    model: Model, task: str | CircuitTask, count: int, *, seed: int = 0, length: int | None = None
) -> list[Example]:
    """Different pairs of a task that line up token by token under the model's tokenizer.

    length: only pairs of this many tokens. Raises HookeError if the tokenizer leaves too few.
    """
    task = find_task(task) if isinstance(task, str) else task
    tokenizer = model.tokenizer
    if tokenizer is None:
        raise HookeError(f"{model.name} has no tokenizer, and tasks are texts")
    if count < 1:
        raise HookeError("ask for at least one example")
    if count > MOST:
        raise HookeError(f"{count:,} pairs are too many; ask for at most {MOST:,}")

    def one_token(text: str) -> bool:
        return model.single(text) is not None

    rng = Random(f"{task.name}:{seed}")
    found: dict[str, Example] = {}
    missed = 0
    for _ in range(ATTEMPTS * count):
        missed += 1
        if missed > MISSES:
            break
        made = task.draw(rng, one_token)
        if made.clean in found or set(made.target) & set(made.contrast):
            continue
        if not all(one_token(t) for t in (*made.target, *made.contrast)):
            continue
        rows = [tokenizer(text)["input_ids"] for text in (made.clean, made.corrupt)]
        if len(rows[0]) != len(rows[1]) or rows[0] == rows[1] or length not in (None, len(rows[0])):
            continue
        found[made.clean] = made
        missed = 0
        if len(found) == count:
            return list(found.values())
    raise HookeError(
        f"the tokenizer of {model.name} leaves only {len(found)} of {count} pairs of {task.name} that line up; "
        "ask for fewer or choose another task"
    )


def metric_of(model: Model, task: CircuitTask, example: Example) -> Metric:
    """The metric of one pair."""
    good, bad = (ids_of(model, side, exact=True) for side in (example.target, example.contrast))
    made = metrics.probability if task.metric == "probability" else metrics.logit_difference
    return made(good, bad)


def skill(model: Model, task: str | CircuitTask, *, count: int = 50, seed: int = 0) -> Skill:
    """Score a model on clean prompts of a task. A prompt is right where the targets win: the best logit of them
    over the best contrast, or, for a task measured by probability, their sum over the others' sum."""
    task = find_task(task) if isinstance(task, str) else task
    drawn = examples(model, task, count, seed=seed)
    ends = {"clean": [0.0] * count, "corrupt": [0.0] * count}
    hits = 0.0
    size = max(1, pass_tokens(model) // max(len(model.tokenizer(e.clean)["input_ids"]) for e in drawn))
    for start in range(0, count, size):
        part = drawn[start : start + size]
        for side, found in ends.items():
            logits = model.run([getattr(e, side) for e in part], logits="last").logits
            assert logits is not None
            for i, example in enumerate(part):
                row = logits[i : i + 1]
                found[start + i] = float(evaluate(metric_of(model, task, example), row)[0])
                if side == "clean":
                    good, bad = (ids_of(model, s, exact=True) for s in (example.target, example.contrast))
                    won = found[start + i] > 0 if task.metric == "probability" else None
                    hits += float(won) if won is not None else float(metrics.accuracy(good, bad)(row)[0])
    chance = sum(len(e.target) / (len(e.target) + len(e.contrast)) for e in drawn) / count
    mean = {side: sum(values) / count for side, values in ends.items()}
    return Skill(task, drawn, rate_interval(int(hits), count), chance, mean["clean"], mean["corrupt"])


def check_able(model: Model, task: str | CircuitTask, *, count: int = 50, seed: int = 0) -> Skill:
    """The skill of a model that can do a task. Raises HookeError with the figures for one that cannot: there is no
    circuit for what a model does not do."""
    found = skill(model, task, count=count, seed=seed)
    if not found.able:
        a = found.accuracy
        raise HookeError(
            f"{model.name} cannot do {found.task.name}: right in {a.value:.0%} of {count} prompts ({a.low:.0%} to "
            f"{a.high:.0%}), and chance is {found.chance:.0%}; choose a task that it does (hooke tasks)"
        )
    return found


@verb
def tasks(
    model: Model,
    names: Sequence[str] = (),
    *,
    count: int = 50,
    seed: int = 0,
    progress: Progress | None = None,
) -> Result:
    """List the tasks and how a model does on each.

    names: only these. count: pairs of prompts for each.
    Returns a `Result` of kind "tasks"; payload.tasks: name, about, metric, accuracy with its exact 95 % interval,
    chance, whether the model can do it, the mean metric of clean and corrupt prompts, one example, or why the
    tokenizer leaves no pairs.
    """
    clock = Clock(progress)
    wanted = [find_task(name) for name in dict.fromkeys(names)] or list(CIRCUIT_TASKS.values())
    rows: list[dict[str, Any]] = []
    with clock("answers") as tick:
        for i, task in enumerate(wanted):
            row: dict[str, Any] = {"name": task.name, "about": task.about, "metric": task.metric, "source": task.source}
            try:
                found = skill(model, task, count=count, seed=seed)
                example = found.examples[0]._asdict()
                row |= {
                    "accuracy": found.accuracy.value,
                    "interval": found.accuracy.pair,
                    "chance": found.chance,
                    "able": found.able,
                    "clean": found.clean,
                    "corrupt": found.corrupt,
                    "example": {key: list(x) if isinstance(x, tuple) else x for key, x in example.items()},
                    "reason": None if found.able else "its accuracy may be chance",
                }
            except HookeError as error:
                row |= dict.fromkeys(("accuracy", "interval", "chance", "clean", "corrupt", "example"))
                row |= {"able": False, "reason": str(error)}
            rows.append(row)
            tick((i + 1) / len(wanted))
    able = [row["name"] for row in rows if row["able"]]
    text = f"{model.name} can do {len(able)} of {len(rows)} tasks: {', '.join(able) or 'none'}"
    return Result.make(
        "tasks",
        arguments={"names": [task.name for task in wanted], "count": count, "seed": seed},
        provenance=model.provenance(),
        seconds=clock.done(),
        claims=[Claim(text=text, verdict="tested", evidence=["#tasks"])],
        payload={"tasks": rows, "count": count, "sentence": text + "."},
    )
