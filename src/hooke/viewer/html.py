"""One self-contained HTML file: the bundle and the page's bytes, no request, nothing to install."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from hooke.errors import HookeError, visible
from hooke.results import Result
from hooke.viewer.page import page_bytes
from hooke.viewer.titles import title

LOADS = '<script type="module" src="/static/page.js"></script>'  # in index.html
MAX_HTML_BYTES = 25 * 2**20  # what can still be mailed
HTML_LINKS = 60_000  # the strongest; keeps the file of a trace of 1,000 nodes under 1 MB


def script() -> bytes:
    """The built page: one ES module with its style inside."""
    return files("hooke.viewer").joinpath("static", "page.js").read_bytes()


def index_html() -> str:
    """The document of the local app: it loads the bundle from the server."""
    return files("hooke.viewer").joinpath("static", "index.html").read_text(encoding="utf-8")


def policy(code: str, *more: str) -> str:
    """A content policy by which this script runs and no other: markup that slips into a page does nothing, and the page
    talks to nobody. The style is in the script, as constructed sheets. more: directives to add."""
    digest = base64.b64encode(hashlib.sha256(code.encode("utf-8")).digest()).decode()
    own = (f"script-src 'sha256-{digest}'", "img-src data: blob:", "base-uri 'none'", "form-action 'none'")
    return "; ".join(("default-src 'none'", *own, *more))


def app_page(index: str, code: bytes) -> tuple[str, str]:
    """The document of the local app with the bundle inside, and its policy: it may also ask its own server."""
    text = code.decode("utf-8")
    whole = index.replace(LOADS, f'<script type="module">{text}</script>')
    return whole, policy(text, "connect-src 'self'", "frame-ancestors 'none'")


def html_page(results: Sequence[Result], *, state: dict[str, Any] | None = None, max_links: int = HTML_LINKS) -> str:
    """The page of a result (main result first) as one HTML file. state: what a person did, as the page saved it.

    Raises HookeError if the file would be too large to mail.
    """
    return wrap(page_bytes(results, state=state, max_links=max_links), title(results[0]), summary(results[0]))


def wrap(data: bytes, name: str, text: str) -> str:
    """Bundle and page bytes in one document. `name` and `text` are untrusted; the data is base64."""
    code = script().decode("utf-8")
    document = (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy(code)}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="referrer" content="no-referrer">\n<title>{html.escape(visible(name))}</title>\n</head>\n<body>\n'
        f"<noscript><h1>{html.escape(visible(name))}</h1><p>{html.escape(visible(text))}</p>"
        f"<p>Turn on JavaScript to see the picture.</p></noscript>\n"
        f'<div id="hooke"></div>\n'
        f'<script type="text/plain" id="hooke-data">{base64.b64encode(data).decode()}</script>\n'
        f'<script type="module" id="hooke-bundle">{code}</script>\n</body>\n</html>\n'
    )
    if len(document) > MAX_HTML_BYTES:
        size = len(document) >> 20
        raise HookeError(
            f"the page would be {size} MB; make its traces with fewer --nodes for a file that can be mailed"
        )
    return document


def summary(result: Result) -> str:
    """What a reader without JavaScript gets."""
    if result.kind == "assess":  # a sentence of a report does not stand without its verdict
        return " ".join(f"[{claim.verdict}] {claim.text}" for claim in result.claims)
    return str(result.payload.get("sentence") or " ".join(claim.text for claim in result.claims))
