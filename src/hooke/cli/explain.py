"""Verbs that explain one prompt: trace, lens, intervene."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hooke.cli.common import (
    DeviceOpt,
    DtypeOpt,
    HtmlOpt,
    JsonOpt,
    ModelOpt,
    OutOpt,
    PromptArg,
    app,
    deliver,
    writable,
    writable_page,
)
from hooke.errors import HookeError
from hooke.methods.progress import VERB_STAGES
from hooke.terminal import Stages, show_intervention, show_lens, show_trace

if TYPE_CHECKING:
    from hooke.model.model import Model
    from hooke.model.run import Tokens
    from hooke.results import Result


@app.command()
def trace(
    prompt: PromptArg,
    model: ModelOpt = None,
    target: Annotated[
        str | None, typer.Option(help='The token to explain, its leading space included: --target " Paris".')
    ] = None,
    contrast: Annotated[str | None, typer.Option(help="Explain why the target rather than this token.")] = None,
    counterfactual: Annotated[
        list[str] | None,
        typer.Option(help="A prompt of equal token length with another answer; may be given several times."),
    ] = None,
    nodes: Annotated[int, typer.Option(help="How many (layer, neuron, position) to draw.", min=1)] = 1000,
    chat: Annotated[bool, typer.Option("--chat", help="PROMPT is a question: the model answers it first.")] = False,
    answer_token: Annotated[
        int | None, typer.Option(help="With --chat: which token of the answer to explain, from 1.", min=1)
    ] = None,
    verify: Annotated[bool, typer.Option("--verify/--no-verify", help="Test the graph in the live model.")] = True,
    seed: Annotated[int, typer.Option(help="Of the samples and controls.")] = 0,
    json: JsonOpt = False,
    out: OutOpt = None,
    html: HtmlOpt = None,
    device: DeviceOpt = "auto",
    dtype: DtypeOpt = "auto",
) -> None:
    """Which parts of the model produced the next token, and is it true?

    Draws the graph from the tokens through MLP neurons to the next token, then ablates and doubles the
    strongest nodes and groups in the live model and says which predictions came true.

    \b
    hooke trace "The capital of France is"
    hooke trace "The capital of France is" --contrast " Rome" --counterfactual "The capital of Italy is"
    hooke trace --chat "What is the capital of France?" --answer-token 1
    """
    writable(out)
    writable_page(html, out)
    left_out = () if verify else ("verification", "interventions")
    with Stages([name for name in VERB_STAGES["trace"] if name not in left_out]) as stage:
        stage("load")
        from hooke.methods.trace import trace as run
        from hooke.model.load import load

        loaded = load(model, device=device, dtype=dtype)
        text: Any = prompt
        others: Any = counterfactual or None
        wanted: str | int | None = target
        if chat:
            stage.hide()
            text, wanted, prefix = answered(loaded, prompt, answer_token, target, quiet=json)
            others = [with_answer(loaded, other, prefix) for other in counterfactual or ()] or None
        result = run(
            loaded,
            text,
            target=wanted,
            contrast=contrast,
            counterfactual=others,
            nodes=nodes,
            verify=verify,
            seed=seed,
            progress=stage,
        )
    deliver(result, json, out, show_trace, html)


@app.command()
def lens(
    prompt: PromptArg,
    model: ModelOpt = None,
    top: Annotated[int, typer.Option(help="How many tokens to keep at each place.", min=1)] = 5,
    json: JsonOpt = False,
    out: OutOpt = None,
    html: HtmlOpt = None,
    device: DeviceOpt = "auto",
    dtype: DtypeOpt = "auto",
) -> None:
    """What each layer would say next, at each position (the logit lens).

    \b
    hooke lens "The capital of France is"
    """
    writable(out)
    writable_page(html, out)
    with Stages(VERB_STAGES["lens"]) as stage:
        stage("load")
        from hooke.methods.lens import lens as run
        from hooke.model.load import load

        result = run(load(model, device=device, dtype=dtype), prompt, top=top, progress=stage)
    deliver(result, json, out, show_lens, html)


@app.command()
def intervene(
    file: Annotated[Path, typer.Argument(help="A trace that was saved with --out.", show_default=False)],
    nodes: Annotated[
        list[str] | None, typer.Argument(help="Ids of its neurons, as 12_345_3 (layer, neuron, position).")
    ] = None,
    group: Annotated[int | None, typer.Option(help="A group that its sentence names, from 1.", min=1)] = None,
    double: Annotated[bool, typer.Option("--double", help="Double them instead of switching them off.")] = False,
    controls: Annotated[int, typer.Option(help="How many random groups of equal size to compare with.", min=1)] = 5,
    seed: Annotated[int, typer.Option(help="Of the random groups.", min=0)] = 0,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="The model, if the trace's own is none of `hooke models`.")
    ] = None,
    json: JsonOpt = False,
    out: OutOpt = None,
    device: DeviceOpt = "auto",
    dtype: DtypeOpt = "auto",
) -> None:
    """Switch neurons of a trace off, or double them, and see what the model says next.

    \b
    hooke intervene france.json --group 1
    hooke intervene france.json 20_1313_4 25_77_4 --double
    """
    writable(out)
    from hooke.viewer.read import read_file

    traced = read_file(file)
    chosen = [*(nodes or ()), *grouped(traced, group)]
    name = model or known(traced)
    with Stages(VERB_STAGES["lens"]) as stage:
        stage("load")
        from hooke.methods.intervene import intervene as run
        from hooke.model.load import load

        loaded = load(name, device=device, dtype=dtype)
        stage("forward")
        op = "double" if double else "off"
        result = run(loaded, traced, chosen, op=op, controls=controls, seed=seed)
    deliver(result, json, out, show_intervention)


def grouped(traced: Result, number: int | None) -> list[str]:
    """The nodes of a group that the sentence of a trace names, from 1."""
    if number is None:
        return []
    groups = traced.payload.get("groups")
    found = [g["nodes"] for g in groups if isinstance(g, dict) and "nodes" in g] if isinstance(groups, list) else []
    if number > len(found):
        raise HookeError(f"this {traced.kind} names {len(found)} groups; --group {number} is past the last")
    return list(found[number - 1])


def known(traced: Result) -> str | None:
    """The model of a trace, if it is one of the known ones: a file must not choose what is fetched."""
    from hooke.model.zoo import known_models

    name = traced.provenance.get("model")
    if traced.kind == "trace" and name not in [row["name"] for row in known_models()]:
        raise HookeError(f"this trace was made with {str(name)[:100]!r}; give that model with --model")
    return name


def answered(
    model: Model, question: str, which: int | None, target: str | None, *, quiet: bool
) -> tuple[Tokens, str | int, list[int]]:
    """Let the model answer, and cut the prompt before the token of the answer that is to be explained."""
    import torch

    from hooke.model.run import Tokens

    prompt = model.chat(question)
    room = model.parts.context - prompt.ids.shape[1]
    if room < 1:
        raise HookeError("the question fills the model's context; shorten it")
    ids = model.generate(prompt, max_new_tokens=min(48, room)).tokens[0].tolist()
    words = model.text(ids)
    if not quiet:
        print("The model answers: " + "".join(f"[{i + 1}]{w}" for i, w in enumerate(words)))
    if which is None and sys.stdin.isatty() and not quiet:
        which = typer.prompt(f"Which token to explain (1 to {len(ids)})", type=int, default=1)
    which = which or 1
    if which > len(ids):
        raise HookeError(f"the answer has {len(ids)} tokens; --answer-token {which} is past its end")
    prefix = ids[: which - 1]
    whole = torch.cat([prompt.ids[0], torch.tensor(prefix, dtype=torch.long, device=prompt.ids.device)])[None]
    wanted = ids[which - 1] if target is None else target
    return Tokens(whole, torch.ones_like(whole, dtype=torch.bool)), wanted, prefix


def with_answer(model: Model, question: str, prefix: list[int]) -> Tokens:
    """A counterfactual question followed by the same beginning of an answer."""
    import torch

    from hooke.model.run import Tokens

    prompt = model.chat(question)
    ids = torch.cat([prompt.ids[0], torch.tensor(prefix, dtype=torch.long, device=prompt.ids.device)])[None]
    return Tokens(ids, torch.ones_like(ids, dtype=torch.bool))
