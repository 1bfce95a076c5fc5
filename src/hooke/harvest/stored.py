"""A harvest in a folder: what it is of, its plan, its shards, and a table of what each shard holds.

    spec.json                 model, sites, dtype, plan, texts: what must agree for a shard to be taken
    plan.safetensors          which tokens, in which order
    shard-00000.safetensors   one site a tensor (n, width), and ids, document, position (n,)
    shard-00000.json          the row of the table that says the shard is finished: counts, hashes, sums
    manifest.parquet          the table, once all are

Every file appears whole. A shard is a function of spec and plan, so whoever comes second writes the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hooke.errors import HookeError
from hooke.files import read_json
from hooke.harvest.places import Place
from hooke.harvest.plans import Plan, Progress, load_plan
from hooke.harvest.stream import Activations, rows_of, shard, widths
from hooke.harvest.tensors import read_tensors, write_tensors
from hooke.model import Model
from hooke.model.belongs import belongs_to, differences
from hooke.sites import Site, sites_in

SPEC, PLAN, MANIFEST = "spec.json", "plan.safetensors", "manifest.parquet"
MOST_SHARD = 2**37  # bytes
MOST_TABLE = 2**30
ROWS = 8192  # rows that are summed together
KEYS = {"model", "sites", "dtype", "plan", "seed", "context", "n_tokens", "shards", "texts", "threads"}  # of a spec
BESIDE = ("ids", "document", "position")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}


@dataclass(frozen=True, eq=False)
class Stored:
    """A harvest in a folder, as far as it has come. rows: those of the table, by shard."""

    place: Place
    spec: dict[str, Any] = field(repr=False)
    plan: Plan
    rows: dict[int, dict[str, Any]] = field(repr=False)

    @property
    def sites(self) -> list[Site]:
        """What was read, in the order of the pass."""
        return sites_in(self.spec["sites"])

    @property
    def missing(self) -> list[int]:
        """The shards that are not finished."""
        return [number for number in range(len(self.plan.shards)) if number not in self.rows]

    @property
    def hash(self) -> str:
        """The sha256 of all shards' hashes: of what the harvest holds, whoever made it and in however many goes."""
        whole = json.dumps([self.rows[number]["sha256"] for number in sorted(self.rows)] + self.missing)
        return hashlib.sha256(whole.encode()).hexdigest()

    @property
    def manifest(self) -> Any:
        """The table, one row a shard (a pyarrow Table): shard, file, n_rows, bytes, sha256, first_document,
        last_document, tensors [{name, sha256}], sites [{site, sum (width,), sumsq (width,), mean_norm}]."""
        import pyarrow

        return pyarrow.Table.from_pylist([self.rows[number] for number in sorted(self.rows)])

    def shard(self, number: int, sites: Sequence[Site | str] | None = None) -> Activations:
        """The rows of one shard, on the CPU. sites: only these of it, and no others are read.

        Raises HookeError for a shard or site that is not there, and for a file that is not what the table says.
        """
        wanted = self.sites if sites is None else sites_in(sites)
        absent = [site for site in wanted if site not in self.sites]
        if absent:
            raise HookeError(f"{self.place} holds no {absent[0]}; there are {', '.join(self.spec['sites'])}")
        if not 0 <= number < len(self.plan.shards):
            raise HookeError(f"there is no shard {number}: {self.place} has {len(self.plan.shards)}, numbered from 0")
        if number not in self.rows:
            raise HookeError(f"shard {number} of {self.place} is not finished; run the same harvest again to go on")
        row = self.rows[number]
        names = [*map(str, wanted), *BESIDE]
        folder = None if self.place.fs is not None else Path(self.place.path)
        with self.place.reading(row["file"]) as path:
            about, found, digests = read_tensors(path, MOST_SHARD, names, folder=folder)
        if about.get("spec") != spec_hash(self.spec):
            raise HookeError(f"{self.place}/{row['file']} is of another harvest; remove it and harvest again")
        known = {entry["name"]: entry["sha256"] for entry in row["tensors"]}
        for name, x in found.items():
            if digests[name] != known.get(name) or len(x) != row["n_rows"]:
                raise HookeError(f"{self.place}/{row['file']}: {name} is damaged; remove the file and harvest again")
        return Activations({site: found[str(site)] for site in wanted}, *(found[name] for name in BESIDE))

    def part(self, plan: Plan, number: int, sites: Sequence[Site | str] | None = None) -> Activations:
        """What `shard` would run, for one shard of a plan of some of this harvest's pieces (`subset`): the same rows in
        the same order, on the CPU."""
        rows = [torch.from_numpy(part) for part in rows_of(plan, number)]
        wanted, keys = rows[1:], _keys(*rows[1:])
        order = keys.argsort()
        known = keys[order]
        values: dict[Site, Tensor] = {}
        for which in sorted(self._holding(plan, number)):
            found = self.shard(which, sites)
            there = _keys(found.document, found.position)
            at = torch.searchsorted(known, there).clamp(max=len(known) - 1)
            ours = known[at] == there
            for site, x in found.values.items():
                whole = values.setdefault(site, x.new_empty(len(keys), x.shape[1]))
                whole[order[at[ours]]] = x[ours]
        return Activations(values, rows[0], *wanted)

    def _holding(self, plan: Plan, number: int) -> set[int]:
        """The shards in which the pieces of another plan's shard lie."""
        own = self._shard_of
        pieces = plan.shards[number]
        return {own[int(plan.document[i]), int(plan.start[i])] for i in pieces}

    @cached_property
    def _shard_of(self) -> dict[tuple[int, int], int]:
        """The shard of each piece, by its passage and where it starts there."""
        plan = self.plan
        return {
            (int(plan.document[i]), int(plan.start[i])): number
            for number, pieces in enumerate(plan.shards)
            for i in pieces
        }


def _keys(document: Tensor, position: Tensor) -> Tensor:
    """(n,): one number for each token of all passages."""
    return document.long() * 2**32 + position.long()


def open_store(folder: str | Path | Place, *, model: Model | None = None) -> Stored:
    """A harvest in a folder, finished or not. model: the one that it has to be of.

    Raises HookeError if there is none, if a file is not whole, and if it is of another model, saying what differs.
    """
    place = Place.of(folder)
    sizes = place.sizes()
    if SPEC not in sizes:
        raise HookeError(f"{place} holds no harvest: there is no {SPEC} in it")
    with place.reading(SPEC) as path:
        spec = read_json(path)
    if not isinstance(spec, dict) or not spec.keys() >= KEYS:
        raise HookeError(f"{place}/{SPEC} says not what the harvest is of; harvest into another folder")
    if model is not None and (others := differences(spec["model"], model)):
        raise HookeError(f"{place} was harvested from another model: {'; '.join(others)}")
    with place.reading(PLAN) as path:
        plan = load_plan(path)
    if plan.hash != spec["plan"]:
        raise HookeError(f"{place}/{PLAN} is of another harvest than {SPEC}; harvest into another folder")
    return Stored(place, spec, plan, _rows(place, sizes))


def spec_of(model: Model, plan: Plan, sites: Sequence[Site | str], dtype: torch.dtype) -> dict[str, Any]:
    """What a harvest is of: all that its shards depend on, and where it comes from."""
    name = next((name for name, known in DTYPES.items() if known == dtype), None)
    if name is None:
        raise HookeError(f"activations are kept as {', '.join(DTYPES)}, not {dtype}")
    return {
        "model": belongs_to(model),
        "sites": [str(site) for site in widths(model, sites)],
        "dtype": name,
        "plan": plan.hash,
        "seed": plan.seed,
        "context": plan.context,
        "n_tokens": plan.n_tokens,
        "shards": len(plan.shards),
        "texts": plan.texts,
        "threads": torch.get_num_threads(),  # how sums are split over them shows in the last bit
    }


def spec_hash(spec: dict[str, Any]) -> str:
    """The sha256 that each shard of a harvest names."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()


def write_shard(
    model: Model, plan: Plan, number: int, place: Place, spec: dict[str, Any], progress: Progress | None = None
) -> dict[str, Any]:
    """Run one shard, write it, then the row that says it is finished. Returns the row.

    Raises HookeError if a value is not finite in the dtype asked for.
    """
    with _threads(spec["threads"]):
        found = shard(model, plan, number, spec["sites"], dtype=DTYPES[spec["dtype"]], progress=progress)
    sites = [{"site": str(site), **_sums(x, site, spec["dtype"])} for site, x in found.values.items()]
    tensors = {str(site): x for site, x in found.values.items()}
    tensors |= {name: getattr(found, name) for name in BESIDE}
    file = file_name(number)
    with place.writing(file) as path:
        written = write_tensors(path, tensors, {"spec": spec_hash(spec), "shard": str(number)})
    row = {
        "shard": number,
        "file": file,
        "n_rows": len(found),
        "bytes": written.size,
        "sha256": written.sha256,
        "first_document": int(found.document.min()),
        "last_document": int(found.document.max()),
        "tensors": [{"name": name, "sha256": digest} for name, digest in sorted(written.tensors.items())],
        "sites": sites,
    }
    with place.writing(_row_name(number)) as path:
        path.write_text(json.dumps(row), encoding="utf-8")
    return row


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Torch with so many threads, then with as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _sums(x: Tensor, site: Site, dtype: str) -> dict[str, Any]:
    """Sum and sum of squares by dimension, and the mean norm of rows (n, width), in double precision."""
    total, squares, norms = (torch.zeros(x.shape[1], dtype=torch.float64) for _ in range(3))
    for start in range(0, len(x), ROWS):
        part = x[start : start + ROWS].double()
        total += part.sum(0).cpu()
        squares += part.square().sum(0).cpu()
        norms[0] += part.norm(dim=1).sum().cpu()
    if not bool(squares.isfinite().all()):
        raise HookeError(f"values at {site} are not finite in {dtype}; keep them in float32 or bfloat16")
    return {"sum": total.tolist(), "sumsq": squares.tolist(), "mean_norm": float(norms[0]) / len(x)}


def _rows(place: Place, sizes: dict[str, int]) -> dict[int, dict[str, Any]]:
    """The rows of the finished shards, in the table or in files beside them, whose file has its size."""
    rows = _table(place) if MANIFEST in sizes else []
    named = {row["shard"] for row in rows}
    for name in sorted(sizes):
        if name.startswith("shard-") and name.endswith(".json") and name not in map(_row_name, named):
            with place.reading(name) as path:
                row = read_json(path)
            rows += [row] if _row_fits(row) else []
    return {row["shard"]: row for row in rows if sizes.get(row["file"]) == row["bytes"]}


def _table(place: Place) -> list[dict[str, Any]]:
    import pyarrow
    from pyarrow.parquet import read_table

    from hooke.files import open_file

    try:
        with place.reading(MANIFEST) as path, open_file(path, MOST_TABLE) as file:
            rows = read_table(file).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise HookeError(f"{place}/{MANIFEST} cannot be read ({str(error).splitlines()[0]}); remove it") from None
    if not all(_row_fits(row) for row in rows):
        raise HookeError(f"{place}/{MANIFEST} is not the table of a harvest; remove it")
    return rows


def _row_fits(row: Any) -> bool:
    """Whether a row says what it has to, of a file in the folder itself."""
    keys = {"shard", "file", "n_rows", "bytes", "sha256", "tensors", "sites"}
    if not isinstance(row, dict) or not keys <= row.keys() or type(row["shard"]) is not int:
        return False
    return row["file"] == file_name(row["shard"])


def file_name(number: int) -> str:
    """What the file of a shard is called."""
    return f"shard-{number:05d}.safetensors"


def _row_name(number: int) -> str:
    return f"shard-{number:05d}.json"
