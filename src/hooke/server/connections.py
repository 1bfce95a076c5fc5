"""Connections: how many there may be, how long one may keep the server waiting, and what is said about them.

Whoever connects and says nothing, sends half a request, or reads no answer, loses the connection in the end, and at
once when its place is needed. A client that goes away is no error. A log gets one line a minute of each kind.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from hooke.errors import visible

HEAD = 10.0  # seconds for the head of a request, from the connection or the last answer on
BODY, RATE = 20.0, 4096.0  # seconds for a body, and a second more for each so many bytes of it
UNREAD = 60.0  # seconds in which a client takes nothing of an answer
MOST = 128  # connections at most, fewer where few files may be open
BACKLOG = 16  # connections that are taken at once
MINUTE = 60.0
MOST_KINDS = 50  # of lines that a log tells apart
FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-type: text/plain\r\ncontent-length: 22\r\n\r\n"
    b"too many connections.\n"
)


def most_connections() -> int:
    """How many connections there may be: files, models and pipes need descriptors of their own."""
    try:
        import resource
    except ImportError:  # no such limit on Windows
        return MOST
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST if soft == resource.RLIM_INFINITY else min(MOST, max(4, (soft - 96) // 2))


class Connection(H11Protocol):
    """A connection of uvicorn's that knows how long it has kept the server waiting, and for what."""

    most = MOST

    def connection_made(self, transport: Any) -> None:
        self.since = self.loop.time()  # when it began to wait for what it waits for
        self.received = 0  # bytes of the body
        self.unsent, self.unread_since = 0, self.since
        super().connection_made(transport)
        if len(self.connections) > self.most:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self.since, self.received = self.loop.time(), 0
        else:
            self.received += len(data)

    def on_response_complete(self) -> None:
        self.since = self.loop.time()
        super().on_response_complete()

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing: whoever asks for a web socket gets the answer to the rest of the request, and no advice to install
        anything reaches the terminal."""

    @property
    def idle(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def late(self, now: float) -> bool:
        """Whether the other side has kept this one waiting for too long."""
        unsent = self.transport.get_write_buffer_size()
        if unsent == 0 or unsent < self.unsent:
            self.unread_since = now
        self.unsent = unsent
        if unsent and now - self.unread_since > UNREAD:
            return True
        if self.idle:
            return now - self.since > HEAD
        if self.cycle.more_body:
            if self.flow.read_paused:  # it is we who do not read
                self.since = now - self.received / RATE
            return now - self.since > BODY + self.received / RATE
        return False

    def drop(self) -> None:
        """End it without waiting for the other side."""
        self.transport.abort()

    def _make_room(self) -> None:
        """The connection that has been idle for longest goes; where none is, this one does."""
        say("connections", f"more than {self.most} connections at once; those that do nothing are closed")
        others = [one for one in self.connections if one is not self and isinstance(one, Connection) and one.idle]
        closing = [one for one in self.connections if one.transport is not None and one.transport.is_closing()]
        if len(self.connections) - len(closing) <= self.most:
            return
        waiting = [one for one in others if not one.transport.is_closing()]
        if waiting:
            min(waiting, key=lambda one: one.since).drop()
        else:
            self.transport.write(FULL)
            self.transport.close()


# ---- what is said ------------------------------------------------------------------------------

_said: dict[str, tuple[float, int]] = {}  # kind -> when a line of it was written, and how many were not since


def say(kind: str, text: str, now: Callable[[], float] = time.monotonic) -> None:
    """A line on standard error, unless one of its kind was written within the last minute; then it is counted."""
    kind = kind if kind in _said or len(_said) < MOST_KINDS else "other"
    last, more = _said.get(kind, (-MINUTE, 0))
    if now() - last < MINUTE:
        _said[kind] = (last, more + 1)
        return
    _said[kind] = (now(), 0)
    count = f" ({more} more like it before)" if more else ""
    print(f"hooke: {visible(text)[:500]}{count}", file=sys.stderr, flush=True)


class Lines(logging.Handler):
    """Records of the libraries below as lines of ours; of a fault, where it happened."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, (asyncio.CancelledError, ConnectionError)):
            return  # the server stops, or a client went away
        text = " ".join(record.getMessage().split())
        if error is not None:
            frames = traceback.extract_tb(error.__traceback__)
            where = f" ({frames[-1].filename.rsplit('/', 1)[-1]}, line {frames[-1].lineno})" if frames else ""
            text += f": {type(error).__name__}: {error}{where}"
        say(f"{record.name} {record.msg!s}"[:100], text)


def quiet_logs() -> None:
    """Have uvicorn and asyncio say what they say through `say`."""
    for name in ("uvicorn", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [Lines(logging.WARNING)], False


def trouble(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What asyncio calls for what nobody waits for: a refused `accept`, a client that went away in the middle."""
    error = context.get("exception")
    if isinstance(error, (ConnectionError, asyncio.CancelledError)):
        return
    what = str(context.get("message", "trouble"))
    say(f"loop {what}"[:100], f"{what}: {error}" if error is not None else what)
