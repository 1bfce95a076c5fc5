"""Reading the residual stream of all layers against plain forward hooks, in pairs.

    python bench/read.py [--model NAME] [--pairs 30] [--tokens 128] [--batch 4]

Prints the median ratio (Hooke over plain hooks) with a 95 % bootstrap interval; 1 means no slower.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

import hooke
from hooke.model import Tokens
from hooke.sites import Site


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=None)
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--batch", type=int, default=4)
    args = parser.parse_args()
    model = hooke.load(args.model)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, model.parts.d_vocab, (args.batch, args.tokens), generator=generator).to(model.device)
    tokens = Tokens(ids, torch.ones_like(ids, dtype=torch.bool))
    sites = [Site("resid_post", layer) for layer in range(model.parts.n_layers)]

    def ours() -> None:
        model.run(tokens, read=sites)

    def plain() -> None:
        kept: dict[int, torch.Tensor] = {}

        def keep(layer: int):  # type: ignore[no-untyped-def]
            return lambda _, __, out: kept.__setitem__(layer, out if isinstance(out, torch.Tensor) else out[0])

        handles = [b.module.register_forward_hook(keep(i)) for i, b in enumerate(model.parts.blocks)]
        with torch.no_grad():
            model.hf(input_ids=ids, use_cache=False)
        for handle in handles:
            handle.remove()

    def seconds(call) -> float:  # type: ignore[no-untyped-def]
        start = time.perf_counter()
        call()
        if model.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    ours()
    plain()
    pairs = []
    for i in range(args.pairs):  # in turn, the first of a pair alternating, so that drift cancels
        if i % 2:
            a, b = seconds(ours), seconds(plain)
        else:
            b, a = seconds(plain), seconds(ours)
        pairs.append((a, b))
    mine, theirs = np.array(pairs).T
    ratios = mine / theirs
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(ratios, (2000, len(ratios))), axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    print(
        f"{args.batch} x {args.tokens} tokens, {len(sites)} layers: Hooke {1000 * np.median(mine):.0f} ms, plain hooks "
        f"{1000 * np.median(theirs):.0f} ms, ratio {np.median(ratios):.3f} (95 % interval {low:.3f} to {high:.3f})"
    )


if __name__ == "__main__":
    main()
