"""Payloads of traces, and of interventions on them."""

from __future__ import annotations

from typing import ClassVar, Literal

from hooke.results.payloads.base import Part, Payload, told
from hooke.results.payloads.common import Called, Ends, LayerEnds, Op, Quantity, Token
from hooke.results.payloads.graph import DrawnGraph
from hooke.results.verdicts import Verdict


class GroupFacts(Part):
    """Nodes that belong together, and what switching them off and doubling them was predicted to do, and did."""

    nodes: list[str] = told("node ids", axes="node")
    verdict: Verdict = told("how switching it off fared", default="untested")
    text: str = told("what the sentence says of it, if it names it", default="")
    share: float | None = told("of the influence of all features", "share", default=None)
    predicted: float | None = told(
        "change when switched off, in what the graph adds up to", "graph_quantity", default=None
    )
    measured_in_graph: float | None = told("the same, measured", "graph_quantity", default=None)
    measured: float | None = told("change of the reported quantity", "quantity", default=None)
    range: Ends | None = told(
        "least and greatest change over the counterfactuals", "quantity", "low high", default=None
    )
    doubling_predicted: float | None = told("change when doubled, predicted", "graph_quantity", default=None)
    doubling_measured_in_graph: float | None = told("the same, measured", "graph_quantity", default=None)
    doubling_measured: float | None = told("change of the reported quantity when doubled", "quantity", default=None)
    layers: LayerEnds | None = told("first and last", "layer", "low high", default=None)
    position: int | None = told("where it is", "position", default=None)
    positions: list[int] = told("where its nodes are, most influence first", "position", "place", default=[])
    reason: str = told("what the verdict rests on", default="")


class TraceGroup(GroupFacts):
    """A part of the story."""

    name: str = told("where it is, and what it reads and writes", default="")
    within: float | None = told(
        "of what follows from its nodes one by one, what goes through others of its own", "graph_quantity", default=None
    )
    token: str = told("the token at its position")
    layers: LayerEnds = told("first and last", "layer", "low high")
    position: int = told("where it is", "position")
    share: float = told("of the influence of all features", "share")
    reads: list[str] = told("tokens of the prompt that it reads most", axes="token")
    promotes: list[str] = told("tokens that get less likely without it", axes="token")


class Flow(Part):
    """What setting a part, a link of attention or a token to its counterfactual value changes by way of one part or
    link, or straight. All flows out of a part add up to what is predicted for it."""

    source: int | None = told("the part that it comes from, from 0", "part", default=None)
    source_link: int | None = told("or the link of attention, from 0", "link", default=None)
    token: int | None = told("or the token", "position", default=None)
    target: int | None = told("the part that it comes to first", "part", default=None)
    target_link: int | None = told(
        "or the link of attention that it comes to first; neither: the answer", "link", default=None
    )
    by: Literal["value", "query", "key"] | None = told("how it comes to a link", default=None)
    amount: float = told("change, by features that are not drawn too", "graph_quantity")
    direct: float = told("the same through no feature at all", "graph_quantity")


class PartPath(Part):
    """A path from a token through parts to the answer, and what replacing the token along it alone does."""

    token: str = told("where it starts")
    position: int = told("of that token", "position")
    parts: list[int] = told("the parts on it, from 0", "part", "step")
    predicted: float = told("change by the flows along it", "graph_quantity")
    carried: float = told("the same, measured, with all other drawn features as they were", "graph_quantity")
    verdict: Verdict = told("whether it carries what it should, and more than random edges do")


class Path(Part):
    """One path from a token to the target, and what its token carries along it alone."""

    token: str = told("where it starts")
    position: int = told("of that token", "position")
    nodes: list[str] = told("ids of the features on it", axes="node")
    labels: list[str] = told("of the same features", axes="node", default=[])
    predicted: float = told("change when its token is replaced along it alone, by its edges", "graph_quantity")
    carried: float | None = told("the same, measured", "graph_quantity", default=None)
    verdict: Verdict = told("whether it carries what it should, and more than random edges do", default="untested")


class Baseline(Part):
    """A prompt whose values features are set to."""

    ids: list[int] = told("its tokens", "token id", "position")
    text: str = told("the same to read")


class Counterfactual(Baseline):
    """A prompt of equal length, and what the model says to it."""

    changed: list[int] = told("where it differs from the prompt", "position", "change")
    change: float = told("of the reported quantity", "quantity")
    answer: Token = told("the model's choice there")


class Counterfactuals(Part):
    """What a trace is tested against."""

    by: Literal["given", "made", "passages"] = told("who chose them: a person, Hooke, or neutral passages")
    verdict: Verdict = told("whether the answer hangs on what they change")
    least: float = told("a change that counts", "quantity")
    prompts: list[Counterfactual] = told("the prompts", axes="counterfactual")


class Scores(Part):
    """How much of the influence a graph explains."""

    completeness: float = told(
        "share of the input to the nodes, weighed by influence, that comes from tokens and features", "share"
    )
    replacement: float = told("share of the influence that reaches the tokens through features alone", "share")
    path_length: float = told("mean length of paths, weighed by influence", "edges")
    unexplained: float = told("share of what enters up to 64 nodes, spread by influence, left to remainders", "share")
    nodes: int = told("features drawn", "nodes")


class Checks(Part):
    """How exactly the map reproduces the model."""

    replacement_max_abs_diff: float = told("largest difference of a logit from the model's own", "logits")
    replacement_max_rel_diff: float = told("the same as a share of the largest logit", "share")
    edge_sum_max_rel_error: float | None = told(
        "of a held graph: largest error of a target's edges against its value", "share", default=None
    )
    reader_max_rel_error: float | None = told(
        "of a live graph: largest error of what a feature's reader gives against its value", "share", default=None
    )
    derivative_max_rel_error: float | None = told(
        "of a live graph: largest difference of its derivative from the model's own", "share", default=None
    )
    left_over: float = told("largest share of what stands at a site that the basis leaves over there", "share")


class Verification(Part):
    """What interventions in the live model say of a graph. All null where nothing was tested."""

    fit: float | None = told("share of the effect that the nodes alone keep", "share", default=None)
    random_fit: float | None = told("the same of as many random nodes", "share", default=None)
    complement: float | None = told("share of the effect that everything but the nodes keeps", "share", default=None)
    range: float | None = told("effect of switching everything off, which fit is a share of", "quantity", default=None)
    kl: float | None = told("divergence of the prediction with the nodes alone", "nats", default=None)
    kl_nothing_kept: float | None = told("the same with nothing kept", "nats", default=None)
    kl_random: float | None = told("the same with random nodes kept", "nats", default=None)
    spearman: float | None = told("of predicted and measured effects of nodes", "rank correlation", default=None)
    spearman_kept: float | None = told("the same of drawn nodes only", "rank correlation", default=None)
    sign_agreement: float | None = told("share of effects with the predicted sign", "share", default=None)
    gradient_spearman: float | None = told("of the plain gradient instead", "rank correlation", default=None)
    activation_spearman: float | None = told("of the sizes of activations instead", "rank correlation", default=None)
    groups_spearman: float | None = told("of groups drawn at random", "rank correlation", default=None)
    groups_gradient_spearman: float | None = told("of these by the plain gradient", "rank correlation", default=None)
    held_spearman: float | None = told("of nodes by the held view instead", "rank correlation", default=None)
    held_groups_spearman: float | None = told("of groups by the held view instead", "rank correlation", default=None)
    curvature: float | None = told(
        "share of the answer's change from the counterfactuals that the edges into it leave", "share", default=None
    )
    edges_spearman: float | None = told(
        "of what single edges carry to the answer, predicted and measured", "rank correlation", default=None
    )
    edges_shuffled_spearman: float | None = told("of edges shuffled", "rank correlation", default=None)
    edges_held_spearman: float | None = told("of edges by the held view instead", "rank correlation", default=None)
    edges_control_95th_percentile: float | None = told(
        "what 95 % of random edges carry less than", "graph_quantity", default=None
    )
    edges_tried: int | None = told("edges that their source was replaced along", "edges", default=None)
    paths_sign: float | None = told("share of paths that carry what they should, by sign", "share", default=None)
    paths_tried: int | None = told("paths that their token was replaced along", "paths", default=None)
    parts_spearman: float | None = told("of the parts of the story", "rank correlation", default=None)
    part_paths_sign: float | None = told(
        "share of paths through parts that carry what they should, by sign", "share", default=None
    )
    part_paths_tried: int | None = told("paths through parts that were tried", "paths", default=None)
    part_paths_spearman: float | None = told("of what they carry", "rank correlation", default=None)
    groups_sign_agreement: float | None = told("share of groups with the predicted sign", "share", default=None)
    random_groups_mean_effect: float | None = told("mean size of effects of random features", "quantity", default=None)
    groups_mean_effect: float | None = told("mean size of effects of groups of nodes", "quantity", default=None)
    named_sign_agreement: float | None = told("share of named groups with the predicted sign", "share", default=None)
    nodes_tried: int | None = told("switched off one by one, controls among them", "nodes", default=None)
    groups_tried: int | None = told("groups switched off", "groups", default=None)
    baselines: list[Baseline] | None = told("what features were set to", axes="baseline", default=None)
    mean_range_over_baselines: float | None = told("how far effects differ between baselines", "quantity", default=None)
    as_predicted: int | None = told("nodes that matter, as predicted", "nodes", default=None)
    not_as_predicted: int | None = told("nodes that matter, not as predicted", "nodes", default=None)
    no_effect: int | None = told("nodes without effect beyond random ones", "nodes", default=None)
    edges_as_predicted: int | None = told("edges that matter, as predicted", "edges", default=None)
    edges_not_as_predicted: int | None = told("edges that matter, not as predicted", "edges", default=None)
    edges_no_effect: int | None = told("edges without effect beyond random ones", "edges", default=None)
    untested: int | None = told("drawn nodes that were not tested", "nodes", default=None)
    control_95th_percentile: float | None = told("what a node must move the answer by", "quantity", default=None)
    doubling_spearman: float | None = told("of doubling instead of switching off", "rank correlation", default=None)


class Trial(Part):
    """One thing that the graph predicted and that was then done in the live model."""

    kind: Literal["node", "group", "edge", "path"] = told("what was set to its counterfactual value")
    nodes: list[str] = told(
        "the node or nodes; of an edge its source and its target; of a path all on it from the token on; where the "
        "answer is next it is not named",
        axes="node",
    )
    predicted: float = told("change", "graph_quantity")
    measured: float = told("change", "graph_quantity")


class ScorePair(Part):
    """What two parts of the stream add to a score of attention together."""

    query: str = told("what stands at the query")
    key: str = told("what stands at the key")
    amount: float = told("of the score, before soft caps", "score")


class AttentionLink(Part):
    """Where a head looked from, and at what; why; and what came of taking away what it brings."""

    layer: int = told("of the head", "layer")
    head: int = told("its number", "number")
    query: int = told("from where it looks", "position")
    key: int = told("at what", "position")
    pattern: float = told("how much of its attention", "share")
    predicted: float = told(
        "change when what it brings is as in the counterfactuals, by slopes averaged over the way", "graph_quantity"
    )
    measured: float | None = told("the same, measured", "graph_quantity")
    verdict: Verdict = told("whether it matters more than random links do, and as predicted")
    score: float = told("what its attention is made of, before soft caps", "score")
    runner_up: int | None = told("what it looks at most besides", "position")
    runner_up_score: float | None = told("the score there", "score")
    runner_up_pattern: float | None = told("how much of its attention that has", "share")
    pairs: list[ScorePair] = told("what adds most to the score; all pairs add up to it", axes="pair")
    text: str = told("the same in words")


class InterventionRow(Part):
    """One next token: its probability before, after, and after the same was done to random groups."""

    token: str = told("the token as people see it")
    id: int = told("its number in the vocabulary", "token id")
    before: float = told("unchanged", "probability")
    after: float = told("with the nodes changed", "probability")
    control: float | None = told("with random groups changed instead, on average", "probability")


class Intervention(Payload):
    """Nodes that were switched off or doubled in the live model, beside random groups of equal size."""

    made_by: ClassVar[str] = "hooke intervene"
    type: Literal["intervention"] = told("which view the page takes", default="intervention")
    nodes: list[str] = told("ids of nodes of the trace", axes="node")
    op: Op = told("what was done: off, or double")
    trace: str = told("id of the trace that the nodes are from; empty inside that trace")
    target: Token = told("the token that the trace explains")
    contrast: Token | None = told("the token that it is compared with", default=None)
    rows: list[InterventionRow] = told("next tokens, the likeliest before or after", axes="token")
    quantity: Quantity = told("what changes are of")
    change: float = told("of the quantity", "quantity")
    control_change: float | None = told("mean change with random groups", "quantity")
    control_least: float | None = told("least of these", "quantity")
    control_greatest: float | None = told("greatest of these", "quantity")
    controls: int = told("how many random groups", "groups")
    control_size: int = told("neurons in each of them", "nodes")
    sentence: str = told("what was done and what came of it")


class Trace(Payload):
    """Which parts of the model produced the next token, as a tested graph."""

    made_by: ClassVar[str] = "hooke trace"
    top: list[Token] = told("the likeliest next tokens", axes="token")
    target: Token = told("the token that is explained")
    contrast: Token | None = told("the token that it is compared with")
    quantity: Quantity = told("what effects are changes of")
    graph_quantity: Quantity = told("what the graph adds up to and predicts")
    own_choice: Token = told("what the model says itself")
    scores: Scores = told("how much the graph explains")
    checks: Checks = told("how exactly the map reproduces the model")
    verification: Verification = told("what interventions say of the graph")
    tested: str = told("the same in words; empty where nothing was tested")
    sentence: str = told("the explanation")
    groups: list[TraceGroup] = told("the parts of the story, those with most effect first", axes="part")
    flows: list[Flow] = told("what passes between them", axes="flow", default=[])
    part_paths: list[PartPath] = told("the strongest paths through them, tested", axes="path", default=[])
    paths: list[Path] = told("the strongest paths", axes="path")
    attention: list[AttentionLink] = told(
        "where attention looked, the links that matter most first", axes="link", default=[]
    )
    trials: list[Trial] = told("what was predicted and measured, one by one", axes="trial", default=[])
    counterfactuals: Counterfactuals = told("what it is tested against")
    notes: list[str] = told("what a reader must know before anything else", axes="note")
    units: Called = told("what its features are called everywhere")
    graph: DrawnGraph = told("the graph")
    interventions: list[Intervention] = told("named groups switched off and doubled", axes="intervention")
