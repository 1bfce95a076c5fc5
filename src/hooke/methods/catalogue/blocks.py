"""From what a pass kept to the rows of the tables: one block of features after another, each in files of its own until
all are there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from hooke.dictionaries import Dictionary
from hooke.errors import HookeError
from hooke.features.table import COLUMNS, EXAMPLE_COLUMNS, EXAMPLES, FEATURES, write_table
from hooke.methods.catalogue.atoms import Atoms, atoms_of
from hooke.methods.catalogue.describe import Text, described
from hooke.methods.catalogue.neighbours import neighbours
from hooke.methods.catalogue.outputs import output_scores, passages
from hooke.methods.catalogue.rows import Found, tables_of
from hooke.methods.catalogue.rules import base_of, corpus
from hooke.methods.catalogue.score import aside_of
from hooke.methods.catalogue.sweep import Swept, sides, sparse
from hooke.methods.catalogue.weights import clear_by_chance, weights_of
from hooke.methods.catalogue.windows import Windows
from hooke.methods.progress import Tick, stretch
from hooke.model import Model
from hooke.model.recorded import Recorded


@dataclass(eq=False)
class Ready:
    """What the blocks of a catalogue share."""

    model: Model
    wins: Windows
    swept: Swept
    seed: int

    @cached_property
    def atoms(self) -> Atoms:
        """Of the vocabulary."""
        frequent = np.bincount(self.wins.plan.ids, minlength=self.model.parts.d_vocab)
        return atoms_of(self.model, frequent, seed=self.seed)

    @cached_property
    def text(self) -> Text:
        """What descriptions are made from and scored on."""
        plan = self.wins.plan
        piece = np.repeat(np.arange(len(plan.offsets) - 1), np.diff(plan.offsets))
        found = corpus(self.wins, self.atoms)
        aside = aside_of(self.wins)
        return Text(found, base_of(found), aside, self.wins.held_out[piece], self.wins.kind[piece])

    @cached_property
    def texts(self) -> list[str]:
        """Every token of the vocabulary as people see it."""
        shown = self.model.vocabulary()
        return shown + [""] * (self.model.parts.d_vocab - len(shown))

    @cached_property
    def chance(self) -> float:
        """How far the first token of a random direction stands out."""
        return clear_by_chance(self.model, seed=self.seed)


def made(ready: Ready, block: Dictionary, number: int, layer: int, first: int, folder: Path, tick: Tick) -> None:
    """Write the rows of one block, if they are not there yet."""
    names = [folder / f"block-{number:03d}.{name}" for name in (FEATURES, EXAMPLES)]
    if all(name.exists() for name in names) or (folder / FEATURES).exists():
        tick(1.0)
        return
    swept = ready.swept
    kept = swept.kept[number]
    some, labels = described(
        ready.text, kept, silent=sparse(block), seed=ready.seed, tick=stretch(tick, 0.0, 0.5)
    )  # fmt: skip
    weights = weights_of(ready.model, block, stretch(tick, 0.5, 0.65))
    largest = torch.tensor([one.largest for one in some], dtype=torch.float32)
    clean: list[Recorded] = passages(ready.model, [block])
    score, control = output_scores(
        ready.model, block, weights.promotes, largest, clean, seed=ready.seed, tick=stretch(tick, 0.65, 1.0)
    )
    counted = int(ready.wins.plan.n_tokens - (ready.wins.plan.skip == 0) * (len(ready.wins.plan.offsets) - 1))
    effect = (swept.effect[number] / max(swept.tokens, 1)).numpy()
    found = Found(
        layer, sides(block), first, kept, effect, counted, some, labels, weights, score, control, ready.chance
    )  # fmt: skip
    features, examples = tables_of(found, ready.atoms, ready.texts)
    write_table(names[1], examples, EXAMPLE_COLUMNS)
    write_table(names[0], features, COLUMNS)


def finished(folder: Path, swept: Swept, n: int, tick: Tick) -> tuple[pa.Table, pa.Table]:
    """Both tables whole, with who fires beside whom; the files of the blocks go."""
    parts = [[folder / f"block-{number:03d}.{name}" for number in range(n)] for name in (FEATURES, EXAMPLES)]
    if not (folder / FEATURES).exists():
        try:
            features, examples = (pa.concat_tables([pq.read_table(path) for path in paths]) for paths in parts)
        except (OSError, pa.ArrowInvalid) as error:
            raise HookeError(f"a part of the catalogue in {folder} is damaged: {error}; remove its block-*") from None
        ids, values = neighbours([kept.sample for kept in swept.kept], tick)
        for name, column in (("beside", ids), ("correlation", values)):
            at = COLUMNS.get_field_index(name)
            features = features.set_column(at, COLUMNS.field(at), pa.array(column.tolist(), COLUMNS.field(at).type))
        write_table(folder / EXAMPLES, examples, EXAMPLE_COLUMNS)
        write_table(folder / FEATURES, features, COLUMNS)
    for path in (path for paths in parts for path in paths):
        path.unlink(missing_ok=True)
    return pq.read_table(folder / FEATURES), pq.read_table(folder / EXAMPLES)
