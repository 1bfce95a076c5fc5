"""What is evaluated: the blocks of a dictionary by what they write, and what is refused before anything is run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from hooke.dictionaries.coder import Coder
from hooke.dictionaries.folder import NAME, load_dictionary
from hooke.dictionaries.formats import read_dictionary
from hooke.errors import HookeError
from hooke.files import path_of
from hooke.methods.train.asked import layers_in
from hooke.model import Model
from hooke.model.belongs import differences
from hooke.model.edits import SQUARE
from hooke.sites import Site

MLP = ("mlp_out", "mlp_proj")  # what neurons write


@dataclass(frozen=True, eq=False)
class Target:
    """A site that blocks write: what they add up to there stands for its value.

    own: those of the blocks that write nothing earlier (all, where there is none); their features count as this
    target's.
    """

    site: Site
    blocks: tuple[Coder, ...]
    own: tuple[Coder, ...]

    @property
    def name(self) -> str:
        return str(self.site)

    @property
    def layer(self) -> int | None:
        return self.site.layer

    @cached_property
    def reads(self) -> tuple[Site, ...]:
        """Everything that the blocks read, in the order of the pass."""
        return tuple(sorted({site for block in self.blocks for site in block.reads}))

    @cached_property
    def own_reads(self) -> tuple[Site, ...]:
        """What its own blocks read."""
        return tuple(sorted({site for block in self.own for site in block.reads}))

    @property
    def copies(self) -> bool:
        """Whether the blocks read the site itself, as an autoencoder does."""
        return self.site in self.reads

    @property
    def stands_for_mlp(self) -> bool:
        """Whether it can take the place of an MLP: it writes what one writes, and does not read that."""
        return self.site.point in MLP and not self.copies


@dataclass(frozen=True)
class Asked:
    """A dictionary to evaluate. name: of its folder. blocks: as they were read. made: what its folder says of how it
    was made, empty where nothing does. differs: from the model it belongs to, in words."""

    name: str
    blocks: tuple[Coder, ...]
    targets: list[Target]
    made: dict[str, Any]
    belongs: dict[str, Any] | None
    differs: list[str]

    @property
    def replaces_mlps(self) -> bool:
        """Whether every part of it can take the place of an MLP."""
        return all(target.stands_for_mlp for target in self.targets)


def asked(model: Model, given: str | Path | Sequence[Coder], layers: str | None, transfer: bool) -> Asked:
    """The blocks of a folder or a sequence, on the model's device, in at least single precision.

    layers: only what is written there. Raises HookeError for what is no dictionary, is of another model unless
    `transfer`, does not fit this one, or is no basis: blocks that read later than they write.
    """
    if isinstance(given, str | Path):
        path = path_of(given)
        own = (path / NAME).is_file()
        _check_one(path)
        blocks = load_dictionary(path, model, transfer=transfer) if own else read_dictionary(path, model)
        name = path.name
    else:
        blocks, name = tuple(given), "given blocks"
    if not blocks:
        raise HookeError("no dictionary is given; give a folder from `hooke train`, or its blocks")
    about = blocks[0].about
    belongs = about.get("belongs_to")
    differs = _differs(model, blocks, name, transfer)
    for block in blocks:
        _check(model, block)
    known = [(block.reads, block.writes) for block in blocks]
    twice = next((pair for pair in known if known.count(pair) > 1), None)
    if twice is not None:
        raise HookeError(
            f"{name} holds {known.count(twice)} dictionaries that read {_list(twice[0])} and write {_list(twice[1])}; "
            "evaluate them one by one"
        )
    found = _targets(model, tuple(block.to(model.device, wide(model)) for block in blocks), layers)
    return Asked(name, blocks, found, dict(about.get("made") or {}), belongs, differs)


def _check_one(path: Path) -> None:
    """Refuse a folder that holds dictionaries of Hooke's one level down, as a sweep does."""
    inside = sorted(found.parent.name for found in path.glob(f"*/{NAME}")) if not (path / NAME).is_file() else []
    if inside:
        raise HookeError(
            f"{path.name} holds the dictionaries of a sweep; evaluate one of them: {', '.join(inside[:8])}"
        )


def wide(model: Model) -> torch.dtype:
    """The precision in which everything is measured: single, or double where the model is in it."""
    return torch.float64 if model.dtype == torch.float64 else torch.float32


def _differs(model: Model, blocks: Sequence[Coder], name: str, transfer: bool) -> list[str]:
    found: list[str] = []
    for block in blocks:
        theirs = block.about.get("belongs_to")
        if theirs:
            found += [words for words in differences(theirs, model) if words not in found]
    if found and not transfer:
        theirs = blocks[0].about.get("belongs_to") or {}
        raise HookeError(
            f"{name} was made from {theirs.get('model')!r} and differs from {model.name!r} in its {', '.join(found)}; "
            "evaluate it on its own model, or allow it with --transfer, which is recorded"
        )
    return found


def _check(model: Model, block: Coder) -> None:
    for site, rows in [*block.encoders.items(), *block.decoders.items()]:
        if site.other:
            raise HookeError("a crosscoder is of two models; the result of its training says how it explains both")
        if site not in model.sites:
            raise HookeError(f"the dictionary is of {site}, which {model.name} does not have; train one on this model")
        if site.point in SQUARE:
            raise HookeError(f"{site} holds a value for each two tokens, where no reconstruction can be put in")
        if rows.shape[1] != model.parts.width(site):
            raise HookeError(
                f"the dictionary takes {rows.shape[1]} numbers at {site}, and {model.name} has "
                f"{model.parts.width(site)} there; train one on this model"
            )
    last, first = max(block.reads), min(block.writes)
    if last > first:
        raise HookeError(f"a block reads {last} after {first}, which it writes; what reads later than it writes is no "
                         "basis and cannot be put into a run")  # fmt: skip


def _targets(model: Model, blocks: tuple[Coder, ...], layers: str | None) -> list[Target]:
    sites = sorted({site for block in blocks for site in block.writes})
    if layers is not None:
        wanted = layers_in(layers, model.parts.n_layers)
        absent = sorted(set(wanted) - {site.layer for site in sites})
        if absent and layers != "all":
            raise HookeError(f"the dictionary writes nothing in layer {absent[0]}; it writes {_list(sites)}")
        sites = [site for site in sites if site.layer in wanted]
    found = []
    for site in sites:
        there = tuple(block for block in blocks if site in block.writes)
        own = tuple(block for block in there if min(block.writes) == site)
        found.append(Target(site, there, own or there))
    return found


def _list(sites: Sequence[Site]) -> str:
    names = [str(site) for site in sites]
    return ", ".join(names[:6]) + (", …" if len(names) > 6 else "")
