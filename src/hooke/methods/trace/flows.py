"""What passes from part to part of a story: whole effects, told by what they come to first.

The drawn features are cut out of the live model, and so are a few links of attention: each keeps its value, whatever
comes to it. Then the slopes of one part's features, weighed by all that follows from each, say how far the answer moves
through that part and nothing else of the story before it. So what goes from a source straight to the answer, into each
part and into each link adds up to all that follows from the source, for any choice of parts and at every point on the
way to the counterfactuals, over which it is averaged. A link is come to by its value, by its query or by its key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hooke.methods.progress import Tick, idle
from hooke.methods.trace.answer import on_the_way
from hooke.methods.trace.coded import Case, Units
from hooke.methods.trace.cut_out import TOGETHER, Aim, CutOut, Sources
from hooke.methods.trace.edges import WAYS
from hooke.methods.trace.links import Link
from hooke.model.budget import pass_tokens

POINTS = 2


@dataclass
class Flows:
    """Changes of the answer when a source is set to its counterfactual value, (n_units + n_links + n_pos, n_parts + 3
    n_links + 1): by what they come to first, parts, then links each by its value, query and key, and in the last column
    straight. through: whatever features that are not drawn do on the way; direct: through no feature at all."""

    through: Tensor
    direct: Tensor
    n_links: int = 0

    def of(self, members: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """(n_parts + n_links + n_pos, columns): both, of whole parts, given which units each has."""
        n_units = sum(len(m) for m in members)
        through, direct = (
            torch.cat([*(x[m].sum(0)[None] for m in members), x[n_units:]]) for x in (self.through, self.direct)
        )
        return through, direct

    def between_parts(self, members: Sequence[Tensor]) -> Tensor:
        """(n_parts + n_pos, n_parts + 1): through, with what comes to a link handed on as all that it brings is."""
        through, _ = self.of(members)
        n = len(members)
        links = range(self.n_links)
        into = through[:, n:-1].unflatten(1, (self.n_links, len(WAYS))).sum(2) if self.n_links else through[:, n:-1]
        rest = torch.cat([through[:, :n], through[:, -1:]], 1)
        for link in links:  # each handed on to parts, the answer, and links that are left
            out = torch.cat([rest[n + link], into[n + link]])
            out[n + 1 + link] = 0.0
            if float(out.sum()):
                share = out / out.sum()
                rest, into = rest + into[:, link, None] * share[: n + 1], into + into[:, link, None] * share[n + 1 :]
            into[:, link] = 0.0
        return torch.cat([rest[:n], rest[n + self.n_links :]])


def live_flows(
    case: Case, kept: Units, members: Sequence[Tensor], links: Sequence[Link] = (), tick: Tick = idle,
    points: int = POINTS,
) -> Flows:  # fmt: skip
    """Flows between parts, given which of the kept units each has: each unit is in one."""
    places, share = on_the_way(case, points)
    like, n_parts, n_links = case.view.tokens(), len(members), len(links)
    own = like.new_zeros(n_parts, 1, len(kept))
    for k, here in enumerate(members):
        own[k, 0, here] = 1.0
    columns = n_parts + len(WAYS) * n_links + 1
    found = [like.new_zeros(len(kept) + n_links + len(like), columns) for _ in range(2)]
    rows = [(k, place, weight) for k in range(len(case.baselines)) for place, weight in zip(places, share, strict=True)]
    size = max(1, 2 * pass_tokens(case.model) // (len(like) * min(columns, TOGETHER)))
    for start in range(0, len(rows), size):
        some = rows[start : start + size]
        others = [case.baselines[k] for k, *_ in some]
        gone = torch.stack([other.tokens - like for other in others])  # (row, pos, d_model)
        tokens = like + torch.stack([place for _, place, _ in some])[:, None, None] * gone
        moved = torch.stack([case.coded.values_at(other.codes, kept) - kept.values for other in others])
        brought = [torch.stack([link.there[k] - link.here for k, *_ in some]) for link in links]  # (row, d_head)
        weights = torch.stack([weight for *_, weight in some]) / len(case.baselines)
        every = CutOut(case, kept, links, tokens, "nothing")
        onward = every.slopes([every.answers(torch.ones_like(every.answer)[None])]).row(0)
        for number, total in enumerate(found):
            tick((start + len(some) * (1 + number) / 3) / len(rows))
            cut = CutOut(case, kept, links, tokens, "units" if number == 0 else "everything")
            slopes = cut.slopes(_aims(cut, onward, own, columns))
            worth = [slopes.units * moved, (slopes.tokens * gone).sum(-1)]  # (aim, row, source)
            worth[1:1] = [(x * y).sum(-1)[..., None] for x, y in zip(slopes.links, brought, strict=True)]
            total += torch.einsum("arn,r->na", torch.cat(worth, -1), weights)
    return Flows(found[0], found[1], n_links)


def _aims(cut: CutOut, onward: Sources, own: Tensor, columns: int) -> list[Aim]:
    """What to take slopes of, and how much of it each column (columns, …) wants: of each part what its units would do,
    of each link what it would bring, by value, query and key, and the answer, each by what follows from it."""
    n_parts = len(own)

    def placed(x: Tensor, first: int) -> Tensor:
        out = x.new_zeros(columns, *x.shape[1:])
        out[first : first + len(x)] = x
        return out

    aims = [aim._replace(weight=placed(aim.weight, 0)) for aim in cut.acts(onward.units * own)]
    for k, slope in enumerate(onward.links):
        for way, aim in enumerate(cut.brought(k, slope)):
            aims.append(aim._replace(weight=placed(aim.weight[None], n_parts + len(WAYS) * k + way)))
    return [*aims, cut.answers(placed(torch.ones_like(cut.answer)[None], columns - 1))]


def held_flows(
    matrix: Tensor, onto: Tensor, answer: Tensor, tokens: Tensor, change: Tensor, members: Sequence[Tensor]
) -> Flows:
    """The same of a held graph, along its edges alone. matrix: (n_units, n_units) effects of one unit on another; onto
    and answer: (n_units,) on the answer, in all and straight; tokens: (n_units + 1, pos) what units and, last, the
    answer lose with each token; change: (n_units,) of each unit as it is set to its counterfactual value."""
    weighed = onto[:, None] * matrix
    units = torch.stack([*(weighed[m].sum(0) for m in members), answer], 1) * change[:, None]
    by_token = torch.stack([*((onto[m, None] * tokens[m]).sum(0) for m in members), tokens[-1]], 1)
    whole = torch.cat([units, by_token])
    return Flows(whole, whole)


def onto_answers(case: Case, kept: Units, candidates: Sequence[int]) -> Tensor:
    """(n_units, 1 + candidates): how far what is explained, and demeaned logits, move when a unit is set to its
    counterfactual value, by slopes half the way there."""
    like, out = case.view.tokens(), case.view.tokens().new_zeros(len(kept), 1 + len(candidates))
    size = max(1, pass_tokens(case.model) // len(like))
    for start in range(0, len(case.baselines), size):
        some = case.baselines[start : start + size]
        there = torch.stack([other.tokens for other in some])
        half = CutOut(case, kept, (), (like + there) / 2, "nothing", candidates)
        every = torch.eye(len(half.answer), device=out.device, dtype=half.answer.dtype)
        moved = torch.stack([case.coded.values_at(other.codes, kept) - kept.values for other in some])
        out += (half.slopes([half.answers(every)]).units * moved).sum(1).T / len(case.baselines)
    return out
