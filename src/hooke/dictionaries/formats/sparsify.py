"""sparsify: a folder for each module with `cfg.json` and `sae.safetensors`, named as the module is."""

from __future__ import annotations

from pathlib import Path

from hooke.dictionaries.coder import Coder
from hooke.dictionaries.formats.fold import Weights, coder_of, named
from hooke.dictionaries.formats.said import Said
from hooke.dictionaries.formats.tensors import Stored, config_of, opened
from hooke.errors import HookeError
from hooke.files import is_file
from hooke.model import Model

CONFIG, WEIGHTS, RUN = "cfg.json", "sae.safetensors", "config.json"
GATES = ("topk", "groupmax")


def read_sparsify(folder: Path, model: Model | None = None) -> tuple[Coder, ...]:
    """The coder of a module's folder, as one block: what it reads is said by the folder's name (`layers.3.mlp`) alone.

    One that transcodes reads what the module takes and writes what it gives. Raises HookeError for a folder named
    otherwise, signed coders of old, and for what does not fit its config or the model.
    """
    where = named(folder)
    said = Said(config_of(folder / CONFIG), f"{where}/{CONFIG}")
    if said.flag("signed", False):
        raise HookeError(f"{where} is of an old kind whose features also fire below zero; train it again")
    hook = (
        folder.name.replace("layers_", "layers.").replace("h_", "h.")
        if folder.name[:2] in ("la", "h_")
        else folder.name
    )
    transcodes = said.flag("transcode", False)
    with opened(folder / WEIGHTS) as stored:
        weights = _weights(said, stored, f"{hook}.input" if transcodes else hook, hook)
    run = folder.parent / RUN
    about = Said(config_of(run), RUN) if is_file(run) else Said({}, "")
    made = {"by": "sparsify", "module": hook, "transcodes": transcodes}
    made |= {key: about.values[key] for key in ("model", "dataset", "ctx_len") if about.values.get(key) is not None}
    return (coder_of(weights, model, where, made),)


def _weights(said: Said, stored: Stored, read: str, write: str) -> Weights:
    width = said.whole("d_in")
    n = said.whole("num_latents", 0, low=0) or width * said.whole("expansion_factor")
    offset = stored.take("b_dec", width)
    skip = {}
    if said.flag("skip_connection", False):
        skip = {write: stored.take("W_skip", width, width)}
    stored.none_but("encoder.weight", "encoder.bias", "W_dec", "b_dec", *(["W_skip"] if skip else []))
    weights = Weights(
        {read: stored.take("encoder.weight", n, width)}, stored.take("encoder.bias", n),
        {write: stored.take("W_dec", n, width)}, {write: offset},
        gate=said.one_of("activation", GATES, "topk"), k=said.whole("k"), skip=skip,
    )  # fmt: skip
    return weights if said.flag("transcode", False) else weights.less(offset)
