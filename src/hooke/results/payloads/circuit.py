"""Payloads of circuits and of the tasks that they are found for."""

from __future__ import annotations

from typing import ClassVar, Literal

from hooke.results.payloads.base import Part, Payload, told
from hooke.results.payloads.common import Ends
from hooke.results.payloads.graph import DrawnGraph
from hooke.results.payloads.scoreboard import MethodScores
from hooke.results.verdicts import Verdict


class CircuitPairs(Part):
    """How many pairs of prompts a circuit rests on."""

    find: int = told("that it was found on", "pairs")
    report: int = told("that it is measured on", "pairs")


class CircuitMetric(Part):
    """What a circuit is to keep."""

    name: str = told("what it is called")
    clean: float = told("mean over clean prompts", "metric")
    corrupt: float = told("mean over corrupt prompts, which is what is left with everything cut", "metric")


class OwnSize(Part):
    """How faithful the circuit itself is. Faithfulness is 1 for the whole model, 0 with everything cut."""

    units: int = told("in the circuit", "units")
    faithfulness: float = told("of the circuit", "share")
    interval: Ends | None = told("95 % over pairs; null for a few", "share", "low high")
    complement: float = told("of all but the circuit", "share")
    random: float = told("of random circuits as large, mean", "share")
    random_low: float = told("least of these", "share")
    random_high: float = told("greatest of these", "share")
    random_units: list[int] = told("how large these are", "units", "circuit")
    metric: float = told("mean of the metric with the circuit alone", "metric")
    whole: float = told("of the whole model", "metric")
    none: float = told("with everything cut", "metric")
    same_side: float = told("share of pairs whose metric has the sign that the model gives it", "share")


class Faithfulness(Part):
    """Faithfulness against size, of the strongest units."""

    shares: list[float] = told("sizes as shares of all units", "share", "size")
    edges: list[int] = told("sizes, without what leads nowhere", "units", "size")
    circuit: list[float] = told("of the circuit", "share", "size")
    helpful: list[float] | None = told("of the most helpful units; null for unsigned scores", "share", "size")
    complement: list[float] = told("of all but the circuit", "share", "size")
    random: list[float] = told("of random circuits, mean", "share", "size")
    random_low: list[float] = told("least of these", "share", "size")
    random_high: list[float] = told("greatest of these", "share", "size")
    draws: int = told("random circuits of each size", "circuits")


class Overlap(Part):
    """How much pairs of circuits have in common: Jaccard."""

    edges: list[float] = told("of units", "share", "pair of circuits")
    nodes: list[float] = told("of nodes", "share", "pair of circuits")
    mean_edges: float = told("mean over the pairs", "share")
    mean_nodes: float = told("mean over the pairs", "share")


class Stability(Part):
    """Circuits of this size that were found again. Null where that was not done."""

    by_half: Overlap | None = told("on two halves of the pairs")
    by_seed: Overlap | None = told("with another seed")
    by_order: Overlap | None = told("by ACDC in other orders")
    random: Overlap | None = told("drawn at random")


class Minimality(Part):
    """Whether the parts of a circuit matter in it."""

    tried: int = told("units taken out, one by one", "units")
    of: int = told("in the circuit", "units")
    matter: int = told("that move the metric more than most random ones", "units")
    share: float | None = told("of those tried; null where none was", "share")
    controls: int = told("random units put in and taken out", "units")
    threshold: float = told("what a unit must move the metric by", "metric")
    percentile: int = told("of the controls, which sets the threshold", "per cent")


class CutRow(Part):
    """One unit that was cut in the whole model."""

    unit: str = told("its name")
    effect: float = told("what cutting it does", "metric")
    verdict: Verdict = told("whether that is more than most random units do")
    estimate: float | None = told("what its score said; null for a rank", "metric")


class Cuts(Part):
    """The strongest units, cut one by one."""

    rows: list[CutRow] = told("strongest first", axes="unit")
    controls: int = told("random units cut", "units")
    threshold: float = told("what a unit must move the metric by", "metric")
    percentile: int = told("of the controls, which sets the threshold", "per cent")


class ScoresOnTruth(MethodScores):
    """What the method scored on models whose circuit is known."""

    kinds: dict[str, MethodScores] = told("the same by kind of model", axes="kind")


class PairTokens(Part):
    """A pair of prompts by its tokens."""

    clean: list[str] = told("of the clean prompt", axes="position")
    corrupt: list[str] = told("of the corrupt prompt", axes="position")
    target: list[str] | None = told("tokens that answer the clean prompt", axes="token", default=None)
    contrast: list[str] | None = told("tokens that do not", axes="token", default=None)


class Circuit(Payload):
    """The units that carry what a model does for a task, how much they carry, and how sure that is."""

    made_by: ClassVar[str] = "hooke circuit"
    task: str | None = told("its name; null for pairs of a person's own")
    accuracy: float | None = told("of the model on the task", "share")
    method: str = told("how units were ordered")
    about: str = told("the same in words")
    signed: bool = told("whether scores have a sign")
    level: Literal["edges", "nodes", "neurons"] = told("what may be cut")
    units: str = told("what it is made of")
    size: int = told("units kept", "units")
    first: int = told("units asked for, before those that lead nowhere were left out", "units")
    n_edges: int = told("units of the model", "units")
    n_nodes: int = told("nodes of the circuit", "nodes")
    pairs: CircuitPairs = told("what it rests on")
    metric: CircuitMetric = told("what it is to keep")
    circuit: OwnSize = told("how faithful it is")
    faithfulness: Faithfulness = told("the same against size")
    cpr: float = told("area under the curve of the most helpful units", "share")
    cmd: float = told("area between the curve and 1", "share")
    cpr_random: float = told("of random circuits", "share")
    cmd_random: float = told("of random circuits", "share")
    stability: Stability = told("whether there is one circuit")
    minimality: Minimality = told("whether its parts matter")
    tests: Cuts = told("what cutting units alone does")
    passes: float | None = told(
        "what ordering took: forward passes for each pair, a backward counting two; null where not counted", "passes"
    )
    shared_disagree: int | None = told("of a file: shared keys and values that it has with several scores", "heads")
    scores_on_truth: ScoresOnTruth | None = told("what the method is worth; null where it was not scored")
    tokens: list[PairTokens] = told("the first pairs", axes="pair")
    sentence: str = told("the same in words")
    graph: DrawnGraph = told("the graph; weights below 0 support the answer")


class TaskExample(Part):
    """One pair of prompts of a task."""

    clean: str = told("the clean prompt")
    corrupt: str = told("the corrupt prompt")
    target: list[str] = told("tokens that answer the clean prompt", axes="token")
    contrast: list[str] = told("tokens that do not", axes="token")


class TaskRow(Part):
    """A task, and how well the model does it. Null where the tokenizer leaves no pairs."""

    name: str = told("what it is called")
    about: str = told("what is asked")
    metric: str = told("what it is measured by")
    source: str = told("where it is from")
    accuracy: float | None = told("prompts that are right", "share")
    interval: Ends | None = told("95 %, exact", "share", "low high")
    chance: float | None = told("what guessing gives", "share")
    able: bool = told("whether the model can do it")
    clean: float | None = told("mean over clean prompts", "metric")
    corrupt: float | None = told("mean over corrupt prompts", "metric")
    example: TaskExample | None = told("one pair")
    reason: str | None = told("why the model cannot do it; null where it can")


class Tasks(Payload):
    """The tasks there are, and how a model does on each."""

    made_by: ClassVar[str] = "hooke tasks"
    tasks: list[TaskRow] = told("in the order of the list", axes="task")
    count: int = told("pairs of prompts for each", "pairs")
    sentence: str = told("the same in words")
