"""Every kind of dictionary on a world whose features are known, beside the truth and what needs no training.

    python bench/synthetic.py [--size small|full] [--seeds 3] [--kinds …] [--samples N] [--device cpu|cuda]
                              [--out build/synthetic] [--write docs/synthetic.md] [--choose]

A seed is a world, what a dictionary starts from, and the samples that it sees; all kinds of a seed see the same. Scores
are on other samples. Learning rates and penalties (SETTINGS) were chosen on world 0, which is not reported: --choose
trains all that were tried there (CHOICES) and prints them. Each run is kept as a file in --out, so that a stopped one
goes on. Prints Markdown: means over seeds with 95 % intervals (Student's t), and differences to BatchTopK seed by seed.
`--size full` is SynthSAEBench-16k with its protocol (200 million samples), for a GPU.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import t as student

from hooke.dictionaries.coder import Coder
from hooke.dictionaries.fit import Place, advance, finish, start
from hooke.dictionaries.kinds import KINDS, When
from hooke.results import write_atomic
from hooke.sites import Site
from hooke.truth.world import (
    SIZES,
    Coded,
    World,
    batches,
    make_world,
    matched,
    oracle_scores,
    principal,
    probes,
    random_directions,
    scores,
)

SITE = Site("resid_post", 0)  # a name for what has no model
FIRST = 8192  # samples that scales and offsets are set by
MARKS = ("<!-- synthetic -->", "<!-- /synthetic -->")


class Protocol(NamedTuple):
    samples: int
    batch: int
    judged: int  # samples that scores are of
    told: int  # samples that probes are fitted on


PROTOCOLS = {
    "small": Protocol(samples=1_000_000, batch=256, judged=100_000, told=1_000_000),
    "full": Protocol(samples=200_000_000, batch=1024, judged=500_000, told=5_000_000),
}


class Setting(NamedTuple):
    """A kind with its numbers; k is the world's where the kind has one."""

    kind: str
    lr: float
    own: Mapping[str, Any] = {}

    def __str__(self) -> str:
        own = [f"{name} {value}" for name, value in self.own.items()]
        return ", ".join([f"lr {self.lr:g}", *own])


OWN, EQUAL = "Each kind as it does best on world 0", "One learning rate for all, as in the published protocol"
RECORD = {"step": 0.5, "first": 12}
SETTINGS: dict[str, dict[str, list[Setting]]] = {
    "small": {
        OWN: [
            Setting("relu", 1e-3, {"l1": 4.0}),
            Setting("gated", 2.5e-4, {"l1": 0.4}),
            Setting("topk", 2.5e-4),
            Setting("batchtopk", 2.5e-4),
            Setting("jumprelu", 2.5e-4, {"target": 6.0, "l0": 1.0}),
            Setting("jumprelu-tanh", 5e-4, {"l0": 40.0}),
            Setting("matryoshka", 1e-3),
            Setting("record", 5e-4, RECORD),
        ],
        EQUAL: [
            Setting("topk", 2e-3), Setting("batchtopk", 2e-3), Setting("matryoshka", 2e-3),
            Setting("record", 2e-3, RECORD),
        ],
    },
    "full": {
        EQUAL: [
            Setting("topk", 3e-4), Setting("batchtopk", 3e-4), Setting("matryoshka", 3e-4),
            Setting("record", 3e-4, {"prefixes": (32, 128, 512, 1024, 2048), "first": 80}),
        ],
    },
}  # fmt: skip
CHOICES = [
    *(Setting("relu", lr, {"l1": l1}) for lr in (5e-4, 1e-3) for l1 in (3.0, 4.0)),
    *(Setting("gated", lr, {"l1": l1}) for lr in (1.25e-4, 2.5e-4, 5e-4) for l1 in (0.35, 0.45)),
    *(Setting("topk", lr) for lr in (1.25e-4, 2.5e-4, 5e-4)),
    *(Setting("batchtopk", lr) for lr in (1.25e-4, 2.5e-4, 5e-4, 1e-3)),
    *(Setting("jumprelu", lr, {"target": 6.0, "l0": l0}) for lr in (2.5e-4, 1e-3) for l0 in (0.1, 1.0)),
    *(Setting("jumprelu-tanh", lr, {"l0": l0}) for lr in (2.5e-4, 5e-4, 1e-3) for l0 in (2.5, 5.0, 10.0)),
    *(Setting("jumprelu-tanh", lr, {"l0": l0}) for lr in (2.5e-4, 5e-4) for l0 in (20.0, 40.0)),
    *(Setting("matryoshka", lr) for lr in (2.5e-4, 5e-4, 1e-3)),
    *(Setting("record", lr, {"step": 0.5, "first": 12}) for lr in (2.5e-4, 5e-4, 1e-3)),
    *(Setting("record", 5e-4, {"step": step, "first": 12}) for step in (0.25, 0.75, 1.0)),
    *(Setting("record", 5e-4, {"step": 0.5, "first": first}) for first in (6, 9)),
]


def trained(world: World, setting: Setting, protocol: Protocol, seed: int) -> tuple[Coder, float]:
    """A dictionary, and how many samples a second it took."""
    own = dict(setting.own)
    if hasattr(KINDS[setting.kind], "k"):
        own.setdefault("k", world.size.k)
    steps = protocol.samples // protocol.batch
    first = next(batches(world, FIRST, FIRST, 4000 + seed))
    fit = start(
        KINDS[setting.kind](**own),
        [Place((SITE,), (SITE,))],
        {SITE: first},
        n_features=world.size.latents,
        when=When(0, steps, protocol.batch),
        lr=setting.lr,
        seed=seed,
        rough=torch.bfloat16 if world.device.type == "cuda" else torch.float32,
    )
    began = time.perf_counter()
    for x in batches(world, protocol.batch, steps * protocol.batch, 1000 + seed):
        advance(fit, {SITE: x})
    return finish(fit)[0], steps * protocol.batch / (time.perf_counter() - began)


Made = Callable[[], World]


def run(world: Made, setting: Setting, protocol: Protocol, seed: int) -> dict[str, float]:
    coder, speed = trained(world(), setting, protocol, seed)
    coded = Coded(coder.decoders[SITE], lambda x: coder.dense({SITE: x}), coder.offsets[SITE])
    return {**judged(world, lambda *_: coded, protocol, seed), "speed": speed}


Reference = Callable[[World, Protocol, int], Coded]
REFERENCES: dict[str, Reference | None] = {  # what needs no training, or is told the truth; seeds are of what is fitted
    "truth": None,
    "true directions": lambda world, _, seed: matched(world, world.size.latents, world.size.k, seed),
    "probes": lambda world, protocol, seed: probes(world, world.size.latents, protocol.told, seed),
    "components": lambda world, _, seed: principal(world, world.size.k, seed),
    "random directions": lambda world, _, seed: random_directions(world, world.size.latents, world.size.k, seed),
}


def judged(world: Made, make: Reference | None, protocol: Protocol, seed: int) -> dict[str, float]:
    if make is None:
        return oracle_scores(world(), world().size.latents, protocol.judged, 2000 + seed)
    decoder, encode, offset = make(world(), protocol, 3000 + seed)
    return scores(world(), decoder, encode, protocol.judged, 2000 + seed, offset)


def kept(folder: Path, name: str, what: object, make: Callable[[], dict[str, float]]) -> dict[str, float]:
    """A run from its file; made and written where there is none. what: everything that decides it."""
    text = json.dumps([name, what], sort_keys=True)
    path = folder / f"{name.replace(' ', '-')}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"
    if not path.exists():
        found = make()
        write_atomic(path, json.dumps(found).encode())
        print(f"done: {name}: F1 {found['f1']:.3f}, L0 {found['l0']:.2f}", flush=True)
    return json.loads(path.read_text())


Found = dict[str, list[dict[str, float]]]  # by name, by seed


def measure(args: argparse.Namespace, protocol: Protocol, settings: Sequence[Setting], seeds: Sequence[int]) -> Found:
    found: Found = {}
    for seed in seeds:
        what = [SIZES[args.size]._asdict(), protocol._asdict(), seed]
        world = cache(partial(make_world, args.size, seed, args.device))  # only if a run needs it
        for name, make in {} if args.choose else REFERENCES.items():
            made = kept(args.out, name, what, partial(judged, world, make, protocol, seed))
            found.setdefault(name, []).append(made)
        for setting in settings:
            own = [setting.lr, dict(setting.own)]
            made = kept(args.out, setting.kind, [*what, own], partial(run, world, setting, protocol, seed))
            found.setdefault(f"{setting.kind} ({setting})", []).append(made)
    return found


COLUMNS = {
    "f1": "F1", "precision": "precision", "recall": "recall", "mcc": "MCC", "uniqueness": "unique", "dead": "dead",
    "l0": "L0", "explained_variance": "explained", "shrinkage": "shrinkage",
}  # fmt: skip
ONLY_DETECTION = {"probes": ("f1", "precision", "recall", "dead", "l0")}
TITLES = {
    "truth": "the truth (most frequent features)",
    "true directions": "true directions, read linearly",
    "probes": "supervised probes",
    "components": "principal components, k largest",
    "random directions": "random directions, own thresholds",
}


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Mean and half the width of its 95 % interval."""
    mean = f"{np.mean(values):.{digits}f}"
    if len(values) < 2:
        return mean
    half = student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    return f"{mean} ± {half:.{digits}f}"


def table(found: Found, names: Mapping[str, str]) -> list[str]:
    """names: what a row is called, by its name in `found`."""
    lines = ["| | " + " | ".join(COLUMNS.values()) + " | samples/s |", "| --- |" + " --- |" * (len(COLUMNS) + 1)]
    for name, title in names.items():
        runs, told = found[name], ONLY_DETECTION.get(name, tuple(COLUMNS))
        cells = [spread([run[c] for run in runs], 2 if c == "l0" else 3) if c in told else "" for c in COLUMNS]
        speed = f"{np.mean([run['speed'] for run in runs]):,.0f}" if "speed" in runs[0] else ""
        lines.append(f"| {title} | " + " | ".join(cells) + f" | {speed} |")
    return lines


def differences(found: Found, settings: Sequence[Setting]) -> list[str]:
    """Of each kind to BatchTopK, seed by seed."""
    (base,) = (f"{s.kind} ({s})" for s in settings if s.kind == "batchtopk")
    lines = ["", "Less BatchTopK, seed by seed:", "", "| | F1 | MCC | explained |", "| --- | --- | --- | --- |"]
    for setting in settings:
        if setting.kind != "batchtopk":
            pairs = list(zip(found[f"{setting.kind} ({setting})"], found[base]))
            cells = [spread([a[c] - b[c] for a, b in pairs]) for c in ("f1", "mcc", "explained_variance")]
            lines.append(f"| {setting.kind} | " + " | ".join(cells) + " |")
    return lines


def report(args: argparse.Namespace, protocol: Protocol, found: Found, groups: Mapping[str, list[Setting]]) -> str:
    size = SIZES[args.size]
    lines = [
        f"World `{args.size}`: {size.n_features:,} features in {size.d} dimensions, {size.latents:,} latents, "
        f"k = {size.k}, {protocol.samples:,} samples in batches of {protocol.batch:,}, scored on {protocol.judged:,} "
        f"others; {len(next(iter(found.values())))} seeds, ± half of the 95 % interval over seeds.",
    ]
    if told := {name: title for name, title in TITLES.items() if name in found}:
        lines += ["", *table(found, told)]
    for title, settings in groups.items():
        kinds = [s.kind for s in settings]
        alone = {f"{s.kind} ({s})": s.kind if kinds.count(s.kind) == 1 else f"{s.kind} ({s})" for s in settings}
        lines += ["", f"{title}:", "", *table(found, alone)]
        if kinds.count("batchtopk") == 1 and len(kinds) == len(set(kinds)) > 1 and not args.choose:
            lines += differences(found, settings)
        lines += ["", "Settings: " + "; ".join(f"{s.kind}: {s}" for s in settings) + "."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=sorted(SIZES), default="small")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 1 on")
    parser.add_argument("--kinds", nargs="*", default=None, choices=sorted(KINDS))
    parser.add_argument("--samples", type=int, default=None)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("build/synthetic"))
    parser.add_argument("--write", type=Path, help="put the tables between the marks of this page")
    parser.add_argument("--choose", action="store_true")
    args = parser.parse_args()
    protocol = PROTOCOLS[args.size]
    if args.samples:
        protocol = protocol._replace(samples=args.samples)
    groups = {"Tried": CHOICES} if args.choose else SETTINGS[args.size]
    groups = {title: [s for s in group if s.kind in (args.kinds or KINDS)] for title, group in groups.items()}
    groups = {title: group for title, group in groups.items() if group}
    seeds = [0] if args.choose else range(1, args.seeds + 1)
    found = measure(args, protocol, [s for group in groups.values() for s in group], seeds)
    text = report(args, protocol, found, groups)
    print("\n" + text)
    if args.write:
        before, _, rest = args.write.read_text(encoding="utf-8").partition(MARKS[0])
        after = rest.partition(MARKS[1])[2]
        write_atomic(args.write, f"{before}{MARKS[0]}\n{text}{MARKS[1]}{after}".encode())


if __name__ == "__main__":
    main()
