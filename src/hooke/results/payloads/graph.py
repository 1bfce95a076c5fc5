"""A graph as results hold it: nodes as rows, links as columns."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import model_validator

from hooke.results.graph import Form, Kind
from hooke.results.graph import Part as Input
from hooke.results.payloads.base import Part, Payload, told
from hooke.results.payloads.common import Called, Token
from hooke.results.verdicts import Verdict

MAX_NODES, MAX_LINKS = 200_000, 2_000_000


class GraphNode(Part):
    """A node of a graph."""

    id: str = told("by which claims and people name it: layer_index_position of a feature")
    kind: Kind = told("what it is")
    layer: int | None = told("where it is computed; none for a token", "layer", default=None)
    position: int | None = told("at which token of the prompt; none in a circuit", "position", default=None)
    index: int | None = told("of the feature or head, or vocabulary id", "number", default=None)
    key: int | None = told("what a link of attention looks at, from its own position", "position", default=None)
    seen: float | None = told(
        "how much of what a link brings, less in the counterfactual, the answer sees: its cosine with the slopes there "
        "(under 0.1 no path goes through it)",
        "cosine",
        default=None,
    )
    label: str = told("the same in words", default="")
    value: float | None = told("what its inputs sum to", "activation or logit", default=None)
    delta: float | None = told("less its value in the counterfactual", "activation or logit", default=None)
    jump: float | None = told(
        "how far the gate of a trained feature moves it beyond what it is asked for: its delta, less that of its "
        "pre-activation, which is what edges into it add up to; none where there is no gate between them",
        "activation",
        default=None,
    )
    total: float | None = told(
        "change of the answer when it is set to its value in the counterfactual, all that follows counted",
        "graph_quantity",
        default=None,
    )
    averaged: float | None = told(
        "the same by slopes averaged over the way there; those of a group add up to what it is predicted to do",
        "graph_quantity",
        default=None,
    )
    rank: int | None = told("in which order it was chosen, from 1", "number", default=None)
    influence: float = told("its share of the influence on the target", "share", default=0.0)
    cumulative: float = told("share of all nodes at least as influential", "share", default=1.0)
    probability: float | None = told("of a logit's token", "probability", default=None)
    is_target: bool = told("whether it is what is explained", default=False)
    verdict: Verdict = told("how an intervention on it fared", default="untested")
    reason: str = told("what the verdict rests on, or why there is none", default="")
    reads: list[str] = told("tokens of the prompt that it reads most", axes="token", default=[])
    promotes: list[str] = told("tokens that it makes likelier", axes="token", default=[])
    suppresses: list[str] = told("tokens that it makes less likely", axes="token", default=[])


class GraphLinks(Part):
    """Links, the strongest of all that were computed: entry i goes from node source[i] into row[i] of the targets."""

    source: list[int] = told("node that it starts at", "number", "link")
    row: list[int] = told("target that it goes into", "number", "link")
    weight: list[float] = told("direct effect", "of the target", "link")
    delta: list[float] = told("change from the counterfactual; empty without one", "of the target", "link", default=[])
    tested: list[int] = told("links that were tested", "number", "tested link", default=[])
    verdicts: list[Verdict] = told("how these fared", axes="tested link", default=[])
    of: int = told("how many there are, with those that are left out", "links")
    held: float | None = told("share of the score of all links that these hold", "share", default=None)


class DrawnGraph(Part):
    """Nodes, and the links that are worth drawing; what is left out of a target's inputs is said."""

    prompt: str = told("the text", default="")
    tokens: list[str] = told("of the prompt", axes="position")
    form: Form = told(
        "what links are of: held, what a source adds to a target, attention and norms as they are; live, how far a "
        "target moves as its source comes from the counterfactual, all else moving with it",
        default="held",
    )
    n_layers: int | None = told("of the model", "layers", default=None)
    nodes: list[GraphNode] = told("the nodes", axes="node")
    targets: list[int] = told("nodes that links go into; a head once for each of its inputs", "number", "target")
    parts: list[Input] = told("which input of the node: q, k, v; empty where nodes have one", axes="target", default=[])
    dropped: list[float] = told("sum of what enters and is not drawn, constants included", "of the target", "target")
    links: GraphLinks = told("the links")
    contrast: Token | None = told("the token that the logit is compared with", default=None)
    node_threshold: float | None = told("share of the influence that pages show at first", "share", default=None)
    edge_threshold: float | None = told("share of the score of all links that was asked for", "share", default=None)

    @model_validator(mode="after")
    def _fits(self) -> DrawnGraph:
        links, n = self.links, len(self.links.source)
        if n > MAX_LINKS or len(self.nodes) > MAX_NODES:
            raise ValueError(f"more than {MAX_NODES:,} nodes or {MAX_LINKS:,} links")
        if not n == len(links.row) == len(links.weight) or len(links.delta) not in (0, n):
            raise ValueError("the columns of the links are not of one length")
        if len(links.tested) != len(links.verdicts) or len(self.dropped) != len(self.targets):
            raise ValueError("verdicts are not one a tested link, or what is dropped not one a target")
        if len(self.parts) not in (0, len(self.targets)):
            raise ValueError("parts are not one a target")
        for numbers, end in ((links.source, self.nodes), (links.row, self.targets), (links.tested, links.source)):
            if numbers and not 0 <= min(numbers) <= max(numbers) < len(end):
                raise ValueError("a link names a node, a target or a link that is not there")
        if self.targets and not 0 <= min(self.targets) <= max(self.targets) < len(self.nodes):
            raise ValueError("a target is no node")
        return self


class GraphPayload(Payload):
    """An attribution graph from a file of circuit-tracer, Neuronpedia or Hooke."""

    made_by: ClassVar[str] = "hooke open"
    graph: DrawnGraph = told("what it says")
    metadata: dict[str, Any] = told("what stands in the file beside it")
    state: dict[str, Any] = told("what a person had pinned, grouped and selected in it")
    units: Called = told("what its features are called")
    scores: dict[str, Any] = told("what its writer says of it", default={})
    warnings: list[str] = told("what could not be read with certainty", axes="warning", default=[])
