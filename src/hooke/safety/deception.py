"""`deception`: what probes for truth and for instructed honesty do on this model, beside what they have to beat."""

from __future__ import annotations

from collections.abc import Callable

from hooke.data.labelled.registry import dataset
from hooke.data.labelled.rows import Dataset
from hooke.errors import HookeError
from hooke.methods.probe import probe
from hooke.methods.probe.judge import probe_test
from hooke.methods.progress import Progress
from hooke.model import Model
from hooke.results import Result

SETS = ("truth", "honesty")  # what probes are fitted to
ROWS = 400  # of each set, so that an assessment stays short; whole groups
ABOUT = "about-deception"  # honest talk about deception, on which a deception probe should stay silent
BENIGN = 200  # unrelated texts; too few for a threshold at 1 %, which is then refused and said


def deception(
    model: Model,
    *,
    rows: int = ROWS,
    seed: int = 0,
    progress: Progress | None = None,
    keep: Callable[[str, Callable[[], Result]], Result] = lambda name, make: make(),
) -> dict[str, Result]:
    """Fit probes to true against false statements and to honest against instructed dishonest answers, and test both.

    rows: of each data set, whole groups, drawn by the seed. keep: stores a part by name when it is made.
    Returns results by name: `probe truth`, `probe honesty`, and `test honesty` on honest talk about deception against
    the dishonest answers. A probe is tested on topics that were declared out of distribution before it was fitted.
    Raises HookeError for a model without a chat template.
    """
    found: dict[str, Result] = {}
    layers = model.parts.n_layers
    sites = [f"resid_post.{layer}" for layer in sorted({round(layers * k / 6) for k in (2, 3, 4, 5)})]
    for name in SETS:
        data = part_of(dataset(name, seed=seed), rows)
        found[f"probe {name}"] = keep(
            f"probe {name}",
            lambda data=data: probe(  # type: ignore[misc]
                model,
                data,
                kind=("means", "logistic"),
                site=sites,
                pool="mean",
                random_weights=False,
                seed=seed,
                progress=progress,
            ),
        )
    about = part_of(dataset(ABOUT, seed=seed), rows)
    found["test honesty"] = keep(
        "test honesty",
        lambda: probe_test(model, found["probe honesty"], about, benign=BENIGN, progress=progress),
    )
    return found


def part_of(data: Dataset, rows: int) -> Dataset:
    """About so many rows of a data set, evenly over its topics, whole groups, in their order.

    Raises HookeError if what is left has one class only.
    """
    if len(data.rows) <= rows:
        return data
    groups = list(dict.fromkeys((row.topic, row.group) for row in data.rows))
    step = max(1, round(len(data.rows) / rows))
    by_topic: dict[str, list[str]] = {}
    for topic, group in groups:
        by_topic.setdefault(topic, []).append(group)
    kept = {group for of in by_topic.values() for group in of[::step]}
    chosen = tuple(row for row in data.rows if row.group in kept)
    if len({row.label for row in chosen}) < 2:
        raise HookeError(f"{rows} rows of {data.name} have one class only; take more")
    return Dataset(data.name, data.about, data.labels, chosen, data.shifts, data.template)
