"""What the page gets, as types: the TypeScript types are generated from these (`web/schema.json`).

What the page gets as a payload has it is the payload's own model (`hooke.results.payloads`).

A `Page` is JSON; large arrays travel beside it as tensors, named `<number of the result>.<view>.<name>`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from hooke.results import Claim, Kind, Verdict
from hooke.results.graph import Form
from hooke.results.payloads import Part
from hooke.results.payloads.assess import Control, Finding, Section, Sentence
from hooke.results.payloads.common import Alarms, Called, Quantity, Token
from hooke.results.payloads.lens import Choice
from hooke.results.payloads.probe import Roc
from hooke.results.payloads.trace import AttentionLink, Flow, GroupFacts, Intervention, PartPath, Path

VERSION = 1


class Group(GroupFacts):
    """Nodes that belong together: of the sentence, or grouped by a person."""

    name: str


class Nodes(Part):
    """The nodes of a graph, one list per property, all of equal length."""

    id: list[str]
    kind: list[Kind]
    layer: list[int | None]
    position: list[int | None]
    index: list[int | None] = Field(description="feature number, or vocabulary id of a token or logit")
    label: list[str]
    value: list[float | None]
    delta: list[float | None] = Field(description="value minus counterfactual value")
    total: list[float | None] = Field(
        default=[],
        description="change of the answer when it is set to its counterfactual value, all that follows counted",
    )
    share: list[float] = Field(description="of the influence on the target")
    cumulative: list[float] = Field(description="share of all nodes at least as influential: small is important")
    probability: list[float | None]
    verdict: list[Verdict]
    reason: list[str]
    reads: list[list[str]]
    promotes: list[list[str]]
    suppresses: list[list[str]]
    dropped: list[float] = Field(description="net sum of the inputs that are not among the links, constants included")
    is_target: list[bool]


class Links(Part):
    """How many links there are. They themselves are tensors, by target: offsets, source, weight, delta, verdict;
    of a circuit also part, 1 to 3 for q, k and v."""

    shown: int = Field(description="in this page")
    of: int = Field(description="that are not zero in the model, or in a file made elsewhere")


class GraphState(Part):
    """What a person did that a graph file can say."""

    pinned: list[str] = Field(default_factory=list)
    groups: list[Group] = Field(default_factory=list)
    selected: str = ""


class CircuitSize(Part):
    """Faithfulness of one size of a circuit, and of random ones of that size."""

    edges: int
    circuit: float | None
    random: float | None
    random_low: float | None
    random_high: float | None
    complement: float | None = Field(description="of all edges but those of the circuit")


class CircuitFacts(Part):
    """What a circuit is judged by."""

    task: str
    method: str
    units: str = Field(description="what it is made of: edges, nodes or neurons")
    size: int | None = Field(description="edges kept")
    n_edges: int | None = Field(description="of all")
    example: str
    sizes: list[CircuitSize]
    stability: Any
    truth: Any = Field(description="what the method scored on models whose circuit is known")
    rest: dict[str, Any] = Field(description="what else is in the payload")


class Drawn(Part):
    """What a trace and a circuit have: nodes in columns and layers, links between them, and what a person did."""

    tokens: list[str] = Field(description="names of the columns")
    sentence: str = ""
    notes: list[str]
    n_layers: int
    node_threshold: float
    nodes: Nodes
    links: Links
    state: GraphState


class GraphView(Drawn):
    """An attribution graph."""

    type: Literal["graph"] = "graph"
    prompt: str
    target: Token | None = None
    contrast: Token | None = None
    quantity: Quantity | None = Field(default=None, description="what effects are reported in; null in a graph file")
    graph_quantity: Quantity | None = Field(default=None, description="what the graph adds up to and predicts")
    top: list[Token]
    scores: dict[str, float | None]
    verification: dict[str, Any]
    groups: list[Group]
    paths: list[Path]
    flows: list[Flow] = Field(default=[], description="what passes between groups, tokens and the answer")
    part_paths: list[PartPath] = Field(default=[], description="the strongest paths through groups, tested")
    attention: list[AttentionLink] = Field(default=[], description="where attention looked, and why")
    interventions: list[Intervention]
    units: Called = Field(description="what its features are called; pages of before do not say it and have neurons")
    form: Form = Field(default="held", description="what links are of")
    live: bool = Field(description="whether a model can be asked to change these nodes: features of a known basis")


class CircuitView(Drawn):
    """A circuit: columns are heads and the MLP, and the `position` of a node is its column."""

    type: Literal["circuit"] = "circuit"
    facts: CircuitFacts


class LensView(Part):
    """Layer by token: what each layer would say next. Tensors: ids (into names), probabilities, entropy."""

    type: Literal["lens"] = "lens"
    prompt: str
    tokens: list[str]
    layers: list[int]
    top: int
    names: list[str] = Field(description="of the tokens that occur")
    ids: list[int] = Field(description="of the vocabulary, one a name")
    sentence: str
    choice: Choice


class Bar(Part):
    """How well a probe, or what it is compared with, tells the two classes apart."""

    name: str
    auroc: float
    interval: list[float] | None = Field(default=None, description="least and greatest, 95 %")
    own: bool = Field(description="whether it is the probe itself")


class Curve(Part):
    """AUROC by layer, on data that nothing was reported on, beside a random direction."""

    layers: list[int]
    auroc: list[float | None]
    random_direction: list[float | None]


class Mistake(Part):
    """A text that a probe puts on the wrong side, and its score at each token."""

    text: str
    label: str = Field(description="name of the class that it is in")
    score: float | None
    tokens: list[str]
    token_scores: list[float | None]


class ProbeView(Part):
    """A probe, or a test of one."""

    type: Literal["probe"] = "probe"
    sentence: str
    positive: str = Field(description="name of the class that high scores speak for")
    notes: list[str]
    bars: list[Bar]
    curve: Curve | None
    roc: Roc | None
    mistakes: list[Mistake] = Field(description="worst first")
    mistakes_of: int = Field(description="how many there are in the result")
    rest: dict[str, Any] = Field(description="what else is in the payload")


class Evidence(Part):
    """One result behind a report, in the order of the results after the main one."""

    title: str
    left_out: list[str] = Field(description="what of it is in the file of the result only")


class Inside(Part):
    """The place in a result that an evidence id with a # leads to: a node of its graph, or a value."""

    node: str | None
    value: Any


class AssessView(Part):
    """A report: sentences with their evidence, which are the results after the main one."""

    type: Literal["assess"] = "assess"
    subject: dict[str, Any]
    reference: dict[str, Any] | None
    claims: list[Sentence]
    controls: list[Control]
    validated: bool
    sections: list[Section]
    findings: list[Finding]
    quick: bool
    false_alarms: Alarms | None
    evidence: list[Evidence]
    places: dict[str, Inside] = Field(description="by evidence id, of those with a #")


class PatchGrid(Part):
    """One heatmap: rows are layers, columns tokens, or heads at the position where each moves most."""

    title: str
    columns: list[str]
    rows: list[str]
    values: list[list[float | None]] = Field(
        description="the metric after the patch, or what it is estimated to change by"
    )
    shares: list[list[float | None]] | None = Field(description="0 the unpatched run, 1 the other one")
    note: str


class PatchView(Part):
    """Patches, or estimates of them, as heatmaps; everything else as tables."""

    type: Literal["patch"] = "patch"
    sentence: str
    grids: list[PatchGrid]
    rest: Any


class GenericView(Part):
    """A result that the page has no picture for: shown as tables and series."""

    type: Literal["generic"] = "generic"
    payload: Any


class Shown(Part):
    """A result: its envelope, and the view that is made of its payload."""

    kind: str
    id: str
    parents: list[str]
    arguments: dict[str, Any]
    provenance: dict[str, Any]
    status: Literal["complete", "partial", "failed"]
    seconds: dict[str, float]
    claims: list[Claim]
    view: GraphView | CircuitView | LensView | Intervention | ProbeView | AssessView | PatchView | GenericView = Field(
        discriminator="type"
    )


class Page(Part):
    """The main result first; after it, interventions on it, or the evidence of a report."""

    version: Literal[1] = 1
    title: str
    results: list[Shown]
    state: dict[str, Any] | None = Field(default=None, description="what a person did, as the page saved it")
