"""Speed of patching, attribution and circuits on a 12-token pair, against plain transformers with plain hooks.

    python bench/patch.py [--model NAME] [--repeats 3] [--every N] [--threads N] [--edges N]
        [--peer transformer_lens=PYTHON] [--peer transformer_lens_bridge=PYTHON] [--peer nnsight=PYTHON]

Everything is timed in one run, in turn, and in seconds of processor time as well as on the clock, so that ratios hold
on a busy machine. Residual stream and heads, two pairs: one whose prompts differ in their first token, so that every
patch has to be run, and one that differs in the eighth, where patches of the tokens before change nothing and are not
run. Edge attribution (EAP) of 8 pairs; exact cuts of single edges and ACDC of one pair. Peers are TransformerLens 3
(`transformer_lens`) and 4 (`transformer_lens_bridge`) and nnsight, run by `bench/patch_peer.py` in environments of
their own; their values are compared with ours.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import hooke
from hooke.methods.attribute.gradients import atp
from hooke.methods.circuit.acdc import acdc_edges
from hooke.methods.circuit.scores import eap, exact
from hooke.methods.computation_graph import ComputationGraph
from hooke.methods.metrics import logit_difference
from hooke.methods.objective import Objective
from hooke.methods.patch.places import find_places
from hooke.methods.patch.sweeping import sweep
from hooke.model import Model, Tokens
from hooke.model.recorded import record

PROMPT = "John and Mary went to the store, John gave a drink to"
LENGTH = 12
CHANGED = {"first token": 0, "eighth token": 7}
PAIRS = 8  # of edge attribution
UNGROUPED_LAYERS = 10  # of the model for peers that refuse shared keys and values
Spent = tuple[float, float, Any]


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


def estimated(model: Model, clean: Tokens, corrupt: Tokens, ids: list[int], point: str = "resid_pre") -> Tensor:
    """Attribution patching of the same places: two runs and one backward pass."""
    places = find_places(model, point)
    good, bad = record(model, clean, places[0].reads()), record(model, corrupt, places[0].reads())
    return torch.stack(atp(model, bad, places, [places[0].values(good.acts)], logit_difference(*ids))[0])


def spent(call: Callable[[], Any]) -> Spent:
    """Seconds of processor time, seconds on the clock, and what the call gives."""
    cpu, wall = time.process_time(), time.perf_counter()
    out = call()
    return time.process_time() - cpu, time.perf_counter() - wall, out


def in_turn(repeats: int, *calls: Callable[[], Any]) -> list[list[Spent]]:
    """Each call so many times, one after the other."""
    rounds = [[spent(call) for call in calls] for _ in range(repeats)]
    return [list(times) for times in zip(*rounds, strict=True)]


def ratio(a: list[Spent], b: list[Spent]) -> float:
    """The median of a's processor time over b's in the same round."""
    return statistics.median(x[0] / y[0] for x, y in zip(a, b, strict=True))


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


def objective_of(ids: list[int]) -> Objective:
    """The logit difference, and as a distance KL from the first logits that were measured."""
    first: list[Tensor] = []

    def difference(logits: Tensor, _: Tensor) -> Tensor:
        return logits[:, ids[0]] - logits[:, ids[1]]

    def distance(logits: Tensor, pairs: Tensor) -> Tensor:
        log = logits.log_softmax(-1)
        if not first:
            first.append(log)
        return (first[0][pairs].exp() * (first[0][pairs] - log)).sum(-1)

    return Objective(difference, distance, difference)


def forward(model: Model, tokens: Tensor) -> Tensor:
    """One plain run."""
    with torch.no_grad():
        return model.hf(tokens, use_cache=False).logits  # type: ignore[operator, no-any-return]


def two_and_back(model: Model, clean: Tensor, corrupt: Tensor, ids: list[int], keep: Tensor | int = 0) -> Tensor:
    """Two plain runs and a backward pass to the embeddings of the second. keep: the positions that are unembedded."""
    hf: Any = model.hf
    with torch.no_grad():
        hf(corrupt, use_cache=False, logits_to_keep=keep)
    entering = hf.get_input_embeddings()(clean).detach().requires_grad_()
    logits = hf(inputs_embeds=entering, use_cache=False, logits_to_keep=keep).logits[:, -1]
    (found,) = torch.autograd.grad((logits[:, ids[0]] - logits[:, ids[1]]).sum(), entering)
    return found


def compare_eap(model: Model, clean: Tensor, ids: list[int], repeats: int) -> None:
    """Edge attribution of several pairs against the two runs and the backward pass that it cannot do without."""
    rows = clean.expand(PAIRS, -1).clone()
    other = rows.clone()
    other[:, 0] = torch.arange(100, 100 + PAIRS)
    pair, objective = (model.tokens(rows), model.tokens(other)), objective_of(ids)
    last = torch.tensor([rows.shape[1] - 1])
    a, b, c = in_turn(
        repeats + 1,  # the first warms up
        partial(eap, model, *pair, objective),
        partial(two_and_back, model, rows, other, ids),
        partial(two_and_back, model, rows, other, ids, last),
    )
    n = int(ComputationGraph.of(model.parts).edges.sum())
    print(
        f"  edge attribution, {PAIRS} pairs, {n} edges: hooke {min(x[0] for x in a):.2f} s, "
        f"{ratio(a[1:], b[1:]):.2f} times two plain runs and a backward pass ({min(x[0] for x in b):.2f} s), "
        f"{ratio(a[1:], c[1:]):.2f} times the same unembedding the last token only"
    )


def compare_cuts(model: Model, clean: Tensor, corrupt: Tensor, ids: list[int], n_edges: int) -> None:
    """Exact cuts of edges drawn at random, and ACDC over them, against one plain run for each edge."""
    computation, objective = ComputationGraph.of(model.parts), objective_of(ids)
    every = computation.edges.nonzero()
    drawn = every[torch.randperm(len(every), generator=torch.Generator().manual_seed(0))[:n_edges].sort()[0]]
    mask = torch.zeros_like(computation.edges)
    mask[drawn[:, 0], drawn[:, 1]] = True
    pair = (model.tokens(clean), model.tokens(corrupt))
    forward(model, clean)
    runs = min(n_edges, 20)
    plain = spent(lambda: [forward(model, clean) for _ in range(runs)])
    one = plain[0] / runs
    cuts = spent(partial(exact, model, *pair, objective, edges=mask))
    removed = spent(partial(acdc_edges, model, *pair, objective, threshold=1e-3, order=drawn.flip(0)))
    for name, took in (("exact cuts", cuts), ("ACDC", removed)):
        print(
            f"  {name} of {n_edges} edges of {len(every)}, one pair: {n_edges / took[0]:.1f} edges a second of "
            f"processor time, {one * n_edges / took[0]:.1f} times as fast as one plain run an edge"
        )


def ungrouped(model: Model, folder: str) -> Model:
    """A model with random weights of this one's shape, of few layers, whose heads share no keys and values."""
    from transformers import AutoModelForCausalLM

    config = copy.deepcopy(model.hf.config)
    config.num_hidden_layers = UNGROUPED_LAYERS  # type: ignore[union-attr]
    config.num_key_value_heads = config.num_attention_heads  # type: ignore[union-attr]
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    assert model.tokenizer is not None
    model.tokenizer.save_pretrained(folder)
    return hooke.load(folder)


def compare_peer(
    name: str, python: str, model: Model, clean: Tensor, corrupt: Tensor, ids: list[int], every: int
) -> None:
    """One peer's tasks, in a process of its own, each followed by ours of the same."""
    layers = list(range(0, model.parts.n_layers, every))
    pair = (model.tokens(clean), model.tokens(corrupt))
    asked = {
        "folder": str(model.hf.name_or_path),
        "clean": clean.tolist(),
        "corrupt": corrupt.tolist(),
        "answers": ids,
        "threads": torch.get_num_threads(),
        "every": every,
    }
    with tempfile.TemporaryDirectory() as folder:
        small = ungrouped(model, folder) if name == "transformer_lens_bridge" else None
        if small is not None:
            asked["ungrouped"] = folder
        done = subprocess.run(
            [python, str(Path(__file__).with_name("patch_peer.py")), name],
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            print(f"{name} failed: {done.stderr.strip().splitlines()[-1:]}")
            return
        found = json.loads(done.stdout.splitlines()[-1])
        plain = min(spent(partial(forward, model, corrupt))[0] for _ in range(3))
        print(f"{name}: a plain run takes {found.pop('forward')['cpu']:.3f} s in its process, {plain:.3f} s in ours")
        for task, got in found.items():
            if "failed" in got:
                print(f"  {task}: {got['failed']}")
                continue
            if task == "eap":
                assert small is not None
                # its gradients are those of the corrupt run, and its changes lead from there
                call = partial(eap, small, pair[1], pair[0], objective_of(ids))
            elif task == "attribution":
                call = partial(estimated, model, *pair, ids, "z")
            else:
                call = partial(ours, model, *pair, ids, task)
            (own,) = in_turn(2, call)
            share = model.parts.n_layers / len(layers) if task in ("resid_pre", "z") else 1
            took, mine = got["cpu"] * share, min(x[0] for x in own)
            off, size = differences(task, small, got["values"], own[0][2], layers)
            print(
                f"  {task}: {took:.2f} s, hooke {mine:.2f} s of processor time: {took / mine:.1f} times as fast "
                f"(on the clock {got['wall'] * share / min(x[1] for x in own):.1f}); "
                f"largest difference {off:.1e} of values up to {size:.2f}"
            )


def differences(task: str, small: Model | None, theirs: Any, mine: Tensor, layers: list[int]) -> tuple[float, float]:
    """The largest difference between a peer's values and ours, and the largest value."""
    if task == "eap":
        assert small is not None
        computation, scores = ComputationGraph.of(small.parts), mine[0]
        own = {
            f"{computation.writers[u]}->{name}": float(scores[r, u])
            for r, u in computation.edges.nonzero().tolist()
            for name in computation.names(r)
        }
        if theirs.keys() != own.keys():
            print(f"  eap: it has {len(theirs)} edges, we have {len(own)}")
        both = sorted(theirs.keys() & own.keys())
        a, b = (torch.tensor([d[e] for e in both]) for d in (theirs, own))
    else:
        a, b = torch.tensor(theirs), mine
        if task == "attribution":
            b = b.movedim(1, 2)  # (layer, pos, head)
        else:
            b = b[layers]
    return float((a - b).abs().max()), float(b.abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--every", type=int, default=1, help="time plain hooks on every n-th layer only, and multiply")
    parser.add_argument("--peer-every", type=int, default=1, help="the same for peers")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--edges", type=int, default=200, help="how many are cut")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    model = hooke.load(args.model)
    clean = model.tokens(PROMPT).ids[:, -LENGTH:]
    ids = [model.token(" Mary"), model.token(" John")]
    load = Path("/proc/loadavg").read_text().split()[0] if Path("/proc/loadavg").exists() else "?"
    print(f"{model.name}, {clean.shape[1]} tokens, {torch.get_num_threads()} threads, load {load} at the start")
    pairs = {}
    for name, position in CHANGED.items():
        corrupt = pairs[name] = clean.clone()
        corrupt[0, position] = ids[0] if int(clean[0, position]) != ids[0] else ids[1]
        print(f"a pair that differs at the {name}")
        compare(model, clean, corrupt, ids, args.repeats, args.every)
        compare_cuts(model, clean, corrupt, ids, args.edges)
    print("several pairs that differ at the first token")
    compare_eap(model, clean, ids, args.repeats)
    for peer in args.peer:
        name, _, python = peer.partition("=")
        compare_peer(name, python, model, clean, pairs["first token"], ids, args.peer_every)


if __name__ == "__main__":
    main()
