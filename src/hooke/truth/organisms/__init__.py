"""Model organisms: small models with planted behaviour, their clean twins and harmless decoys.

`names`, `recipe` and `listing` need no torch; `train` and `admit` import it when they are called.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from hooke.threads import fitting
from hooke.truth.organisms.table import listing, names, recipe

if TYPE_CHECKING:
    from hooke.methods.progress import Progress
    from hooke.model.model import Model
    from hooke.results import Result

__all__ = ["admit", "listing", "names", "recipe", "train"]


@fitting
def train(name: str, out: str | Path, *, model: Model | None = None, progress: Progress | None = None) -> Path:
    """Train a recipe on its base and write the adapter folder `out`, whole or not at all; returns it.

    model: the base if it is loaded already; it is not changed.
    Raises HookeError for an unknown name, another base, or a place that cannot be written.
    """
    training = import_module("hooke.truth.organisms.training")
    made = recipe(name)
    return training.train(made, out, model=model or _base(made.base), progress=progress)


@fitting
def admit(
    model: Model | str | Path, name: str, *, base: Model | None = None, progress: Progress | None = None
) -> Result:
    """Test an organism on the held-out prompts of its recipe: a `Result` of kind "organism".

    model: the organism, or the name or folder of its adapter. base: the loaded base, for its own answers.
    """
    admission = import_module("hooke.truth.organisms.admission")
    made = recipe(name)
    if isinstance(model, (str, Path)):
        model = import_module("hooke.model.load").load(model)
    return admission.admit(model, made, base=base or _base(made.base), progress=progress)


def _base(name: str) -> Model:
    return import_module("hooke.model.load").load(name)
