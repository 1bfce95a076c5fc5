"""The only home of text: prompts, contrast pairs and passages, written or generated here."""

from hooke.data.prompts.flips import DEVELOPMENT, EARLIER, Flip
from hooke.data.prompts.function_words import FUNCTION_WORDS, ROLES
from hooke.data.prompts.held_out import HELD_OUT
from hooke.data.prompts.passages import PASSAGES

__all__ = ["DEVELOPMENT", "EARLIER", "FUNCTION_WORDS", "HELD_OUT", "PASSAGES", "ROLES", "Flip"]
