"""Hooke: a microscope for language models.

    import hooke
    model = hooke.load()
    result = hooke.trace(model, "The capital of France is")
    print(result.payload["sentence"])

Names are loaded when they are first used, so importing Hooke does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hooke.threads import set_calm

set_calm()

__version__ = "0.1.0"

if TYPE_CHECKING:
    from hooke.errors import HookeError
    from hooke.methods.asking import ask
    from hooke.methods.attribute import attribute
    from hooke.methods.catalogue import catalogue
    from hooke.methods.circuit import circuit
    from hooke.methods.doctor import doctor
    from hooke.methods.evaluate import evaluate
    from hooke.methods.find_features import find_features
    from hooke.methods.intervene import intervene
    from hooke.methods.lens import lens
    from hooke.methods.patch import patch
    from hooke.methods.probe import probe
    from hooke.methods.probe.judge import probe_test
    from hooke.methods.tasks import tasks
    from hooke.methods.trace import trace
    from hooke.methods.train import train
    from hooke.methods.visualise import visualise
    from hooke.model.edits import Edit
    from hooke.model.load import load
    from hooke.model.model import Model
    from hooke.results import Claim, Graph, Node, Result, load_result
    from hooke.safety.assess import assess
    from hooke.sites import Site
    from hooke.truth.scoreboard import scoreboard
    from hooke.viewer.notebook import view

_HOMES = {
    "Claim": "hooke.results",
    "Edit": "hooke.model.edits",
    "Graph": "hooke.results",
    "HookeError": "hooke.errors",
    "Model": "hooke.model.model",
    "Node": "hooke.results",
    "Result": "hooke.results",
    "Site": "hooke.sites",
    "ask": "hooke.methods.asking",
    "assess": "hooke.safety.assess",
    "attribute": "hooke.methods.attribute",
    "catalogue": "hooke.methods.catalogue",
    "circuit": "hooke.methods.circuit",
    "doctor": "hooke.methods.doctor",
    "evaluate": "hooke.methods.evaluate",
    "find_features": "hooke.methods.find_features",
    "intervene": "hooke.methods.intervene",
    "lens": "hooke.methods.lens",
    "load": "hooke.model.load",
    "load_result": "hooke.results",
    "patch": "hooke.methods.patch",
    "probe": "hooke.methods.probe",
    "probe_test": "hooke.methods.probe.judge",
    "scoreboard": "hooke.truth.scoreboard",
    "tasks": "hooke.methods.tasks",
    "trace": "hooke.methods.trace",
    "train": "hooke.methods.train",
    "view": "hooke.viewer.notebook",
    "visualise": "hooke.methods.visualise",
}

__all__ = [
    "Claim",
    "Edit",
    "Graph",
    "HookeError",
    "Model",
    "Node",
    "Result",
    "Site",
    "ask",
    "assess",
    "attribute",
    "catalogue",
    "circuit",
    "doctor",
    "evaluate",
    "find_features",
    "intervene",
    "lens",
    "load",
    "load_result",
    "patch",
    "probe",
    "probe_test",
    "scoreboard",
    "tasks",
    "trace",
    "train",
    "view",
    "visualise",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'hooke' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
