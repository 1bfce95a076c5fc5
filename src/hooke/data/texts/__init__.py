"""Text to run a model over, as passages that keep their source: what is installed, files, folders, data sets.

pieces.py     clean text, and long text in parts
installed.py  `docs`: documentation that is on this machine, without a network
files.py      files, folders and hub:org/name, read row by row
sources.py    what a person names, taken in turn; what of it was used
"""

from hooke.data.texts.sources import Passage, Used, passages, texts_about

__all__ = ["Passage", "Used", "passages", "texts_about"]
