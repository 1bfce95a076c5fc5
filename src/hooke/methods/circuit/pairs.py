"""The pairs of prompts that a circuit is found and measured on, and what it is to keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor

from hooke.data.prompts.circuit_tasks import Example
from hooke.errors import HookeError
from hooke.files import parse_json
from hooke.methods.asking import data_hash
from hooke.methods.computation_graph import ComputationGraph
from hooke.methods.metrics import Metric, check_varies, checked, name_of, rounding_of, wide
from hooke.methods.objective import Measure, Objective
from hooke.methods.patch.pair import ids_of, line_up, texts_of
from hooke.methods.tasks import check_able, examples, find_task
from hooke.model import Model, Tokens
from hooke.model.budget import budget, pass_tokens
from hooke.results import read_text

NAMED = ("logit-difference", "probability")
N_PAIRS = 8  # of a task, for the ranking; as many again for what is reported
FEWEST = 2  # pairs on either side
MAX_FILE = 2**24  # bytes


@dataclass(frozen=True)
class Pairs:
    """Prompts that line up token by token, padded on the left, with the objective of exactly these pairs."""

    clean: Tokens
    corrupt: Tokens
    objective: Objective
    texts: list[dict[str, Any]]  # for the result: the tokens of both, target and contrast
    ends: Tensor  # (2, batch): the metric of the clean and of the corrupt prompts
    rounding: float = 0.0  # what the metric may move by though nothing is changed

    def __len__(self) -> int:
        return len(self.clean.ids)

    def rows(self, at: Sequence[int]) -> Pairs:
        """Some of the pairs, with an objective that counts them from 0."""
        index = torch.tensor(list(at), device=self.clean.ids.device)
        whole = self.objective

        def of(measure: Measure) -> Measure:
            return lambda logits, pairs: measure(logits, index[pairs])

        objective = Objective(of(whole.gain), of(whole.distance), of(whole.effect))
        texts = [self.texts[i] for i in at]
        ends = self.ends[:, index.cpu()]
        return Pairs(self.clean.rows(index), self.corrupt.rows(index), objective, texts, ends, self.rounding)


@dataclass(frozen=True)
class Asked:
    """What a circuit is asked for: pairs to find it on, other pairs to measure it on, and the names of it all."""

    find: Pairs
    report: Pairs
    task: str | None
    metric: str
    sha256: str  # of all pairs: their tokens, targets and contrasts
    accuracy: float | None  # of the task, where there is one


def ask(
    model: Model,
    pairs: str | Sequence[Example],
    metric: str | Metric | None,
    n_pairs: int | None,
    seed: int,
) -> Asked:
    """The pairs, divided. Raises HookeError for a task that the model cannot do, and for pairs that do not line up."""
    if n_pairs is not None and n_pairs < FEWEST:
        raise HookeError(f"a circuit needs at least {FEWEST} pairs to be found on; ask for more (--pairs)")
    if isinstance(pairs, str):
        task = find_task(pairs)
        if metric is not None:
            raise HookeError("a task has its own metric; leave the metric out, or give pairs of your own")
        skill = check_able(model, task, seed=seed)
        n = N_PAIRS if n_pairs is None else n_pairs
        drawn = examples(model, task, 2 * n, seed=seed)
        made, rows, accuracy = read(model, drawn, task.metric), list(range(2 * n)), skill.accuracy.value
        sides = made.rows(rows[:n]), made.rows(rows[n:])
        return Asked(*sides, task.name, task.metric, _hash(model, made, drawn), accuracy)
    given = _pairs_of(pairs)
    n = len(given) // 2 if n_pairs is None else n_pairs
    if len(given) < 2 * FEWEST or len(given) - n < FEWEST:
        raise HookeError(
            f"there are {len(given)} pairs: a circuit is found on some and measured on others, at least {FEWEST} "
            "each; give more pairs or use fewer for the ranking (--pairs)"
        )
    named = "logit-difference" if metric is None else metric
    made = read(model, given, named)
    _check_apart(made)
    rows = Random(seed).sample(range(len(given)), len(given))
    name = named if isinstance(named, str) else name_of(named)
    sides = made.rows(sorted(rows[:n])), made.rows(sorted(rows[n:]))
    for side in sides:
        check_varies(_Name(name), *side.ends.mean(1).tolist())  # type: ignore[arg-type]
    return Asked(*sides, None, name, _hash(model, made, given if isinstance(named, str) else []), None)


def _hash(model: Model, pairs: Pairs, given: Sequence[Example]) -> str:
    """Of the tokens of all pairs, and of their targets and contrasts, which a metric of its own does not have."""
    prompts = [[side.ids[i, side.mask[i]].tolist() for side in (pairs.clean, pairs.corrupt)] for i in range(len(pairs))]
    ends = [[ids_of(model, example[k]) for k in (2, 3)] for example in given]
    return data_hash([prompts, ends])


def _pairs_of(given: object) -> list[Example]:
    if not isinstance(given, list | tuple):
        raise HookeError("pairs are the name of a task, or a list of (clean, corrupt, target, contrast)")
    for number, pair in enumerate(given, 1):
        if not isinstance(pair, tuple | list) or len(pair) != 4:
            raise HookeError(f"pair {number} is not (clean, corrupt, target, contrast)")
    return [Example(*pair) for pair in given]


def _check_apart(pairs: Pairs) -> None:
    """Raise HookeError for a pair that is given twice: it could choose a circuit and be measured on it."""
    seen: dict[tuple[Any, ...], int] = {}
    for number in range(len(pairs)):
        own = tuple(tuple(t.ids[number, t.mask[number]].tolist()) for t in (pairs.clean, pairs.corrupt))
        if own in seen:
            raise HookeError(
                f"pairs {seen[own] + 1} and {number + 1} have the same prompts; a circuit is measured on other pairs "
                "than it is found on, so give each pair once"
            )
        seen[own] = number


def read(model: Model, given: Sequence[Example], metric: str | Metric) -> Pairs:
    """Pairs as tokens with their objective. clean and corrupt may also be token ids; target and contrast, ids."""
    if isinstance(metric, str) and metric not in NAMED:
        raise HookeError(f"a circuit's metric is {' or '.join(NAMED)}, or a function of last logits, not {metric!r}")
    lined = []
    for number, example in enumerate(given):
        try:
            lined.append(line_up(model, *_prompts(example)))
        except HookeError as error:
            raise HookeError(f"pair {number + 1}: {error}") from None
    clean, corrupt = (
        model.pad([x.ids[0].tolist() for x in side]) for side in zip(*((p.clean, p.corrupt) for p in lined))
    )
    texts: list[dict[str, Any]] = [
        {"clean": texts_of(model, pair.clean), "corrupt": texts_of(model, pair.corrupt)} for pair in lined
    ]
    gain = _callable(metric) if callable(metric) else _named(model, given, metric, texts)
    logits = [_last(model, side) for side in (clean, corrupt)]
    log = wide(logits[0]).log_softmax(-1)

    def distance(x: Tensor, pairs: Tensor) -> Tensor:
        own = log[pairs]
        return (own.exp() * (own - wide(x).log_softmax(-1))).sum(-1)

    every = torch.arange(len(given), device=model.device)
    named = _Name(metric if isinstance(metric, str) else name_of(metric))
    ends = torch.stack([checked(named, gain(x, every), len(given)).double().cpu() for x in logits])  # type: ignore[arg-type]
    least = rounding_of(named, torch.stack(logits), model.dtype, float(ends.abs().max()))  # type: ignore[arg-type]
    check_varies(named, *ends.mean(1).tolist())  # type: ignore[arg-type]
    return Pairs(clean, corrupt, Objective(gain, distance, gain), texts, ends, least)


def _prompts(example: Example) -> tuple[Any, Any]:
    if len(example) != 4:
        raise HookeError("a pair is (clean, corrupt, target, contrast)")
    return example[0], example[1]


@dataclass(frozen=True)
class _Name:
    name: str


def _callable(metric: Metric) -> Measure:
    return lambda logits, pairs: checked(metric, metric(logits), len(logits))


def _named(model: Model, given: Sequence[Example], metric: str, texts: list[dict[str, Any]]) -> Measure:
    """The metric by name of all pairs at once: each reads the logits of its own tokens."""
    sides = []
    for which, word in ((2, "target"), (3, "contrast")):
        rows = []
        for number, example in enumerate(given):
            tokens = example[which]
            try:
                ids = ids_of(model, tokens)
            except HookeError as error:
                raise HookeError(f"pair {number + 1}: {error}") from None
            if not ids:
                raise HookeError(f"pair {number + 1} has no {word}")
            texts[number][word] = model.text(ids)
            rows.append(ids)
        width = max(map(len, rows))
        index = torch.tensor([row + [row[0]] * (width - len(row)) for row in rows], device=model.device)
        share = [
            [1.0 if metric == "probability" else 1 / len(row)] * len(row) + [0.0] * (width - len(row)) for row in rows
        ]
        sides.append((index, torch.tensor(share, device=model.device), rows))
    (good, plus, targets), (bad, minus, contrasts) = sides
    for number, (a, b) in enumerate(zip(targets, contrasts, strict=True)):
        if set(a) & set(b):
            raise HookeError(f"pair {number + 1}: a token is both target and contrast; name another contrast")

    def gain(logits: Tensor, pairs: Tensor) -> Tensor:
        x = wide(logits)
        x = x.softmax(-1) if metric == "probability" else x
        up, down = (x.gather(1, i[pairs]) * w[pairs].to(x) for i, w in ((good, plus), (bad, minus)))
        return up.sum(1) - down.sum(1)

    return gain


def _last(model: Model, tokens: Tokens) -> Tensor:
    """Logits at the last position, (batch, d_vocab), a part of the prompts at a time."""
    size = max(1, pass_tokens(model) // tokens.ids.shape[1])
    parts = []
    for start in range(0, len(tokens.ids), size):
        logits = model.run(tokens.rows(slice(start, start + size)), logits="last").logits
        assert logits is not None
        parts.append(logits)
    return torch.cat(parts)


def check_fits(model: Model, pairs: Pairs) -> None:
    """Raise HookeError, before starting, if the scores of a batch of pairs would not fit into memory."""
    computation = ComputationGraph.of(model.parts)
    batch, pos = pairs.clean.ids.shape
    # what writers wrote in both runs, the gradients of readers, and as much again while they are put together
    rows = 2 * (len(computation.writers) + len(computation.readers))
    need = rows * batch * pos * model.parts.d_model * (torch.finfo(model.dtype).bits // 8)
    free = budget(model.device).free
    if need > free:
        fits = max(0, int(batch * free / need))
        raise HookeError(
            f"{batch} pairs of {pos} tokens would take about {need / 2**30:.1f} GB and {free / 2**30:.1f} GB are free; "
            + (f"{fits} pairs would fit (--pairs)" if fits >= FEWEST else "use shorter prompts or a smaller model")
        )


def read_file(path: Path) -> list[Example]:
    """Pairs of a JSONL file: a line is {"clean": …, "corrupt": …, "target": …, "contrast": …}, the last two a token
    or a list of them. Raises HookeError, naming the line, for anything else."""
    found = []
    for number, line in enumerate(read_text(path, MAX_FILE).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        found.append(_example(parse_json(line.encode(), where), where))
    if not found:
        raise HookeError(f"{path} has no pairs")
    return found


def _example(row: Any, where: str) -> Example:
    names = Example._fields
    if not isinstance(row, dict) or set(row) != set(names):
        raise HookeError(f"{where}: a pair is an object with {', '.join(names)}")
    sides: list[tuple[str, ...]] = []
    for name in ("target", "contrast"):
        several = row[name] if isinstance(row[name], list) else [row[name]]
        if not several or not all(type(t) in (str, int) and t != "" for t in several):
            raise HookeError(f"{where}: {name} is a token or a list of tokens, each a text or an id")
        sides.append(tuple(several))
    if not all(isinstance(row[name], str) and row[name] for name in names[:2]):
        raise HookeError(f"{where}: clean and corrupt are texts")
    return Example(row["clean"], row["corrupt"], sides[0], sides[1])
