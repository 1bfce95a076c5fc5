"""Meeting the other processes of a training: those that torchrun, or another launcher, started with this one."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from itertools import count
from types import FrameType

import torch
import torch.distributed as dist

from hooke.dictionaries.spread import ALONE, WHOLE, Axis, Spread, leave_reason
from hooke.errors import HookeError

TOLD = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # what a launcher sets
MEETING = timedelta(minutes=10)  # until all are there
STEP = timedelta(minutes=30)  # that one waits for another within a step
STAGE = timedelta(days=1)  # or while one reads texts or runs the model; one that has ended is noticed at once
STOPPED = "told to end; the last checkpoint stands, and the same command goes on from it"
_world: ContextVar[Axis | None] = ContextVar("world", default=None)
_meetings = count()


@contextmanager
def joined(*, exits: bool = False) -> Iterator[Axis]:
    """All processes that were started together as one axis, for the length of the block; alone if this is the only one.

    Each takes its own CUDA device, so a model is loaded inside. An error of one ends all: each raises what the first
    raised; with `exits` only that one does, and the others end without a word.
    """
    known = _world.get()
    if known is None and dist.is_available() and dist.is_initialized():  # somebody else's, who will also end it
        known = Axis(dist.get_world_size(), dist.get_rank(), dist.group.WORLD)
    if known is not None or any(name not in os.environ for name in TOLD) or os.environ["WORLD_SIZE"] == "1":
        yield known or ALONE
        return
    world = _met()
    mark, whole = _world.set(world), False
    try:
        with _heeding_ends():
            yield world
            world.meet()
        whole = True
    except BaseException as error:
        known_error = isinstance(error, (HookeError, KeyboardInterrupt, SystemExit))
        text = str(error) if isinstance(error, HookeError) else f"process {world.rank} ended: {type(error).__name__}"
        if not leave_reason(world.store, text) and exits and known_error:
            raise SystemExit(2) from None
        raise
    finally:
        _world.reset(mark)
        if whole or not torch.cuda.is_available():  # devices that wait for one that has ended would wait here too
            dist.destroy_process_group()


def _met() -> Axis:
    """Meet the others. Raises HookeError if they cannot be reached."""
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    cuda = torch.cuda.is_available()
    own = int(os.environ.get("LOCAL_RANK", rank))
    if cuda and own < torch.cuda.device_count():
        torch.cuda.set_device(own)
    try:
        found, _, _ = next(dist.rendezvous("env://", timeout=MEETING))
        store = dist.PrefixStore(f"hooke {next(_meetings)}", found)
        backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=STAGE)
    except (RuntimeError, ValueError) as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise HookeError(f"cannot meet the other processes at {where}: {str(error).splitlines()[0][:200]}") from None
    return Axis(size, rank, dist.group.WORLD, store)


@contextmanager
def _heeding_ends() -> Iterator[None]:
    """Have SIGTERM, by which launchers end all once one has ended, be an error in one line."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
        raise HookeError(STOPPED)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def spread_over(text: str, world: Axis, device: torch.device, *, batch: int, n_features: int) -> Spread:
    """The axes of "data" (rows over all processes), "dictionary" (features) or "2x4" (rows over 2, features over 4).

    Raises HookeError for what there are not as many processes for, and for a batch or features that do not divide.
    """
    rows, features = _sizes(text, world.size)
    if world.size == 1:
        return WHOLE
    if batch % rows:
        raise HookeError(f"a batch of {batch:,} rows does not divide over {rows} processes; give another --batch")
    if n_features % features:
        raise HookeError(f"{n_features:,} features do not divide over {features} processes; give other --features")
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", world.size))
    if device.type == "cuda" and world.any(beside > torch.cuda.device_count()):
        raise HookeError(
            f"{beside} processes share {torch.cuda.device_count()} CUDA devices, and each needs its own; start as many "
            "processes as there are devices, or give --device cpu"
        )
    at = divmod(world.rank, features)  # neighbours share rows: they have more to say to each other
    data = _axis([[i * features + j for i in range(rows)] for j in range(features)], at[1], at[0], world)
    dictionary = _axis([[i * features + j for j in range(features)] for i in range(rows)], at[0], at[1], world)
    return Spread(data, dictionary, world, 1 if device.type == "cuda" else beside)


def _axis(groups: list[list[int]], own: int, rank: int, world: Axis) -> Axis:
    """The axis of this process, one of several beside each other: all make all of them."""
    if len(groups[0]) == 1:
        return ALONE
    made = [dist.new_group(ranks, timeout=STEP) for ranks in groups]
    return Axis(len(groups[0]), rank, made[own], world.store)


def _sizes(text: str, size: int) -> tuple[int, int]:
    if text in ("data", "dictionary"):
        return (size, 1) if text == "data" else (1, size)
    rows, by, features = text.partition("x")
    if not (by and rows.isdecimal() and features.isdecimal() and len(text) < 20 and int(rows) * int(features)):
        raise HookeError(f"no spread {text[:40]!r}; there are data, dictionary, and both as 2x4")
    needed = int(rows) * int(features)
    if needed != size:
        raise HookeError(
            f"a spread of {text} is over {needed} processes and there {'is' if size == 1 else 'are'} {size}; start it "
            f"with torchrun --nproc-per-node {needed} -m hooke, or give another --spread"
        )
    return int(rows), int(features)
