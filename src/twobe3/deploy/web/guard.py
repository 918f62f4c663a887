"""Who may ask, from where, and what a browser may do with the answer; all that comes goes through here first."""

from __future__ import annotations

import hmac
import logging
import secrets
import time
from hashlib import sha256
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.core.fault import internal_error
from twobe3.deploy.web.problems import answer_problem

log = logging.getLogger("twobe3")
COOKIE = "twobe3"
SESSION_S = 12 * 3600
MOST_SESSIONS = 1000
OPEN = ("/login", "/static/")
"""What is answered without a token: the form to log in, and its style."""
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # without one, browsers hide the origin of a form from its own server, too
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}
POLICY = (
    "default-src 'none'; script-src 'self'{hashes}; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def make_policy(script_hashes: tuple[str, ...] = ()) -> str:
    """The content security policy of a page (W3C CSP Level 3): nothing from elsewhere, scripts only from files."""
    return POLICY.format(hashes="".join(f" '{one}'" for one in script_hashes))


class Sessions:
    """Who is logged in, by digests of random cookies; forgotten when the server ends.

    Parameters
    ----------
    token : str
        Of the server; empty where it needs none.
    """

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        self._ends: dict[bytes, float] = {}

    @property
    def needed(self) -> bool:
        """Whether the server has a token."""
        return bool(self._token)

    def is_token(self, text: str) -> bool:
        """Whether a text is the token, in a time that does not tell how much of it is right."""
        return hmac.compare_digest(text.encode("utf-8", "surrogatepass"), self._token)

    def open(self) -> str:
        """The cookie of a new session."""
        now = time.monotonic()
        self._ends = {one: end for one, end in self._ends.items() if end > now}
        while len(self._ends) >= MOST_SESSIONS:
            del self._ends[next(iter(self._ends))]
        cookie = secrets.token_urlsafe(32)
        self._ends[sha256(cookie.encode()).digest()] = now + SESSION_S
        return cookie

    def close(self, headers: Headers) -> None:
        """End the session of a request."""
        self._ends.pop(sha256(_read_cookie(headers).encode()).digest(), None)

    def allow(self, headers: Headers) -> bool:
        """Whether a request has the token, or the cookie of a session."""
        if not self.needed:
            return True
        kind, _, text = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self.is_token(text.strip()):
            return True
        return self._ends.get(sha256(_read_cookie(headers).encode()).digest(), 0.0) > time.monotonic()


class Guard:
    """The first thing that a request meets, and the last that an answer does.

    Parameters
    ----------
    app : ASGI application
    sessions : Sessions
    local : bool
        Whether it answers to the names of this machine alone, since any page may make a browser call it under another
        (DNS rebinding); a token keeps such a page out, too.
    """

    def __init__(self, app: ASGIApp, sessions: Sessions, *, local: bool) -> None:
        self._app, self._sessions, self._local = app, sessions, local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let it through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def send_guarded(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                for name, value in {**HEADERS, "Content-Security-Policy": make_policy()}.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            refused = self._refuse(scope)
            await (self._app if refused is None else refused)(scope, receive, send_guarded)
        except Exception as error:  # its message may quote what was sent
            failure = internal_error(error)
            log.error("%s", failure)
            if not begun:
                await answer_problem(failure)(scope, receive, send_guarded)

    def _refuse(self, scope: Scope) -> Response | None:
        """The answer to a request that goes no further."""
        headers, path = Headers(scope=scope), str(scope["path"])
        host = headers.get("host", "")
        if self._local and host.rpartition(":")[0] not in LOCAL_NAMES and host not in LOCAL_NAMES:
            reason = "the host is called by a name that is not this machine's own"
            return answer_problem(ConfigurationError(Code.ORIGIN_REFUSED, reason))
        if scope["method"] not in SAFE_METHODS and not _is_own(headers, host):
            return answer_problem(ConfigurationError(Code.ORIGIN_REFUSED, "the request comes from a foreign page"))
        if path.startswith(OPEN) or self._sessions.allow(headers):
            return None
        if scope["method"] == "GET" and (path == "/" or path.startswith("/jobs/")):
            return RedirectResponse("/login", 303)
        return answer_problem(ConfigurationError(Code.TOKEN_REFUSED, "the request has no valid token"))


def _is_own(headers: Headers, host: str) -> bool:
    """Whether a request that changes something comes from a page of the server, or from no page at all."""
    origin = headers.get("origin")
    if origin is not None:
        return origin.partition("://")[2] == host
    return headers.get("sec-fetch-site", "none") in ("none", "same-origin")


def _read_cookie(headers: Headers) -> str:
    cookies = SimpleCookie()
    try:
        cookies.load(headers.get("cookie", ""))
    except CookieError:
        return ""
    return cookies[COOKIE].value if COOKIE in cookies else ""
