"""Run commands of the command line in this process and note who writes to the terminal.

    python terminal_lines.py COMMANDS.json RECORD.json

COMMANDS: a list of argument lists. RECORD: for each of stdout and stderr all text that was written through Python, and
the writes that were not Hooke's own, with the file that they came from. What reaches the terminal past Python (from C
or Rust) is not in the record: whoever holds the terminal compares.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import sysconfig
import threading
import time
from pathlib import Path
from typing import Any

PLACES = sysconfig.get_paths()
STDLIB = (PLACES["stdlib"], PLACES["platstdlib"], "<frozen")
SITE = (PLACES["purelib"], PLACES["platlib"], "site-packages")
HELPERS = ("rich", "typer", "click")  # Hooke's own pens: what they write is what somebody gave them
ME = str(Path(__file__))


def author() -> str:
    """The file that a write comes from: the nearest that is no part of Python or of a pen."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if Path(name).name == "warnings.py":
            return f"a warning, {frame.f_back.f_code.co_filename if frame.f_back else ''}"
        parts = Path(name).parts
        inside = any(place in name for place in SITE)
        pen = (inside and any(part in HELPERS for part in parts)) or parts[-2:] == ("cli", "screen.py")
        if not pen and (inside or not name.startswith(STDLIB)):
            return name
        frame = frame.f_back
    return "hooke"  # the thread that draws a progress bar


class Watched:
    """A stream that notes who writes."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.text, self.foreign = stream, [], []

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            return self.stream.write(text)  # which refuses it, and that is what was asked
        self.text.append(text)
        name = author()
        if text.strip() and name not in ("hooke", ME) and f"{os.sep}hooke{os.sep}" not in name:
            self.foreign.append([name, text])
        return self.stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def interrupt(out: Watched, before: int) -> None:
    """Ctrl-C a moment after the link is there."""
    while not any("http://" in text for text in out.text[before:]):
        time.sleep(0.1)
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGINT)


def main() -> None:
    commands = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    out, err = Watched(sys.stdout), Watched(sys.stderr)
    sys.stdout, sys.stderr = out, err
    from hooke import cli

    codes = []
    for words in commands:
        sys.argv = ["hooke", *words]
        if words[:1] in (["app"], ["open"]):  # they serve until Ctrl-C
            threading.Thread(target=interrupt, args=(out, len(out.text)), daemon=True).start()
        try:
            cli.main()
            codes.append(0)
        except SystemExit as end:
            codes.append(end.code)
    record = {
        "codes": codes,
        "stdout": "".join(out.text),
        "stderr": "".join(err.text),
        "foreign": out.foreign + err.foreign,
    }
    Path(RECORD).write_text(json.dumps(record), encoding="utf-8")


RECORD = sys.argv[2] if len(sys.argv) > 2 else ""
if __name__ == "__main__":
    main()
