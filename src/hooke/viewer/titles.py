"""The line by which a result is called on a page, in a list and in a notebook."""

from __future__ import annotations

from hooke.results import Result


def title(result: Result) -> str:
    """A line that tells a result from others of its kind."""
    prompt = str(result.arguments.get("prompt") or result.payload.get("prompt") or "").strip()
    if not prompt:
        subject = result.payload.get("subject")
        named = subject if isinstance(subject, dict) else result.payload
        prompt = str(named.get("name") or named.get("task") or result.arguments.get("dataset") or "").strip()
    short = prompt if len(prompt) <= 80 else prompt[:79] + "…"
    return f"{result.kind}: {short}" if short else result.kind
