"""Using a fitted probe: its scores on texts and tokens, its directions as dictionaries, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from hooke.arguments import checked
from hooke.data.labelled.rows import Row
from hooke.dictionaries import Dictionary, Direction
from hooke.errors import HookeError
from hooke.files import is_dir, path_of
from hooke.harvest import Harvest, Wanted, harvest
from hooke.methods.probe.parts import Block, from_tensors, needs, score_harvest, token_scores
from hooke.model import Model
from hooke.model.belongs import differences
from hooke.results import Result, load_result

FILE = "probe.json"


class Scores(NamedTuple):
    """values: (n,) log-odds of label 1. tokens: per text, (tokens,) values at each token; texts: those tokens."""

    values: np.ndarray
    tokens: list[np.ndarray]
    texts: list[list[str]]


def load_probe(folder: str | Path) -> Result:
    """Read a probe saved by `hooke probe fit --out` (a folder, or its probe.json).

    Raises HookeError for a file that is no probe, or whose weights are missing or damaged.
    """
    path = path_of(folder)
    fitted = load_result(path / FILE if is_dir(path) else path)
    if fitted.kind != "probe":
        raise HookeError(f"{folder} holds a {fitted.kind}, not a probe; make one with `hooke probe fit`")
    blocks_of(fitted)
    return fitted


def blocks_of(fitted: Result, name: str = "probe") -> list[Block]:
    """The blocks of a fitted probe, or of one of its controls. Raises HookeError if they are damaged."""
    where = fitted.payload.get("blocks")
    if not isinstance(where, list) or not where:
        raise HookeError("this probe names no sites; fit it again")
    return from_tensors(fitted.tensors, name, where)


def directions(fitted: Result) -> tuple[Direction, ...]:
    """The probe as dictionaries of one feature, one for each site it reads; their values add up to the score.

    Raises HookeError for a probe of a dictionary's features, whose score is not linear in what the site holds.
    """
    if fitted.payload.get("dictionaries"):
        raise HookeError("this probe reads the features of a dictionary, so it is no direction at a site")
    flat = next((b.site for b in blocks_of(fitted) if "head" in b.site.shape), None)
    if flat is not None:
        raise HookeError(f"this probe reads all heads of {flat} at once, so it is no direction in the stream")
    return tuple(Direction(b.site, torch.from_numpy(b.direction.copy()), b.bias) for b in blocks_of(fitted))


def check_belongs(model: Model, fitted: Result, *, transfer: bool = False) -> list[str]:
    """What differs between this model and the one the probe was fitted to, in words.

    Raises HookeError naming the differences unless `transfer` allows them; sites must exist in any case.
    """
    theirs = fitted.payload.get("belongs_to") or {}
    differ = differences(theirs, model)
    blocks = blocks_of(fitted)
    for block in blocks:
        if block.site not in model.sites:
            raise HookeError(f"the probe reads {block.site}, which {model.name} does not have")
    if differ and not transfer:
        raise HookeError(
            f"this probe was fitted to {theirs.get('model')!r} and differs from {model.name!r} in its "
            f"{', '.join(differ)}; fit one here, or allow it with --transfer, which is recorded"
        )
    return differ


def check_dictionaries(fitted: Result, given: Sequence[Dictionary]) -> list[Dictionary]:
    """Those of the given dictionaries whose features this probe reads. Raises HookeError if one is absent."""
    wanted = fitted.payload.get("dictionaries") or {}
    here = {d.hash: d for d in given}
    absent = [f"{name} at {site}" for site, name in wanted.items() if name not in here]
    if absent:
        raise HookeError(f"this probe reads the features of the dictionary {absent[0]}; give it as `dictionaries`")
    return [here[name] for name in wanted.values()]


def read(
    model: Model,
    blocks: Sequence[Block],
    rows: Sequence[Row],
    *,
    template: str | None,
    dictionaries: Sequence[Dictionary] = (),
    tokens: bool = False,
    likelihood: bool = False,
    progress: Callable[[float], None] | None = None,
) -> Harvest:
    """Harvest what these blocks need of rows; with `tokens` also every token at their sites."""
    sites, pools, token_sites = needs(blocks)
    every = sorted({b.site for b in blocks}) if tokens else token_sites
    what = Wanted.of(model, sites=sites, pools=pools, tokens=every, likelihood=likelihood, codes=dictionaries)
    kept = harvest(model, rows, what, template=template, progress=progress)
    for block in blocks:
        width = (kept.tokens if block.site in kept.tokens else {s: x for (s, _), x in kept.pooled.items()})[block.site]
        if width.shape[1] != len(block.direction):
            raise HookeError(
                f"the probe's direction at {block.site} has {len(block.direction)} coordinates and the model's has "
                f"{width.shape[1]}; fit it again on this model"
            )
    return kept


@checked
def score(
    model: Model,
    fitted: Result,
    rows: Sequence[Row],
    *,
    dictionaries: Sequence[Dictionary] = (),
    transfer: bool = False,
    progress: Callable[[float], None] | None = None,
) -> Scores:
    """Scores of texts, and of each of their tokens.

    dictionaries: those whose features the probe reads, if it does.
    The values of a text's tokens are the sum over the probe's directions before pooling.
    Raises HookeError if the probe belongs to another model (see `check_belongs`).
    """
    check_belongs(model, fitted, transfer=transfer)
    own = check_dictionaries(fitted, dictionaries)
    blocks, template = blocks_of(fitted), fitted.payload.get("template")
    kept = read(model, blocks, rows, template=template, dictionaries=own, tokens=True, progress=progress)
    each = [token_scores(blocks, kept, i) for i in range(len(rows))]
    return Scores(score_harvest(blocks, kept), each, [model.text(ids) for ids in kept.ids])
