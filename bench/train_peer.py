"""A peer's training step on the same activations, in its own environment: called by `bench/train.py`.

    python train_peer.py PEER STEPS        PEER: sae_lens, sparsify, sparsify-adam, dictionary_learning

One JSON line: milliseconds of each step, after two that are not counted.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("SPARSIFY_DISABLE_TRITON", "1")

import torch

WIDTH, FEATURES, K, BATCH = 576, 9216, 32, 4096


def batches() -> Callable[[], torch.Tensor]:
    """The same four batches in turn, as `bench/train.py` makes them."""
    torch.manual_seed(0)
    x = torch.randn(4 * BATCH, WIDTH) @ (torch.randn(WIDTH, WIDTH) / WIDTH**0.5) + torch.randn(WIDTH)
    turn = [0]

    def following() -> torch.Tensor:
        turn[0] = (turn[0] + 1) % 4
        return x[turn[0] * BATCH : (turn[0] + 1) * BATCH]

    return following


def sae_lens(following: Callable[[], torch.Tensor]) -> Callable[[], Any]:
    from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    config = SAETrainerConfig(
        n_checkpoints=0, checkpoint_path=None, save_final_checkpoint=False, total_training_samples=10**9,
        device="cpu", autocast=False, lr=1e-4, lr_end=1e-5, lr_scheduler_name="constant", lr_warm_up_steps=0,
        lr_decay_steps=0, n_restart_cycles=1, adam_beta1=0.9, adam_beta2=0.999, train_batch_size_samples=BATCH,
        dead_feature_window=1000, feature_sampling_window=2000, logger=LoggingConfig(log_to_wandb=False),
    )  # fmt: skip
    coder = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=WIDTH, d_sae=FEATURES, k=K, device="cpu"))
    trainer = SAETrainer(config, coder, iter(following, None))

    def step() -> None:
        trainer.maybe_reset_sparsity()
        trainer.step(following())
        trainer.n_training_steps += 1

    return step


def sparsify(following: Callable[[], torch.Tensor], adam: bool) -> Callable[[], Any]:
    from sparsify import SparseCoder, SparseCoderConfig
    from sparsify.sign_sgd import SignSGD

    config = SparseCoderConfig(num_latents=FEATURES, k=K)
    coder = SparseCoder(WIDTH, config, device="cpu", dtype=torch.float32)
    optimizer = torch.optim.Adam(coder.parameters(), lr=1e-4) if adam else SignSGD(coder.parameters(), lr=1e-4)

    def step() -> None:  # what its Trainer does on a batch
        x = following()
        coder.set_decoder_norm_to_unit_norm()
        coder(x=x, y=x).fvu.backward()
        coder.remove_gradient_parallel_to_decoder_directions()
        optimizer.step()
        optimizer.zero_grad()

    return step


def dictionary_learning(following: Callable[[], torch.Tensor]) -> Callable[[], Any]:
    from dictionary_learning.trainers.top_k import TopKTrainer

    trainer = TopKTrainer(
        steps=10**6, activation_dim=WIDTH, dict_size=FEATURES, k=K, layer=10, lm_name="x", device="cpu",
        warmup_steps=1000,
    )  # fmt: skip
    count = [0]

    def step() -> None:
        count[0] += 1
        trainer.update(count[0], following())

    return step


def main() -> None:
    peer, steps = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(int(os.environ.get("BENCH_THREADS", "2")))
    following = batches()
    if peer == "sae_lens":
        step = sae_lens(following)
    elif peer.startswith("sparsify"):
        step = sparsify(following, peer.endswith("adam"))
    else:
        step = dictionary_learning(following)
    for _ in range(2):
        step()
    took = []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        took.append(1000 * (time.perf_counter() - start))
    print(json.dumps({"peer": peer, "ms": took}))


if __name__ == "__main__":
    main()
