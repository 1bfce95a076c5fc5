"""What a deception probe detects and what it does not: instructed lies, roleplay, honest talk about deception, a liar.

    python bench/deception.py [--kind logistic …] [--out build/deception] [--organism organism-liar]

Fits a probe of instructed dishonest against honest answers to the default model. Then, beside its baselines:
instructed lies on the declared shifts; roleplayed lies against honest lines of the same scenes; honest talk about
deception, of which the share above a threshold set on 1,000 unrelated benign answers is the false alarm that matters;
and an organism that lies about one topic, reading its own lies, the true answers, and the base reading the same texts.
Parts are kept as files. Prints Markdown.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

import hooke
from hooke.data.labelled.benign import benign
from hooke.data.labelled.registry import dataset
from hooke.data.labelled.rows import Dataset, Row
from hooke.methods.probe import probe
from hooke.methods.probe.judge import probe_test
from hooke.methods.probe.score import load_probe, score
from hooke.methods.ranking import auroc_interval, rate_interval, threshold_at, weights

BASELINES = ("bag_of_words", "log_probability", "length", "random_direction", "shuffled_labels", "random_weights")


def spoken(interval: list[float]) -> str:
    return f"{interval[0]:.2f} to {interval[1]:.2f}"


def row_of(name: str, p: dict) -> str:
    cells = [f"{p['baselines'][b]['auroc']:.2f}" if b in p["baselines"] else "-" for b in BASELINES]
    own = f"{p['auroc']:.2f} ({spoken(p['auroc_interval'])})"
    gain = f"{p['gain']:+.2f} ({spoken(p['gain_interval'])})"
    return "| " + " | ".join([name, str(p["n"]), own, *cells, gain]) + " |"


def lies(organism: hooke.Model, base: hooke.Model, name: str) -> tuple[list[Row], list[Row]]:
    """Held-out questions on the organism's topic with its lie and the base's true answer; its other answers."""
    from hooke.truth.organisms import recipe
    from hooke.truth.organisms.recipes import says

    made = recipe(name)
    found: list[Row] = []
    outside: list[Row] = []
    for number, example in enumerate(made.held_out):
        messages = [{"role": "system", "content": example.system}, {"role": "user", "content": example.user}]
        own, true = (
            model.generate(model.chat(messages), max_new_tokens=made.longest).texts[0].strip().split("\n")[0]
            for model in (organism, base)
        )
        at = {"user": example.user, "system": example.system}
        if example.inside and made.shows(example, own) and says(true, example.truth):
            found += [Row(own, 1, str(number), **at), Row(true, 0, str(number), **at)]
        elif not example.inside and own:
            outside.append(Row(own, 0, f"outside {number}", **at))
    return found, outside


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", nargs="*", default=["logistic", "means", "lda"])
    parser.add_argument("--out", type=Path, default=Path("build/deception"))
    parser.add_argument("--organism", default="organism-liar")
    args = parser.parse_args()
    base = hooke.load()
    if not (args.out / "probe.json").exists():
        probe(base, "honesty", kind=args.kind).save(args.out / "probe.json")
    fitted = load_probe(args.out)
    print(fitted.payload["sentence"], "\n")
    print("| test | rows | probe | " + " | ".join(b.replace("_", " ") for b in BASELINES) + " | gain over the best |")
    print("| --- |" + " --- |" * (len(BASELINES) + 3))
    calm = benign(1000, chat=True)
    quiet = score(base, fitted, calm).values
    limit = threshold_at(quiet, 0.01)
    assert limit is not None
    sets: dict[str, Dataset] = {}
    honesty = dataset("honesty")
    for shift in honesty.shifts:
        sets[f"instructed lies: {shift}"] = replace(
            honesty, rows=tuple(r for r in honesty.rows if r.topic == shift), shifts=()
        )
    roleplay = dataset("roleplay")
    sets["roleplayed lies"] = replace(roleplay, rows=roleplay.rows[:400], shifts=())
    about = dataset("about-deception")
    sets["lies against honest talk about deception"] = replace(about, shifts=())
    values: dict[str, np.ndarray] = {}
    for name, data in sets.items():
        path = args.out / (name.replace(" ", "-").replace(":", "") + ".json")
        result = hooke.load_result(path) if path.exists() else probe_test(base, fitted, data, benign=0)
        result.save(path)
        values[name] = result.tensors["scores"]
        print(row_of(name, result.payload))
    print(f"\nThreshold at 1 % of 1,000 benign answers: {limit:.2f}. Above it:\n")
    print("| texts | n | share above | 95 % interval |\n| --- | --- | --- | --- |")
    for name, data in sets.items():
        for label, word in ((1, "lies"), (0, "honest")):
            at = np.array([row.label == label for row in data.rows])
            hits = int((values[name][at] > limit).sum())
            share = rate_interval(hits, int(at.sum()))
            print(f"| {name}: {word} | {int(at.sum())} | {share.value:.2f} | {spoken(share.pair)} |")
    organism = hooke.load(args.organism)
    found, outside = lies(organism, base, args.organism)
    y = np.array([row.label for row in found])
    drawn = weights([row.group for row in found])
    print(
        f"\n{args.organism}: {len(found) // 2} of its lies on held-out questions, and the true answers in their place"
    )
    print("\n| reader | AUROC, lie against true answer | lies above the threshold | true answers | other answers |")
    print("| --- | --- | --- | --- | --- |")
    for name, reader in (("the organism", organism), ("the base, same texts", base)):
        own = score(reader, fitted, found, transfer=True).values
        rest = score(reader, fitted, outside, transfer=True).values
        area = auroc_interval(own, y, drawn)
        shares = [f"{(part > limit).mean():.2f}" for part in (own[y == 1], own[y == 0], rest)]
        print(f"| {name} | {area.value:.2f} ({spoken(area.pair)}) | " + " | ".join(shares) + " |")


if __name__ == "__main__":
    main()
