"""The payload of the logit lens."""

from __future__ import annotations

from typing import ClassVar

from hooke.results.payloads.base import Payload, told
from hooke.results.payloads.common import Token


class Choice(Token):
    """What the model says next, and from which layer on it comes first."""

    from_layer: int = told("the first layer from which it stays first; -1 is the embedding", "layer")


class Lens(Payload):
    """What each layer would say next, at each position."""

    made_by: ClassVar[str] = "hooke lens"
    tokens: list[str] = told("of the prompt", axes="position")
    layers: list[int] = told("of the rows; -1 is the embedding", "layer", "row")
    next: list[list[list[Token]]] = told("the likeliest next tokens", axes="layer position rank")
    entropy: list[list[float]] = told("of the prediction at each place", "nats", "layer position")
    choice: Choice = told("the model's own, at the last position")
    sentence: str = told("the same in words")
