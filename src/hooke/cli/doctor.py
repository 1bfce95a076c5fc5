"""Does it work here? doctor."""

from __future__ import annotations

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
from hooke.terminal import Stages, show_doctor


@app.command()
def doctor(
    model: ModelOpt = None,
    json: JsonOpt = False,
    out: OutOpt = None,
    html: HtmlOpt = None,
    device: DeviceOpt = "auto",
    dtype: DtypeOpt = "auto",
) -> None:
    """Does Hooke work here? Every instrument is tested against plain ones on this model, device and type.

    \b
    hooke doctor
    """
    writable(out)
    writable_page(html, out)
    with Stages(["load", "equations", "reads and edits"]) as stage:
        stage("load")
        from hooke.methods.doctor import doctor as run
        from hooke.model.load import load

        result = run(load(model, device=device, dtype=dtype), progress=stage)
    deliver(result, json, out, show_doctor, html)
    if result.payload["failed"]:
        raise typer.Exit(1)
