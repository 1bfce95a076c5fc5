"""The payload of a harvest of activations."""

from __future__ import annotations

from typing import Any, ClassVar

from hooke.results.payloads.base import Part, Payload, told


class Kept(Part):
    """What was kept at one site."""

    site: str = told("where")
    width: int = told("numbers of a token", "numbers")
    mean_norm: float = told("mean length of a token's vector", "units of the site")


class Harvested(Payload):
    """Activations of a text, in a folder."""

    made_by: ClassVar[str] = "hooke harvest"
    belongs_to: dict[str, Any] = told("the model")
    text: dict[str, Any] = told("what is recorded of the text")
    tokens: int = told("that are kept, special ones left out", "tokens")
    shards: int = told("files", "files")
    bytes: int = told("on disk", "bytes")
    dtype: str = told("of the numbers")
    sites: list[Kept] = told("in the order of the pass", axes="site")
    new: int = told("shards that were not there before", "files")
    hash: str = told("of all that is kept, whoever made it and in however many goes")
    sentence: str = told("the same in words")
