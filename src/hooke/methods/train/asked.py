"""What is trained: kinds by the names people use, and the places of their blocks."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from hooke.dictionaries.fit import Place
from hooke.dictionaries.kinds import KINDS, Kind
from hooke.errors import HookeError
from hooke.model import Model
from hooke.sites import POINTS, Site

MLP = ("transcoder", "skip-transcoder", "clt")  # they imply their sites
CROSS = "crosscoder"  # of two models
GATED = {**dict.fromkeys(MLP, "topk"), CROSS: "batchtopk"}  # what is trained with a gate of its own choice, and if none
PENALTIES = ("l1", "l0")


@dataclass(frozen=True)
class Setting:
    """One kind with its numbers, at some places; `name` is its folder where there are several, else empty.

    groups: names and places of what trains together.
    """

    name: str
    kind: Kind
    groups: tuple[tuple[str, tuple[Place, ...]], ...]


def names() -> list[str]:
    """Everything that can be trained."""
    return [*KINDS, *GATED]


def settings(
    model: Model,
    name: str,
    sites: Sequence[str],
    layers: str | None,
    gate: str | None,
    k: Sequence[int],
    penalty: Sequence[float],
    apart: float = 0.0,
) -> list[Setting]:
    """One setting for each k or penalty. Raises HookeError for a kind, a gate, a site or a layer that is not there."""
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1)
        raise HookeError(f"no kind called {name!r}; " + (f"did you mean {near[0]!r}?" if near else _list(names())))
    if gate is not None and (gate not in KINDS or name not in GATED):
        what = f"{name} is a gate by itself" if name not in GATED else _list(KINDS)
        raise HookeError(f"no gate {gate!r} for {name}; {what}")
    if not 0 <= apart < 0.5:
        raise HookeError(f"a share of {apart} of the features for each model by itself; give 0, or less than a half")
    rule = KINDS[name if name in KINDS else gate or GATED[name]]
    numbers = {field.name for field in fields(rule)}
    own = next((p for p in PENALTIES if p in numbers), None)
    if k and "k" not in numbers and "target" not in numbers:
        raise HookeError(f"{rule.name} has no k; its --penalty decides how many features fire")
    if penalty and own is None:
        raise HookeError(f"{rule.name} has no penalty; its --k says how many features fire")
    if len(k) > 1 and len(penalty) > 1:
        raise HookeError("give several --k or several --penalty, not both")
    groups = _groups(model, name, sites, layers, apart)
    made = []
    for count in k or (None,):
        for weight in penalty or (None,):
            given: dict[str, Any] = {}
            if count is not None:
                given["k" if "k" in numbers else "target"] = _positive(count, "k") if "k" in numbers else float(count)
            if weight is not None:
                given[own or ""] = _positive(weight, "penalty")
            several = len(k) > 1 or len(penalty) > 1
            label = f"k-{count}" if len(k) > 1 else f"penalty-{weight:g}" if several and weight is not None else ""
            made.append(Setting(label, rule(**given), groups))
    if len({setting.name for setting in made}) < len(made):
        raise HookeError("the same --k or --penalty is given twice")
    return made


def _positive(value: Any, what: str) -> Any:
    if not value > 0:
        raise HookeError(f"{what} must be above zero, not {value}")
    return value


def layers_in(text: str, n_layers: int) -> list[int]:
    """The layers of "10", "10-12", "0,5,9-11" or "all". Raises HookeError for others."""
    if text == "all":
        return list(range(n_layers))
    found: list[int] = []
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        if not low.isdecimal() or (dash and not high.isdecimal()) or len(part) > 20:
            raise HookeError(f"cannot read the layers {text[:80]!r}; write 10, 10-12, 0,5,9-11 or all")
        first, last = int(low), int(high) if dash else int(low)
        if last < first or last >= n_layers:
            raise HookeError(f"there are no layers {part.strip()}; the model has layers 0 to {n_layers - 1}")
        found += range(first, last + 1)
    if len(set(found)) < len(found):
        raise HookeError(f"a layer is named twice in {text!r}")
    return sorted(found)


def _groups(
    model: Model, name: str, sites: Sequence[str], layers: str | None, apart: float
) -> tuple[tuple[str, tuple[Place, ...]], ...]:
    n_layers = model.parts.n_layers
    if name in MLP:
        if sites:
            raise HookeError(f"a {name} reads what MLPs read and writes what they write; choose with --layers")
        chosen = layers_in(layers or "all", n_layers)
        reads = {layer: (Site("mlp_in", layer),) for layer in chosen}
        if name == "clt":
            later = {layer: tuple(Site("mlp_out", t) for t in chosen if t >= layer) for layer in chosen}
            return (("cross-layer", tuple(Place(reads[layer], later[layer]) for layer in chosen)),)
        skip = name == "skip-transcoder"
        return tuple((f"layer {n}", (Place(reads[n], (Site("mlp_out", n),), skip),)) for n in chosen)
    wanted: list[Site] = []
    for text in sites or ("resid_post",):
        point = text.partition(".")[0]
        if "." in text or POINTS.get(text, POINTS["q"]).scope == "model":
            wanted.append(Site.parse(text))
        elif point in POINTS:
            wanted += [Site(point, layer) for layer in layers_in(layers or "all", n_layers)]
        else:
            Site.parse(text)
    absent = [site for site in wanted if site not in model.sites]
    if absent:
        raise HookeError(f"{model.name} has no {absent[0]}; `hooke models` and docs/models.md say what it has")
    if len(set(wanted)) < len(wanted):
        raise HookeError("a site is named twice")
    if layers is not None and all("." in text for text in sites) and sites:
        raise HookeError("--layers goes with points, as --site mlp_out --layers 3-5; these sites name their layers")
    if name == CROSS:
        both = [(site, replace(site, other=True)) for site in sorted(wanted)]
        return tuple((str(pair[0]), (Place(pair, pair, apart=apart),)) for pair in both)
    return tuple((str(site), (Place((site,), (site,)),)) for site in sorted(wanted))


def rough_of(precision: str, device: torch.device) -> torch.dtype:
    """The precision in which features are compared with each other. Raises HookeError for an unknown one."""
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if precision == "auto":
        fast = device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
        return torch.bfloat16 if fast else torch.float32
    if precision not in known:
        raise HookeError(f"no precision {precision!r}; there are auto, {', '.join(known)}")
    return known[precision]


def _list(some: Any) -> str:
    return "there are " + ", ".join(some)
