"""The gateway speaks the protocol of Vercel KV and Upstash: requests, answers, tokens, rights."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from kvlab.rest_gateway import ServedGateway, Tokens, serving
from kvlab.rest_gateway.answer import RestRefused
from kvlab.server import engines
from kvlab.server.guarded_process import python_command
from kvlab.server.running_server import RunningServer

BASE64 = {"Upstash-Encoding": "base64"}
_keys = itertools.count(1)


@pytest.fixture
def key() -> str:
    return f"rest-gateway:{next(_keys)}"


def client(gateway: ServedGateway, token: str) -> httpx.Client:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.Client(base_url=gateway.url, headers=headers, timeout=30)


@pytest.fixture(scope="module")
def http(gateway: ServedGateway) -> Iterator[httpx.Client]:
    with client(gateway, gateway.token) as opened:
        yield opened


@pytest.fixture(scope="module")
def reader(gateway: ServedGateway) -> Iterator[httpx.Client]:
    with client(gateway, gateway.read_only_token) as opened:
        yield opened


def said(answer: httpx.Response) -> tuple[int, Any]:
    return answer.status_code, answer.json()


def test_a_command_is_an_array_or_a_path(http: httpx.Client, key: str) -> None:
    assert said(http.post("/", json=["SET", key, "a/b ü"])) == (200, {"result": "OK"})
    assert said(http.post("/", json=["get", key])) == (200, {"result": "a/b ü"})
    assert said(http.get(f"/get/{key}")) == (200, {"result": "a/b ü"})
    assert said(http.get(f"/set/{key}/x%2Fy%20%C3%BC/EX/100")) == (200, {"result": "OK"})
    assert said(http.get(f"/GET/{key}")) == (200, {"result": "x/y ü"})
    assert said(http.post(f"/set/{key}?EX=50", content=b"\xff\x00")) == (200, {"result": "OK"})
    assert 0 < http.get(f"/ttl/{key}").json()["result"] <= 50
    assert http.get(f"/get/{key}", headers=BASE64).json() == {"result": "/wA="}
    assert http.get(f"/get/{key}").json() == {"result": "�\0"}
    assert http.head(f"/get/{key}").text == ""


@pytest.mark.parametrize("number", ["9007199254740993", "1.10", "-0", "1e3", "1" * 5000])
def test_a_number_keeps_its_digits(http: httpx.Client, key: str, number: str) -> None:
    assert http.post("/", content=f'["SET", "{key}", {number}]').json() == {"result": "OK"}
    assert http.post("/", json=["GET", key]).json() == {"result": number}


def test_results_of_every_kind(http: httpx.Client, key: str) -> None:
    rows = [
        ["SADD", key, "OK"],
        ["GET", key + "none"],
        ["SMEMBERS", key],
        ["INCR", key],
        ["EVAL", "return {1, {false, 'OK'}, 'x'}", 0],
        ["SET", key + "true", True],
    ]
    wrong = "WRONGTYPE Operation against a key holding the wrong kind of value"
    tail = [{"error": wrong}, {"result": [1, [None, "OK"], "x"]}, {"result": "OK"}]
    plain = [{"result": 1}, {"result": None}, {"result": ["OK"]}, *tail]
    assert said(http.post("/pipeline", json=rows)) == (200, plain)
    http.post("/", json=["DEL", key])
    # "OK" alone is not encoded: clients could not tell it from base64, elsewhere they decode it.
    tail[1] = {"result": [1, [None, "T0s="], "eA=="]}
    encoded = [{"result": 1}, {"result": None}, {"result": ["T0s="]}, *tail]
    assert http.post("/pipeline", json=rows, headers=BASE64).json() == encoded
    assert http.post("/", json=["GET", key + "true"]).json() == {"result": "true"}
    nested = ["EVAL", "return {{err='ERR boo'}, {err='NOAUTH x'}, {err='NEW x'}}", 0]
    assert http.post("/", json=nested).json() == {"result": ["ERR boo", "NOAUTH x", "NEW x"]}


def test_a_transaction_is_all_or_nothing(http: httpx.Client, key: str) -> None:
    rows = [["SET", key, "x"], ["INCR", key], ["GET", key]]
    error = {"error": "ERR value is not an integer or out of range"}
    ran = [{"result": "OK"}, error, {"result": "x"}]
    assert said(http.post("/multi-exec", json=rows)) == (200, ran)
    for bad in (["INCR"], ["CONFIG", "GET", "*"]):
        status, body = said(http.post("/multi-exec", json=[["SET", key, "y"], bad]))
        assert (status, list(body)) == (400, ["error"])
        assert http.post("/", json=["GET", key]).json() == {"result": "x"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nope",
        b"[",
        b"[]",
        b"{}",
        b'"GET"',
        b"[[]]",
        b"[1]",
        b"[null]",
        b'["GET", null]',
        b'["GET", {"a": 1}]',
        b'["GET", ["a"]]',
        b'["GET", NaN]',
        b'["GET", "\xff"]',
        b'["GET", "\\ud800"]',
        b'["\\u0000GET", "k"]',
        b'["CONFIG SET", "maxmemory", "1"]',
        b'["GET\\r\\nFLUSHALL"]',
        b"[" * 1_000_000,
        b'["GET",' + b"[" * 1_000_000,
        '["GET", "k"]'.encode("utf-16"),
    ],
    ids=lambda body: f"{body[:24]!r} of {len(body)}",
)
@pytest.mark.parametrize("path", ["/", "/pipeline", "/multi-exec"])
def test_a_body_of_the_wrong_shape(http: httpx.Client, path: str, body: bytes) -> None:
    body = body if path == "/" else b"[" + body + b"]"
    status, answer = said(http.post(path, content=body))
    assert (status, list(answer)) == (400, ["error"])
    assert answer["error"].startswith("ERR ")
    assert len(answer["error"]) < 200


def test_odd_text_and_many_arguments_are_data(http: httpx.Client, key: str) -> None:
    assert http.post("/", json=["SET", key, "\0\r\n*1\r\n😀"]).json() == {"result": "OK"}
    assert http.post("/", json=["GET", key]).json() == {"result": "\0\r\n*1\r\n😀"}
    many = ["RPUSH", key + "list", *map(str, range(100_000))]
    assert http.post("/", json=many).json() == {"result": 100_000}
    http.post("/", json=["DEL", key + "list"])
    assert http.post("/pipeline", content=b"[" + b'["PING"],' * 100_000 + b'["PING"]]').is_error


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_that_is_too_large(http: httpx.Client, declared: bool) -> None:
    megabyte = b" " * 2**20
    for_once = [megabyte] * 100
    headers = {"Content-Length": str(100 * 2**20)} if declared else {}
    status, answer = said(http.post("/", content=iter(for_once), headers=headers))
    assert status == 413
    assert answer["error"].startswith("ERR max request size exceeded")
    assert http.post("/", json=["PING"]).json() == {"result": "PONG"}


def test_a_script_with_the_flag_of_the_product_runs(http: httpx.Client, key: str) -> None:
    write = "\nreturn redis.call('INCR', KEYS[1])"
    source = f"#!lua flags=allow-key-locking{write} -- {key}"
    sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
    answer = http.post("/", json=["EVALSHA", sha, 1, key]).json()
    assert answer["error"].startswith("NOSCRIPT")
    assert http.post("/", json=["SCRIPT", "LOAD", source]).json() == {"result": sha}
    assert http.post("/", json=["EVALSHA", sha.upper(), 1, key]).json() == {"result": 1}
    assert http.post("/multi-exec", json=[["EVAL", source, 1, key]]).json() == [{"result": 2}]
    both = f"#!lua flags=no-writes,allow-key-locking{write}"
    assert list(http.post("/", json=["EVAL", both, 1, key]).json()) == ["error"]
    assert list(http.post("/", json=["EVAL", f"#!lua flags=nonsense{write}", 1, key]).json()) == [
        "error"
    ]


REFUSED = [
    ["MULTI"],
    ["SELECT", 1],
    ["CLIENT", "KILL", "TYPE", "normal"],
    ["CLIENT", "SETNAME", "x"],
    ["HELLO", 3],
    ["AUTH", "x"],
    ["RESET"],
    ["SUBSCRIBE", "c"],
    ["MONITOR"],
    ["BLPOP", "k", 0],
    ["BLMOVE", "a", "b", "LEFT", "LEFT", 0],
    ["BZPOPMIN", "k", 0],
    ["XREAD", "block", 0, "STREAMS", "s", "$"],
    ["WAIT", 1, 0],
    ["CONFIG", "SET", "maxmemory", "1"],
    ["ACL", "SETUSER", "x"],
    ["SHUTDOWN", "NOSAVE"],
    ["DEBUG", "SLEEP", 1],
    ["REPLICAOF", "127.0.0.1", 1],
    ["SAVE"],
    ["SWAPDB", 0, 1],
    ["SCRIPT", "debug", "YES"],
    ["SCRIPT", "KILL"],
    ["MIGRATE", "127.0.0.1", 1, "k", 0, 100],
    ["NOSUCH"],
    ["MOVE", "k", 5],
    ["COPY", "a", "b", "REPLACE", "db", 5],
    ["FUNCTION", "KILL"],
    # The store compares words like C, to the first NUL.
    ["CONFIG", "SET\0", "maxmemory-policy", "allkeys-lru"],
    ["ACL", "SETUSER\0x", "x"],
    ["CLIENT", "reply\0", "OFF"],
    ["MODULE", "LOAD\0", "x"],
    ["SCRIPT", "KILL\0"],
    ["OBJECT", "ENCODING\0", "k"],
    ["COPY", "a", "b", "DB\0", 5],
    ["XREAD", "BLOCK\0", 0, "STREAMS", "s", "$"],
    ["XREADGROUP", "GROUP", "g", "STREAMS", "Block\0x", 0, "streams\0", "s", ">"],
]


@pytest.mark.parametrize("command", REFUSED, ids=lambda command: " ".join(map(str, command)))
def test_a_command_beyond_the_data_is_refused(
    http: httpx.Client, server: RunningServer, command: list[Any]
) -> None:
    with server.client() as direct:
        errors = direct.info("errorstats")
        status, answer = said(http.post("/", json=command))
        assert (status, list(answer)) == (400, ["error"])
        assert "not available over REST" in answer["error"]
        path = "/".join(quote(str(word), safe="") for word in command)
        assert said(http.get(f"/{path}")) == (status, answer)
        assert direct.info("errorstats") == errors  # the store did not even hear of it
    mixed = http.post("/pipeline", json=[["PING"], command, ["PING"]]).json()
    assert [list(item) for item in mixed] == [["result"], ["error"], ["result"]]


def test_a_key_may_be_named_like_an_option(http: httpx.Client, key: str) -> None:
    rows = [
        ["XADD", "BLOCK", "1-1", "f", key],
        ["XREAD", "COUNT", 1, "STREAMS", "BLOCK", 0],
        ["RENAME", "BLOCK", key],
        ["COPY", key, "DB"],
        ["COPY", "DB", key, "REPLACE"],
        ["DEL", "DB"],
    ]
    replies = http.post("/pipeline", json=rows).json()
    read = [["BLOCK", [["1-1", ["f", key]]]]]
    assert [reply["result"] for reply in replies] == ["1-1", read, "OK", 1, 1, 1]


WRITES = [
    ["SET", "KEY", "pwned"],
    ["GETEX", "KEY", "EX", 1],
    ["GETDEL", "KEY"],
    ["EXPIRE", "KEY", 1],
    ["SORT", "KEY", "STORE", "KEY"],
    ["EVAL", "return redis.call('SET', KEYS[1], 'pwned')", 1, "KEY"],
    ["EVAL", "return 1", 0],
    ["SORT", "KEY", "STORE\0", "KEY"],
    ["GEORADIUS", "KEY", 0, 0, 1, "m", "STORE\0", "KEY"],
    ["BITFIELD", "KEY", "SET\0", "u8", 0, 1],
    ["EVAL_RO", "return redis.call('KEYS', '*')", 0],
    ["EVAL_RO", "redis.call('SELECT', 3) return redis.call('DBSIZE')", 0],
    ["EVALSHA_RO", "0" * 40, 0],
    ["FCALL_RO", "f", 0],
    ["SCRIPT", "LOAD", "return 1"],
    ["FLUSHALL"],
    ["PUBLISH", "c", "m"],
    ["FUNCTION", "FLUSH"],
    ["XREADGROUP", "GROUP", "g", "c", "STREAMS", "KEY", ">"],
    ["KEYS", "*"],
    ["SCAN", 0],
    ["RANDOMKEY"],
    ["SORT_RO", "KEY"],
    ["INFO"],
]


@pytest.mark.parametrize("command", WRITES, ids=lambda command: " ".join(map(str, command)))
def test_the_read_only_token_reads_keys_by_name_alone(
    http: httpx.Client, reader: httpx.Client, key: str, command: list[Any]
) -> None:
    http.post("/", json=["SET", key, "kept"])
    command = [key if word == "KEY" else word for word in command]
    assert reader.post("/", json=command).json()["error"].startswith("NOPERM ")
    assert reader.post("/multi-exec", json=[["GET", key], command]).status_code == 400
    mixed = reader.post("/pipeline", json=[["GET", key], command, ["GET", key]]).json()
    assert [list(item) for item in mixed] == [["result"], ["error"], ["result"]]
    assert mixed[0] == mixed[2] == {"result": "kept"}
    assert http.post("/", json=["TTL", key]).json() == {"result": -1}


def test_the_read_only_token_reads(http: httpx.Client, reader: httpx.Client, key: str) -> None:
    http.post("/", json=["HSET", key, "f", "v"])
    for command in (
        ["HGETALL", key],
        ["OBJECT", "ENCODING", key],
        ["PING"],
        ["TIME"],
        ["TTL", key],
        ["XREAD", "STREAMS", key + "stream", 0],
        ["BITFIELD_RO", key + "bits", "GET", "u8", 0],
    ):
        assert list(reader.post("/", json=command).json()) == ["result"], command


def test_a_script_in_another_database_leaves_the_connection(http: httpx.Client, key: str) -> None:
    rows = [["EVAL", "return redis.call('SELECT', 3)", 0], ["SET", key, "x"]]
    for path in ("/pipeline", "/multi-exec"):
        assert http.post(path, json=rows).json() == [{"result": "OK"}] * 2
        counted = ["EVAL", "redis.call('SELECT', 3) return redis.call('EXISTS', KEYS[1])", 1, key]
        assert http.post("/", json=counted).json() == {"result": 0}
        assert http.post("/", json=["DEL", key]).json() == {"result": 1}


def test_a_wrong_token_learns_nothing(gateway: ServedGateway) -> None:
    token, seen = gateway.token, set()
    wrong = ["", token[:-1], token + "x", token.swapcase(), "ü", f"Basic {token}"]
    with httpx.Client(base_url=gateway.url) as stranger:
        for path, body, bad in itertools.product(
            ["/", "/pipeline", "/get/k", "/nope"], [b"", b'["PING"]', b"[" * 1000], wrong
        ):
            given = bad if " " in bad else f"Bearer {bad}"
            headers = {"Authorization": given.encode("latin-1")} if bad else {}
            answer = stranger.post(path, content=body, headers=headers)
            kept = {k: v for k, v in answer.headers.items() if k != "date"}
            seen.add((answer.status_code, answer.text, json.dumps(kept)))
        assert len(seen) == 1
        status, text, _ = seen.pop()
        assert (status, text) == (401, '{"error":"WRONGPASS invalid or missing auth token"}')
        assert stranger.delete("/", headers={"Authorization": "Bearer x"}).status_code == 401
        # The product takes the token as a parameter too.
        assert stranger.get(f"/echo/a?_token={token}").json() == {"result": "a"}
        assert stranger.get(f"/echo/a?_token={token[1:]}").status_code == 401
        # A value may be called so: the token is no argument.
        assert stranger.get(f"/rpush/tokens/_token?f=_token&_token={token}").json() == {"result": 3}
        read = stranger.get(f"/lrange/tokens/0/-1?%5Ftoken={token}").json()
        assert read == {"result": ["_token", "f", "_token"]}
        assert stranger.get(f"/del/tokens?_token={token}").json() == {"result": 1}


@pytest.mark.parametrize("given", ["full", "read_only", "none of them", ""])
def test_every_token_is_compared_with_both(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[int, int]] = []

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((len(a), len(b)))
        return a == b

    monkeypatch.setattr("kvlab.rest_gateway.tokens.hmac.compare_digest", compare)
    tokens = Tokens()
    token = getattr(tokens, given, given).encode()
    if given in ("full", "read_only"):
        assert tokens.is_read_only(token) == (given == "read_only")
    else:
        with pytest.raises(RestRefused, match="WRONGPASS"):
            tokens.is_read_only(token)
    assert compared == [(32, 32)] * 2  # digests: of one length, whatever was given


def test_of_two_tokens_none_counts(http: httpx.Client, gateway: ServedGateway) -> None:
    both = [("Authorization", f"Bearer {word}") for word in ("x", gateway.token)]
    for headers in (both, both[::-1], [both[1]] * 2):
        with httpx.Client(base_url=gateway.url) as stranger:
            assert stranger.get("/ping", headers=headers).status_code == 401
    assert http.get("/ping").json() == {"result": "PONG"}


def test_other_methods_and_formats_are_refused(http: httpx.Client) -> None:
    assert http.delete("/").status_code == 405
    answer = http.get("/echo/a", headers={"Upstash-Response-Format": "resp2"})
    assert (answer.status_code, list(answer.json())) == (400, ["error"])


def test_no_repr_shows_a_token() -> None:
    tokens = Tokens()
    assert repr(tokens) == "Tokens()"
    assert len({tokens.full, tokens.read_only, Tokens().full}) == 3
    with pytest.raises(ValueError, match="16 characters"):
        Tokens("short")
    with pytest.raises(ValueError, match="another"):
        Tokens("x" * 20, "x" * 20)


def test_the_command_prints_what_clients_read_and_ends(server: RunningServer) -> None:
    fixed = {"KV_REST_API_TOKEN": "t" * 32, "KV_REST_API_READ_ONLY_TOKEN": "r" * 32}
    with server.client() as direct:
        direct.acl_setuser("anyone", enabled=True, nopass=True, commands=["+@all"])
    process = subprocess.Popen(
        python_command("kvlab.rest_gateway.serve"),
        env={**os.environ, **fixed, "KVLAB_URL": server.url.replace("//", "//anyone:secret@")},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines = [process.stdout.readline().strip() for _ in range(6)]
    assert lines[1].startswith("KV_REST_API_URL=http://127.0.0.1:")
    assert lines[2:4] == [f"{name}={value}" for name, value in fixed.items()]
    assert lines[5] == f"serving {server.url}"  # without the password
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) in (0, -signal.SIGTERM)
    process.stdout.close()


def test_a_store_that_is_gone() -> None:
    with engines.start("valkey") as store, serving(store.url) as alone:
        store.kill()
        with client(alone, alone.token) as http:
            status, answer = said(http.post("/", json=["PING"]))
    assert status == 503
    assert "nothing ran" in answer["error"]
    assert alone.token not in answer["error"]
