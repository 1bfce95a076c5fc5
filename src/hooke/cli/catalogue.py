"""The commands that make catalogues of features."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hooke.cli.common import DeviceOpt, DtypeOpt, JsonOpt, ModelOpt, TextOpt, TransferOpt, app, deliver, opened
from hooke.methods.progress import VERB_STAGES
from hooke.tables import Cell, show_table
from hooke.terminal import Stages, tell

if TYPE_CHECKING:
    from hooke.results import Result

group = typer.Typer(no_args_is_help=True, help="What every neuron or feature fires on and does, with scored labels.")
app.add_typer(group, name="catalogue")


@group.command()
def build(
    out: Annotated[Path, typer.Option("--out", "-o", help="A folder; one that was stopped goes on.")],
    basis: Annotated[str, typer.Option(help="neurons, or a folder of trained dictionaries.")] = "neurons",
    model: ModelOpt = None,
    text: TextOpt = None,
    tokens: Annotated[int, typer.Option(help="Of the text.", min=1)] = 200_000,
    context: Annotated[int | None, typer.Option(help="Tokens read at once; 256 if not given.", min=2)] = None,
    layers: Annotated[str | None, typer.Option(help="Of the basis: 10, 10-12, 0,5,9-11 or all.")] = None,
    transfer: TransferOpt = False,
    checkpoint_seconds: Annotated[float, typer.Option(help="Between two places to go on from.", min=0)] = 120.0,
    seed: Annotated[int, typer.Option(help="Of the text's order and of samples.")] = 0,
    json: JsonOpt = False,
    device: DeviceOpt = "auto",
    dtype: DtypeOpt = "auto",
) -> None:
    """Make a catalogue: what each feature fires on, what it makes likelier, and a label where one holds.

    One pass over text; the same command on a folder that was stopped goes on where it stood.

    \b
    hooke catalogue build --basis neurons --text docs --out neurons
    hooke catalogue build --basis transcoders --text docs --text self:0.1 --out features
    """
    with Stages(VERB_STAGES["catalogue"]) as stage:
        stage("load")
        from hooke.methods.catalogue import catalogue as run
        from hooke.model.load import load

        loaded = load(model, device=device, dtype=dtype)
        blocks: Any = basis if basis == "neurons" else opened([Path(basis)], loaded, transfer)

        def expected(line: str) -> None:
            stage.note = line

        result = run(
            loaded, out=out, basis=blocks, text=text or ["docs"], tokens=tokens, context=context, layers=layers,
            checkpoint_seconds=checkpoint_seconds, seed=seed, say=expected, progress=stage,
        )  # fmt: skip
    deliver(result, json, None, show_catalogue)
    if not json:
        tell(f"\nLook one up: hooke features 12_345 --catalogue {out}")


def show_catalogue(result: Result) -> None:
    """How many labels hold, and how well descriptions tell where features fire, by level."""
    p = result.payload
    labels = p["labels"]
    tell(
        f"{p['features']:,} features with {p['sides']} side{'s' * (p['sides'] > 1)} each, {p['tokens']:,} tokens of "
        f"{', '.join(p['kinds'])}; {p['examples']:,} examples; {p['bytes'] / 2**20:,.0f} MB.\n"
    )
    rows: list[list[Cell]] = [
        [str(row["level"]), _number(row["detection"]), _number(row["control"]), f"{row['features']:,}"]
        for row in p["levels"]
    ]
    show_table(["level", "detection", "others' descriptions", "sides"], rows)
    tell(
        f"\nLabels: {labels['input']:,} by what they fire on, {labels['output']:,} by what they make likelier, "
        f"{labels['both']:,} by both; {labels['obscure']:,} without a label that holds."
    )
    tell(p["sentence"])
    for note in p["notes"]:
        tell(f"Note: {note}")
    tell(f"All that is in it: {p['hash'][:16]}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
