"""Ctrl-C that is never lost: Python drops one that comes while it tidies up, prints a traceback and goes on."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from hooke import terminal


@contextmanager
def heeded() -> Iterator[None]:
    """Have an interrupt end the work at the next tick of its progress where it did not end it at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, hook = signal.getsignal(signal.SIGINT), sys.unraisablehook

    def interrupt(number: int, frame: FrameType | None) -> None:
        terminal.INTERRUPTED.set()
        raise KeyboardInterrupt

    def dropped(what: Any) -> None:
        if not (terminal.INTERRUPTED.is_set() and what.exc_type is KeyboardInterrupt):
            hook(what)

    if before is signal.default_int_handler:  # else somebody wants it otherwise, as nohup does
        signal.signal(signal.SIGINT, interrupt)
        sys.unraisablehook = dropped
    try:
        yield
    finally:
        terminal.INTERRUPTED.clear()
        if before is signal.default_int_handler:
            signal.signal(signal.SIGINT, before)
            sys.unraisablehook = hook
