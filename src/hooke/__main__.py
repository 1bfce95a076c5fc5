"""The command `hooke`, also as `python -m hooke`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; Ctrl-C while it is still being imported ends it in one line, too."""
    try:
        from hooke.cli import main as run

        run()
    except KeyboardInterrupt:
        print("hooke: interrupted; nothing half-written was left", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
