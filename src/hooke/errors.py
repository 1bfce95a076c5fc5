"""The one error that people are meant to read."""


class HookeError(Exception):
    """An error whose message tells the person what to do next; the command line prints it and exits 2.

    It is one line, whatever was quoted in it.
    """

    def __init__(self, text: str) -> None:
        super().__init__(" ".join(part.strip() for part in text.splitlines()) if "\n" in text else text)


def visible(text: str) -> str:
    """Text from outside as one line, with a space for every control or direction mark: these could disguise it."""
    return "".join(c if c.isprintable() else " " for c in text)
