"""Models: loading, the table of families, reads and edits at sites, the frozen linear view.

Names are loaded when they are first used, so that `hooke.model.zoo` does not import torch. `load` is
not among them, since `hooke.model.load` is the module that has it: use `hooke.load`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hooke.model.checks import check_model
    from hooke.model.descent import Descent
    from hooke.model.edits import Edit
    from hooke.model.frozen import Frozen, Rows, freeze
    from hooke.model.model import Model
    from hooke.model.run import Tokens

_HOMES = {
    "Descent": "descent",
    "Edit": "edits",
    "Frozen": "frozen",
    "Model": "model",
    "Rows": "frozen",
    "Tokens": "run",
    "check_model": "checks",
    "freeze": "frozen",
}

__all__ = ["Descent", "Edit", "Frozen", "Model", "Rows", "Tokens", "check_model", "freeze"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
