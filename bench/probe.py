"""Probing speed: activations of short statements against plain forward passes, and the fit of every kind.

    python bench/probe.py [--model NAME] [--rows 1000] [--pairs 3]

Prints the ratio of plain transformers (same batches, nothing read, no hooks) to `harvest` of all layers, in
pairs taken in turn, with each pair's value; then the seconds that the fit of all kinds takes beyond that.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
import torch

import hooke
from hooke.data.labelled.registry import dataset
from hooke.harvest import batches, harvest, prompts
from hooke.methods.probe import probe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=None)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--pairs", type=int, default=3)
    args = parser.parse_args()
    model = hooke.load(args.model)
    data = dataset("truth")
    rng = np.random.default_rng(0)
    groups = rng.permutation(sorted({row.group for row in data.rows}))
    rows: list = []
    by_group: dict[str, list] = {}
    for row in data.rows:
        by_group.setdefault(row.group, []).append(row)
    for group in groups:
        if len(rows) < args.rows:
            rows += by_group[group]
    todo = prompts(model, rows)
    padded = [model.pad([todo[i].ids for i in b], "right") for b in batches([len(p.ids) for p in todo], tokens=2048)]
    n_tokens = sum(len(p.ids) for p in todo)

    def plain() -> None:
        for ids, mask in padded:
            with torch.no_grad():
                model.hf(input_ids=ids, attention_mask=mask.long(), use_cache=False)

    def ours() -> None:
        harvest(model, rows)

    def seconds(call) -> float:  # type: ignore[no-untyped-def]
        start = time.perf_counter()
        call()
        if model.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    pairs = []
    for i in range(args.pairs):
        a, b = (seconds(ours), seconds(plain)) if i % 2 else (seconds(plain), seconds(ours))[::-1]
        pairs.append((a, b))
    ratios = [b / a for a, b in pairs]
    print(f"{len(rows)} statements, {n_tokens} tokens, all {model.parts.n_layers} layers, last and mean")
    print("plain forward, s:", ", ".join(f"{b:.1f}" for _, b in pairs))
    print("harvest, s:      ", ", ".join(f"{a:.1f}" for a, _ in pairs))
    print(f"speed of plain forward: median {np.median(ratios):.3f} ({', '.join(f'{r:.3f}' for r in ratios)}); aim 0.95")
    kinds = ("logistic", "means", "lda", "lat", "ccs", "attention", "ensemble")
    start = time.perf_counter()
    subset = replace(data, rows=tuple(rows))
    result = probe(model, subset, kind=kinds, random_weights=False)
    whole = time.perf_counter() - start
    print(
        f"nested fit of {', '.join(kinds)} over all layers, {result.payload['n_candidates']} ways: "
        f"{result.seconds['fit']:.1f} s beyond the activations ({result.seconds['activations']:.1f} s); aim 60; "
        f"whole {whole:.1f} s"
    )


if __name__ == "__main__":
    main()
