"""Verbs that put values of one run into another: patch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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
from hooke.errors import HookeError
from hooke.terminal import Stages, show_patch, show_path_patch

CleanArg = Annotated[str, typer.Argument(help="The prompt with the answer in question. Quote it.", show_default=False)]
CorruptArg = Annotated[
    str | None, typer.Argument(help="The same prompt with another answer, of equal token length.", show_default=False)
]
SitesOpt = Annotated[
    list[str] | None,
    typer.Option(help="resid_post, attn_out, mlp_out, z, q, k, v, …; one layer as z.9, one head as z.9.6; repeatable."),
]
MetricOpt = Annotated[
    str | None, typer.Option(help="logit-difference (the default), logit, probability, kl or accuracy.")
]
TargetOpt = Annotated[
    str | None, typer.Option(help="The clean answer's token, its leading space included; by default the prediction.")
]
ContrastOpt = Annotated[str | None, typer.Option(help="The token it is compared with; by default the corrupt answer.")]
DirectionOpt = Annotated[
    str | None, typer.Option(help="denoise: clean values into the corrupt run. noise: other values into the clean one.")
]


@app.command()
def patch(
    clean: CleanArg,
    corrupt: CorruptArg = None,
    model: ModelOpt = None,
    sites: SitesOpt = None,
    edge: Annotated[
        list[str] | None, typer.Option(help='Patch edges and not sites: "a1.h0->m2", "input->a3.h1<q>"; repeatable.')
    ] = None,
    position: Annotated[
        list[str] | None,
        typer.Option(help="Only these positions, from 0 or -1 from the end; or all in one patch: all."),
    ] = None,
    metric: MetricOpt = None,
    target: TargetOpt = None,
    contrast: ContrastOpt = None,
    direction: DirectionOpt = None,
    ablation: Annotated[
        str, typer.Option(help="Where values come from: counterfactual (the other prompt), resample, mean, zero.")
    ] = "counterfactual",
    data: Annotated[
        Path | None, typer.Option(help="For resample and mean: a file of prompts, one a line, of equal token length.")
    ] = None,
    samples: Annotated[int, typer.Option(help="How many prompts are drawn for resample.", min=1)] = 8,
    align: Annotated[
        bool, typer.Option("--align", help="Prompts of different length: match what they begin and end with.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the resampling.", min=0)] = 0,
    json: JsonOpt = False,
    out: OutOpt = None,
    html: HtmlOpt = None,
    device: DeviceOpt = "auto",
    dtype: DtypeOpt = "auto",
) -> None:
    """Which places carry the answer: put values of one run into another, one place at a time.

    \b
    hooke patch "When Mary and John went to the store, John gave a drink to" \\
        "When Mary and John went to the store, Mary gave a drink to"
    """
    writable(out)
    writable_page(html)
    if edge and (sites or position or ablation != "counterfactual" or align):
        raise HookeError(
            "edges are patched at all positions with the other prompt's values; leave the site options out"
        )
    if edge and corrupt is None:
        raise HookeError("an edge is patched with the values of a corrupt prompt; give one")
    at = positions(position)
    texts = [] if data is None else lines(data)
    with Stages(["load", "forward", "patches"]) as stage:
        stage("load")
        from hooke.model.load import load

        loaded = load(model, device=device, dtype=dtype)
        asked: dict[str, Any] = {"metric": metric, "target": target, "contrast": contrast, "progress": stage}
        if edge and corrupt is not None:
            from hooke.methods.patch_path import path_patch

            result = path_patch(loaded, clean, corrupt, edge, direction=direction or "denoise", **asked)
        else:
            from hooke.methods.patch import patch as run

            result = run(
                loaded,
                clean,
                corrupt,
                sites=split(sites) or "resid_post",
                positions=at,
                direction=direction,  # type: ignore[arg-type]  # checked by the method
                ablation=ablation,  # type: ignore[arg-type]
                data=texts,
                samples=samples,
                align=align,
                seed=seed,
                **asked,
            )
    deliver(result, json, out, show_path_patch if edge else show_patch, html)


def split(values: list[str] | None) -> list[str]:
    """Options that were repeated, or written with commas."""
    return [part.strip() for value in values or [] for part in value.split(",") if part.strip()]


def positions(given: list[str] | None) -> Any:
    words = split(given)
    if not words:
        return None
    if words == ["all"]:
        return "all"
    try:
        return [int(word) for word in words]
    except ValueError:
        raise HookeError(f"positions are whole numbers, or all, not {', '.join(words)}") from None


def lines(path: Path) -> list[str]:
    """The prompts of a file, one a line."""
    try:
        if path.stat().st_size > 2**24:
            raise HookeError(f"{path} is {path.stat().st_size >> 20} MB; a file of prompts ends at 16 MB")
        found = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise HookeError(f"cannot read {path}: {error}") from None
    if not found:
        raise HookeError(f"{path} has no prompts")
    return found
