"""The payload of the logit lens."""

from __future__ import annotations

from typing import ClassVar

from pydantic import model_validator

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

    @model_validator(mode="after")
    def _is_rectangular(self) -> Lens:
        shape = (len(self.layers), len(self.tokens))
        tops = {len(cell) for row in self.next for cell in row}
        for rows in (self.next, self.entropy):
            if not all(shape) or len(rows) != shape[0] or {len(row) for row in rows} != {shape[1]} or len(tops) != 1:
                raise ValueError("next and entropy have an entry for each layer and position")
        return self
