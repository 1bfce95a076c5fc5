"""Tokens a second of a harvest, against a plain transformers forward that is cut off at the same layer.

    python bench/harvest.py [--model NAME] [--layer 10] [--tokens 4096] [--rounds 15]

The peer is transformers alone: the same pieces in the same batches, the blocks above taken out of the model, nothing
read or kept. Ways take turns in one process, so that ratios hold on a busy machine; a ratio is of each round's own
two times, and their median is given: by the clock, and by the processor's time, which others take less from. The rest
is what writing costs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=None)
    parser.add_argument("--layer", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()

    import torch

    import hooke
    from hooke.harvest import plan, shard, store
    from hooke.harvest.stream import batches_of
    from hooke.sites import Site

    model = hooke.load(args.model)
    start = time.perf_counter()
    context = min(256, model.parts.context)
    made = plan(model, ["docs"], n_tokens=args.tokens, context=context, shard_tokens=args.tokens)
    planned = time.perf_counter() - start
    batches = list(batches_of(model, made, 0))
    entries = sum(batch.ids.numel() for batch in batches)
    stack = next(m for m in model.hf.modules() if len(getattr(m, "layers", ())) == model.parts.n_layers)
    body, blocks = model.hf.base_model, stack.layers

    def plain() -> None:
        with torch.no_grad():
            for batch in batches:
                body(input_ids=batch.ids.to(model.device), use_cache=False)
        done(model.device)

    def with_hooks() -> None:
        kept = []
        handle = blocks[args.layer].register_forward_hook(
            lambda *a: kept.append(a[2] if torch.is_tensor(a[2]) else a[2][0])
        )
        try:
            plain()
        finally:
            handle.remove()

    def cut(work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            stack.layers = blocks[: args.layer + 1]
            try:
                work()
            finally:
                stack.layers = blocks

        return run

    def ours(*points: str) -> Callable[[], None]:
        sites = [Site(point, args.layer) for point in points]

        def run() -> None:
            shard(model, made, 0, sites)
            done(model.device)

        return run

    ways = {
        "plain forward, cut off": cut(plain),
        "the same, one plain hook": cut(with_hooks),
        "harvest of resid_post": ours("resid_post"),
        "harvest of mlp_in, mlp_out, resid_post": ours("mlp_in", "mlp_out", "resid_post"),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    worked: dict[str, list[float]] = {name: [] for name in ways}
    for work in ways.values():
        work()
    for _ in range(args.rounds):
        for name, work in ways.items():
            start, used = time.perf_counter(), time.process_time()
            work()
            times[name].append(time.perf_counter() - start)
            worked[name].append(time.process_time() - used)
    print(
        f"{model.name}, layer {args.layer}, {args.tokens} tokens in {len(made.document)} pieces and {len(batches)} "
        f"batches, {100 * (1 - args.tokens / entries):.1f} % padding, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}; planned in {planned:.2f} s"
    )
    floor = times["plain forward, cut off"]
    for name, seconds in times.items():
        clock, own = ratio(floor, seconds), ratio(worked["plain forward, cut off"], worked[name])
        rate = args.tokens / statistics.median(seconds)
        print(f"{name:40s} {rate:9,.0f} tokens/s, {clock} of plain, by processor time {own}")
    with tempfile.TemporaryDirectory() as folder:
        writing(shard(model, made, 0, [Site("resid_post", args.layer)]), Path(folder), statistics.median(floor))
        start = time.perf_counter()
        kept = store(model, made, [Site("resid_post", args.layer)], Path(folder, "store"))
        stored = time.perf_counter() - start
        start = time.perf_counter()
        kept.shard(0)
        read = time.perf_counter() - start
    print(f"store of resid_post: {args.tokens / stored:,.0f} tokens/s in all; read and checked again in {read:.2f} s")


def writing(found, folder: Path, forward: float) -> None:  # type: ignore[no-untyped-def]
    """What it costs to write a shard: on the disk for good, with its hashes, beside a plain file of as many bytes."""
    from hooke.harvest.tensors import write_tensors

    tensors = {str(site): x for site, x in found.values.items()}
    times = []
    for name in ("a", "b", "c"):
        start = time.perf_counter()
        size = write_tensors(folder / name, tensors, {}).size
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())
        times.append(time.perf_counter() - start)
        start = time.perf_counter()
        with (folder / f"{name}.plain").open("wb") as file:
            file.write(bytes(size))
            os.fsync(file.fileno())
        plain = time.perf_counter() - start
    spent = statistics.median(times)
    print(
        f"writing {size / 2**20:.0f} MB: {size / 2**20 / spent:.0f} MB/s hashed and on the disk (a plain file "
        f"{size / 2**20 / plain:.0f} MB/s), {100 * spent / forward:.1f} % of the plain forward"
    )


def ratio(floor: list[float], seconds: list[float]) -> str:
    """How fast one way is beside the floor, round by round: the median and the middle half."""
    found = sorted(a / b for a, b in zip(floor, seconds))
    quarter = len(found) // 4
    return f"{statistics.median(found):.3f} ({found[quarter]:.3f} to {found[-1 - quarter]:.3f})"


def done(device) -> None:  # type: ignore[no-untyped-def]
    """Wait until an accelerator has finished."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
