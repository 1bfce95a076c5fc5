"""Probes: `hooke probe fit`, `test`, `list`."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    exists,
    writable,
    writable_page,
)
from hooke.errors import HookeError
from hooke.files import is_file
from hooke.terminal import Stages, show_probe, show_probe_explain, show_probe_list, show_probe_test

if TYPE_CHECKING:
    from hooke.data.labelled.rows import Dataset, Row

FILE = "probe.json"
KEPT = ".activations"  # of a fit that is not finished
group = typer.Typer(no_args_is_help=True, help="Detectors of a concept: fitted, chosen honestly, and tested.")
app.add_typer(group, name="probe")

FitOut = Annotated[Path | None, typer.Option("--out", "-o", help="A folder for the probe: probe.json and its weights.")]
PositiveOpt = Annotated[
    str | None, typer.Option(help="Which label is label 1, when a file's labels are two words: --positive spam.")
]
TextOpt = Annotated[str, typer.Option("--text", help="The column of a file that holds the text.")]
LabelOpt = Annotated[str, typer.Option("--label", help="The column of a file that holds the label.")]


@group.command()
def fit(
    data: Annotated[str, typer.Argument(help="A name from `hooke probe list`, or a file.", show_default=False)],
    model: ModelOpt = None,
    kind: Annotated[
        list[str] | None, typer.Option(help="logistic, means, lda, lat, ccs, sparse, attention, ensemble; repeatable.")
    ] = None,
    site: Annotated[
        list[str] | None, typer.Option(help="A point for all its layers (resid_post), or sites (resid_post.12).")
    ] = None,
    pool: Annotated[list[str] | None, typer.Option(help="last, mean, max, ema, rolling; repeatable.")] = None,
    template: Annotated[str | None, typer.Option(help="A text with {text} that is put around each statement.")] = None,
    random_weights: Annotated[
        bool, typer.Option("--random-weights/--no-random-weights", help="The control on a model that learned nothing.")
    ] = True,
    text: TextOpt = "text",
    label: LabelOpt = "label",
    positive: PositiveOpt = None,
    seed: Annotated[int, typer.Option(help="Of the splits and controls.", min=0, max=2**31)] = 0,
    json: JsonOpt = False,
    out: FitOut = None,
    html: HtmlOpt = None,
    device: DeviceOpt = "auto",
    dtype: DtypeOpt = "auto",
) -> None:
    """Fit a probe and choose its kind, layer, pooling and strength on folds that leave topics out.

    \b
    hooke probe fit truth --out probes/truth
    hooke probe fit mine.csv --kind logistic --kind attention --out probes/mine
    """
    if out is not None:
        if is_file(out):
            raise HookeError(f"{out} is a file; give --out a folder for the probe")
        writable(out / FILE)
    writable_page(html)
    rows = labelled(data, text, label, positive, seed)
    stages = ["load", "activations", "fit", *(["random weights"] if random_weights else []), "report"]
    with Stages(stages) as stage:
        stage("load")
        from hooke.methods.probe import KINDS, probe
        from hooke.model.load import load

        result = probe(
            load(model, device=device, dtype=dtype),
            rows,
            kind=kind or KINDS,
            site=(site[0] if len(site) == 1 else site) if site else "resid_post",
            pool=pool or ("last", "mean"),
            template=template,
            random_weights=random_weights,
            seed=seed,
            keep=None if out is None else out / KEPT,
            progress=stage,
        )
    if out is not None:
        shutil.rmtree(out / KEPT, ignore_errors=True)
    deliver(result, json, None if out is None else out / FILE, show_probe, html)


@group.command()
def test(
    folder: Annotated[Path, typer.Argument(help="What `hooke probe fit --out` wrote.", show_default=False)],
    data: Annotated[str, typer.Option(help="Labelled rows: a file with text and label, or a packaged name.")],
    model: ModelOpt = None,
    benign: Annotated[
        str, typer.Option(help="Unrelated texts for the threshold: how many of the packaged ones, or a file of yours.")
    ] = "1000",
    transfer: Annotated[bool, typer.Option("--transfer", help="Allow a probe of another model; recorded.")] = False,
    text: TextOpt = "text",
    label: LabelOpt = "label",
    positive: PositiveOpt = None,
    json: JsonOpt = False,
    out: OutOpt = None,
    html: HtmlOpt = None,
    device: DeviceOpt = "auto",
    dtype: DtypeOpt = "auto",
) -> None:
    """Test a probe on rows it never saw, beside the baselines it has to beat.

    \b
    hooke probe test probes/truth --data statements.jsonl
    """
    writable(out)
    writable_page(html, out)
    stages = ["load", "activations", "random weights", "benign texts", "report"]
    from hooke.methods.probe.score import load_probe

    fitted = load_probe(folder)
    rows = labelled(data, text, label, positive, int(fitted.payload["dataset"]["seed"]))
    if fitted.payload["dataset"]["sha256"] == rows.sha256:
        rows = shifts_of(rows)
    with Stages(stages) as stage:
        stage("load")
        from hooke.methods.probe.judge import probe_test
        from hooke.model.load import load

        calm = int(benign) if benign.isdecimal() and len(benign) < 10 else quiet(benign, text)
        loaded = load(model or known_model(str(fitted.payload["belongs_to"]["model"])), device=device, dtype=dtype)
        result = probe_test(loaded, fitted, rows, benign=calm, transfer=transfer, progress=stage)
    deliver(result, json, out, show_probe_test, html)


@group.command()
def explain(
    folder: Annotated[Path, typer.Argument(help="What `hooke probe fit --out` wrote.", show_default=False)],
    said: Annotated[str, typer.Argument(metavar="TEXT", help="The text to explain. Quote it.", show_default=False)],
    model: ModelOpt = None,
    neurons: Annotated[int, typer.Option(help="How many of the strongest neurons to switch off.", min=1)] = 20,
    controls: Annotated[int, typer.Option(help="How many draws of random neurons to compare with.", min=1)] = 5,
    transfer: Annotated[bool, typer.Option("--transfer", help="Allow a probe of another model; recorded.")] = False,
    seed: Annotated[int, typer.Option(help="Of the random neurons.", min=0, max=2**31)] = 0,
    json: JsonOpt = False,
    out: OutOpt = None,
    html: HtmlOpt = None,
    device: DeviceOpt = "auto",
    dtype: DtypeOpt = "auto",
) -> None:
    """Why a probe gives a text its score: the tokens, layers and neurons, tested in the live model.

    \b
    hooke probe explain probes/truth "Paris is the capital of Italy."
    """
    writable(out)
    writable_page(html, out)
    with Stages(["load", "forward", "interventions"]) as stage:
        stage("load")
        from hooke.methods.probe.explain import probe_explain
        from hooke.methods.probe.score import load_probe
        from hooke.model.load import load

        fitted = load_probe(folder)
        loaded = load(model or known_model(str(fitted.payload["belongs_to"]["model"])), device=device, dtype=dtype)
        result = probe_explain(
            loaded, fitted, said, neurons=neurons, controls=controls, seed=seed, transfer=transfer, progress=stage
        )
    deliver(result, json, out, show_probe_explain, html)


@group.command(name="list")
def list_(json: JsonOpt = False, out: OutOpt = None) -> None:
    """The packaged data sets: what is labelled, how many rows, which shifts are held out."""
    from hooke.data.labelled.registry import dataset, dataset_names
    from hooke.results import Result

    writable(out)
    rows = []
    for name in dataset_names():
        made = dataset(name)
        rows.append(
            {
                "name": name,
                "about": made.about,
                "labels": list(made.labels),
                "rows": len(made.train),
                "shifts": {shift: sum(row.topic == shift for row in made.rows) for shift in made.shifts},
            }
        )
    deliver(Result.make("datasets", payload={"datasets": rows}, seconds={"total": 0.0}), json, out, show_probe_list)


def labelled(data: str, text: str, label: str, positive: str | None, seed: int) -> Dataset:
    """A packaged data set by its name, or the rows of a file or of a data set on the hub."""
    from hooke.data.labelled.readers import read_rows
    from hooke.data.labelled.registry import dataset, dataset_names

    if len(data) > 4000:
        raise HookeError("the name of the data is too long")
    if data in dataset_names() or not (exists(Path(data)) or any(mark in data for mark in "/.:")):
        return dataset(data, seed=seed)  # which says what there is, if this is none
    made = read_rows(data, text=text, label=label, positive=positive)
    name = data if data.startswith("hub:") else Path(data).name  # not where it lies
    return replace(made, name=name, about=made.about.replace(data, name))


def shifts_of(rows: Dataset) -> Dataset:
    """Of the data set that a probe was fitted to, only what was declared out of distribution."""
    if not rows.shifts:
        raise HookeError(f"the probe was fitted to {rows.name}, which declares no shifts; give other rows with --data")
    return replace(rows, rows=rows.shifted, shifts=())


def quiet(path: str, text: str) -> list[Row]:
    """Unrelated benign texts of a file, with labels or without."""
    from hooke.data.labelled.readers import read_rows

    return list(read_rows(path, text=text, one_class=True).rows)


def known_model(name: str) -> str:
    """The model a probe names, if it is one of the known ones: a file must not choose what is fetched."""
    from hooke.model.zoo import known_models

    if name not in [row["name"] for row in known_models()]:
        raise HookeError(f"this probe was fitted to {name[:100]!r}; give that model with --model")
    return name
