"""How training is divided over processes: the rows of a batch along one axis, the features of a block along the other.

Along `data` every process has all features and some rows: sums over rows are made of the parts of all. Along
`dictionary` every process has all rows and some features: what features write is summed over all, and what every
process has (an offset, a skip) learns from the first of them and from all its readers.
A process that is alone has axes of length one, on which nothing is sent and nothing is copied.
"""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from hooke.errors import HookeError

T = TypeVar("T")
REASON = "reason"  # the key of a store under which the first process that fails says why
SECONDS = 2.0  # that the others wait for it
GONE = "another process of this training ended; the last checkpoint stands, and the same command goes on from it"


@dataclass(frozen=True)
class Axis:
    """One way in which work is divided: over `size` processes, of which this is number `rank`.

    group: of torch.distributed. store: where processes leave each other a word; None where somebody else started them.
    Everything here is called by all processes of the axis, in the same order; HookeError if one of them has ended.
    """

    size: int = 1
    rank: int = 0
    group: Any = field(default=None, repr=False)
    store: Any = field(default=None, repr=False)

    def part(self, n: int) -> slice:
        """Which of n things are this process's; n is a multiple of `size`."""
        each = n // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    # ---- numbers, without gradients ------------------------------------------------------------

    def sum(self, x: Tensor) -> Tensor:
        """The sum over all, in place."""
        if self.size > 1:
            self._done(dist.all_reduce, x, group=self.group)
        return x

    def add(self, several: Sequence[Tensor]) -> None:
        """The sum of each over all, in place, all on their way together."""
        if self.size > 1:
            ways = [self._done(dist.all_reduce, x, group=self.group, async_op=True) for x in several]
            for way in ways:
                self._done(way.wait)

    def average(self, x: Tensor) -> Tensor:
        """The mean over all, in place."""
        return x if self.size == 1 else self.sum(x).div_(self.size)

    def least(self, x: Tensor) -> Tensor:
        """The smallest of all, in place."""
        if self.size > 1:
            self._done(dist.all_reduce, x, op=dist.ReduceOp.MIN, group=self.group)
        return x

    def any(self, yes: bool) -> bool:
        """Whether it is so for one of them."""
        return yes if self.size == 1 else bool(self.sum(torch.tensor(int(yes))) > 0)

    def gathered(self, x: Tensor) -> Tensor:
        """(size, *shape): that of each; all have the same shape."""
        if self.size == 1:
            return x[None]
        every = x.new_empty(self.size, *x.shape)
        self._done(dist.all_gather, list(every.unbind()), x.contiguous(), group=self.group)
        return every

    # ---- with gradients ------------------------------------------------------------------------

    def total(self, x: Tensor) -> Tensor:
        """The sum of the parts of all; each part gets the gradient of the sum, which all have alike."""
        return x if self.size == 1 else _Total.apply(x, self, 1)

    def mean(self, x: Tensor) -> Tensor:
        """The mean of all; each gets its gradient whole, since gradients are averaged over the axis later."""
        return x if self.size == 1 else _Total.apply(x, self, self.size)

    def shared(self, x: Tensor) -> Tensor:
        """What all have alike, for each to read with its own part: its gradient is the sum of theirs."""
        return x if self.size == 1 else _Shared.apply(x, self)

    # ---- what one process knows; only along the axis of all --------------------------------------

    def sent(self, x: Tensor, source: int = 0) -> Tensor:
        """That of one process, put into `x` of all others."""
        if self.size > 1:
            self._done(dist.broadcast, x, source, group=self.group)
        return x

    def led(self, work: Callable[[], T]) -> T:
        """What the first process makes, as JSON has it, on all; its HookeError is that of all."""
        if self.size == 1:
            return work()
        told: dict[str, Any] = {}
        if self.rank == 0:
            try:
                told = {"value": work()}
            except HookeError as error:
                told = {"error": str(error)}
        told = json.loads(self.bytes(json.dumps(told).encode()))
        if "error" in told:
            raise HookeError(told["error"])
        return told["value"]

    def bytes(self, data: bytes) -> bytes:
        """Those of the first process on all."""
        if self.size == 1:
            return data
        size = int(self.sent(torch.tensor(len(data))))
        x = torch.empty(size, dtype=torch.uint8)
        if self.rank == 0:
            x = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        return self.sent(x).numpy().tobytes()

    def meet(self) -> None:
        """Wait until all are here."""
        self.any(False)

    def _done(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What `work` gives. A process that has ended is one line here: its own, where it left one."""
        try:
            return work(*args, **kwargs)
        except RuntimeError as error:
            if self.store is not None:
                with contextlib.suppress(ValueError):  # not the main thread
                    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # why it ends is known
            raise HookeError(reason(self.store) or GONE) from error


ALONE = Axis()


@dataclass(frozen=True)
class Spread:
    """The axes of a training. world: all processes. beside: how many of them share the memory of this machine."""

    data: Axis = ALONE
    dictionary: Axis = ALONE
    world: Axis = ALONE
    beside: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes files and talks to people."""
        return self.world.rank == 0

    @property
    def shape(self) -> str:
        """As people write it: data times dictionary."""
        return f"{self.data.size}x{self.dictionary.size}"


WHOLE = Spread()


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, axis: Axis, share: int) -> Tensor:
        total = axis.sum(x.detach().clone(memory_format=torch.contiguous_format))
        return total if share == 1 else total.div_(share)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return gradients[0], None, None


class _Shared(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, axis: Axis) -> Tensor:
        ctx.axis = axis
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.axis.sum(gradients[0].clone(memory_format=torch.contiguous_format)), None


def reason(store: Any) -> str:
    """What the first process that failed left in a store; empty if it left nothing."""
    if store is None:
        return ""
    try:
        store.wait([REASON], timedelta(seconds=SECONDS))
        return store.get(REASON).decode()
    except RuntimeError:  # nobody wrote anything, or the store has ended too
        return ""


def leave_reason(store: Any, text: str) -> bool:
    """Leave why this process ends; False if another one did so before."""
    if store is None:
        return True
    try:
        if store.add(f"{REASON} given", 1) > 1:
            return False
        store.set(REASON, text)
    except RuntimeError:
        pass
    return True
