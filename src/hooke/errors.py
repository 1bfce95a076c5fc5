"""The one error that people are meant to read."""


class HookeError(Exception):
    """An error whose message tells the person what to do next; the command line prints it and exits 2."""
