"""The command that keeps activations of a text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from hooke.cli.common import DeviceOpt, DtypeOpt, JsonOpt, ModelOpt, TextOpt, app, deliver
from hooke.methods.progress import VERB_STAGES
from hooke.tables import Cell, show_table
from hooke.terminal import Stages, tell

if TYPE_CHECKING:
    from hooke.results import Result


@app.command()
def harvest(
    site: Annotated[list[str], typer.Option(help="Where to read: resid_post.10; several.")],
    out: Annotated[str, typer.Option("--out", "-o", help="A folder, or s3://…; one that was stopped goes on.")],
    model: ModelOpt = None,
    text: TextOpt = None,
    tokens: Annotated[int, typer.Option(help="How many to keep.", min=1)] = 1_000_000,
    context: Annotated[int | None, typer.Option(help="Tokens read at once; 256 if not given.", min=2)] = None,
    keep: Annotated[str, typer.Option(help="The type of the numbers: float32, bfloat16 or float16.")] = "float32",
    shard: Annotated[int, typer.Option(help="Tokens of a file.", min=1)] = 131_072,
    engine: Annotated[str, typer.Option(help="local, or ray: the workers of a Ray cluster.")] = "local",
    workers: Annotated[int | None, typer.Option(help="With ray: how many.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Of the text's order.")] = 0,
    json: JsonOpt = False,
    device: DeviceOpt = "auto",
    dtype: DtypeOpt = "auto",
) -> None:
    """Run a model over a text and keep what is at sites, in files that say what they hold.

    The same command again on a folder that was stopped goes on where it stood.

    \b
    hooke harvest --site resid_post.10 --site mlp_out.10 --text docs --tokens 200000 --out activations
    hooke train topk --activations activations --site resid_post.10 --out dictionary
    """
    with Stages(VERB_STAGES["harvest"]) as stage:
        stage("load")
        from hooke.methods.harvest import harvest as run
        from hooke.model.load import load

        loaded = load(model, device=device, dtype=dtype)

        def expected(line: str) -> None:
            stage.note = line

        result = run(
            loaded, out=out, site=site, text=text or ["docs"], tokens=tokens, context=context, keep=keep, shard=shard,
            engine=cast(Any, engine), workers=workers, seed=seed,
            say=expected, progress=stage,
        )  # fmt: skip
    deliver(result, json, None, show_harvest)


def show_harvest(result: Result) -> None:
    """What was kept, site by site."""
    p = result.payload
    rows: list[list[Cell]] = [[row["site"], f"{row['width']:,}", f"{row['mean_norm']:.4g}"] for row in p["sites"]]
    show_table(["site", "numbers a token", "mean length"], rows, left=1)
    tell(p["sentence"])
    if p["new"] < p["shards"]:
        tell(f"{p['shards'] - p['new']} of {p['shards']} files were there before.")
    tell(f"All that is kept: {p['hash'][:16]}")
