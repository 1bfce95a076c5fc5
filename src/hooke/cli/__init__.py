"""The command line: verbs mirror `methods/`. torch is imported after the arguments are parsed."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated, Any

import typer

import hooke
from hooke.cli import (  # noqa: F401  (each adds its commands)
    assess,
    bench,
    catalogue,
    circuit,
    doctor,
    evaluate,
    explain,
    features,
    harvest,
    organisms,
    patch,
    probe,
    show,
    train,
    visualise,
)
from hooke.cli.common import app
from hooke.cli.interrupt import heeded
from hooke.cli.screen import screened
from hooke.errors import HookeError, visible

USAGE: Any = typer.BadParameter.__mro__[1]  # what typer raises for a command line that it cannot read
INTERRUPTED = 130  # what typer makes of Ctrl-C


def main() -> None:
    """Run the command line; a HookeError is one line and exit code 2, Ctrl-C exit code 130."""
    with screened(), heeded():
        _main()


def _main() -> None:
    try:
        code = app(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except HookeError as error:
        print(f"hooke: {error}", file=sys.stderr)
        sys.exit(2)
    except USAGE as error:
        context = getattr(error, "ctx", None)
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
        else:
            line = visible(" ".join(error.format_message().split()))
            print(
                f"hooke: {line} ({getattr(context, 'command_path', 'hooke')} --help lists what there is)",
                file=sys.stderr,
            )
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as end:
        if isinstance(end, SystemExit) and end.code != INTERRUPTED:
            raise
        print("hooke: interrupted; nothing half-written was left", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:  # a full disk, a name that no system takes
        where = f" ({error.filename})" if error.filename else ""
        print(f"hooke: {visible(f'the system refused: {error.strerror or error}{where}')[:500]}", file=sys.stderr)
        sys.exit(2)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        print(f"hooke {hooke.__version__}")
        raise typer.Exit
