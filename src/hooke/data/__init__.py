"""The only home of text: prompts, contrast pairs and passages, written or generated here."""

from hooke.data.flips import DEVELOPMENT, EARLIER, Flip
from hooke.data.held_out import HELD_OUT
from hooke.data.passages import PASSAGES

__all__ = ["DEVELOPMENT", "EARLIER", "HELD_OUT", "PASSAGES", "Flip"]
