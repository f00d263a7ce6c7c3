"""The page that shows the app in a browser: one file that loads nothing else.

Its content security policy allows this one script and this one style, by their hashes, and
requests to this app alone.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from kvlab.sample_app.models import header

PAGE = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")


def policy_of(page: str) -> str:
    """The policy of a page with one script and one style of its own."""
    script, style = _hash_of("script", page), _hash_of("style", page)
    return (
        f"default-src 'none'; script-src {script}; style-src {style}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


def _hash_of(element: str, page: str) -> str:
    (text,) = re.findall(f"<{element}>(.*?)</{element}>", page, re.DOTALL)
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


POLICY = policy_of(PAGE)

router = APIRouter(tags=["page"])


@router.get(
    "/",
    response_class=HTMLResponse,
    responses={200: {"headers": {"Content-Security-Policy": header("", required=True)}}},
)
async def page() -> HTMLResponse:
    """The page."""
    return HTMLResponse(PAGE, headers={"Content-Security-Policy": POLICY})
