"""The only home of text: prompts, contrast pairs and passages, written or generated here."""

from hooke.data.passages import PASSAGES

__all__ = ["PASSAGES"]
