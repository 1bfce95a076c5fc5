"""The only home of text: prompts, contrast pairs and passages, written or generated here."""

from hooke.data.flips import DEVELOPMENT, HELD_OUT, Flip
from hooke.data.passages import PASSAGES

__all__ = ["DEVELOPMENT", "HELD_OUT", "PASSAGES", "Flip"]
