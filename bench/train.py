"""Training a TopK autoencoder beside other tools: d 576, 9,216 latents, k 32, batches of 4,096, the same activations.

    python bench/train.py [--steps 6] [--rounds 3] [--peer NAME=PYTHON …] [--quality]

NAME: sae_lens, sparsify, sparsify-adam or dictionary_learning; PYTHON: the interpreter of an environment that has it.
Hooke and the peers take turns, `rounds` times; the ratio is of medians, to Hooke in the precision that it chooses for
features itself (`auto`: bfloat16 where the processor multiplies it fast). Peers are run by `bench/train_peer.py`, with
what their own trainers do on a batch. --quality trains to the end in float32 and with features compared in bfloat16,
and says how many of the chosen features differ and what is explained in the end.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import hooke  # noqa: F401  (before torch: it says how threads wait)

import torch  # isort: skip

from hooke.dictionaries.fit import Fit, Place, advance, finish, start
from hooke.dictionaries.kinds import When
from hooke.dictionaries.kinds.topk import TopK
from hooke.kernels import exact_products
from hooke.methods.train.asked import rough_of
from hooke.sites import Site

WIDTH, FEATURES, K, BATCH = 576, 9216, 32, 4096
SITE = Site("resid_post", 10)


def activations() -> torch.Tensor:
    """Four batches, as `bench/train_peer.py` makes them."""
    torch.manual_seed(0)
    return torch.randn(4 * BATCH, WIDTH) @ (torch.randn(WIDTH, WIDTH) / WIDTH**0.5) + torch.randn(WIDTH)


def begun(x: torch.Tensor, rough: torch.dtype, steps: int) -> Fit:
    place, when = Place((SITE,), (SITE,)), When(0, steps, BATCH)
    return start(TopK(k=K), [place], {SITE: x[:8192]}, n_features=FEATURES, when=when, rough=rough)


def ours(x: torch.Tensor, rough: torch.dtype, steps: int) -> list[float]:
    """Milliseconds of each step, after two that are not counted."""
    fit, took = begun(x, rough, 10**6), []
    with exact_products():
        for step in range(steps + 2):
            at = (step + 1) % 4 * BATCH
            began = time.perf_counter()
            advance(fit, {SITE: x[at : at + BATCH]}, tell=False)
            took.append(1000 * (time.perf_counter() - began))
    return took[2:]


def product(x: torch.Tensor, rough: torch.dtype, steps: int) -> list[float]:
    """Milliseconds of the product that scores all features on a batch: less than this takes nobody who makes it."""
    encoder, took = torch.randn(FEATURES, WIDTH).to(rough), []
    with exact_products():
        for step in range(steps + 2):
            at = step % 4 * BATCH
            began = time.perf_counter()
            x[at : at + BATCH].to(rough) @ encoder.T
            took.append(1000 * (time.perf_counter() - began))
    return took[2:]


def peer(name: str, python: str, steps: int) -> list[float]:
    script = Path(__file__).with_name("train_peer.py")
    done = subprocess.run([python, str(script), name, str(steps)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    return list(json.loads(done.stdout.splitlines()[-1])["ms"])


def quality(steps: int = 300) -> None:
    """The same training twice, on sums of random directions, as sparse as a dictionary can find."""
    generator = torch.Generator().manual_seed(1)
    directions = torch.randn(4000, WIDTH, generator=generator)

    def batch(seed: int) -> torch.Tensor:
        own = torch.Generator().manual_seed(seed)
        ids = torch.randint(4000, (BATCH, 24), generator=own)
        weights = 0.5 + torch.rand(BATCH, 24, generator=own)
        return torch.nn.functional.embedding_bag(ids, directions, per_sample_weights=weights, mode="sum")

    unseen, chosen = batch(10**6), []
    for rough in (torch.float32, torch.bfloat16):
        fit = begun(torch.cat([batch(1), batch(2)]), rough, steps)
        first = fit.kind.code(fit.blocks[0], batch(3) * fit.scale[SITE], fit.when).entries
        assert first is not None
        chosen.append(set((first.rows * FEATURES + first.ids).tolist()))
        for step in range(steps):
            advance(fit, {SITE: batch(100 + step)}, tell=False)
        (coder,) = finish(fit)
        made = coder.written(coder.dense({SITE: unseen}), {SITE: unseen})[SITE]
        left = float((unseen - made).square().sum() / (unseen - unseen.mean(0)).square().sum())
        print(f"{str(rough).split('.')[1]:9s} explains {1 - left:.4f} after {steps} steps")
    print(f"of the features that fire at first {len(chosen[0] & chosen[1]) / len(chosen[0]):.4f} are the same")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", action="append", default=[])
    parser.add_argument("--quality", action="store_true")
    args = parser.parse_args()
    x, took = activations(), dict[str, list[float]]()
    own = rough_of("auto", x.device)
    rounds = {f"Hooke, {str(rough).split('.')[1]}": rough for rough in (torch.float32, own)}  # the last is its choice
    ours_by = list(rounds)[-1]
    for _ in range(args.rounds):
        for name, rough in rounds.items():
            took.setdefault(name, []).extend(ours(x, rough, args.steps))
        took.setdefault("the dense product alone", []).extend(product(x, own, args.steps))
        for given in args.peer:
            name, _, python = given.partition("=")
            took.setdefault(name, []).extend(peer(name, python, args.steps))
    base = statistics.median(took[ours_by])
    for name, all_ms in took.items():
        ms = statistics.median(all_ms)
        print(
            f"{name:22s} {ms:8.0f} ms a step ({min(all_ms):.0f} to {max(all_ms):.0f}), {1000 * BATCH / ms:8,.0f} "
            f"tokens/s; {ours_by} is {ms / base:.2f} times as fast"
        )
    if args.quality:
        quality()


if __name__ == "__main__":
    sys.exit(main())
