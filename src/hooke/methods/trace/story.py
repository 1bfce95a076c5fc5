"""The story as a result has it: the sentence with its claims, the parts by name, and what passes between them."""

from __future__ import annotations

from typing import Any

from hooke.methods.phrases import at, count, layers, phrase, quote
from hooke.methods.trace.edges import WAYS
from hooke.methods.trace.explain import called
from hooke.methods.trace.found import Found
from hooke.methods.trace.links import Link
from hooke.methods.trace.parts import NAMED, Group
from hooke.methods.trace.tries import judge
from hooke.results import WORDS, Claim, Graph, Verdict

LITTLE = 0.02  # of the largest effect of a part: one that is less is not named
PLURAL = {verdict: words.replace("matters", "they matter") for verdict, words in WORDS.items()}
SINGULAR = {verdict: words.replace("matters", "it matters") for verdict, words in WORDS.items()}


def tell(found: Found, graph: Graph, subject: str, probability: float) -> tuple[str, list[Claim], list[dict[str, Any]]]:
    """The sentence above the picture, its claims one by one, and the parts as the payload has them.

    subject: what is explained, in words. probability: of it.
    """
    groups, verification = found.drawn.groups, found.verification
    entries = _named(found, graph, [_part(found, graph, k) for k in range(len(groups))])
    claims = []
    for k, entry in enumerate(entries[:NAMED]):
        evidence = [f"#groups.{k}", *(f"#{name}" for name in entry["nodes"])]
        claims.append(Claim(text=entry["text"], verdict=entry["verdict"], evidence=evidence))
    named = len(claims)
    if claims and found.attention and found.attention[0].verdict in ("as-predicted", "not-as-predicted"):
        link = found.attention[0]
        claims.append(Claim(text=_looks(found, graph, link), verdict=link.verdict, evidence=["#attention.0"]))
    verdicts = [claim.verdict for claim in claims]
    mattering = verification is None or "as-predicted" in verdicts or "not-as-predicted" in verdicts
    text = f"{subject} ({probability:.1%}) {'comes from' if mattering else 'is traced to'} "
    if not claims:
        text += f"{len(found.kept)} nodes of which no part stands out"
    elif len(groups) > named:
        text += f"{len(groups)} parts, and most from these {named}: "
    text += "; ".join(claim.text for claim in claims)
    hidden = found.drawn.scores["unexplained"]
    return text + f". Left unexplained at this budget: {hidden:.0%} of the input to these nodes.", claims, entries


def _claim(found: Found, graph: Graph, group: Group, k: int) -> str:
    """What the sentence says of a part."""
    verification, units = found.verification, called(found.case.coded.basis)
    place = f"{_where(group, graph.tokens, 'other tokens')} in {layers(group.layers)}"
    text = f"{count(len(group.members), units)} at {place} ({group.share:.0%} of the influence)"
    does, end, them = [], *(("s", "it") if len(group.members) == 1 else ("", "them"))
    if group.reads:
        does.append(f"read{end} " + phrase([at(graph.tokens, p) for p in group.reads]))
    promoted = _promoted(found, k)
    if promoted:
        does.append(f"promote{end} " + phrase([quote(token) for token in promoted]))
    text += " that " + " and ".join(does) if does else " with no readable label"
    if verification is None:
        return text + ", which appear in the graph and were not tested"
    effect, (verdict, _) = verification.groups[k], verification.group_verdicts[k]
    reported, inside = found.case.metric.quantity, found.case.metric.graph_quantity
    change = f"setting {them} to {found.against.phrase} changes the {reported.name} by {effect.measured:+.2f}"
    if inside != reported:
        change += f"; the {inside.name} by {effect.in_graph:+.2f}"
    said = PLURAL[verdict] if them == "them" else SINGULAR[verdict]
    return f"{text}: {said} ({change}, predicted {effect.predicted:+.2f})"


def _looks(found: Found, graph: Graph, link: Link) -> str:
    """What the sentence says of the link that matters most."""
    layer, head, query, key = link.place
    inside = found.case.metric.graph_quantity
    text = f"attention of head {head} of layer {layer} from {at(graph.tokens, query)} to {at(graph.tokens, key)}"
    text += f": {SINGULAR[link.verdict]} (with what it brings as in the counterfactuals the {inside.name} changes by "
    return text + f"{link.measured:+.2f}, predicted {link.predicted:+.2f})"


def _where(group: Group, tokens: list[str], rest: str) -> str:
    """Where a part stands; rest: what further tokens are called."""
    if len(group.positions) > 2:
        return f"{at(tokens, group.positions[0])} and {len(group.positions) - 1} {rest}"
    return phrase([at(tokens, p) for p in group.positions])


def _promoted(found: Found, k: int) -> list[str]:
    """Tokens that switching a part off makes less likely."""
    return [] if found.verification is None else found.case.model.text(found.verification.promoted[k])


def _part(found: Found, graph: Graph, k: int) -> dict[str, Any]:
    """A part as the payload has it."""
    group, verification = found.drawn.groups[k], found.verification
    promoted = _promoted(found, k)
    verdict: Verdict = "untested" if verification is None else verification.group_verdicts[k][0]
    entry: dict[str, Any] = {
        "nodes": [graph.nodes[i].id for i in group.members.tolist()],
        "position": group.positions[0],
        "positions": group.positions,
        "token": graph.tokens[group.positions[0]],
        "layers": list(group.layers),
        "share": group.share,
        "reads": [graph.tokens[p] for p in group.reads],
        "promotes": promoted,
        "verdict": verdict,
        "text": _claim(found, graph, group, k),
    }
    if found.drawn.flows is not None:
        through, _ = found.drawn.flows.of([g.members for g in found.drawn.groups])
        entry |= {"predicted": float(through[k].sum() - through[k, k]), "within": float(through[k, k])}
    if verification is not None:
        effect, double = verification.groups[k], verification.doubles_named[k]
        entry |= {
            "predicted": effect.predicted,
            "measured_in_graph": effect.in_graph,
            "measured": effect.measured,
            "range": list(effect.spread),
            "doubling_predicted": double.predicted,
            "doubling_measured_in_graph": double.in_graph,
            "doubling_measured": double.measured,
            "reason": verification.group_verdicts[k][1],
        }
    return entry


def _named(found: Found, graph: Graph, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entries with what their parts are called; those that would be called alike say their layers."""
    names = [_name(found, graph, k, entry) for k, entry in enumerate(entries)]
    return [
        entry | {"name": name if names.count(name) == 1 else _name(found, graph, k, entry, exact=True)}
        for k, (entry, name) in enumerate(zip(entries, names, strict=True))
    ]


def _name(found: Found, graph: Graph, k: int, entry: dict[str, Any], exact: bool = False) -> str:
    """What a part is called: where it stands, how deep, and what it reads, writes and moves."""
    group, promoted = found.drawn.groups[k], entry["promotes"]
    effect = entry.get("measured_in_graph", entry.get("predicted", group.effect))
    low, high = group.layers
    depth = ("early", "middle", "late")[min(2, 3 * (low + high) // (2 * found.case.model.parts.n_layers))]
    depth += f" ({layers(group.layers)})" if exact else ""
    others = [p for p in group.reads if p not in group.positions]
    does = [f"reads {phrase([at(graph.tokens, p) for p in others])}"] if others else []
    if promoted:
        does.append("writes " + phrase([quote(token) for token in promoted[:2]]))
    most = max(abs(g.effect) for g in found.drawn.groups)
    if abs(effect) >= LITTLE * most:
        target = quote(found.case.model.text([found.case.metric.target])[0])
        does.append(("for " if effect < 0 else "against ") + target)
    return f"{_where(group, graph.tokens, 'more')}, {depth}" + (f": {', '.join(does)}" if does else "")


def part_paths(found: Found, graph: Graph) -> list[dict[str, Any]]:
    """Paths through parts, with what replacing their token along each alone did."""
    verification = found.verification
    if verification is None:
        return []
    bar = float(str(verification.summary["edges_control_95th_percentile"]))
    return [
        {
            "token": graph.tokens[path.token],
            "position": path.token,
            "parts": path.parts,
            "predicted": path.predicted,
            "carried": path.measured,
            "verdict": judge(path.predicted, path.measured, bar)[0],
        }
        for path in verification.part_paths
    ]


def flows(found: Found) -> list[dict[str, Any]]:
    """What passes from parts, links of attention and tokens to parts, links and the answer: every flow that is not
    nothing."""
    drawn, n_parts, n_links = found.drawn, len(found.drawn.groups), len(found.attention)
    if drawn.flows is None:
        return []
    through, direct = drawn.flows.of([g.members for g in drawn.groups])
    out = []
    for source, target in (through != 0).nonzero().tolist():
        if source == target and source < n_parts:  # within a part
            continue
        ends: dict[str, Any] = {"token": source - n_parts - n_links}
        if source < n_parts + n_links:
            ends = {"source": source} if source < n_parts else {"source_link": source - n_parts}
        if target < n_parts:
            ends["target"] = target
        elif target < through.shape[1] - 1:
            link, way = divmod(target - n_parts, len(WAYS))
            ends |= {"target_link": link, "by": WAYS[way]}
        out.append(ends | {"amount": float(through[source, target]), "direct": float(direct[source, target])})
    return out
