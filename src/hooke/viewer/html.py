"""One self-contained HTML file: the bundle and the page's bytes, no request, nothing to install."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from hooke.errors import HookeError, visible
from hooke.results import Result
from hooke.viewer.page import page_bytes, title

# A mailed report provably talks to nobody.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)
MAX_HTML_BYTES = 25 * 2**20  # what can still be mailed
HTML_LINKS = 60_000  # the strongest; keeps the file of a trace of 1,000 nodes under 1 MB


def script() -> bytes:
    """The built page: one ES module with its style inside."""
    return files("hooke.viewer").joinpath("static", "page.js").read_bytes()


def index_html() -> str:
    """The document of the local app: it loads the bundle from the server."""
    return files("hooke.viewer").joinpath("static", "index.html").read_text(encoding="utf-8")


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
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
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
