"""The verb that assesses one model: `hooke assess`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hooke.cli.common import DeviceOpt, DtypeOpt, JsonOpt, app, exists, writable
from hooke.cli.screen import json_text
from hooke.errors import HookeError, visible
from hooke.terminal import NowAndThen

if TYPE_CHECKING:
    from hooke.results import Result


@app.command()
def assess(
    model: Annotated[str, typer.Argument(help="A name from `hooke models`, an organism, a folder, a .gguf or hub id.")],
    reference: Annotated[
        str | None, typer.Option(help="What the model was before its training; without it nothing is compared.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The folder to write.", show_default="assessment-NAME")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer questions and strings, no probes, no traces.")] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Examine all clean fine-tunes here, not by their record.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of samples and controls.", min=0, max=2**31)] = 0,
    json: JsonOpt = False,
    device: DeviceOpt = "auto",
    dtype: DtypeOpt = "auto",
) -> None:
    """Assess one model: what it does that its reference does not, tested, with its evidence and its limits.

    Writes a folder: assessment.json, evidence/ with every result it rests on, and report.html. An interrupted run goes
    on where it was. Packaged organisms and clean fine-tunes run beside the model as controls.

    \b
    hooke assess organism-NAME --reference smollm2-135m
    hooke assess smollm2-135m --quick
    """
    folder = out or Path(f"assessment-{Path(model).name}")
    if exists(folder) and not folder.is_dir():
        raise HookeError(f"{folder} is a file; give --out a folder")
    writable(folder / "assessment.json")
    with Lines() as progress:
        progress("load", 0.0)
        from hooke.model.load import load
        from hooke.safety.assess import assess as run
        from hooke.viewer import write_report

        subject = load(model, device=device, dtype=dtype)
        base = None if reference is None else load(reference, device=device, dtype=dtype)
        result = run(subject, reference=base, out=folder, quick=quick, fresh=fresh, seed=seed, progress=progress)
        page = write_report(folder)
    if json:
        print(json_text(result.to_json()))
    else:
        show_assessment(result)
        print(f"\nThe report: {page} (opens in any browser, without a network)")


class Lines:
    """Progress as one line on standard error: the stage, how much of it is done, and the time that the rest of it takes
    at this pace; where that is no terminal, a new line now and then."""

    def __enter__(self) -> Lines:
        self.shown = sys.stderr.isatty()
        self.stage, self.since, self.begun = "", 0.0, 0.0
        self.line = None if self.shown else NowAndThen()
        return self

    def __exit__(self, *_: object) -> None:
        if self.line is not None:
            self.line.stop()
        else:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def __call__(self, stage: str, done: float) -> None:
        if self.line is not None:
            self.line(f"{stage}, {done:.0%} of it")
            return
        now = time.monotonic()
        if stage != self.stage or done < self.begun:
            self.stage, self.since, self.begun = stage, now, done
        passed = done - self.begun
        left = f", {(now - self.since) * (1 - done) / passed:.0f} s left" if passed > 0.02 else ""
        print(f"\r\033[K{stage[:60]} {done:4.0%}{left}", end="", file=sys.stderr, flush=True)


def show_assessment(result: Result) -> None:
    """Each section with its claims and their verdicts, and the stamp where one stands."""
    from hooke.terminal import say

    p = result.payload
    for section in p["sections"]:
        claims = [claim for claim in p["claims"] if claim["section"] == section["key"]]
        if not claims:
            continue
        say(f"\n{section['title']}" + (f"  [{section['stamp']}]" if section["stamp"] else ""))
        for claim in claims:
            say(f"  {claim['verdict']:8}  {visible(claim['text'])}")
