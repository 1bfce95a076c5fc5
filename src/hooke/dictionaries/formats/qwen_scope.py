"""Qwen-Scope: `layer5.sae.pt`, a pickle of weights, in a folder whose name says how many features fire (`-L0_50`)."""

from __future__ import annotations

import re
from pathlib import Path

from hooke.dictionaries.coder import Coder
from hooke.dictionaries.formats.fold import Weights, coder_of, named
from hooke.dictionaries.formats.tensors import names_in, opened
from hooke.errors import HookeError
from hooke.files import is_file
from hooke.model import Model

FILE = re.compile(r"layer(\d{1,4})\.sae\.pt")


def read_qwen_scope(path: Path, model: Model | None = None, allow_pickle: bool = False) -> tuple[Coder, ...]:
    """A file, as one block, or a folder of them, as one block a layer: TopK autoencoders of the stream after a layer.

    Raises HookeError unless pickles are allowed, where no folder's name says how many features fire, and for what does
    not fit the model.
    """
    files = [path] if is_file(path) else [path / name for name in names_in(path)]
    files.sort(key=lambda file: _layer(file) or 0)
    files = [file for file in files if _layer(file) is not None]
    if not files:
        raise HookeError(f"{named(path)} has no file layer0.sae.pt or the like")
    said = [found for part in path.absolute().parts if (found := re.search(r"W(\d+)K-L0_(\d{1,6})$", part))]
    if not said:
        raise HookeError(
            f"{named(path)} does not say how many features fire; put it into a folder named as its repository is, "
            "as in SAE-Res-Qwen3-1.7B-Base-W32K-L0_50"
        )
    blocks = []
    for file in files:
        hook, where = f"blocks.{_layer(file)}.hook_resid_post", named(file)
        with opened(file, allow_pickle) as stored:
            n, width = stored.size("W_enc", 0, 2), stored.size("W_enc", 1, 2)
            stored.none_but("W_enc", "W_dec", "b_enc", "b_dec")
            weights = Weights(
                {hook: stored.take("W_enc", n, width)}, stored.take("b_enc", n),
                {hook: stored.take("W_dec", width, n).T}, {hook: stored.take("b_dec", width)},
                gate="topk", k=int(said[-1][2]),
            )  # fmt: skip
        blocks.append(coder_of(weights, model, where, {"by": "Qwen-Scope", "reads": hook}))
    return tuple(blocks)


def _layer(file: Path) -> int | None:
    found = FILE.fullmatch(file.name)
    return None if found is None else int(found[1])
