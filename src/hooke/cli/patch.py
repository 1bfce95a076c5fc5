"""Verbs that put values of one run into another, or estimate it: patch, attribute; and the tasks they are tried on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hooke.cli.common import (
    ContrastIdOpt,
    DeviceOpt,
    DtypeOpt,
    HtmlOpt,
    JsonOpt,
    ModelOpt,
    OutOpt,
    TargetIdOpt,
    app,
    deliver,
    token_of,
    writable,
    writable_page,
)
from hooke.errors import HookeError
from hooke.terminal import Stages, show_attribution, show_patch, show_path_patch, show_tasks

CleanArg = Annotated[str, typer.Argument(help="The prompt with the answer in question. Quote it.", show_default=False)]
CorruptArg = Annotated[
    str | None, typer.Argument(help="The same prompt with another answer, of equal token length.", show_default=False)
]
SitesOpt = Annotated[
    list[str] | None,
    typer.Option(help="resid_post, attn_out, mlp_out, z, q, k, v, …; one layer as z.9, one head as z.9.6; repeatable."),
]
MetricOpt = Annotated[
    str | None,
    typer.Option(help="logit-difference (the default), log-probability, logit, probability, kl or accuracy."),
]
SlopeOpt = Annotated[
    str | None, typer.Option(help="logit-difference (the default), log-probability, logit, probability or kl.")
]
TargetOpt = Annotated[
    str | None, typer.Option(help="The clean answer's token, its leading space included; by default the prediction.")
]
ContrastOpt = Annotated[str | None, typer.Option(help="The token it is compared with; by default the corrupt answer.")]
DirectionOpt = Annotated[
    str | None, typer.Option(help="denoise: clean values into the corrupt run. noise: other values into the clean one.")
]
MAX_PROMPTS = 2**24  # bytes of a file of prompts


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
    target_id: TargetIdOpt = None,
    contrast: ContrastOpt = None,
    contrast_id: ContrastIdOpt = None,
    direction: DirectionOpt = None,
    ablation: Annotated[
        str, typer.Option(help="Where values come from: counterfactual (the other prompt), resample, mean, zero.")
    ] = "counterfactual",
    data: Annotated[
        Path | None, typer.Option(help="For resample and mean: a file of prompts, one a line, of equal token length.")
    ] = None,
    samples: Annotated[int, typer.Option(help="How many prompts are drawn for resample.", min=1, max=10_000)] = 8,
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
    writable_page(html, out)
    _check_goes_together(edge, bool(sites or position or align), ablation, data, corrupt)
    wanted, other = token_of(target, target_id, "target"), token_of(contrast, contrast_id, "contrast")
    at = positions(position)
    texts = [] if data is None else lines(data)
    with Stages(["load", "forward", "patches"]) as stage:
        stage("load")
        from hooke.model.load import load

        loaded = load(model, device=device, dtype=dtype)
        asked: dict[str, Any] = {"metric": metric, "target": wanted, "contrast": other, "progress": stage}
        if edge and corrupt is not None:
            from hooke.methods.patch.path import path_patch

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


def _check_goes_together(
    edge: list[str] | None, of_sites: bool, ablation: str, data: Path | None, corrupt: str | None
) -> None:
    """Raise HookeError for options of `patch` that exclude each other. of_sites: one that edges have no use for."""
    if edge and (of_sites or ablation != "counterfactual"):
        raise HookeError(
            "edges are patched at all positions with the other prompt's values; leave the site options out"
        )
    if data is not None and ablation not in ("resample", "mean"):
        raise HookeError("a file of prompts is for --ablation resample or mean; leave --data out")
    if edge and corrupt is None:
        raise HookeError("an edge is patched with the values of a corrupt prompt; give one")


@app.command()
def attribute(
    clean: Annotated[str | None, typer.Argument(help="The prompt with the answer in question.")] = None,
    corrupt: CorruptArg = None,
    task: Annotated[
        str | None, typer.Option(help="Pairs of prompts of a task from `hooke tasks`, and not two of yours.")
    ] = None,
    pairs: Annotated[int, typer.Option(help="How many pairs of the task.", min=1)] = 8,
    model: ModelOpt = None,
    method: Annotated[
        list[str] | None,
        typer.Option(help="atp, atp-qk, atp-star, relp, ig-inputs, ig-activations; repeatable."),
    ] = None,
    sites: SitesOpt = None,
    metric: SlopeOpt = None,
    target: TargetOpt = None,
    target_id: TargetIdOpt = None,
    contrast: ContrastOpt = None,
    contrast_id: ContrastIdOpt = None,
    direction: DirectionOpt = None,
    steps: Annotated[int, typer.Option(help="Points of a path of integrated gradients.", min=1)] = 5,
    exact: Annotated[
        bool, typer.Option("--exact/--no-exact", help="Also patch every place, and compare the estimates with that.")
    ] = True,
    seed: Annotated[int, typer.Option(help="Of the pairs and the intervals.", min=0)] = 0,
    json: JsonOpt = False,
    out: OutOpt = None,
    html: HtmlOpt = None,
    device: DeviceOpt = "auto",
    dtype: DtypeOpt = "auto",
) -> None:
    """Estimate what every patch would do from a few passes, and see how far the estimates can be trusted.

    \b
    hooke attribute "When Mary and John went to the store, John gave a drink to" \\
        "When Mary and John went to the store, Mary gave a drink to"
    hooke attribute --task ioi --pairs 8 --sites mlp_out
    """
    writable(out)
    writable_page(html, out)
    if (task is None) == (clean is None) or (clean is None) != (corrupt is None):
        raise HookeError("give a clean and a corrupt prompt, or a task with --task")
    wanted, other = token_of(target, target_id, "target"), token_of(contrast, contrast_id, "contrast")
    if task is not None and any(given is not None for given in (wanted, other, metric)):
        raise HookeError("a task has its own metric and tokens; leave --metric, --target and --contrast out")
    with Stages(["load", "patches"]) as stage:
        stage("load")
        from hooke.methods.attribute import attribute as run
        from hooke.model.load import load

        loaded = load(model, device=device, dtype=dtype)
        options: dict[str, Any] = {
            "sites": split(sites) or "mlp_out",
            "method": split(method) or ("atp", "atp-star", "relp"),
            "direction": direction or "denoise",
            "steps": steps,
            "exact": exact,
            "seed": seed,
            "progress": stage,
        }
        if task is not None:
            from hooke.methods.tasks import examples, find_task

            found = examples(loaded, task, pairs, seed=seed)
            columns = [list(column) for column in zip(*found, strict=True)]
            result = run(
                loaded,
                columns[0],
                columns[1],
                target=columns[2],
                contrast=columns[3],
                metric=find_task(task).metric,
                **options,
            )
        else:
            assert clean is not None and corrupt is not None
            result = run(loaded, clean, corrupt, metric=metric, target=wanted, contrast=other, **options)
    deliver(result, json, out, show_attribution, html)


@app.command()
def tasks(
    names: Annotated[list[str] | None, typer.Argument(help="Only these tasks.", show_default=False)] = None,
    model: ModelOpt = None,
    count: Annotated[int, typer.Option(help="Pairs of prompts for each task.", min=1)] = 50,
    seed: Annotated[int, typer.Option(help="Of the prompts.", min=0)] = 0,
    json: JsonOpt = False,
    out: OutOpt = None,
    html: HtmlOpt = None,
    device: DeviceOpt = "auto",
    dtype: DtypeOpt = "auto",
) -> None:
    """The tasks that circuits are looked for in, and what the model scores on each.

    \b
    hooke tasks
    hooke tasks ioi greater-than --count 200
    """
    writable(out)
    writable_page(html, out)
    with Stages(["load", "answers"]) as stage:
        stage("load")
        from hooke.methods.tasks import find_task
        from hooke.methods.tasks import tasks as run
        from hooke.model.load import load

        for name in names or []:
            find_task(name)  # before a model is loaded
        result = run(load(model, device=device, dtype=dtype), names or (), count=count, seed=seed, progress=stage)
    deliver(result, json, out, show_tasks, html)


def split(values: list[str] | None) -> list[str]:
    """Options that were repeated, or written with commas. An empty one is refused: it is never meant."""
    parts = [part.strip() for value in values or [] for part in value.split(",")]
    if not all(parts):
        raise HookeError("an option that takes names is empty, or has a comma too many; write for example z,mlp_out")
    return parts


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
    from hooke.results import read_text

    text = read_text(path, MAX_PROMPTS).replace("\r\n", "\n")
    found = [line for line in text.split("\n") if line.strip()]
    if not found:
        raise HookeError(f"{path} has no prompts")
    return found
