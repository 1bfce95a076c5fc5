"""Trainings that one process and several make alike, and a program that makes them on several."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor

from hooke.dictionaries.feed import Feed, divided
from hooke.dictionaries.fit import Fit, Place, advance, finish, start
from hooke.dictionaries.kinds import KINDS, Kind, When
from hooke.dictionaries.kinds.gated import Gated
from hooke.dictionaries.kinds.jumprelu import JumpRelu, TanhJumpRelu
from hooke.dictionaries.kinds.relu import Relu
from hooke.dictionaries.kinds.topk import TopK
from hooke.dictionaries.processes import joined, spread_over
from hooke.dictionaries.spread import WHOLE, Axis, Spread
from hooke.errors import HookeError
from hooke.model.budget import Budget
from hooke.sites import Site

FEATURES, WIDTH, BATCH, STEPS = 64, 24, 96, 50
STREAM, IN, OUT, LATER = Site("resid_post", 1), Site("mlp_in", 1), Site("mlp_out", 1), Site("mlp_out", 2)
OWN = (Place((STREAM,), (STREAM,)),)
SKIP = (Place((IN,), (OUT,), skip=True),)
CROSS = (Place((STREAM,), (OUT, LATER)), Place((IN,), (LATER,)))


class Case(NamedTuple):
    kind: Kind
    places: tuple[Place, ...] = OWN
    alive: int = FEATURES  # the others begin too small to fire, and are dead after a tenth of all steps
    lr: float = 3e-3


CASES: dict[str, Case] = {
    "relu": Case(Relu(l1=0.3)),
    "gated": Case(Gated(l1=0.02)),
    "topk": Case(TopK(k=5)),
    "topk, many dead": Case(TopK(k=5), alive=40),
    "batchtopk": Case(KINDS["batchtopk"](k=5), alive=50),
    # at ten times this rate, rounding decides after 33 steps on which side of a threshold a value lies
    "jumprelu": Case(JumpRelu(target=5.0), lr=3e-4),
    "jumprelu, all": Case(JumpRelu(l0=0.7, target=None)),
    "jumprelu-tanh": Case(TanhJumpRelu(l0=0.3)),
    "matryoshka": Case(KINDS["matryoshka"](k=5), alive=50),
    "record": Case(KINDS["record"](k=4, tilt=0.3, sort=7), alive=50),
    "skip transcoder": Case(TopK(k=5), SKIP, alive=50),
    "skip transcoder, gated": Case(Gated(l1=0.02), SKIP),
    "cross-layer": Case(TopK(k=5), CROSS, alive=50),
    "cross-layer, batchtopk": Case(KINDS["batchtopk"](k=5), CROSS),
}


def rows(n: int, seed: int = 0) -> dict[Site, Tensor]:
    """Activations that a few directions make, the same for a seed."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(FEATURES, WIDTH, generator=torch.Generator().manual_seed(99))
    codes = (torch.rand(n, FEATURES, generator=generator) < 0.1) * (1 + torch.rand(n, FEATURES, generator=generator))
    x = codes @ directions + 0.5
    return {STREAM: x, IN: x, OUT: torch.tanh(x @ directions[:WIDTH]), LATER: torch.relu(x)}


def begun(case: Case, spread: Spread = WHOLE) -> Fit:
    made = start(case.kind, case.places, rows(256), n_features=FEATURES, when=When(0, STEPS, BATCH, spread), lr=case.lr)
    for block in made.blocks:
        here = torch.arange(FEATURES)[spread.dictionary.part(FEATURES)]
        block.params["encoder"].data[here >= case.alive] *= 0.02
    return made


def trained(
    case: Case, spread: Spread = WHOLE, *, half: bool = False
) -> tuple[list[dict[str, float]], dict[str, Tensor]]:
    """What is told of every step, and the tensors at the end; half: on the first half of every batch alone."""
    fit, told = begun(case, spread), []
    for step in range(STEPS):
        whole = rows(BATCH, seed=step + 1)
        told.append(
            advance(fit, {site: x[: BATCH // 2] if half else x[spread.data.part(BATCH)] for site, x in whole.items()})
        )
    return told, {f"{n}.{key}": x for n, coder in enumerate(finish(fit)) for key, x in coder.tensors().items()}


def launched(arguments: list[str], n: int) -> list[subprocess.CompletedProcess[str]]:
    """A Python program n times at once, as processes that can meet: how each ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = {"WORLD_SIZE": str(n), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    given["TORCH_CPP_LOG_LEVEL"] = "ERROR"  # as `hooke train` has it
    pipes: dict[str, Any] = {"text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, *arguments]
    begun = [subprocess.Popen(command, env=os.environ | given | {"RANK": str(i)}, **pipes) for i in range(n)]
    try:
        ends = [process.communicate(timeout=500) for process in begun]
    finally:
        for process in begun:
            process.kill()
    return [subprocess.CompletedProcess(command, p.returncode, *end) for p, end in zip(begun, ends)]


def ran(n: int, *arguments: str) -> None:
    """This program on n processes, all of which have to end well."""
    for end in launched([__file__, *arguments], n):
        assert end.returncode == 0, end.stderr[-3000:]


# ---- what the program does ----------------------------------------------------------------------


def train(world: Axis, out: Path, names: list[str], spreads: list[str]) -> None:
    """Cases over each spread: what is told of every step by every process, and the tensors at the end."""
    told: dict[str, Any] = {}
    for text in spreads:
        spread = spread_over(text, world, torch.device("cpu"), batch=BATCH, n_features=FEATURES)
        for name in names or CASES:
            told[f"{text} {name}"], tensors = trained(CASES[name], spread)
            if spread.leads:
                save_file(tensors, out / f"{text} {name}.safetensors")
    (out / f"told {world.rank}.json").write_text(json.dumps(told))


def feed(world: Axis, out: Path) -> None:
    """Two epochs of batches, with and without room for all shards: those of every process, and which shards it ran."""
    from hooke.dictionaries import feed as feeding

    run, made = feeding.shard, list[int]()

    def counted(model: Any, plan: Any, number: int, sites: Any) -> Any:
        made.append(number)
        return run(model, plan, number, sites)

    feeding.shard = counted
    for room in (0, 2**40):
        feeding.budget = lambda device, room=room: Budget(room, room, 1)
        spread = spread_over("data", world, torch.device("cpu"), batch=BATCH, n_features=FEATURES)
        each = fed(spread)
        made.clear()
        first = {f"first {site}": x.clone() for site, x in each.first().items()}
        batches = {f"{i} {site}": x.clone() for i, b in enumerate(each.batches()) for site, x in b.items()}
        later = {f"from 7 {i} {site}": x.clone() for i, b in enumerate(each.batches(7)) for site, x in b.items()}
        about = {"made": json.dumps(made), "shards": str(len(each.plan.shards))}
        save_file(first | batches | later, out / f"room {room} of {world.size} {world.rank}.safetensors", about)


def fed(spread: Spread) -> Feed:
    import hooke
    from hooke.harvest import plan

    text = Path(os.environ["SPREAD_TEXT"])
    model = hooke.load("glassllm", device="cpu")
    own, held = divided(plan(model, [str(text)], n_tokens=3000, context=64, shard_tokens=500, seed=1))
    return Feed(model, own, held, (Site("mlp_in", 1), Site("mlp_out", 1)), BATCH, 2, spread)


def fail(world: Axis, who: int, how: str) -> None:
    """Two sums, between which one process ends in some way."""

    def refuse() -> None:
        raise HookeError(f"process {who} has had enough")

    world.sum(torch.ones(3))
    if world.rank == who and how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if world.rank == who and how == "error":
        refuse()
    if how == "led":
        world.led(refuse)
    world.sum(torch.ones(3))


def command(work: Callable[[Axis], None]) -> int:
    """What the command line makes of some work: a line and a code."""
    try:
        with joined(exits=True) as world:
            work(world)
    except HookeError as error:
        print(f"hooke: {error}", file=sys.stderr)
        return 2
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def main(what: str, *rest: str) -> None:
    """One of the above."""
    if what == "train":
        names = list(filter(None, rest[1].split(";")))
        sys.exit(command(lambda world: train(world, Path(rest[0]), names, list(rest[2:]))))
    if what == "without sums":
        Axis.add = lambda self, several: None  # type: ignore[method-assign]
        sys.exit(command(lambda world: train(world, Path(rest[0]), ["topk", "record"], list(rest[1:]))))
    if what == "feed":
        sys.exit(command(lambda world: feed(world, Path(rest[0]))))
    if what == "killed":
        sys.exit(command(lambda world: fail(world, int(rest[0]), "killed")))
    for who, how in ((1, "error"), (0, "error"), (0, "led")):  # one after the other: they can meet again
        assert command(lambda world, who=who, how=how: fail(world, who, how)) == 2  # type: ignore[misc]
    assert command(lambda world: print(world.led(lambda: [1, "two", None]))) == 0


if __name__ == "__main__":
    main(*sys.argv[1:])
