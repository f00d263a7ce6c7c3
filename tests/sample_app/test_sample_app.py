"""The sample web app as its users meet it: over HTTP from a real uvicorn, on a real server."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from fastapi import FastAPI
from support import browser

from kvlab import Kv
from kvlab.errors import KvlabError
from kvlab.rate_limiting import FixedWindow
from kvlab.rate_limiting.naive import naive_client_address
from kvlab.sample_app import errors
from kvlab.sample_app.app import main
from kvlab.sample_app.child_process import WebApp, serving
from kvlab.sample_app.services import LOOPBACK_COOKIE
from kvlab.server import engines
from kvlab.server.listening import listening
from kvlab.server.running_server import RunningServer

LIMIT = 3
PROXY = "127.0.0.1"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: Any


class Client:
    """One open connection; ``address`` is the client address that a proxy would forward."""

    def __init__(self, app: WebApp) -> None:
        host, port = app.url.removeprefix("http://").split(":")
        self._connection = http.client.HTTPConnection(host, int(port), timeout=30)

    def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        address: str | None = None,
        cookie: str | None = None,
        **headers: str,
    ) -> Answer:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if address is not None:
            sent["X-Forwarded-For"] = address
        if cookie is not None:
            sent["Cookie"] = cookie
        data = body if isinstance(body, bytes) or body is None else json.dumps(body)
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        self._connection.request(method, path, data, sent)
        reply = self._connection.getresponse()
        text = reply.read()
        kind = reply.headers["Content-Type"]
        return Answer(
            reply.status,
            {name.lower(): value for name, value in reply.headers.items()},
            json.loads(text) if kind == "application/json" else text.decode(),
        )

    def login(self, user: str, **given: Any) -> str:
        """The Cookie header of a new session."""
        answer = self("POST", "/api/login", {"user": user}, **given)
        assert answer.status == 200, answer
        return answer.headers["set-cookie"].split(";")[0]

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="module")
def store(running: Callable[[str], RunningServer]) -> RunningServer:
    return running("valkey")


@pytest.fixture(scope="module")
def served(store: RunningServer) -> Iterator[WebApp]:
    """Behind a proxy on loopback, so that a test can come from any address."""
    settings = {"limit": LIMIT, "window": 3600, "trusted_proxies": PROXY, "hosts": "app.example"}
    with serving(store.url, prefix="webapp", **settings) as app:
        yield app
        assert "Traceback" not in app.log


@pytest.fixture
def app(served: WebApp, store: RunningServer) -> WebApp:
    """The app, with no key in its namespace."""
    with store.client() as client, Kv(client, prefix="webapp") as kv:
        kv.clear()
    return served


@pytest.fixture
def ask(app: WebApp) -> Iterator[Client]:
    client = Client(app)
    yield client
    client.close()


# --- work ---------------------------------------------------------------------------------------


def test_one_round_trip_carries_limit_session_and_flags(app: WebApp, ask: Client) -> None:
    # A server that nobody else asks: what it reads from its sockets is the app's, and our INFO.
    with engines.start("valkey") as lonely, serving(lonely.url, limit=1000, logins=1000) as alone:
        client = Client(alone)
        cookie = client.login("c7")
        with lonely.client() as info:

            def reads(request: Callable[[], Answer]) -> int:
                request()  # connections are open and scripts loaded
                before = int(info.info("stats")["total_reads_processed"])
                for _ in range(20):
                    assert request().status == 200
                return int(info.info("stats")["total_reads_processed"]) - before - 1

            assert reads(lambda: client("POST", "/api/work", cookie=cookie)) == 20
            # Beside it what takes two: the limits and who was in, then the new session.
            assert reads(lambda: client("POST", "/api/login", {"user": "c7"})) == 40
        client.close()


def test_work_is_limited_and_says_so(ask: Client) -> None:
    answers = [ask("POST", "/api/work", address="203.0.113.7") for _ in range(LIMIT + 1)]
    assert [answer.status for answer in answers] == [200] * LIMIT + [429]
    assert [answer.body["remaining"] for answer in answers] == [2, 1, 0, 0]
    for answer in answers:
        decided = answer.body["decided_at"]
        assert decided == round(decided, 6)
        assert decided > 1.7e9
        assert answer.headers["ratelimit-policy"] == f'"work";q={LIMIT};w=3600'
        assert answer.headers["ratelimit"].startswith('"work";r=')
        assert ("retry-after" in answer.headers) == (answer.status == 429)
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 3600
    times = [answer.body["decided_at"] for answer in answers]
    assert times == sorted(set(times))  # by the microsecond


def test_a_client_behind_the_proxy_cannot_choose_its_address(ask: Client) -> None:
    sent = [f"10.0.0.{i}, 203.0.113.9" for i in range(LIMIT + 1)]
    answers = [ask("POST", "/api/work", address=line) for line in sent]
    assert [answer.status for answer in answers] == [200] * LIMIT + [429]
    # The tutorial's way: an identity for each line.
    assert len({naive_client_address(line) for line in sent}) == LIMIT + 1


def test_a_flag_and_a_session_reach_the_same_request(ask: Client) -> None:
    admin, user = ask.login("admin"), ask.login("c7")
    assert ask("POST", "/api/work", cookie=user).body["version"] == "v1"
    assert ask("PUT", "/api/flags/work-v2", {"percent": 100}, cookie=admin).status == 200
    done = ask("POST", "/api/work", cookie=user).body
    assert (done["user"], done["version"]) == ("c7", "v2")


# --- sessions -----------------------------------------------------------------------------------


def test_logout_kills_the_session(ask: Client) -> None:
    cookie = ask.login("c7")
    assert ask("GET", "/api/me", cookie=cookie).body["user"] == "c7"
    out = ask("POST", "/api/logout", cookie=cookie)
    assert out.headers["set-cookie"].startswith("session=; Max-Age=0")
    assert ask("GET", "/api/me", cookie=cookie).body["user"] is None
    assert ask("PUT", "/api/profiles/7", {"name": "x"}, cookie=cookie).status == 401


def test_an_anonymous_id_dies_at_login_and_its_data_stays(ask: Client) -> None:
    chosen = ask("PUT", "/api/theme", {"theme": "dark"})
    anonymous = chosen.headers["set-cookie"].split(";")[0]
    assert ask("GET", "/api/me", cookie=anonymous).body["theme"] == "dark"
    cookie = ask.login("c7", cookie=anonymous)
    assert ask("GET", "/api/me", cookie=anonymous).body == {
        "user": None,
        "theme": "auto",
        "expires": None,
    }
    assert ask("GET", "/api/me", cookie=cookie).body["theme"] == "dark"
    # Of another user's session nothing is carried over.
    other = ask.login("c8", cookie=cookie)
    assert ask("GET", "/api/me", cookie=cookie).body["user"] is None
    assert ask("GET", "/api/me", cookie=other).body["theme"] == "auto"


def test_a_planted_id_is_not_accepted(ask: Client) -> None:
    planted = "session=" + "A" * 22 + "." + "B" * 43
    assert ask.login("c7", cookie=planted) != planted
    assert ask("GET", "/api/me", cookie=planted).body["user"] is None


def test_the_cookie_is_secure_unless_the_connection_is_plain_loopback(ask: Client) -> None:
    body = {"user": "c7"}
    plain = ask("POST", "/api/login", body).headers["set-cookie"]
    assert plain.startswith("session=")
    assert plain.endswith("; Max-Age=1800; Path=/; HttpOnly; SameSite=Lax")
    for elsewhere in ({"address": "203.0.113.9"}, {"Host": "app.example"}):
        secure = ask("POST", "/api/login", body, **elsewhere).headers["set-cookie"]
        assert secure.startswith("__Host-session=")
        assert "; Secure; HttpOnly; SameSite=Lax" in secure
        cookie = secure.split(";")[0]
        assert ask("GET", "/api/me", cookie=cookie, **elsewhere).body["user"] == "c7"
        # A neighbouring host may plant the name without the prefix: it is not read there.
        named = cookie.removeprefix("__Host-")
        assert ask("GET", "/api/me", cookie=named, **elsewhere).body["user"] is None


@pytest.mark.parametrize(
    "said", [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec_Fetch_Site": "same-site"}]
)
def test_what_a_browser_sends_for_another_site_is_refused(
    ask: Client, said: dict[str, str]
) -> None:
    cookie = ask.login("c7")
    assert ask("POST", "/api/logout", cookie=cookie, **said).status == 403
    assert ask("GET", "/api/me", cookie=cookie).body["user"] == "c7"
    assert ask("POST", "/api/logout", cookie=cookie, Sec_Fetch_Site="same-origin").status == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:99", 200),
        ("LOCALHOST", 200),
        ("[::1]:8000", 200),
        ("10.1.2.3", 200),  # no name can be an address
        ("App.example:80", 200),
        ("evil.example", 400),
        ("127.0.0.1.evil.example", 400),
        ("app.example.evil.example", 400),
        ("evil@127.0.0.1", 400),
        ("127.0.0.1/evil.example", 400),
        ("", 400),
    ],
)
def test_a_page_that_points_its_own_name_at_the_app_is_refused(
    ask: Client, host: str, status: int
) -> None:
    answer = ask("GET", "/api/me", Host=host)
    assert answer.status == status
    if status == 400:
        # For the browser page and app are one site: it sends no sign of another.
        planted = ask("POST", "/api/login", {"user": "admin"}, Host=host, Origin=f"http://{host}")
        assert planted.status == 400
        assert "set-cookie" not in planted.headers
        assert set(planted.body) == {"status", "title", "detail", "applied"}


def test_log_ins_are_limited_by_user_whatever_the_address(ask: Client) -> None:
    tries = [ask("POST", "/api/login", {"user": "c7"}, address=f"203.0.113.{i}") for i in range(11)]
    assert [answer.status for answer in tries] == [200] * 10 + [429]
    assert "set-cookie" not in tries[-1].headers
    assert 1 <= int(tries[-1].headers["retry-after"]) <= 120  # the counter fades in the next window
    ask.login("c8", address="203.0.113.10")


@pytest.mark.parametrize(
    ("header", "sid"),
    [
        ("session=mine", "mine"),
        ("theme=dark;  session=mine ", "mine"),
        ("session=mine; session=mine", "mine"),
        ("session=planted; session=mine", None),
        ("session=mine; session=", None),
        ("session=", None),
        ("sessions=x", None),
        ("", None),
        (None, None),
    ],
)
def test_of_two_cookies_neither_is_believed(header: str | None, sid: str | None) -> None:
    assert LOOPBACK_COOKIE.parse(header) == sid


def test_a_mistake_says_nothing_of_the_program() -> None:
    app = FastAPI()
    errors.install(app)
    app.get("/")(lambda: 1 / 0)
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}
    with pytest.raises(ZeroDivisionError):  # for the log
        asyncio.run(app(scope, None, send))
    start, body = sent
    assert start["status"] == 500
    assert {(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")} <= {
        *start["headers"]
    }
    assert json.loads(body["body"])["detail"] == "a mistake in the program; it is in the log"


def test_no_address_redirects_and_head_is_get_without_a_body(ask: Client) -> None:
    for path in ("/api/me/", "//evil.example/", "//evil.example/api/me/"):
        answer = ask("GET", path)
        assert (answer.status, answer.headers.get("location")) == (404, None)
    head, get = ask("HEAD", "/"), ask("GET", "/")
    assert (head.status, head.body) == (200, "")
    assert head.headers["content-length"] == get.headers["content-length"]


def test_new_anonymous_sessions_and_log_ins_are_limited_by_address(
    ask: Client, store: RunningServer
) -> None:
    address = "203.0.113.1"
    for _ in range(2):  # the edge of a minute may fall between once
        with store.client() as client, Kv(client, prefix="webapp") as kv:
            kv.run(FixedWindow("new-sessions", 60, 60).hit(address, 60))
        login = ask("POST", "/api/login", {"user": "c7"}, address=address)
        answer = ask("PUT", "/api/theme", {"theme": "dark"}, address=address)
        assert (answer.status == 429) == ("set-cookie" not in answer.headers)
        if answer.status == 429:
            break
    assert login.status == 429
    assert answer.status == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 60


# --- profiles, flags, board ---------------------------------------------------------------------


def test_a_profile_is_loaded_once_and_written_through(ask: Client) -> None:
    reads = [ask("GET", "/api/profiles/7").body for _ in range(2)]
    assert [read["cached"] for read in reads] == [False, True]
    assert "email" not in reads[0]
    cookie = ask.login("c7")
    saved = ask("PUT", "/api/profiles/7", {"name": "Ann"}, cookie=cookie).body
    assert saved["cached"] is True
    again = ask("GET", "/api/profiles/7").body
    assert (again["name"], again["cached"]) == ("Ann", True)
    assert again["version"] == saved["version"] > reads[0]["version"]


@pytest.mark.parametrize(
    ("user", "path", "body", "status"),
    [
        (None, "/api/profiles/7", {"name": "x"}, 401),
        ("c8", "/api/profiles/7", {"name": "x"}, 403),
        ("c7", "/api/profiles/7", {"email": "c8@example.com"}, 409),
        ("c7", "/api/profiles/7", {"name": ""}, 422),
        ("admin", "/api/profiles/1001", {"name": "x"}, 404),
        (None, "/api/flags/work-v2", {"percent": 100}, 401),
        ("c7", "/api/flags/work-v2", {"percent": 100}, 403),
        ("admin", "/api/flags/work-v2", {"percent": 101}, 422),
    ],
)
def test_who_may_change_what(
    ask: Client, user: str | None, path: str, body: object, status: int
) -> None:
    cookie = None if user is None else ask.login(user)
    assert ask("PUT", path, body, cookie=cookie).status == status
    assert ask("GET", "/api/flags").body["version"] == 0


def test_a_repeated_submission_counts_once(ask: Client) -> None:
    add = {"member": "a/b", "score": 5, "mode": "add"}
    for _ in range(2):
        once = ask("POST", "/api/board/scores", add, Idempotency_Key="k1")
    assert once.body == {"accepted": True, "entry": {"rank": 1, "member": "a/b", "score": 5}}
    other = {**add, "score": 6}
    assert ask("POST", "/api/board/scores", other, Idempotency_Key="k1").status == 409
    # Without a key the app cannot know that it is the same one.
    for _ in range(2):
        twice = ask("POST", "/api/board/scores", {**add, "member": "c"})
    assert twice.body["entry"]["score"] == 10
    assert ask("GET", "/api/board/rank?member=a/b").body["rank"] == 2
    around = ask("GET", "/api/board/around?member=a/b&n=1").body["entries"]
    assert around == ask("GET", "/api/board/top").body["entries"]
    assert ask("GET", "/api/board/rank?member=d").status == 404


# --- bad use ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"x" * 70_000, 413),
        (b"[" * 30_000, 400),
        (b'{"member":"\xff","score":1}', 400),
        (b'{"member":"\\ud800","score":1}', 422),
        (b'{"member":"a","score":NaN}', 422),
        (b'{"member":"a","score":1e999}', 422),
        (b'{"member":"a","score":9007199254740992}', 422),
        (b'{"member":"a","score":"1"}', 422),
        (b'{"member":"a","score":1,"extra":1}', 422),
        (b"", 422),
    ],
)
def test_a_bad_body_is_refused_with_one_shape(ask: Client, body: bytes, status: int) -> None:
    answer = ask("POST", "/api/board/scores", body)
    assert answer.status == status
    if status != 413:
        assert set(answer.body) == {"status", "title", "detail", "applied"}
        assert answer.body["applied"] is False
    assert ask("GET", "/api/board/top").body["entries"] == []


def test_no_request_hides_in_the_body_of_another(app: WebApp) -> None:
    """The whole table is the gateway's: tests/rest_gateway/test_rest_framing.py."""
    where, hidden = urlsplit(app.url), b"GET /health HTTP/1.1\r\nHost: app.example\r\n\r\n"
    two = f"Transfer-Encoding: chunked\r\nContent-Length: {len(hidden) + 5}"
    head = f"POST /api/work HTTP/1.1\r\nHost: app.example\r\n{two}\r\n\r\n0\r\n\r\n".encode()
    with socket.create_connection((where.hostname, where.port or 0), 30) as client:
        client.sendall(head + hidden)
        said = b"".join(iter(lambda: client.recv(1 << 16), b""))
    assert re.findall(rb"HTTP/1\.1 (\d+) ", said) == [b"400"]


def test_an_unknown_method_is_answered_with_the_known_ones(ask: Client) -> None:
    answer = ask("DELETE", "/api/profiles/7")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, PUT")


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"KVLAB_APP_ALGORITHM": "leaky"}, "KVLAB_APP_ALGORITHM must be one of fixed-window"),
        ({"KVLAB_APP_LIMIT": "0"}, "KVLAB_APP_LIMIT, KVLAB_APP_WINDOW: limit must be"),
        ({"KVLAB_APP_WINDOW": "nan"}, "window must be a number of seconds"),
        ({"KVLAB_APP_OUTAGE": "maybe"}, "KVLAB_APP_OUTAGE must be open or closed"),
        ({"KVLAB_APP_TRUSTED_PROXIES": "10.0.0.1/8"}, "KVLAB_APP_TRUSTED_PROXIES must be"),
        ({"KVLAB_APP_PREFIX": "a b"}, "KVLAB_APP_PREFIX: prefix must be"),
        ({"KVLAB_APP_TIMEOUT": "-1"}, "KVLAB_APP_TIMEOUT must be from"),
        ({"KVLAB_APP_LOGINS": "0"}, "KVLAB_APP_LOGINS: limit must be"),
        ({"KVLAB_APP_LIMITS": "3"}, "there is no KVLAB_APP_LIMITS"),
    ],
)
def test_a_bad_setting_is_named(env: dict[str, str], says: str) -> None:
    from kvlab.sample_app.settings import read_settings

    with pytest.raises(KvlabError) as raised:
        read_settings(env)
    assert says in str(raised.value)


def test_a_bad_start_is_one_line(
    store: RunningServer,
    app: WebApp,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    port = app.url.rpartition(":")[2]
    for url, says in (
        (store.url, f"cannot listen on 127.0.0.1, port {port}"),
        ("redis://127.0.0.1:1", "no connection to 127.0.0.1:1"),
    ):
        monkeypatch.setenv("KVLAB_URL", url)
        with pytest.raises(SystemExit, match=f"^app: .*{says}[^\n]*$"):
            main(["--port", port])
    command = [sys.executable, "-m", "kvlab.sample_app", "--port", port]
    ended = subprocess.run(
        command, env=os.environ | {"KVLAB_APP_LIMIT": "ten"}, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert re.fullmatch("app: .*must be a whole number, not 'ten'\n", ended.stderr)
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "KVLAB_APP_TRUSTED_PROXIES" in capsys.readouterr().out


def test_answers_leave_at_once(app: WebApp) -> None:
    """asyncio leaves Nagle's algorithm on where a socket's protocol is 0: 40 ms an answer."""
    with listening("127.0.0.1", 0) as bound:
        assert bound.proto == socket.IPPROTO_TCP


def test_workers_share_the_limit_and_the_database_and_end_together(
    store: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # killed, the app leaves its own database behind
    settings = {"limit": LIMIT, "window": 3600, "prefix": "webapp2", "database": ""}
    with serving(store.url, workers=2, **settings) as app:
        children = psutil.Process(app.pid).children()
        workers = [one for one in children if "spawn_main" in " ".join(one.cmdline())]
        assert len(workers) == 2
        for turn, frozen in enumerate(workers):
            frozen.suspend()  # so the other one answers
            ask = Client(app)
            statuses = [ask("POST", "/api/work").status for _ in range(2)]
            assert statuses == [[200, 200], [200, 429]][turn]
            saved = ask("PUT", "/api/profiles/7", {"name": "n"}, cookie=ask.login("c7")).body
            assert saved["version"] == turn + 2
            ask.close()
            frozen.resume()
        os.kill(app.pid, signal.SIGKILL)  # the worst way: nobody tells the workers
        assert psutil.wait_procs(children, timeout=20)[1] == []
    with store.client() as client, Kv(client, prefix="webapp2") as kv:
        kv.clear()


# --- the store is lost --------------------------------------------------------------------------


ASKS_THE_STORE = [
    ("POST", "/api/work", None),
    ("POST", "/api/login", {"user": "c7"}),
    ("POST", "/api/logout", None),
    ("GET", "/api/me", None),
    ("PUT", "/api/theme", {"theme": "dark"}),
    ("PUT", "/api/flags/work-v2", {"percent": 50}),
    ("PUT", "/api/profiles/7", {"name": "Ann"}),
    ("POST", "/api/board/scores", {"member": "a", "score": 1}),
    ("GET", "/api/board/top", None),
    ("GET", "/readyz", None),
]


def test_a_lost_store_is_503_or_the_declared_fallback_and_comes_back() -> None:
    with engines.start("valkey") as server, serving(server.url, limit=50, timeout=0.2) as app:
        ask = Client(app)
        cookie = ask.login("c7")
        # No proxy is trusted here, and uvicorn trusts loopback by default.
        spoofed = [ask("POST", "/api/work", address=f"10.0.0.{i}") for i in range(2)]
        assert [answer.body["remaining"] for answer in spoofed] == [49, 48]
        server.pause()
        _holds_without_store(ask, cookie)
        server.resume()
        with server.client() as client:
            client.config_set("replica-serve-stale-data", "no")
            client.replicaof("127.0.0.1", 1)  # the store refuses every command for now
            _holds_without_store(ask, cookie)
            client.replicaof("NO", "ONE")
        back = ask("POST", "/api/work", cookie=cookie)
        assert (back.status, back.body["user"]) == (200, "c7")
        with server.client() as client:  # reads are served; a refused write is no mistake
            for name in ("min-replicas-to-write", "maxmemory"):
                client.config_set(name, 1)
                came = {ask(*each, cookie=cookie).status for each in ASKS_THE_STORE}
                assert {200, 503} <= came <= {200, 401, 403, 503}
                client.config_set(name, 0)
        server.kill()
        _holds_without_store(ask, cookie)
        server.restart()
        assert ask("POST", "/api/work").body["allowed"] is True
        assert ask("GET", "/readyz").status == 200
        ask.close()
        assert "Traceback" not in app.log


def _holds_without_store(ask: Client, cookie: str) -> None:
    for method, path, body in ASKS_THE_STORE:
        lost = ask(method, path, body, cookie=cookie)
        assert lost.status == 503, (path, lost)
        assert int(lost.headers["retry-after"]) >= 1
        assert set(lost.body) == {"status", "title", "detail", "applied"}
        assert "set-cookie" not in lost.headers  # the browser keeps what is good again later
    flags = ask("GET", "/api/flags", cookie=cookie)
    assert flags.body == {"version": 0, "flags": {"work-v2": False}}
    assert "set-cookie" not in flags.headers
    profile = ask("GET", "/api/profiles/7")
    assert (profile.status, profile.body["cached"]) == (200, False)
    assert ask("GET", "/healthz").status == 200


def test_an_open_limiter_lets_everybody_through_while_the_store_is_down() -> None:
    settings = {"limit": 1, "timeout": 0.2, "outage": "open"}
    with engines.start("valkey") as server, serving(server.url, **settings) as app:
        ask = Client(app)
        assert [ask("POST", "/api/work").status for _ in range(2)] == [200, 429]
        server.kill()
        lost = ask("POST", "/api/work")
        assert lost.status == 200
        assert lost.body["decided_at"] is None
        assert "ratelimit" not in lost.headers
        ask.close()


# --- by other people's tools --------------------------------------------------------------------


def test_curl_sees_the_documented_headers_and_keeps_the_cookie(
    app: WebApp, ask: Client, tmp_path: Path
) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is absent: on Debian, apt-get install curl")
    jar = str(tmp_path / "jar")

    def fetch(path: str, *more: str) -> Answer:
        command = [curl, "-s", "-i", "-b", jar, "-c", jar, *more, app.url + path]
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
        head, _, body = said.stdout.replace("\r", "").partition("\n\n")
        first, *lines = head.split("\n")
        pairs = (line.split(": ", 1) for line in lines)
        return Answer(int(first.split()[1]), dict(pairs), json.loads(body))

    login = fetch("/api/login", "-H", "Content-Type: application/json", "-d", '{"user": "c7"}')
    assert login.headers["set-cookie"].endswith("Path=/; HttpOnly; SameSite=Lax")
    described = ask("GET", "/openapi.json").body["paths"]["/api/work"]["post"]["responses"]
    for status in (200, 200, 200, 429):
        work = fetch("/api/work", "-X", "POST")
        assert work.status == status
        assert work.body["user"] == "c7"
        assert described[str(status)]["headers"].keys() >= {"RateLimit", "RateLimit-Policy"}
        for name in described[str(status)]["headers"]:
            assert name.lower() in work.headers, name
    fetch("/api/logout", "-X", "POST")
    assert fetch("/api/me").body["user"] is None
    assert "session" not in Path(jar).read_text()


def test_a_browser_logs_in_works_and_stays_in(app: WebApp, tmp_path: Path) -> None:
    if browser.program() is None:
        pytest.skip("no Chromium: on Debian, apt-get install chromium")
    shown = "document.getElementById('{}').textContent"
    with browser.browsing(tmp_path) as page:
        page.open(app.url + "/")
        page.until("document.getElementById('version').textContent === 'version 0'")
        page.value("document.getElementById('name').value = 'c9'")
        page.value("document.getElementById('login').requestSubmit()")
        page.until("document.getElementById('profile').textContent.startsWith('Customer 9:')")
        assert page.value("document.cookie") == ""  # no script can read it
        page.open(app.url + "/")  # in again by the cookie alone
        page.until(shown.format("user") + " === 'You are c9.'")
        page.value("document.getElementById('work').click()")
        page.until(shown.format("said") + f" === 'Done (v1). 2 of {LIMIT} remain.'")
        page.value("document.getElementById('throw').click()")
        page.until("document.getElementById('board').innerText.includes('c9')")
        page.value(
            "{ const s = document.createElement('script'); s.textContent = 'window.owned = 1';"
            "document.body.append(s); }"
        )
        assert page.value("window.owned === undefined")  # the page's policy
        page.value("document.getElementById('logout').requestSubmit()")
        page.until(shown.format("user") + " === ''")
        page.open(app.url + "/")
        page.until("document.getElementById('version').textContent === 'version 0'")
        assert page.value(shown.format("user")) == ""


def test_schemathesis_finds_no_lie_in_the_description(app: WebApp, ask: Client) -> None:
    """Every operation, as admin, with values in and out of the described ranges."""
    cookie = ask.login("admin", address="203.0.113.50")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", app.url + "/openapi.json"),
            *("--header", f"Cookie: {cookie}", "--header", "X-Forwarded-For: 203.0.113.50"),
            *("--exclude-path", "/api/logout", "--exclude-path", "/api/login"),
            *("--seed", "1", "--max-examples", "8", "--no-color", "--generation-database", "none"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=app.log_file.parent,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert "Tested: 14" in done.stdout
    assert ask("GET", "/api/me", cookie=cookie, address="203.0.113.50").body["user"] == "admin"
