"""What a batch of ops sends and what its replies mean: no sockets, no waiting.

``drive`` plays the server: each round trip takes the next answer from a list, each wait moves a
clock that nothing else moves.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from asyncio import CancelledError
from types import SimpleNamespace
from typing import Any

import pytest
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ExecAbortError,
    NoScriptError,
    ReadOnlyError,
    ResponseError,
)

from kvlab import Flow, Key, Op, Script, Wait
from kvlab.core.executors.chunks import CHUNK
from kvlab.core.executors.executor import Executor
from kvlab.core.executors.requests import PAUSE, Doubt, Trip
from kvlab.core.key import checked_prefix
from kvlab.core.settings import Settings
from kvlab.core.wire import Command, RoundTrip, condemns, encode, refusal
from kvlab.errors import (
    CANNOT_SERVE,
    BatchFailed,
    CannotServe,
    InvalidArgument,
    Outage,
    OutcomeUnknown,
    ServerRefused,
    ServerUnavailable,
)

ADD = Op("INCR", Key("n"))
READ = Op("GET", Key("n"), idempotent=True)
COUNT = Script("count", "return redis.call('INCR', KEYS[1])")
LOST = OutcomeUnknown("lost")
UNREACHABLE = ServerUnavailable("unreachable")


class Play:
    """An executor whose server answers from a list; what was sent is kept."""

    def __init__(self, *answers: Any, seconds: float = 0.0, **settings: Any) -> None:
        self.now, self.seconds = 100.0, seconds
        self.answers, self.sent, self.waits, self.doubts = list(answers), [], 0, 0
        kind, where = SimpleNamespace, {"host": "h", "port": 1}
        pool = SimpleNamespace(connection_class=kind, connection_kwargs=where, max_connections=9)
        settings = {"prefix": "p", "clock": lambda: self.now, "sleep": list} | settings
        self.executor = Executor(SimpleNamespace(connection_pool=pool), Settings(**settings))

    def run(self, *ops: Any, atomic: bool = False, return_exceptions: bool = False) -> Any:
        running = self.executor._running(ops, atomic, return_exceptions)
        try:
            request = next(running)
            while True:
                match request:
                    case Wait(seconds):
                        self.now, self.waits = self.now + seconds, self.waits + 1
                        request = running.send(None)
                    case Doubt():
                        self.doubts += 1
                        request = running.send(None)
                    case Trip(sent, commands):
                        self.sent.append(commands)
                        started, self.now = self.now, self.now + self.seconds
                        answer = self.answers.pop(0) if self.answers else ([], LOST)
                        if isinstance(answer, Exception):
                            request = running.throw(answer)
                        else:
                            self.executor._count(sent, started, answer[1])
                            request = running.send(answer)
        except StopIteration as done:
            return done.value


def replied(*replies: Any) -> tuple[list[Any], None]:
    return list(replies), None


# --- the command line ----------------------------------------------------------------------


def test_only_keys_carry_the_prefix() -> None:
    assert encode(Op("MSET", Key("a"), "b", Key("c"), 1), "p:") == ("MSET", "p:a", "b", "p:c", "1")


def test_a_script_travels_by_its_digest_and_with_its_keys_counted() -> None:
    op = Op(COUNT, Key("a"), Key("b"), 7)
    assert encode(op, "p:") == ("EVALSHA", COUNT.sha, "2", "p:a", "p:b", "7")
    assert encode(op, "p:", with_source=True) == ("EVAL", COUNT.source, "2", "p:a", "p:b", "7")
    assert len(COUNT.sha) == 40


PACKING_WITH_A_SIGNAL_PENDING = """
import signal, hiredis
class Stop(Exception): pass
def stop(*_): raise Stop
{command}
signal.signal(signal.SIGALRM, stop)
signal.setitimer(signal.ITIMER_REAL, 0.002)
try:
    while True:
        hiredis.pack_command(command)  # takes 20 ms: the signal comes while the text is copied
except Stop:
    print("stopped")
"""
AS_GIVEN = "command = ('SET', 'k', 'x' * 40_000_000, 1)"
ENCODED = """
from kvlab import Key, Op
from kvlab.core.wire import encode
command = encode(Op('SET', Key('k'), 'x' * 40_000_000, 1, 2.5), 'p:')
"""


@pytest.mark.parametrize(("command", "ends_well"), [(AS_GIVEN, False), (ENCODED, True)])
def test_a_signal_that_is_pending_while_a_command_is_packed(command: str, ends_well: bool) -> None:
    # hiredis makes text of a number by PyObject_Repr, which answers NULL when a handler raises.
    script = PACKING_WITH_A_SIGNAL_PENDING.format(command=command)
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60)
    if ends_well:
        assert (ended.returncode, ended.stdout) == (0, b"stopped\n"), ended.stderr
    else:
        assert ended.returncode == -signal.SIGSEGV


@pytest.mark.parametrize("given", ["p", "p:", "a:b", "a:b:", "A.b_c-9"])
def test_a_prefix_always_ends_in_a_colon(given: str) -> None:
    assert checked_prefix(given) == given.removesuffix(":") + ":"


@pytest.mark.parametrize(
    "wrong",
    ["", ":", "a::b", ":a", "a b", "{a}", "a*", "a?", "[a]", "a\\", "ü", "a\n", "a::", None],
)
def test_a_prefix_without_meaning_or_with_a_pattern_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidArgument, match="prefix"):
        checked_prefix(wrong)


# --- results -------------------------------------------------------------------------------


def test_the_shape_of_the_result_is_the_shape_of_what_was_given() -> None:
    assert Play(replied(1)).run(ADD) == 1
    assert Play(replied(1, 2)).run(ADD, ADD) == (1, 2)
    assert Play(replied(1)).run([ADD]) == [1]
    assert Play(replied(1, 2)).run(iter((ADD, ADD))) == [1, 2]
    nothing = Play()
    assert nothing.run([]) == []
    assert nothing.run() == ()
    assert nothing.sent == []


def test_a_list_is_chunked_and_a_tuple_is_not() -> None:
    sizes = [CHUNK, CHUNK, 200]
    play = Play(*(replied(*range(n)) for n in sizes))
    assert len(play.run([ADD] * 1200)) == 1200
    assert [len(commands) for commands in play.sent] == sizes
    assert play.executor.round_trips == 3
    whole = Play(replied(*range(1200)))
    assert whole.run(*[ADD] * 1200) == tuple(range(1200))
    assert len(whole.sent) == 1


def test_a_transaction_is_not_chunked() -> None:
    play = Play(replied(b"OK", *[b"QUEUED"] * 1200, list(range(1200))))
    assert play.run([ADD] * 1200, atomic=True) == list(range(1200))
    ((first, *_, last),) = play.sent
    assert (first, last) == (("MULTI",), ("EXEC",))


def test_one_failing_op_fails_alone() -> None:
    wrong = ResponseError("WRONGTYPE no list")
    undecodable = Op("GET", Key("n"), decode=lambda raw: int(raw))
    with pytest.raises(BatchFailed, match="2 of 3 ops failed; the first is op 0") as failed:
        Play(replied(wrong, b"x", 3)).run(ADD, undecodable, ADD)
    first, second, third = failed.value.results
    assert (first.code, third) == ("WRONGTYPE", 3)
    assert isinstance(second, ValueError)
    kept = Play(replied(wrong, 3)).run(ADD, ADD, return_exceptions=True)
    assert (type(kept[0]), kept[1]) == (ServerRefused, 3)
    (kept,) = Play(replied(wrong)).run([ADD], return_exceptions=True)
    assert isinstance(kept, ServerRefused)


def test_a_failing_decode_alone_raises_itself() -> None:
    with pytest.raises(ZeroDivisionError):
        Play(replied(0)).run(Op("GET", Key("n"), decode=lambda raw: 1 // raw))


@pytest.mark.parametrize("wrong", ["GET", "", b"", None, 5, ["GET"], (ADD, "GET"), {1: 2}])
def test_what_is_no_op_is_refused_unsent(wrong: Any) -> None:
    play = Play()
    with pytest.raises(InvalidArgument):
        play.run(wrong)
    assert play.sent == []


def test_blocking_ops_and_flows_do_not_travel_in_batches() -> None:
    waiting = Op("BLPOP", Key("q"), 0, blocking=1)
    for given, atomic in [((ADD, waiting), False), (([waiting, ADD],), False), ((waiting,), True)]:
        play = Play()
        with pytest.raises(InvalidArgument, match="blocking"):
            play.run(*given, atomic=atomic)
        assert play.sent == []
    from test_op import counting

    for given in ((ADD, counting("x")), ([counting("x")],)):
        with pytest.raises(InvalidArgument, match="several round trips"):
            Play().run(*given)


# --- scripts -------------------------------------------------------------------------------


def test_a_missing_script_is_sent_again_alone_and_with_its_source() -> None:
    scripted = Op(COUNT, Key("n"))
    missing = NoScriptError("No matching script", status_code="NOSCRIPT")
    play = Play(replied(1, missing, 3), replied(2))
    assert play.run(ADD, scripted, ADD) == (1, 2, 3)
    assert play.sent[1] == [("EVAL", COUNT.source, "1", "p:n")]
    assert play.executor.round_trips == 2


def test_it_is_sent_again_once_and_only_when_there_is_a_source() -> None:
    missing = NoScriptError("No matching script", status_code="NOSCRIPT")
    play = Play(replied(missing), replied(missing))
    with pytest.raises(ServerRefused) as refused:
        play.run(Op(COUNT, Key("n")))
    assert (refused.value.code, len(play.sent)) == ("NOSCRIPT", 2)
    play = Play(replied(missing))
    with pytest.raises(ServerRefused):
        play.run(Op("EVALSHA", "0" * 40, 0))
    assert len(play.sent) == 1


def test_a_missing_script_in_a_batch_that_is_cut_short_has_not_run() -> None:
    missing = NoScriptError("No matching script", status_code="NOSCRIPT")
    scripted = Op(COUNT, Key("n"), idempotent=True)
    play = Play(([missing], OutcomeUnknown("cut")), seconds=100)  # too late for a retry
    results = play.run(scripted, Op("GET", Key("n"), idempotent=True), return_exceptions=True)
    assert [type(r) for r in results] == [ServerUnavailable, OutcomeUnknown]


def test_in_a_transaction_a_script_carries_its_source() -> None:
    play = Play(replied(b"OK", b"QUEUED", [1]))
    assert play.run(Op(COUNT, Key("n")), atomic=True) == (1,)
    assert play.sent[0][1] == ("EVAL", COUNT.source, "1", "p:n")


# --- lost replies --------------------------------------------------------------------------


def test_nothing_sent_is_unavailable_and_not_repeated() -> None:
    for op in (ADD, READ):
        play = Play(([], UNREACHABLE))
        with pytest.raises(ServerUnavailable):
            play.run(op)
        assert (len(play.sent), play.executor.round_trips) == (1, 0)
    with pytest.raises(ServerUnavailable):
        Play(([], UNREACHABLE)).run(ADD, READ)
    with pytest.raises(ServerUnavailable):
        Play(([], UNREACHABLE)).run([ADD] * 1200)


@pytest.mark.parametrize("losses", [0, 1, 5, 40])
def test_an_idempotent_op_is_sent_again_as_often_as_it_is_lost(losses: int) -> None:
    play = Play(*[([], LOST)] * losses, replied(b"x"))
    assert play.run(READ) == b"x"
    assert (len(play.sent), play.waits) == (losses + 1, losses)


def test_any_other_op_is_never_sent_again() -> None:
    play = Play(([], LOST), replied(1))
    with pytest.raises(OutcomeUnknown):
        play.run(ADD)
    assert len(play.sent) == 1


def test_no_attempt_begins_after_the_deadline() -> None:
    play = Play(seconds=2.0)  # every answer lost after the two seconds of the timeout
    with pytest.raises(OutcomeUnknown):
        play.run(READ)
    assert len(play.sent) == 3  # at 0, 2.02 and 4.04 s
    quick = Play(deadline=0.08)
    with pytest.raises(OutcomeUnknown):
        quick.run(READ)
    assert len(quick.sent) == 3  # at 0, 0.02 and 0.06 s
    only = Play(deadline=PAUSE)
    only.now = 0.0  # a retry would begin at the deadline itself
    with pytest.raises(OutcomeUnknown):
        only.run(READ)
    assert len(only.sent) == 1


def test_once_sent_it_stays_unknown_though_the_server_is_gone() -> None:
    play = Play(([], LOST), *[([], UNREACHABLE)] * 1000)
    with pytest.raises(OutcomeUnknown):
        play.run(READ)
    refused = Play(([], LOST), ServerRefused("NOAUTH"))
    with pytest.raises(OutcomeUnknown):
        refused.run(READ)
    demoted = ReadOnlyError("You can't write against a read only replica", status_code="READONLY")
    refused = Play(([], LOST), replied(demoted), replied(demoted))
    with pytest.raises(OutcomeUnknown, match="READONLY"):  # the first may have run
        refused.run(READ)
    twice = Op(COUNT, Key("n"), idempotent=True)
    missing = NoScriptError("No matching script", status_code="NOSCRIPT")
    cut = Play(([], LOST), ([missing], LOST), deadline=PAUSE * 1.5)
    results = cut.run(twice, READ, return_exceptions=True)
    assert [type(r) for r in results] == [OutcomeUnknown] * 2


def test_of_a_batch_that_is_cut_the_answered_part_is_known() -> None:
    ops = [ADD] * 154 + [READ] + [ADD] * 844 + [READ]
    play = Play((list(range(154)), LOST), replied(b"154", b"999"))
    results = play.run(*ops, return_exceptions=True)
    assert results[:154] == tuple(range(154))
    assert all(type(r) is OutcomeUnknown for r in results[155:999])
    assert (results[154], results[999]) == (b"154", b"999")
    assert play.sent[1] == [("GET", "p:n")] * 2


def test_a_refused_reconnect_leaves_the_known_known() -> None:
    play = Play(([1], LOST), ServerRefused("WRONGPASS changed meanwhile"))
    assert [type(r) for r in play.run(ADD, READ, ADD, return_exceptions=True)] == [
        int,
        OutcomeUnknown,
        OutcomeUnknown,
    ]
    scripted = Op(COUNT, Key("n"))
    missing = NoScriptError("No matching script", status_code="NOSCRIPT")
    play = Play(replied(1, missing), ServerRefused("WRONGPASS changed meanwhile"))
    assert [type(r) for r in play.run(ADD, scripted, return_exceptions=True)] == [
        int,
        ServerRefused,
    ]


def test_the_chunks_after_a_lost_one_are_not_sent() -> None:
    play = Play(replied(*range(500)), (list(range(10)), LOST))
    results = play.run([ADD] * 1200, return_exceptions=True)
    assert len(play.sent) == 2
    assert results[:510] == [*range(500), *range(10)]
    assert {type(r) for r in results[510:1000]} == {OutcomeUnknown}
    assert {type(r) for r in results[1000:]} == {ServerUnavailable}
    with pytest.raises(BatchFailed):
        Play(replied(*range(500)), ([], LOST)).run([ADD] * 600)


def test_a_fallback_answers_for_the_unreachable_and_the_lost_and_nothing_else() -> None:
    safe = Op("GET", Key("n"), fallback=lambda problem: type(problem).__name__)
    assert Play(([], UNREACHABLE)).run(safe) == "ServerUnavailable"
    assert Play(([], LOST)).run(safe) == "OutcomeUnknown"
    with pytest.raises(ServerRefused):
        Play(replied(ResponseError("WRONGTYPE"))).run(safe)
    with pytest.raises(ServerRefused):
        Play(ServerRefused("NOAUTH")).run(safe)
    many = Play(([], LOST))
    assert many.run([safe] * 1200) == ["OutcomeUnknown"] * 500 + ["ServerUnavailable"] * 700
    assert len(many.sent) == 1  # the fallbacks do not hide that the server is gone


ENDS = (GeneratorExit, StopIteration)
"""What a generator, or a surrounding ``map``, would take for its own end."""


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, CancelledError, *ENDS])
@pytest.mark.parametrize("where", ["decode", "fallback"])
def test_an_interrupt_waits_for_the_neighbours(kind: type[BaseException], where: str) -> None:
    def interrupt(_: object) -> int:
        raise kind

    first = replied(ResponseError("OOM") if where == "fallback" else 1, NoScriptError())
    stopped = Op("GET", Key("n"), **{where: interrupt})
    for given in ((stopped, Op(COUNT, Key("n"))), ([stopped, Op(COUNT, Key("n"))] * 300,)):
        replies, error = first
        play = Play((replies * (250 if len(given) == 1 else 1), error), replied(*[1] * 250))
        expected = RuntimeError if kind in ENDS else kind
        with pytest.raises(BatchFailed if expected is RuntimeError else kind) as raised:
            play.run(*given)
        if expected is RuntimeError:
            assert expected in map(type, raised.value.results)
        else:
            assert len(play.sent) == 2  # the neighbours were sent again, and no chunk more


def test_a_fallback_that_raises_fails_its_own_op() -> None:
    def closed(problem: Exception) -> Any:
        raise PermissionError("nobody is in")

    strict = Op("GET", Key("n"), fallback=closed)
    with pytest.raises(PermissionError):
        Play(([], UNREACHABLE)).run(strict)
    first, second = Play(([1], LOST)).run(ADD, strict, return_exceptions=True)
    assert (first, type(second)) == (1, PermissionError)


def test_a_loading_server_ran_nothing() -> None:
    loading = BusyLoadingError("Redis is loading the dataset in memory", status_code="LOADING")
    with pytest.raises(CannotServe, match="LOADING"):
        Play(replied(loading)).run(ADD)
    aborted = ExecAbortError("Transaction discarded", status_code="EXECABORT")
    results = Play(replied(b"OK", loading, loading, aborted)).run(
        ADD, ADD, atomic=True, return_exceptions=True
    )
    assert [r.code for r in results] == ["LOADING"] * 2


# --- transactions --------------------------------------------------------------------------


def test_a_transaction_is_lost_and_repeated_as_a_whole() -> None:
    play = Play(([b"OK", b"QUEUED"], LOST), replied(b"OK", b"QUEUED", b"QUEUED", [b"1", b"1"]))
    assert play.run(READ, READ, atomic=True) == (b"1", b"1")
    assert play.sent[0] == play.sent[1]
    mixed = Play(([b"OK", b"QUEUED", b"QUEUED"], LOST))
    results = mixed.run(READ, ADD, atomic=True, return_exceptions=True)
    assert [type(r) for r in results] == [OutcomeUnknown] * 2
    assert len(mixed.sent) == 1


def test_an_aborted_transaction_says_which_op_was_at_fault() -> None:
    unknown = ResponseError("unknown command 'NONSENSE'", status_code="ERR")
    aborted = ExecAbortError("Transaction discarded", status_code="EXECABORT")
    with pytest.raises(BatchFailed) as failed:
        Play(replied(b"OK", b"QUEUED", unknown, aborted)).run(ADD, Op("NONSENSE"), atomic=True)
    first, second = failed.value.results
    assert (first.code, second.code) == ("EXECABORT", "ERR")
    assert "unknown command" in str(first)


def test_an_aborted_transaction_has_the_code_of_what_a_server_refused_for_now() -> None:
    full = ResponseError("command not allowed", status_code="OOM")
    aborted = ExecAbortError("Transaction discarded", status_code="EXECABORT")
    fallen = Op("GET", Key("n"), idempotent=True, fallback=lambda error: f"without: {error}")
    first, second = Play(replied(b"OK", b"QUEUED", full, aborted)).run(
        fallen, ADD, atomic=True, return_exceptions=True
    )
    assert first == "without: EXECABORT not executed because of: OOM command not allowed"
    assert (type(second), second.code) == (CannotServe, "OOM")


def test_ops_that_ran_though_multi_was_refused_are_not_called_unrun() -> None:
    denied = ResponseError("NOPERM this user has no permissions to run 'multi'")
    without = ResponseError("EXEC without MULTI", status_code="ERR")
    results = Play(replied(denied, 1, without)).run(ADD, atomic=True, return_exceptions=True)
    assert [type(r) for r in results] == [OutcomeUnknown]


def test_what_a_demoted_primary_refused_is_retried_once_and_whole() -> None:
    readonly = ResponseError("READONLY You can't write against a read only replica.")
    play = Play(replied(b"1", readonly), replied(2))
    assert play.run(READ, ADD) == (b"1", 2)
    assert ([len(sent) for sent in play.sent], play.doubts) == ([2, 1], 1)
    aborted = [b"OK", b"QUEUED", readonly, ResponseError("EXECABORT discarded")]
    play = Play((aborted, None), ([b"OK", b"QUEUED", b"QUEUED", [b"1", 2]], None))
    assert play.run(READ, ADD, atomic=True) == (b"1", 2)
    play = Play(replied(readonly), replied(readonly), replied(readonly))
    with pytest.raises(ServerRefused):
        play.run(ADD)
    with pytest.raises(ServerRefused):  # believed now: not asked again
        play.run(ADD)
    assert len(play.sent) == 3
    # MULTI itself was refused: the first op ran by itself, and must not run again.
    alone = [ResponseError("NOPERM no MULTI"), 1, readonly, ResponseError("ERR EXEC without MULTI")]
    play = Play((alone, None))
    play.run(ADD, ADD, atomic=True, return_exceptions=True)
    assert len(play.sent) == 1


def test_an_error_inside_exec_is_the_ops_own() -> None:
    wrong = ResponseError("WRONGTYPE no")
    with pytest.raises(BatchFailed) as failed:
        Play(replied(b"OK", b"QUEUED", b"QUEUED", [wrong, 2])).run(ADD, ADD, atomic=True)
    assert [type(r) for r in failed.value.results] == [ServerRefused, int]


# --- errors and the hook -------------------------------------------------------------------


RUNNING = "Error running script (call to f_897afd4d23ee70efe0ede1685c1c94834429da77): "
OUT_OF_SCRIPTS = [  # as redis-py hands them on: the text, the code that it took off; ours
    (f"{RUNNING}@user_script:1: @user_script: 1: -OOM command not", "ERR", "OOM", "command"),
    ("@user_script: 12: -READONLY You can't write", None, "READONLY", "write"),
    (f"{RUNNING}@user_script:1: WRONGTYPE Operation", "ERR", "WRONGTYPE", "Operation"),
    ("NOREPLICAS Not enough. script: 897af, on @user_script:1.", None, "NOREPLICAS", "Not"),
    (f"{RUNNING}@user_script:1: user_script:1: attempt to index", "ERR", "ERR", "attempt"),
    (f"{RUNNING}@user_script:1: Script killed by user", "ERR", "ERR", "killed"),
    ("Transaction discarded because of: BUSY Redis is busy", "EXECABORT", "BUSY", "busy"),
    ("Transaction discarded because of: NOPERM no", "EXECABORT", "EXECABORT", "NOPERM"),
]


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (AuthenticationError("Authentication required.", status_code="NOAUTH"), "NOAUTH", "req"),
        (AuthenticationError("invalid pair", status_code="WRONGPASS"), "WRONGPASS", "invalid"),
        (ResponseError("WRONGTYPE Operation"), "WRONGTYPE", "Operation"),
        (ResponseError("EXEC without MULTI", status_code="ERR"), "ERR", "EXEC without"),
        (ResponseError("value is not an integer"), "ERR", "integer"),
        *((ResponseError(text, status_code=said), *out) for text, said, *out in OUT_OF_SCRIPTS),
    ],
)
def test_a_refusal_keeps_the_servers_code_and_words(error: Any, code: str, text: str) -> None:
    refused = refusal(error)
    assert isinstance(refused, ServerRefused)
    assert isinstance(refused, ResponseError)
    assert refused.code == code
    assert isinstance(refused, Outage) == (code in CANNOT_SERVE)
    assert text in str(refused)
    assert refused.__cause__ is error


def test_the_trace_hook_is_told_each_round_trip() -> None:
    told: list[RoundTrip] = []
    missing = NoScriptError("none", status_code="NOSCRIPT")
    scripted = Op(COUNT, Key("n"))
    play = Play(replied(1, missing), ([], LOST), seconds=0.25, trace=told.append)
    play.run(ADD, scripted, return_exceptions=True)
    assert [t.ops for t in told] == [(ADD, scripted), (scripted,)]
    assert [(t.started, t.seconds) for t in told] == [(100.0, 0.25), (100.25, 0.25)]
    assert [t.error for t in told] == [None, LOST]
    Play(([], UNREACHABLE), trace=told.append).run(ADD, return_exceptions=True)
    assert len(told) == 2  # nothing was sent: no round trip


def test_what_the_hook_raises_reaches_the_caller() -> None:
    def broken(_: RoundTrip) -> None:
        raise RuntimeError("hook")

    with pytest.raises(RuntimeError, match="hook"):
        Play(replied(1), trace=broken).run(ADD)


def test_an_abandoned_run_closes_its_flow() -> None:
    def steps() -> Any:
        yield READ

    generator = steps()
    running = Play().executor._running((Flow(lambda: generator),), False, False)
    next(running)
    running.close()
    assert generator.gi_frame is None


def test_commands_are_what_the_type_says() -> None:
    play = Play(replied(1))
    play.run(ADD)
    command: Command = play.sent[0][0]
    assert command == ("INCR", "p:n")


@pytest.mark.parametrize("code", sorted(CANNOT_SERVE))
def test_a_connection_is_condemned_by_what_another_server_would_not_say(code: str) -> None:
    assert condemns(ServerRefused(f"{code} said so")) == (
        code in {"READONLY", "MASTERDOWN", "NOREPLICAS"}
    )
