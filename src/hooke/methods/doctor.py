"""`doctor`: does Hooke work here, on this model, this device and this dtype? Its own instruments against plain ones."""

from __future__ import annotations

import math
import os
import platform
from typing import Any

import torch

from hooke.arguments import verb
from hooke.methods.progress import Clock, Progress
from hooke.model import Model, check_model
from hooke.model.checks import TOLERANCE
from hooke.model.self_test import self_test
from hooke.results import Claim, Result


@verb
def doctor(model: Model, *, progress: Progress | None = None) -> Result:
    """Test every instrument on one short input: the equations of the sites, every tap and every edit against plain
    torch hooks on the model's own modules, and runs put together from parts against whole ones.

    Returns a `Result` of kind "doctor"; payload: checks (what is said to be equal, the error relative to the largest
    value, whether that is allowed), allowed (the largest error that is, for this dtype), failed (how many are not),
    machine (device, dtype, cores, memory in bytes, versions).
    """
    clock = Clock(progress)
    allowed = TOLERANCE.get(model.dtype, 6e-2)
    rows: list[dict[str, Any]] = []
    with clock("equations"):
        found = [*check_model(model)]  # a model that fails these is refused when it is loaded
    with clock("reads and edits") as tick:
        expected = 30 * min(3, model.parts.n_layers)
        for check in self_test(model):
            found.append(check)
            tick(min(1.0, len(found) / (len(found) + expected)))
    for check in found:
        error = check.error if math.isfinite(check.error) else None
        rows.append({"check": check.equation, "error": error, "holds": error is not None and error <= allowed})
    failed = [row for row in rows if not row["holds"]]
    text = f"All {len(rows)} checks hold" if not failed else f"{len(failed)} of {len(rows)} checks fail"
    text += f" on {model.name}, in {str(model.dtype).removeprefix('torch.')} on {model.device.type}"
    return Result.make(
        "doctor",
        provenance=model.provenance(),
        seconds=clock.done(),
        claims=[Claim(text=text, verdict="refuted" if failed else "tested", evidence=["#checks"])],
        payload={
            "sentence": text + ".",
            "checks": rows,
            "allowed": allowed,
            "failed": len(failed),
            "machine": machine(model),
        },
    )


def machine(model: Model) -> dict[str, Any]:
    """What a report of a fault should say of the machine."""
    import psutil

    device: str = model.device.type
    if device == "cuda":
        device = torch.cuda.get_device_name(model.device)
    return {
        "device": device,
        "dtype": str(model.dtype).removeprefix("torch."),
        "cores": os.cpu_count() or 1,
        "memory": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": model.provenance()["versions"],
    }
