"""The view of a probe and of its test: bars, a curve by layer, worst mistakes; everything else stays a table."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import ValidationError

from hooke.results import Result
from hooke.viewer.schema import Bar, Curve, Mistake, ProbeView, Roc

MOST_MISTAKES = 30
M = TypeVar("M", Curve, Roc)


def probe_view(result: Result) -> ProbeView:
    """A part of the payload that is not what it is expected to be is left among the tables."""
    rest: dict[str, Any] = dict(result.payload)
    names = (str(rest.get("negative", "0")), str(rest.get("positive", "1")))
    bars = _bars(rest)
    drawn = {bar.name for bar in bars}
    others = rest.get("baselines")
    if isinstance(others, dict) and {str(name).replace("_", " ") for name in others} <= drawn:
        rest.pop("baselines")
    tests = rest.get("tests")
    if isinstance(tests, list):
        rest["tests"] = [_undrawn(row, drawn) for row in tests]
    curve = _part(rest, "layer_curve", Curve)
    roc = _part(rest, "roc", Roc)
    mistakes, of = _mistakes(rest, names)
    notes = rest.pop("notes", None) if isinstance(rest.get("notes"), list) else None
    return ProbeView(
        sentence=str(rest.pop("sentence", "") or ""),
        positive=names[1],
        notes=[str(note) for note in notes or []],
        bars=bars,
        curve=curve,
        roc=roc,
        mistakes=mistakes,
        mistakes_of=of,
        rest=_folded(rest),
    )


def _undrawn(row: Any, drawn: set[str]) -> Any:
    """A tested part without its baselines, if all of them stand among the bars."""
    others = row.get("baselines") if isinstance(row, dict) else None
    if not isinstance(others, dict) or not {f"{row.get('part', '')}: {n}".replace("_", " ") for n in others} <= drawn:
        return row
    return {key: value for key, value in row.items() if key != "baselines"}


def _folded(rest: dict[str, Any]) -> dict[str, Any]:
    """A number and its interval as one entry: `gain` and `gain_interval`."""
    out = dict(rest)
    for key, value in rest.items():
        ends = _pair(rest.get(f"{key}_interval"))
        if isinstance(value, int | float) and ends is not None:
            out[key] = f"{value:.3g} ({ends[0]:.3g} to {ends[1]:.3g})"
            out.pop(f"{key}_interval")
    return out


def _bars(rest: dict[str, Any]) -> list[Bar]:
    """Of a test: the probe, then what it is compared with, best first. Of a fit: validation, then the same for each
    part that was held out."""
    if isinstance(rest.get("auroc"), int | float):
        return _compared("", rest["auroc"], rest.get("auroc_interval"), rest.get("baselines"))
    found = [_bar("in validation", rest.get("validation"), True)]
    for row in rest["tests"] if isinstance(rest.get("tests"), list) else []:
        if isinstance(row, dict):
            found += _compared(f"{row.get('part', '')}: ", row.get("auroc"), row.get("interval"), row.get("baselines"))
    return [bar for bar in found if bar is not None]


def _compared(prefix: str, auroc: Any, interval: Any, others: Any) -> list[Bar]:
    own = _bar(f"{prefix}this probe", {"auroc": auroc, "interval": interval}, True)
    if own is None:
        return []
    rows = others.items() if isinstance(others, dict) else []
    found = [_bar(f"{prefix}{name}".replace("_", " "), value, False) for name, value in rows]
    return [own, *sorted((bar for bar in found if bar is not None), key=lambda bar: -bar.auroc)]


def _bar(name: str, value: Any, own: bool) -> Bar | None:
    if not isinstance(value, dict):
        return None
    auroc = value.get("auroc")
    if isinstance(auroc, bool) or not isinstance(auroc, int | float):
        return None
    return Bar(name=name, auroc=auroc, interval=_pair(value.get("interval")), own=own)


def _pair(interval: Any) -> list[float] | None:
    """The two ends of an interval, if it is one."""
    if not isinstance(interval, list | tuple) or len(interval) != 2:
        return None
    return [float(end) for end in interval] if all(isinstance(end, int | float) for end in interval) else None


def _part(rest: dict[str, Any], key: str, kind: type[M]) -> M | None:
    value = rest.get(key)
    if not isinstance(value, dict):
        return None
    try:
        part = kind(**{name: value[name] for name in kind.model_fields if name in value})
    except ValidationError:
        return None
    told = {name: x for name, x in value.items() if name not in kind.model_fields}
    if told:
        rest[key] = told
    else:
        rest.pop(key)
    return part


def _mistakes(rest: dict[str, Any], names: tuple[str, str]) -> tuple[list[Mistake], int]:
    rows = rest.get("mistakes")
    if not isinstance(rows, list):
        return [], 0
    found = []
    try:
        for row in rows[:MOST_MISTAKES]:
            label = row.get("label")
            said = names[label] if label in (0, 1) else str(label)
            tokens, scores = row.get("tokens") or [], row.get("token_scores") or []
            both = min(len(tokens), len(scores))
            found.append(
                Mistake(
                    text=row["text"],
                    label=said,
                    score=row.get("score"),
                    tokens=tokens[:both],
                    token_scores=scores[:both],
                )
            )
    except (ValidationError, KeyError, TypeError, AttributeError):
        return [], 0
    rest.pop("mistakes")
    return found, len(rows)
