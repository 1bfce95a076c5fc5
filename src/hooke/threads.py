"""How many threads torch takes: as many as there are free cores; and one that waits sleeps instead of spinning.

Threads meet at the end of every operation. Where another program needs a core, one of them comes late each time, and
those that wait for it take the time of whoever could work. So a verb looks, before it begins, what is free.
What a person has set (OMP_NUM_THREADS, torch.set_num_threads, OMP_WAIT_POLICY, …) stays as it is.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from hooke.kernels import exact_products

P = ParamSpec("P")
R = TypeVar("R")

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")  # how a thread waits: GNU, GNU, LLVM and Intel
COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# turns of a loop, some 20 µs: about what it costs to put a thread to sleep and wake it; the default is milliseconds
SPINS = 2000
WINDOW = 0.1  # seconds that a look takes
FRESH = 5.0  # seconds after which a verb inside another looks again
_seen: tuple[float, float] | None = None  # when the last look ended, and how many cores were free
_own: ContextVar[int | None] = ContextVar("threads", default=None)  # what torch took before the outermost verb


def calm(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """What to set before torch is loaded so that its threads do not spin; nothing if the person has a say."""
    given = os.environ if environment is None else environment
    if any(name in given for name in WAITING):
        return {}
    return {"GOMP_SPINCOUNT": str(SPINS), "KMP_BLOCKTIME": "0"}


def set_calm() -> None:
    """Set it in this process, unless torch is loaded already: it has read it then."""
    if "torch" not in sys.modules:
        os.environ.update(calm())


def cores() -> list[int]:
    """The numbers of the cores on which this process may run."""
    import psutil

    try:
        return sorted(psutil.Process().cpu_affinity() or ())
    except (AttributeError, OSError, psutil.Error):  # not on every system
        return list(range(os.cpu_count() or 1))


def free_cores(window: float = WINDOW) -> float:
    """How many cores of those allowed to this process nobody used in a window of so many seconds, at most the
    quota of its container less what else in it took. What runs at a low priority makes room, and does not count."""
    import psutil

    allowed, quota = cores(), cpu_quota()
    before, used = psutil.cpu_times(percpu=True), cpu_used()
    time.sleep(window)
    after, later = psutil.cpu_times(percpu=True), cpu_used()
    free = 0.0
    for core in allowed:
        if core >= len(after) or core >= len(before):
            continue
        spent = {key: getattr(after[core], key) - getattr(before[core], key) for key in after[core]._fields}
        total = sum(value for key, value in spent.items() if not key.startswith("guest"))
        idle = sum(spent.get(key, 0.0) for key in ("idle", "iowait", "nice"))
        free += min(1.0, idle / total) if total > 0 else 1.0
    if quota is not None:
        others = 0.0 if used is None or later is None else (later - used) / window
        free = min(free, max(0.0, quota - others))
    return free


def _groups(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> list[Path]:
    """The control groups of this process, its own first, as far as they can be seen."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / controllers if controllers else root
        here = top / path.lstrip("/")
        found += [p for p in (here, *here.parents) if p.is_relative_to(top)]
    return found


def cpu_quota(groups: list[Path] | None = None) -> float | None:
    """How many cores the tightest control group of this process may use; None where nothing is said."""
    quotas = []
    for group in _groups() if groups is None else groups:
        try:
            if (group / "cpu.max").is_file():
                most, period = (group / "cpu.max").read_text().split()[:2]
            else:
                most, period = ((group / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
            if most != "max" and float(most) > 0:
                quotas.append(float(most) / float(period))
        except (OSError, ValueError, ZeroDivisionError):
            continue
    return min(quotas, default=None)


def cpu_used(groups: list[Path] | None = None) -> float | None:
    """CPU seconds that the outermost group with a quota has used; None where nothing is said."""
    for group in reversed(_groups() if groups is None else groups):
        try:
            if (group / "cpu.max").read_text().startswith("max"):
                continue
            lines = dict(line.split() for line in (group / "cpu.stat").read_text().splitlines())
            return float(lines["usage_usec"]) / 1e6
        except (OSError, ValueError, KeyError):
            continue
    return None


def wanted(now: int, allowed: int, environment: Mapping[str, str], look: Callable[[], float]) -> tuple[int, str]:
    """How many threads to take where torch would take `now`, and why.

    allowed: cores on which the process may run. look: asked for the free cores if the choice is ours.
    """
    named = next((name for name in COUNTS if environment.get(name)), None)
    if named is not None:
        return now, f"as {named} says"
    if now > allowed or now < allowed // 2:  # torch alone takes all cores, or one thread for each pair that shares one
        return now, "as torch was told"
    free = look()
    chosen = max(1, min(now, int(free + 0.5)))
    return chosen, f"{free:.1f} of {allowed} cores were free"


def _look() -> float:
    global _seen
    if _seen is None or time.monotonic() - _seen[0] > FRESH:
        free = free_cores()
        _seen = (time.monotonic(), free)
    return _seen[1]


@contextmanager
def fitted() -> Iterator[dict[str, Any]]:
    """For the length of the block torch and numpy take as many threads as there are free cores; then what they took
    before. A verb inside another looks for itself. Gives what a result records: how many, and why."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    own = _own.get() or before
    count, why = wanted(own, len(cores()), os.environ, _look)
    mark = _own.set(own)
    try:
        with threadpool_limits(count, "blas") if count != own else nullcontext():
            if count != before:
                torch.set_num_threads(count)
            yield {"used": count, "why": why}
    finally:
        _own.reset(mark)
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


def fitting(verb: Callable[P, R]) -> Callable[P, R]:
    """A verb with `fitted` and `exact_products` around it; its result's provenance says how many threads it had and
    whose products, outside its id."""

    @wraps(verb)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with fitted() as threads, exact_products() as products:
            result = verb(*args, **kwargs)
        provenance = getattr(result, "provenance", None)
        if isinstance(provenance, dict):
            provenance["threads"] = {**threads, "products": products}
        return result

    return run
