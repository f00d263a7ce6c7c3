from __future__ import annotations

from mutants.mutant import Mutant

PATTERN = "sessions"
MODULE = "kvlab/sessions/store.py"
VALUES = "kvlab/sessions/values.py"
COOKIE = "kvlab/sessions/cookie.py"
CREATE = "kvlab/sessions/create.lua"
READ = "kvlab/sessions/read.lua"
UPDATE = "kvlab/sessions/update.lua"
ROTATE = "kvlab/sessions/rotate.lua"
TESTS = ("tests/sessions/test_sessions.py",)
EXPLORED = ("tests/sessions/test_sessions_explored.py",)

_FOR_EVER = "{'0 0 9007199254740991 9007199254740991 null', '{\\n}'}"

MUTANTS = (
    Mutant(
        PATTERN,
        removed="the idle timeout",
        promise="a session ends after idle seconds without use",
        file=READ,
        old="if tonumber(expires) <= now then\n    return false\nend",
        new="",
        tests=TESTS,
        words="idle or timed_out or timeout",
    ),
    Mutant(
        PATTERN,
        removed="the absolute timeout",
        promise="a session ends after absolute seconds however much it is used",
        file=READ,
        old="expires = math.min(now + ARGV[2], tonumber(deadline))",
        new="expires = now + ARGV[2]",
        tests=TESTS,
        words="absolute",
    ),
    Mutant(
        PATTERN,
        removed="the key's TTL, set in the step that creates",
        promise="every key expires",
        file=CREATE,
        old="redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', expires + 1000))",
        new="local _ = expires",
        tests=TESTS,
        words="ttl",
    ),
    Mutant(
        PATTERN,
        removed="the update's check that the session is there",
        promise="a session that was destroyed stays destroyed",
        file=UPDATE,
        old="if not found[1] then\n    return false\nend",
        new=f"if not found[1] then\n    found = {_FOR_EVER}\nend",
        tests=EXPLORED,
        words="stays or loses",
    ),
    Mutant(
        PATTERN,
        removed="the update's check that the session has time left",
        promise="a session that timed out stays ended",
        file=UPDATE,
        old="if tonumber(expires) <= now then\n    return false\nend",
        new="",
        tests=TESTS,
        words="timed_out or timeout",
    ),
    Mutant(
        PATTERN,
        removed="the merge of fields: the update's replace all",
        promise="of two updates of different fields both stay",
        file=UPDATE,
        old="found[2] .. ARGV[4]",
        new="ARGV[4]",
        tests=TESTS,
        words="update",
    ),
    Mutant(
        PATTERN,
        removed="the refusal of an id that nobody gave out",
        promise="an id planted in a browser is the id of no session (fixation)",
        file=READ,
        old="if not found[1] then\n    return false\nend",
        new=f"if not found[1] then\n    found = {_FOR_EVER}\nend",
        tests=TESTS,
        words="planted",
    ),
    Mutant(
        PATTERN,
        removed="the end of the old id in a rotation",
        promise="rotation kills the old id in the step that makes the new one",
        file=ROTATE,
        old="redis.call('HDEL', KEYS[1], 'm:' .. ARGV[1], 'd:' .. ARGV[1])\n",
        new="",
        tests=TESTS,
        words="rotat",
    ),
    Mutant(
        PATTERN,
        removed="the hash of the id",
        promise="neither a dump of the keys nor MONITOR lets anybody in",
        file=VALUES,
        old='return hashlib.sha256(sid.encode("ascii")).hexdigest()',
        new="return sid",
        tests=TESTS,
        words="dump or wire",
    ),
    Mutant(
        PATTERN,
        removed="the check of an id's whole shape",
        promise="what no store made is the id of no session",
        file=MODULE,
        old="shape = _ID.fullmatch(sid)",
        new="shape = _ID.match(sid)",
        tests=TESTS,
        words="no_store_made",
    ),
    Mutant(
        PATTERN,
        removed="the pepper",
        promise="who does not know the pepper cannot test a guess of the user",
        file=MODULE,
        old="hmac.digest(self.pepper, text.encode()",
        new='hmac.digest(b"", text.encode()',
        tests=TESTS,
        words="guess or whose",
    ),
    Mutant(
        PATTERN,
        removed="the most sessions of one user",
        promise="one session too many ends the one seen longest ago",
        file=CREATE,
        old="for i = 1, #live - ARGV[4] + 1 do",
        new="for i = 1, 0 do",
        tests=TESTS,
        words="too_many",
    ),
    Mutant(
        PATTERN,
        removed="the limit of the data, checked where it is merged",
        promise="no update makes a session larger than max_bytes",
        file=UPDATE,
        old="if size > tonumber(ARGV[3]) then",
        new="if false then",
        tests=TESTS,
        words="limit",
    ),
    Mutant(
        PATTERN,
        removed="the answer without a server",
        promise="when the server is down nobody is in",
        file=MODULE,
        old="fallback=_nobody,",
        new="fallback=None,",
        tests=TESTS,
        words="down",
    ),
    Mutant(
        PATTERN,
        removed="HttpOnly and Secure",
        promise="the cookie is shown to no script and travels over TLS only",
        file=COOKIE,
        old="; Path=/; Secure; HttpOnly; ",
        new="; Path=/; ",
        tests=TESTS,
        words="cookie",
    ),
)
