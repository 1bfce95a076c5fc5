"""Train the small models with known circuits again and keep them in src/hooke/truth/models.

    python scripts/train_known.py             all that are not there
    python scripts/train_known.py histogram   some, by the names of their programs; also induction-model, modular
    python scripts/train_known.py --nodes     the models in which only whole nodes were interchanged

A training that was interrupted goes on where it was: its state lies in build/ until it ends.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import torch

from hooke.truth.known import compiled, labelled
from hooke.truth.plain import KEPT, keep
from hooke.truth.toys import induction, modular
from hooke.truth.trained import siit
from hooke.truth.trained.recipes import RECIPES

BUILD = Path(__file__).resolve().parent.parent / "build"


def trained_in(name: str, *, nodes_only: bool = False) -> None:
    made, living, recipe = compiled(name), labelled(name)[0].living, RECIPES[name]
    BUILD.mkdir(exist_ok=True)
    file = f"{'nodes' if nodes_only else 'siit'}-{name}"
    checkpoint = BUILD / f"{file}.safetensors"
    hf, record = siit.train(made, living, recipe, checkpoint, nodes_only=nodes_only)
    for parameter in hf.parameters():
        parameter.copy_(parameter.half().float())  # as it will be kept
    measures = siit.measure(made, hf, living, record["alignment"])
    keep(file, hf, {**record, "measures": measures})
    checkpoint.unlink(missing_ok=True)
    print(f"{file}: {record['seconds']} s, {measures}", flush=True)


def toys(names: set[str]) -> None:
    if "induction-model" in names:
        start = time.perf_counter()
        hf, history = induction.train_induction()
        _done(induction.NAME, hf, {"seed": 0, "loss": [round(x, 4) for x in history]}, start)
    if "modular" in names:
        start = time.perf_counter()
        sums = modular.train_sums()
        about = {"p": modular.P, "seed": modular.SEED, "share": 0.4, "history": sums.history}
        _done(modular.NAME, sums.hf, about, start)


def _done(name: str, hf: Any, record: dict[str, Any], start: float) -> None:
    keep(name, hf, {**record, "seconds": round(time.perf_counter() - start, 1)})
    print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)


def main() -> None:
    torch.set_num_threads(1)
    wanted = set(sys.argv[1:])
    nodes_only = "--nodes" in wanted
    wanted.discard("--nodes")
    if not wanted and nodes_only:
        wanted = {name for name in RECIPES if not (KEPT / f"nodes-{name}.json").is_file()}
    elif not wanted:
        files = {"induction-model": induction.NAME, "modular": modular.NAME} | {n: f"siit-{n}" for n in RECIPES}
        wanted = {name for name, file in files.items() if not (KEPT / f"{file}.json").is_file()}
    toys(wanted)
    for name in RECIPES:
        if name in wanted:
            trained_in(name, nodes_only=nodes_only)


if __name__ == "__main__":
    main()
