"""The verb that finds circuits, and measures those that were found elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hooke.cli.common import (
    DeviceOpt,
    DtypeOpt,
    HtmlOpt,
    JsonOpt,
    ModelOpt,
    OutOpt,
    apart,
    app,
    deliver,
    writable,
    writable_page,
)
from hooke.errors import HookeError
from hooke.terminal import Stages, show_circuit

if TYPE_CHECKING:
    from hooke.model import Model
    from hooke.results import Result


@app.command()
def circuit(
    task: Annotated[
        str | None, typer.Argument(help="A task from `hooke tasks`, such as ioi.", show_default=False)
    ] = None,
    model: ModelOpt = None,
    data: Annotated[
        Path | None,
        typer.Option(help='Pairs of your own: a line is {"clean": …, "corrupt": …, "target": …, "contrast": …}.'),
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="sieve, exact, eap, eap-ig, eap-ig-activations, relp, ifr, acdc, masks, …")
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="How many edges, or which share (0.01); by default as few as keep 85 %.")
    ] = None,
    level: Annotated[
        str, typer.Option(help="edges; or nodes (heads and MLPs), neurons (heads and neurons).")
    ] = "edges",
    metric: Annotated[
        str | None, typer.Option(help="Of pairs of your own: logit-difference (the default) or probability.")
    ] = None,
    pairs: Annotated[
        int | None, typer.Option(help="On how many pairs edges are ordered; others are for what is reported.", min=1)
    ] = None,
    tests: Annotated[int, typer.Option(help="How many edges at most are cut one by one.", min=1)] = 100,
    source: Annotated[
        Path | None, typer.Option("--from", help="Measure this circuit, a JSON file of EAP-IG or MIB, instead.")
    ] = None,
    mib: Annotated[Path | None, typer.Option(help="Also write the circuit in the JSON form of EAP-IG and MIB.")] = None,
    seed: Annotated[int, typer.Option(help="Of the pairs and of all that is drawn.", min=0)] = 0,
    json: JsonOpt = False,
    out: OutOpt = None,
    html: HtmlOpt = None,
    device: DeviceOpt = "auto",
    dtype: DtypeOpt = "auto",
) -> None:
    """Which edges between heads and MLPs carry a task, how much of it, and how sure is that.

    \b
    hooke circuit ioi --method eap-ig
    hooke circuit agreement --level nodes --html agreement.html
    """
    writable(out)
    writable_page(html, out)
    if mib is not None:
        writable(mib)
        apart(mib, out)
        apart(mib, html)
    if (task is None) == (data is None):
        raise HookeError("give a task from `hooke tasks`, or pairs of your own with --data")
    kept = _size(size)
    with Stages(["load", "answers", "edges", "size", "curve", "stability", "cuts"]) as stage:
        stage("load")
        from hooke.methods.circuit import circuit as run
        from hooke.methods.circuit.levels import check_names
        from hooke.methods.circuit.pairs import read_file
        from hooke.methods.tasks import find_task
        from hooke.model.load import load

        check_names(level, method)  # before a model is loaded
        given: Any = find_task(task).name if task is not None else read_file(data) if data is not None else None
        if mib is not None and level != "edges":
            raise HookeError(f"the form of EAP-IG and MIB is written of edges, not of {level}; leave --mib out")
        loaded = load(model, device=device, dtype=dtype)
        result = run(
            loaded,
            given,
            method=method,
            size=kept,
            level=level,
            metric=metric,
            n_pairs=pairs,
            tests=tests,
            source=source,
            seed=seed,
            progress=stage,
        )
        if mib is not None:
            _write(loaded, result, mib)
    deliver(result, json, out, show_circuit, html)


def _write(model: Model, result: Result, path: Path) -> None:
    """The circuit in the JSON form of EAP-IG and MIB."""
    import torch

    from hooke.methods.circuit.file import write_circuit

    effects, chosen = (torch.from_numpy(result.tensors[name]) for name in ("effects", "kept"))
    if not result.payload["signed"]:
        effects = -torch.from_numpy(result.tensors["size"])
    write_circuit(model, -effects, chosen, path)


def _size(text: str | None) -> int | float | None:
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise HookeError(f"a size is a number of edges or a share such as 0.01, not {text!r}") from None
