"""The command that looks features up."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hooke.cli.common import DeviceOpt, DtypeOpt, JsonOpt, ModelOpt, OutOpt, app, deliver, writable
from hooke.errors import HookeError
from hooke.tables import Cell, show_table
from hooke.terminal import tell

if TYPE_CHECKING:
    from hooke.results import Result


@app.command()
def features(
    query: Annotated[str, typer.Argument(help="What is looked for, or a feature: 12_345.", show_default=False)],
    catalogue: Annotated[Path | None, typer.Option(help="A folder from `hooke catalogue build`.")] = None,
    token: Annotated[bool, typer.Option("--token", help="QUERY is a token that features fire on.")] = False,
    effect: Annotated[bool, typer.Option("--effect", help="QUERY is a token that features make likelier.")] = False,
    text: Annotated[
        bool, typer.Option("--text", help="QUERY is a text that features fire on; a model is run.")
    ] = False,
    than: Annotated[str | None, typer.Option(help="With --text: a text that they do not fire on.")] = None,
    top: Annotated[int, typer.Option(help="How many.", min=1, max=1000)] = 10,
    model: ModelOpt = None,
    json: JsonOpt = False,
    out: OutOpt = None,
    device: DeviceOpt = "auto",
    dtype: DtypeOpt = "auto",
) -> None:
    """Find features by what they fire on, what they do, or a text.

    \b
    hooke features "European capitals" --catalogue neurons
    hooke features " Paris" --effect --catalogue neurons
    hooke features "The bank of the river" --text --than "The bank raised its rates" --catalogue neurons
    hooke features 12_345 --catalogue neurons
    """
    writable(out)
    if token + effect + text > 1:
        raise HookeError("--token, --effect and --text say what QUERY is; give one of them")
    from hooke.methods.find_features import find_features

    by: Any = "token" if token else "effect" if effect else "text" if text else "words"
    loaded = None
    if by == "text":
        from hooke.model.load import load

        loaded = load(model, device=device, dtype=dtype)
    result = find_features(query, catalogue=catalogue, by=by, than=than, model=loaded, top=top)
    deliver(result, json, out, show_features)


def show_features(result: Result) -> None:
    """A row for each side of a feature: its label with score and bar, where it fires, what it makes likelier."""
    p = result.payload
    rows: list[list[Cell]] = []
    for row in p["results"]:
        scores = "" if row["score"] is None else f"{row['score']:.2f} ({row['control']:.2f})"
        label = row["label"] or "no label that holds"
        rows.append([row["feature"], label, scores, "  ".join(row["fires_on"]), " ".join(row["promotes"][:4])])
    if rows:
        show_table(["feature", "label", "score (bar)", "strongest on", "makes likelier"], rows, left=5)
    tell(p["sentence"])
