"""Every foreign format against the tool that writes it: by how much Hooke's codes and reconstructions differ.

    python bench/formats.py --peer saelens=PYTHON --peer sparsify=PYTHON --peer dictionary_learning=PYTHON
        --peer circuit_tracer=PYTHON [--keep FOLDER]

Each peer runs `bench/formats_peer.py` in an environment of its own (any of them may be left out): it saves tiny random
dictionaries of every kind with the codes and reconstructions that it gets from random inputs itself, Hooke reads them,
and the largest difference is printed, as a share of the largest value where that is above 1. Then Hooke writes, the
peer reads, and the same is printed. Files of Gemma Scope, Qwen-Scope and Llama Scope, which nobody else can write, are
put together as they are published and read by SAELens, a cross-layer transcoder of Gemma Scope 2 by circuit-tracer.

--keep: leave what the peers wrote there; the tests have theirs from it (tests/dictionaries/formats_files).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from hooke.dictionaries.coder import Coder
from hooke.dictionaries.formats import read_dictionary, recognise, write_dictionary
from hooke.dictionaries.formats.hooks import place_of
from hooke.errors import HookeError
from hooke.model import Model
from hooke.sites import Site
from hooke.tables import show_table

PEER = Path(__file__).with_name("formats_peer.py")
WIDTH, N, K, ROWS, LAYERS = 8, 24, 5, 8, 3
NORMALIZED = "gemma-scope-2b-pt-transcoders"  # reads a norm's value before its gain


def tiny() -> Model:
    """A random Gemma 2 whose stream is as wide as the dictionaries."""
    config = transformers.Gemma2Config(
        vocab_size=31, hidden_size=WIDTH, intermediate_size=12, num_hidden_layers=LAYERS, num_attention_heads=2,
        num_key_value_heads=1, head_dim=4, max_position_embeddings=16, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    hf = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    for parameter in hf.parameters():
        parameter.requires_grad_(False)
        parameter.add_(torch.randn_like(parameter) * 0.1)
    return Model(hf, None, name="tiny")


def found_in(case: Path) -> Path:
    """The dictionary of a case, however deep it lies."""
    while True:
        try:
            recognise(case)
            return case
        except HookeError:
            (case,) = (folder for folder in case.iterdir() if folder.is_dir())


def outputs(
    blocks: tuple[Coder, ...], xs: list[Tensor], place: str | None, model: Model
) -> tuple[list[Tensor], list[Tensor]]:
    """Codes of each block, and what all of them write at each site. xs: by block, as its tool takes them."""
    codes, written = [], {}
    for block, x in zip(blocks, xs, strict=True):
        at = x
        if place is not None:
            gain, shift = place_of(place, model).gain, place_of(place, model).shift
            assert gain is not None
            at = x * gain.to(x) + (0.0 if shift is None else shift.to(x))
        values = dict.fromkeys(block.reads, at)
        found = block.encode(values)
        codes.append(found.dense())
        for site, y in block.decode(found, values).items():
            written[site] = written.get(site, torch.zeros(())) + y
    return codes, [written[site] for site in sorted(written)]


def worst(mine: list[Tensor], theirs: list[Tensor]) -> float:
    """The largest difference, as a share of the largest value where that is above 1."""
    size = max(1.0, *(float(b.abs().max()) for b in theirs))
    return max(float((a - b).abs().max()) for a, b in zip(mine, theirs, strict=True)) / size


def listed(tensors: dict[str, Tensor], name: str) -> list[Tensor]:
    return [tensors[f"{name}.{i}"] for i in range(sum(key.startswith(f"{name}.") for key in tensors))]


def reading(out: Path, model: Model) -> list[list[str]]:
    """A row for every case that a peer wrote."""
    rows = []
    for expected in sorted(out.glob("*.expected.safetensors")):
        case, told = expected.name.removesuffix(".expected.safetensors"), load_file(expected)
        folder = found_in(out / case)
        needs = model if case == NORMALIZED else None
        blocks = read_dictionary(folder, needs, allow_pickle=True)
        place = "blocks.1.ln2.hook_normalized" if needs else None
        codes, ys = outputs(blocks, listed(told, "x"), place, model)
        fires = sum(int((x != 0).sum()) for x in codes)
        differ = [f"{worst(codes, listed(told, 'codes')):.1e}", f"{worst(ys, listed(told, 'y')):.1e}"]
        rows.append([case, recognise(folder), blocks[0].gate, str(len(blocks)), str(fires), *differ])
    return rows


def made(read: str, writes: list[str], seed: int, gate: str, **settings: object) -> Coder:
    """A random block."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * 0.5

    sites = [Site.parse(site) for site in writes]
    return Coder(
        {Site.parse(read): random(N, WIDTH)}, random(N), {site: random(N, WIDTH) for site in sites},
        {site: random(WIDTH) for site in sites}, gate, random(N).abs() if gate == "jumprelu" else None,
        None if gate in ("relu", "jumprelu") else 6,
        skip={site: random(WIDTH, WIDTH) for site in sites} if settings.pop("skip", False) else {}, **settings,
    )  # type: ignore[arg-type]  # fmt: skip


def ours(tool: str) -> dict[str, list[Coder]]:
    """What Hooke writes for a peer to read, by case."""
    if tool == "saelens":
        found = {
            gate: [made("resid_post.1", ["resid_post.1"], 1, gate)] for gate in ("relu", "jumprelu", "topk", "abstopk")
        }
        found["z"] = [made("z.1", ["z.1"], 2, "relu")]
        found["layer norm"] = [made("resid_post.1", ["resid_post.1"], 3, "relu", norm="layer")]
        found["length"] = [made("resid_post.1", ["resid_post.1"], 3, "topk", norm="length")]
        for gate in ("relu", "jumprelu"):
            found[f"transcoder {gate}"] = [made("mlp_in.1", ["mlp_out.1"], 4, gate)]
            found[f"skip transcoder {gate}"] = [made("mlp_in.1", ["mlp_out.1"], 5, gate, skip=True)]
        found["two"] = [made(f"resid_post.{i}", [f"resid_post.{i}"], 6 + i, "jumprelu") for i in range(2)]
        return found
    if tool == "sparsify":
        found = {gate: [made("resid_post.1", ["resid_post.1"], 1, gate)] for gate in ("topk", "groupmax")}
        found["transcoder"] = [made("mlp_in.1", ["mlp_proj.1"], 2, "topk")]
        found["skip transcoder"] = [made("mlp_in.1", ["mlp_proj.1"], 3, "topk", skip=True)]
        found["set"] = [made(f"resid_post.{i}", [f"resid_post.{i}"], 6 + i, "topk") for i in range(3)]
        return found
    sets = {}
    for gate in ("relu", "jumprelu"):
        layers = range(LAYERS)
        sets[f"per layer {gate}"] = [made(f"mlp_in.{i}", [f"mlp_out.{i}"], 10 + i, gate) for i in layers]
        above = {i: [f"mlp_out.{j}" for j in range(i, LAYERS)] for i in layers}
        sets[f"cross layer {gate}"] = [made(f"resid_mid.{i}", above[i], 20 + i, gate) for i in layers]
    sets["per layer skip"] = [made(f"mlp_in.{i}", [f"mlp_out.{i}"], 30 + i, "relu", skip=True) for i in range(LAYERS)]
    return sets


def writing(tool: str, python: str, out: Path, model: Model) -> list[list[str]]:
    """A row for every case that Hooke wrote and the peer read; and whether Hooke reads its own file back as it was."""
    cases = {case.replace(" ", "_"): blocks for case, blocks in ours(tool).items()}
    for seed, (case, blocks) in enumerate(cases.items()):
        write_dictionary(blocks, out / case, tool.replace("_", "-"))
        generator = torch.Generator().manual_seed(seed)
        xs = {f"x.{i}": torch.randn(ROWS, WIDTH, generator=generator) for i in range(len(blocks))}
        save_file(xs, str(out / f"{case}.inputs.safetensors"))
    run(python, tool, "read", out)
    rows = []
    for case, blocks in cases.items():
        theirs, xs = load_file(out / f"{case}.theirs.safetensors"), load_file(out / f"{case}.inputs.safetensors")
        codes, ys = outputs(tuple(blocks), listed(xs, "x"), None, model)
        again, y_again = outputs(read_dictionary(out / case), listed(xs, "x"), None, model)
        differ = [worst(codes, listed(theirs, "codes")), worst(ys, listed(theirs, "y"))]
        back = max(worst(codes, again), worst(ys, y_again))
        fires = sum(int((x != 0).sum()) for x in codes)
        rows.append([case, tool, blocks[0].gate, str(len(blocks)), str(fires), *(f"{x:.1e}" for x in (*differ, back))])
    return rows


def run(python: str, tool: str, way: str, out: Path) -> None:
    done = subprocess.run([python, str(PEER), tool, way, str(out)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{tool} stopped:\n{done.stderr[-3000:]}")


def versions(python: str, tool: str) -> str:
    package = {"saelens": "sae-lens", "sparsify": "eai-sparsify", "dictionary_learning": "dictionary-learning"}
    name = package.get(tool, "circuit-tracer")
    code = f"import importlib.metadata as m; print('{name}', m.version('{name}'), 'with torch', m.version('torch'))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", action="append", default=[], metavar="TOOL=PYTHON")
    parser.add_argument("--keep", type=Path, help="leave what the peers wrote there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    peers = dict(peer.split("=", 1) for peer in arguments.peer)
    if not peers:
        print("No peer given, so nothing to compare with: --peer saelens=PYTHON and the like.", file=sys.stderr)
        return
    model = tiny()
    with tempfile.TemporaryDirectory() as scratch:
        for tool, python in peers.items():
            print(f"\n{versions(python, tool)}")
            out = (arguments.keep or Path(scratch) / "theirs") / tool
            out.mkdir(parents=True, exist_ok=True)
            run(python, tool, "write", out)
            head = ["case", "format", "gate", "blocks", "codes", "codes differ", "y differs"]
            show_table(head, reading(out, model))
            if tool != "dictionary_learning":
                mine = Path(scratch) / "ours" / tool
                mine.mkdir(parents=True)
                show_table([*head, "read back"], writing(tool, python, mine, model))


if __name__ == "__main__":
    main()
