"""Models trained to hold a program's variables in given parts (strict interchange training, 2407.14494).

A GPT-2 with layer norms and GELU learns a program's outputs (behaviour loss), its outputs when a part, or a single
edge, carries what it would carry on another input (interchange loss, against the compiled program run in the same
way), and that parts and edges outside the circuit can carry anything (strictness loss). The published recipe
interchanges nodes; edges are added here because the circuit is scored by its edges.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from hooke.errors import HookeError
from hooke.files import check_file, replacing
from hooke.methods.computation_graph import ends_of, node_named
from hooke.truth import mixed
from hooke.truth.plain import KEPT, Shape, load_kept, new_gpt2
from hooke.truth.programs.compiler import NUMBER, Compiled

STRICT = 0.4  # weight of the strictness loss
NUMERIC = 100.0  # weight of squared errors, so that 0.05 is a large one
MARGIN = 3.0  # compiled logits closer than this do not say which output is right
SAVE_EVERY = 250  # steps
RISE = 50  # steps until the learning rate is reached


@dataclass(frozen=True)
class Recipe:
    """How one model is trained. rows: plain rows of a step, and as many that test interchange and as many that
    test strictness. rate: the learning rate; it rises for the first steps, and falls to 0 over the last `tail` ones,
    which begin when the running mean of the loss is below `calm`, and at the latest so that they end after `steps`."""

    program: str
    n_heads: int = 4
    d_head: int = 12
    d_mlp: int = 96
    steps: int = 2500
    tail: int = 300
    calm: float = 0.05
    rows: int = 48
    rate: float = 4e-3
    seed: int = 0

    @property
    def sha256(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


class Bank(NamedTuple):
    """Interventions: masks (n, readers, writers) for the trained model and, for interchange, the compiled one."""

    low: Tensor
    high: Tensor | None


class Target(NamedTuple):
    """What a row should give after the beginning: ids or numbers (rows, pos - 1), and where that is defined."""

    value: Tensor
    defined: Tensor


class State(NamedTuple):
    """Where a training is: steps done, seconds used, the running mean of the loss, and the step at which it ends."""

    step: int
    seconds: float
    mean: float
    end: int


def renamed(edge: str, to: dict[str, str]) -> str:
    """An edge of the compiled model, between the parts that hold its ends in the trained one."""
    writer, reader = ends_of(edge)
    node, bracket, part = reader.partition("<")
    return f"{to.get(writer, writer)}->{to.get(node, node)}{bracket}{part}"


def alignment(made: Compiled, recipe: Recipe) -> dict[str, str]:
    """Which part of the trained model holds each part of the circuit: of the same layer; heads are drawn."""
    rng = random.Random(f"{recipe.program} {recipe.seed}")
    found: dict[str, str] = {}
    for layer in range(made.hf.config.n_layer):
        heads = sorted(name for name in made.homes if name.startswith(f"a{layer}."))
        if len(heads) >= recipe.n_heads:
            raise HookeError(f"{recipe.program} needs more than {len(heads)} heads in layer {layer}")
        found |= {name: f"a{layer}.h{head}" for name, head in zip(heads, rng.sample(range(recipe.n_heads), len(heads)))}
    return found


def new_model(made: Compiled, recipe: Recipe) -> Any:
    """The untrained model of a recipe."""
    return new_gpt2(
        Shape(
            d_vocab=len(made.words),
            n_pos=made.program.length + 1,
            n_layers=made.hf.config.n_layer,
            n_heads=recipe.n_heads,
            d_head=recipe.d_head,
            d_mlp=recipe.d_mlp,
        ),
        seed=recipe.seed,
    )


# ---- interventions -----------------------------------------------------------------------------


def _mask(names: Sequence[str], hf: Any) -> Tensor:
    """(readers, writers), 1 at the edges of these names."""
    return mixed.computation(hf).mask(names).float()


def _outgoing(node: str, hf: Any) -> list[str]:
    return [edge for edge in mixed.computation(hf).places if edge.startswith(f"{node}->")]


def node_swaps(made: Compiled, hf: Any, living: frozenset[str], to: dict[str, str]) -> tuple[list[str], Bank]:
    """Every node of the circuit but the input, taken whole from the source."""
    nodes = sorted({ends_of(edge)[0] for edge in living} - {"input"})
    lows = [_mask(_outgoing(to.get(node, node), hf), hf) for node in nodes]
    highs = [_mask(_outgoing(node, made.hf), made.hf) for node in nodes]
    return nodes, Bank(torch.stack(lows), torch.stack(highs))


def edge_swaps(made: Compiled, hf: Any, sets: Sequence[Sequence[str]], to: dict[str, str]) -> Bank:
    """Sets of the circuit's edges, named in the compiled model, taken from the source."""
    lows = [_mask([renamed(edge, to) for edge in edges], hf) for edges in sets]
    return Bank(torch.stack(lows), torch.stack([_mask(edges, made.hf) for edges in sets]))


def outside(hf: Any, living: frozenset[str], to: dict[str, str]) -> tuple[list[str], list[str]]:
    """The nodes and the edges of the trained model that are not in the circuit."""
    computation = mixed.computation(hf)
    true = {renamed(edge, to) for edge in living}
    inside = {end for edge in true for end in map(node_named, ends_of(edge))}
    return [n for n in computation.writers if n not in inside], [e for e in computation.places if e not in true]


def _strict_bank(hf: Any, living: frozenset[str], to: dict[str, str], rng: random.Random, nodes_only: bool) -> Bank:
    """For training: nodes outside one by one, random sets of edges outside, and all of them."""
    nodes, edges = outside(hf, living, to)
    single = [_mask(_outgoing(node, hf), hf) for node in nodes]
    if nodes_only:
        return Bank(torch.stack(single), None)
    several = [_mask([e for e in edges if rng.random() < p], hf) for p in (0.1, 0.3, 0.6, 1.0) for _ in range(24)]
    return Bank(torch.stack([*single, *several]), None)


def _interchange_bank(
    made: Compiled, hf: Any, living: frozenset[str], to: dict[str, str], rng: random.Random, nodes_only: bool
) -> Bank:
    """For training: each node as often as there are edges, each edge, and random sets of edges."""
    nodes = node_swaps(made, hf, living, to)[1]
    if nodes_only:
        return nodes
    edges = sorted(living)
    sets = [[edge] for edge in edges] + [[e for e in edges if rng.random() < 0.4] for _ in edges]
    found = edge_swaps(made, hf, sets, to)
    assert nodes.high is not None and found.high is not None
    times = max(1, len(edges) // len(nodes.low))
    low, high = (torch.cat([a.repeat(times, 1, 1), b]) for a, b in ((nodes.low, found.low), (nodes.high, found.high)))
    return Bank(low, high)


# ---- targets and losses ------------------------------------------------------------------------


def target(made: Compiled, logits: Tensor) -> Target:
    """What the compiled model says (rows, pos, d_vocab), as a target."""
    logits = logits[:, 1:]
    if made.numeric:
        return Target(logits[..., made.outputs[NUMBER]], torch.ones(logits.shape[:2], dtype=torch.bool))
    best = logits.topk(2, dim=-1)
    return Target(best.indices[..., 0], best.values[..., 0] - best.values[..., 1] > MARGIN)


def loss(made: Compiled, logits: Tensor, wanted: Target) -> Tensor:
    """The mean loss over the defined entries after the beginning."""
    logits = logits[:, 1:]
    if made.numeric:
        each = NUMERIC * (logits[..., made.outputs[NUMBER]] - wanted.value).pow(2)
    else:
        each = functional.cross_entropy(logits.transpose(1, 2), wanted.value, reduction="none")
    return (each * wanted.defined).sum() / wanted.defined.sum().clamp(min=1)


def right(made: Compiled, logits: Tensor, wanted: Target) -> Tensor:
    """(right, defined): how many entries are right (numbers within 0.05), and how many there are."""
    logits = logits[:, 1:]
    if made.numeric:
        good = (logits[..., made.outputs[NUMBER]] - wanted.value).abs() <= 0.05
    else:
        good = logits.argmax(-1) == wanted.value
    return torch.stack([(good & wanted.defined).sum(), wanted.defined.sum()])


# ---- training ----------------------------------------------------------------------------------


def train(
    made: Compiled,
    living: frozenset[str],
    recipe: Recipe,
    checkpoint: Path | None = None,
    *,
    nodes_only: bool = False,
) -> tuple[Any, dict[str, Any]]:
    """Train the model of a recipe. Returns it and what a record of it holds, without its measures.

    nodes_only: interchange whole nodes, as published, and not edges.

    checkpoint: a file in which the state is kept now and then, and from which an interrupted training goes on;
    it ends with the same weights as an uninterrupted one.
    """
    hf, to = new_model(made, recipe), alignment(made, recipe)
    rng = random.Random(recipe.seed)
    swaps = _interchange_bank(made, hf, living, to, rng, nodes_only)
    strict = _strict_bank(hf, living, to, rng, nodes_only)
    assert swaps.high is not None
    inputs = made.ids(made.program.inputs())
    parameters = [p.requires_grad_() for p in hf.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    state = _restore(checkpoint, recipe, hf, optimizer) or State(0, 0.0, 10.0, recipe.steps)
    start, n = time.perf_counter() - state.seconds, recipe.rows
    step, mean, end = state.step, state.mean, state.end
    while step < end:
        draw = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        ids = inputs[torch.randint(len(inputs), (3 * n,), generator=draw)]
        which = torch.randint(len(swaps.low), (n,), generator=draw)
        other = torch.randint(len(strict.low), (n,), generator=draw)
        with torch.no_grad():
            # plain rows, interchanged rows, and the base rows of the strictness test, which should stay as they are
            high = torch.cat([swaps.high[which], torch.zeros(n, *swaps.high.shape[1:])])
            wanted = target(made, mixed.mixed_logits(made.hf, ids, high.transpose(0, 1)))
        low = torch.cat([swaps.low[which], strict.low[other]])
        logits = mixed.mixed_logits(hf, ids, low.transpose(0, 1))
        parts = [loss(made, logits[i : i + n], Target(*(x[i : i + n] for x in wanted))) for i in (0, n, 2 * n)]
        total = parts[0] + parts[1] + STRICT * parts[2]
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.param_groups[0]["lr"] = recipe.rate * min(1.0, (step + 1) / RISE, (end - step) / recipe.tail)
        optimizer.step()
        step += 1
        mean += (float(total.detach()) - mean) / 30
        if mean < recipe.calm:
            end = min(end, step + recipe.tail)
        if checkpoint is not None and step % SAVE_EVERY == 0:
            _save(checkpoint, recipe, hf, optimizer, State(step, time.perf_counter() - start, mean, end))
    for parameter in parameters:
        parameter.requires_grad_(False)
    record = {
        "recipe": asdict(recipe),
        "recipe_sha256": recipe.sha256,
        "alignment": to,
        "nodes_only": nodes_only,
        "steps": step,
        "seconds": round(time.perf_counter() - start, 1),
    }
    return hf, record


def _save(path: Path, recipe: Recipe, hf: Any, optimizer: Any, state: State) -> None:
    """Weights, the optimizer's averages and where the training is, written whole or not at all."""
    tensors = dict(hf.named_parameters())
    for name, parameter in hf.named_parameters():
        moments = optimizer.state[parameter]
        tensors |= {f"{name}/first": moments["exp_avg"], f"{name}/second": moments["exp_avg_sq"]}
    about = {"recipe": recipe.sha256, "state": json.dumps(state)}
    with replacing(path) as temp:
        save_file({name: x.detach().contiguous() for name, x in tensors.items()}, temp, metadata=about)


def _restore(path: Path | None, recipe: Recipe, hf: Any, optimizer: Any) -> State | None:
    """Go on from a checkpoint of the same recipe, if there is one."""
    if path is None or not path.is_file():
        return None
    check_file(path)
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            if about.get("recipe") != recipe.sha256:
                return None
            state = State(*json.loads(about["state"]))
            with torch.no_grad():
                for name, parameter in hf.named_parameters():
                    parameter.copy_(file.get_tensor(name))
                    optimizer.state[parameter] = {
                        "step": torch.tensor(float(state.step)),
                        "exp_avg": file.get_tensor(f"{name}/first"),
                        "exp_avg_sq": file.get_tensor(f"{name}/second"),
                    }
            return state
    except (SafetensorError, OSError) as error:
        raise HookeError(f"{path} is damaged ({error}); delete it to begin again") from None


# ---- measuring ---------------------------------------------------------------------------------


def measure(
    made: Compiled, hf: Any, living: frozenset[str], to: dict[str, str], *, pairs: int = 64, seed: int = 1
) -> dict[str, float]:
    """How well a model holds the program, on fresh pairs of inputs; each a share of right entries.

    accuracy: plain outputs. interchange: with one node of the circuit from the source; edge_interchange: one true
    edge. strictness: with one node outside the circuit from the source; edge_strictness: one edge outside.
    least_*: that of the worst node or edge.
    """
    inputs = made.ids(made.program.inputs())
    draw = torch.Generator().manual_seed(seed)
    source, base = (inputs[torch.randint(len(inputs), (pairs,), generator=draw)] for _ in range(2))
    ids = torch.cat([source, base])
    with torch.no_grad():
        plain = target(made, made.hf(input_ids=ids).logits)
        good, count = right(made, hf(input_ids=ids).logits, plain).tolist()
    found = {"accuracy": good / count}
    none, edges = outside(hf, living, to)
    banks = {
        "interchange": node_swaps(made, hf, living, to)[1],
        "edge_interchange": edge_swaps(made, hf, [[edge] for edge in sorted(living)], to),
        "strictness": Bank(torch.stack([_mask(_outgoing(node, hf), hf) for node in none]), None),
        "edge_strictness": Bank(torch.stack([_mask([edge], hf) for edge in edges]), None),
    }
    for name, bank in banks.items():
        counts = torch.stack(list(_each(made, hf, bank, ids, Target(*(x[pairs:] for x in plain)))))
        shares = counts[:, 0] / counts[:, 1].clamp(min=1)
        found[name] = float(counts[:, 0].sum() / counts[:, 1].sum())
        found[f"least_{name}"] = float(shares[counts[:, 1] > 0].min())
    return {name: round(share, 5) for name, share in found.items()}


def _each(made: Compiled, hf: Any, bank: Bank, ids: Tensor, base: Target, at_once: int = 16) -> Iterator[Tensor]:
    """For each intervention how many entries are right, and how many there are."""
    n = len(ids) // 2
    for start in range(0, len(bank.low), at_once):
        low = bank.low[start : start + at_once]
        k = len(low)
        rows = torch.cat([ids, ids[n:].repeat(k - 1, 1)])
        wanted = Target(*(x.repeat(k, 1) for x in base))
        with torch.no_grad():
            if bank.high is not None:
                high = bank.high[start : start + at_once].transpose(0, 1).repeat_interleave(n, 1)
                wanted = target(made, mixed.mixed_logits(made.hf, rows, high)[n:])
            logits = mixed.mixed_logits(hf, rows, low.transpose(0, 1).repeat_interleave(n, 1))[n:]
        for i in range(0, k * n, n):
            yield right(made, logits[i : i + n], Target(*(x[i : i + n] for x in wanted)))


# ---- files -------------------------------------------------------------------------------------


@cache
def kept(kind: str = "siit") -> tuple[str, ...]:
    """The programs whose trained model comes with Hooke. kind: "siit", or "nodes" with nodes alone interchanged."""
    found = KEPT.glob(f"{kind}-*.json")
    return tuple(sorted(p.stem.removeprefix(f"{kind}-") for p in found if p.with_suffix(".safetensors").is_file()))


def load(name: str, made: Compiled, kind: str = "siit") -> tuple[Any, dict[str, Any]]:
    """The kept model of a program and its record. Raises HookeError if there is none or it is damaged."""
    return load_kept(f"{kind}-{name}", lambda record: new_model(made, Recipe(**record["recipe"])))
