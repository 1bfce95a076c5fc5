"""A dictionary as a folder: `dictionary.json` says what it is, belongs to and was made from, and one safetensors file
a block holds its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from hooke.dictionaries.coder import Coder
from hooke.errors import HookeError
from hooke.files import check_file, is_dir, is_file, path_of, read_json, write_atomic
from hooke.model import Model
from hooke.model.belongs import differences
from hooke.sites import Site

NAME = "dictionary.json"
MOST = 64 * 2**30  # bytes of one block


class _Saved(BaseModel):
    model_config = ConfigDict(extra="forbid")


class BlockFile(_Saved):
    """One block: the file of its weights, their hash, and everything else that decides what it computes."""

    file: Annotated[str, StringConstraints(pattern=r"^[\w.-]+\.safetensors$")]
    hash: str
    reads: list[str] = Field(min_length=1)
    writes: list[str] = Field(min_length=1)
    n_features: int = Field(ge=1)
    gate: str
    k: int | None = None
    scaled: bool = False
    refine: float = 0.0
    norm: str = ""


class DictionaryFile(_Saved):
    """`dictionary.json`. belongs_to: the model that it was made from, None where a foreign file does not say; against:
    the other one of a crosscoder. made: from which text, how, and how it did at the end."""

    format: Literal["hooke dictionary"] = "hooke dictionary"
    version: Literal[1] = 1
    blocks: list[BlockFile] = Field(min_length=1)
    belongs_to: dict[str, Any] | None = None
    against: dict[str, Any] | None = None
    made: dict[str, Any] = Field(default_factory=dict)


def save_dictionary(
    blocks: Sequence[Coder],
    folder: str | Path,
    *,
    belongs_to: Mapping[str, Any] | None = None,
    against: Mapping[str, Any] | None = None,
    made: Mapping[str, Any] | None = None,
) -> Path:
    """Write blocks as a folder, `dictionary.json` last: a folder that was not finished has none.

    belongs_to: `hooke.model.belongs.belongs_to` of the model it was made from; against: the same of the other model of
    a crosscoder. made: plain data, kept as it is.
    Raises HookeError where the folder cannot be written.
    """
    from safetensors.torch import save

    folder, entries = path_of(folder), []
    for number, block in enumerate(blocks):
        file = f"{number:03d}-{block.reads[0]}.safetensors"
        tensors = {name: x.detach().cpu().contiguous().clone() for name, x in block.tensors().items()}
        write_atomic(folder / file, save(tensors))
        entries.append(BlockFile(file=file, hash=block.hash, **block.rule()))
    of, other = (None if some is None else dict(some) for some in (belongs_to, against))
    about = DictionaryFile(blocks=entries, belongs_to=of, against=other, made=dict(made or {}))
    path = folder / NAME
    write_atomic(path, (json.dumps(about.model_dump(), indent=1, ensure_ascii=False) + "\n").encode())
    return path


def read_about(folder: str | Path) -> DictionaryFile:
    """What `dictionary.json` says. Raises HookeError where there is none, or not a whole one."""
    folder = path_of(folder)
    if not is_file(folder / NAME):
        what = "no dictionary in it" if is_dir(folder) else "no such folder"
        raise HookeError(f"{folder}: {what}; `hooke train` makes one")
    try:
        return DictionaryFile.model_validate(read_json(folder / NAME))
    except ValidationError as error:
        first = error.errors()[0]
        raise HookeError(
            f"{folder / NAME} is no dictionary of this version: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        ) from None


def load_dictionary(
    folder: str | Path, model: Model | None = None, *, against: Model | None = None, transfer: bool = False
) -> tuple[Coder, ...]:
    """The blocks of a folder, on the model's device.

    model: the one to use it on: it is refused on one that it does not belong to, naming what differs, unless
    `transfer`. against: of a crosscoder, the other one. Raises HookeError for what is not whole, does not fit the
    model, or is not what `dictionary.json` says.
    """
    folder, about = path_of(folder), read_about(folder)
    differ: list[str] = []
    for given, made_from in ((model, about.belongs_to), (against, about.against)):
        if given is None or made_from is None:
            continue
        found = differences(made_from, given)
        if found and not transfer:
            raise HookeError(
                f"the dictionary {folder.name} was made from {made_from.get('model')!r} and differs from "
                f"{given.name!r} in its {', '.join(found)}; train one here, or allow it with --transfer"
            )
        differ += found
    facts = {"belongs_to": about.belongs_to, "made": about.made, "transfer": differ}
    facts |= {} if about.against is None else {"against": about.against}
    blocks = tuple(_block(folder, entry, facts) for entry in about.blocks)
    return blocks if model is None else tuple(_fitted(block, model, against, folder) for block in blocks)


def _block(folder: Path, entry: BlockFile, about: dict[str, Any]) -> Coder:
    from safetensors import SafetensorError, safe_open

    path = folder / entry.file
    check_file(path, MOST, folder=folder)
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    except (SafetensorError, OSError) as error:
        raise HookeError(f"{path} is no whole safetensors file: {error}; copy or train it again") from None
    parts: dict[str, dict[Site, torch.Tensor]] = {"encoder": {}, "decoder": {}, "offset": {}, "skip": {}}
    for name, x in tensors.items():
        part, _, at = name.partition(".")
        if at and part not in parts:
            raise HookeError(f"{path} holds {name[:80]!r}, which no dictionary has")
        if at:
            parts[part][Site.parse(at)] = x
    reads, writes = ([Site.parse(site) for site in some] for some in (entry.reads, entry.writes))
    if "bias" not in tensors or set(parts["encoder"]) != set(reads) or set(parts["decoder"]) != set(writes):
        raise HookeError(f"{path} does not hold the weights that {NAME} says; copy or train it again")
    coder = Coder(
        {site: parts["encoder"][site] for site in reads},
        tensors["bias"],
        {site: parts["decoder"][site] for site in writes},
        parts["offset"],
        entry.gate,
        tensors.get("threshold"),
        entry.k,
        entry.scaled,
        entry.refine,
        parts["skip"],
        about,
        norm=entry.norm,
    )
    if coder.hash != entry.hash:
        raise HookeError(f"{path} is not the file that {NAME} was written with (its hash differs)")
    return coder


def _fitted(block: Coder, model: Model, against: Model | None, folder: Path) -> Coder:
    """On the model's device, at sites that it, or the other one, has with the widths it has."""
    for site, w in {**block.decoders, **block.encoders}.items():
        of, place = (against, replace(site, other=False)) if site.other else (model, site)
        if of is None:
            continue
        if place not in of.sites:
            raise HookeError(f"the dictionary {folder.name} is of {place}, which {of.name} does not have")
        width = of.parts.width(place)
        if w.shape[1] != width:
            raise HookeError(
                f"the dictionary {folder.name} takes {w.shape[1]} numbers at {place}, and {of.name} has {width} there"
            )
    return block.to(model.device)
