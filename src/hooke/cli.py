"""The command line: verbs mirror `methods/`. torch is imported after the arguments are parsed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

import hooke
from hooke.errors import HookeError

if TYPE_CHECKING:
    from hooke.model.model import Model
    from hooke.model.run import Tokens
    from hooke.results import Result

INTERRUPTED = 130  # what typer makes of Ctrl-C

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
    with Stages("load", "forward", "select", "graph", "verification", "write") as stage:
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
    deliver(result, json, out, show_trace)


@app.command()
def lens(
    prompt: PromptArg,
    model: ModelOpt = None,
    top: Annotated[int, typer.Option(help="How many tokens to keep at each place.", min=1)] = 5,
    json: JsonOpt = False,
    out: OutOpt = None,
    device: DeviceOpt = "auto",
    dtype: DtypeOpt = "auto",
) -> None:
    """What each layer would say next, at each position (the logit lens).

    \b
    hooke lens "The capital of France is"
    """
    writable(out)
    with Stages("load", "forward") as stage:
        stage("load")
        from hooke.methods.lens import lens as run
        from hooke.model.load import load

        loaded = load(model, device=device, dtype=dtype)
        stage("forward")
        result = run(loaded, prompt, top=top)
    deliver(result, json, out, show_lens)


@app.command()
def models(json: JsonOpt = False, out: OutOpt = None) -> None:
    """Which models are known, where they are and how big."""
    from hooke.model.zoo import known_models
    from hooke.results import Result

    writable(out)
    rows = known_models()
    result = Result.make("models", payload={"models": rows}, seconds={"total": 0.0})
    deliver(result, json, out, show_models)


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


def deliver(result: Result, json: bool, out: Path | None, show: Callable[[Result], None]) -> None:
    """Save if asked, and print either JSON or what a person reads."""
    if out is not None:
        save(result, out)
    if json:
        print(result.to_json())
    else:
        show(result)
        if out is not None:
            beside = f", graph for other viewers: {graph_path(out)}" if "graph" in result.payload else ""
            print(f"\nSaved: {out}{beside}")


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


class Stages:
    """Progress by stage, with the time left, on standard error when that is a terminal."""

    # what a stage takes of the whole, roughly, so that the time left can be told
    SHARE: ClassVar = {"load": 25, "forward": 3, "select": 30, "graph": 15, "verification": 25, "write": 2}

    def __init__(self, *names: str) -> None:
        self.names = names
        self.bar: Any = None
        self.task: Any = None

    def __enter__(self) -> Stages:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
            self.bar = Progress(*columns, console=Console(file=sys.stderr), transient=True)
            self.task = self.bar.add_task("", total=sum(self.SHARE[n] for n in self.names))
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def __call__(self, name: str) -> None:
        if self.bar is not None and self.task is not None:
            self.bar.start()
            done = sum(self.SHARE[n] for n in self.names[: self.names.index(name)])
            self.bar.update(self.task, description=name, completed=done)

    def hide(self) -> None:
        """Out of the way of a question to the person."""
        if self.bar is not None:
            self.bar.stop()


def show_trace(result: Result) -> None:
    """The next tokens, the sentence, the scores, and the strongest paths."""
    p = result.payload
    print("Next tokens: " + "   ".join(f"{t['token']!r} {t['probability']:.1%}" for t in p["top"]))
    for note in p["notes"]:
        print(f"Note: {note}")
    print(f"\n{p['sentence']}\n")
    s, v = p["scores"], p["verification"]
    print(
        f"Scores at {s['nodes']} nodes: completeness {s['completeness']:.2f}, replacement {s['replacement']:.2f}, "
        f"unexplained {s['unexplained']:.2f}, path length {s['path_length']:.1f}"
    )
    if v:
        keys = ("spearman", "groups_spearman", "fit", "random_fit")
        shown = {k: "-" if v.get(k) is None else f"{v[k]:.2f}" for k in keys}
        print(
            f"Tested in the live model: {v['tested']} nodes confirmed, {v['refuted']} refuted; rank correlation of "
            f"predicted and measured effects {shown['spearman']} (random groups {shown['groups_spearman']}); the nodes "
            f"alone keep {shown['fit']} of the effect (random nodes {shown['random_fit']})"
        )
    if p["paths"]:
        print("\nStrongest paths (share of the influence):")
    for path in p["paths"]:
        middle = [f"layer {n.split('_')[0]} ({d})" for n, d in zip(path["nodes"], path["labels"])]
        steps = " -> ".join([repr(path["token"]), *middle, repr(p["target"]["token"])])
        print(f"  {path['share']:6.2%} {'+' if path['sign'] > 0 else '-'}  {steps}")
    print("\n" + ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in result.seconds.items()))


def show_lens(result: Result) -> None:
    """The first choice at each layer and position, as a table."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    p = result.payload
    table = Table(box=None, pad_edge=False)
    table.add_column("layer", justify="right")
    tokens = p["tokens"]
    first = max(0, len(tokens) - 8)
    for token in tokens[first:]:
        table.add_column(Text(repr(token)), overflow="crop", no_wrap=True, max_width=14)
    for layer, row in zip(p["layers"], p["next"], strict=True):
        cells = []
        for best in row[first:]:
            chance = best[0]["probability"]
            style = "bold" if chance > 0.5 else "" if chance > 0.1 else "dim"
            cells.append(Text(f"{best[0]['token']!r} {chance:.0%}", style=style))
        table.add_row("in" if layer < 0 else str(layer), *cells)
    if first:
        print(f"(the last 8 of {len(tokens)} positions; --json has all)")
    Console().print(table)
    print(p["sentence"])


def show_models(result: Result) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("name", "parameters", "download", "on disk", "here", "path", "note"):
        table.add_column(name, overflow="fold")
    for row in result.payload["models"]:
        size = row["parameters"]
        table.add_row(
            row["name"],
            "" if not size else f"{size / 1e6:.4g} M",
            "" if not row["download_mb"] else f"{row['download_mb']:.0f} MB",
            "" if not row["disk_mb"] else f"{row['disk_mb']:.0f} MB",
            "yes" if row["fetched"] else "no",
            str(row["path"]),
            str(row["note"]),
        )
    Console().print(table)


if __name__ == "__main__":
    main()
