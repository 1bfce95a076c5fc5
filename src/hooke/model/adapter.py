"""LoRA adapters in PEFT's layout: read with every check, merged into a loaded base, and written.

An adapter is a folder with `adapter_config.json` and `adapter_model.safetensors`. Merging adds
(alpha / r) B A to each weight that it names, in fp32, so what is loaded is an ordinary model.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from safetensors import safe_open

from hooke.errors import HookeError
from hooke.files import is_file, open_file, read_json, scratch, tensor_header
from hooke.model.adapter_targets import check_targets
from hooke.model.store import MANIFEST, hash_files

if TYPE_CHECKING:
    from torch import Tensor, nn

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
PACKAGED = Path(__file__).with_name("adapters")  # of the organisms, whose recipes are in truth/organisms
MAX_TENSORS, MAX_BYTES, MAX_RANK, MAX_CONFIG = 10_000, 2**32, 4096, 16 * 2**20
MAX_SCALE = 1e6  # of an alpha

# keys of the configuration that change nothing in what the saved deltas mean
# fmt: off
_INERT = frozenset({
    "auto_mapping", "base_model_name_or_path", "inference_mode", "init_lora_weights", "layers_pattern",
    "layers_to_transform", "loftq_config", "lora_alpha", "lora_dropout", "megatron_core", "peft_type",
    "peft_version", "r", "rank_pattern", "alpha_pattern", "revision", "target_modules", "exclude_modules",
    "task_type", "use_rslora", "fan_in_fan_out", "bias", "eva_config", "corda_config", "runtime_config",
    "qalora_group_size", "ensure_weight_tying",
})
# fmt: on
# ways to begin that move the base's own weights, so that the deltas do not fit the published base
_MOVES_BASE = ("pissa", "olora", "loftq", "corda", "lora_ga")


@dataclass(frozen=True)
class Adapter:
    """A checked adapter folder whose tensors are still on disk.

    scales: for each module path in the base (as `model.layers.3.mlp.down_proj`), the factor alpha / r (or
        alpha / sqrt(r)) of its B A. sha256: over the configuration and the weights file.
    base: the name of the base that the configuration gives, "" if none. config: the whole configuration.
    about: what `hooke.json` says; empty for other people's adapters.
    """

    folder: Path
    scales: dict[str, float]
    ranks: dict[str, int]
    sha256: str
    base: str
    about: dict[str, Any]
    config: dict[str, Any]

    @property
    def parameters(self) -> dict[str, tuple[str, str]]:
        """The names of A and B in the weights file, by module path."""
        return {m: (f"{PREFIX}{m}.lora_A.weight", f"{PREFIX}{m}.lora_B.weight") for m in self.scales}


def packaged() -> list[str]:
    """The names of the adapters that come with Hooke, in alphabetical order."""
    return sorted(path.parent.name for path in PACKAGED.glob(f"organism-*/{CONFIG}"))


# ---- reading -----------------------------------------------------------------------------------


def read_adapter(folder: str | Path) -> Adapter:
    """Check an adapter folder by its configuration and the header of its weights; no tensor is read.

    Raises HookeError, saying what and why, for anything but plain LoRA on linear layers in safetensors.
    """
    folder = Path(folder)
    weights = folder / WEIGHTS
    if not os.path.lexists(weights):
        pickled = [p.name for p in folder.glob("adapter_model*") if p.suffix in (".bin", ".pt", ".pth")]
        if pickled:
            raise HookeError(
                f"{folder} has only pickled weights ({pickled[0]}), which can run code and are refused: save the "
                "adapter again with safe_serialization=True"
            )
        raise HookeError(f"{folder} has no {WEIGHTS}: copy the whole folder that PEFT's save_pretrained wrote")
    config = _config(folder)
    shapes = _shapes(weights)
    scales, ranks = {}, {}
    for module in sorted({_module(key, folder) for key in shapes}):
        a, b = shapes.get(f"{PREFIX}{module}.lora_A.weight"), shapes.get(f"{PREFIX}{module}.lora_B.weight")
        if a is None or b is None:
            raise HookeError(f"{weights}: {module} has lora_{'B' if a is None else 'A'} but not its partner")
        rank = int(_override(config, "rank_pattern", module, config["r"]))
        if len(a) != 2 or len(b) != 2 or (a[0], b[1]) != (rank, rank):
            raise HookeError(f"{weights}: {module} has lora_A {a} and lora_B {b}, and {CONFIG} says rank {rank}")
        alpha = float(_override(config, "alpha_pattern", module, config["lora_alpha"]))
        scales[module] = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
        ranks[module] = rank
    if not scales:
        raise HookeError(f"{weights} is empty")
    about = read_json(folder / MANIFEST, folder=folder) if is_file(folder / MANIFEST) else {}
    if not isinstance(about, dict):
        raise HookeError(f"{folder / MANIFEST} is damaged; copy the adapter again")
    recorded = about.get("adapter_sha256")
    digest = hash_files([folder / CONFIG, weights])
    if recorded is not None and recorded != digest:
        raise HookeError(f"{folder} was changed since it was made: its hash is not the one in {MANIFEST}")
    base = config.get("base_model_name_or_path")
    return Adapter(folder, scales, ranks, digest, base if isinstance(base, str) else "", about, config)


def _config(folder: Path) -> dict[str, Any]:
    """The configuration, if what it describes is plain LoRA."""
    where = folder / CONFIG
    config = read_json(where, MAX_CONFIG, folder=folder)
    if not isinstance(config, dict):
        raise HookeError(f"{where} is not an adapter's configuration")

    def refuse(what: str) -> HookeError:
        return HookeError(f"{where}: {what}; Hooke merges plain LoRA only")

    if config.get("peft_type") != "LORA":
        raise refuse(f"peft_type is {config.get('peft_type')!r}")
    if config.get("use_dora"):
        raise refuse("it is DoRA, which also rescales the base's weights")
    if config.get("bias", "none") != "none":
        raise refuse(f"bias is {config['bias']!r}, so biases of the base were trained too")
    if config.get("modules_to_save"):
        raise refuse(f"modules_to_save names whole trained modules ({config['modules_to_save']})")
    start = config.get("init_lora_weights", True)
    if isinstance(start, str) and start.lower().startswith(_MOVES_BASE):
        raise refuse(f"init_lora_weights is {start!r}, which changes the base's own weights")
    unknown = sorted(key for key, value in config.items() if key not in _INERT and value)
    if unknown:
        raise refuse(f"it sets {unknown[0]!r}, which would change what the deltas mean")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= MAX_RANK:
        raise refuse(f"r must be a whole number from 1 to {MAX_RANK}, not {rank!r}")
    if not isinstance(alpha, (int, float)) or isinstance(alpha, bool) or not -MAX_SCALE <= alpha <= MAX_SCALE:
        raise refuse(f"lora_alpha must be a number, not {alpha!r}")
    for key in ("rank_pattern", "alpha_pattern"):
        pattern = config.get(key) or {}
        values = pattern.values() if isinstance(pattern, dict) else [None]
        if not all(isinstance(v, (int, float)) and not isinstance(v, bool) and 0 < v <= MAX_SCALE for v in values):
            raise refuse(f"{key} must map names to numbers above zero, at most {MAX_SCALE:g}")
        if key == "rank_pattern" and not all(isinstance(v, int) and v <= MAX_RANK for v in values):
            raise refuse(f"rank_pattern must map names to whole numbers from 1 to {MAX_RANK}")
        if odd := [name for name in pattern if not re.fullmatch(r"\w+(\.\w+)*", str(name))]:
            raise refuse(f"{key} has {odd[0]!r}, a regular expression; only plain module names are read")
    return config


def _override(config: dict[str, Any], key: str, module: str, default: float) -> float:
    """What a pattern says about a module, by the end of its path; else the default."""
    for name, value in (config.get(key) or {}).items():
        if module == name or module.endswith(f".{name}"):
            return float(value)
    return float(default)


def _shapes(weights: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors, from the header; their number, types and size are bounded."""
    with open_file(weights, MAX_BYTES, folder=weights.parent) as file:
        try:
            _, header = tensor_header(weights, file)
        except HookeError as error:
            raise HookeError(f"{error}; copy the adapter again") from None
    if len(header) > MAX_TENSORS:
        raise HookeError(f"{weights} has {len(header):,} tensors; adapters end at {MAX_TENSORS:,}")
    for key, entry in header.items():
        if entry["dtype"] not in ("F16", "BF16", "F32", "F64"):
            raise HookeError(f"{weights}: {key[:120]} is {entry['dtype']}; only floating point is merged")
    return {key: tuple(entry["shape"]) for key, entry in header.items()}


def _module(key: str, folder: Path) -> str:
    match = re.fullmatch(re.escape(PREFIX) + r"(\w+(?:\.\w+)*)\.lora_[AB]\.weight", key)
    if match is None:
        kind = "an embedding" if "embedding" in key else "DoRA" if "magnitude" in key else "not plain LoRA"
        raise HookeError(f"{folder / WEIGHTS}: {key[:120]!r} is {kind}; Hooke merges LoRA of linear layers only")
    return match[1]


# ---- merging -----------------------------------------------------------------------------------


def merge(hf: nn.Module, adapter: Adapter) -> None:
    """Add an adapter's deltas to a model in place, each computed in fp32 and rounded once.

    Raises HookeError, before anything is changed, if a module is absent or not linear, shapes differ, the
    weight is tied to another, or a value is not finite.
    """
    import torch

    planned: list[tuple[nn.Parameter, Tensor]] = []
    with torch.no_grad(), safe_open(adapter.folder / WEIGHTS, "pt") as file:
        for module, (name_a, name_b) in adapter.parameters.items():
            weight, across = _weight(hf, module, adapter)
            a, b = (file.get_slice(name).get_shape() for name in (name_a, name_b))
            wanted = tuple(weight.shape) if not across else tuple(weight.shape[::-1])
            if (b[0], a[1]) != wanted:
                sizes = f"{b[0]} x {a[1]}, here {wanted[0]} x {wanted[1]}"
                raise HookeError(f"{adapter.folder} is for another base: its {module} is {sizes}")
            down, up = (file.get_tensor(name).to(weight.device, torch.float32) for name in (name_a, name_b))
            delta = adapter.scales[module] * (up @ down)
            if not bool(torch.isfinite(delta).all()):
                raise HookeError(f"{adapter.folder / WEIGHTS}: {module} holds numbers that are not finite")
            planned.append((weight, delta.T if across else delta))
        own = (
            "adapter_sha256" in adapter.about
        )  # Hooke's own names more modules than it changes, and is known to be whole
        note = check_targets(hf, adapter.config, adapter.scales, adapter.folder, whole=not own)
        if note:
            print(f"hooke: {adapter.folder}: {note}", file=sys.stderr, flush=True)
        for name, (weight, delta) in zip(adapter.scales, planned):
            if not bool(torch.isfinite((weight.float() + delta).to(weight.dtype)).all()):
                dtype = str(weight.dtype).removeprefix("torch.")
                raise HookeError(
                    f"{adapter.folder} makes {name} larger than {dtype} can hold: load with --dtype float32"
                )
        for weight, delta in planned:
            weight.copy_((weight.float() + delta).to(weight.dtype))


def _weight(hf: nn.Module, module: str, adapter: Adapter) -> tuple[nn.Parameter, bool]:
    """A linear layer's weight, and whether it is stored as (in, out)."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    try:
        found = hf.get_submodule(module)
    except AttributeError:
        raise HookeError(f"{adapter.folder} is for another base: there is no {module} in this one") from None
    if not isinstance(found, (nn.Linear, Conv1D)):
        raise HookeError(f"{adapter.folder}: {module} is {type(found).__name__}, not a linear layer")
    weight = cast(nn.Parameter, found.weight)
    if sum(p is weight for m in hf.modules() for p in m.parameters(recurse=False)) > 1:
        raise HookeError(f"{adapter.folder} changes {module}, which this base shares with another layer")
    return weight, isinstance(found, Conv1D)


def check_base(adapter: Adapter, base: str, weights_sha256: str | None) -> None:
    """Refuse an adapter that records the hash of another base."""
    wanted = adapter.about.get("base_weights_sha256")
    if wanted is not None and wanted != weights_sha256:
        found = f"{weights_sha256[:16]}…" if weights_sha256 else "unknown"
        raise HookeError(
            f"{adapter.folder.name} was made for weights {str(wanted)[:16]}…, and those of {base} are {found}: "
            "it would not behave as recorded"
        )


def merged_info(adapter: Adapter, base: str, info: Mapping[str, Any]) -> dict[str, Any]:
    """What a merged model records: the adapter, the base, and a weights hash of its own, from both."""
    under = info.get("weights_sha256") or info.get("revision") or base
    merged = hashlib.sha256(f"{under}+{adapter.sha256}".encode()).hexdigest()
    return {
        **info,
        "adapter": adapter.folder.name,
        "adapter_sha256": adapter.sha256,
        "base": base,
        "base_weights_sha256": info.get("weights_sha256"),
        "weights_sha256": merged,
    }


# ---- writing -----------------------------------------------------------------------------------


def save_adapter(
    folder: str | Path,
    deltas: Mapping[str, tuple[Tensor, Tensor]],
    *,
    alpha: float,
    base: str,
    about: Mapping[str, Any] | None = None,
) -> Path:
    """Write an adapter folder that Hooke and PEFT read; whole or not at all.

    deltas: for each module path, A (r, in) and B (out, r), all of one rank; stored in fp16.
    alpha: the weights gain (alpha / r) B A. base: the name that the configuration gives.
    about: what goes into `hooke.json` beside the adapter's hash.
    Raises HookeError for mixed ranks, numbers that fp16 cannot hold, or a folder that is something else.
    """
    import torch
    from safetensors.torch import save_file

    folder = Path(folder)
    ranks = {a.shape[0] for a, _ in deltas.values()} | {b.shape[1] for _, b in deltas.values()}
    if len(ranks) != 1:
        raise HookeError(f"an adapter is written with one rank, not {sorted(ranks)}")
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / CONFIG).exists())):
        raise HookeError(f"{folder} exists and is not an adapter; choose another place")
    tensors = {}
    for module, pair in sorted(deltas.items()):
        for letter, tensor in zip("AB", pair, strict=True):
            small = tensor.detach().to("cpu", torch.float16).contiguous()
            if not bool(torch.isfinite(small).all()):
                raise HookeError(f"lora_{letter} of {module} has numbers that fp16 cannot hold")
            tensors[f"{PREFIX}{module}.lora_{letter}.weight"] = small
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": ranks.pop(),
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "use_rslora": False,
        "use_dora": False,
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "modules_to_save": None,
        "rank_pattern": {},
        "alpha_pattern": {},
        "target_modules": sorted(deltas),  # whole paths: just these
        "layers_to_transform": None,
    }
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with scratch(folder.parent) as temp:
            made = temp / "adapter"
            made.mkdir()
            _write_json(made / CONFIG, config)
            save_file(tensors, made / WEIGHTS, metadata={"format": "pt"})
            (made / WEIGHTS).chmod(0o644)
            digest = hash_files([made / CONFIG, made / WEIGHTS])
            _write_json(made / MANIFEST, {**(about or {}), "adapter_sha256": digest})
            if folder.exists():
                os.replace(folder, temp / "old")
            os.replace(made, folder)
    except OSError as error:
        raise HookeError(f"cannot write {folder}: {error.strerror}; choose another place") from None
    return folder


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
