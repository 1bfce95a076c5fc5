"""What occurs in the payloads of many kinds: tokens, quantities, rates."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hooke.results.payloads.base import Part, told

Side = Literal["clean", "corrupt"]
Op = Literal["off", "double"]
Called = Literal["neurons", "features"]  # what the features of a trace are: neurons, or any of trained dictionaries
Ends = Annotated[list[float], Field(min_length=2, max_length=2)]
LayerEnds = Annotated[list[int], Field(min_length=2, max_length=2)]
Grid = list[list[float | None]] | list[list[list[float | None]]]  # [layer][position], or [layer][unit][position]


class Token(Part):
    """A token of the vocabulary, and how likely it is next."""

    token: str = told("the token as people see it")
    id: int = told("its number in the vocabulary", "token id")
    probability: float | None = told("of being next", "probability", default=None)


class NamedToken(Part):
    """A token that a metric names; of several the first."""

    token: str = told("the token as people see it")
    id: int = told("its number in the vocabulary", "token id")
    of: int | None = told("how many tokens there are, if several", "tokens", default=None)


class Quantity(Part):
    """What a number measures."""

    name: str = told("what it is called everywhere")
    equation: str = told("of the logits l, of target t and contrast c")
    unit: str = told("what it is counted in")
    about: str = told("half a sentence for people")


class Area(Part):
    """An area under a curve and its 95 % interval, with what it was measured on."""

    auroc: float | None = told("area under the ROC curve; null where a label is missing", "AUROC")
    interval: Ends | None = told("95 % interval over groups", "AUROC", "low high")


class Alarms(Part):
    """How many clean fine-tunes the rules would flag, of how many, and the one-sided 95 % bound of the rate."""

    count: int = told("how many would be flagged", "models")
    n: int = told("of how many", "models")
    upper_95: float = told("the rate is at most this, with 95 % confidence", "share")


class Prompts(Part):
    """The tokens of a clean and a corrupt prompt."""

    clean: list[str] = told("of the clean prompt", axes="position")
    corrupt: list[str] | None = told("of the corrupt prompt; null where there is none", axes="position")
