"""What the commands share: the app, their common options, and how a result is handed over."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hooke.cli.screen import json_text
from hooke.errors import HookeError

if TYPE_CHECKING:
    from hooke.dictionaries.coder import Coder
    from hooke.model.model import Model
    from hooke.results import Result

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
TextOpt = Annotated[
    list[str] | None,
    typer.Option(
        "--text",
        help="docs (what is installed), a file, a folder, hub:org/name, or self: what the model says; "
        "self:0.1: a tenth.",
    ),
]
JsonOpt = Annotated[bool, typer.Option("--json", help="Print one Result as JSON on standard output, nothing else.")]
OutOpt = Annotated[Path | None, typer.Option("--out", "-o", help="Save here; tensors and graph file go beside it.")]
HtmlOpt = Annotated[Path | None, typer.Option("--html", help="Write the page here: one file that opens anywhere.")]
PortOpt = Annotated[int, typer.Option(help="Where to listen on this machine; 0 is any free port.", min=0, max=65535)]
BrowserOpt = Annotated[bool, typer.Option("--no-browser", help="Only print the link.")]
DeviceOpt = Annotated[str, typer.Option(help="cpu, cuda, or auto: CUDA if there is any.")]
DtypeOpt = Annotated[str, typer.Option(help="float32, bfloat16, float16, or auto: float32 on a CPU.")]


TargetIdOpt = Annotated[int | None, typer.Option(help="The same by its id, which names one token always.", min=0)]
ContrastIdOpt = Annotated[int | None, typer.Option(help="The same by its id.", min=0)]
BasisOpt = Annotated[
    list[Path] | None,
    typer.Option(help="A folder of trained dictionaries to draw in; several add up. Neurons if not given."),
]
TransferOpt = Annotated[bool, typer.Option("--transfer", help="Allow what was made from another model; recorded.")]
SystemOpt = Annotated[str | None, typer.Option(help="With --chat: a system message before the question.")]


def token_of(text: str | None, number: int | None, name: str) -> str | int | None:
    """A token that was named by its text or by its id."""
    if text is not None and number is not None:
        raise HookeError(f"--{name} and --{name}-id name the same token; give one of them")
    return number if text is None else text


def opened(paths: Sequence[Path], model: Model, transfer: bool) -> list[Coder]:
    """The dictionaries of folders: Hooke's own, or as other tools left them."""
    from hooke.dictionaries.folder import NAME, load_dictionary
    from hooke.dictionaries.formats import read_dictionary
    from hooke.files import is_file

    own = {path: is_file(path / NAME) for path in paths}
    read = (load_dictionary(p, model, transfer=transfer) if own[p] else read_dictionary(p, model) for p in paths)
    return [block for blocks in read for block in blocks]


def say(line: str) -> None:
    """Print at once, also into a pipe: somebody waits for the link."""
    print(line, flush=True)


def writable_page(html: Path | None, out: Path | None = None) -> None:
    """The same for --html, for which the built page must be there too, and which is no file that --out writes."""
    if html is None:
        return
    writable(html)
    apart(html, out)
    from hooke.viewer import script

    try:
        script()
    except FileNotFoundError:
        raise HookeError("this copy of Hooke has no built page; web/ says how to build it") from None


def exists(path: Path) -> bool:
    """Whether a path is there; one that cannot be a path is not."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def apart(other: Path, out: Path | None) -> None:
    """Refuse an output that would be written over the result, its tensors or its graph file."""
    if out is None:
        return
    written = (out, out.with_suffix(".safetensors"), graph_path(out))
    if other.absolute() in {path.absolute() for path in written}:
        raise HookeError(f"{other} would be written twice; give each output a name of its own")


def writable(out: Path | None) -> None:
    """Refuse an output that cannot be written before the work starts."""
    if out is None:
        return
    if out.suffix == ".safetensors":
        raise HookeError(f"{out}: tensors get that name beside the result; give --out a name that ends in .json")
    folder = out.parent
    try:
        while not folder.exists():
            folder = folder.parent
        there = out.is_dir()
    except (OSError, ValueError) as error:
        raise HookeError(f"cannot write to {str(out)[:80]!r}: {getattr(error, 'strerror', None) or error}") from None
    if there:
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
        print(json_text(result.to_json()))
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
    from hooke.results.formats.graph_file import file_of, write_graph_file

    if "graph" in result.payload:
        write_graph_file(file_of(result, out.stem), graph_path(out))
    result.save(out)
