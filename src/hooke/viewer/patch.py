"""The view of patches and of estimates of them: a heatmap for each site and method; the rest stays a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hooke.results.payloads.common import Prompts
from hooke.results.payloads.patch import Attribution, Patch
from hooke.viewer.schema import PatchGrid, PatchView

DRAWN = {"values", "normalised", "scores", "exact", "sentence", "tokens", "layers", "units", "positions", "pairs"}


def patch_view(p: Patch) -> PatchView:
    """Heatmaps of patches."""
    tokens = _of_base(p.tokens, p.base)
    columns = ["all positions"] if p.positions is None else [tokens[i] for i in p.positions]
    grids = [
        _grid(name, p.layers[name], p.units[name], columns, values, p.normalised[name])
        for name, values in p.values.items()
    ]
    return PatchView(sentence=p.sentence, grids=grids, rest=p.model_dump(exclude=DRAWN))


def attribution_view(p: Attribution) -> PatchView:
    """Heatmaps of estimates of patches, after the patches themselves."""
    pair = p.pairs[0]
    columns = _of_base(pair.tokens, p.base)
    span = (pair.clean - pair.corrupt) * (1 if p.base == "corrupt" else -1)
    by_method = {"patches": p.exact or {}, **p.scores}
    grids = [
        _grid(f"{site}, {method}", p.layers[site], p.units[site], columns, values, _scaled(values, 1 / span))
        for method, by_site in by_method.items()
        for site, values in by_site.items()
    ]
    return PatchView(sentence=p.sentence, grids=grids, rest=p.model_dump(exclude=DRAWN))


def _of_base(tokens: Prompts, base: str) -> list[str]:
    return tokens.clean if base == "clean" else tokens.corrupt or []


def _scaled(x: Any, factor: float) -> Any:
    return [_scaled(y, factor) for y in x] if isinstance(x, list) else None if x is None else x * factor


def _grid(
    title: str,
    layers: Sequence[int | None],
    units: Sequence[int] | None,
    columns: list[str],
    values: list[Any],
    shares: list[Any] | None,
) -> PatchGrid:
    note = ""
    if units is not None:
        if len(columns) > 1:
            note = "each head or unit at the position where it moves most"
        best = [[_strongest(cells) for cells in row] for row in (values if shares is None else shares)]
        values = _picked(values, best)
        shares = None if shares is None else _picked(shares, best)
        columns = [str(unit) for unit in units]
    rows = ["end" if layer is None else str(layer) for layer in layers]
    return PatchGrid(title=title, columns=columns, rows=rows, values=values, shares=shares, note=note)


def _strongest(cells: list[float | None]) -> int:
    return max(range(len(cells)), key=lambda i: abs(cells[i] or 0.0))


def _picked(values: list[Any], at: list[list[int]]) -> list[Any]:
    return [[cells[i] for cells, i in zip(row, where, strict=True)] for row, where in zip(values, at, strict=True)]
