"""Sparse probing: how well a few features tell two classes apart, beside dense probes, neurons and other bases.

A text is the mean over its tokens. The features whose class means lie furthest apart on the rows that are fitted to are
chosen, and a logistic regression on them is scored on groups that nothing was fitted to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hooke.data.labelled.registry import dataset
from hooke.data.labelled.rows import Dataset, Row
from hooke.errors import HookeError
from hooke.harvest import batches, prompts
from hooke.harvest.shards import Prompt
from hooke.methods.evaluate.asked import wide
from hooke.methods.evaluate.estimates import draws, estimate, mean
from hooke.methods.evaluate.measures import COUNTS, DICTIONARY, METRICS, Measured
from hooke.methods.evaluate.seen import Seen
from hooke.methods.evaluate.standins import Fitted
from hooke.methods.probe.estimators import STRENGTHS, logistic_path
from hooke.methods.progress import Tick, stretch
from hooke.methods.ranking import auroc
from hooke.methods.splits import folds, hold_out
from hooke.model import Model
from hooke.model.budget import pass_tokens

TASKS = (
    "sentiment", "language", "tense", "number", "voice", "question", "subject", "animal", "parity", "code", "truth",
    "entities",
)  # fmt: skip

ROWS = 200  # of a task
SHUFFLES = 3
Table = dict[str, np.ndarray]  # by what is read, (rows, width)


def check_tasks(names: Sequence[str], seed: int) -> list[Dataset]:
    """The data sets of these names, or of `TASKS` if there are none. Raises HookeError for one that is not there, or
    whose rows are answers of an assistant."""
    found = [dataset(name, seed=seed) for name in dict.fromkeys(names or TASKS)]
    chat = next((data for data in found if any(row.user for row in data.rows)), None)
    if chat is not None:
        raise HookeError(f"{chat.name} holds answers of an assistant; probing takes plain texts, as {', '.join(TASKS)}")
    return found


def probing(
    model: Model, fits: Sequence[Fitted], tasks: Sequence[Dataset], *, seed: int, tick: Tick
) -> tuple[list[Measured], list[dict[str, Any]]]:
    """AUROC on held-out groups by number of features, for every target, and what there is to say of each task."""
    scores: dict[str, list[dict[str, dict[int, float]]]] = {fit.target.name: [] for fit in fits}
    told = []
    for number, task in enumerate(tasks):
        ticks = stretch(tick, number / len(tasks), (number + 1) / len(tasks))
        rows = _rows(task, seed)
        fit_at, held = hold_out(rows, seed=seed)
        tables = _pooled(model, fits, rows, ticks)
        for fit in fits:
            found = _scores(tables[fit.target.name], rows, fit_at, held, seed)
            scores[fit.target.name].append(found)
        told.append(
            {
                "name": task.name, "about": task.about, "fitted_to": len(fit_at), "tested_on": len(held),
                "groups": len({rows[i].group for i in held}), "scores": _by_count(scores, number),
            }
        )  # fmt: skip
    drawn = draws(len(tasks), seed)
    found_k = {k: Measured(METRICS[f"sparse_probing_{k}"], "tasks", {}) for k in COUNTS}
    whole = Measured(METRICS["sparse_probing"], "tasks", {})
    for target, each in scores.items():
        for k, measured in found_k.items():
            measured.rows[target] = {
                name: estimate(np.array([[task[name][k]] for task in each]), lambda s: s[..., 0] / len(tasks), drawn)
                for name in each[0]
            }
        whole.rows[target] = {name: mean([found_k[k].rows[target][name] for k in COUNTS]) for name in each[0]}
    return [whole, *found_k.values()], told


def _by_count(scores: dict[str, list[dict[str, dict[int, float]]]], number: int) -> dict[str, dict[str, float]]:
    """By number of features and by what is read: the mean over targets, of one task."""
    found: dict[str, dict[str, float]] = {}
    tables = [each[number] for each in scores.values()]
    names = [name for name in tables[0] if all(name in table for table in tables)]
    for k in COUNTS:
        found[str(k)] = {name: float(np.mean([table[name][k] for table in tables])) for name in names}
    return found


def _rows(task: Dataset, seed: int) -> list[Row]:
    """Some rows of what may be fitted to, at random."""
    rows = list(task.train)
    chosen = np.random.default_rng(seed).permutation(len(rows))[:ROWS]
    return [rows[i] for i in sorted(chosen)]


def _pooled(model: Model, fits: Sequence[Fitted], rows: Sequence[Row], tick: Tick) -> dict[str, Table]:
    """By target: the mean over the tokens of each text of the dictionary's codes, those of the untrained one, neurons,
    and what is read. Texts stand alone, without the template of their data set."""
    todo = prompts(model, rows)
    sites = sorted({site for fit in fits for site in (*fit.target.own_reads, *([fit.act] if fit.act else []))})
    found: dict[str, dict[str, Tensor]] = {fit.target.name: {} for fit in fits}
    done, whole = 0, sum(len(p.ids) for p in todo)
    for group in batches([len(p.ids) for p in todo], tokens=pass_tokens(model)):
        chosen = [todo[i] for i in group]
        padded = model.pad([p.ids for p in chosen], "right")
        acts = model.run(padded, read=sites, logits=None).acts
        own = _own(chosen, padded.ids)
        row = torch.tensor(group, device=own.device)[:, None].expand_as(own)[own]
        share = 1 / torch.tensor([p.stop - p.start for p in todo], device=own.device, dtype=wide(model))[row]
        x = Seen({site: acts[site].flatten(2)[own].to(wide(model)) for site in sites})
        for fit in fits:
            _add(found[fit.target.name], fit, x, row, share, len(rows))
        done += sum(len(p.ids) for p in chosen)
        tick(done / whole)
    for fit in fits if "pca" in fits[0].wanted else ():
        found[fit.target.name]["pca"] = found[fit.target.name]["read"] @ fit.axes
    return {name: {key: part.float().cpu().numpy() for key, part in table.items()} for name, table in found.items()}


def _own(chosen: Sequence[Prompt], ids: Tensor) -> Tensor:
    """(rows, pos) True on the tokens of each text itself."""
    at = torch.arange(ids.shape[1], device=ids.device)[None]
    start, stop = (torch.tensor([[getattr(p, name)] for p in chosen], device=ids.device) for name in ("start", "stop"))
    return (at >= start) & (at < stop)


def _add(found: dict[str, Tensor], fit: Fitted, x: Seen, row: Tensor, share: Tensor, n: int) -> None:
    """Add the tokens of a batch, each by its share of its text."""
    coders = {DICTIONARY: fit.target.own, "untrained": fit.untrained}
    for name, blocks in coders.items():
        width = sum(block.n_features for block in blocks)
        if not width:
            continue
        total = found.setdefault(name, share.new_zeros(n, width))
        first = 0
        for block in blocks:
            code = x.code(block)
            at = row[code.entries.rows] * width + first + code.entries.ids
            total.view(-1).index_add_(0, at, code.values.to(share) * share[code.entries.rows])
            first += block.n_features
    dense = {"read": fit.target.own_reads, "neurons": () if fit.act is None else (fit.act,)}
    for name, sites in dense.items():
        if sites:
            values = torch.cat([x.values[site] for site in sites], 1)
            found.setdefault(name, share.new_zeros(n, values.shape[1])).index_add_(0, row, values * share[:, None])


def _scores(
    table: Table, rows: Sequence[Row], fit_at: np.ndarray, held: np.ndarray, seed: int
) -> dict[str, dict[int, float]]:
    """AUROC on held-out rows, by what is read and by number of features; of a dense probe the same for each."""
    y = np.array([row.label for row in rows])
    found: dict[str, dict[int, float]] = {}
    for name, x in table.items():
        if name != "read":
            found[name] = {k: _sparse(x, y[fit_at], fit_at, k, held, y) for k in COUNTS}
    rng = np.random.default_rng(seed)
    shuffled = [rng.permutation(y[fit_at]) for _ in range(SHUFFLES)]
    found["shuffled_labels"] = {
        k: float(np.mean([_sparse(table[DICTIONARY], labels, fit_at, k, held, y) for labels in shuffled]))
        for k in COUNTS
    }
    dense = _dense(table["read"], y, rows, fit_at, held)
    found["dense_probe"] = dict.fromkeys(COUNTS, dense)
    return found


def _sparse(x: np.ndarray, labels: np.ndarray, fit_at: np.ndarray, k: int, held: np.ndarray, y: np.ndarray) -> float:
    """labels: of the rows that are fitted to; y: of all."""
    own = x[fit_at]
    gap = np.abs(own[labels == 1].mean(0) - own[labels == 0].mean(0))
    chosen = np.argsort(-gap, kind="stable")[:k]
    (probe,) = logistic_path(np.ascontiguousarray(own[:, chosen]), labels, (1.0,))
    return auroc(probe(x[held][:, chosen]), y[held])


def _dense(x: np.ndarray, y: np.ndarray, rows: Sequence[Row], fit_at: np.ndarray, held: np.ndarray) -> float:
    """A logistic regression on all coordinates; how strongly it is held back is chosen on folds."""
    parts, _ = folds([rows[i] for i in fit_at], n=3)
    own, labels = x[fit_at], y[fit_at]
    each = [
        [auroc(probe(own[test]), labels[test]) for probe in logistic_path(own[train], labels[train])]
        for train, test in parts
    ]
    best = STRENGTHS[int(np.mean(each, axis=0).argmax())]
    (probe,) = logistic_path(own, labels, (best,))
    return auroc(probe(x[held]), y[held])
