"""The command that looks for prompts on which a feature fires most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hooke.cli.common import (
    BasisOpt,
    DeviceOpt,
    DtypeOpt,
    JsonOpt,
    ModelOpt,
    OutOpt,
    TextOpt,
    TransferOpt,
    app,
    deliver,
    opened,
    writable,
)
from hooke.methods.progress import VERB_STAGES
from hooke.tables import Cell, show_table
from hooke.terminal import Stages, tell

if TYPE_CHECKING:
    from hooke.results import Result

SHOWN = 12  # prompts of a front


@app.command()
def visualise(
    feature: Annotated[str, typer.Argument(help="12_345, or 12_345- for its side below zero.", show_default=False)],
    basis: BasisOpt = None,
    transfer: TransferOpt = False,
    text: TextOpt = None,
    tokens: Annotated[int, typer.Option(help="Of the text.", min=1)] = 20_000,
    length: Annotated[int, typer.Option(help="Tokens of a prompt.", min=2)] = 12,
    steps: Annotated[int, typer.Option(help="Of the search.", min=1)] = 60,
    seed: Annotated[int, typer.Option(help="Of the text's order and of the search.")] = 0,
    model: ModelOpt = None,
    json: JsonOpt = False,
    out: OutOpt = None,
    device: DeviceOpt = "auto",
    dtype: DtypeOpt = "auto",
) -> None:
    """Which prompt makes a feature fire most, and is it one that somebody would write?

    A search by slopes (EPO) for prompts that none beats in activation and likeliness, beside the largest activation in
    a text and a random search over as many prompts.

    \b
    hooke visualise 12_345
    hooke visualise 12_345- --length 16 --steps 200
    """
    writable(out)
    with Stages(VERB_STAGES["visualise"]) as stage:
        stage("load")
        from hooke.methods.visualise import visualise as run
        from hooke.model.load import load

        loaded = load(model, device=device, dtype=dtype)
        blocks: Any = opened(basis, loaded, transfer) if basis else "neurons"
        result = run(
            loaded, feature, basis=blocks, text=text or ["docs"], tokens=tokens, length=length, steps=steps, seed=seed,
            progress=stage,
        )  # fmt: skip
    deliver(result, json, out, show_visualisation)


def show_visualisation(result: Result) -> None:
    """The front, the text's own maximum, and the random search."""
    p = result.payload
    step = max(1, -(-len(p["front"]) // SHOWN))
    rows: list[list[Cell]] = [
        [f"{one['activation']:.2f}", f"{one['cost']:.2f}", one["text"]] for one in p["front"][::-1][::step]
    ]
    show_table(["activation", "nats a token", "prompt"], rows)
    tell(
        f"\nIn the text ({p['text_cost']:.2f} nats a token): {p['text_largest']:.2f} at the end of: {p['text_example']}"
    )
    tell(p["sentence"])
    for note in p["notes"]:
        tell(f"Note: {note}")
