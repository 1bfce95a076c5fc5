"""What a kind of dictionary is: how codes are made of what is read, and what its loss adds to the error."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from hooke.dictionaries.sparse import Entries, decode
from hooke.dictionaries.spread import ALONE, WHOLE, Axis, Spread
from hooke.sites import Site

_ROOM = threading.local()


def alike(name: str, x: Tensor) -> bool:
    """Whether what a block has by this name is no feature's own: then every process has it."""
    return name in ("offset", "skip") or x.ndim == 0


def room(rows: int, columns: int, like: Tensor) -> Tensor:
    """(rows, columns) to write into: on a processor the same memory each time. So much new memory would take a third as
    long as the product that fills it."""
    if like.device.type != "cpu":
        return like.new_empty(rows, columns)
    had = getattr(_ROOM, "kept", None)
    if had is None or had.dtype != like.dtype or had.numel() < rows * columns:
        _ROOM.kept = had = like.new_empty(rows * columns)
    return had[: rows * columns].view(rows, columns)


@contextmanager
def kept_room() -> Iterator[None]:
    """For the length of the block that memory is kept, and then given back."""
    try:
        yield
    finally:
        _ROOM.kept = None


@dataclass(eq=False)
class Block:
    """One block while it trains, on scaled activations; several sites lie side by side.

    params: encoder (n_features, read), bias (n_features,), decoder (n_features, written), offset (written,), and where
    there is one, skip (written, read) and what its kind adds. state: what is kept beside them and not trained, such as
    idle (n_features,), the rows since each fired.
    spread: over which processes features and batches are divided. What is a feature's own is here for those of this
    process alone.
    """

    reads: tuple[Site, ...]
    writes: tuple[Site, ...]
    params: dict[str, Tensor]
    state: dict[str, Tensor] = field(default_factory=dict)
    rough: torch.dtype = torch.float32  # in which features are compared with each other; values are in full precision
    spread: Spread = WHOLE

    @property
    def n_features(self) -> int:
        """Of all processes together."""
        return len(self.params["bias"]) * self.spread.dictionary.size

    @property
    def centred(self) -> bool:
        """Whether it writes what it reads: then its rows have length one, and what it reads is less its offset."""
        return self.reads == self.writes

    @property
    def centre(self) -> Tensor | None:
        """(read,): what is taken from what it reads."""
        return self.params["offset"] if self.centred else None

    def before(self, x: Tensor) -> Tensor:
        """(batch, n_features): (x - centre) · encoder + bias, with gradients."""
        x = x if self.centre is None else x - self.centre
        return torch.addmm(self.params["bias"], x, self.params["encoder"].T)

    @torch.no_grad()
    def scores(self, x: Tensor) -> Tensor:
        """(batch, n_features): x · encoder + bias, in the precision that is enough to choose by. Good until the next
        call, of any block in this thread."""
        encoder, bias = self.params["encoder"].to(self.rough), self.params["bias"].to(self.rough)
        x = x if self.centre is None else x - self.centre
        made = room(len(x), len(bias), bias)
        return torch.mm(x.to(self.rough), encoder.T, out=made).add_(bias)

    def lengths(self) -> Tensor:
        """(n_features,): of the rows that features write."""
        return self.params["decoder"].norm(dim=1)

    def decoded(self, code: Code) -> Tensor:
        """(batch, written): what all features write, without an offset."""
        return self.spread.dictionary.total(code.decoded(self.params["decoder"]))

    def once(self, name: str) -> Tensor:
        """A parameter that all processes have, where all do the same with it: only one of them learns from that."""
        return self.params[name] if self.spread.dictionary.rank == 0 else self.params[name].detach()


@dataclass(eq=False)
class Code:
    """Codes of a batch: of entries (entries,), or of all features (batch, n_features) where `entries` is None.

    before: (batch, n_features), what the gate took, and least: the smallest value that was kept, where its kind needs
    them again.
    """

    values: Tensor
    entries: Entries | None = None
    before: Tensor | None = None
    least: Tensor | None = None

    def decoded(self, decoder: Tensor) -> Tensor:
        """(batch, written), without an offset."""
        return self.values @ decoder if self.entries is None else decode(self.values, decoder, self.entries)

    def counts(self) -> Tensor:
        """(n_features,): on how many rows of the batch each fires."""
        if self.entries is None:
            return (self.values.detach() > 0).sum(0)
        fires = self.values.detach() > 0
        return torch.bincount(self.entries.ids[fires], minlength=self.entries.n_features)


@dataclass(frozen=True)
class When:
    """Where training stands: the step that is made, of how many, the rows of a batch, and over which processes."""

    step: int
    steps: int
    batch: int
    spread: Spread = WHOLE

    @property
    def share(self) -> float:
        return self.step / max(1, self.steps)


@dataclass(frozen=True)
class Kind:
    """A kind with its numbers. `name` is what `hooke train` calls it.

    squared: what the mean squared length of a scaled activation is: "one", or "width" of the site.
    """

    name: ClassVar[str] = ""
    squared: ClassVar[str] = "one"
    lr: ClassVar[float] = 2e-4
    betas: ClassVar[tuple[float, float]] = (0.9, 0.999)
    unit: ClassVar[bool] = True  # rows of a decoder keep length one, where a block writes what it reads
    joint: ClassVar[bool] = True  # whether blocks may add up at one site, as in a cross-layer transcoder
    own: ClassVar[bool] = False  # whether it is for what writes what it reads alone

    def start(self, block: Block, x: Tensor) -> None:
        """Parameters and state of its own, from a first batch that the block reads."""

    def code(self, block: Block, x: Tensor, when: When) -> Code:
        """Codes of what a block reads, (batch, read)."""
        raise NotImplementedError

    def penalty(self, block: Block, code: Code, when: When) -> Tensor | float:
        """What is asked of the codes of all features, per row."""
        return 0.0

    def extra(self, block: Block, code: Code, x: Tensor, y: Tensor, left: Tensor, when: When) -> Tensor | float:
        """Other terms, per row. y: (batch, written), wanted; left: y less what was written."""
        return 0.0

    def weights(self, errors: Tensor, data: Axis = ALONE) -> Tensor | None:
        """(batch,) with mean one: how much each row's error counts; None for all the same. data: over which the batch
        is divided."""
        return None

    def after(self, block: Block, code: Code, counts: Tensor, when: When) -> None:
        """Keep what is not trained, once the step is made. counts: (n_features,) rows of the whole batch on which each
        fired. Without gradients."""

    def gate(self, block: Block) -> dict[str, Any]:
        """The gate of the `Coder` that a block becomes: `gate`, `k`, `threshold`, `refine`."""
        return {"gate": "relu"}
