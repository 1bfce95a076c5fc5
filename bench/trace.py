"""Seconds and memory of a trace, stage by stage, against plain forward passes and circuit-tracer.

    python bench/trace.py [--model NAME] [--nodes 1000] [--long 0] [--peer-python PATH [--peer-model FOLDER]]

Everything is timed in one run, in turn, so that ratios hold on a busy machine. `--peer-python` is the
interpreter of an environment with circuit-tracer (0.5.0 needs nnsight 0.6.x); `bench/circuit_tracer_peer.py`
then attributes a graph of the same number of nodes there. `--long N` adds a prompt of N tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

PROMPT = "When John and Mary went to the store, John gave a drink to"


def rss_mb() -> float:
    """Peak resident memory of this process."""
    scale = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def whole_command(arguments: list[str]) -> tuple[float, dict[str, float]]:
    """Wall time of `hooke trace … --json` as a person would run it, and its stages."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "hooke", "trace", PROMPT, "--json", *arguments], capture_output=True, check=True
    )
    return time.perf_counter() - start, json.loads(done.stdout)["seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=None)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--long", type=int, default=0)
    parser.add_argument("--peer-python")
    parser.add_argument("--peer-model", help="the model's folder as the peer reads it")
    args = parser.parse_args()

    start = time.perf_counter()
    import torch

    import hooke
    from hooke.dictionaries import neurons
    from hooke.methods.metric import Metric
    from hooke.methods.trace.coded import encode
    from hooke.methods.trace.counterfactuals import baselines
    from hooke.methods.trace.edges import edges, readers
    from hooke.methods.trace.select import relp, units_at
    from hooke.model import held_view, live_view

    imports = time.perf_counter() - start
    start = time.perf_counter()
    model = hooke.load(args.model)
    loading = time.perf_counter() - start
    after_load = rss_mb()
    tokens = model.tokens(PROMPT)
    threads = torch.get_num_threads()
    print(f"{tokens.ids.shape[1]} tokens, {args.nodes} nodes, {threads} threads, torch {torch.__version__}")
    print(f"imports {imports:.2f} s, load from the cache {loading:.2f} s, peak memory after load {after_load:.0f} MB")

    basis = neurons(model)
    view = held_view(model, tokens)
    coded = encode(view, basis)
    based = baselines(model, tokens, [], basis, view.dtype)
    metric = Metric(int(view.logits.argmax()), None, model.parts.softcap)
    scores = relp(view, coded, metric, based)

    def graph(count: int, form: str) -> None:
        drawn_in = view if form == "held" else live_view(model, view)
        kept = units_at(coded, strongest(scores, count), based)
        rows = readers(drawn_in, coded, kept).join(metric.row(view))
        edges(drawn_in, coded, kept, rows, based if form == "live" else ())

    def plain() -> None:
        with torch.no_grad():
            model.hf(input_ids=tokens.ids, use_cache=False)

    for count in (args.nodes // 4, args.nodes // 2, args.nodes, 2 * args.nodes):
        times: dict[str, list[float]] = {"plain": [], "held": [], "live": []}
        for _ in range(4):
            for name, seconds in times.items():
                start = time.perf_counter()
                plain() if name == "plain" else graph(count, name)
                seconds.append(time.perf_counter() - start)
        forward, held, live = (sorted(seconds)[1] for seconds in times.values())
        print(
            f"graph of {count:5d} nodes: live {live:6.2f} s, {1000 * live / count:5.2f} ms a node, "
            f"{live / forward:6.1f} plain forward passes of {1000 * forward:.0f} ms, {live / held:.2f} of the held view"
        )
        if count == args.nodes:
            ours = live
    name = ["--model", args.model] if args.model else []
    wall, stages = whole_command([*name, "--nodes", str(args.nodes)])
    print(f"whole command {wall:.1f} s: " + ", ".join(f"{k} {v:.2f}" for k, v in stages.items()))
    if args.long:
        long_prompt(model, basis, args.long, args.nodes)
    print(f"peak memory of this process {rss_mb():.0f} MB, {rss_mb() / after_load:.2f} times that after load")
    if args.peer_python:
        folder = args.peer_model or str(model.hf.name_or_path)
        for backend in ("nnsight", "transformerlens"):
            compare(args.peer_python, folder, args.nodes, backend, ours)


def strongest(scores, count: int):  # type: ignore[no-untyped-def]
    """Which entries of the codes have the largest scores."""
    import torch

    return torch.cat([s.abs() for s in scores]).topk(count).indices


def compare(python: str, folder: str, nodes: int, backend: str, ours: float) -> None:
    """Run circuit-tracer in its own environment and print its seconds as multiples of ours."""
    peer = Path(__file__).with_name("circuit_tracer_peer.py")
    done = subprocess.run(
        [python, str(peer), folder, str(nodes), PROMPT, backend],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    if done.returncode:
        print(f"circuit-tracer ({backend}) failed: " + done.stderr.strip().splitlines()[-1])
        return
    theirs = json.loads(done.stdout.strip().splitlines()[-1])
    print(
        f"circuit-tracer ({backend}): build {theirs['build']:.1f} s, graph of {theirs['nodes']} features "
        f"{theirs['graph']:.1f} s: {theirs['graph'] / ours:.1f} times ours, "
        f"{(theirs['graph'] + theirs['build']) / ours:.1f} times with its build"
    )


def long_prompt(model, basis, length: int, nodes: int) -> None:  # type: ignore[no-untyped-def]
    """One graph on a long prompt: seconds for each kept node against one forward pass of that length."""
    import torch

    from hooke.methods.metric import Metric
    from hooke.methods.trace.coded import encode
    from hooke.methods.trace.counterfactuals import passages, run_baseline
    from hooke.methods.trace.edges import edges, readers
    from hooke.methods.trace.select import relp, units_at
    from hooke.model import Tokens, held_view, live_view

    ids = passages(model, model.tokens(torch.zeros(1, length, dtype=torch.long) + 1), 2)
    one = Tokens(ids[0][None], torch.ones(1, length, dtype=torch.bool))
    start = time.perf_counter()
    with torch.no_grad():
        model.hf(input_ids=one.ids, use_cache=False)
    forward = time.perf_counter() - start
    start = time.perf_counter()
    view = held_view(model, one)
    coded = encode(view, basis)
    based = [run_baseline(model, "other", Tokens(ids[1][None], one.mask), basis, view.dtype)]
    metric = Metric(int(view.logits.argmax()), None, model.parts.softcap)
    kept = units_at(coded, strongest(relp(view, coded, metric, based), nodes), based)
    middle = time.perf_counter()
    live = live_view(model, view)
    edges(live, coded, kept, readers(live, coded, kept).join(metric.row(view)), based)
    done = time.perf_counter() - middle
    print(
        f"{length} tokens: forward {forward:.2f} s, view and select {middle - start:.1f} s, graph of {nodes} nodes "
        f"{done:.1f} s, {done / nodes / forward:.2f} forward passes a node, peak {rss_mb():.0f} MB"
    )


if __name__ == "__main__":
    main()
