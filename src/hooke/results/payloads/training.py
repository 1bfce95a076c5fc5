"""The payload of a training of dictionaries."""

from __future__ import annotations

from typing import Any, ClassVar

from hooke.results.payloads.base import Part, Payload, told


class Curve(Part):
    """How one dictionary did while it trained, on the batches themselves."""

    loss: list[float] = told("per token, of scaled activations", "squared length", "look")
    explained: list[float] = told("of the variance of a batch", "share", "look")
    l0: list[float] = told("features that fire on a token", "features", "look")
    dead: list[float] = told("features that have not fired for a tenth of all tokens", "share", "look")


class ApartFeature(Part):
    """A feature that one of two models has alone, by what it writes."""

    feature: int = told("which", "id")
    model: str = told("whose")
    norm: float = told("0: the first model's alone, 1: the second's, by what it writes in each", "share")
    ratio: float | None = told(
        "latent scaling in the model that has less of it over that in the other: near 1, both have it", "ratio"
    )
    fires: int = told("tokens held out on which it is active", "tokens")


class TwoModels(Part):
    """What a crosscoder says of the two models that it reads."""

    names: list[str] = told("the models", axes="model")
    explained: list[float] = told("of the variance in each, over all tokens held out", "share", "model")
    both: int = told("features that write as much in both (a norm of 0.4 to 0.6) and fire", "features")
    alone: list[int] = told("features that write in one alone (under 0.1 or over 0.9) and fire", "features", "model")
    artefacts: list[int] = told("those of them whose direction the other model has as well", "features", "model")
    features: list[ApartFeature] = told("of one model alone, those that fire most first", axes="feature")


class TrainedDictionary(Part):
    """One dictionary at the end, measured on tokens that nothing was trained on."""

    name: str = told("which")
    folder: str = told("where it is, in the folder of the training")
    reads: list[str] = told("sites that it reads", axes="site")
    writes: list[str] = told("sites that it writes", axes="site")
    features: int = told("in all blocks", "features")
    hash: str = told("of the weights of its blocks")
    explained_variance: float = told("1 - Σ|y - ŷ|² / Σ|y - ȳ|² over all tokens held out", "share")
    l0: float = told("features that fire on a token, of all blocks", "features")
    dead: float = told("features that never fire on the tokens held out", "share")
    curve: Curve = told("while it trained")
    models: TwoModels | None = told("of a crosscoder: what both models have, and one alone", default=None)


class Training(Payload):
    """Dictionaries that were trained, and how they did."""

    made_by: ClassVar[str] = "hooke train"
    kind: str = told("of dictionary")
    gate: str = told("the rule by which features fire")
    belongs_to: dict[str, Any] = told("the model")
    sources: list[str] = told("of the text", axes="source")
    text: dict[str, Any] = told("what is recorded of the text")
    tokens: int = told("that were trained on, each time they came", "tokens")
    held_out: int = told("that the figures at the end are of", "tokens")
    steps: int = told("of the optimiser", "steps")
    batch: int = told("tokens of a step", "tokens")
    looks: list[int] = told("the tokens seen at each look of the curves", "tokens", "look")
    stopped: str = told("why it stopped before all steps; empty if it did not")
    dictionaries: list[TrainedDictionary] = told("one for each layer and setting", axes="dictionary")
    hash: str = told("of all weights: the same if the training was the same to the last bit")
    notes: list[str] = told("what a reader should know", axes="note")
    sentence: str = told("the same in words")
