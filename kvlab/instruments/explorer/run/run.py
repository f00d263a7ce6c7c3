"""One run of several clients against one server, from an empty database to its end."""

from __future__ import annotations

import random
from collections.abc import Sequence

from kvlab.instruments.explorer.clients.blocking_commands import waits_for_replicas
from kvlab.instruments.explorer.clients.client_thread import ClientThread
from kvlab.instruments.explorer.clients.clock import RunClock
from kvlab.instruments.explorer.clients.stops import Asleep, Blocked, Ended, Local, Sending, Stop
from kvlab.instruments.explorer.run.choices import Choice
from kvlab.instruments.explorer.run.client_program import ClientProgram
from kvlab.instruments.explorer.run.exploration import Exploration
from kvlab.instruments.explorer.run.footprints import EVERYTHING, SCRIPT_CACHE, Footprint
from kvlab.instruments.explorer.run.options import Options, RunState, options_of
from kvlab.instruments.explorer.run.repeats import (
    ADVICE,
    has_time,
    same_answers,
    unlike,
    unlike_at_first,
)
from kvlab.instruments.explorer.run.steps import UNFINISHED, Done, Step, World
from kvlab.instruments.explorer.run.touched import TouchedKeys
from kvlab.instruments.explorer.search import Nondeterministic, RepeatRun
from kvlab.instruments.explorer.server_state.ttls import Ttls

THE_END = "the end of a client"
THE_LAST_WRITE = "the last write"
A_MOMENT = 0.001  # seconds: no server ends a wait at once
_ORDERS = {"go", "crash", "lose reply", "lose request", "time out", "wait in vain"}


class Run:
    """An ``Execution`` of :mod:`..search`. ``problem``: why the run broke off before its end;
    ``undecided``: why it was broken off, so that nobody knows whether it holds.

    ``repeats``: the run must begin as the run before it, and repeat the steps of its path.
    """

    def __init__(self, exploration: Exploration, *, repeats: bool = False) -> None:
        self.exploration, self.settings = exploration, exploration.settings
        count = len(exploration.programs)
        self._state = RunState(
            clock=RunClock(exploration.clock),
            ttls=Ttls(exploration.server),
            faults_left=self.settings.max_faults,
            results=[UNFINISHED] * count,
            steps=[0] * count,
            waits=[0] * count,
            woke_at=[None] * count,
        )
        self._options = Options()
        self._touched = TouchedKeys(exploration.footprints, count)
        self._began_unlike = False
        self.sends_time: set[str] = set()
        self.problem: str | None = None
        self.undecided: str | None = None
        random.seed(0)
        exploration.begin_clean()
        exploration.side.answers.clear()
        if self.settings.setup is not None:
            self.settings.setup(exploration.kv)
        answers = repr(exploration.side.answers)
        # whether all answers so far were those of the run before
        self._comparable = repeats and answers == exploration.setup_answers
        exploration.setup_answers = answers
        for program in exploration.programs:
            program.begin(self._state.clock, jumps=bool(self.settings.faults.clock_jumps))
            self._note_end(program)
        self._compare_begin()
        self._note_ttls(None)
        self._note_writes()
        self._touched.begin()

    @property
    def results(self) -> list[object]:
        return self._state.results

    @property
    def trace(self) -> list[Step]:
        return self._state.trace

    @property
    def waits(self) -> dict[str, int]:
        """How often each client has slept or waited in vain."""
        return dict(zip(self.settings.names, self._state.waits, strict=True))

    @property
    def world(self) -> World:
        return World(self._state.results, self.exploration.kv, tuple(self._state.trace))

    def options(self) -> Sequence[Choice]:
        """See ``Execution``."""
        if self.problem or self.undecided:
            return ()
        self._options = options_of(self.exploration, self._state)
        self.problem, self.undecided = self._options.problem, self._options.undecided
        return (*self._options.usual, *self._options.faults)

    def take(self, choice: Choice) -> Done:
        """See ``Execution``."""
        self._state.taken += 1
        self._state.faults_left -= choice not in self._options.usual
        done = self._change_server(choice) if choice.client is None else self._go_on(choice)
        self._note_ttls(choice.client)
        return done

    def _go_on(self, choice: Choice) -> Done:
        assert choice.client is not None
        program = self.exploration.programs[choice.client]
        waiting = self._touched.waiting(self.exploration.stops)
        before = program.thread.stop
        label = self._prepare(choice, before, program.thread)
        program.thread.resume(choice.kind if choice.kind in _ORDERS else "go")  # type: ignore[arg-type]
        self.exploration.side.none_refused()
        step = self._note_step(choice, before, program, label)
        touched = self._touched.by_client(choice, before, program.thread.stop, waiting)
        if self._note_writes(
            step, program.thread.sent_by
        ):  # which write is the last is seen by a failover
            touched |= Footprint(writes=frozenset({THE_LAST_WRITE}))
        if isinstance(program.thread.stop, Ended):  # perhaps the last end: no TTL can end after it
            touched |= Footprint(reads=frozenset({THE_END}))
        return Done(choice, step, touched)

    def commute(self, one: Done, other: Done) -> bool:
        """See ``Execution``."""
        if one.choice.is_fault and other.choice.is_fault:  # the first may be the last allowed
            return False
        if one.choice.client is not None and one.choice.client == other.choice.client:
            return False
        return not one.touched.meets(other.touched)

    def unlike(self, before: Done, now: Done) -> str | None:
        """See ``Execution``."""
        was, is_now = before.step, now.step
        if was is None or is_now is None or is_now.client is None or not self._comparable:
            return None
        words = unlike(was, is_now) if not self._clock_is_read() else None
        self._comparable = same_answers(was, is_now)
        return words and self._not_repeated(is_now.client, words)

    def _clock_is_read(self) -> bool:
        return any(program.thread.told_time for program in self.exploration.programs)

    def _not_repeated(self, client: int, words: str) -> str:
        number = self._state.steps[client] or 1
        return (
            f"{self.settings.names[client]} does not repeat itself: its step {number} {words}, "
            f"though all answers were the same; {ADVICE}"
        )

    def _compare_begin(self) -> None:
        """Before any choice, each client stands where it stood in the run before."""
        before, stops = self.exploration.first_stops, self.exploration.stops
        self.exploration.first_stops = stops
        if not self._comparable or self._clock_is_read():
            return
        for client, (was, is_now) in enumerate(zip(before, stops, strict=True)):
            if (words := unlike_at_first(was, is_now)) is not None:
                raise Nondeterministic(self._not_repeated(client, words))

    def end(self) -> None:
        """See ``Execution``.

        Runs are alike only if all of them find the same scripts loaded, and know from the first
        step whether time passes: a run that learns such a thing is finished and then repeated.
        """
        while self._began_unlike and (options := self.options()):
            self.take(options[0])
        for program in self.exploration.programs:
            if not isinstance(program.thread.stop, Ended):
                program.thread.kill()
                program.drop()
        if self._began_unlike:
            raise RepeatRun

    def _change_server(self, choice: Choice) -> Done:
        if choice.kind == "expire":
            self.exploration.server.unlink(choice.key)
            step = Step("expire", None, key=choice.key)
            touched = Footprint(writes=frozenset({choice.key, THE_END}))
            if self.exploration.write_log is not None:
                self.exploration.write_log.ttl_ended(choice.key)
        elif choice.kind == "fail over":
            self.exploration.fail_over(choice.lost)
            lost = "the last write" if choice.lost == 1 else f"the last {choice.lost} writes"
            step = Step("fail over", None, label=f"is replaced by a replica without {lost}")
            touched = EVERYTHING
        else:
            self.exploration.scripts.flush()
            step = Step("flush", None)
            touched = Footprint(writes=frozenset({SCRIPT_CACHE}))
        self._state.trace.append(step)
        self._touched.by_server()
        return Done(choice, step, touched)

    def _prepare(self, choice: Choice, stop: Stop, thread: ClientThread) -> str:
        """What happens before the client goes on; the label of the step."""
        if choice.kind == "jump":
            seconds = self.settings.faults.clock_jumps[choice.jump]
            thread.jump(seconds)
            return f"clock jumps {seconds:+g} s"
        if choice.kind == "time out":
            assert isinstance(stop, Blocked)
            left = stop.until - self._state.clock.monotonic
            self._pass_time(left + A_MOMENT if left > 0 else 0, thread.number)
            self.exploration.server.execute_command("CLIENT", "UNBLOCK", stop.connection, "TIMEOUT")
        if isinstance(stop, Asleep) and choice.kind == "go":
            self._pass_time(stop.until - self._state.clock.monotonic, thread.number)
            return f"sleeps {stop.seconds:.3g} s"
        return stop.label if isinstance(stop, Local) else ""

    def _note_step(
        self, choice: Choice, before: Stop, program: ClientProgram, label: str
    ) -> Step | None:
        thread, state = program.thread, self._state
        commands = before.commands if isinstance(before, Sending | Blocked) else ()
        replies = tuple(thread.replies)
        cut = choice.kind == "go" and _was_cut(thread, commands, replies)
        self._began_unlike |= self.exploration.scripts.note(commands, replies)
        if thread.told_time and has_time(commands, state.clock.time):
            self.sends_time.add(self.settings.names[thread.number])
        state.steps[thread.number] += choice.kind not in ("look", "jump")
        ended = isinstance(thread.stop, Ended)
        self._note_end(program)
        step = None
        if choice.kind != "look":
            result = state.results[thread.number]
            scripts = self.exploration.scripts.texts(commands)
            kind = "lose request" if cut else choice.kind
            step = Step(kind, thread.number, commands, replies, label, b"", ended, result, scripts)
            state.trace.append(step)
        state.waits[thread.number] += isinstance(before, Asleep) or choice.kind == "time out"
        if isinstance(before, Asleep):
            state.woke_at[thread.number] = len(state.trace)
        return step

    def _note_end(self, program: ClientProgram) -> None:
        stop = program.thread.stop
        if isinstance(stop, Ended):
            failed = stop.error is not None
            self._state.results[program.thread.number] = stop.error if failed else stop.value
            if failed:
                program.drop()

    def _pass_time(self, seconds: float, client: int) -> None:
        if seconds <= 0:
            return
        if not self._ttls_matter():
            self.exploration.time_passes = self._began_unlike = True
            self._note_ttls(client)
        self._state.clock.pass_by(seconds)
        kept = () if self.settings.faults.expiries else self._able(client)
        passed, stay = self._state.ttls.pass_by(seconds, kept)
        if self.exploration.write_log is not None:
            self.exploration.write_log.time_passed(passed, stay)

    def _able(self, client: int) -> set[int]:
        """The other clients that can go on."""
        stops = enumerate(self.exploration.stops)
        return {other for other, stop in stops if not isinstance(stop, Ended | Blocked)} - {client}

    def _ttls_matter(self) -> bool:
        return self.exploration.time_passes or self.settings.faults.expiries

    def _note_writes(self, step: Step | None = None, connection: int | None = None) -> bool:
        """Whether a client's step, made by this connection, or setup has written."""
        log = self.exploration.write_log
        if log is None:
            return False
        if step is not None and step.client is not None and self._is_sending(step.client):
            self.exploration.side.settle()  # the server may not have done yet what was sent
        written = log.note(connection)
        if step is not None and step.replies and _has_been_waited_for(step):
            log.replicated(connection)
        return written

    def _is_sending(self, client: int) -> bool:
        return bool(self.exploration.programs[client].thread.pending_io)

    def _note_ttls(self, client: int | None) -> None:
        if self._ttls_matter():
            self._state.ttls.note(client)


def _was_cut(thread: ClientThread, commands: Sequence[object], replies: Sequence[object]) -> bool:
    """Whether the commands of a step met a connection that was closed before."""
    waits = thread.pending_io or isinstance(thread.stop, Blocked)
    return bool(commands) and not replies and not waits


def _has_been_waited_for(step: Step) -> bool:
    """Whether a client has read that replicas have its writes. A WAIT whose answer is lost may have
    been cut short by what lost the answer."""
    told = step.kind not in ("wait in vain", "lose reply")
    return told and waits_for_replicas(step.commands) is not None
