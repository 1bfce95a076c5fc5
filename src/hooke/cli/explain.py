"""Verbs that explain one prompt: trace, lens, intervene."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from hooke.cli.common import (
    BasisOpt,
    ContrastIdOpt,
    DeviceOpt,
    DtypeOpt,
    HtmlOpt,
    JsonOpt,
    ModelOpt,
    OutOpt,
    PromptArg,
    SystemOpt,
    TargetIdOpt,
    TransferOpt,
    app,
    deliver,
    opened,
    token_of,
    writable,
    writable_page,
)
from hooke.errors import HookeError
from hooke.methods.progress import VERB_STAGES
from hooke.terminal import Stages, show_intervention, show_lens, show_trace

if TYPE_CHECKING:
    from hooke.methods.asking import Asked
    from hooke.model.model import Model
    from hooke.results import Result

FormOpt = Annotated[
    str | None,
    typer.Option(
        help="What edges are of: live, how far a node moves as its source comes from the counterfactual; held, what "
        "its source adds to it, with attention and norms as they are."
    ),
]


@app.command()
def trace(
    prompt: PromptArg,
    model: ModelOpt = None,
    target: Annotated[
        str | None, typer.Option(help='The token to explain, its leading space included: --target " Paris".')
    ] = None,
    target_id: TargetIdOpt = None,
    contrast: Annotated[str | None, typer.Option(help="Explain why the target rather than this token.")] = None,
    contrast_id: ContrastIdOpt = None,
    counterfactual: Annotated[
        list[str] | None,
        typer.Option(help="A prompt of equal token length with another answer; may be given several times."),
    ] = None,
    nodes: Annotated[int, typer.Option(help="How many neurons and links of attention to draw.", min=1)] = 300,
    basis: BasisOpt = None,
    transfer: TransferOpt = False,
    form: FormOpt = None,
    chat: Annotated[bool, typer.Option("--chat", help="PROMPT is a question: the model answers it first.")] = False,
    system: SystemOpt = None,
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
    hooke trace "The capital of France is" --basis transcoders
    hooke trace --chat "What is the capital of France?" --answer-token 1
    """
    writable(out)
    writable_page(html, out)
    wanted, other = token_of(target, target_id, "target"), token_of(contrast, contrast_id, "contrast")
    if not chat and (system is not None or answer_token is not None):
        raise HookeError("--system and --answer-token are for a question; add --chat, or leave them out")
    left_out = () if verify else ("verification", "interventions")
    with Stages([name for name in VERB_STAGES["trace"] if name not in left_out]) as stage:
        stage("load")
        from hooke.methods.trace import trace as run
        from hooke.model.load import load

        loaded = load(model, device=device, dtype=dtype)
        drawn: Any = opened(basis, loaded, transfer) if basis else "neurons"
        text: Any = prompt
        others: Any = counterfactual or None
        if chat:
            from hooke.methods.asking import like

            stage.hide()
            text = answered(loaded, prompt, system, answer_token, quiet=json)
            others = [like(loaded, text, each) for each in counterfactual or ()] or None
        result = run(
            loaded,
            text,
            target=wanted,
            contrast=other,
            counterfactual=others,
            nodes=nodes,
            basis=drawn,
            form=cast(Any, form),
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


def answered(model: Model, question: str, system: str | None, which: int | None, *, quiet: bool) -> Asked:
    """Let the model answer, and ask which token of the answer is to be explained."""
    from hooke.methods.asking import ask

    asked = ask(model, question, system=system)
    words = model.text(asked.answer)
    if not quiet:
        print("The model answers: " + "".join(f"[{i + 1}]{repr(w)[1:-1]}" for i, w in enumerate(words)))
    if which is None and sys.stdin.isatty() and not quiet:
        which = typer.prompt(f"Which token to explain (1 to {len(words)})", type=int, default=1)
    if which is not None and which > len(words):
        raise HookeError(f"the answer has {len(words)} tokens; --answer-token {which} is past its end")
    return asked.at(1 if which is None else which)
