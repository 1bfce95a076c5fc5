"""Payloads of probes, of tests of them, and of why they gave a text its score."""

from __future__ import annotations

from typing import ClassVar, Literal

from hooke.results.payloads.base import Part, Payload, told
from hooke.results.payloads.common import Area, Ends


class Block(Part):
    """Where a direction of a probe reads."""

    site: str = told("the site")
    pool: str = told("how tokens are pooled")


class LayerCurve(Part):
    """Validation AUROC by layer, beside a random direction."""

    sites: list[str] = told("what is read", axes="layer")
    layers: list[int | None] = told("their layers", "layer", "layer")
    auroc: list[float] = told("of the best candidate there", "AUROC", "layer")
    kind: list[str] = told("of that candidate", axes="layer")
    pool: list[str] = told("of that candidate", axes="layer")
    random_direction: list[float] = told("of a random direction", "AUROC", "layer")


class CandidateRow(Part):
    """One way of probing."""

    kind: str = told("of probe")
    site: str = told("what it reads")
    pool: str = told("how tokens are pooled")
    strength: float | None = told("of regularisation, or how many coordinates a sparse probe reads", "C or coordinates")
    validation_auroc: float = told("mean over folds", "AUROC")
    chosen: bool = told("whether it is the probe")


class Validation(Part):
    """How the chosen probe did on the folds that chose it."""

    auroc: float = told("mean over folds", "AUROC")
    folds: int = told("how many", "folds")
    split: str = told("what folds leave out")
    n: int = told("fitted to", "rows")


class TestedPart(Area):
    """A part of the data that nothing was fitted to or chosen on."""

    part: str = told("what it is")
    n: int = told("how many", "rows")
    groups: int = told("of wordings of one fact", "groups")
    baselines: dict[str, Area] = told("what the probe is compared with", axes="baseline")


class Cost(Part):
    """What scoring one more token costs."""

    flops_per_token: float = told("floating-point operations", "operations")
    share_of_forward: float = told("of a forward pass", "share")
    microseconds_per_token: float = told("measured here", "microseconds", timed=True)


class Words(Part):
    """The words that the bag-of-words baseline counts."""

    vocabulary: list[str] = told("the words", axes="word")
    idf: list[float] = told("their weights", "inverse document frequency", "word")


class FittedBaselines(Part):
    """What a test needs to score the baselines again."""

    turns: dict[str, float] = told("1 or -1: which side more speaks for", "sign", "baseline")
    words: Words = told("of the bag of words")


class FittedTo(Part):
    """The data a probe was fitted to."""

    name: str = told("of the data set")
    seed: int = told("of the draw", "seed")
    sha256: str = told("of the rows")
    rows: int = told("how many", "rows")
    shifts: list[str] = told("topics that nothing was fitted to", axes="topic")
    fitted_to: list[str] = told("keys of the rows that were fitted to", axes="row")


class BelongsTo(Part):
    """What a probe must find again in the model it is used on."""

    model: str = told("its name")
    weights_sha256: str = told("of the weights that ran")
    tokenizer_sha256: str = told("of the tokenizer")
    chat_template_sha256: str | None = told("of the chat template, if there is one")
    dtype: str = told("of the weights")


class Probe(Payload):
    """A detector of a concept in a model's activations."""

    made_by: ClassVar[str] = "hooke probe fit"
    name: str = told("of the data set")
    about: str = told("what it is about")
    kind: str = told("of the chosen probe")
    negative: str = told("the class of label 0")
    positive: str = told("the class of label 1, which high scores speak for")
    sites: list[str] = told("what it reads", axes="site")
    pool: str = told("how tokens are pooled")
    strength: float | None = told("of regularisation, or how many coordinates a sparse probe reads", "C or coordinates")
    template: str | None = told("put around every text")
    dictionaries: dict[str, str] = told("hashes of dictionaries whose features it reads", axes="site")
    blocks: list[Block] = told("where each direction reads", axes="direction")
    layer_curve: LayerCurve = told("validation by layer")
    candidates: list[CandidateRow] = told("the best of each kind and pool, best first", axes="candidate")
    n_candidates: int = told("ways that were tried", "candidates")
    validation: Validation = told("of the chosen one")
    tests: list[TestedPart] = told("on what was held out", axes="part")
    cost: Cost = told("of scoring")
    baselines: FittedBaselines = told("as they were fitted")
    chat: bool = told("whether texts are answers of an assistant")
    dataset: FittedTo = told("what it was fitted to")
    belongs_to: BelongsTo = told("the model")
    notes: list[str] = told("what a reader must know first", axes="note")
    sentence: str = told("the same in words")


class ProbeFacts(Part):
    """Which probe was tested."""

    name: str = told("of its data set")
    kind: str = told("of probe")
    sites: list[str] = told("what it reads", axes="site")
    pool: str = told("how tokens are pooled")
    strength: float | None = told("of regularisation, or how many coordinates a sparse probe reads", "C or coordinates")


class Recall(Part):
    """Recall above a threshold that so many of unrelated texts exceed."""

    fpr: float = told("the budget of false alarms", "share")
    n_benign: int = told("unrelated texts", "texts")
    recall: float | None = told("of label 1; null where it is refused", "share")
    interval: Ends | None = told("95 %", "share", "low high")
    threshold: float | None = told("of the score", "log-odds")
    refused: str | None = told("why there is none")
    own_false_positives: float | None = told("of label 0 in this data, at the same threshold", "share", default=None)


class CalibrationBin(Part):
    """Rows of similar score."""

    predicted: float = told("mean stated probability of label 1", "probability")
    observed: float = told("share of label 1", "share")
    n: int = told("how many", "rows")


class Calibration(Part):
    """Stated against true shares."""

    bins: list[CalibrationBin] = told("of equal count", axes="bin")
    ece: float = told("mean gap", "share")


class Roc(Part):
    """Share of the positive found, by share of the negative that is flagged with it."""

    fpr: list[float] = told("false positives", "share", "threshold")
    tpr: list[float] = told("true positives", "share", "threshold")


class Topic(Part):
    """The rows of one topic."""

    topic: str = told("its name")
    n: int = told("how many", "rows")
    groups: int = told("of wordings of one fact", "groups")
    auroc: float = told("of the probe", "AUROC")
    interval: Ends = told("95 % over groups", "AUROC", "low high")
    best_baseline: float = told("of the best baseline", "AUROC")


class Mistaken(Part):
    """A text that a probe puts on the wrong side, and its score at each token."""

    text: str = told("the text")
    user: str = told("what a user asked before it; empty for none")
    label: Literal[0, 1] = told("its label")
    topic: str = told("its topic")
    score: float = told("of the text", "log-odds")
    tokens: list[str] = told("of the text", axes="token")
    token_scores: list[float] = told("at each", "log-odds", "token")


class SeenRows(Part):
    """Whether test rows are fitting rows."""

    same_dataset: bool = told("whether it is the data set that was fitted to")
    rows_seen_in_fitting: int = told("rows that were fitted to", "rows")


class ProbeTest(Payload):
    """A probe on labelled rows, beside every baseline."""

    made_by: ClassVar[str] = "hooke probe test"
    auroc: float = told("area under the ROC curve", "AUROC")
    auroc_interval: Ends = told("95 % over groups", "AUROC", "low high")
    n: int = told("how many", "rows")
    n_groups: int = told("of wordings of one fact", "groups")
    negative: str = told("the class of label 0")
    positive: str = told("the class of label 1, which high scores speak for")
    probe: ProbeFacts = told("which probe")
    baselines: dict[str, Area] = told("what it is compared with", axes="baseline")
    best_baseline: str = told("the best of them")
    gain: float = told("over the best baseline, paired", "AUROC")
    gain_interval: Ends = told("95 % over groups", "AUROC", "low high")
    recall_at_fpr: list[Recall] = told("at budgets of false alarms", axes="budget")
    accuracy: float = told("at score 0", "share")
    calibration: Calibration = told("of scores as log-odds")
    roc: Roc = told("the ROC curve")
    topics: list[Topic] = told("worst first", axes="topic")
    mistakes: list[Mistaken] = told("the surest that are wrong, worst first", axes="text")
    overlap: SeenRows = told("with the fitting rows")
    differs: list[str] = told("what differs from the model of the probe", axes="difference")
    notes: list[str] = told("what a reader must know first", axes="note")
    sentence: str = told("the same in words")


class ScorePart(Part):
    """What a part of the model wrote into a score."""

    part: str = told("the embedding, an attention, an MLP, or the bias")
    value: float = told("what it wrote", "log-odds")


class NeuronPart(Part):
    """A neuron behind a score."""

    layer: int = told("its layer", "layer")
    neuron: int = told("its number", "neuron")
    contribution: float = told("what it wrote directly", "log-odds")


class ProbeExplain(Payload):
    """Why a probe gave a text its score: tokens, layers, neurons, and whether that is so."""

    made_by: ClassVar[str] = "hooke probe explain"
    text: str = told("the text")
    score: float = told("of the text", "log-odds")
    tokens: list[str] = told("of the text", axes="token")
    token_scores: list[float] = told("at each", "log-odds", "token")
    token_weights: list[float] = told("how much each counts in the pooled score", "weight", "token")
    parts: list[ScorePart] = told("which add up to the score", axes="part")
    remainder: float = told("what is left of the score", "log-odds")
    neurons: list[NeuronPart] = told("the strongest, which were switched off", axes="neuron")
    predicted: float = told("change of the score by switching them off", "log-odds")
    measured: float = told("the same, measured", "log-odds")
    by_construction: float = told("of the prediction, what the probe's own layer gives by arithmetic", "log-odds")
    random: list[float] = told("change with random neurons off", "log-odds", "draw")
    share: float = told("of all neurons' contributions that goes with them", "share")
    share_of_random_directions: list[float] = told("the same for random directions", "share", "draw")
    sentence: str = told("the same in words")
