"""The command that trains dictionaries."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hooke.cli.common import DeviceOpt, DtypeOpt, JsonOpt, ModelOpt, TextOpt, app, deliver
from hooke.methods.progress import VERB_STAGES
from hooke.tables import Cell, show_table
from hooke.terminal import Stages, say, tell

if TYPE_CHECKING:
    from hooke.results import Result

KindArg = Annotated[
    str,
    typer.Argument(
        help="relu, gated, topk, batchtopk, jumprelu, jumprelu-tanh, matryoshka, record, transcoder, "
        "skip-transcoder, clt or crosscoder."
    ),
]
TokensOpt = Annotated[
    int | None, typer.Option(help="Of the text, a million if not given; a twentieth is held out.", min=1)
]
ActivationsOpt = Annotated[
    str | None, typer.Option(help="A harvest to read (hooke harvest) instead of a text.", metavar="FOLDER")
]
AgainstOpt = Annotated[str | None, typer.Option(help="Of a crosscoder: the other model, as --model.", metavar="MODEL")]
ApartOpt = Annotated[
    float | None, typer.Option(help="Of a crosscoder: which share of the features each model has to itself.")
]
PrecisionOpt = Annotated[
    str, typer.Option(help="In which features are compared with each other: auto, float32 or bfloat16.")
]
PatienceOpt = Annotated[
    int, typer.Option(help="Stop if nothing gets better for so many of twenty looks; 0: never.", min=0)
]


@app.command()
def train(
    kind: KindArg,
    out: Annotated[Path, typer.Option("--out", "-o", help="A folder; one that was stopped goes on.")],
    model: ModelOpt = None,
    site: Annotated[
        list[str] | None, typer.Option(help="Of autoencoders: resid_post.10, or a point with --layers; several.")
    ] = None,
    layers: Annotated[str | None, typer.Option(help="10, 10-12, 0,5,9-11 or all.")] = None,
    text: TextOpt = None,
    tokens: TokensOpt = None,
    activations: ActivationsOpt = None,
    features: Annotated[int | None, typer.Option(help="Of a block; 16 times the width if not given.", min=1)] = None,
    gate: Annotated[str | None, typer.Option(help="How features of a transcoder or crosscoder fire: topk, …")] = None,
    k: Annotated[list[int] | None, typer.Option(help="Features of a token; several train several.", min=1)] = None,
    penalty: Annotated[list[float] | None, typer.Option(help="On features that fire; several train several.")] = None,
    against: AgainstOpt = None,
    apart: ApartOpt = None,
    batch: Annotated[int | None, typer.Option(help="Tokens of a step; 64 to 4,096 if not given.", min=1)] = None,
    epochs: Annotated[int, typer.Option(help="How often the tokens come.", min=1)] = 1,
    context: Annotated[int | None, typer.Option(help="Tokens read at once; 256 if not given.", min=2)] = None,
    lr: Annotated[float | None, typer.Option(help="The learning rate; by kind and steps if not given.")] = None,
    precision: PrecisionOpt = "auto",
    patience: PatienceOpt = 0,
    checkpoint_seconds: Annotated[float, typer.Option(help="Between two checkpoints.", min=0)] = 120.0,
    seed: Annotated[int, typer.Option(help="Of the text's order and of the weights at the start.")] = 0,
    spread: Annotated[
        str, typer.Option(help="Over the processes that torchrun starts: data, dictionary, or both, as 2x4.")
    ] = "data",
    json: JsonOpt = False,
    device: DeviceOpt = "auto",
    dtype: DtypeOpt = "auto",
) -> None:
    """Train sparse dictionaries of what a model computes, and keep them in a folder.

    The same command again on a folder that was stopped goes on where it stood, to the same weights. Started with
    torchrun it trains on several processes.

    \b
    hooke train transcoder --layers 10-12 --text docs --tokens 200000 --out transcoders
    hooke train batchtopk --site resid_post.15 --k 16 --k 32 --out sweep
    hooke train crosscoder --model tuned --against base --site resid_post.15 --apart 0.05 --out both
    torchrun --nproc-per-node 4 -m hooke train topk --site resid_post.15 --spread 2x2 --out large
    """
    finished, first = (out / "result.json").exists(), os.environ.get("RANK", "0") == "0"
    stage = Stages(VERB_STAGES["train"])
    with stage if first else contextlib.nullcontext():
        stage("load")
        if "RANK" in os.environ:  # what torch has to say where another process ends, Hooke says in one line
            os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        from hooke.dictionaries.processes import joined
        from hooke.methods.train import train as run
        from hooke.model.load import load

        with joined(exits=True) as world:
            with contextlib.nullcontext() if world.rank == 0 else contextlib.redirect_stderr(io.StringIO()):
                loaded = load(model, device=device, dtype=dtype)
                other = None if against is None else load(against, device=device, dtype=dtype)
            result = run(
                loaded, kind, out=out, site=site or [], layers=layers, text=text or None, tokens=tokens,
                activations=activations, features=features, gate=gate, k=k or [], penalty=penalty or [],
                against=other, apart=apart, batch=batch, epochs=epochs, context=context, lr=lr, precision=precision,
                patience=patience, checkpoint_seconds=checkpoint_seconds, seed=seed, spread=spread,
                watch=_watching(stage), progress=stage,
            )  # fmt: skip
    if world.rank:
        return
    if finished:
        print(f"hooke: {out} was finished before, and nothing was changed", file=sys.stderr)
    deliver(result, json, None, show_training)
    if not json and other is None:
        say(f"\nIn {out}: hooke evaluate {out}, or hooke trace PROMPT --basis {out}")


def _watching(stage: Stages) -> Callable[[dict[str, Any]], None]:
    """What puts the numbers of a step beside the stage."""

    def watch(line: dict[str, Any]) -> None:
        told = line["fits"]
        if "explained" not in told[0]:
            return
        mean = {key: sum(each[key] for each in told) / len(told) for key in told[0]}
        stage.note = (
            f"loss {mean['loss']:.3g}, explained {mean['explained']:.1%}, L0 {mean['l0']:.1f}, "
            f"dead {mean['dead']:.1%}, {line['tokens'] / max(line['seconds'], 1e-9):,.0f} tokens/s"
        )

    return watch


def show_training(result: Result) -> None:
    """What each dictionary explains of what nothing was trained on."""
    p = result.payload
    rows: list[list[Cell]] = [
        [
            row["name"], row["folder"], f"{row['features']:,}", f"{row['explained_variance']:.1%}",
            f"{row['l0']:.1f}", f"{row['dead']:.1%}", row["hash"][:12],
        ]
        for row in p["dictionaries"]
    ]  # fmt: skip
    show_table(["dictionary", "folder", "features", "explained", "L0", "dead", "hash"], rows, left=2)
    for row in p["dictionaries"]:
        if row.get("models") is not None:
            _show_models(row["models"])
    tell(p["sentence"])
    for note in p["notes"]:
        tell(f"Note: {note}")
    if p["stopped"]:
        tell(f"Stopped early: {p['stopped']}.")
    say(f"All weights: {p['hash'][:16]}")


def _show_models(models: dict[str, Any]) -> None:
    """What a crosscoder says of the two models."""
    rows: list[list[Cell]] = [
        [name, f"{models['explained'][k]:.1%}", f"{models['alone'][k]:,}", f"{models['artefacts'][k]:,}"]
        for k, name in enumerate(models["names"])
    ]
    say("")
    show_table(["model", "explained", "alone", "of these, the other has too"], rows, left=1)
    listed: list[list[Cell]] = [
        [
            f"{row['feature']}", row["model"], f"{row['norm']:.2f}",
            "" if row["ratio"] is None else f"{row['ratio']:.2f}", f"{row['fires']:,}",
        ]
        for row in models["features"][:10]
    ]  # fmt: skip
    if listed:
        say("")
        show_table(["feature", "of one model alone", "norm", "ratio", "fires"], listed, left=2)
