"""Does a set of neurons and links of attention carry the answer, against a counterfactual that the selection never saw?

    python bench/faithfulness.py [--set held_out|earlier|development] [--sentence] [--write docs/faithfulness.md]

Every neuron outside the set is held at its value on the counterfactual, links in it at what they bring on the prompt,
all other attention live; f = (m(C) − m(∅)) / (m(M) − m(∅)) for the difference m of the two answers' logits. The tool
sees the first counterfactual; on it f is only a fit. Methods share the prompts, sizes and code; random sets, of neurons
and of as many neurons and links as Hooke's, and the complement are the controls.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

import hooke
from hooke.data import DEVELOPMENT, EARLIER, HELD_OUT, Flip
from hooke.dictionaries import Dictionary, neurons
from hooke.methods.metric import Metric
from hooke.methods.trace import select
from hooke.methods.trace import verify as ver
from hooke.methods.trace.coded import Baseline, Coded, encode
from hooke.methods.trace.coded import Case as Traced
from hooke.methods.trace.counterfactuals import baselines, run_baseline
from hooke.methods.trace.links import links_by_slope
from hooke.methods.trace.verify import faithfulness
from hooke.model import LinearView, Model, held_view, live_view

SIZES = (30, 100, 300, 1000, 3000)
SETS = {"held_out": HELD_OUT, "earlier": EARLIER, "development": DEVELOPMENT}
LEAST_RANGE = 2.0  # logits


class Case:
    """One prompt with all that methods need."""

    def __init__(self, model: Model, flip: Flip, basis: Sequence[Dictionary] | None = None) -> None:
        self.model, self.flip = model, flip
        self.tokens = model.tokens(flip.prompt)
        self.view: LinearView = held_view(model, self.tokens)
        self.basis = neurons(model) if basis is None else basis
        self.coded: Coded = encode(self.view, self.basis)
        self.answer = model.token(flip.answer)
        self.others = [model.token(flip.first_answer), model.token(flip.second_answer)]
        dtype = self.view.dtype
        self.based: list[Baseline] = [
            run_baseline(model, text, model.tokens(text), self.basis, dtype) for text in (flip.first, flip.second)
        ]
        self.coded.widen(self.based[:1])  # what the tool sees
        self.cap = model.parts.softcap

    def metric(self, which: int) -> Metric:
        return Metric(self.answer, self.others[which], self.cap)

    def bench(self, which: int) -> Traced:
        metric = self.metric(which)
        return Traced(self.model, self.model.record(self.tokens), self.view, self.coded, metric, [self.based[which]])

    def flips(self) -> bool:
        """The model prefers the answer on the prompt, and the other answer on each counterfactual."""
        clean = self.view.logits
        for based, other in zip(self.based, self.others, strict=True):
            if clean[self.answer] <= clean[other] or based.logits[self.answer] >= based.logits[other]:
                return False
        return True


Method = Callable[[Case], select.Ranking]


def flat(scores: list[Tensor]) -> Tensor:
    return torch.cat([s.flatten() for s in scores])


def of_neurons(case: Case, order: Tensor) -> select.Ranking:
    return select.Ranking(order, sum(len(codes) for codes in case.coded.codes), (1, 1, 1, 1))


def random_sets(case: Case) -> select.Ranking:
    count = sum(len(codes) for codes in case.coded.codes)
    return of_neurons(case, torch.randperm(count, generator=torch.Generator().manual_seed(0)))


def attribution_scores(case: Case) -> Tensor:
    scores = []
    for codes, other, grad in zip(case.coded.codes, case.based[0].codes, ver.gradient(case.bench(0)), strict=True):
        scores.append((codes.values - other.at(codes.positions, codes.ids)) * grad)
    return flat(scores)


def attribution_patching(case: Case) -> select.Ranking:
    return of_neurons(case, attribution_scores(case).abs().argsort(descending=True))


def attribution_of_both(case: Case) -> select.Ranking:
    """The same of neurons and links together."""
    bench = case.bench(0)
    neurons = attribution_scores(case)
    links, _ = links_by_slope(bench, live_view(case.model, case.view))
    order = torch.cat([neurons, links.flatten()]).abs().argsort(descending=True)
    return select.Ranking(order, len(neurons), tuple(links.shape))


def relp(case: Case) -> select.Ranking:
    scores = flat(select.relp(case.view, case.coded, case.metric(0), case.based[:1]))
    return of_neurons(case, scores.abs().argsort(descending=True))


def relp_bisected(case: Case) -> select.Ranking:
    """The weight of negative scores is bisected until the fit at 1,000 is one."""
    scores = flat(select.relp(case.view, case.coded, case.metric(0), case.based[:1]))
    bench = case.bench(0)
    low, high, order = 0.0, 4.0, scores.abs().argsort(descending=True)
    for _ in range(6):
        middle = (low + high) / 2
        order = torch.where(scores > 0, scores, -middle * scores).argsort(descending=True)
        kept = select.units_at(case.coded, order[:1000], case.based[:1])
        if faithfulness(bench, kept, case.based[0]).get("fit", 1.0) > 1:
            low = middle
        else:
            high = middle
    return of_neurons(case, order)


def ours(case: Case, seen: list[int] | None = None) -> select.Ranking:
    """Hooke's own ranking, with the first counterfactual, or as many as `seen` names."""
    based = [case.based[i] for i in ([0] if seen is None else seen)]
    metric = Metric(case.answer, None, case.cap)
    rows = select.contrasts(case.model, case.tokens, case.answer, [b.ids for b in based])
    if not based:
        based = baselines(case.model, case.tokens, [], case.basis, case.view.dtype)
    asked = Traced(case.model, case.model.record(case.tokens), case.view, case.coded, metric, based)
    return select.ranking(asked, rows)


METHODS: dict[str, Method] = {
    "random sets": random_sets,
    "attribution patching": attribution_patching,
    "attribution patching with links": attribution_of_both,
    "RelP (one pass)": relp,
    "RelP (sign balance bisected)": relp_bisected,
    "Hooke": ours,
    "Hooke (no counterfactual given)": lambda case: ours(case, []),
}


def score(case: Case, ranking: select.Ranking) -> dict[tuple[int, int], dict[str, float]]:
    """Figures by (size, counterfactual)."""
    out = {}
    for which in (0, 1):
        bench = case.bench(which)
        for size in SIZES:
            neurons, links = ranking.first(size)
            kept = select.units_at(case.coded, neurons, case.based[which : which + 1])
            out[size, which] = faithfulness(bench, kept, case.based[which], links) | {"links": len(links)}
    return out


Found = list[dict[tuple[int, int], dict[str, float]]]


def row(found: Found, size: int, fit: str = "fit", kl: str = "kl", rest: str = "complement") -> list[str]:
    """The cells of a method's line, or, by other keys, of its random sets."""

    def all_of(key: str, which: int) -> list[float]:
        return [f[size, which][key] for f in found if key in f[size, which]]

    unseen, complement = all_of(fit, 1), all_of(rest, 1)
    figures = [
        statistics.median(all_of(fit, 0)),
        statistics.median(unseen),
        statistics.mean(abs(1 - f) for f in unseen),
        statistics.median(all_of(kl, 1)),
    ]
    last = f"{statistics.median(abs(c) for c in complement):.2f}" if complement else "-"
    return [f"{statistics.median(all_of('links', 1)):.0f}", *(f"{x:.2f}" for x in figures), last]


def sentences(model: Model, flips: list[Flip]) -> str:
    """On how many prompts the sentence predicts the sign of the interventions that it names."""
    first, named, right = 0, 0, 0
    for flip in flips:
        payload = hooke.trace(model, flip.prompt, target=flip.answer, counterfactual=flip.first).payload
        signs = [g["predicted"] * g["measured"] > 0 for g in payload["groups"]]
        first += bool(signs and signs[0])
        named, right = named + len(signs), right + sum(signs)
    return (
        f"The sentence's first group moved the answer with the predicted sign on {first} of {len(flips)} prompts "
        f"({first / len(flips):.0%}); of all {named} groups that sentences named, {right} did "
        f"({right / max(named, 1):.0%})."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", choices=list(SETS), default="held_out")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--limit", type=int, default=None)
    parser.add_argument("--sentence", action="store_true")
    parser.add_argument("--write", type=Path)
    args = parser.parse_args()
    flips = list(SETS[args.set])[: args.limit]
    model = hooke.load()
    cases, left_out = [], 0
    found: dict[str, Found] = {m: [] for m in args.methods.split(",")}
    seconds = dict.fromkeys(found, 0.0)
    for flip in flips:
        case = Case(model, flip)
        empty = select.units_at(case.coded, torch.zeros(1, dtype=torch.long), case.based[:1])
        ranges = [faithfulness(case.bench(w), empty, case.based[w])["range"] for w in (0, 1)]
        if not case.flips() or min(abs(r) for r in ranges) < LEAST_RANGE:
            left_out += 1
            continue
        cases.append(flip)
        for name, results in found.items():
            start = time.perf_counter()
            order = METHODS[name](case)
            seconds[name] += time.perf_counter() - start
            results.append(score(case, order))
        line = ", ".join(f"{n} {r[-1][1000, 1]['fit']:.2f}" for n, r in found.items())
        print(f"{flip.family}: unseen f at 1,000: {line}", flush=True)
    text = report(args.set, len(cases), left_out, found, seconds)
    if args.sentence:
        text += "\n" + sentences(model, cases) + "\n"
    print(text)
    if args.write:
        args.write.write_text(text)


def report(name: str, count: int, left_out: int, found: dict[str, Found], seconds: dict[str, float]) -> str:
    lines = [
        "# Faithfulness",
        "",
        "Made by `bench/faithfulness.py` on SmolLM2-135M-Instruct (default model, float32, CPU).",
        "",
        f"{count} prompts of the set `{name}` in `hooke/data`; {left_out} more were left out because a",
        "counterfactual does not flip the answer or the ablated range is under 2 logits.",
        "Every neuron outside the chosen set is held at its counterfactual value. Links of attention in the set are",
        "held at what they bring on the prompt, whatever made it; all others are live.",
        "f = (m(C) − m(∅)) / (m(M) − m(∅)) for the difference of the two answers' logits.",
        "The selection sees the first counterfactual: there f is only a *fit*. Quality is on the second, which asks",
        "for another answer: median f, mean |1 − f|, median KL of the whole next-token distribution (nats), and",
        "the median |f| of the complement (the set ablated, the rest kept). 1, 0, 0 and 0 are best.",
        "`no counterfactual` saw neither, so both are unseen there. Beside Hooke stand random sets of as many neurons",
        "and as many links.",
    ]
    for size in SIZES:
        lines += ["", f"## {size:,} nodes", ""]
        lines += [
            "| | of them links | fit | unseen f | mean abs(1 − f) | KL | complement |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
        for method, results in found.items():
            lines.append(f"| {method} | " + " | ".join(row(results, size)) + " |")
            if method == "Hooke":
                random = row(results, size, "random_fit", "kl_random", "")
                lines.append("| random sets with as many links | " + " | ".join(random) + " |")
    each = ", ".join(f"{method} {s / max(count, 1):.1f}" for method, s in seconds.items())
    lines += ["", f"Seconds a prompt to choose: {each}."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
