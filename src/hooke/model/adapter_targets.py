"""Which modules of a base an adapter's configuration names, by PEFT's rules, against those that its file holds.

PEFT leaves tensors of other modules out and starts named modules without tensors afresh, both almost silently: either
way the file and the configuration belong to different runs, or one was cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hooke.errors import HookeError, visible

if TYPE_CHECKING:
    from torch import nn

MAX_PATTERN = 1000


def check_targets(hf: nn.Module, config: dict[str, Any], held: Iterable[str], where: Path, *, whole: bool) -> str:
    """Raise HookeError, naming the module, where the file and the configuration of an adapter disagree.

    held: the module paths that the file has tensors for. whole: whether each module that is named must be among them.
    Returns a note for the person if the names cannot be checked, else "".
    """
    if config.get("target_modules") is None:
        return ""
    linear = linear_modules(hf)
    wanted = {name for name in linear if targeted(config, name, hf)} if _readable(config) else None
    if wanted is None:
        return (
            "its target_modules is a regular expression of a kind that is not tried; its tensors are taken as they are"
        )
    held = set(held)
    for name in sorted(held):
        if name in linear and name not in wanted:
            raise HookeError(
                f"{where} holds deltas of {name}, which its configuration does not target: PEFT drops them"
            )
    lost = sorted(wanted - held)
    if whole and lost:
        raise HookeError(
            f"{where} targets {len(wanted)} modules and holds no deltas of {len(lost)} of them, as {lost[0]}: it is "
            "not whole, or for another base"
        )
    return ""


def linear_modules(hf: nn.Module) -> set[str]:
    """The paths of all modules that LoRA can change here."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    return {name for name, module in hf.named_modules() if isinstance(module, (nn.Linear, Conv1D))}


def targeted(config: dict[str, Any], name: str, hf: Any) -> bool:
    """Whether PEFT would put LoRA on a module of this path."""
    if _named(config.get("exclude_modules"), name):
        return False
    targets = config.get("target_modules")
    if isinstance(targets, str) and targets.lower() == "all-linear":
        return hf.get_submodule(name) is not hf.get_output_embeddings()
    if isinstance(targets, list) and name in targets:
        return True  # a whole path is taken whatever its layer
    return _named(targets, name) and _in_layers(config, name)


def _named(names: Any, name: str) -> bool:
    if not names:
        return False
    if isinstance(names, str):
        return re.fullmatch(names, name) is not None
    return any(name == each or name.endswith(f".{each}") for each in names)


def _in_layers(config: dict[str, Any], name: str) -> bool:
    layers = config.get("layers_to_transform")
    if layers is None or layers == [] or isinstance(config.get("target_modules"), str):
        return True
    patterns = config.get("layers_pattern") or [r"[^.]*"]
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        if found := re.match(rf".*\.{pattern}\.(\d+)\.", name):
            return int(found[1]) in ([layers] if isinstance(layers, int) else layers)
    return False


def _readable(config: dict[str, Any]) -> bool:
    """Whether the names can be tried: expressions of strangers are, if they are short and cannot run for ever."""
    expressions = [config.get(key) for key in ("target_modules", "exclude_modules")]
    for each in expressions:
        if isinstance(each, str):
            loops = len(re.findall(r"[*+{]", each))
            if len(each) > MAX_PATTERN or loops > 4 or re.search(r"\)\s*[*+{]", each):
                return False
            try:
                re.compile(each)
            except re.error:
                return False
        elif each is not None and not (isinstance(each, list) and all(isinstance(name, str) for name in each)):
            raise HookeError(f"the adapter's target_modules is {visible(str(each))[:60]}, no list of module names")
    patterns = config.get("layers_pattern") or []
    return all(re.fullmatch(r"\w+", each) for each in ([patterns] if isinstance(patterns, str) else patterns))
