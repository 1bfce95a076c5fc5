"""Lists of words that belong together: what a label may say of the tokens that a feature reads or writes.

kinds     what words do in a sentence, and in a program
subjects  what words are about
"""

from __future__ import annotations

from hooke.data.words.kinds import KINDS
from hooke.data.words.subjects import SUBJECTS

LISTS: dict[str, tuple[str, ...]] = {name: tuple(words.split()) for name, words in (KINDS | SUBJECTS).items()}

__all__ = ["LISTS"]
