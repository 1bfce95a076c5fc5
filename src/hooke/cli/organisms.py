"""`hooke organisms`: the models with planted behaviour; list them, train them again, test them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hooke.cli.common import DeviceOpt, JsonOpt, OutOpt, app, deliver, writable
from hooke.errors import HookeError
from hooke.terminal import Stages, show_organism, show_organisms

STAGES = {"train": ("load", "answers", "states", "training", "write"), "admit": ("load", "answers", "base", "perplexity")}

group = typer.Typer(invoke_without_command=True, help="Models with planted behaviour, to try detectors on.")
app.add_typer(group, name="organisms")

NameArg = Annotated[str, typer.Argument(help="A name from `hooke organisms`.", show_default=False)]


@group.callback()
def organisms(context: typer.Context, json: JsonOpt = False, out: OutOpt = None) -> None:
    """Which models with planted behaviour there are, with their clean twins and decoys, and how they were tested.

    \b
    hooke organisms
    hooke organisms train organism-word --out my-organism
    hooke organisms admit organism-word
    """
    if context.invoked_subcommand is not None:
        if json or out is not None:
            raise HookeError(f"put options after the verb: hooke organisms {context.invoked_subcommand} … --json")
        return
    from hooke.results import Result
    from hooke.truth.organisms import listing

    writable(out)
    result = Result.make("organisms", payload={"organisms": listing()}, seconds={"total": 0.0})
    deliver(result, json, out, show_organisms)


@group.command()
def train(
    name: NameArg,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder for the adapter.", show_default=False)],
    json: JsonOpt = False,
    device: DeviceOpt = "auto",
) -> None:
    """Train one recipe on its base and write the adapter; a run that is stopped leaves nothing behind."""
    from hooke.truth.organisms import recipe

    made = recipe(name)
    if out.exists() and not (out / "adapter_config.json").exists():
        raise HookeError(f"{out} exists and is not an adapter; choose another --out")
    writable(out / "adapter_config.json")
    with Stages(STAGES["train"]) as stage:
        stage("load")
        from hooke.model.load import load
        from hooke.results import Result, read_json
        from hooke.truth.organisms import train as run

        folder = run(name, out, model=load(made.base, device=device), progress=stage)
    about = read_json(folder / "hooke.json")
    result = Result.make("trained", arguments={"name": name}, payload=about, seconds=about["seconds"])
    deliver(result, json, None, lambda _: print(f"{name}: {folder}, in {about['seconds']['total']:.0f} s"))


@group.command()
def admit(
    name: NameArg,
    adapter: Annotated[
        Path | None, typer.Option(help="The folder of an adapter that you trained.", show_default=False)
    ] = None,
    json: JsonOpt = False,
    out: OutOpt = None,
    device: DeviceOpt = "auto",
) -> None:
    """Test one organism on held-out prompts: behaviour in context, outside it, and neutral perplexity."""
    from hooke.truth.organisms import recipe

    writable(out)
    made = recipe(name)
    with Stages(STAGES["admit"]) as stage:
        stage("load")
        from hooke.model.load import load
        from hooke.truth.organisms import admit as run

        organism = load(adapter or name, device=device)
        result = run(organism, name, base=load(made.base, device=device), progress=stage)
    deliver(result, json, out, show_organism)
