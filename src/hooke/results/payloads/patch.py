"""Payloads of patches, path patches and estimates of them."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from hooke.results.payloads.base import Part, Payload, told
from hooke.results.payloads.common import Ends, Grid, NamedToken, Prompts, Side


def check_grid(grid: Grid, layers: list[int | None], units: list[int] | None, columns: int) -> None:
    """Raise ValueError unless a grid is [layer][position], or [layer][unit][position], of these sizes."""
    rows = [row for layer in grid for row in (layer if units is not None else [layer])]
    sizes = {len(row) if isinstance(row, list) and not any(isinstance(x, list) for x in row) else -1 for row in rows}
    per_layer = {len(layer) for layer in grid} if units is not None else {len(units or ())}
    if not columns or len(grid) != len(layers) or sizes != {columns} or per_layer != {len(units or ())}:
        raise ValueError("a grid has an entry for each layer, head or unit, and position")


class Patch(Payload):
    """Values of one run put into another, place by place, and what that does to the answer."""

    made_by: ClassVar[str] = "hooke patch"
    tokens: Prompts = told("of both prompts")
    base: Side = told("the prompt that is run with values put in")
    positions: list[int] | None = told("of the columns; null where all are patched at once", "position", "column")
    target: NamedToken | None = told("what the metric is about")
    contrast: NamedToken | None = told("what it is compared with")
    clean: float = told("the metric of the clean prompt", "metric")
    corrupt: float | None = told("the metric of the corrupt prompt", "metric")
    layers: dict[str, list[int | None]] = told("rows of each grid; null for the end", "layer", "site row")
    units: dict[str, list[int] | None] = told("heads or units of each grid", "head or unit", "site unit")
    values: dict[str, Grid] = told(
        "the metric after each patch; null where the prompts share no position", "metric",
        "site layer [unit] position",
    )  # fmt: skip
    normalised: dict[str, Grid | None] = told(
        "the same as a share: 0 the unpatched run, 1 the other one", "share", "site layer [unit] position"
    )
    patches: int = told("how many patches that are", "patches")
    runs: int = told("how many of them could change anything and were run", "patches")
    notes: list[str] = told("what a reader must know first", axes="note")
    sentence: str = told("the strongest patch in words")

    @model_validator(mode="after")
    def _is_rectangular(self) -> Patch:
        tokens = self.tokens.clean if self.base == "clean" else self.tokens.corrupt
        if tokens is None or not all(0 <= i < len(tokens) for i in self.positions or ()):
            raise ValueError("positions are places in the base")
        if not self.layers.keys() == self.units.keys() == self.values.keys() == self.normalised.keys():
            raise ValueError("layers, units, values and normalised are of the same sites")
        for site, grid in self.values.items():
            for each in (grid, self.normalised[site]):
                if each is not None:
                    columns = 1 if self.positions is None else len(self.positions)
                    check_grid(each, self.layers[site], self.units[site], columns)
        return self


class EdgeRow(Part):
    """One edge, and the metric when it alone carries the other prompt."""

    edge: str = told("as a3.h1->m5")
    value: float = told("the metric", "metric")
    normalised: float = told("share of the difference between the prompts", "share")


class PathPatch(Payload):
    """One node's changed output sent into one other node's input, edge by edge."""

    made_by: ClassVar[str] = "hooke patch --edge"
    clean: float = told("the metric of the clean prompt", "metric")
    corrupt: float = told("the metric of the corrupt prompt", "metric")
    edges: list[EdgeRow] = told("in the order they were asked for", axes="edge")
    sentence: str = told("the strongest edge in words")
    notes: list[str] = told("what a reader must know first", axes="note")


class AttributedPair(Part):
    """A pair of prompts that patches were estimated for."""

    clean_text: str = told("the clean prompt")
    corrupt_text: str = told("the corrupt prompt")
    clean_ids: list[int] = told("its tokens", "token id", "position")
    corrupt_ids: list[int] = told("its tokens", "token id", "position")
    tokens: Prompts = told("of both prompts")
    target: NamedToken | None = told("what the metric is about")
    contrast: NamedToken | None = told("what it is compared with")
    notes: list[str] = told("what a reader must know first", axes="note")
    clean: float = told("the metric of the clean prompt", "metric")
    corrupt: float = told("the metric of the corrupt prompt", "metric")


class Correlations(Part):
    """How well estimates and patches agree; null where too few places differ."""

    pearson: float | None = told("linear correlation", "correlation")
    spearman: float | None = told("of ranks, signed", "rank correlation")
    spearman_size: float | None = told("of ranks of sizes", "rank correlation")


class Intervals(Part):
    """95 % intervals by bootstrap over pairs."""

    pearson: Ends | None = told("of the linear correlation", "correlation", "low high")
    spearman: Ends | None = told("of ranks", "rank correlation", "low high")
    spearman_size: Ends | None = told("of ranks of sizes", "rank correlation", "low high")


class Agreement(Correlations):
    """The same with what it rests on."""

    n_places: int = told("places whose value differs", "places")
    n_pairs: int = told("pairs of prompts", "pairs")
    intervals: Intervals | None = told("null for fewer than three pairs")


class Attribution(Payload):
    """Estimates of what every patch would do, and how well they agree with patches."""

    made_by: ClassVar[str] = "hooke attribute"
    pairs: Annotated[list[AttributedPair], Field(min_length=1)] = told("the prompts", axes="pair")
    base: Side = told("the prompt that would be patched")
    layers: dict[str, list[int | None]] = told("rows of each grid; null for the end", "layer", "site row")
    units: dict[str, list[int] | None] = told("heads or units of each grid", "head or unit", "site unit")
    scores: dict[str, dict[str, Grid]] = told(
        "estimated change of the metric, of the first pair", "metric", "method site layer [unit] position"
    )
    exact: dict[str, Grid] | None = told("the change itself, of the first pair", "metric", "site layer [unit] position")
    agreement: dict[str, Agreement] = told("of each method with the patches", axes="method")
    sentence: str = told("which method comes closest")

    @model_validator(mode="after")
    def _is_rectangular(self) -> Attribution:
        pair = self.pairs[0]
        tokens = pair.tokens.clean if self.base == "clean" else pair.tokens.corrupt
        if pair.clean == pair.corrupt or tokens is None:
            raise ValueError("the two prompts of a pair differ, and in the metric too")
        for by_site in (*self.scores.values(), self.exact or {}):
            for site, grid in by_site.items():
                if site not in self.layers or site not in self.units:
                    raise ValueError("layers and units are of the same sites as scores")
                check_grid(grid, self.layers[site], self.units[site], len(tokens))
        return self
