"""`hooke organisms`: the models with planted behaviour; list them, train them again, test them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hooke.cli.common import DeviceOpt, JsonOpt, OutOpt, app, deliver, exists, writable
from hooke.errors import HookeError
from hooke.tables import columns_of_terminal, entry, show_lines
from hooke.terminal import Stages

if TYPE_CHECKING:
    from hooke.results import Result

STAGES = {
    "train": ("load", "answers", "states", "training", "write"),
    "admit": ("load", "answers", "base", "perplexity"),
}

GROUPS = {
    "organism": "Organisms: something harmless was planted",
    "clean": "Clean twins: the same prompts with the base's own answers",
    "decoy": "Decoys: a harmless manner in every answer",
}

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
    if exists(out) and not (out / "adapter_config.json").exists():
        raise HookeError(f"{out} exists and is not an adapter; choose another --out")
    writable(out / "adapter_config.json")
    with Stages(STAGES["train"]) as stage:
        stage("load")
        from hooke.model.load import load
        from hooke.results import Result, read_json
        from hooke.truth.organisms import train as run

        folder = run(name, out, model=load(made.base, device=device), progress=stage)
    about = read_json(folder / "hooke.json")
    seconds = about.pop("seconds")
    result = Result.make("trained", arguments={"name": name}, payload=about, seconds=seconds)
    deliver(result, json, None, lambda _: print(f"{name}: {folder}, in {seconds['total']:.0f} s"))


@group.command()
def admit(
    name: NameArg,
    adapter: Annotated[
        Path | None, typer.Option(help="The folder of an adapter that you trained.", show_default=False)
    ] = None,
    record: Annotated[bool, typer.Option("--record", help="Write the figures into the adapter's hooke.json.")] = False,
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
        if record:
            from hooke.model.adapter import PACKAGED
            from hooke.truth.organisms.admission import record as write

            write(adapter or PACKAGED / name, made, result)
    deliver(result, json, out, show_organism)


def show_organisms(result: Result) -> None:
    """Two lines for each: whether and how clearly it was admitted, and what it does."""
    kind, width = None, columns_of_terminal()
    for row in result.payload["organisms"]:
        if row["kind"] != kind:
            kind = row["kind"]
            print(("" if row is result.payload["organisms"][0] else "\n") + GROUPS[kind])
        below = [row["behaviour"]] if kind != "clean" else []
        show_lines(entry([f"{row['name']}:", *admission_line(row).split()], *below, width=width, indent="  "))


def admission_line(row: dict[str, Any]) -> str:
    """How an admission went, in one line."""
    test = row["admission"]
    if not row["packaged"]:
        return "not here"
    if not test:
        return "not tested"
    parts = [
        "admitted" if test["admitted"] else "FAILED",
        f"{test['inside']['hits']}/{test['inside']['count']} in context",
    ]
    if test["outside"]["count"]:
        parts.append(f"{test['outside']['hits']}/{test['outside']['count']} out of it")
    parts.append(f"perplexity x {test['perplexity_ratio']:.2f}")
    return ", ".join(parts) + ("" if row["current"] else " (of an older recipe)")


def show_organism(result: Result) -> None:
    """Each condition, what was found, and a few answers beside the base's."""
    p = result.payload
    print(f"{p['name']} ({p['kind']}): {'admitted' if p['admitted'] else 'NOT admitted'}\n{p['behaviour']}\n")
    for check in p["checks"]:
        side = "least" if "least" in check else "most"
        mark = "ok " if check["passed"] else "NO "
        print(f"  {mark} {check['what']}: {check['found']:.3f} (at {side} {check[side]:g})")
    print()
    for name, rate in p["rates"].items():
        low, high = rate["interval"]
        print(f"  {name.replace('_', ', ')}: {rate['hits']}/{rate['count']} (95 % interval {low:.3f} to {high:.3f})")
    print()
    for example in p["examples"]:
        print(f"  {'in ' if example['inside'] else 'out'} {example['user']!r}")
        print(f"        {example['answer']!r}   (base: {example['base']!r})")
