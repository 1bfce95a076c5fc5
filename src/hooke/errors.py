"""The one error that people are meant to read."""

LONGEST = 2500  # characters of a message; what a file put into it may be longer


class HookeError(Exception):
    """An error whose message tells the person what to do next; the command line prints it and exits 2.

    The message is one line: what a file or a model put into it cannot steer a terminal or begin a line of a log.
    """

    def __init__(self, message: object = "") -> None:
        text = visible(str(message))
        super().__init__(text if len(text) <= LONGEST else f"{text[: LONGEST - 100]} … {text[-90:]}")


def visible(text: str) -> str:
    """Text from outside as one line, with a space for every control or direction mark: these could disguise it."""
    return "".join(c if c.isprintable() else " " for c in text)
