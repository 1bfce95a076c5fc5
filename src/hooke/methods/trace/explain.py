"""Words for a graph: what nodes read and promote, which groups carry most, the strongest paths.

Deterministic: every phrase is made from numbers, and verbs follow the evidence. A node is never named
by its bare index, and gets a label only where it is clearer than a random feature's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor

from hooke.dictionaries import Dictionary, Neurons
from hooke.methods.phrases import at, phrase, quote
from hooke.methods.quantities import Quantity
from hooke.methods.trace.coded import Case, Coded, Units, streamed
from hooke.methods.trace.tries import Effect
from hooke.model import LinearView
from hooke.results import WORDS, Verdict
from hooke.results.payloads.common import Called
from hooke.sites import Site

N_RANDOM = 200
PLURAL = {verdict: words.replace("matters", "they matter") for verdict, words in WORDS.items()}


@dataclass
class Labels:
    """For each unit: tokens of the prompt it reads, tokens it promotes and suppresses (empty: no readable label)."""

    reads: list[list[int]]  # positions
    promotes: list[list[int]]  # token ids
    suppresses: list[list[int]]


def written(view: LinearView, coded: Coded, units: Units) -> Tensor:
    """(n, d_model): what each unit writes into the stream, times how far its value is from its baseline, as the last
    norm would scale it at the last position."""
    norm, scale = view.parts.final_norm, view.scales[Site("final_scale")][-1]
    out = streamed(view, coded, units)
    change = units.values if units.baselines is None else units.values - units.baselines
    return norm.weight.to(view.dtype) * out * change[:, None] / scale


def vocabulary_effects(view: LinearView, vectors: Tensor) -> Tensor:
    """(n, d_vocab): direct effects of `written` vectors on the demeaned logits, in at least fp32."""
    unembed = view.parts.unembed.weight
    effects = (vectors.to(unembed.dtype) @ unembed.T).to(view.dtype)
    return effects.sub_(effects.mean(1, keepdim=True))


def peak(effects: Tensor) -> Tensor:
    """(n,): how far the largest effect stands out, in standard deviations over the vocabulary."""
    return effects.amax(1) / effects.std(1).clamp(min=1e-9)


def clarity_bar(view: LinearView, coded: Coded, random: Units) -> float:
    """How far the best token of a random feature stands out, 95th percentile."""
    if not len(random):
        return 0.0
    return float(np.quantile(peak(vocabulary_effects(view, written(view, coded, random))).cpu(), 0.95))


def label(
    view: LinearView, coded: Coded, units: Units, from_tokens: Tensor, bar: float, random_from_tokens: Tensor
) -> Labels:
    """Labels of the units. from_tokens: (n, pos) what each token contributes to a unit through the graph;
    bar: how far the best token must stand out, from `clarity_bar`."""
    effects = vocabulary_effects(view, written(view, coded, units))
    clear = (peak(effects) > bar).tolist()
    best = effects.topk(min(5, effects.shape[1]), 1).indices.tolist() if len(units) else []
    worst = effects.topk(min(5, effects.shape[1]), 1, largest=False).indices.tolist() if len(units) else []
    focus = _focus(from_tokens)
    focus_bar = float(np.quantile(_focus(random_from_tokens).cpu(), 0.5)) if len(random_from_tokens) else 0.0
    order = from_tokens.abs().argsort(1, descending=True)[:, :3].tolist()
    reads = []
    for row, share, share_of_top in zip(order, _shares(from_tokens).tolist(), focus.tolist(), strict=True):
        reads.append([p for p in row if share[p] >= 0.15] if share_of_top > focus_bar else [])
    return Labels(
        reads,
        [ids if ok else [] for ids, ok in zip(best, clear, strict=True)],
        [ids if ok else [] for ids, ok in zip(worst, clear, strict=True)],
    )


def _shares(from_tokens: Tensor) -> Tensor:
    return from_tokens.abs() / from_tokens.abs().sum(1, keepdim=True).clamp(min=1e-9)


def _focus(from_tokens: Tensor) -> Tensor:
    return _shares(from_tokens).amax(1) if len(from_tokens) else from_tokens.new_zeros(0)


@dataclass
class Group:
    """Nodes at one position in one third of the depth."""

    members: Tensor  # indices of units
    position: int
    layers: tuple[int, int]
    share: float  # of the influence of all features
    reads: list[int]  # positions
    promotes: list[int]  # token ids
    effect: float  # of holding them at their baseline, as the graph predicts member by member


class Facts(NamedTuple):
    """Of each unit: its layer, its influence, the predicted effect of its ablation (n,), and what each token gives it
    (n, pos)."""

    layers: Tensor
    influence: Tensor
    effects: Tensor
    from_tokens: Tensor


def group(case: Case, units: Units, facts: Facts, likely: Tensor, bar: float, count: int = 4) -> list[Group]:
    """The groups that carry most: nodes at the same position in the same third of the depth, ranked by
    the influence they hold.

    likely: ids of likely next tokens, among which a group at the last position is told by what it promotes. bar: how
    far the best token must stand out for a group elsewhere, which acts through attention, to be told by tokens at all.
    """
    view, coded, (layers, influence, effects, from_tokens) = case.view, case.coded, facts
    stage = (3 * layers) // view.parts.n_layers
    found = []
    for p in units.positions.unique().tolist():
        for s in stage.unique().tolist():
            members = ((units.positions == p) & (stage == s)).nonzero()[:, 0]
            if len(members) < 2:
                continue
            found.append((float(influence[members].sum()), p, members))
    found.sort(key=lambda item: (-item[0], item[1]))
    whole = max(float(influence.sum()), 1e-12)
    out = []
    for share, p, members in found[:count]:
        weight = influence[members, None] * _shares(from_tokens[members])
        reads = weight.sum(0)
        reads = reads / reads.sum().clamp(min=1e-9)
        top = reads.argsort(descending=True)[:2].tolist()
        total = written(view, coded, units.take(members)).sum(0, keepdim=True)
        promoted = vocabulary_effects(view, total)
        if p == view.n_tokens - 1:
            names = likely[promoted[0, likely].topk(min(3, len(likely))).indices].tolist()
        else:
            names = promoted[0].topk(3).indices.tolist() if float(peak(promoted)) > bar else []
        here = layers[members]
        out.append(
            Group(
                members,
                p,
                (int(here.min()), int(here.max())),
                share / whole,
                [q for q in top if float(reads[q]) >= 0.15],
                names,
                float(effects[members].sum()),
            )
        )
    return out


def called(basis: Sequence[Dictionary]) -> Called:
    """What the features of a basis are called: neurons are features too, so a mixture is of features."""
    return "neurons" if all(isinstance(block, Neurons) for block in basis) else "features"


class Told(NamedTuple):
    """What a sentence is made of.

    subject: what is explained, in words. probability: of it. names: of the tokens that groups promote. against: what
    switching off sets features to. quantities: what is reported, and what predictions are made of. units: what the
    members of groups are called.
    """

    subject: str
    probability: float
    names: dict[int, str]
    against: str
    quantities: tuple[Quantity, Quantity]
    units: Called


def sentence(
    told: Told, tokens: list[str], groups: list[Group], tests: list[tuple[Effect, Verdict, list[int]]] | None
) -> tuple[str, list[str]]:
    """The sentence above the picture without its end, and its claims one by one.

    tests: of each group its effect, verdict and the words that switching it off makes less likely; None if nothing
    was tested.
    """
    claims = []
    reported, inside = told.quantities
    for k, g in enumerate(groups):
        layers = f"layer {g.layers[0]}" if g.layers[0] == g.layers[1] else f"layers {g.layers[0]} to {g.layers[1]}"
        place = at(tokens, g.position)
        text = f"{len(g.members)} {told.units} at {place} in {layers} ({g.share:.0%} of the influence)"
        promoted = [] if tests is None else tests[k][2]
        does = []
        if g.reads:
            does.append("read " + phrase([at(tokens, p) for p in g.reads]))
        if promoted:
            does.append("promote " + phrase([quote(told.names[i]) for i in promoted]))
        text += " that " + " and ".join(does) if does else " with no readable label"
        if tests is None:
            claims.append(text + ", which appear in the graph and were not tested")
            continue
        effect, verdict, _ = tests[k]
        change = f"setting them to {told.against} changes the {reported.name} by {effect.measured:+.2f}"
        if inside != reported:
            change += f"; the {inside.name} by {effect.in_graph:+.2f}"
        change += f", predicted {effect.predicted:+.2f}"
        claims.append(f"{text}: {PLURAL[verdict]} ({change})")
    mattering = tests is None or any(verdict in ("as-predicted", "not-as-predicted") for _, verdict, _ in tests)
    verb = "comes from" if mattering else "is traced to"
    return f"{told.subject} ({told.probability:.1%}) {verb} {'; '.join(claims)}", claims


@dataclass
class Path:
    """A path from a token through kept units to the answer, and what it carries of the answer by its edges."""

    token: int  # position
    units: list[int]  # from the last to the first
    weight: float  # product of its edges: of one unit each, but for the first


def strongest_paths(moves: np.ndarray, unit: np.ndarray, n_pos: int, count: int = 10, beam: int = 64) -> list[Path]:
    """Beam search from the answer up to the tokens, by what paths carry.

    moves: (n_units + 1, n_units + n_pos …) edges into the units, and in the last row into the answer, from units,
    tokens, and what no path goes through. unit: (n_units + 1, n_units) the same for one unit of each source.
    """
    n_units = unit.shape[1]
    done: list[Path] = []
    front = [Path(-1, [], 1.0)]
    while front:
        longer: list[tuple[float, Path]] = []
        for path in front:
            at = path.units[-1] if path.units else n_units
            carried = path.weight * moves[at, : n_units + n_pos]
            for s in np.argsort(-np.abs(carried))[:beam]:
                if not carried[s]:
                    break
                if s >= n_units:
                    done.append(Path(int(s - n_units), path.units, float(carried[s])))
                else:
                    further = Path(-1, [*path.units, int(s)], path.weight * float(unit[at, s]))
                    longer.append((abs(float(carried[s])), further))
        done = sorted(done, key=lambda p: -abs(p.weight))[: 4 * count]
        front = [path for _, path in sorted(longer, key=lambda pair: -pair[0])[:beam]]
    unique: dict[tuple[int, tuple[int, ...]], Path] = {}
    for path in done:
        unique.setdefault((path.token, tuple(path.units[:2])), path)
    return list(unique.values())[:count]
