"""`hooke trace` of five tokens alone and beside one busy process, and why more cores help as little as they do.

    python bench/threads.py             the command as it is, with one thread, and with threads that spin (5 minutes)
    python bench/threads.py --rounds 1  half of that
    python bench/threads.py --why       which part of a trace the second thread takes over, and what waiting costs

Each round runs every way of waiting once, alone and beside a process that only counts, so that a change of the
machine falls on all of them. Say nothing of figures from a machine that did anything else meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROMPT = "The capital of France is"
BUSY = "while True: pass"
ALL = str(os.cpu_count() or 1)
# what the environment says in each way; the first is what a person gets
WAYS: dict[str, dict[str, str]] = {
    "as Hooke chooses": {},
    "one thread": {"OMP_NUM_THREADS": "1"},
    "all cores, spinning": {"OMP_NUM_THREADS": ALL, "GOMP_SPINCOUNT": "300000"},  # the default of libgomp
    "all cores, sleeping at once": {"OMP_NUM_THREADS": ALL, "GOMP_SPINCOUNT": "0"},
    "all cores, a short spin": {"OMP_NUM_THREADS": ALL},
}
SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def environment(way: dict[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    return {**kept, "HF_HUB_OFFLINE": "1", **way}


def once(way: dict[str, str], busy: int) -> dict[str, float]:
    """Seconds of the whole command and of the trace in it, CPU seconds, and the threads it took."""
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(busy)]
    try:
        time.sleep(0.5)
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "trace.json"
            command = [sys.executable, "-m", "hooke", "trace", PROMPT, "--out", str(out)]
            began, used = time.perf_counter(), os.times()
            subprocess.run(command, env=environment(way), check=True, stdout=subprocess.DEVNULL)
            seconds, now = time.perf_counter() - began, os.times()
            made = json.loads(out.read_text(encoding="utf-8"))
    finally:
        for other in others:
            other.kill()
            other.wait()
    cpu = now.children_user + now.children_system - used.children_user - used.children_system
    if busy:  # the counting process is a child too: what it used is not the command's
        cpu = float("nan")
    threads = made["provenance"]["threads"]["used"]
    return {"command": seconds, "trace": made["seconds"]["total"], "cpu": cpu, "threads": threads}


WHY = """
import os, time, hooke, torch
model = hooke.load()
hooke.trace(model, PROMPT)
marks = []
def note(stage, done):
    t = os.times()
    marks.append((stage, time.perf_counter(), time.thread_time(), time.process_time(), t.system))
hooke.trace(model, PROMPT, progress=note)
rows = {}
for (stage, *a), (_, *b) in zip(marks, marks[1:]):
    row = rows.setdefault(stage, [0.0] * 4)
    for i in range(4):
        row[i] += b[i] - a[i]
print(torch.get_num_threads(), "threads: seconds, CPU of the first thread, of the others, of the system")
for stage, (wall, first, all_, system) in rows.items():
    print(f"  {stage:14} {wall:6.2f} {first:6.2f} {all_ - first:6.2f} {system:6.2f}")
first, all_ = (sum(r[i] for r in rows.values()) for i in (1, 2))
print(f"  {'together':14} {sum(r[0] for r in rows.values()):6.2f} {first:6.2f} {all_ - first:6.2f}")
"""


def why() -> None:
    """The CPU time of the first thread is the least that a trace can take, however many others help it."""
    for name, way in WAYS.items():
        print(f"== {name}", flush=True)
        code = WHY.replace("PROMPT", repr(PROMPT))
        subprocess.run([sys.executable, "-c", code], env=environment(way), check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--why", action="store_true")
    args = parser.parse_args()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(f"{ALL} cores, load {load:.1f} at the start" + ("; NOT IDLE" if load > 0.5 else ""), flush=True)
    if args.why:
        why()
        return
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    for _ in range(args.rounds):
        for name, way in WAYS.items():
            for busy in (0, 1):
                if busy and name == "all cores, sleeping at once":
                    continue
                row = once(way, busy)
                found.setdefault((name, busy), []).append(row)
                where = "beside one busy" if busy else "alone"
                told = f"command {row['command']:5.1f} s, trace {row['trace']:5.1f} s, {row['threads']} threads"
                print(f"  {name}, {where}: {told}" + ("" if busy else f", CPU {row['cpu']:.1f} s"), flush=True)
    middle = {key: statistics.median(row["command"] for row in rows) for key, rows in found.items()}
    print("\nmedians of the whole command, seconds: alone, beside one busy process, ratio")
    for name in WAYS:
        alone, beside = middle[name, 0], middle.get((name, 1))
        print(f"  {name:28} {alone:5.1f}" + ("" if beside is None else f" {beside:5.1f} {beside / alone:5.2f}"))
    first = next(iter(WAYS))
    ratio = middle[first, 1] / middle[first, 0]
    print(f"\n{first}: {ratio:.2f} times its time alone (the aim: at most 1.3)")


if __name__ == "__main__":
    main()
