"""The way back after an action: to this page only, and with the name kept."""

from __future__ import annotations

from urllib.parse import quote, unquote, urlsplit

from fastapi import Request
from fastapi.responses import RedirectResponse, Response

_COOKIE = "hptwin_name"


def done(back: str, who: str) -> Response:
    """Return the way back, and remember who acted."""
    answer = RedirectResponse(inside(back), 303)
    answer.set_cookie(
        _COOKIE,
        quote(who.strip()[:80]),
        max_age=180 * 86400,
        httponly=True,
        samesite="strict",
    )
    return answer


def inside(back: str) -> str:
    """Return a way back that stays on this page; elsewhere becomes the start."""
    parts = urlsplit(back)
    if parts.scheme or parts.netloc or not back.startswith("/") or "\\" in back:
        return "/"
    return back if not back.startswith("//") else "/"


def name(request: Request) -> str:
    """Return who acted last from this browser."""
    return unquote(request.cookies.get(_COOKIE, ""))
