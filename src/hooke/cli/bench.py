"""`hooke bench truth`: score the circuit methods where the answer is known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hooke.cli.common import HtmlOpt, JsonOpt, OutOpt, app, deliver, writable, writable_page
from hooke.cli.patch import split
from hooke.tables import show_table
from hooke.terminal import Stages, show_scoreboard, tell

if TYPE_CHECKING:
    from hooke.results import Result

bench = typer.Typer(no_args_is_help=True, help="Score methods on models whose right answer is known.")
app.add_typer(bench, name="bench")


@bench.callback()
def _group() -> None:
    """Score methods on models whose right answer is known."""


@bench.command()
def truth(
    quick: Annotated[bool, typer.Option("--quick", help="One model of each family and kind: a few minutes.")] = False,
    program: Annotated[
        list[Path] | None,
        typer.Option(help="Score on this program file and not on Hooke's own models; repeatable. See docs/known.md."),
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option(help="Only these: compiled, siit (trained in), nodes (only nodes trained in).")
    ] = None,
    method: Annotated[list[str] | None, typer.Option(help="Only these methods; repeatable.")] = None,
    pairs: Annotated[int, typer.Option(help="Pairs of inputs for each model.", min=2, max=512)] = 24,
    seed: Annotated[int, typer.Option(help="Of the inputs, the masks and the random order.", min=0)] = 0,
    json: JsonOpt = False,
    out: OutOpt = None,
    html: HtmlOpt = None,
) -> None:
    """How well does each circuit method find a circuit that is known, and what does it cost?

    Interrupted, it goes on where it stopped when it is asked for again.

    \b
    hooke bench truth --quick
    hooke bench truth --program mine.rasp
    """
    writable(out)
    writable_page(html, out)
    with Stages(["models"]) as stage:
        from hooke.methods.circuit.find import METHODS, find_method
        from hooke.truth.known import KINDS
        from hooke.truth.scoreboard import scoreboard

        names = split(method) or list(METHODS)
        for name in names:
            find_method(name)
        result = scoreboard(
            quick=quick,
            programs=program or (),
            kinds=split(kind) or KINDS,
            methods=names,
            pairs=pairs,
            seed=seed,
            progress=stage,
        )
    deliver(result, json, out, show_scoreboard, html)


@bench.command()
def toys(
    seed: Annotated[int, typer.Option(help="Of the random models beside them.", min=0)] = 0,
    json: JsonOpt = False,
    out: OutOpt = None,
    html: HtmlOpt = None,
) -> None:
    """Do Hooke's tools return what is known to be in toy models: frequencies, induction heads, superposition?

    \b
    hooke bench toys
    """
    writable(out)
    writable_page(html, out)
    with Stages(["models"]) as stage:
        from hooke.truth.toys.check import toys as run

        result = run(seed=seed, progress=stage)
    deliver(result, json, out, show_toys, html)


def show_toys(result: Result) -> None:
    """The sentence, and every number with its unit and what it is."""
    from hooke.results.payloads import KINDS, numbers

    tell(result.payload["sentence"] + "\n")
    payload = KINDS["toys"].model_validate(result.payload)
    rows = [(n.place, n.about, f"{n.value:.4g}", n.unit) for n in numbers(payload)]
    show_table(("field", "what it is", "value", "unit"), rows, left=2)
