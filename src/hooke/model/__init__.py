"""Models: loading, the table of families, reads and edits at sites, the linear view.

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
    from hooke.model.linear_view import LinearView, Rows, held_view
    from hooke.model.live import live_view
    from hooke.model.model import Model
    from hooke.model.run import Tokens

_HOMES = {
    "Descent": "descent",
    "Edit": "edits",
    "LinearView": "linear_view",
    "Model": "model",
    "Rows": "linear_view",
    "Tokens": "run",
    "check_model": "checks",
    "held_view": "linear_view",
    "live_view": "live",
}

__all__ = ["Descent", "Edit", "LinearView", "Model", "Rows", "Tokens", "check_model", "held_view", "live_view"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
