"""Both executors over REST: one run is one request, and what each failure of HTTP is called."""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from support import absent
from support.http_proxy import Fault, HttpProxy

import kvlab
from kvlab import CacheAside, FeatureFlags, FixedWindow, Key, Lock, Op, Script, SessionStore
from kvlab.core.server_url import REST_NAMES, server_url
from kvlab.errors import (
    AnswerTooLarge,
    BatchFailed,
    CannotServe,
    InvalidArgument,
    MissingExtra,
    NotOverHttp,
    Outage,
    OutcomeUnknown,
    RemoteNotAllowed,
    ServerRefused,
    ServerUnavailable,
)
from kvlab.rest import RestAddress, protocol
from kvlab.rest.clients import async_rest_client, rest_client
from kvlab.rest_gateway import ServedGateway

PAGE = (502, {"Content-Type": "text/html"}, b"<html>Bad Gateway</html>")
PATIENT: dict[str, Any] = {"timeout": 30, "deadline": 30}
"""For a machine that is busy with other tests."""
INCR = Op("INCR", Key("n"))
GET = Op("GET", Key("n"), idempotent=True)


class Way:
    """An executor on threads or on asyncio, used alike."""

    def __init__(self, kind: str, url: str, token: str, **settings: Any) -> None:
        settings = PATIENT | settings
        self._loop = asyncio.new_event_loop() if kind == "async" else None
        if self._loop is None:
            self.kv: Any = kvlab.connect(url, token=token, **settings)
        else:
            connecting = kvlab.aconnect(url, token=token, **settings)
            self.kv = self._loop.run_until_complete(connecting)

    def run(self, *ops: Any, **how: Any) -> Any:
        return self._done(self.kv.run(*ops, **how))

    def close(self) -> None:
        self._done(self.kv.close())
        if self._loop is not None:
            self._loop.close()

    def _done(self, value: Any) -> Any:
        return value if self._loop is None else self._loop.run_until_complete(value)


@pytest.fixture
def proxy(gateway: ServedGateway) -> Iterator[HttpProxy]:
    with HttpProxy(gateway.url) as between:
        yield between


@pytest.fixture(params=["sync", "async"])
def opened(
    request: pytest.FixtureRequest, proxy: HttpProxy, gateway: ServedGateway
) -> Iterator[Callable[..., Way]]:
    ways: list[Way] = []

    def make(**settings: Any) -> Way:
        ways.append(Way(request.param, proxy.url, gateway.token, prefix="rest", **settings))
        return ways[-1]

    yield make
    proxy.faults.clear()
    for way in ways:
        way.close()
    with kvlab.connect(gateway.url, token=gateway.token, prefix="rest", **PATIENT) as kv:
        kv.clear()


@pytest.fixture
def way(opened: Callable[..., Way]) -> Way:
    return opened()


def test_one_run_is_one_request(way: Way, proxy: HttpProxy) -> None:
    limiter, sessions = FixedWindow("api", limit=10, window=60), SessionStore(idle=60, absolute=600)
    flags, cache = FeatureFlags("f", {}), CacheAside("c", ttl=60)
    ops = [limiter.hit("a"), sessions.read("x" * 43), flags.read_all(), cache.read("k")]
    for op in ops:  # loads the scripts
        way.run(op)
    del proxy.seen[:]
    way.kv.round_trips = 0
    way.run(*ops)
    way.run(limiter.hit("a"))
    way.run([Op("SET", Key(f"k{i}"), i) for i in range(300)])
    way.run(Op("SET", Key("n"), 1), INCR, atomic=True)
    assert proxy.paths == ["/pipeline", "/", "/pipeline", "/multi-exec"]
    assert way.kv.round_trips == 4
    assert proxy.connections == 1  # kept
    assert way.run(GET) == b"2"


def test_replies_are_those_of_tcp(way: Way) -> None:
    binary = Op("EVAL", "return {'\\255\\0', {1, false, 'OK'}, redis.status_reply('OK')}", 0)
    assert way.run(binary) == [b"\xff\0", [1, None, b"OK"], b"OK"]
    way.run(Op("SET", Key("n"), "OK"))
    assert way.run(GET) == b"OK"
    results = way.run(INCR, GET, return_exceptions=True)
    assert results[1] == b"OK"
    assert (results[0].code, type(results[0])) == ("ERR", ServerRefused)
    results = way.run(INCR, GET, atomic=True, return_exceptions=True)
    assert (type(results[0]), results[1]) == (ServerRefused, b"OK")
    way.run(Op("SET", Key("n"), "kept"))
    results = way.run(Op("SET", Key("n"), "lost"), Op("INCR"), atomic=True, return_exceptions=True)
    words = "EXECABORT not executed because of: ERR wrong number of arguments for 'incr' command"
    assert [*map(str, results)] == [words, words]
    assert way.run(GET) == b"kept"
    with pytest.raises(ServerRefused) as refused:
        way.run(Op("LPUSH", Key("n"), 1))
    assert refused.value.code == "WRONGTYPE"


def test_an_unknown_script_is_loaded_once(way: Way, proxy: HttpProxy) -> None:
    script = Script("fresh", f"return redis.call('INCR', KEYS[1]) -- {uuid4()}")
    assert way.run(Op(script, Key("n"))) == 1
    assert [body[2:9] for _, body in proxy.seen] == [b"EVALSHA", b'EVAL","']
    assert way.run(Op(script, Key("n")), Op(script, Key("n"))) == (2, 3)
    assert proxy.requests == 3


@pytest.mark.parametrize(
    "op",
    [
        Op("BLPOP", Key("q"), 0, blocking=math.inf),
        Op("XREAD", "BLOCK", 0, "STREAMS", Key("s"), "$", blocking=math.inf),
        Op("CLIENT", "ID"),
        Op("SET", Key("n"), b"\xff"),
    ],
    ids=lambda op: op.command,
)
def test_what_http_cannot_carry_is_not_sent(way: Way, proxy: HttpProxy, op: Op[Any]) -> None:
    with pytest.raises(NotOverHttp, match="nothing was sent"):
        way.run(op)
    assert (proxy.requests, way.kv.round_trips) == (0, 0)
    if op.blocking is None:
        result, reply = way.run(op, INCR, return_exceptions=True)
        assert (type(result), reply) == (NotOverHttp, 1)
        results = way.run(INCR, op, atomic=True, return_exceptions=True)
        assert [*map(type, results)] == [NotOverHttp, NotOverHttp]
    way.run(INCR)
    assert way.run(GET) == (b"1" if op.blocking is not None else b"2")
    assert proxy.connections == 1


def test_a_lock_waits_by_asking_again(way: Way, proxy: HttpProxy) -> None:
    lock = Lock("job", 20)
    held = way.run(lock.try_acquire())
    assert way.run(lock.acquire(0.25)) is None
    assert way.run(lock.release(held)) is True
    assert way.run(lock.acquire(1)).fence > held.fence
    assert all(not body.startswith(b'["BLPOP"') for _, body in proxy.seen)
    assert way.kv.round_trips == proxy.requests


def test_pauses_of_a_waiting_lock(proxy: HttpProxy, gateway: ServedGateway) -> None:
    pauses: list[float] = []
    with kvlab.connect(proxy.url, token=gateway.token, prefix="rest") as kv:
        held = kv.run(Lock("job", 20).try_acquire())
        waiting = kvlab.Kv(
            kv.client, prefix="rest", sleep=pauses.append, clock=lambda: len(pauses) / 10
        )
        assert waiting.run(Lock("job", 20).acquire(1.0)) is None
        assert [round(pause, 3) for pause in pauses] == [0.1] * 10
        kv.run(Lock("job", 20).release(held))
        kv.clear()


def test_watchers_poll(proxy: HttpProxy, gateway: ServedGateway) -> None:
    flags = FeatureFlags("site", {})
    with kvlab.connect(proxy.url, token=gateway.token, prefix="rest") as kv:
        with kvlab.FlagWatcher(kv, flags, resync=0.05) as watcher:
            version = kv.run(flags.set("new", True))
            assert watcher.wait_for(version)
            assert watcher.error is None
        assert all(not body.startswith(b'["SUBSCRIBE"') for _, body in proxy.seen)

        async def follow() -> None:
            akv = await kvlab.aconnect(proxy.url, token=gateway.token, prefix="rest")
            async with akv, kvlab.AsyncFlagWatcher(akv, flags, resync=0.05) as following:
                version = await akv.run(flags.set("new", False))
                assert await following.wait_for(version)
                assert following.error is None

        asyncio.run(follow())
        kv.clear()


@pytest.mark.parametrize("fault", ["lose the request", "lose the answer", "reset", PAGE])
def test_a_lost_answer_is_an_unknown_outcome(way: Way, proxy: HttpProxy, fault: Fault) -> None:
    way.run(INCR)
    proxy.faults.append(fault)
    with pytest.raises(OutcomeUnknown):
        way.run(INCR)
    ran = fault in ("lose the answer", "reset")
    assert way.run(GET) == (b"2" if ran else b"1")
    assert (proxy.requests, way.kv.round_trips) == (3, 3)
    proxy.faults += [fault, fault]
    before = proxy.requests
    assert way.run(GET) == (b"2" if ran else b"1")  # idempotent: retried
    assert proxy.requests - before == 3
    proxy.faults.append(fault)
    # Of a batch only what is idempotent is retried, and a transaction as a whole or not at all.
    lost, again = way.run(INCR, GET, return_exceptions=True)
    assert (type(lost), again) == (OutcomeUnknown, b"3" if ran else b"1")
    proxy.faults.append(fault)
    results = way.run(INCR, GET, atomic=True, return_exceptions=True)
    assert [type(result) for result in results] == [OutcomeUnknown, OutcomeUnknown]


def test_no_retry_after_the_deadline(opened: Callable[..., Way], proxy: HttpProxy) -> None:
    proxy.faults += [PAGE] * 100
    with pytest.raises(OutcomeUnknown, match="HTTP 502 Bad Gateway"):
        opened(deadline=0.01).run(GET)
    assert proxy.requests == 1


def test_silence_is_an_outage(opened: Callable[..., Way], proxy: HttpProxy) -> None:
    proxy.faults += ["silence"] * 2  # the second is the question whether the store is alive
    way = opened(timeout=2)
    with pytest.raises(OutcomeUnknown, match="no answer came"):
        way.run(INCR)
    assert way.kv.outage is not None
    with pytest.raises(ServerUnavailable):
        way.run(INCR)
    assert proxy.requests == 2
    hit = FixedWindow("api", limit=1, window=60, outage="open").hit("x")
    assert way.run(hit).allowed
    assert opened().run(GET) == b"1"  # it ran


def test_nothing_is_sent_to_a_port_that_is_closed(gateway: ServedGateway) -> None:
    for kind in ("sync", "async"):
        way = Way(kind, "http://127.0.0.1:9", gateway.token, deadline=0.05)
        with pytest.raises(ServerUnavailable, match="nothing was sent"):
            way.run(INCR)
        assert way.kv.round_trips == 0
        way.close()


JSON = {"Content-Type": "application/json"}
HTML = {"Content-Type": "text/html"}
REFUSALS: dict[str, tuple[Fault, type[Exception], str, str]] = {
    "401": ((401, JSON, b'{"error":"WRONGPASS no"}'), ServerRefused, "WRONGPASS", "WRONGPASS no"),
    "401 page": ((401, HTML, b"<html>"), ServerRefused, "WRONGPASS", "HTTP 401"),
    "429": ((429, {**JSON, "Retry-After": "31"}, b'{"error":"ERR quota"}'), CannotServe,
            "TOOMANYREQUESTS", "ERR quota; Retry-After: 31"),
    "404": ((404, HTML, b"<html>"), ServerRefused, "ERR", "HTTP 404 Not Found"),
    "redirect": ((301, {"Location": "http://127.0.0.1:9/"}, b""), ServerRefused, "ERR", "HTTP 301"),
    "413": ((413, JSON, b'{"error":"ERR max request size exceeded"}'), ServerRefused, "ERR", "max"),
    "OOM": ((400, JSON, b'{"error":"OOM command not allowed"}'), CannotServe, "OOM", "OOM command"),
}  # fmt: skip
UNKNOWN: dict[str, Fault] = {
    "500 in JSON": (500, JSON, b'{"error":"ERR internal"}'),
    "503": (503, HTML, b""),
    "504": (504, HTML, b"<html>"),
    "a page": (200, HTML, b"<html>log in to the hotel</html>"),
    "another shape": (200, JSON, b'{"hello":"world"}'),
    "an array for one": (200, JSON, b'[{"result":1}]'),
    "a result of no kind": (200, JSON, b'{"result":{"a":1.5}}'),
    "nested": (200, JSON, b"[" * 100_000),
    "nothing": (204, {}, b""),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_by_http_ran_nothing(way: Way, proxy: HttpProxy, name: str) -> None:
    fault, kind, code, words = REFUSALS[name]
    proxy.faults.append(fault)
    with pytest.raises(kind, match=words) as refused:
        way.run(GET)
    assert (type(refused.value), refused.value.code) == (kind, code)  # type: ignore[attr-defined]
    assert isinstance(refused.value, Outage) == (kind is CannotServe)
    assert proxy.requests == 1  # not retried
    proxy.faults += [fault, fault]
    results = way.run(INCR, GET, return_exceptions=True)
    assert [type(result) for result in results] == [kind, kind]
    for result in way.run(INCR, GET, atomic=True, return_exceptions=True):
        assert isinstance(result, Outage) == (kind is CannotServe)
        assert isinstance(result, ServerRefused)
    assert way.run(GET) is None


@pytest.fixture(params=["sync", "async"])
def paused(
    request: pytest.FixtureRequest, proxy: HttpProxy, gateway: ServedGateway
) -> Iterator[tuple[Callable[..., Any], list[float]]]:
    """``run`` of an executor whose time passes in its pauses alone; and these pauses."""
    pauses: list[float] = []
    address = RestAddress(proxy.url, gateway.token)

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    settings: dict[str, Any] = PATIENT | {"prefix": "rest", "clock": lambda: sum(pauses)}
    with asyncio.Runner() as runner:
        if request.param == "sync":
            kv = kvlab.Kv(rest_client(address, 2), sleep=pauses.append, **settings)
            yield kv.run, pauses
            kv.clear()
            kv.client.close()
        else:
            akv = kvlab.AsyncKv(async_rest_client(address, 2), sleep=sleep, **settings)
            yield lambda *ops, **how: runner.run(akv.run(*ops, **how)), pauses
            runner.run(akv.clear())
            runner.run(akv.client.aclose())


def test_pauses_grow_and_are_not_those_of_others(
    paused: tuple[Callable[..., Any], list[float]], proxy: HttpProxy
) -> None:
    run, pauses = paused
    proxy.faults += [PAGE] * 8
    assert run(GET) is None
    assert proxy.requests == 9
    longest = [0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.0, 1.0]
    assert all(most / 2 <= one <= most for one, most in zip(pauses, longest, strict=True))
    proxy.faults += [PAGE] * 8
    first = pauses[:]
    run(GET)
    assert pauses[8:] != first


@pytest.mark.parametrize("kind", [JSON, HTML])
def test_too_many_requests_are_retried_since_nothing_ran(
    paused: tuple[Callable[..., Any], list[float]], proxy: HttpProxy, kind: dict[str, str]
) -> None:
    run, pauses = paused
    busy: Fault = (429, kind, b'{"error":"ERR slow down"}')
    proxy.faults += [busy, (429, {**kind, "Retry-After": "7"}, b"{}"), busy]
    assert run(INCR) == 1
    assert pauses[1] == 7.0
    proxy.faults.append(busy)
    assert run(INCR, GET, atomic=True) == (2, b"2")
    proxy.faults += [(429, {**kind, "Retry-After": "99999999999"}, b"{}")]
    assert run(INCR, GET) == (3, b"3")  # nobody means so many seconds
    proxy.faults += [busy, "lose the answer"]
    with pytest.raises(OutcomeUnknown):
        run(INCR)  # the retry is lost, and not repeated
    assert run(GET) == b"4"
    proxy.faults += [busy] * 100
    with pytest.raises(CannotServe, match="TOOMANYREQUESTS"):
        run(GET)
    assert 20 < len(proxy.faults) < 80
    proxy.faults.clear()


def test_an_answer_that_is_too_large_is_not_read_to_its_end(
    way: Way, proxy: HttpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    way.run(Op("SET", Key("n"), "x" * 3000))
    monkeypatch.setattr(protocol, "MAX_ANSWER", 4096)
    assert way.run(GET) == b"x" * 3000  # 4,000 in base64
    way.run(Op("APPEND", Key("n"), "x" * 97_000))
    before = proxy.requests
    with pytest.raises(AnswerTooLarge, match="an answer has at most 4096 bytes"):
        way.run(GET)
    for how in ({}, {"atomic": True}):
        results = way.run(INCR, GET, return_exceptions=True, **how)
        assert [type(result) for result in results] == [AnswerTooLarge] * 2
    assert proxy.requests - before == 3  # not retried
    assert way.run(Op("STRLEN", Key("n"))) == 100_000
    assert way.kv.outage is None


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_answer_that_says_nothing_is_an_unknown_outcome(
    way: Way, proxy: HttpProxy, name: str
) -> None:
    proxy.faults += [UNKNOWN[name]] * 2
    with pytest.raises(OutcomeUnknown):
        way.run(INCR)
    assert way.run(GET) is None  # retried
    assert proxy.requests == 3
    if isinstance(UNKNOWN[name], tuple):
        proxy.faults.append(UNKNOWN[name])
        with pytest.raises(BatchFailed):
            way.run(INCR, INCR)


def test_a_token_that_expires_in_the_middle(way: Way, proxy: HttpProxy) -> None:
    way.run(INCR)
    expired = (401, JSON, b'{"error":"WRONGPASS invalid or missing auth token"}')
    proxy.faults += ["lose the answer", expired]
    lost, retried = way.run(INCR, GET, return_exceptions=True)
    # The first answer was lost, and only the second was refused.
    assert [type(lost), type(retried)] == [OutcomeUnknown, OutcomeUnknown]
    proxy.faults += [expired]
    with pytest.raises(ServerRefused, match="WRONGPASS"):
        way.run(INCR)
    assert way.run(GET) == b"2"


def test_a_wrong_token_is_refused_and_no_message_has_it(
    gateway: ServedGateway, proxy: HttpProxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "s3cret-token-of-a-store"
    for kind in ("sync", "async"):
        way = Way(kind, proxy.url, secret)
        said = [
            repr(way.kv),
            repr(way.kv.client),
            repr(way.kv.client.connection_pool),
            way.kv.where,
        ]
        for fault in [None, "lose the answer", PAGE, (200, JSON, b"nope")]:
            proxy.faults.append(fault)
            with pytest.raises((ServerRefused, OutcomeUnknown)) as raised:
                way.run(INCR)
            chain: Any = raised.value
            while chain is not None:
                said.append(repr(chain))
                chain = chain.__cause__ or chain.__context__
        assert not any(secret in text for text in [*said, caplog.text])
        way.close()
    assert set(proxy.tokens) == {f"Bearer {secret}"}


ONE, TWO, SECRET = "http://127.0.0.1:1", "http://127.0.0.1:2", "t" * 20


def test_the_environment_names_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    for i, (url, token) in enumerate(reversed(REST_NAMES)):
        monkeypatch.setenv(url, f"http://127.0.0.1:{i + 1}")
        with pytest.raises(InvalidArgument, match=f"token is missing.* set {token} beside {url}"):
            kvlab.connect()
        monkeypatch.setenv(token, f"{SECRET}{i}")
        with kvlab.connect() as kv:
            assert kv.where == f"127.0.0.1:{i + 1}"
            address = kv.client.connection_pool.connection_kwargs["address"]
            assert address.token == f"{SECRET}{i}"
    with kvlab.connect(ONE) as kv:  # the token beside that URL
        address = kv.client.connection_pool.connection_kwargs["address"]
        assert address.token == f"{SECRET}0"
    with pytest.raises(InvalidArgument, match="token is missing"):  # and to no other URL
        kvlab.connect("http://127.0.0.1:77")
    monkeypatch.setenv("KVLAB_URL", "redis://127.0.0.1:6000")
    with kvlab.connect() as kv:
        assert kv.where == "127.0.0.1:6000"


def test_what_needs_redis_itself_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVLAB_URL", "https://store.example")
    with pytest.raises(InvalidArgument, match="a Redis URL is needed here"):
        server_url()
    with pytest.raises(InvalidArgument, match="a Redis URL is needed here"):
        server_url(ONE)


@pytest.mark.parametrize(
    ("url", "token", "error", "words"),
    [
        ("https://store.example", SECRET, RemoteNotAllowed, "store.example"),
        ("http://store.example", SECRET, InvalidArgument, "https"),
        ("http://0.0.0.0:1", SECRET, InvalidArgument, "https"),
        (f"https://u:{SECRET}@127.0.0.1", SECRET, InvalidArgument, "https://HOST"),
        (f"https://127.0.0.1/?_token={SECRET}", SECRET, InvalidArgument, "https://HOST"),
        ("https://", SECRET, InvalidArgument, "https://HOST"),
        ("https://127.0.0.1:99999", SECRET, InvalidArgument, "https://HOST"),
        ("https://store..example", SECRET, InvalidArgument, "https://HOST"),
        (ONE, "", InvalidArgument, "token"),
        (ONE, f"{SECRET}\r\nHost: evil", InvalidArgument, "token"),
        (ONE, f"{SECRET}ü", InvalidArgument, "token"),
        ("redis://127.0.0.1:1", SECRET, InvalidArgument, "token"),
    ],
)
def test_a_wrong_address_is_refused(
    url: str, token: str, error: type[Exception], words: str
) -> None:
    for connect in (
        lambda: kvlab.connect(url, token=token),
        lambda: asyncio.run(kvlab.aconnect(url, token=token)),
    ):
        with pytest.raises(error, match=words) as raised:
            connect()
        assert SECRET not in str(raised.value)


def test_without_httpcore_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "httpcore", None)
    with pytest.raises(MissingExtra, match=r"kvlab\[rest\]"):
        kvlab.connect(ONE, token=SECRET)


def test_the_client_of_redis_py_works(proxy: HttpProxy, gateway: ServedGateway) -> None:
    with kvlab.connect(proxy.url, token=gateway.token) as kv:
        assert kv.client.set("rest:n", "5", px=60_000) is True
        assert kv.client.incr("rest:n") == 6
        with kv.client.pipeline() as batch:
            assert batch.get("rest:n").ttl("rest:n").delete("rest:n").execute() == [b"6", 60, 1]
    assert proxy.paths == ["/", "/", "/multi-exec"]


def test_many_callers_at_once(gateway: ServedGateway) -> None:
    async def storm() -> None:
        connecting = kvlab.aconnect(gateway.url, token=gateway.token, prefix="rest", **PATIENT)
        async with await connecting as akv:
            await asyncio.gather(*(akv.run(INCR) for _ in range(1000)))
            assert await akv.run(GET) == b"1000"
            assert akv.round_trips == 1001
            await akv.clear()

    asyncio.run(storm())


def test_tls_is_checked(
    gateway: ServedGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    command += f" -subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout {key}"
    try:
        subprocess.run([*command.split(), "-out", certificate], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as problem:
        absent(f"openssl makes no certificate here: {problem}")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    with HttpProxy(gateway.url, tls) as proxy:
        for kind in ("sync", "async"):
            stranger = Way(kind, proxy.url, gateway.token, deadline=0.01)
            with pytest.raises(ServerUnavailable, match=r"CERTIFICATE|certificate"):
                stranger.run(INCR)
            stranger.close()
        assert proxy.requests == 0  # nothing was sent: the token neither
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        for kind in ("sync", "async"):
            way = Way(kind, proxy.url, gateway.token, prefix="rest")
            assert way.run(INCR) == 1
            way._done(way.kv.clear())
            way.close()
