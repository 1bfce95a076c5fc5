"""`load`: from a name, a folder, a GGUF file or a model in memory to a checked `Model`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from hooke.errors import HookeError
from hooke.model import zoo
from hooke.model.checks import check_model
from hooke.model.families import family_of
from hooke.model.model import Model


def load(
    name: Any = None,
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: str | torch.dtype = "auto",
    tokenizer: Any = None,
) -> Model:
    """Load a model and prove that its sites are where their equations say.

    name: an alias of the zoo (None: the embedded default), a hub id, a local folder, a .gguf file, or
        a transformers model that is already in memory (then give its tokenizer too).
    revision: a hub revision. device: "auto" is CUDA if there is any, else the CPU.
    dtype: "auto" is float32 on a CPU and the checkpoint's own elsewhere.
    Raises HookeError: unknown name (with the nearest), folder without weights, architecture without
    an adapter, or a failed load-time check.
    """
    if isinstance(name, torch.nn.Module):
        return _wrap(name, tokenizer, name=getattr(name, "name_or_path", "") or type(name).__name__)
    kind, where = zoo.resolve(name)
    info: dict[str, Any] = {}
    if kind == "zoo":
        folder = zoo.fetch(str(where))
        info["note"] = zoo.ZOO[str(where)].note
    elif kind == "gguf":
        folder = zoo.convert_gguf(Path(where))
    else:
        folder = Path(where) if kind == "folder" else None
    target = torch.device(_device(device))
    source = str(folder or where)
    if folder is not None:
        info["weights_sha256"] = zoo.weights_hash(folder)
    if revision:
        info["revision"] = revision
    hf, tok = _from_pretrained(source, revision, _dtype(dtype, target))
    for parameter in hf.parameters():
        parameter.requires_grad_(False)
    return _wrap(hf.to(target), tokenizer or tok, name=str(where), info=info)


def _wrap(hf: Any, tokenizer: Any, *, name: str, info: dict[str, Any] | None = None) -> Model:
    family_of(hf.config)
    model = Model(hf.eval(), tokenizer, name=name, info=info)
    check_model(model)
    return model


def _from_pretrained(source: str, revision: str | None, dtype: Any) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    options: dict[str, Any] = {"revision": revision, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(source, **options)
        family_of(config)  # refuse before reading gigabytes
        hf = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, use_safetensors=True, **options)
        return hf, AutoTokenizer.from_pretrained(source, **options)
    except HookeError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise HookeError(f"cannot load {source!r}: {reason}") from None


def _device(device: str) -> str:
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def _dtype(dtype: str | torch.dtype, device: torch.device) -> Any:
    if dtype == "auto":
        return torch.float32 if device.type == "cpu" else "auto"
    if isinstance(dtype, torch.dtype):
        return dtype
    found = getattr(torch, dtype, None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise HookeError(f"no floating-point dtype called {dtype!r}; try float32, bfloat16 or float16")
    return found
