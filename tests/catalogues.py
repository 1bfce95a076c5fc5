"""What tests of catalogues share: how many tokens, and a catalogue that was built."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hooke import Result
from hooke.features import Catalogue

TOKENS = 12_000


@dataclass
class Built:
    """One catalogue of all neurons of the tiny model."""

    result: Result
    folder: Path
    catalogue: Catalogue
