"""The rows of one block in both tables, of all that was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from hooke.features.table import COLUMNS, EXAMPLE_COLUMNS
from hooke.methods.catalogue.atoms import Atoms
from hooke.methods.catalogue.describe import Described
from hooke.methods.catalogue.score import Examples
from hooke.methods.catalogue.tally import BINS, LOWEST, PER_OCTAVE, Tally
from hooke.methods.catalogue.weights import Weights
from hooke.methods.catalogue.words import output_text, rule_json, rule_text

OUTPUT_FIRES = 0.5  # the least an output score may be


@dataclass(eq=False)
class Found:
    """What is known of the rows of one block. effect: (n,) nats a token. clear_by_chance: how far the first token of a
    random direction stands out."""

    layer: int
    sides: int
    first: int
    kept: Tally
    effect: np.ndarray
    counted: int
    examples: Sequence[Examples]
    described: Sequence[Described]
    weights: Weights
    output_score: np.ndarray
    output_control: np.ndarray
    clear_by_chance: float


def tables_of(found: Found, atoms: Atoms, texts: Sequence[str]) -> tuple[pa.Table, pa.Table]:
    """The rows of `features.parquet` (without who fires beside them) and of `examples.parquet`."""
    n = len(found.examples)
    ids = np.arange(found.first, found.first + n, dtype=np.int32)
    side, w = np.arange(n) % found.sides, found.weights
    promotes = w.promotes.numpy()
    largest = np.array([one.largest for one in found.examples], np.float32)
    inputs = np.array([one.holds for one in found.described])
    outputs = outputs_hold(found)
    fires = [rule_text(atoms, one.rule) if one.rule else None for one in found.described]
    writes = [output_text(atoms, texts, row) for row in promotes]
    score = [one.score if one.score is not None else np.nan for one in found.described]
    control = [one.control if one.control is not None else np.nan for one in found.described]
    columns: dict[str, Any] = {
        "id": ids,
        "layer": np.full(n, found.layer),
        "feature": np.arange(n) // found.sides,
        "sign": 1 - 2 * side,
        "density": density(found),
        "largest": largest,
        "mean": (found.kept.total / found.kept.count.clamp(min=1)).numpy(),
        "effect": found.effect,
        "histogram": found.kept.histogram.tolist(),
        "promotes": promotes.tolist(),
        "suppresses": w.suppresses.tolist(),
        "reads": w.reads.tolist(),
        "read": w.read.tolist(),
        "beside": [[] for _ in range(n)],
        "correlation": [[] for _ in range(n)],
        "kind": [_kind(i, o) for i, o in zip(inputs, outputs, strict=True)],
        "label": [_label(f, o, i, p) for f, o, i, p in zip(fires, writes, inputs, outputs, strict=True)],
        "fires_on": fires,
        "writes": writes,
        "rule": [rule_json(atoms, one.rule) if one.rule else None for one in found.described],
        "score": _of_label(score, found.output_score, inputs, outputs),
        "control": _of_label(control, found.output_control, inputs, outputs),
        "input_score": _nulls(score),
        "input_control": _nulls(control),
        "output_score": found.output_score,
        "output_control": found.output_control,
        "levels": [_reals(one.levels) for one in found.described],
        "levels_control": [_reals(one.levels_control) for one in found.described],
    }
    for name in ("detection", "fuzzing", "responds", "pure", "made", "scored"):
        columns[name] = [getattr(one, name) for one in found.described]
    features = pa.table({f.name: pa.array(columns[f.name], f.type) for f in COLUMNS}, schema=COLUMNS)
    return features, _examples(found, ids)


def outputs_hold(found: Found) -> np.ndarray:
    """(n,) whether what the weights say of the output is what setting the feature does, more than its controls, and its
    tokens stand out more than those of a random direction."""
    clear = found.weights.clear.numpy() > found.clear_by_chance
    return clear & (found.output_score > found.output_control) & (found.output_score > OUTPUT_FIRES)


def density(found: Found) -> np.ndarray:
    """(n,) the share of tokens on which each fires. Of features that are silent on most tokens counted; of others,
    which fire from a quarter of the largest activation on, by the histogram, within a bin as if it were even in
    octaves."""
    count = found.kept.count.numpy() / max(found.counted, 1)
    histogram = found.kept.histogram.numpy().astype(float)
    bars = np.array([one.bar for one in found.examples])
    edge = (np.log2(np.maximum(bars, 1e-30)) - LOWEST) * PER_OCTAVE
    above = np.clip(np.arange(BINS)[None, :] + 1 - edge[:, None], 0, 1)
    share = (histogram * above).sum(1) / np.maximum(histogram.sum(1), 1)
    return np.where(bars > 0, count * share, count)


def _kind(inputs: bool, outputs: bool) -> str:
    return {(True, True): "both", (True, False): "input", (False, True): "output"}.get((inputs, outputs), "obscure")


def _label(fires: str | None, writes: str, inputs: bool, outputs: bool) -> str | None:
    said = [text for text, holds in ((fires, inputs), (writes, outputs)) if holds and text]
    return "; ".join(said) or None


def _of_label(own: Sequence[float], output: np.ndarray, inputs: np.ndarray, outputs: np.ndarray) -> Any:
    """The score (or bar) of the part of a label that is shown first; of what it fires on where none is shown."""
    return _nulls(np.where(outputs & ~inputs, output, np.array(own)))


def _nulls(x: Any) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in x]


def _reals(levels: Sequence[float | None]) -> list[float]:
    return [np.nan if level is None else level for level in levels]


def _examples(found: Found, ids: np.ndarray) -> pa.Table:
    columns: dict[str, list[Any]] = {name: [] for name in EXAMPLE_COLUMNS.names}
    for i, one in zip(ids, found.examples, strict=True):
        order = np.argsort(-one.value, kind="stable")
        scaled = np.where(one.value[:, None] > 0, one.near / np.maximum(one.value[:, None], 1e-30) * 255, 0)
        columns["id"].append(int(i))
        columns["at"].append(one.at[order])
        columns["value"].append(one.value[order])
        columns["level"].append(one.level[order].astype(np.int8))
        columns["held_out"].append(one.held_out[order])
        columns["near"].append(np.clip(np.round(scaled[order]), 0, 255).astype(np.uint8).tobytes())
    return pa.table(columns, schema=EXAMPLE_COLUMNS)
