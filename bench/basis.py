"""Neurons beside a trained dictionary: how much of the effect do as many nodes of each carry alone?

    python bench/basis.py DIR [--limit N] [--sizes 30,100,300,1000] [--write docs/dictionaries.md]

The held-out prompts, each with a counterfactual that the selection sees and one that it does not; everything outside
the nodes is held at its value on the second. f = (m(C) − m(∅)) / (m(M) − m(∅)) for the difference of the two answers'
logits, where ∅ has every MLP output at its value on the counterfactual: the same in both bases. A dictionary leaves
something over: `errors live` leaves that (and a skip) as it is, and then no node at all has a share, which is printed
too; `errors held` holds it at the counterfactual as well, so that nothing but nodes differs. Nodes are chosen by masks
learned in each basis, features and links of attention together. Controls: the links among the nodes alone, random nodes
of the basis, as many, and the same dictionary with random directions.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path

import hooke  # before torch: it says how threads wait

import torch  # isort: skip
from faithfulness import LEAST_RANGE, Case, ours
from torch import Tensor

from hooke.data import HELD_OUT, Flip
from hooke.dictionaries import Dictionary, Neurons
from hooke.dictionaries.coder import Coder
from hooke.dictionaries.formats import read_dictionary
from hooke.methods.trace import select
from hooke.methods.trace.coded import Units
from hooke.methods.trace.hold_links import hold_places, looks
from hooke.methods.trace.verify import hold_others
from hooke.model import Edit, Model, Tokens
from hooke.results import write_atomic

MARKS = ("<!-- basis -->", "<!-- /basis -->")
NAMES = ("neurons", "dictionary", "random directions")


def shuffled(blocks: Sequence[Coder], seed: int = 0) -> list[Coder]:
    """The same dictionaries with random directions of the same lengths to write along."""
    generator = torch.Generator().manual_seed(seed)
    out = []
    for block in blocks:
        decoders = {}
        for site, rows in block.decoders.items():
            random = torch.randn(rows.shape, generator=generator)
            decoders[site] = random / random.norm(dim=1, keepdim=True) * rows.norm(dim=1, keepdim=True)
        out.append(
            Coder(block.encoders, block.bias, decoders, block.offsets, block.gate, block.threshold, block.k,
                  block.scaled, block.refine, block.skip, block.about, block.norm)
        )  # fmt: skip
    return out


def strict(case: Case, units: Units, which: int) -> list[Edit]:
    """Edits that hold all that MLPs write at the counterfactual, but for what chosen features differ by."""
    based, coded = case.based[which], case.coded
    if isinstance(coded.basis[0], Neurons):  # they leave nothing over
        return hold_others(case.bench(which), coded.masks(units), based)
    edits = emptied(case, which)
    there = coded.values_at(based.codes, units)
    for b in units.blocks.unique().tolist():
        own = units.of_block(b)
        block, index = coded.basis[b], (units.positions[own], units.ids[own])
        for site in block.writes:  # minus what would move them to the counterfactual
            edits.append(Edit(site, "feature", there[own], index=index, weight=-1.0, feature=(block, "set")))
    return edits


def shares(case: Case, ranking: select.Ranking, sizes: Sequence[int], which: int) -> dict[tuple[str, int], float]:
    """f by (way, size) against one counterfactual."""
    bench, model = case.bench(which), case.model
    rows = torch.stack([case.tokens.ids[0], case.based[which].ids])
    found = looks(model, Tokens(rows, torch.ones_like(rows, dtype=torch.bool)))
    generator = torch.Generator().manual_seed(0)
    many = sum(len(codes) for codes in case.coded.codes)
    ways: dict[tuple[str, int], list[Edit]] = {}
    for size in sizes:
        entries, links = ranking.first(size)
        random = torch.randperm(many, generator=generator)[: len(entries)]
        there = torch.stack([look.pattern[0] for look in found]).nonzero()
        drawn = there[torch.randperm(len(there), generator=generator)[: len(links)]]
        for name, some, places in (("", entries, links), (", random", random, drawn)):
            units = select.units_at(case.coded, some, case.based[which : which + 1])
            held = hold_places(found, 0, places)
            ways["errors held" + name, size] = [*strict(case, units, which), *held]
            if not name:
                ways["errors held, its links alone", size] = [*strict(case, units.take(units.ids[:0]), which), *held]
                ways["errors live", size] = [*hold_others(bench, case.coded.masks(units), case.based[which]), *held]
    none = [torch.zeros(len(codes), dtype=torch.bool) for codes in case.coded.codes]
    ways["errors live", 0] = hold_others(bench, none, case.based[which])
    logits, _ = model.run_each(bench.run, [emptied(case, which), [], *ways.values()])
    m: Tensor = bench.metric(logits)
    span = float(m[1] - m[0])
    return {key: float(x - m[0]) / span for key, x in zip(ways, m[2:], strict=True)} | {("range", 0): span}


def emptied(case: Case, which: int) -> list[Edit]:
    """Edits that hold all that is written where the basis writes at a counterfactual."""
    return [Edit(site, "set", case.based[which].values[site]) for site in case.coded.cuts]


def empty_range(case: Case, which: int) -> float:
    """How far the answer moves with all MLP outputs at a counterfactual. case: in the basis of neurons."""
    logits, _ = case.model.run_each(case.bench(which).run, [emptied(case, which), []])
    m = case.bench(which).metric(logits)
    return float(m[1] - m[0])


def measured(model: Model, flip: Flip, bases: dict[str, Sequence[Dictionary] | None], sizes: Sequence[int]):
    """f by basis, way and size against the unseen counterfactual; None for a prompt that hangs on nothing here."""
    first = Case(model, flip)
    if not first.flips() or min(abs(empty_range(first, which)) for which in (0, 1)) < LEAST_RANGE:
        return None
    out = {}
    for name, basis in bases.items():
        case = first if basis is None else Case(model, flip, basis)
        out[name] = shares(case, ours(case), sizes, 1)
    return out


def table(found: list, sizes: Sequence[int]) -> str:
    """Medians over prompts."""

    def median(name: str, way: str, size: int) -> str:
        return f"{statistics.median(row[name][way, size] for row in found):.2f}"

    lines = [
        f"| {len(found)} prompts, unseen counterfactual, median f | "
        + " | ".join(f"{n:,} nodes" for n in sizes)
        + " |",
        "| --- |" + " --- |" * len(sizes),
    ]
    for name in found[0]:
        exact = name == "neurons"
        held = ("errors held", "errors held, its links alone", "errors held, random")
        for way in (*held, *(() if exact else ("errors live",))):
            label = name + (way.replace("errors held", "") if exact else f", {way}")
            lines.append(f"| {label} | " + " | ".join(median(name, way, n) for n in sizes) + " |")
        if not exact:
            none = median(name, "errors live", 0)
            lines.append(f"| {name}, errors live, no node at all | " + " | ".join([none] * len(sizes)) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--sizes", default="30,100,300,1000")
    parser.add_argument("--write", type=Path)
    args = parser.parse_args()
    sizes = [int(n) for n in args.sizes.split(",")]
    model = hooke.load()
    blocks = read_dictionary(args.folder, model)
    bases = dict(zip(NAMES, (None, blocks, shuffled(blocks)), strict=True))
    found = []
    every = list(HELD_OUT)
    for flip in every[:: max(1, len(every) // (args.limit or len(every)))][: args.limit]:  # of all families
        row = measured(model, flip, bases, sizes)
        if row is not None:
            found.append(row)
            said = ", ".join(f"{name} {row[name]['errors held', sizes[-1]]:.2f}" for name in row)
            print(f"{flip.family}: {said}", flush=True)
    text = table(found, sizes)
    print(text)
    if args.write:
        before, _, rest = args.write.read_text().partition(MARKS[0])
        _, _, after = rest.partition(MARKS[1])
        write_atomic(args.write, f"{before}{MARKS[0]}\n{text}{MARKS[1]}{after}".encode())


if __name__ == "__main__":
    main()
