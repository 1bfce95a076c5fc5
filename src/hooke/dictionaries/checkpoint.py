"""Where training stands, in one file: parameters, the optimiser's moments, what is not trained, and the step. Going on
from it is the same, to the last bit, as never having stopped.

However many processes train, the first writes and reads the one file, which is what one process alone would write: any
number of them can go on from it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from hooke.dictionaries.fit import Fit
from hooke.dictionaries.kinds.base import alike
from hooke.dictionaries.spread import ALONE, Axis, Spread
from hooke.errors import HookeError
from hooke.files import check_file, replacing

NAME = "checkpoint.safetensors"
MOST = 2**44


class Part(NamedTuple):
    """A tensor by its name, and the axis over which its rows are divided."""

    name: str
    x: Tensor
    axis: Axis

    def whole(self) -> Tensor:
        """That of all processes of the axis together."""
        return self.axis.gathered(self.x).flatten(0, 1) if self.axis.size > 1 else self.x.contiguous()

    def shape(self) -> list[int]:
        """Of the whole."""
        return [len(self.x) * self.axis.size, *self.x.shape[1:]] if self.axis.size > 1 else list(self.x.shape)

    def put(self, whole: Tensor | None, world: Axis) -> None:
        """Take what is this process's of a tensor that the first process has."""
        if world.size > 1:
            made = self.x.new_empty(self.shape())
            whole = world.sent(made if whole is None else made.copy_(whole))
        assert whole is not None
        self.x.copy_(whole[self.axis.part(len(whole))] if self.axis.size > 1 else whole)


def save_checkpoint(fits: Sequence[Fit], folder: Path, facts: Mapping[str, Any]) -> None:
    """Write all, whole or not at all. facts: plain data that `load_checkpoint` gives back; those of the first process
    count."""
    from safetensors.torch import save_file

    spread, tensors = fits[0].spread, {}
    for part in _all(fits) if spread.data.rank == 0 else ():
        whole = part.whole()
        if spread.leads:
            tensors[part.name] = whole if spread.world.size == 1 else whole.cpu()
    if not spread.leads:
        return
    whens = [[fit.when.step, fit.when.steps, fit.when.batch] for fit in fits]
    about = {"whens": json.dumps(whens), "facts": json.dumps(dict(facts))}
    with replacing(folder / NAME) as temp:
        save_file(tensors, temp, about)


def load_checkpoint(fits: Sequence[Fit], folder: Path) -> dict[str, Any] | None:
    """Put what was saved into fits as `start` makes them, and give the facts; None where nothing was saved.

    Raises HookeError for a file that is not whole, or of other fits.
    """
    from safetensors import SafetensorError, safe_open

    path, world = folder / NAME, fits[0].spread.world
    about = world.led(lambda: _about(path, fits))
    if about is None:
        return None
    if world.rank:
        for part in _all(fits):
            part.put(None, world)
    else:
        try:
            with safe_open(path, "pt", device="cpu") as file:
                for part in _all(fits):
                    part.put(file.get_tensor(part.name), world)
        except SafetensorError:
            raise _refused(path) from None
    for fit, (step, steps, batch) in zip(fits, about["whens"], strict=True):
        fit.when = replace(fit.when, step=step, steps=steps, batch=batch)
    return about["facts"]


def _about(path: Path, fits: Sequence[Fit]) -> dict[str, Any] | None:
    """What a checkpoint says beside its tensors, once it is clear that it holds those of these fits."""
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        return None
    check_file(path, MOST)
    try:
        with safe_open(path, "pt", device="cpu") as file:
            about = file.metadata() or {}
            shapes = {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        whens, facts = json.loads(about["whens"]), json.loads(about["facts"])
        fitting = [list(map(type, when)) for when in whens] == [[int, int, int] for _ in fits]
    except (SafetensorError, KeyError, ValueError, TypeError):
        raise _refused(path) from None
    if not fitting or shapes != {part.name: part.shape() for part in _all(fits)} or not isinstance(facts, dict):
        raise _refused(path)
    return {"whens": whens, "facts": facts}


def _refused(path: Path) -> HookeError:
    return HookeError(f"{path} is no checkpoint of this training; remove it to begin again")


def _all(fits: Sequence[Fit]) -> Iterator[Part]:
    """Every tensor: a parameter, the optimiser's moments of it, and what is not trained. Moments that are not there yet
    are made."""
    for f, fit in enumerate(fits):
        for b, block in enumerate(fit.blocks):
            for name, x in sorted(block.params.items()):
                yield from _trained(fit, f"{f}.{b}.params.{name}", x, _axis(name, x, fit.spread))
            for name, x in sorted(block.state.items()):
                yield Part(f"{f}.{b}.state.{name}", x, _axis(name, x, fit.spread))


def _axis(name: str, x: Tensor, spread: Spread) -> Axis:
    return ALONE if alike(name, x) else spread.dictionary


def _trained(fit: Fit, name: str, x: Tensor, axis: Axis) -> Iterator[Part]:
    yield Part(name, x.detach(), axis)
    state = fit.optimizer.state[x]
    if not state:
        state["step"] = x.new_zeros(())
        state["exp_avg"], state["exp_avg_sq"] = x.detach().clone().zero_(), x.detach().clone().zero_()
    for key in ("step", "exp_avg", "exp_avg_sq"):
        yield Part(f"{name}:{key}", state[key], axis if state[key].ndim else ALONE)
