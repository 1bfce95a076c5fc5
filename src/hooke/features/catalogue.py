"""A catalogue in a folder: opened, held against a model, and looked up with DuckDB.

catalogue.json     what it is of: model, dictionaries, text; how many rows; the hash of all that is in the tables
features.parquet   a row for each side of each feature
examples.parquet   their examples
plan.safetensors   the tokens of the text
people.sqlite      what people added, once they did
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hooke.errors import HookeError
from hooke.features.names import Name
from hooke.features.table import EXAMPLES, FEATURES
from hooke.files import open_file, path_of, read_json, tensor_header

if TYPE_CHECKING:
    from hooke.model import Model

MANIFEST, PLAN, VOCABULARY = "catalogue.json", "plan.safetensors", "vocabulary.json"
VERSION = 1
MOST_TEXT = 2**38  # bytes
WORDS = ("weights", "tokenizer")  # what a catalogue has to share with a model; labels hold in any precision


@dataclass(frozen=True, eq=False)
class Catalogue:
    """A finished catalogue. about: its manifest."""

    folder: Path
    about: dict[str, Any] = field(repr=False)

    @cached_property
    def text(self) -> tuple[np.ndarray, np.ndarray]:
        """(tokens,) the ids of the text, and (pieces + 1,) where each of its pieces begins."""
        path, found = self.folder / PLAN, []
        with open_file(path, MOST_TEXT, folder=self.folder) as file:
            _, entries = tensor_header(path, file)
            start = file.tell()
            for name, dtype in (("ids", "<i4"), ("offsets", "<i8")):
                if name not in entries:
                    raise HookeError(f"{path} holds no text; build this catalogue again")
                first, last = entries[name]["data_offsets"]
                file.seek(start + first)
                found.append(np.frombuffer(file.read(last - first), dtype))
        return found[0], found[1]

    @cached_property
    def vocabulary(self) -> list[str]:
        """Every token as people see it."""
        found = read_json(self.folder / VOCABULARY, 2**28, folder=self.folder)
        if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
            raise HookeError(f"{self.folder / VOCABULARY} is no list of tokens; build this catalogue again")
        return found

    @cached_property
    def _base(self) -> Any:
        import duckdb

        base = duckdb.connect(config={"threads": 1})
        base.execute("set parquet_metadata_cache = true")  # the tables of a finished catalogue do not change
        return base

    def ask(self, query: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Rows of a query over the tables `features` and `examples`. values: what stands for its question marks."""
        for name in (FEATURES, EXAMPLES):
            path = str(self.folder / name).replace("'", "''")
            query = query.replace("{" + name.partition(".")[0] + "}", f"read_parquet('{path}')")
        import duckdb

        try:
            found = self._base.cursor().execute(query, list(values))
            names = [column[0] for column in found.description]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
        except (duckdb.IOException, duckdb.InvalidInputException, duckdb.BinderException) as error:
            line = str(error).partition("\n")[0]
            raise HookeError(
                f"the tables in {self.folder} are damaged: {line[:200]}; build this catalogue again"
            ) from None

    def rows(self, name: Name) -> list[dict[str, Any]]:
        """The rows of a feature, one for each side. Raises HookeError for one that is not there."""
        start, found = self.start(name.layer), []
        sides = int(self.about["sides"])
        if start is not None and name.number < start[1]:
            first = start[0] + name.number * sides
            query = "select * from {features} where id between ? and ? order by id"
            found = self.ask(query, [first, first + sides - 1])
            found = [row for row in found if not name.sign or (row["sign"] > 0) == (name.sign == "+")]
        if not found:
            raise HookeError(f"there is no feature {name} in {self.folder.name}; it has {self.says}")
        return found

    def examples(self, ids: Sequence[int]) -> dict[int, dict[str, Any]]:
        """By id, the examples of rows."""
        marks = ", ".join("?" for _ in ids)
        return {row["id"]: row for row in self.ask(f"select * from {{examples}} where id in ({marks})", ids)}

    def start(self, layer: int) -> tuple[int, int] | None:
        """The first id of the block of a layer, and how many features it has; None where there is none."""
        at = 0
        for block in self.about["blocks"]:
            if block["layer"] == layer:
                return at, int(block["features"])
            at += int(block["features"]) * int(self.about["sides"])
        return None

    @property
    def says(self) -> str:
        """How many features there are, in words."""
        blocks = self.about["blocks"]
        return f"{sum(b['features'] for b in blocks):,} features in layers {', '.join(str(b['layer']) for b in blocks)}"

    def window(self, at: int, before: int, after: int) -> tuple[np.ndarray, int]:
        """The tokens around one of the plan, inside its piece, and where it stands among them."""
        ids, offsets = self.text
        piece = int(np.searchsorted(offsets, at, "right")) - 1
        first = max(int(offsets[piece]) + int(self.about["skip"]), at - before)
        last = min(int(offsets[piece + 1]), at + after + 1)
        return ids[first:last], at - first


def open_catalogue(folder: str | Path, model: Model | None = None) -> Catalogue:
    """A finished catalogue. Raises HookeError for a folder that holds none, a file that is not whole, and one of
    another model, saying what differs."""
    path = path_of(folder)
    if not (path / MANIFEST).is_file():
        begun = " that is finished; run the same build again to go on" if (path / "spec.json").is_file() else ""
        raise HookeError(f"{path} holds no catalogue{begun or '; hooke catalogue build makes one'}")
    about = read_json(path / MANIFEST, 2**24, folder=path)
    if not isinstance(about, dict) or about.get("version") != VERSION:
        raise HookeError(f"{path / MANIFEST} is no manifest of a catalogue that this Hooke reads")
    if model is not None:
        from hooke.model.belongs import differences

        other = [words for words in differences(about["belongs_to"], model) if words.startswith(WORDS)]
        if other:
            raise HookeError(
                f"{path.name} is a catalogue of {about['belongs_to'].get('model')!r}, and differs from {model.name!r} "
                f"in its {', '.join(other)}; build one of this model"
            )
    return Catalogue(path, about)
