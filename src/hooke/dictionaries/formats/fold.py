"""What a tool computes, as a `Coder`: scales, subtracted biases and gains of norms folded in, once for all formats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hooke.dictionaries.coder import Coder
from hooke.dictionaries.formats.hooks import place_of, products
from hooke.errors import HookeError
from hooke.model import Model
from hooke.sites import Site


@dataclass(frozen=True)
class Weights:
    """One block as its tool has it: h = Σ x · encoder + bias, f = gate(h), y = f · decoder + offset (+ skip · x).

    encoders, decoders (n, width), offsets (width,) and skip (width, width of the first read): by foreign name. The rest
    is that of `Coder`.
    """

    encoders: dict[str, Tensor]
    bias: Tensor
    decoders: dict[str, Tensor]
    offsets: dict[str, Tensor]
    gate: str = "relu"
    threshold: Tensor | None = None
    k: int | None = None
    scaled: bool = False
    skip: dict[str, Tensor] = field(default_factory=dict)
    norm: str = ""

    def less(self, centre: Tensor) -> Weights:
        """The same where it takes x - centre: of one read site."""
        (encoder,) = self.encoders.values()
        return replace(self, bias=self.bias - products(encoder, centre))

    def times(self, read: float, write: float | None = None) -> Weights:
        """The same where it was trained on `read` times what it reads, and on `write` times (else `read` times) what it
        writes: codes stay as they were."""
        write = read if write is None else write
        return replace(
            self,
            encoders={name: x * read for name, x in self.encoders.items()},
            decoders={name: x / write for name, x in self.decoders.items()},
            offsets={name: x / write for name, x in self.offsets.items()},
            skip={name: x * (read / write) for name, x in self.skip.items()},
        )

    def measured(self, lengths: Tensor) -> Weights:
        """The same with codes in units of a length (n,) of each feature, which its decoder loses."""
        safe = torch.where(lengths > 0, lengths, torch.ones_like(lengths))
        return replace(
            self,
            encoders={name: x * safe[:, None] for name, x in self.encoders.items()},
            bias=self.bias * safe,
            decoders={name: x / safe[:, None] for name, x in self.decoders.items()},
        )

    def whitened(self, mean: Tensor, matrix: Tensor, inverse: Tensor) -> Weights:
        """The same where it was trained on (x - mean) · matrix, and what it writes is y · inverse + mean."""
        (read, encoder), (write, decoder) = *self.encoders.items(), *self.decoders.items()
        raw = encoder.double() @ matrix.double().T
        return replace(
            self,
            encoders={read: raw.to(encoder.dtype)},
            bias=self.bias - products(raw, mean).to(self.bias.dtype),
            decoders={write: (decoder.double() @ inverse.double()).to(decoder.dtype)},
            offsets={write: (self.offsets[write].double() @ inverse.double() + mean.double()).to(decoder.dtype)},
        )


def lengths_of(decoder: Tensor) -> Tensor:
    """(n,): how long each row of a decoder (n, width) is."""
    return decoder.norm(dim=-1)


def gated(gate: Tensor, magnitude: Tensor, rate: Tensor) -> Tensor:
    """Thresholds (n,) by which a gated autoencoder is a JumpReLU: a feature of magnitude h = e^rate · x·w + magnitude
    is open where x·w + gate > 0, which is where h > magnitude - gate · e^rate."""
    return magnitude - gate * rate.exp()


def coder_of(weights: Weights, model: Model | None, where: str, made: Mapping[str, Any]) -> Coder:
    """The block at Hooke's sites, on the model's device.

    where: the file, in a message. made: what is known of its making, kept in `about`. Raises HookeError for places that
    Hooke does not know or the model does not have, and for shapes that do not fit each other or the model.
    """
    reads = {name: place_of(name, model) for name in weights.encoders}
    writes = {name: place_of(name, model) for name in weights.decoders}
    for places in (reads, writes):
        if len({place.site for place in places.values()}) < len(places):
            raise HookeError(f"{where} names one place twice: {', '.join(places)}")
    if weights.norm and any(place.gain is not None for place in (*reads.values(), *writes.values())):
        raise HookeError(f"{where} scales what stands before a norm's gain by itself once more; not read")
    bias, encoders = weights.bias, {}
    for name, encoder in weights.encoders.items():
        encoders[reads[name].site], bias = reads[name].read(encoder, bias)
    decoders, offsets, skip = {}, {}, {}
    first = next(iter(reads.values()))
    for name, decoder in weights.decoders.items():
        site, offset = writes[name].site, weights.offsets[name]
        if name in weights.skip:
            through, shift = first.read(weights.skip[name], torch.zeros_like(offset))
            if writes[name].gain is not None:
                raise HookeError(f"{where} passes what it reads on to {name}, before a norm's gain; not read")
            skip[site], offset = through.contiguous(), offset + shift
        decoders[site], offsets[site] = writes[name].write(decoder, offset)
    about: dict[str, Any] = {"belongs_to": None, "made": {**made, "file": where}, "transfer": []}
    try:
        coder = Coder(
            encoders={site: x.contiguous() for site, x in encoders.items()}, bias=bias,
            decoders={site: x.contiguous() for site, x in decoders.items()}, offsets=offsets, gate=weights.gate,
            threshold=weights.threshold, k=weights.k, scaled=weights.scaled, skip=skip, about=about, norm=weights.norm,
        )  # fmt: skip
    except HookeError as error:
        raise HookeError(f"{where}: {error}") from None
    return coder if model is None else _fitted(coder, model, where)


def _fitted(coder: Coder, model: Model, where: str) -> Coder:
    """On the model's device, at sites that it has with the widths it has."""
    for part in (coder.encoders, coder.decoders):
        for site, w in part.items():
            if site not in model.sites:
                raise HookeError(f"{where} is of {site}, which {model.name} does not have")
            width = model.parts.width(site)
            if w.shape[1] != width:
                raise HookeError(f"{where} takes {w.shape[1]} numbers at {site}, and {model.name} has {width} there")
    return coder.to(model.device)


def only(mapping: Mapping[Site, Tensor], what: str) -> tuple[Site, Tensor]:
    """The one site of a part. Raises HookeError if there are several, which a format cannot hold."""
    if len(mapping) != 1:
        raise HookeError(f"this format holds dictionaries that {what} one site, and this one has {len(mapping)}")
    return next(iter(mapping.items()))


def named(path: Path) -> str:
    """A file or folder as messages and provenance name it: with the folder it lies in."""
    parts = path.absolute().parts[-2:]
    return "/".join(part.strip("/") for part in parts if part.strip("/"))
