"""Patching speed: every (layer, position) of the residual stream of a 12-token pair, against plain batched hooks.

    python bench/patch.py [--model NAME] [--repeats 3] [--every N] [--threads N] [--peer-python PATH --peer NAME ...]

Everything is timed in one run, in turn, and in seconds of processor time as well as on the clock, so that ratios hold
on a busy machine. Two pairs: one whose prompts differ in their first token, so that every patch has to be run, and one
that differs in the eighth, where patches of the tokens before change nothing and are not run. The peer is
TransformerLens (`--peer transformer_lens`) or nnsight (`--peer nnsight`), run by `bench/patch_peer.py` in its own
environment.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

import hooke
from hooke.methods.attribute_gradients import atp
from hooke.methods.metrics import logit_difference
from hooke.methods.patch import sweep
from hooke.methods.patch_places import find_places
from hooke.model import Model, Tokens
from hooke.model.packed import record

PROMPT = "John and Mary went to the store, John gave a drink to"
LENGTH = 12
CHANGED = {"first token": 0, "eighth token": 7}


def plain(model: Model, clean: Tensor, corrupt: Tensor, ids: list[int], point: str, every: int) -> Tensor:
    """Batched hooks on the unmodified model: one batch of all positions (or heads) a layer, whole passes."""
    hf, blocks = model.hf, model.hf.model.layers  # type: ignore[union-attr]
    heads, n_pos = model.parts.n_heads, clean.shape[1]
    inputs = [b if point == "resid_pre" else b.self_attn.o_proj for b in blocks]  # type: ignore[union-attr]
    kept: dict[int, Tensor] = {}

    def first(args: tuple, kwargs: dict) -> Tensor:
        return args[0] if args else kwargs["hidden_states"]

    hooks = [
        module.register_forward_pre_hook(
            lambda _, args, kwargs, i=i: kept.__setitem__(i, first(args, kwargs)[0]), with_kwargs=True
        )
        for i, module in enumerate(inputs)
    ]
    with torch.no_grad():
        hf(clean, use_cache=False)
    for hook in hooks:
        hook.remove()
    count = n_pos if point == "resid_pre" else heads
    out, row = torch.zeros(len(inputs), count), torch.arange(count)
    for layer in range(0, len(inputs), every):

        def put(_: object, args: tuple, kwargs: dict, layer: int = layer) -> tuple:
            x = first(args, kwargs).clone()
            if point == "resid_pre":
                x[row, row] = kept[layer]
            else:
                y = x.unflatten(-1, (heads, -1))
                y[row, :, row] = kept[layer].unflatten(-1, (heads, -1)).transpose(0, 1)
            return ((x, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": x})

        hook = inputs[layer].register_forward_pre_hook(put, with_kwargs=True)
        with torch.no_grad():
            logits = hf(corrupt.expand(count, -1), use_cache=False).logits
        hook.remove()
        out[layer] = logits[:, -1, ids[0]] - logits[:, -1, ids[1]]
    return out


def ours(model: Model, clean: Tokens, corrupt: Tokens, ids: list[int], point: str) -> Tensor:
    """All patches with Hooke; heads at all their positions together."""
    places = find_places(model, point)
    reads = places[0].reads()
    good, bad = record(model, clean, reads), record(model, corrupt, reads)
    everywhere = torch.arange(clean.ids.shape[1])
    source = [[x.clone() for x in place.values(good.acts)] for place in places]
    at = everywhere if point == "resid_pre" else None
    found = sweep(model, bad, places, [source], everywhere, at, logit_difference(*ids)).values[0]
    return found if point == "resid_pre" else found[..., 0]


def estimated(model: Model, clean: Tokens, corrupt: Tokens, ids: list[int]) -> Tensor:
    """Attribution patching of the same places: two runs and one backward pass."""
    places = find_places(model, "resid_pre")
    good, bad = record(model, clean, places[0].reads()), record(model, corrupt, places[0].reads())
    return torch.stack(atp(model, bad, places, [places[0].values(good.acts)], logit_difference(*ids))[0])


def spent(call: Callable[[], Tensor]) -> tuple[float, float, Tensor]:
    """Seconds of processor time, seconds on the clock, and what the call gives."""
    cpu, wall = time.process_time(), time.perf_counter()
    out = call()
    return time.process_time() - cpu, time.perf_counter() - wall, out


def compare(model: Model, clean: Tensor, corrupt: Tensor, ids: list[int], repeats: int, every: int) -> None:
    """Both in turn, and what attribution patching of the same places takes."""
    pair, n_layers = (model.tokens(clean), model.tokens(corrupt)), model.parts.n_layers
    share = n_layers / len(range(0, n_layers, every))
    for point in ("resid_pre", "z"):
        a, b = [], []
        for _ in range(repeats):
            a.append(spent(partial(ours, model, *pair, ids, point)))
            b.append(spent(partial(plain, model, clean, corrupt, ids, point, every)))
        cpu, wall = (statistics.median(y[i] * share / x[i] for x, y in zip(a, b, strict=True)) for i in (0, 1))
        off = float((a[0][2] - b[0][2])[::every].abs().max())
        print(
            f"  {b[0][2].numel()} patches of {point}: plain batched hooks {min(y[0] for y in b) * share:.2f} s, hooke "
            f"{min(x[0] for x in a):.2f} s of processor time: {cpu:.1f} times as fast ({wall:.1f} by the clock); "
            f"largest difference {off:.1e}"
        )
    times = [spent(partial(estimated, model, *pair, ids)) for _ in range(repeats)]
    print(f"  attribution patching of the residual stream: {min(t[0] for t in times):.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=None)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--every", type=int, default=1, help="time plain hooks on every n-th layer only, and multiply")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--peer-python")
    parser.add_argument("--peer", default="transformer_lens", choices=("transformer_lens", "nnsight"))
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    model = hooke.load(args.model)
    clean = model.tokens(PROMPT).ids[:, -LENGTH:]
    ids = [model.token(" Mary"), model.token(" John")]
    load = Path("/proc/loadavg").read_text().split()[0] if Path("/proc/loadavg").exists() else "?"
    print(f"{model.name}, {clean.shape[1]} tokens, {torch.get_num_threads()} threads, load {load} at the start")
    for name, position in CHANGED.items():
        corrupt = clean.clone()
        corrupt[0, position] = ids[0] if int(clean[0, position]) != ids[0] else ids[1]
        print(f"a pair that differs at the {name}")
        compare(model, clean, corrupt, ids, args.repeats, args.every)
    if args.peer_python:
        peer = Path(__file__).with_name("patch_peer.py")
        folder = str(model.hf.name_or_path)
        done = subprocess.run(
            [args.peer_python, str(peer), args.peer, folder, PROMPT, str(LENGTH), str(torch.get_num_threads())],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            print(f"{args.peer} failed: {done.stderr.strip().splitlines()[-1:]}")
        else:
            print(f"{args.peer}: {json.loads(done.stdout.splitlines()[-1])}")


if __name__ == "__main__":
    main()
