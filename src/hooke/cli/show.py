"""Verbs that show what there is: open, app, models."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from hooke.cli.common import BrowserOpt, JsonOpt, ModelOpt, OutOpt, PortOpt, app, deliver, say, writable
from hooke.terminal import show_models

LARGE_FILE = 40 * 2**20  # bytes that take long to read


@app.command(name="open")
def open_file(
    file: Annotated[
        Path,
        typer.Argument(help="A saved result, an attribution graph, or an assessment's folder.", show_default=False),
    ],
    port: PortOpt = 0,
    no_browser: BrowserOpt = False,
) -> None:
    """See a file in the browser: a result of Hooke's, a graph of circuit-tracer or Neuronpedia, or an assessment.

    \b
    hooke open france.json
    """
    from hooke.files import MAX_JSON_BYTES, is_file
    from hooke.server import serve
    from hooke.server.store import Store

    if is_file(file) and LARGE_FILE < file.stat().st_size <= MAX_JSON_BYTES:
        print(f"reading {file}, {file.stat().st_size >> 20} MB; this can take half a minute", file=sys.stderr)
    store = Store(serve.results_folder())
    name = store.open(file)
    serve.show(serve.Server(store, port=port), f"/r/{name}", browser=not no_browser, say=say)


@app.command(name="app")
def app_(
    model: ModelOpt = None,
    results: Annotated[Path | None, typer.Option(help="Where results are kept.", show_default=False)] = None,
    port: PortOpt = 0,
    no_browser: BrowserOpt = False,
) -> None:
    """The page with a prompt box: run traces and lenses from the browser, watch and change them.

    \b
    hooke app
    """
    from hooke.server import serve
    from hooke.server.store import Store

    store = Store(results or serve.results_folder())
    serve.show(serve.Server(store, port=port, model=model), "/", browser=not no_browser, say=say)


@app.command()
def models(json: JsonOpt = False, out: OutOpt = None) -> None:
    """Which models are known, where they are and how big."""
    from hooke.model.zoo import known_models
    from hooke.results import Result

    writable(out)
    rows = known_models()
    result = Result.make("models", payload={"models": rows}, seconds={"total": 0.0})
    deliver(result, json, out, show_models)
