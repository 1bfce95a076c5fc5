"""Payloads of what is measured on models whose right answer is known: circuits and toy models."""

from __future__ import annotations

from typing import ClassVar

from hooke.results.payloads.base import Part, Payload, told
from hooke.results.payloads.common import Ends


class MethodScores(Part):
    """How a method orders edges, over some models."""

    models: int | None = told("how many", "models", default=None)
    median_edge_auroc: float = told("median over models", "AUROC")
    interval: Ends | None = told("95 % over models; null for a few", "AUROC", "low high", default=None)
    p10_edge_auroc: float | None = told("tenth percentile", "AUROC", default=None)
    median_node_auroc: float | None = told("of heads and MLPs; null where all are in it", "AUROC", default=None)
    median_precision: float | None = told("true edges among as many first ones", "share", default=None)
    passes: float | None = told("forward passes for each pair, a backward counting two", "passes", default=None)


class Spread(Part):
    """How far the edge AUROC of one model differs from seed to seed."""

    seeds: int = told("how many", "seeds")
    mean: float = told("mean over models", "AUROC")
    largest: float = told("largest", "AUROC")
    on: str = told("the model where it is largest")


class Summary(Part):
    """A method over some models."""

    models: int = told("how many", "models")
    median_edge_auroc: float = told("median over models", "AUROC")
    interval: Ends | None = told("95 % of the median; null for a few", "AUROC", "low high")
    p10_edge_auroc: float = told("tenth percentile", "AUROC")
    mean_edge_auroc: float = told("mean over models", "AUROC")
    median_node_auroc: float | None = told("of heads and MLPs; null where all are in it", "AUROC")
    median_precision: float = told("true edges among as many first ones", "share")
    mean_precision: float = told("the same, mean", "share")
    seconds: float = told("of all models together", "s", timed=True)
    passes: float = told("forward passes for each pair, a backward counting two", "passes")
    random_weights: float | None = told("median on random weights, where a method finds nothing", "AUROC")
    spread: Spread | None = told("over seeds; null for slow methods")


class MethodRow(Summary):
    """A method over all models."""

    name: str = told("what it is called")
    about: str = told("how it orders edges")
    source: str = told("where it is from")
    kinds: dict[str, Summary] = told("by kind of model", axes="kind")
    families: dict[str, float] = told("median edge AUROC by family of programs", "AUROC", "family")


class Against(Part):
    """On how many models the default orders edges better than another method, as well, and worse."""

    name: str = told("the other method")
    better: int = told("better", "models")
    equal: int = told("as well", "models")
    worse: int = told("worse", "models")


class Failure(Part):
    """On which models a method orders edges badly, and what is known of why."""

    name: str = told("the method")
    below: float = told("what counts as badly", "AUROC")
    models: int = told("how many are below", "models")
    of: int = told("of how many", "models")
    worst: str = told("the worst")
    worst_edge_auroc: float = told("its edge AUROC", "AUROC")
    why: str = told("what is known of why")


class Labels(Part):
    """The edges of a model by label, with the number of scored pairs in which each changes an output."""

    true: dict[str, int] = told("needed by every circuit", "pairs", "edge")
    redundant: dict[str, int] = told("which others can stand in for", "pairs", "edge")
    cancelling: dict[str, int] = told("whose effects cancel", "pairs", "edge")
    dead: dict[str, int] = told("of no effect", "pairs", "edge")
    dead_together: int = told("pairs in which cutting all dead edges at once changes an output", "pairs")
    unexercised: list[str] = told("edges of circuits that act in no scored pair", axes="edge")
    alone: list[str] = told("true by single cuts", axes="edge")
    circuits: list[list[str]] = told("all minimal circuits", axes="circuit edge")
    scored_pairs: int = told("pairs that methods were scored on", "pairs")
    inputs: int = told("inputs that labels rest on", "inputs")
    pairs: int = told("pairs of inputs that labels rest on", "pairs")
    enumerated: bool = told("whether these are all inputs")
    exhaustive: bool = told("whether all sets of edges were tried")


class ModelScores(Part):
    """What a method scores on one model."""

    edge_auroc: float = told("against the nearest minimal circuit", "AUROC")
    edge_auroc_alone: float = told("against the labels of single cuts", "AUROC")
    node_auroc: float | None = told("of heads and MLPs; null where all are in it", "AUROC")
    precision: float = told("true edges among as many first ones", "share")
    seconds: float = told("what it took", "s", timed=True)
    passes: float = told("forward passes for each pair, a backward counting two", "passes")
    other_seeds: list[float] | None = told("edge AUROC with pairs of other seeds", "AUROC", "seed", default=None)


class KnownModel(Part):
    """One model whose circuit is known."""

    name: str = told("of its program")
    kind: str = told("compiled, or trained-in")
    family: str = told("of programs")
    edges: int = told("of the model", "edges")
    true_edges: int = told("labelled true", "edges")
    redundant_edges: int = told("labelled redundant", "edges")
    labels: Labels = told("edges by label")
    methods: dict[str, ModelScores] = told("what each scores", axes="method")
    random_weights: dict[str, float] | None = told(
        "edge AUROC on random weights; null where not tried", "AUROC", "method", default=None
    )


class Scoreboard(Payload):
    """Circuit methods on models whose circuit is known."""

    made_by: ClassVar[str] = "hooke bench truth"
    default: str = told("the method that circuits take unless another is named")
    models: int = told("how many", "models")
    methods: list[MethodRow] = told("best first", axes="method")
    against_default: list[Against] = told("the default beside each other method", axes="method")
    failures: list[Failure] = told("where each method fails", axes="method")
    each: list[KnownModel] = told("every model by itself", axes="model")
    sentence: str = told("the same in words")


class RandomSums(Part):
    """What a random model of the same shape gives."""

    key_frequencies: list[int] = told("found in it", "frequency", "frequency")
    explained: float = told("by as many of its strongest", "share")


class Modular(Part):
    """A model that adds modulo p (2301.05217)."""

    p: int = told("the modulus", "numbers")
    key_frequencies: list[int] = told("that it runs on", "frequency", "frequency")
    explained: float = told("of the variance of its logits, by these", "share")
    explained_by_each: list[float] = told("the same by each", "share", "frequency")
    right: float = told("sums that are right", "share")
    random: RandomSums = told("of a random model")


class HeadScores(Part):
    """Scores of the heads of a model of induction (2209.11895)."""

    previous_token: list[list[float]] = told("attention to the token before", "share", "layer head")
    prefix_matching: list[list[float]] = told("attention to what followed the same token", "share", "layer head")
    copying: list[list[float]] = told("how far a head raises what it reads", "share", "layer head")
    gain: float = told("in context", "nats")


class Induction(HeadScores):
    """The same with what is left of the gain without the heads."""

    heads: list[str] = told("that match prefixes", axes="head")
    gain_without: float = told("without these", "nats")
    gain_without_each_other_head: list[float] = told("without one of the others", "nats", "head")
    random: HeadScores = told("of a random model")


class RandomDirections(Part):
    """What random directions give."""

    plateaus: dict[str, int] = told("features near each plateau", "features", "plateau")
    near: int = told("features near any", "features")


class Superposition(Part):
    """A toy model of superposition (Elhage and others, 2022)."""

    shape: dict[str, float] = told("what was trained", "as named", "setting")
    features: int = told("in the model", "features")
    plateaus: dict[str, int] = told("features near each plateau of dimensionality", "features", "plateau")
    near: int = told("features near any", "features")
    farthest: float = told("of a feature from its nearest plateau", "dimensions")
    dimensions_per_feature: float = told("of the hidden space", "dimensions")
    as_known: bool = told("whether these are the published plateaus")
    random: RandomDirections = told("of random directions")


class Toys(Payload):
    """Toy models whose inner workings are published, read by Hooke's tools."""

    made_by: ClassVar[str] = "hooke bench toys"
    modular: Modular = told("addition modulo p")
    induction: Induction = told("induction heads")
    superposition: list[Superposition] = told("features in superposition", axes="model")
    sentence: str = told("the same in words")
