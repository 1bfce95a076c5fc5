"""Payloads of catalogues: one that was made, and what was found in one."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import create_model

from hooke.results.payloads.base import Part, Payload, told


class LabelCounts(Part):
    """How many sides of features have a label that holds, and of which kind."""

    input: int = told("by what they fire on", "sides")
    output: int = told("by what they make likelier", "sides")
    both: int = told("by both", "sides")
    obscure: int = told("none that is above its controls", "sides")


class Level(Part):
    """How well descriptions tell where features fire, at one level of activation."""

    level: int = told("from 1, what just counts as firing, to 5, the largest", "level")
    detection: float | None = told("mean balanced accuracy", "balanced accuracy")
    control: float | None = told("the same of other features' descriptions", "balanced accuracy")
    features: int = told("sides that have held-out examples there", "sides")


class CatalogueBuilt(Payload):
    """A catalogue of features."""

    made_by: ClassVar[str] = "hooke catalogue build"
    basis: list[str] = told("hashes of the blocks", axes="block")
    belongs_to: dict[str, Any] = told("the model")
    text: dict[str, Any] = told("what is recorded of the text")
    kinds: list[str] = told("of text", axes="kind")
    tokens: int = told("of the text", "tokens")
    measured_on: int = told("of these, that effects were measured on", "tokens")
    features: int = told("in all blocks", "features")
    sides: int = told("of each feature: above zero, and below it where it can be", "sides")
    examples: int = told("that are kept, of all sides", "examples")
    silent: int = told("sides that never fire", "sides")
    labels: LabelCounts = told("how many have one")
    labelled: float = told(
        "of the features in the upper half by effect, those whose side that matters more has a label", "share"
    )
    labelled_all: float = told("the same of all features", "share")
    score: float | None = told("mean of the descriptions by what features fire on", "balanced accuracy")
    control: float | None = told("mean of the bars that they have to be above", "balanced accuracy")
    levels: list[Level] = told("by level of activation", axes="level")
    bytes: int = told("of the tables and the text", "bytes")
    hash: str = told("of all that is in the tables")
    notes: list[str] = told("what a reader should know", axes="note")
    sentence: str = told("the same in words")


class _FoundFeature(Part):
    """One side of a feature, as a search found it."""

    feature: str = told("which: layer and number, and the side where it has two")
    label: str | None = told("what may be said of it; null where nothing that was tried is above its controls")
    score: float | None = told("of the label, on passages that it was not made from", "balanced accuracy")
    control: float | None = told("the bar that it has to be above", "balanced accuracy")
    match: float = told("how well it fits what was asked for", "match")
    density: float = told("of tokens on which it fires", "share")
    effect: float = told("mean |a · dL/da| over the text", "nats")
    fires_on: list[str] = told("its strongest tokens, each with what stands before it", axes="example")
    promotes: list[str] = told("tokens that it makes likelier", axes="token")


# `class` is a word of Python's own, and the key that scripts read
_KEYS: dict[str, Any] = {"class": (str, told("input, output, both or obscure"))}
FoundFeature: Any = create_model("FoundFeature", __base__=_FoundFeature, __doc__=_FoundFeature.__doc__, **_KEYS)


class FoundFeatures(Payload):
    """What a search in a catalogue found."""

    made_by: ClassVar[str] = "hooke features"
    query: str = told("what was asked for")
    by: str = told("how: words, token, effect, text, name or direction")
    catalogue: str = told("the hash of the catalogue")
    belongs_to: dict[str, Any] = told("the model that it is of")
    results: list[FoundFeature] = told("sides of features, best first", axes="feature")
    notes: list[str] = told("what a reader should know", axes="note")
    sentence: str = told("the same in words")


class OptimisedPrompt(Part):
    """A prompt that a search found."""

    text: str = told("to type")
    ids: list[int] = told("its tokens", "token id", "position")
    activation: float = told("of the feature's side at the last token", "activation")
    cost: float = told("mean -log p of its tokens, each given those before it", "nats")


class Visualisation(Payload):
    """Prompts that make a feature fire most, beside what a text has."""

    made_by: ClassVar[str] = "hooke visualise"
    feature: str = told("which, and which side")
    front: list[OptimisedPrompt] = told(
        "the prompts that none beats in activation and cost, cheapest first", axes="prompt"
    )
    best: OptimisedPrompt | None = told("the strongest that costs no more than the text")
    random: OptimisedPrompt | None = told("the same of a random search over as many prompts")
    text_largest: float = told("the largest activation in the text, with all that stands before it", "activation")
    text_example: str = told("where that is: it ends with the token")
    text_cost: float = told("mean cost of random pieces of the text, as long as a prompt and by themselves", "nats")
    text_tokens: int = told("of the text", "tokens")
    exceeds: bool = told("whether `best` is above `text_largest`")
    passes: int = told("prompts that the search ran", "prompts")
    notes: list[str] = told("what a reader should know", axes="note")
    sentence: str = told("the same in words")
