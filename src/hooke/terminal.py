"""What the command line shows a person: progress while it works, and results as text."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hooke.errors import visible
from hooke.methods.phrases import at, count, layers, quote
from hooke.methods.progress import overall
from hooke.results.verdicts import WORDS
from hooke.tables import (
    Cell,
    columns_of_terminal,
    entry,
    folded,
    interval,
    number,
    percent,
    show_lines,
    show_table,
    span,
    wrapped,
)


def say(text: str) -> None:
    """Print lines for a person. What a file or a model put into them cannot steer the terminal."""
    print("\n".join(visible(line) for line in text.split("\n")))


if TYPE_CHECKING:
    from hooke.results import Result


INTERRUPTED = threading.Event()  # a person wants to stop; see `cli/interrupt.py`


class NowAndThen:
    """Progress for a file or a pipe: a line on standard error after a while, and then once a minute, also when what is
    at work does not come to say anything."""

    first, every = 20.0, 60.0  # seconds

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.due, self.text = self.first, "at work"
        self.lock, self.ended = threading.Lock(), threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def __call__(self, text: str) -> None:
        self.text = text
        self._tell()

    def stop(self) -> None:
        self.ended.set()

    def _watch(self) -> None:
        while not self.ended.wait(5.0):
            self._tell()

    def _tell(self) -> None:
        with self.lock:
            passed = time.monotonic() - self.begun
            if passed < self.due or self.ended.is_set():
                return
            self.due = passed + self.every
            print(f"hooke: {visible(self.text)}, after {passed:.0f} s", file=sys.stderr, flush=True)


class Stages:
    """Progress over the stages of a verb on standard error: with the time left where that is a terminal, else a line
    now and then.

    An instance is what methods take as `progress`.
    """

    def __init__(self, stages: Sequence[str]) -> None:
        self.stages = stages
        self.bar: Any = None
        self.task: Any = None
        self.line: NowAndThen | None = None
        self.note = ""  # what is said beside the stage

    def __enter__(self) -> Stages:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
            self.bar = Progress(*columns, console=Console(file=sys.stderr), transient=True)
            self.task = self.bar.add_task("", total=1.0)
            self.bar.start()
        else:
            self.line = NowAndThen()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()
        if self.line is not None:
            self.line.stop()

    def __call__(self, stage: str, done: float = 0.0) -> None:
        if INTERRUPTED.is_set():
            raise KeyboardInterrupt
        share = overall(self.stages, stage, done)
        if self.line is not None:
            self.line(f"{stage}, {share:.0%} of all{self.note and ': '}{self.note}")
        if self.bar is not None:
            self.bar.start()
            self.bar.update(self.task, description=f"{stage} {self.note}", completed=share)

    def hide(self) -> None:
        """Out of the way of a question to the person."""
        if self.bar is not None:
            self.bar.stop()


def show_trace(result: Result) -> None:
    """The next tokens, the sentence, the scores, and the strongest paths."""
    p = result.payload
    tell("Next tokens: " + "   ".join(f"{t['token']!r} {t['probability']:.1%}" for t in p["top"]))
    for note in p["notes"]:
        tell(f"Note: {note}")
    tell("\n" + p["sentence"] + "\n")
    s, v = p["scores"], p["verification"]
    tell(
        f"Scores at {s['nodes']} nodes: completeness {s['completeness']:.2f}, replacement {s['replacement']:.2f}, "
        f"unexplained {s['unexplained']:.2f}, path length {s['path_length']:.1f}"
    )
    if v:
        tell(p["tested"])
        about = f"{p['quantity']['name']}: {p['quantity']['about']}"
        if p["graph_quantity"] != p["quantity"]:
            about += f". {p['graph_quantity']['name']}: {p['graph_quantity']['about']}"
        tell(f"({about})")
    _show_parts(p)
    if p["attention"]:
        tell("\nWhere attention looked, and why:")
    for link in p["attention"]:
        say(wrapped("  " + link["text"] + f": {WORDS[link['verdict']]}", rest="    "))
    tell("\n" + ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in result.seconds.items()))


def _show_parts(p: dict[str, Any]) -> None:
    """The parts of the story, and the strongest paths through them."""
    name, target = p["graph_quantity"]["name"], quote(p["target"]["token"])
    if p["groups"]:
        tell(f"\nParts (change of the {name} when a part has its counterfactual values: predicted, measured):")
    for k, part in enumerate(p["groups"]):
        moved = " ".join(f"{x:+.2f}" for x in (part.get("predicted"), part.get("measured_in_graph")) if x is not None)
        about = f"{part['name']} ({count(len(part['nodes']), p['units'])}, {layers(part['layers'], to='-')})"
        say(wrapped(f"  {k + 1}. {moved} {about}: {WORDS[part['verdict']]}", rest="     "))
    if p["part_paths"]:
        tell("\nStrongest paths through parts (the same, of the token replaced along the path alone):")
    for path in p["part_paths"]:
        steps = " -> ".join(
            [at(p["graph"]["tokens"], path["position"]), *(f"part {k + 1}" for k in path["parts"]), target]
        )
        text = f"  {path['predicted']:+.2f} {path['carried']:+.2f} {steps}: {WORDS[path['verdict']]}"
        say(wrapped(text, rest="     "))


def tell(text: str) -> None:
    """Print sentences for a person, in lines that fit."""
    say(wrapped(text))


def show_lens(result: Result) -> None:
    """The first choice at each layer and position, as a table."""
    p = result.payload
    tokens = p["tokens"]
    first = max(0, len(tokens) - 8)
    rows: list[list[Cell]] = []
    for layer, row in zip(p["layers"], p["next"], strict=True):
        cells: list[Cell] = []
        for best in row[first:]:
            chance = best[0]["probability"]
            style = "bold" if chance > 0.5 else "" if chance > 0.1 else "dim"
            cells.append((f"{best[0]['token']!r} {chance:.0%}", style))
        rows.append(["in" if layer < 0 else str(layer), *cells])
    if first:
        say(f"(the last 8 of {len(tokens)} positions; --json has all)")
    show_table(["layer", *(repr(token) for token in tokens[first:])], rows, left=len(tokens) + 1)
    tell(p["sentence"])


def show_patch(result: Result) -> None:
    """A heatmap for each site: what share of the difference each patch brings back or takes away."""
    p = result.payload
    tell(p["sentence"])
    ends = f"Metric ({result.arguments['metric']}): clean {p['clean']:.3f}"
    tell(ends + ("" if p["corrupt"] is None else f", corrupt {p['corrupt']:.3f}"))
    _notes(p)
    tell(f"{p['patches']} patches, of which {p['runs']} could change anything and were run")
    tokens = p["tokens"][p["base"]]
    for name, values in p["values"].items():
        share = p["normalised"][name]
        rows, unit = (values, "value") if share is None else (share, "%")
        tell(f"\n{name}, " + ("the metric" if share is None else "per cent of the difference"))
        _heatmap(rows, p["layers"][name], p["units"][name], p["positions"], tokens, unit)


def _notes(payload: dict[str, Any]) -> None:
    """What a reader must know of the tokens before the numbers."""
    for note in payload.get("notes", ()):
        tell(f"Note: {note}")


def _heatmap(
    rows: Sequence[Any],
    layers: Sequence[int | None],
    units: Sequence[int] | None,
    positions: Sequence[int] | None,
    tokens: Sequence[str],
    unit: str,
) -> None:
    """Layers downwards; across, the tokens, or the heads with the strongest position of each."""
    notes = []
    if units is not None:
        columns = [f"head {u}" if len(units) <= 64 else str(u) for u in units]
        if positions is not None and len(positions) > 1:
            notes.append("each head at the position where it moves most; --json has all")
        grid = [[max(cells, key=lambda v: abs(v or 0.0)) for cells in row] for row in rows]
    else:
        columns = ["all" if positions is None else repr(tokens[i]) for i in positions or [0]]
        grid = [list(row) for row in rows]
        still = 0.0 if unit == "%" else None
        moved = [c for c in range(len(columns)) if any(row[c] not in (still, None) for row in grid)]
        if len(moved) < len(columns):
            notes.append("tokens left out move nothing: they are the same up to there")
            columns, grid = [columns[c] for c in moved], [[row[c] for c in moved] for row in grid]
    most = max((abs(v) for row in grid for v in row if v is not None), default=0.0) or 1.0
    table: list[list[Cell]] = []
    for layer, row in zip(layers, grid, strict=True):
        cells: list[Cell] = []
        for value in row:
            text = "" if value is None else f"{100 * value:.0f}" if unit == "%" else f"{value:.2f}"
            text = text.lstrip("-") if not text.strip("-0.") else text  # no minus zero
            depth = 0 if value is None else round(200 * min(1.0, abs(value) / most))
            shade = (255 - depth, 255 - depth, 255) if (value or 0) > 0 else (255, 255 - depth, 255 - depth)
            cells.append((text, f"black on rgb({shade[0]},{shade[1]},{shade[2]})" if depth > 8 else ""))
        table.append(["end" if layer is None else str(layer), *cells])
    show_table(["layer", *columns], table, left=0)
    for note in notes:
        tell(f"({note})")


def show_path_patch(result: Result) -> None:
    """Each edge with what sending it alone does."""
    p = result.payload
    tell(p["sentence"])
    tell(f"Metric ({result.arguments['metric']}): clean {p['clean']:.3f}, corrupt {p['corrupt']:.3f}")
    _notes(p)
    for row in p["edges"]:
        print(f"  {row['edge']:<24} {row['value']:+9.4f}  {row['normalised']:+7.1%}")


def show_attribution(result: Result) -> None:
    """How well each method agrees with the patches, at what cost, and the places it puts first."""
    p = result.payload
    tell(p["sentence"])
    pair = p["pairs"][0]
    _notes(pair)
    tell(f"Metric ({result.arguments['metric']}): clean {pair['clean']:.3f}, corrupt {pair['corrupt']:.3f}\n")
    rows = []
    for method in p["scores"]:
        agreement = p["agreement"].get(method, {})
        spans = agreement.get("intervals") or {}
        cells = [
            number(agreement.get(key)) + (f" ({interval(spans[key])})" if spans.get(key) else "")
            for key in ("pearson", "spearman", "spearman_size")
        ]
        rows.append([method, *cells, f"{result.seconds[method]:.2f}"])
    if "exact" in result.seconds:
        rows.append(["the patches themselves", "", "", "", f"{result.seconds['exact']:.2f}"])
    show_table(("method", "Pearson", "rank", "rank of sizes", "seconds"), rows)
    tokens = pair["tokens"][p["base"]]
    for method, by_site in p["scores"].items():
        first = sorted(
            (
                (value, site, p["layers"][site][layer], unit, position)
                for site, layers in by_site.items()
                for layer, row in enumerate(layers)
                for unit, cells in (enumerate(row) if p["units"][site] is not None else [(None, row)])
                for position, value in enumerate(cells)
            ),
            key=lambda entry: -abs(entry[0]),
        )[:5]
        told = [
            f"{site if layer is None or '.' in site else f'{site}.{layer}'}"
            + ("" if unit is None else f" unit {p['units'][site][unit]}")
            + f" at {tokens[position]!r} {value:+.2f}"
            for value, site, layer, unit, position in first
        ]
        tell(f"\n{method} puts first: " + "; ".join(told))


def show_tasks(result: Result) -> None:
    """Two lines for each: what it is, and how well the model does it."""
    p = result.payload
    width = columns_of_terminal()
    for row in p["tasks"]:
        right = "not tried" if row["accuracy"] is None else f"{row['accuracy']:.0%} right"
        beside = [] if row["interval"] is None else [f"{row['interval'][0]:.0%} to {row['interval'][1]:.0%}"]
        beside += [] if row["chance"] is None else [f"chance {row['chance']:.0%}"]
        right += f" ({', '.join(beside)})" if beside else ""
        told = "the model can do it" if row["able"] else f"it cannot: {row['reason']}"
        show_lines(entry([f"{row['name']}:", *row["about"].split()], f"{right}; {told}", width=width))
    tell(f"\n{p['sentence']} ({p['count']} pairs of prompts each)")


def show_scoreboard(result: Result) -> None:
    p = result.payload
    kinds = list(p["methods"][0]["kinds"])
    heads = ["method", *(f"{k}: edge AUROC (tenth percentile)" for k in kinds), "node AUROC", "precision"]
    rows = []
    for row in p["methods"]:
        edges = [
            f"{k['median_edge_auroc']:.3f} ({k['p10_edge_auroc']:.3f})" for k in (row["kinds"][kind] for kind in kinds)
        ]
        node = "-" if row["median_node_auroc"] is None else f"{row['median_node_auroc']:.3f}"
        twin = "-" if row["random_weights"] is None else f"{row['random_weights']:.2f}"
        cells = (node, f"{row['median_precision']:.2f}", twin, f"{row['passes']:.0f}", f"{row['seconds']:.1f}")
        rows.append([row["name"], *edges, *cells])
    show_table([*heads, "random weights", "passes", "seconds"], rows)
    tell(f"\n{p['sentence']} ({p['models']} models, medians; passes for each pair of inputs)")
    for e in p["each"]:
        if e["family"] == "file":
            tell(_labels_said(visible(e["name"]), e["labels"]))


def _labels_said(name: str, labels: dict[str, Any]) -> str:
    """How many edges of a program have which label, and what that rests on."""
    kinds = [f"{len(labels[kind])} {kind}" for kind in ("true", "redundant", "cancelling") if labels[kind]]
    inputs = f"all {labels['inputs']:,}" if labels["enumerated"] else f"{labels['inputs']:,} drawn"
    told = f"{name}: {' and '.join(kinds)} edges, tried on {inputs} inputs"
    return told + (f"; {len(labels['unexercised'])} act in no scored pair" if labels["unexercised"] else "")


def show_circuit(result: Result) -> None:
    """The sentence, faithfulness by size beside random circuits, stability, and tests of the strongest edges."""
    p = result.payload
    units, curve = p.get("units", "edges"), p["faithfulness"]
    tell(p["sentence"] + "\n")
    rows = []
    for i, (n, share) in enumerate(zip(curve["edges"], curve["shares"], strict=True)):
        told = [percent(curve[key][i]) for key in ("circuit", "random", "random_low", "random_high", "complement")]
        rows.append([f"{n:,}", f"{share:.1%}", *told[:2], f"{told[2]} to {told[3]}", told[4]])
    show_table((units, "share", "circuit", "random", "its range", "all but the circuit"), rows, left=0)
    areas = [f"{key.upper()} {number(p[key])} (random {number(p.get(f'{key}_random'))})" for key in ("cpr", "cmd")]
    tell(f"\nFaithfulness is 1 for the whole model, 0 with everything cut. {', '.join(areas)}")
    chance = p["stability"].get("random") or {}
    for key, row in p["stability"].items():
        if key != "random" and row:
            kinds = [("mean_edges", units)] + [("mean_nodes", "nodes")] * (units != "nodes")
            shares = [f"{percent(row[k])} of their {name} (random {percent(chance.get(k))})" for k, name in kinds]
            tell(f"Circuits {key.replace('_', ' ')} share {' and '.join(shares)}")
    if p.get("tests", {}).get("rows"):
        tell(f"\nThe strongest {units}, and what cutting each alone does to the metric:")
        for row in p["tests"]["rows"][:10]:
            say(f"  {row['unit']:<24} {row['effect']:+8.3f}  {WORDS[row['verdict']]}")
    truth = p.get("scores_on_truth")
    if isinstance(truth, dict) and truth.get("median_edge_auroc") is not None:
        known = number(truth["median_edge_auroc"])
        low = f", tenth percentile {number(truth['p10_edge_auroc'])}" if "p10_edge_auroc" in truth else ""
        tell(f"\nOn models whose circuit is known, {p['method']} has edge AUROC {known}{low}")
    else:
        tell(f"\nWhat {p['method']} scores on models whose circuit is known: see hooke bench truth")


def show_models(result: Result) -> None:
    """Two lines for each: how big it is and where, and what it is."""
    width = columns_of_terminal()
    for row in result.payload["models"]:
        parts = [] if not row["parameters"] else [f"{row['parameters'] / 1e6:.4g} M parameters,"]
        if row["fetched"]:
            parts += [f"{row['disk_mb']:.0f} MB,", "in", str(row["path"])]
        else:
            parts += [f"not here: {row['download_mb']:.0f} MB to download,", f"{row['disk_mb']:.0f} MB on disk"]
        show_lines(entry([f"{row['name']}:", *parts], str(row["note"]), width=width))


def show_doctor(result: Result) -> None:
    """The machine, what fails, and how large the largest error is."""
    p, width = result.payload, columns_of_terminal()
    m = p["machine"]
    about = [m["device"], m["dtype"], f"{m['cores']} cores", f"{m['memory'] / 2**30:.0f} GB", m["system"]]
    about += [f"python {m['python']}", *(f"{name} {version}" for name, version in m["versions"].items())]
    show_lines(folded(", ".join(about).split(), width))
    for row in (row for row in p["checks"] if not row["holds"]):
        by = "by more than can be said" if row["error"] is None else f"by {row['error']:.2g}"
        show_lines(entry(f"FAILS: {row['check']}".split(), f"off {by}; {p['allowed']:g} is allowed", width=width))
    largest = max((row["error"] for row in p["checks"] if row["holds"]), default=0.0)
    say(
        wrapped(
            f"{p['sentence']} The largest error is {largest:.1g}; {p['allowed']:g} of the largest value is allowed."
        )
    )


def show_intervention(result: Result) -> None:
    """The sentence, and the next tokens before, after, and with random groups changed instead."""
    p = result.payload
    rows = []
    for row in p["rows"]:
        cells = ["-" if row[key] is None else f"{row[key]:.1%}" for key in ("before", "after", "control")]
        rows.append([repr(row["token"]), *cells])
    show_table(("next token", "before", "after", "random groups"), rows)
    moved = f"its {p['quantity']['name']}" + ("" if p["contrast"] is None else f" to {p['contrast']['token']!r}")
    chance = ""
    if p["control_change"] is not None:
        between = f"{p['control_least']:+.2f} to {p['control_greatest']:+.2f}"
        chance = f"; random groups {p['control_change']:+.2f} ({between})"
    tell(f"\n{p['sentence']}.")
    tell(f"{p['target']['token']!r}: {moved} changes by {p['change']:+.2f}{chance}")
    tell(f"({p['quantity']['name']}: {p['quantity']['about']})")


def show_probe(result: Result) -> None:
    """The sentence, how the chosen probe did on what was held out, and the layer curve."""
    p = result.payload
    names = ["bag_of_words", "log_probability", "length", "random_direction", "shuffled_labels", "random_weights"]
    names = [name for name in names if any(name in test["baselines"] for test in p["tests"])]
    rows = []
    for test in p["tests"]:
        cells = [number(test["baselines"][name]["auroc"]) for name in names]
        rows.append([test["part"], str(test["n"]), number(test["auroc"]), *cells])
    tell(p["sentence"] + "\n")
    show_table(("never fitted to", "rows", "probe", *(n.replace("_", " ") for n in names)), rows)
    tell("\nValidation AUROC by layer (of a random direction: " + span(p["layer_curve"]["random_direction"]) + ")")
    curve = list(zip(p["layer_curve"]["sites"], p["layer_curve"]["auroc"]))
    for site, value in curve:
        say(f"  {site:>14} {value:.2f} " + "#" * max(0, round((value - 0.5) * 60)))
    cost = p["cost"]
    tell(
        f"\nTried {p['n_candidates']} ways. Scoring a token costs {cost['microseconds_per_token']} µs, "
        f"{cost['share_of_forward']:.1e} of a forward pass."
    )


def show_probe_test(result: Result) -> None:
    """AUROC beside every baseline, recall at false-alarm budgets, topics, and the worst mistakes."""
    from rich.console import Console
    from rich.text import Text

    p = result.payload
    tell(p["sentence"] + "\n")
    rows = [["the probe", number(p["auroc"]), interval(p["auroc_interval"])]]
    for name, row in p["baselines"].items():
        rows.append([name.replace("_", " "), number(row["auroc"]), interval(row["interval"])])
    show_table(("", "AUROC", "95 % interval"), rows)
    say("")
    for row in p["recall_at_fpr"]:
        told = row["refused"] or f"{row['recall']:.1%} ({interval(row['interval'])})"
        tell(f"Recall at {row['fpr']:.1%} false positives on {row['n_benign']} unrelated texts: {told}")
    tell(f"Calibration: the mean gap between stated and true share is {p['calibration']['ece']:.2f}")
    if len(p["topics"]) > 1:
        tell("By topic, worst first: " + ", ".join(f"{t['topic']} {t['auroc']:.2f}" for t in p["topics"][:8]))
    if p["mistakes"]:
        say("\nWorst mistakes:")
        for m in p["mistakes"][:5]:
            says = p["positive"] if m["score"] > 0 else p["negative"]
            line = f"  says {says} ({m['score']:+.1f}), is {p['positive'] if m['label'] else p['negative']}: "
            Console().print(Text(line + repr(m["text"][:120])), soft_wrap=True)
    for note in p["notes"]:
        tell(f"Note: {note}")


def show_probe_explain(result: Result) -> None:
    """The sentence, each token with its value, and the layers and neurons that wrote most into the score."""
    from rich.console import Console
    from rich.text import Text

    p = result.payload
    tell(p["sentence"] + "\n")
    line, most = Text(), max(1e-6, *(abs(v) for v in p["token_scores"]))
    for token, value in zip(p["tokens"], p["token_scores"]):
        line.append(f"[{value:+.1f}]", style="dim")
        line.append(repr(token)[1:-1], style=("green" if value > 0 else "red") if abs(value) > most / 3 else "")
    Console().print(line, soft_wrap=True)
    strongest = sorted(p["parts"], key=lambda part: -abs(part["value"]))[:8]
    tell("\nWritten into the score: " + ", ".join(f"{part['part']} {part['value']:+.2f}" for part in strongest))
    named = [f"{n['layer']}/{n['neuron']} {n['contribution']:+.2f}" for n in p["neurons"][:8]]
    tell("Strongest neurons (layer/neuron): " + ", ".join(named))


def show_probe_list(result: Result) -> None:
    """Two lines for each: how many rows and which labels and shifts, and what it is about."""
    width = columns_of_terminal()
    for row in result.payload["datasets"]:
        kinds = f"{row['rows']} rows, {row['labels'][1]} (1) or {row['labels'][0]} (0)"
        shifts = f"; held out: {', '.join(row['shifts'])}" if row["shifts"] else ""
        show_lines(entry([f"{row['name']}:", *(kinds + shifts).split()], row["about"], width=width))
