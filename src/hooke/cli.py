"""The command line: verbs mirror `methods/`. torch is imported after the arguments are parsed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import hooke
from hooke.errors import HookeError
from hooke.methods.progress import SHARES, VERB_STAGES
from hooke.terminal import Stages, show_intervention, show_lens, show_models, show_trace

if TYPE_CHECKING:
    from hooke.model.model import Model
    from hooke.model.run import Tokens
    from hooke.results import Result

INTERRUPTED = 130  # what typer makes of Ctrl-C
LARGE_FILE = 40 * 2**20  # bytes that take long to read

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Hooke, a microscope for language models: see which parts of a model produced its answer, and test it.",
)

PromptArg = Annotated[str, typer.Argument(help="The text to continue. Quote it.", show_default=False)]
ModelOpt = Annotated[
    str | None,
    typer.Option("--model", "-m", help="A name from `hooke models`, a folder, a .gguf file or a hub id."),
]
JsonOpt = Annotated[bool, typer.Option("--json", help="Print one Result as JSON on standard output, nothing else.")]
OutOpt = Annotated[Path | None, typer.Option("--out", "-o", help="Save here; tensors and graph file go beside it.")]
HtmlOpt = Annotated[Path | None, typer.Option("--html", help="Write the page here: one file that opens anywhere.")]
PortOpt = Annotated[int, typer.Option(help="Where to listen on this machine; 0 is any free port.", min=0, max=65535)]
BrowserOpt = Annotated[bool, typer.Option("--no-browser", help="Only print the link.")]
DeviceOpt = Annotated[str, typer.Option(help="cpu, cuda, or auto: CUDA if there is any.")]
DtypeOpt = Annotated[str, typer.Option(help="float32, bfloat16, float16, or auto: float32 on a CPU.")]


def main() -> None:
    """Run the command line; a HookeError is one line and exit code 2, Ctrl-C exit code 130."""
    try:
        app()
    except HookeError as error:
        print(f"hooke: {error}", file=sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as end:
        if isinstance(end, SystemExit) and end.code != INTERRUPTED:
            raise
        print("hooke: interrupted; nothing half-written was left", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        print(f"hooke {hooke.__version__}")
        raise typer.Exit


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
    writable_page(html)
    left_out = () if verify else ("verification", "interventions")
    with Stages([name for name in SHARES if name not in left_out]) as stage:
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
    writable_page(html)
    with Stages(VERB_STAGES["lens"]) as stage:
        stage("load")
        from hooke.methods.lens import lens as run
        from hooke.model.load import load

        result = run(load(model, device=device, dtype=dtype), prompt, top=top, progress=stage)
    deliver(result, json, out, show_lens, html)


@app.command()
def models(json: JsonOpt = False, out: OutOpt = None) -> None:
    """Which models are known, where they are and how big."""
    from hooke.model.zoo import known_models
    from hooke.results import Result

    writable(out)
    rows = known_models()
    result = Result.make("models", payload={"models": rows}, seconds={"total": 0.0})
    deliver(result, json, out, show_models)


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


@app.command(name="open")
def open_file(
    file: Annotated[Path, typer.Argument(help="A saved result, or an attribution graph.", show_default=False)],
    port: PortOpt = 0,
    no_browser: BrowserOpt = False,
) -> None:
    """See a file in the browser: a result of Hooke's, or a graph of circuit-tracer or Neuronpedia.

    \b
    hooke open france.json
    """
    from hooke.results.result import MAX_JSON_BYTES
    from hooke.server import serve
    from hooke.server.store import Store

    if file.is_file() and LARGE_FILE < file.stat().st_size <= MAX_JSON_BYTES:
        print(f"reading {file}, {file.stat().st_size >> 20} MB; this can take half a minute", file=sys.stderr)
    store = Store(serve.results_folder())
    name = store.open(file)
    serve.show(serve.Server(store, port=port), f"/r/{name}", browser=not no_browser, say=say)


@app.command(name="app")
def app_(
    model: ModelOpt = None,
    results: Annotated[Path | None, typer.Option(help="Where results are kept.", show_default=False)] = None,
    port: PortOpt = 0,
    no_browser: BrowserOpt = False,
) -> None:
    """The page with a prompt box: run traces and lenses from the browser, watch and change them.

    \b
    hooke app
    """
    from hooke.server import serve
    from hooke.server.store import Store

    store = Store(results or serve.results_folder())
    serve.show(serve.Server(store, port=port, model=model), "/", browser=not no_browser, say=say)


def say(line: str) -> None:
    """Print at once, also into a pipe: somebody waits for the link."""
    print(line, flush=True)


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


def writable_page(html: Path | None) -> None:
    """The same for --html, for which the built page must be there too."""
    if html is None:
        return
    writable(html)
    from hooke.viewer import script

    try:
        script()
    except FileNotFoundError:
        raise HookeError("this copy of Hooke has no built page; web/ says how to build it") from None


def writable(out: Path | None) -> None:
    """Refuse an output that cannot be written before the work starts."""
    if out is None:
        return
    folder = out.parent
    while not folder.exists():
        folder = folder.parent
    if out.is_dir():
        raise HookeError(f"{out} is a folder; give --out a file name")
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise HookeError(f"cannot write to {folder}; choose another place with --out")


def deliver(
    result: Result, json: bool, out: Path | None, show: Callable[[Result], None], html: Path | None = None
) -> None:
    """Save if asked, and print either JSON or what a person reads."""
    if out is not None:
        save(result, out)
    if html is not None:
        from hooke.results import write_atomic
        from hooke.viewer import html_page

        write_atomic(html, html_page([result]).encode("utf-8", "replace"))
    if json:
        print(result.to_json())
    else:
        show(result)
        if out is not None:
            beside = f", graph for other viewers: {graph_path(out)}" if "graph" in result.payload else ""
            print(f"\nSaved: {out}{beside}")
        if html is not None:
            print(f"\nThe page: {html} (opens in any browser, without a network)")


def graph_path(out: Path) -> Path:
    return out.with_suffix(".graph.json")


def save(result: Result, out: Path) -> None:
    """Write the result, its tensors and its graph file; an interrupt leaves no part of them half-written."""
    from hooke.results.graph_file import safe_name, write_graph_file

    if "graph" in result.payload:
        graph = dict(result.payload["graph"])
        graph["metadata"] = {**graph["metadata"], "slug": safe_name(out.stem)}
        write_graph_file(graph, graph_path(out))
    result.save(out)


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


if __name__ == "__main__":
    main()
