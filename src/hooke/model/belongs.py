"""What was made from a model's activations belongs to that model: what must be the same, and what differs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hooke.errors import HookeError

if TYPE_CHECKING:
    from hooke.model.model import Model

WORDS = {
    "weights_sha256": "weights",
    "tokenizer_sha256": "tokenizer",
    "chat_template_sha256": "chat template",
    "dtype": "dtype",
}


def belongs_to(model: Model) -> dict[str, Any]:
    """What a probe or a dictionary must find again in the model it is used on. HookeError without a tokenizer."""
    facts = model.provenance()
    tokenizer = model.tokenizer
    if tokenizer is None:
        raise HookeError(f"{model.name} has no tokenizer, and this reads texts; load the model with one")
    backend = getattr(tokenizer, "backend_tokenizer", None)
    text = backend.to_str() if backend is not None else repr(sorted(tokenizer.get_vocab().items()))
    return {
        "model": facts["model"],
        "weights_sha256": model.weights_hash(),
        "tokenizer_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "chat_template_sha256": facts["chat_template_sha256"],
        "dtype": facts["dtype"],
    }


def differences(theirs: Mapping[str, Any], model: Model) -> list[str]:
    """What differs between what something belongs to (`belongs_to`) and this model, in words."""
    ours = belongs_to(model)
    return [
        f"{word} ({_short(theirs.get(key))} there, {_short(ours[key])} here)"
        for key, word in WORDS.items()
        if theirs.get(key) != ours[key]
    ]


def _short(value: Any) -> str:
    return str(value)[:12]
