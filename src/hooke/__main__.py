"""The command `hooke`, also as `python -m hooke`."""

from __future__ import annotations

import sys
from collections import namedtuple


def main() -> None:
    """Run the command line; Ctrl-C while it is still being imported ends it in one line, too."""
    try:
        from hooke.cli import main as run

        run()
    except KeyboardInterrupt:
        print("hooke: interrupted; nothing half-written was left", file=sys.stderr)
        sys.exit(130)
    finally:
        # one that fell into code that a library makes from text, as data classes are, is noted as never caught, and the
        # interpreter would end by the signal all the same; such code that ends well takes the note back
        namedtuple("Ended", ())


if __name__ == "__main__":
    main()
