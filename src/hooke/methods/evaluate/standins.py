"""What is put in the place of a site's value: the dictionary, and what it has to beat. All that a control needs is
fitted to text of its own, never to the text that it is measured on.

dictionary      what its blocks add up to
random_decoder  the same codes, written along random rows of the same lengths
untrained       a TopK dictionary as it is before training, as many features firing
neurons         the neurons that write most of each token, as many as features fire, and the mean of the others
pca             as many principal components as features fire
linear          the best linear map of what the blocks read
mean, zero      the same for each token
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hooke.dictionaries.coder import Coder
from hooke.dictionaries.fit import Place, finish, start
from hooke.dictionaries.kinds import TopK, When
from hooke.errors import HookeError
from hooke.methods.evaluate.asked import MLP, Target, wide
from hooke.methods.evaluate.seen import Seen, seen
from hooke.methods.evaluate.texts import Pieces, batched
from hooke.methods.progress import Tick
from hooke.model import Model
from hooke.model.budget import budget, pass_tokens
from hooke.model.families import Block
from hooke.sites import Site

ABOUT = {
    "random_decoder": "the same codes, written along random rows of the same lengths; offset and one scale fitted",
    "untrained": "a TopK dictionary of the same shape before training, as many features firing, written along random "
    "rows; offset and one scale fitted",
    "neurons": "of each token the neurons that write most (|activation| times the length of what it multiplies), as "
    "many as features fire; the others at their mean",
    "pca": "as many principal components of the site as features fire",
    "linear": "the linear map of what the dictionary reads with the least squared error",
    "mean": "the mean of the site, for each token",
    "zero": "zero, for each token",
    "shuffled_labels": "the same fitted to the same labels in another order",
    "dense_probe": "a logistic regression on all of what the dictionary reads (of first letters: of what it writes)",
    "oracle": "the site itself, as the model computes it",
}
CONTROLS = ("random_decoder", "untrained", "neurons", "pca", "linear", "mean", "zero")
RIDGE = 1e-4  # of the mean variance of what is read, added to it where a linear map is fitted
FIRST = 2048  # tokens that an untrained dictionary is started with


@dataclass(frozen=True)
class Standin:
    """What takes the place of a site's value.

    reads: what it is made of. make: from the values there, (n, width). size: how many numbers a token it keeps, on
    average.
    """

    name: str
    reads: tuple[Site, ...]
    make: Callable[[Seen], Tensor]
    size: float


@dataclass(eq=False)
class Fitted:
    """The stand-ins of one target, the dictionary first.

    wanted: names of all controls that were asked for. untrained: the blocks of that control, for their codes. mean:
    (width,) of the site. axes: (width, width) the principal ones of what its own blocks read, the first first.
    """

    target: Target
    standins: dict[str, Standin]
    wanted: frozenset[str]
    untrained: list[Coder]
    mean: Tensor
    axes: Tensor

    @property
    def act(self) -> Site | None:
        """The neurons of its layer, where they were asked for."""
        layer = self.target.layer
        return Site("mlp_act", layer) if layer is not None and "neurons" in self.wanted else None

    @property
    def reads(self) -> set[Site]:
        """All that its stand-ins are made of, and the site itself."""
        return {self.target.site, *(site for each in self.standins.values() for site in each.reads)}


@dataclass(eq=False)
class Scale:
    """The least-squares a and c (width,) of y ≈ a z + c, z and y (n, width), one pass over both."""

    n: int = 0
    z: Tensor | float = 0.0
    y: Tensor | float = 0.0
    zy: float = 0.0
    zz: float = 0.0

    def add(self, z: Tensor, y: Tensor) -> None:
        z, y = z.double(), y.double()
        self.n, self.z, self.y = self.n + len(z), self.z + z.sum(0), self.y + y.sum(0)
        self.zy, self.zz = self.zy + float((z * y).sum()), self.zz + float(z.square().sum())

    def solved(self) -> tuple[float, Tensor]:
        assert isinstance(self.z, Tensor) and isinstance(self.y, Tensor)
        apart = self.zz - float(self.z @ self.z) / self.n
        a = (self.zy - float(self.z @ self.y) / self.n) / apart if apart > 1e-12 * max(self.zz, 1e-30) else 0.0
        return a, (self.y - a * self.z) / self.n


@dataclass(eq=False)
class Moments:
    """Sums over tokens of x (n, in), y (n, out), x xᵀ and x yᵀ, in double precision."""

    n: int = 0
    x: Tensor | float = 0.0
    y: Tensor | float = 0.0
    xx: Tensor | float = 0.0
    xy: Tensor | float = 0.0

    def add(self, x: Tensor, y: Tensor) -> None:
        x, y = x.double(), y.double()
        self.n, self.x, self.y = self.n + len(x), self.x + x.sum(0), self.y + y.sum(0)
        self.xx, self.xy = self.xx + x.T @ x, self.xy + x.T @ y

    def linear(self) -> tuple[Tensor, Tensor]:
        """(in, out) and (out,): the map with the least squared error, and what it adds."""
        x, y = self.x / self.n, self.y / self.n
        assert isinstance(x, Tensor) and isinstance(y, Tensor)
        cov, cross = self.xx / self.n - torch.outer(x, x), self.xy / self.n - torch.outer(x, y)
        assert isinstance(cov, Tensor)
        ridge = max(RIDGE * float(cov.diagonal().mean()), 1e-30)
        w = torch.linalg.solve(cov + ridge * torch.eye(len(cov), dtype=cov.dtype, device=cov.device), cross)
        return w, y - x @ w

    def axes(self) -> Tensor:
        """(in, in): the principal axes of x, the one with most variance first."""
        x = self.x / self.n
        assert isinstance(x, Tensor)
        return torch.linalg.eigh(self.xx / self.n - torch.outer(x, x)).eigenvectors.flip(1)


class _Fitting:
    """One target while controls are fitted to it. rows: by block, the unit rows that random decoders write along."""

    def __init__(
        self, model: Model, target: Target, wanted: Sequence[str], rows: Mapping[int, Tensor], seed: int
    ) -> None:
        self.target, self.wanted, self.rows, self.seed, self.to = target, set(wanted), rows, seed, wide(model)
        self.asked = frozenset(wanted)
        site = target.site
        self.block = model.parts.blocks[site.layer] if site.layer is not None and site.point in MLP else None
        self.act = Site("mlp_act", site.layer) if self.block is not None else None
        if self.act is None:
            self.wanted.discard("neurons")
        self.wanted.discard("linear" if target.copies else "pca")  # of an autoencoder the map is the site itself
        self.untrained: list[Coder] = []
        self.random, self.raw, self.moments = Scale(), Scale(), Moments()
        self.n, self.fired = 0, 0
        self.total: Tensor | float = 0.0
        self.acts: Tensor | float = 0.0

    @property
    def reads(self) -> set[Site]:
        return {self.target.site, *self.target.reads} | ({self.act} if self.act is not None else set())

    def start(self, first: Seen) -> None:
        """Make the untrained blocks, from the first tokens."""
        site = self.target.site
        for number, block in enumerate(self.target.own if "untrained" in self.wanted else ()):
            k = max(1, min(block.n_features, round(len(first.code(block).values) / len(first))))
            place = Place(block.reads, (site,))
            rows = {s: first.values[s][:FIRST].float() for s in (*place.reads, site)}
            own = self.seed + number
            made = start(TopK(k=k), [place], rows, n_features=block.n_features, when=When(0, 1, 1), seed=own)
            (coder,) = finish(made)
            if not bool(coder.decoders[site].any()):  # a transcoder begins with a decoder of zeros
                coder = replace(coder, decoders={site: random_rows(coder, site, own)})
            self.untrained.append(coder.to(dtype=self.to))

    def add(self, x: Seen) -> None:
        """Take in the values of some tokens."""
        y = x.values[self.target.site]
        self.n, self.total = self.n + len(y), self.total + y.double().sum(0)
        self.fired += sum(len(x.code(block).values) for block in self.target.own)
        if "random_decoder" in self.wanted:
            self.random.add(self._random(x), y - self._offsets(x))
        if "untrained" in self.wanted:
            self.raw.add(self._untrained(x), y)
        if self.act is not None:
            self.acts = self.acts + x.values[self.act].double().sum(0)
        self.moments.add(self._read(x), y)

    def _random(self, x: Seen) -> Tensor:
        return _sum(x.decoded(block, self.target.site, self.rows[id(block)]) for block in self.target.blocks)

    def _untrained(self, x: Seen) -> Tensor:
        return _sum(x.decoded(coder, self.target.site) for coder in self.untrained)

    def _offsets(self, x: Seen) -> Tensor:
        return _sum(x.offset(block, self.target.site) for block in self.target.blocks)

    def _whole(self, x: Seen) -> Tensor:
        return self._offsets(x) + _sum(x.decoded(block, self.target.site) for block in self.target.blocks)

    def _read(self, x: Seen) -> Tensor:
        return torch.cat([x.values[site] for site in self.target.own_reads], 1)

    def fitted(self) -> Fitted:
        """The stand-ins, once all tokens are in."""
        target, to, read = self.target, self.to, self.target.own_reads
        assert isinstance(self.total, Tensor)
        mean, k = (self.total / self.n).to(to), self.fired / self.n
        count, axes = max(1, round(k)), self.moments.axes().to(to)
        found = [Standin("dictionary", target.reads, self._whole, k)]
        if "random_decoder" in self.wanted:
            a, c = self._solved(self.random)
            random = Standin("random_decoder", target.reads, lambda x: a * self._random(x) + c + self._offsets(x), k)
            found.append(random)
        if "untrained" in self.wanted:
            b, d = self._solved(self.raw)
            fires = float(sum(coder.k or 0 for coder in self.untrained))
            found.append(Standin("untrained", read, lambda x: b * self._untrained(x) + d, fires))
        if "neurons" in self.wanted and self.block is not None and self.act is not None:
            assert isinstance(self.acts, Tensor)
            few = min(count, self.block.down.n_in)
            most = Neurons(self.block, self.act, target.site, (self.acts / self.n).to(to), few)
            found.append(Standin("neurons", (self.act,), most, few))
        if "pca" in self.wanted:
            kept = axes[:, :count]
            found.append(Standin("pca", read, lambda x: mean + (self._read(x) - mean) @ kept @ kept.T, count))
        if "linear" in self.wanted:
            w, e = (part.to(to) for part in self.moments.linear())
            found.append(Standin("linear", read, lambda x: self._read(x) @ w + e, float(len(w))))
        if "mean" in self.wanted:
            found.append(Standin("mean", (), lambda x: mean.expand(len(x), -1), 0.0))
        if "zero" in self.wanted:
            found.append(Standin("zero", (), lambda x: torch.zeros_like(mean).expand(len(x), -1), 0.0))
        return Fitted(target, {each.name: each for each in found}, self.asked, self.untrained, mean, axes)

    def _solved(self, scale: Scale) -> tuple[float, Tensor]:
        a, c = scale.solved()
        return a, c.to(self.to)


@dataclass(frozen=True, eq=False)
class Neurons:
    """What an MLP writes where only the `count` neurons that write most of each token differ from their mean."""

    block: Block
    act: Site
    site: Site
    mean: Tensor
    count: int

    def __call__(self, x: Seen) -> Tensor:
        """(n, width)"""
        a = x.values[self.act]
        at = self.chosen(a)
        return self.written(self.mean.expand_as(a).scatter(1, at, a.gather(1, at)))

    def chosen(self, a: Tensor) -> Tensor:
        """(n, count): which neurons, by |activation| times the length of what it multiplies."""
        lengths = self.block.down.weight.to(a.dtype).norm(dim=0)
        return (a.abs() * lengths).topk(self.count, dim=1).indices

    def written(self, a: Tensor) -> Tensor:
        """What the site gets of activations (n, d_mlp)."""
        made, norm = self.block.down.apply(a), self.block.mlp_post_norm
        return made if norm is None or self.site.point != "mlp_out" else norm.apply(made, norm.scale(made)).to(a.dtype)


def fitted(
    model: Model, targets: Sequence[Target], pieces: Pieces, wanted: Sequence[str], *, seed: int, tick: Tick
) -> list[Fitted]:
    """The stand-ins of every target, from one pass over text that nothing is measured on.

    wanted: names of controls; a target leaves out those that do not apply to it. Raises HookeError where what is kept
    of all targets does not fit in memory.
    """
    _check_size(model, targets)
    blocks = {id(block): block for target in targets for block in target.blocks}
    rows = {key: random_rows(block, block.writes[0], seed + n) for n, (key, block) in enumerate(blocks.items())}
    parts = [_Fitting(model, target, wanted, rows, seed) for target in targets]
    sites = sorted({site for part in parts for site in part.reads})
    done, whole = 0, pieces.n_tokens
    for batch in batched(model, pieces, pass_tokens(model)):
        x = seen(model, batch, sites)
        for part in parts:
            if not part.n:
                part.start(x)
            part.add(x)
        done += len(batch.document)
        tick(done / whole)
    return [part.fitted() for part in parts]


def _check_size(model: Model, targets: Sequence[Target]) -> None:
    need = 0
    for target in targets:
        into, out = sum(model.parts.width(site) for site in target.own_reads), model.parts.width(target.site)
        need += 16 * into * (into + out) + 12 * sum(block.n_features * (into + out) for block in target.own)
    free = budget(model.device).free
    if need > free:
        raise HookeError(
            f"{len(targets)} sites and their controls take {need / 2**30:.1f} GB and {free / 2**30:.1f} GB are free; "
            "give fewer --layers"
        )


def check_controls(names: Sequence[str]) -> list[str]:
    """Names of controls, each known; all of them if none is given. Raises HookeError."""
    for name in names:
        if name not in CONTROLS:
            raise HookeError(f"no control called {name!r}; there are {', '.join(CONTROLS)}")
    return list(dict.fromkeys(names)) or list(CONTROLS)


def _sum(parts: Iterable[Tensor]) -> Tensor:
    first, *rest = parts
    for part in rest:
        first = first + part
    return first


def random_rows(block: Coder, site: Site, seed: int) -> Tensor:
    """(n_features, width): random rows of length one."""
    own = block.decoders[site]
    rows = torch.randn(own.shape, generator=torch.Generator().manual_seed(seed)).to(own)
    return rows / rows.norm(dim=1, keepdim=True)
