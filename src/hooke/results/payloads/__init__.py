"""The payloads of results, one model a kind: what each field is, its unit and its axes. No torch in here.

`Result.make` holds every payload against its model, and `load_result` every file. The JSON schema, the page's types,
the terminal's tables and `docs/results.md` are made of the same models. A new kind is a class and a row in `KINDS`.
"""

from __future__ import annotations

from hooke.results.payloads import (
    assess,
    battery,
    catalogue,
    circuit,
    evaluation,
    graph,
    harvest,
    lens,
    listings,
    patch,
    probe,
    scoreboard,
    trace,
    training,
    triggers,
)
from hooke.results.payloads.base import Part, Payload, numbers, told

KINDS: dict[str, type[Payload]] = {
    "trace": trace.Trace,
    "intervention": trace.Intervention,
    "graph": graph.GraphPayload,
    "lens": lens.Lens,
    "patch": patch.Patch,
    "path_patch": patch.PathPatch,
    "attribution": patch.Attribution,
    "circuit": circuit.Circuit,
    "tasks": circuit.Tasks,
    "probe": probe.Probe,
    "probe_test": probe.ProbeTest,
    "probe_explain": probe.ProbeExplain,
    "training": training.Training,
    "harvest": harvest.Harvested,
    "evaluation": evaluation.Evaluation,
    "catalogue": catalogue.CatalogueBuilt,
    "features": catalogue.FoundFeatures,
    "visualisation": catalogue.Visualisation,
    "datasets": listings.Datasets,
    "assess": assess.Assessment,
    "load_checks": assess.LoadChecks,
    "coverage": assess.Coverage,
    "answers": battery.Answers,
    "difference": battery.Difference,
    "behaviour": battery.Behaviour,
    "scan_below": triggers.ScanBelow,
    "triggers": triggers.Triggers,
    "elicitation": battery.Elicitation,
    "hypotheses": assess.Hypotheses,
    "restore": assess.Restore,
    "score": assess.Score,
    "scoreboard": scoreboard.Scoreboard,
    "toys": scoreboard.Toys,
    "organism": listings.OrganismTest,
    "organisms": listings.Organisms,
    "trained": listings.Trained,
    "models": listings.Models,
    "doctor": listings.Doctor,
}

__all__ = ["KINDS", "Part", "Payload", "numbers", "told"]
