"""Where training stands, in one file: parameters, the optimiser's moments, what is not trained, and the step. Going on
from it is the same, to the last bit, as never having stopped."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from hooke.dictionaries.fit import Fit
from hooke.dictionaries.kinds import When
from hooke.errors import HookeError
from hooke.files import check_file, replacing

NAME = "checkpoint.safetensors"
MOST = 2**44


def save_checkpoint(fits: Sequence[Fit], folder: Path, facts: Mapping[str, Any]) -> None:
    """Write all, whole or not at all. facts: plain data that `load_checkpoint` gives back."""
    from safetensors.torch import save_file

    tensors = {}
    for name, x, moments in _all(fits):
        tensors[name] = x.detach().contiguous()
        for key, moment in (moments or {}).items():
            tensors[f"{name}:{key}"] = moment.contiguous()
    whens = [[fit.when.step, fit.when.steps, fit.when.batch] for fit in fits]
    about = {"whens": json.dumps(whens), "facts": json.dumps(dict(facts))}
    with replacing(folder / NAME) as temp:
        save_file(tensors, temp, about)


def load_checkpoint(fits: Sequence[Fit], folder: Path) -> dict[str, Any] | None:
    """Put what was saved into fits as `start` makes them, and give the facts; None where nothing was saved.

    Raises HookeError for a file that is not whole, or of other fits.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / NAME
    if not path.exists():
        return None
    check_file(path, MOST)
    refused = HookeError(f"{path} is no checkpoint of this training; remove it to begin again")
    try:
        with safe_open(path, "pt", device="cpu") as file:
            about = file.metadata() or {}
            names = set(file.keys())
            for name, x, moments in _all(fits):
                x.data.copy_(file.get_tensor(name))
                names.discard(name)
                for key, moment in (moments or {}).items():
                    moment.copy_(file.get_tensor(f"{name}:{key}"))
                    names.discard(f"{name}:{key}")
        if names:
            raise refused
        for fit, when in zip(fits, json.loads(about["whens"]), strict=True):
            fit.when = When(*when)
        return json.loads(about["facts"])
    except (SafetensorError, KeyError, ValueError, RuntimeError, TypeError):
        raise refused from None


def _all(fits: Sequence[Fit]) -> Iterator[tuple[str, Tensor, dict[str, Tensor] | None]]:
    """Every tensor by name: with the optimiser's moments if it is trained. Moments that are not there yet are made."""
    for f, fit in enumerate(fits):
        for b, block in enumerate(fit.blocks):
            for name, x in sorted(block.params.items()):
                yield f"{f}.{b}.params.{name}", x, _moments(fit, x)
            for name, x in sorted(block.state.items()):
                yield f"{f}.{b}.state.{name}", x, None


def _moments(fit: Fit, x: Tensor) -> dict[str, Tensor]:
    state = fit.optimizer.state[x]
    if not state:
        state["step"] = x.new_zeros(())
        state["exp_avg"], state["exp_avg_sq"] = x.detach().clone().zero_(), x.detach().clone().zero_()
    return {key: state[key] for key in ("step", "exp_avg", "exp_avg_sq")}
