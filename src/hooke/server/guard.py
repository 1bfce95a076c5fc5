"""Who may ask: every request passes here first, static files too.

The person's own browser, by a token in the link that the terminal printed; programs, by the same token as
`Authorization: Bearer`. Pages of other sites cannot: not by name (Host), not by script (Origin), not by a form
(a SameSite=Strict cookie, and no request that changes anything without an Origin).
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import secrets
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, quote, urlencode

from starlette.types import ASGIApp, Message, Receive, Scope, Send

STYLE = "body{font:1.1rem system-ui;margin:4rem auto;max-width:34rem}"  # of the page that refuses
POLICY = (  # of all but the page, which brings its own
    f"default-src 'none'; style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
Header = tuple[bytes, bytes]


class Guard:
    """ASGI middleware around the app. `port` is where it listens, `token` what must be shown."""

    def __init__(self, app: ASGIApp, *, port: int, token: str) -> None:
        self.app, self.token = app, token
        self.cookie = f"hooke-{port}"
        self.hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")}
        self.origins = {f"http://{host}" for host in self.hosts}
        self.tickets: set[str] = set()

    def ticket(self) -> str:
        """A token that works once: what a browser is started with can be seen in the list of processes."""
        found = secrets.token_urlsafe(24)
        self.tickets.add(found)
        return found

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # no web sockets

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = message.get("headers", [])
                named = {name.lower() for name, _ in given}
                message["headers"] = [*given, *(header for header in HEADERS if header[0] not in named)]
            await send(message)

        refused = self._refusal(scope)
        if refused is None:
            await self.app(scope, receive, guarded)
            return
        status, kind, body, extra = refused
        headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), *extra]
        await guarded({"type": "http.response.start", "status": status, "headers": headers})
        await guarded({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    def _refusal(self, scope: Scope) -> tuple[int, bytes, bytes, list[Header]] | None:
        """(status, content type, body, headers) where the app is not to be asked."""
        headers: list[Header] = scope["headers"]
        path, api = scope["path"], scope["path"].startswith("/api/")
        if [_text(v) for v in _all(headers, b"host")] not in [[host] for host in self.hosts]:
            return _say(421, "this server answers only to 127.0.0.1, localhost and [::1]", api)
        if _all(headers, b"transfer-encoding") and _all(headers, b"content-length"):
            return _say(400, "a body has one length: a number of bytes or chunks, not both", api)
        origins = [_text(v) for v in _all(headers, b"origin")]
        if not set(origins) <= self.origins:
            return _say(403, "requests from other pages are refused", api)
        bearer = self._is_token(_bearer(headers), tickets=False)
        try:
            asked = dict(parse_qsl(_text(scope["query_string"]), keep_blank_values=True, max_num_fields=100))
        except ValueError:
            return _say(400, "this address asks for too much", api)
        if scope["method"] == "GET" and "token" in asked and not api:
            given, known = asked.pop("token"), self._is_token(self._cookie(headers), tickets=False)
            if not self._is_token(given, tickets=True) and not known:  # a ticket that was used may be reloaded
                return _say(401, LINK, api)
            target = "/" + quote(path.lstrip("/\\"), safe="/") + ("?" + urlencode(asked) if asked else "")
            return self._enter(target, _all(headers, b"sec-fetch-site"))
        if not bearer and not self._is_token(self._cookie(headers), tickets=False):
            return _say(401, LINK, api)
        if scope["method"] not in ("GET", "HEAD") and not origins and not bearer:
            return _say(403, "a request that changes something needs an Origin or the token as Authorization", api)
        return None

    def _enter(self, target: str, site: list[bytes]) -> tuple[int, bytes, bytes, list[Header]]:
        """Set the cookie and go on without the token. After a link on another page, a browser keeps a strict cookie
        back from a redirect, so there a page does the going on."""
        cookie = f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict".encode()
        if set(site) <= {b"none", b"same-origin"}:
            return 303, b"text/plain", b"", [(b"location", target.encode()), (b"set-cookie", cookie)]
        link = html.escape(target, quote=True)
        body = f'<!doctype html><meta http-equiv="refresh" content="0;url={link}"><a href="{link}">Hooke</a>'
        return 200, b"text/html; charset=utf-8", body.encode(), [(b"set-cookie", cookie)]

    def _is_token(self, given: str | None, *, tickets: bool) -> bool:
        if given is None:
            return False
        if secrets.compare_digest(given.encode(), self.token.encode()):
            return True
        if tickets and given in self.tickets:
            self.tickets.discard(given)
            return True
        return False

    def _cookie(self, headers: list[Header]) -> str | None:
        for value in _all(headers, b"cookie"):
            for part in _text(value).split(";"):
                try:
                    found = SimpleCookie(part.strip()).get(self.cookie)
                except CookieError:
                    continue
                if found is not None:
                    return found.value
        return None


LINK = "open the link that the terminal printed: it carries the token that this server asks for"


def _say(status: int, text: str, api: bool) -> tuple[int, bytes, bytes, list[Header]]:
    """One line, as JSON for programs and as a page for people."""
    if api:
        return status, b"application/json", json.dumps({"error": text}).encode(), []
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Hooke</title>'
        f"<style>{STYLE}</style><body><h1>Hooke</h1><p>{html.escape(text)}.</p>"
    )
    return status, b"text/html; charset=utf-8", page.encode(), []


def _all(headers: Iterable[Header], name: bytes) -> list[bytes]:
    return [value for key, value in headers if key == name]


def _text(value: bytes) -> str:
    return value.decode("latin-1")


def _bearer(headers: list[Header]) -> str | None:
    found = _all(headers, b"authorization")
    scheme, _, value = (_text(found[0]) if len(found) == 1 else "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else None
