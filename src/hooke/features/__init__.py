"""The catalogue of features: what each fires on, what it does, and what may be said of it.

names     how a feature is written: 12_345, with + or - for one of its sides
table     the columns of the two tables, and how they are written
catalogue a catalogue in a folder: looked up, checked against a model
index     words of features, for search; search: by what a person says, by token, by effect
people    what people add: labels, notes, stars
"""

from __future__ import annotations

from hooke.features.catalogue import Catalogue, open_catalogue
from hooke.features.names import Name, name_in

__all__ = ["Catalogue", "Name", "name_in", "open_catalogue"]
