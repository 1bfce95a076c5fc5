"""`load`: from a name, a folder, a GGUF file or a model in memory to a checked `Model`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from hooke.arguments import checked
from hooke.errors import HookeError, visible
from hooke.model import adapter as adapters
from hooke.model import zoo
from hooke.model.causes import refuse_unfit
from hooke.model.checks import check_model
from hooke.model.file_check import check_finite
from hooke.model.model import Model
from hooke.model.pretrained import check_vocabulary, commit_of, from_pretrained

_organisms: list[str] = []  # those loaded in this process: what they are is said before the first


@checked
def load(
    name: Any = None,
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: str | torch.dtype = "auto",
    tokenizer: Any = None,
    base: Any = None,
) -> Model:
    """Load a model and prove that its sites are where their equations say.

    name: an alias of the zoo (None: the embedded default), a hub id, a local folder, a .gguf file, a LoRA
        adapter (one of `hooke organisms`, or a folder), which is merged into its base, or a transformers
        model that is already in memory (then give its tokenizer too), which keeps its device and dtype and is
        left as it is: evaluation mode lasts for a run.
    revision: a hub revision. device: "auto" is CUDA if there is any, else the CPU.
    dtype: "auto" is float32 on a CPU and the checkpoint's own elsewhere.
    base: the model that an adapter changes, when its own configuration does not name one that loads here.
    Raises HookeError: unknown name (with the nearest), folder without weights, architecture without
    a family row, an adapter for another base, or a failed load-time check.
    """
    if isinstance(name, torch.nn.Module):
        if base is not None:
            raise HookeError("base= is for an adapter's folder; merge into a model in memory before loading it")
        if (revision, device, dtype) != (None, "auto", "auto"):
            raise HookeError("a model in memory keeps its device and dtype; move it before loading it")
        return _wrap(name, tokenizer, name=getattr(name, "name_or_path", "") or type(name).__name__)
    if not isinstance(name, (str, Path, type(None))):
        hint = "; give its model, x.model" if isinstance(getattr(name, "model", None), torch.nn.Module) else ""
        raise HookeError(f"a model is a name, a path or a transformers model, not {type(name).__name__}{hint}")
    target = _device(device)
    wanted = _dtype(dtype, target)
    kind, where = zoo.resolve(name)
    if kind in ("organism", "adapter"):
        return _adapted(where, base, revision, target, wanted, tokenizer)
    if base is not None:
        raise HookeError(f"{where} is a whole model; base= is for adapters")
    hf, tokenizer, info = _read(kind, where, revision, wanted, tokenizer)
    return _wrap(hf.to(target), tokenizer, name=str(where), info=info)


def _adapted(
    where: Path | str, base: Any, revision: str | None, target: torch.device, dtype: Any, tokenizer: Any
) -> Model:
    """The base of an adapter with the adapter merged into it; nothing large is read before the hashes agree."""
    found = adapters.read_adapter(where if isinstance(where, Path) else adapters.PACKAGED / where)
    if found.about.get("kind") in ("organism", "clean", "decoy"):
        if not _organisms:
            note = "a model organism: behaviour may have been planted in it on purpose, to try detectors on"
            print(f"hooke: {where} is {note}", file=sys.stderr, flush=True)
        _organisms.append(str(where))
    kind, under = _base_of(found, base)
    if base is not None and found.base and Path(found.base).name.lower() != Path(str(under)).name.lower():
        note = f"{where} was made for {visible(found.base)[:100]} and is merged into {under}, as asked"
        print(f"hooke: {note}", file=sys.stderr, flush=True)
    if kind == "hub" and revision is None and isinstance(found.config.get("revision"), str):
        revision = found.config["revision"]  # the deltas were trained on top of this one
    folder = zoo.local_folder(kind, under)
    adapters.check_base(found, str(under), None if folder is None else zoo.weights_hash(folder))
    hf, tokenizer, info = _read(kind, under, revision, dtype, tokenizer)
    adapters.merge(hf, found)
    info = adapters.merged_info(found, str(under), info)
    return _wrap(hf.to(target), tokenizer, name=str(where), info=info)


def _base_of(adapter: adapters.Adapter, base: Any) -> tuple[str, Path | str]:
    """What an adapter's base means, as `zoo.resolve` says it; a base that is given wins over the recorded one."""
    if base is not None and not isinstance(base, (str, Path)):
        raise HookeError(f"base= is a name or a path, not {type(base).__name__}")
    named = base if base is not None else adapter.base
    if not named:
        raise HookeError(f"{adapter.folder} does not name its base; give it with base=")
    try:
        kind, under = zoo.resolve(named)
    except HookeError as error:
        if base is not None:
            raise
        raise HookeError(
            f"the base that {adapter.folder} names cannot be loaded ({error}); give it with base="
        ) from None
    if kind in ("organism", "adapter"):
        raise HookeError(f"the base {str(under)!r} is an adapter itself; give the whole model with base=")
    return kind, under


def _read(
    kind: str, where: Path | str, revision: str | None, dtype: Any, tokenizer: Any
) -> tuple[Any, Any, dict[str, Any]]:
    """A frozen transformers model on the CPU, its tokenizer, and what results record about it."""
    info: dict[str, Any] = {}
    folder = zoo.local_folder(kind, where)
    if kind == "zoo":
        info["note"] = zoo.ZOO[str(where)].note
    source = str(folder or where)
    if folder is not None:
        info["weights_sha256"] = zoo.weights_hash(folder)
    hf, tokenizer = from_pretrained(source, revision, dtype, tokenizer)
    if folder is None:
        info["revision"] = commit_of(source, revision) or revision
    for parameter in hf.parameters():
        parameter.requires_grad_(False)
    return hf, tokenizer, info


def _wrap(hf: Any, tokenizer: Any, *, name: str, info: dict[str, Any] | None = None) -> Model:
    refuse_unfit(hf, name)
    if not info or "adapter" in info:  # files were looked at when they were read
        check_finite(hf, name)
    model = Model(hf, tokenizer, name=name, info=info)
    check_vocabulary(tokenizer, model.parts.d_vocab, name)
    check_model(model)
    return model


def _device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.zeros(1, device=found).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise HookeError(f"cannot use device {device!r}: {reason}; try cpu, cuda or cuda:0") from None
    return found


def _dtype(dtype: str | torch.dtype, device: torch.device) -> Any:
    if dtype == "auto":
        return torch.float32 if device.type == "cpu" else "auto"
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise HookeError(f"no floating-point dtype called {dtype!r}; try float32, bfloat16 or float16")
    return found
