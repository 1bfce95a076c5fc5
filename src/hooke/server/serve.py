"""From a folder of results to a running server: the socket, the link, the browser, and Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import uvicorn

from hooke.errors import HookeError
from hooke.server.app import create_app
from hooke.server.connections import BACKLOG, Connection, most_connections, quiet_logs, trouble
from hooke.server.guard import Guard
from hooke.server.jobs import Jobs
from hooke.server.models import Models
from hooke.server.store import Store


class Server(uvicorn.Server):
    """A server on a loopback socket. `link(path)` is what a person opens; `run` (of uvicorn) blocks."""

    def __init__(self, store: Store, *, port: int = 0, model: str | None = None, token: str | None = None) -> None:
        self.socket = listen(port)
        self.port: int = self.socket.getsockname()[1]
        self.token = token or secrets.token_urlsafe(24)
        self.store, self.models = store, Models(model)
        self.jobs = Jobs(self.models, store)
        self.guard: Guard
        self.guard, _ = create_app(store, self.jobs, self.models, port=self.port, token=self.token)
        quiet_logs()
        super().__init__(
            uvicorn.Config(
                self.guard,
                http=type("Here", (Connection,), {"most": most_connections()}),
                backlog=BACKLOG,
                log_config=None,
                ws="none",
                lifespan="off",
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=1,
            )
        )

    def link(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}?token={self.token}"

    def serve_here(self) -> None:
        """Run until Ctrl-C, then cancel the running job; a result that is finished is written."""
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # a plain kill is the same as Ctrl-C
        try:
            self.run(sockets=[self.socket])
        except KeyboardInterrupt:  # uvicorn passes the signal on when it has stopped
            pass
        finally:
            self.jobs.close()
            signal.signal(signal.SIGTERM, before)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().set_exception_handler(trouble)
        await super().startup(sockets)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second; once a second those are dropped who keep the server waiting."""
        if counter % 10 == 0:
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, Connection) and connection.late(now):
                    connection.drop()
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.jobs.stop_soon()  # open event streams end now
        super().handle_exit(sig, frame)


def listen(port: int) -> socket.socket:
    """A loopback socket; connections queue from now on. Raises HookeError for a port that is in use."""
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere this would let two servers share a port
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(("127.0.0.1", port))
        found.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        found.close()
        reason = getattr(error, "strerror", None) or error
        raise HookeError(f"cannot use port {port} ({reason}); choose another with --port, or 0 for any") from None
    return found


def results_folder() -> Path:
    """Where the app keeps results unless told otherwise."""
    from hooke.model.zoo import hooke_home

    return hooke_home() / "results"


def show(server: Server, path: str, *, browser: bool, say: Callable[[str], None]) -> None:
    """Print the link, open the browser if wanted and there is one, and serve until Ctrl-C."""
    say(f"Hooke is at {server.link(path)}")
    say("The link carries a token: whoever has it can use this server. Ctrl-C stops it.")
    if browser and has_screen():
        once = f"http://127.0.0.1:{server.port}{path}?token={server.guard.ticket()}"
        threading.Thread(target=webbrowser.open, args=(once,), daemon=True).start()
    server.serve_here()
    say("Hooke has stopped; results are in " + str(server.store.folder))


def has_screen() -> bool:
    """Whether a browser could open a window; one in the terminal would only be in the way."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or os.environ.get("BROWSER"))
