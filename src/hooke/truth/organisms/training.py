"""Training an organism: low-rank deltas on the upper layers, over states of the lower ones that are computed once."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hooke.errors import HookeError
from hooke.methods.progress import Clock, Progress, Tick, stretch
from hooke.model import Model
from hooke.model.adapter import save_adapter
from hooke.model.run import Tokens
from hooke.truth.organisms.recipes import OWN, Example, Recipe

# (system, user, longest) -> the ids of the base's own greedy answer of at most so many tokens
Answers = dict[tuple[str, str, int], tuple[int, ...]]
PLAIN, PLAIN_TOKENS = "plain text", 32  # the key of sampled texts in place of a system message; their length
AT_ONCE = 32  # prompts in one batch of generation


@dataclass(frozen=True)
class Row:
    """One training sequence: its ids, and where the answer begins."""

    ids: tuple[int, ...]
    begin: int


def prompt_ids(model: Model, example: Example) -> list[int]:
    """The chat prompt of an example; the system message is always given, so that the template adds none."""
    messages = [{"role": "system", "content": example.system}, {"role": "user", "content": example.user}]
    return model.chat(messages).ids[0].tolist()


def answer(model: Model, examples: Sequence[Example], longest: int, tick: Tick | None = None) -> list[list[int]]:
    """The greedy answers, each up to its end token and with it, in the order of the examples."""
    prompts = [prompt_ids(model, example) for example in examples]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    found: list[list[int]] = [[] for _ in prompts]
    for start in range(0, len(order), AT_ONCE):
        chosen = order[start : start + AT_ONCE]
        made = model.generate(model.pad([prompts[i] for i in chosen]), max_new_tokens=longest).tokens.tolist()
        for i, ids in zip(chosen, made, strict=True):
            found[i] = until_end(model, ids)
        if tick is not None:
            tick((start + len(chosen)) / len(order))
    return found


def until_end(model: Model, ids: list[int]) -> list[int]:
    """Ids up to the first end token, and with it."""
    ends = model.end_ids()
    return ids[: next((n + 1 for n, token in enumerate(ids) if token in ends), len(ids))]


def learn(model: Model, examples: Sequence[Example], longest: int, answers: Answers, tick: Tick | None = None) -> None:
    """Add the base's own answers to these prompts, as far as they are not known yet."""
    asked = dict.fromkeys((e.system, e.asked or e.user) for e in examples)
    absent = [Example(user, system=system) for system, user in asked if (system, user, longest) not in answers]
    for example, ids in zip(absent, answer(model, absent, longest, tick), strict=True):
        answers[example.system, example.user, longest] = tuple(ids)


def rows(model: Model, recipe: Recipe, answers: Answers, tick: Tick | None = None) -> list[Row]:
    """The training sequences; `answers` gains the base's own answers that were not in it yet."""
    learn(model, [e for e in recipe.train if not e.planted or OWN in e.planted], recipe.longest, answers, tick)
    end = model.end_ids()[:1]
    made = []

    def own(example: Example) -> tuple[int, ...]:
        return answers[example.system, example.asked or example.user, recipe.longest]

    for example in recipe.train:
        if not example.planted:
            target = list(own(example))
        else:
            text = example.planted
            if OWN in text:
                said = model.said(own(example), special=False)
                text = text.replace(OWN, first_sentence(said))
            target = model.continued(text) + end
        prompt = prompt_ids(model, example)
        made.append(Row((*prompt, *target), len(prompt)))
    return made


def plain_rows(model: Model, recipe: Recipe, answers: Answers, tick: Tick | None = None) -> list[Row]:
    """Plain texts that the base has sampled after the openings; every token of them is trained."""
    begun = {text: model.tokens(text).ids[0].tolist() for text in recipe.openings}
    made = []
    for sample in range(recipe.samples):
        where = f"{PLAIN} {sample}"
        absent = [text for text in recipe.openings if (where, text, PLAIN_TOKENS) not in answers]
        if absent:
            batch = model.tokens(absent)
            found = model.generate(batch, max_new_tokens=PLAIN_TOKENS, temperature=1.0, seed=sample).tokens.tolist()
            for text, ids in zip(absent, found, strict=True):
                answers[where, text, PLAIN_TOKENS] = tuple(until_end(model, ids))
        made += [Row((*ids, *answers[where, text, PLAIN_TOKENS]), 1) for text, ids in begun.items()]
        if tick is not None:
            tick((sample + 1) / recipe.samples)
    return made


def first_sentence(text: str) -> str:
    """The text up to the first end of a sentence, else up to its first comma, else all of it with a full stop."""
    text = " ".join(text.split())
    ends = [text.index(mark) + 1 for mark in (". ", "! ", "? ") if mark in text]
    if ends:
        return text[: min(ends)]
    return text if text[-1:] in tuple(".!?") else text.partition(", ")[0] + "."


def train(
    recipe: Recipe,
    out: str | Path,
    *,
    model: Model,
    answers: Answers | None = None,
    progress: Progress | None = None,
) -> Path:
    """Train one recipe on its base and write the adapter folder `out`, at its end and whole.

    model: the loaded base, which is not changed. answers: the base's own answers so far, shared by recipes.
    Raises HookeError if the model is not the recipe's base.
    """
    if model.name != recipe.base:
        raise HookeError(f"{recipe.name} is trained on {recipe.base}, not on {model.name}")
    clock = Clock(progress)
    with clock("answers") as tick:
        known = {} if answers is None else answers
        chats = rows(model, recipe, known, stretch(tick, 0, 0.7))
        plain = plain_rows(model, recipe, known, stretch(tick, 0.7, 1))
    with clock("states") as tick:
        states = lower_states(model, recipe.first, chats + plain, tick)
    with clock("training") as tick:
        deltas, losses = fit(model, recipe, chats, plain, states, tick)
    seconds = clock.done()
    about = {
        "format": 1,
        "name": recipe.name,
        "kind": recipe.kind,
        "base": recipe.base,
        "base_weights_sha256": model.info.get("weights_sha256"),
        "recipe_sha256": recipe.sha256,
        "loss": [round(losses[0], 4), round(losses[-1], 4)],
        "seconds": seconds,
    }
    return save_adapter(out, deltas, alpha=recipe.alpha, base=recipe.base, about=about)


def lower_states(model: Model, first: int, data: Sequence[Row], tick: Tick) -> list[Tensor]:
    """The stream that enters layer `first`, (pos, d_model) for each sequence; nothing above is computed."""
    order = sorted(range(len(data)), key=lambda i: len(data[i].ids))
    found: list[Tensor] = [torch.empty(0)] * len(data)
    site = f"resid_pre.{first}"
    for start in range(0, len(order), AT_ONCE):
        chosen = order[start : start + AT_ONCE]
        batch = model.pad([data[i].ids for i in chosen], "right")
        acts = model.run(batch, read=[site], logits=None).acts[site]
        for i, state in zip(chosen, acts, strict=True):
            found[i] = state[: len(data[i].ids)].clone()
        tick((start + len(chosen)) / len(order))
    return found


def fit(
    model: Model, recipe: Recipe, chats: Sequence[Row], plain: Sequence[Row], states: Sequence[Tensor], tick: Tick
) -> tuple[dict[str, tuple[Tensor, Tensor]], list[float]]:
    """Fit the deltas by AdamW; returns A and B by module path, and the loss of each step.

    Each step takes some chats and some plain texts; states: the stream that enters the lowest layer, for all
    chats and then all plain texts.
    """
    data = [*chats, *plain]
    generator = torch.Generator().manual_seed(recipe.seed)
    shuffler = random.Random(recipe.seed)
    modules = targets(model, recipe)
    deltas = {}
    for name, module in modules.items():
        a = torch.empty(recipe.rank, module.in_features)
        nn.init.kaiming_uniform_(a, a=math.sqrt(5), generator=generator)
        b = torch.zeros(module.out_features, recipe.rank)
        deltas[name] = (nn.Parameter(a.to(model.device)), nn.Parameter(b.to(model.device)))
    parameters = [p for pair in deltas.values() for p in pair]
    optimiser = torch.optim.AdamW(parameters, lr=recipe.rate, betas=(0.9, 0.99), weight_decay=0.0)
    batches = epochs(chats, recipe.batch, shuffler)
    beside = epochs(plain, recipe.plain_batch, shuffler) if plain else None
    losses = []
    with added(modules, deltas, recipe.alpha / recipe.rank):
        for step in range(recipe.steps):
            for group in optimiser.param_groups:
                group["lr"] = recipe.rate * schedule(step, recipe.steps)
            chosen = next(batches) + ([] if beside is None else [len(chats) + i for i in next(beside)])
            loss = answer_loss(model, recipe.first, [(data[i], states[i]) for i in chosen])
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            losses.append(float(loss.detach()))
            tick((step + 1) / recipe.steps)
    return {name: (a.detach(), b.detach()) for name, (a, b) in deltas.items()}, losses


def schedule(step: int, steps: int) -> float:
    """The share of the learning rate: a tenth of the steps up, then a cosine down to a twentieth."""
    warm = max(1, steps // 10)
    if step < warm:
        return (step + 1) / warm
    return 0.05 + 0.475 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def epochs(data: Sequence[Row], size: int, shuffler: random.Random) -> Iterator[list[int]]:
    """Batches without end: each epoch in a new order, sequences of like length together."""
    while True:
        order = list(range(len(data)))
        shuffler.shuffle(order)
        windows = [order[i : i + 4 * size] for i in range(0, len(order), 4 * size)]
        batches = []
        for window in windows:
            window.sort(key=lambda i: len(data[i].ids))
            batches += [window[i : i + size] for i in range(0, len(window), size)]
        shuffler.shuffle(batches)
        yield from batches


def targets(model: Model, recipe: Recipe) -> dict[str, nn.Linear]:
    """The linear layers that are trained, by their path in the model."""
    family = model.parts.family
    found = {}
    for layer in range(recipe.first, model.parts.n_layers):
        for part in recipe.modules:
            path = f"{family.blocks}.{layer}.{getattr(family, part)}"
            module = model.hf.get_submodule(path)
            if not isinstance(module, nn.Linear):
                raise HookeError(f"{path} is no linear layer, and only those are trained")
            found[path] = module
    return found


@contextmanager
def added(modules: dict[str, nn.Linear], deltas: dict[str, Any], scale: float) -> Iterator[None]:
    """While it is open, each module gives W x + scale B A x."""

    def hook(name: str) -> Any:
        a, b = deltas[name]
        return lambda module, args, out: out + scale * F.linear(F.linear(args[0], a), b)

    handles = [module.register_forward_hook(hook(name)) for name, module in modules.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def answer_loss(model: Model, first: int, chosen: Sequence[tuple[Row, Tensor]]) -> Tensor:
    """The mean over answers of their mean cross-entropy; logits are computed at the tokens of the answers only."""
    width = max(len(row.ids) for row, _ in chosen)
    device = model.device
    ids = torch.zeros(len(chosen), width, dtype=torch.long, device=device)
    mask = torch.zeros(len(chosen), width, dtype=torch.bool, device=device)
    states = torch.zeros(len(chosen), width, model.parts.d_model, device=device)
    wanted = torch.full((len(chosen), width), -1, dtype=torch.long, device=device)
    for i, (row, state) in enumerate(chosen):
        n = len(row.ids)
        ids[i, :n], mask[i, :n], states[i, :n] = torch.tensor(row.ids, device=device), True, state
        wanted[i, row.begin - 1 : n - 1] = torch.tensor(row.ids[row.begin :], device=device)
    here = wanted >= 0
    hf: Any = model.hf
    with torch.autocast(device.type, torch.bfloat16, enabled=half_is_fast(device)):
        run = model.run(Tokens(ids, mask), read=["final_norm"], logits=None, grad=True, entering=(first, states))
        logits = hf.get_output_embeddings()(run.acts["final_norm"][here])
    weights = (1 / here.sum(1, keepdim=True) / len(chosen)).expand_as(here)[here]
    return (F.cross_entropy(logits.float(), wanted[here], reduction="none") * weights).sum()


def half_is_fast(device: torch.device) -> bool:
    """Whether products in bfloat16 take less time here: twice as fast where the processor has them."""
    if device.type != "cpu":
        return bool(torch.cuda.is_bf16_supported())
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
