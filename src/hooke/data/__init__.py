"""The only home of text: prompts, contrast pairs and passages, written or generated here."""

from hooke.data.flips import DEVELOPMENT, EARLIER, Flip
from hooke.data.function_words import FUNCTION_WORDS, ROLES
from hooke.data.held_out import HELD_OUT
from hooke.data.passages import PASSAGES

__all__ = ["DEVELOPMENT", "EARLIER", "FUNCTION_WORDS", "HELD_OUT", "PASSAGES", "ROLES", "Flip"]
