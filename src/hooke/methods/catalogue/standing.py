"""Where a pass over text stands, in one file: going on from it is the same, to the last bit, as never having
stopped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from torch import Tensor

from hooke.errors import HookeError
from hooke.files import replacing
from hooke.harvest.tensors import read_tensors, write_tensors
from hooke.methods.catalogue.sweep import Swept
from hooke.methods.catalogue.tally import Tally

NAME = "pass.safetensors"
MOST = 2**42


def save(swept: Swept, folder: Path) -> None:
    """Write it, whole or not at all."""
    about = {"pass": json.dumps({"tokens": swept.tokens, "shard": swept.shard})}
    with replacing(folder / NAME) as temp:
        write_tensors(temp, dict(_all(swept)), about)


def load(swept: Swept, folder: Path) -> None:
    """Put what was saved into the state before the first shard; nothing where nothing was saved. Raises HookeError for
    a file that is not whole, or of another pass."""
    path = folder / NAME
    if not path.exists():
        return
    about, found, _ = read_tensors(path, MOST)
    try:
        stands = json.loads(about["pass"])
        swept.tokens, swept.shard = int(stands["tokens"]), int(stands["shard"])
        for name, x in _all(swept):
            if found[name].shape != x.shape:
                raise KeyError(name)
            x.copy_(found[name])
    except (KeyError, TypeError, ValueError):
        raise HookeError(f"{path} is no pass of this catalogue; remove it to begin again") from None


def _all(swept: Swept) -> Iterator[tuple[str, Tensor]]:
    for b, (kept, effect) in enumerate(zip(swept.kept, swept.effect, strict=True)):
        yield f"{b}.effect", effect
        for part in fields(Tally):
            yield f"{b}.{part.name}", getattr(kept, part.name)
