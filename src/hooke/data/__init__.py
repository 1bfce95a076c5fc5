"""The only home of text, written or generated here.

prompts/    with counterfactuals, with a circuit to look for, neutral passages, lists of words
labelled/   labelled text for probes, and readers of a person's own
audit/      what a model is asked when its behaviour is looked into
"""

from hooke.data.prompts.flips import DEVELOPMENT, EARLIER, Flip
from hooke.data.prompts.function_words import FUNCTION_WORDS, ROLES
from hooke.data.prompts.held_out import HELD_OUT
from hooke.data.prompts.passages import PASSAGES

__all__ = ["DEVELOPMENT", "EARLIER", "FUNCTION_WORDS", "HELD_OUT", "PASSAGES", "ROLES", "Flip"]
