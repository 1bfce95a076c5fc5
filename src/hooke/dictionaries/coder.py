"""`Coder`: a trained dictionary. Features that read linearly, fire through a gate, and write along a row each.

An autoencoder writes what it reads, a transcoder reads what an MLP reads and writes what it writes, with or without a
linear skip; one that writes several sites is a block of a cross-layer transcoder, one that reads several a crosscoder.
What was trained on scaled activations has the scale folded in: a coder takes activations as the model has them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from hooke.dictionaries.codes import Codes
from hooke.dictionaries.protocol import Dictionary, Values
from hooke.errors import HookeError
from hooke.sites import Site

GATES = ("relu", "jumprelu", "topk", "abstopk", "groupmax")
COUNTED = ("topk", "abstopk", "groupmax")  # gates that keep k features of a token
NORMS = ("", "layer", "length")  # what is read is taken over a scale of its own, per token


@dataclass(eq=False)
class Coder(Dictionary):
    """One block: h = Σ_site x · encoder + bias, f = gate(h), y = f · decoder + offset (+ skip · first read).

    encoders: by read site, (n_features, width). decoders: by written site, the same. offsets: by written site,
    (width,). skip: by written site, (width, width of the first read).

    gate: of h, per token. "relu"; "jumprelu": h where it is above both zero and `threshold` (n_features,), strictly;
    "topk": relu of the k largest; "abstopk": the k largest by |h|; "groupmax": relu of the largest of each of k runs of
    neighbours. scaled: topk goes by h times the length of what a feature writes. refine: with η > 0, h becomes
    h + η (x - y(f)) · encoder and is gated again, one step of ISTA (autoencoders only).

    norm: x is its distance from its mean over its standard deviation ("layer"), or x over its root mean square
    ("length"), and an autoencoder's y is put back. As everywhere, readers and writers hold the scale; `slopes` do not.

    Raises HookeError for shapes that do not fit each other, numbers that are not finite, and unknown gates.
    """

    encoders: dict[Site, Tensor]
    bias: Tensor
    decoders: dict[Site, Tensor]
    offsets: dict[Site, Tensor]
    gate: str = "relu"
    threshold: Tensor | None = None
    k: int | None = None
    scaled: bool = False
    refine: float = 0.0
    skip: dict[Site, Tensor] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)  # what it belongs to and was made from, as its folder says
    norm: str = ""

    def __post_init__(self) -> None:
        self.reads, self.writes = tuple(self.encoders), tuple(self.decoders)
        self.n_features, self.restores = len(self.bias), bool(self.norm) and self.reads == self.writes
        self.skips = bool(self.skip) or self.restores
        _check(self)

    @cached_property
    def hash(self) -> str:  # type: ignore[override]
        """Of everything that decides what it computes."""
        found = hashlib.sha256(json.dumps(self.rule(), sort_keys=True).encode())
        for name, x in sorted(self.tensors().items()):
            found.update(f"{name} {x.dtype} {tuple(x.shape)}".encode())
            found.update(x.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return f"coder:{','.join(map(str, self.writes))}:{found.hexdigest()[:16]}"

    def rule(self) -> dict[str, Any]:
        """Everything but tensors that decides what it computes, as JSON has it."""
        return {
            "reads": list(map(str, self.reads)),
            "writes": list(map(str, self.writes)),
            "n_features": self.n_features,
            "gate": self.gate,
            "k": self.k,
            "scaled": self.scaled,
            "refine": self.refine,
        } | ({"norm": self.norm} if self.norm else {})

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by the names they are saved under."""
        found = {"bias": self.bias} | ({} if self.threshold is None else {"threshold": self.threshold})
        parts = {"encoder": self.encoders, "decoder": self.decoders, "offset": self.offsets, "skip": self.skip}
        return found | {f"{name}.{site}": x for name, part in parts.items() for site, x in part.items()}

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Coder:
        """The same with its tensors elsewhere or of another type."""

        def moved(part: dict[Site, Tensor]) -> dict[Site, Tensor]:
            return {site: x.to(device, dtype) for site, x in part.items()}

        return Coder(
            moved(self.encoders), self.bias.to(device, dtype), moved(self.decoders), moved(self.offsets),
            self.gate, None if self.threshold is None else self.threshold.to(device, dtype), self.k, self.scaled,
            self.refine, moved(self.skip), self.about, self.norm,
        )  # fmt: skip

    # ---- the way in ----------------------------------------------------------------------------

    def encode(self, x: Values) -> Codes:
        return Codes.of(self.dense(x))

    def dense(self, x: Values) -> Tensor:
        """Codes with their zeros, (pos, n_features)."""
        h = self.before(x)
        f = self.gated(h)
        if not self.refine:
            return f
        (site,) = self.reads
        left = x[site].to(f.dtype) - f @ self.decoders[site].to(f.dtype) - self.offsets[site].to(f.dtype)
        return self.gated(h + self.refine * (left @ self.encoders[site].to(f.dtype).T))

    def before(self, x: Values) -> Tensor:
        """What the gate takes, (pos, n_features), before a step of refinement."""
        first = next(iter(self.encoders.values()))
        dtype = torch.promote_types(x[self.reads[0]].dtype, first.dtype)
        total = self.bias.to(dtype)
        for site, w in self.encoders.items():
            read = x[site].flatten(1).to(dtype)
            if self.norm:
                centred, scale = self._scale(read)
                read = centred / (scale + self._eps)
            total = torch.addmm(total, read, w.to(dtype).T)
        return total

    @property
    def _eps(self) -> float:
        return 1e-5 if self.norm == "layer" else 0.0  # beside the standard deviation, as SAELens has it

    def _scale(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What a norm scales (n width), and by what (n 1), of values read (n width)."""
        x = x - x.mean(-1, keepdim=True) if self.norm == "layer" else x
        free = x.shape[-1] - (self.norm == "layer")
        return x, (x.square().sum(-1, keepdim=True) / free).sqrt().clamp(min=1e-30)

    def _pull_norm(self, x: Tensor, along: Tensor, cotangent: Tensor) -> Tensor:
        """The transpose of the norm's derivative at x (n width), of cotangents (n width) on what it gives, the move of
        its scale weighed by `along` (n 1): how much of what is read goes by the scale."""
        centred, scale = self._scale(x)
        whole = scale + self._eps
        free = x.shape[-1] - (self.norm == "layer")
        pulled = cotangent / whole - along / whole.square() * centred / (scale * free)
        return pulled - pulled.mean(-1, keepdim=True) if self.norm == "layer" else pulled

    def gated(self, h: Tensor) -> Tensor:
        """(pos, n_features) to the same with what does not fire at zero."""
        if self.gate == "relu":
            return torch.relu(h)
        if self.gate == "jumprelu":
            assert self.threshold is not None
            return torch.where(h > self.threshold.to(h.dtype), torch.relu(h), 0.0)
        assert self.k is not None
        if self.gate == "groupmax":
            best, at = h.unflatten(-1, (self.k, -1)).max(-1)
            at = at + torch.arange(self.k, device=h.device) * (self.n_features // self.k)
            return torch.zeros_like(h).scatter(-1, at, torch.relu(best))
        score = h.abs() if self.gate == "abstopk" else h
        if self.scaled:
            score = score * self.lengths.to(h.dtype)
        at = score.topk(self.k, sorted=False).indices
        chosen = h.gather(-1, at)
        return torch.zeros_like(h).scatter(-1, at, chosen if self.gate == "abstopk" else torch.relu(chosen))

    @cached_property
    def lengths(self) -> Tensor:
        """(n_features,): how long what one unit of each feature writes is, over all written sites."""
        return torch.stack([w.float().square().sum(-1) for w in self.decoders.values()]).sum(0).sqrt()

    def reader(self, ids: Tensor, at: Values) -> tuple[dict[Site, Tensor], Tensor]:
        dtype = torch.promote_types(at[self.reads[0]].dtype, self.bias.dtype)
        rows = {site: w[ids].to(dtype) for site, w in self.encoders.items()}
        const = self.bias[ids].to(dtype)
        if self.norm:
            ((site, row),) = rows.items()
            return {site: self._pull_norm(at[site].flatten(1).to(dtype), torch.zeros((), dtype=dtype), row)}, const
        if not self.refine:
            return rows, const
        # h + η (x - Σ_j∈S (x · e_j + b_j) d_j - offset) · e, where S is what fires before the step
        (site,) = self.reads
        e, encoder = rows[site], self.encoders[site].to(dtype)
        fires = (self.gated(self.before(at)) != 0).to(dtype)
        overlap = fires * (e @ self.decoders[site].to(dtype).T)
        left = const - self.refine * (overlap @ self.bias.to(dtype) + e @ self.offsets[site].to(dtype))
        return {site: (1 + self.refine) * e - self.refine * (overlap @ encoder)}, left

    def slopes(self, ids: Tensor, at: Values) -> dict[Site, Tensor]:
        rows, _ = self.reader(ids, at)
        if not self.norm:
            return rows
        ((site, w),) = self.encoders.items()
        x = at[site].flatten(1).to(rows[site].dtype)
        row = w[ids].to(x.dtype)
        return {site: self._pull_norm(x, (row * self._scale(x)[0]).sum(-1, keepdim=True), row)}

    # ---- the way out ---------------------------------------------------------------------------

    def writer(self, ids: Tensor, site: Site, at: Values) -> Tensor:
        rows = self.decoders[site][ids]
        return self._scale(at[site].flatten(1).to(rows.dtype))[1] * rows if self.restores else rows

    def offset(self, site: Site, x: Values) -> Tensor | None:
        first = x[self.reads[0]].flatten(1)
        dtype = torch.promote_types(first.dtype, self.bias.dtype)
        constant = self.offsets[site].to(dtype).expand(len(first), -1)
        if self.restores:
            centred, scale = self._scale(first.to(dtype))
            return scale * constant + (first.to(dtype) - centred)
        return constant + first.to(dtype) @ self.skip[site].to(dtype).T if site in self.skip else constant

    def pull_offset(self, site: Site, cotangent: Tensor, x: Values) -> dict[Site, Tensor]:
        read = self.reads[0]
        if self.restores:
            centred, scale = self._scale(x[read].flatten(1).to(cotangent.dtype))
            along = cotangent @ self.offsets[site].to(cotangent.dtype)
            free = centred.shape[-1] - (self.norm == "layer")
            pulled = along[..., None] * centred / (scale * free)
            return {read: pulled + (cotangent.mean(-1, keepdim=True) if self.norm == "layer" else 0.0)}
        return {read: cotangent @ self.skip[site].to(cotangent.dtype)} if site in self.skip else {}

    def written(self, f: Tensor, x: Values) -> dict[Site, Tensor]:
        """What `decode` gives, of codes with their zeros (pos, n_features)."""
        found = {}
        for site, w in self.decoders.items():
            y = self.offset(site, x)
            assert y is not None
            codes = f.to(y.dtype)
            if self.restores:
                codes = codes * self._scale(x[site].flatten(1).to(y.dtype))[1]
            found[site] = torch.addmm(y, codes, w.to(y.dtype))
        return found


def _check(coder: Coder) -> None:
    n = coder.n_features
    if coder.gate not in GATES:
        raise HookeError(f"no gate called {coder.gate!r}; there are {', '.join(GATES)}")
    if not coder.reads or not coder.writes or not n:
        raise HookeError("a dictionary reads a site, writes a site and has features; this one lacks one of the three")
    if (coder.gate in COUNTED) != (coder.k is not None) or not 0 < (coder.k or 1) <= n:
        raise HookeError(f"k is {coder.k}; the gate {coder.gate} of {n} features takes {_counts(coder.gate, n)}")
    if coder.gate == "groupmax" and n % (coder.k or 1):
        raise HookeError(f"{n} features do not make {coder.k} groups of one size")
    if (coder.gate == "jumprelu") != (coder.threshold is not None):
        raise HookeError(f"the gate {coder.gate} {'needs' if coder.threshold is None else 'has no'} thresholds")
    if coder.norm not in NORMS or (coder.norm and (len(coder.reads) != 1 or coder.refine)):
        raise HookeError(f"no norm {coder.norm!r} of {len(coder.reads)} sites; of one, without refinement, there are "
                         f"{', '.join(NORMS[1:])}")  # fmt: skip
    if coder.refine and (coder.reads != coder.writes or len(coder.reads) != 1 or coder.skips):
        raise HookeError("a step of refinement is for autoencoders of one site, which write what they read")
    for name, x in coder.tensors().items():
        part, _, at = name.partition(".")
        site = Site.parse(at) if at else None
        if part in ("bias", "threshold"):
            shape: tuple[int, ...] = (n,)
        elif part in ("encoder", "decoder"):
            shape = (n, x.shape[-1] if x.ndim else -1)
        elif part == "offset":
            shape = (coder.decoders[site].shape[-1],) if site in coder.decoders else (-1,)
        else:
            to = coder.decoders.get(site) if site is not None else None
            shape = (-1 if to is None else to.shape[-1], coder.encoders[coder.reads[0]].shape[-1])
        if tuple(x.shape) != shape:
            raise HookeError(f"{name} of a dictionary of {n} features has the shape {tuple(x.shape)}, not {shape}")
        if not x.is_floating_point() or not bool(torch.isfinite(x).all()):
            raise HookeError(f"{name} of a dictionary must be finite floating-point numbers")
    if set(coder.offsets) != set(coder.decoders):
        raise HookeError("a dictionary has one offset for each site that it writes")


def _counts(gate: str, n: int) -> str:
    return f"one from 1 to {n}" if gate in COUNTED else "none"
