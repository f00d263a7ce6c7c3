"""How a user calls the sample app: one connection for each user, JSON in both directions."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from geventhttpclient import HTTPClient
from geventhttpclient.response import HTTPParseError

from kvlab.errors import InvalidArgument

TIMEOUT = 10.0


class AppFailed(OSError):
    """The app gave no answer, or an answer that does not say what became of the request."""


def is_http(host: str | None) -> bool:
    """Whether a host, as Locust has it, is an app and not a store."""
    return (host or "").startswith(("http://", "https://"))


class AppClient:
    """``url``: http://host:port. The client keeps its connection open."""

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # half an IPv6 address, a port beyond 65535
            usable = False
        if not usable:
            shown = re.sub(r"//.*@", "//…@", url)
            raise InvalidArgument(
                f"the app's address must be like http://127.0.0.1:8000, not {shown!r}"
            )
        self._client = HTTPClient.from_url(url, connection_timeout=TIMEOUT, network_timeout=TIMEOUT)
        # Without a user and a password: the address goes into reports.
        self._where = parts.netloc.rpartition("@")[2]

    def get(self, path: str, expected: tuple[int, ...] = (200,)) -> Any:
        """The JSON of the answer. Raises AppFailed for a status that is not ``expected``."""
        return self._ask("GET", path, b"", {}, expected)

    def post(
        self,
        path: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] = {},
        expected: tuple[int, ...] = (200,),
    ) -> Any:
        """As :meth:`get`."""
        text = b"" if body is None else json.dumps(body).encode()
        return self._ask(
            "POST", path, text, {"Content-Type": "application/json", **headers}, expected
        )

    def close(self) -> None:
        self._client.close()

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        expected: tuple[int, ...],
    ) -> Any:
        try:
            response = self._client.request(method, path, body=body, headers=headers)
            content = response.read()
        except (OSError, HTTPParseError) as problem:
            raise AppFailed(f"no answer from {self._where}: {problem}") from problem
        if response.status_code not in expected:
            raise AppFailed(f"status {response.status_code} from {self._where}{path.split('?')[0]}")
        try:
            return json.loads(content)
        except ValueError:
            raise AppFailed(f"no JSON from {self._where}{path.split('?')[0]}") from None
