"""The command that evaluates dictionaries."""

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
    app,
    deliver,
    writable,
    writable_page,
)
from hooke.methods.progress import VERB_STAGES
from hooke.tables import Cell, show_table
from hooke.terminal import Stages, tell

if TYPE_CHECKING:
    from hooke.results import Result

HEADS = {
    "random_decoder": "random decoder",
    "untrained": "un- trained",
    "neurons": "neurons, equal L0",
    "shuffled_labels": "shuffled labels",
    "dense_probe": "dense probe",
    "oracle": "the site itself",
}


@app.command()
def evaluate(
    dictionary: Annotated[Path, typer.Argument(help="A folder, as `hooke train` makes it or another tool.")],
    model: ModelOpt = None,
    text: Annotated[
        list[str] | None, typer.Option(help="docs (what is installed), a file, a folder, hub:org/name, or self.")
    ] = None,
    tokens: Annotated[int, typer.Option(help="To measure on.", min=1)] = 16_384,
    patched: Annotated[
        int | None, typer.Option(help="Of these, to run on with reconstructions put in; a sixth.", min=1)
    ] = None,
    context: Annotated[int, typer.Option(help="Tokens that the model reads at once.", min=2)] = 128,
    layers: Annotated[str | None, typer.Option(help="Of what is written: 10, 10-12, 0,5,9-11 or all.")] = None,
    measure: Annotated[
        list[str] | None,
        typer.Option(help="reconstruction, losses, replacement, jacobian, absorption or probing; all if not given."),
    ] = None,
    task: Annotated[list[str] | None, typer.Option(help="A packaged data set to probe on; else twelve.")] = None,
    control: Annotated[
        list[str] | None,
        typer.Option(help="random_decoder, untrained, neurons, pca, linear, mean or zero; all if not given."),
    ] = None,
    transfer: Annotated[bool, typer.Option("--transfer", help="Allow a dictionary of another model.")] = False,
    seed: Annotated[int, typer.Option(help="Of the order of texts, random rows and resamples.")] = 0,
    json: JsonOpt = False,
    out: OutOpt = None,
    html: HtmlOpt = None,
    device: DeviceOpt = "auto",
    dtype: DtypeOpt = "auto",
) -> None:
    """Measure a dictionary beside what it has to beat: a random decoder, neurons, an untrained one.

    On text that it was not trained on; the controls are fitted to other text again.

    \b
    hooke evaluate transcoders
    hooke evaluate transcoders --layers 10 --measure reconstruction --measure losses
    """
    writable(out)
    writable_page(html, out)
    with Stages(VERB_STAGES["evaluate"]) as stage:
        stage("load")
        from hooke.methods.evaluate import evaluate as run
        from hooke.model.load import load

        loaded = load(model, device=device, dtype=dtype)
        result = run(
            loaded, dictionary, text=text or ["docs"], tokens=tokens, patched=patched, context=context, layers=layers,
            measures=measure or [], tasks=task or [], controls=control or [], transfer=transfer, seed=seed,
            progress=stage,
        )  # fmt: skip
    deliver(result, json, out, show_evaluation, html)


def show_evaluation(result: Result) -> None:
    """Every metric with its controls as columns; each site where there are several; what was claimed."""
    p = result.payload
    blocks = p["dictionaries"]
    sites = list(dict.fromkeys(site for block in blocks for site in block["writes"]))
    tell(
        f"{p['dictionary']}: {sum(block['features'] for block in blocks):,} features that write {', '.join(sites)}. "
        f"{p['tokens']:,} tokens of {p['passages']:,} passages, {p['patched']:,} with reconstructions put in; controls "
        f"fitted to {p['fitted_to']:,}.\n"
    )
    metrics: dict[str, Any] = p["metrics"]
    names = [name for name in p["controls"] if any(name in metric["controls"] for metric in metrics.values())]
    rows: list[list[Cell]] = []
    for metric in metrics.values():
        ends = metric["interval"]
        shown = "" if ends is None else f"{_short(ends[0])} to {_short(ends[1])}"
        cells: list[Cell] = [metric["title"], (_short(metric["value"]), "bold"), shown]
        cells += [_short(metric["controls"][name]) if name in metric["controls"] else "" for name in names]
        rows.append(cells)
    show_table(["", "dictionary", "95 %", *(HEADS.get(name, name) for name in names)], rows)
    _show_sites(metrics)
    tell("\n" + p["sentence"] + "\n")
    _show_claims(result)
    for name, why in p["left_out"].items():
        tell(f"Not measured: {name}: {why}")
    for note in p["notes"]:
        tell(f"Note: {note}")
    tell("What each number and each control is: docs/evaluate.md, and in the result (--json).")


def _show_claims(result: Result) -> None:
    """What it beats, and what it does not: a line each."""
    from hooke.methods.evaluate.report import WORDS

    found: dict[str, dict[str, list[str]]] = {"tested": {}, "refuted": {}}
    for claim in result.claims[1:]:
        _, name, _, control = claim.evidence[0].split(".")
        title = result.payload["metrics"][name]["title"]
        found[claim.verdict].setdefault(title, []).append(WORDS[control])
    heads = {"tested": "It beats", "refuted": "It was not found to beat"}
    for verdict, titles in found.items():
        if titles:
            said = "; ".join(f"in {title}: {', '.join(names)}" for title, names in titles.items())
            tell(f"{heads[verdict]} (95 % intervals of the differences): {said}.")


def _show_sites(metrics: dict[str, Any]) -> None:
    """A row for each site and a column for each metric, where there are several sites."""
    sites = list(dict.fromkeys(block["name"] for metric in metrics.values() for block in metric["blocks"]))
    columns = [metric for metric in metrics.values() if len(metric["blocks"]) > 1]
    if not columns:
        return
    rows: list[list[Cell]] = []
    for site in sites:
        found = [next((b["value"] for b in metric["blocks"] if b["name"] == site), None) for metric in columns]
        if any(value is not None for value in found):
            rows.append([site, *map(_short, found)])
    tell("")
    show_table(["", *(metric["title"] for metric in columns)], rows)


def _short(value: float | None) -> str:
    """A number with about three digits."""
    if value is None:
        return "-"
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:.3f}"
