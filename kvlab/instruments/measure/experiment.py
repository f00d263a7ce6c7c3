"""Run a subject under a workload, and report what happened in numbers that can be checked.

Guarantee: one call per request of the workload, in the order of its schedule. A latency is
measured from the intended start: in an open loop that is the moment of the schedule, in a closed
loop the start itself. The result says how late the generator started its calls (``late_share``,
``lateness``); when that is not small, the numbers describe the generator. Warm-up calls are made
and not counted. An exception of the subject ends the run and is raised, unless its class is listed
in ``expected``; then the name of the class is the outcome.

    result = experiment(lambda key: cache.get(key), Zipf(1000, 1.0), seed=1, count=10_000)
    print(result.latency.percentile(99))

Not promised: a rate beyond what Python threads can start (about 10,000 a second on one core), or
a start more exact than the operating system's sleep (about 0.1 ms).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kvlab.core.checks import boolean, function, instance, real, shown, whole
from kvlab.errors import InvalidArgument
from kvlab.instruments.measure.calls import Clock, Subject, Tally, Workers
from kvlab.instruments.measure.machine import HasClient, check_executor, environment
from kvlab.instruments.measure.result import Result
from kvlab.instruments.measure.schedule import Schedule
from kvlab.instruments.measure.workload import ClosedLoop, OpenLoop, Popularity, Trace
from kvlab.instruments.progress import progress_bar

__all__ = ["Clock", "experiment"]


def experiment(
    subject: Subject,
    workload: Popularity,
    seed: int,
    *,
    arrivals: ClosedLoop | OpenLoop | None = None,
    count: int | None = None,
    duration: float | None = None,
    warmup: int = 0,
    warmup_seconds: float = 0.0,
    bucket: float = 1.0,
    check: Callable[[], int] | None = None,
    expected: tuple[type[Exception], ...] = (),
    kv: HasClient | None = None,
    name: str = "",
    progress: bool = True,
    clock: Clock | None = None,
) -> Result:
    """Call ``subject(key)`` for ``count`` requests or ``duration`` seconds after the warm-up.

    The subject returns an outcome ("hit", "denied" …) or None. ``arrivals`` defaults to a closed
    loop of one worker, for a ``Trace`` to the trace's own times. Warm-up is ``warmup`` calls or
    ``warmup_seconds``. ``bucket`` is the width in seconds of the result's timeline. ``check`` is
    called once at the end and returns the number of violations; without ``check`` the result's
    violations are None, which means "not checked". ``kv`` adds round trips and the engine's
    name to the result. A progress bar appears after one second.
    """
    _check_kinds(subject, workload, arrivals, check, expected, clock)
    count, duration = _checked(count, duration, warmup, warmup_seconds, workload)
    real("bucket", bucket, 0, above=True)
    whole("seed", seed, 0)
    instance("name", name, str, "text")
    boolean("progress", progress)
    check_executor(kv)
    if arrivals is None and not isinstance(workload, Trace):
        arrivals = ClosedLoop()
    schedule = Schedule(workload, arrivals, seed, count, duration, warmup, warmup_seconds)
    tally = Tally(bucket, open_loop=schedule.open)
    threads = arrivals.workers if arrivals else 1
    workers = Workers(subject, schedule, clock or Clock(), expected, threads)
    warm = workers.warm_up()
    trips_before = kv.round_trips if kv is not None else 0
    total = None if schedule.end is None else schedule.end - warm
    with progress_bar(total, name, show=progress) as tally.bar:
        seconds = workers.measure(tally, duration)
    return Result(
        name=name,
        outcomes=dict(sorted(tally.outcomes.items())),
        timeline=tally.rows(),
        bucket=bucket,
        seconds=seconds,
        violations=None if check is None else int(check()),
        round_trips=kv.round_trips - trips_before if kv is not None else None,
        lateness=tally.lateness,
        late=tally.late,
        environment=environment(kv) | schedule.describe() | {"repetitions": 1},
    )


def _checked(
    count: int | None,
    duration: float | None,
    warmup: int,
    warmup_seconds: float,
    workload: Popularity,
) -> tuple[int | None, float | None]:
    whole("warmup", warmup, 0)
    real("warmup_seconds", warmup_seconds, 0)
    if warmup and warmup_seconds:
        raise InvalidArgument(
            f"give warmup or warmup_seconds, got {warmup!r} calls and {warmup_seconds!r} s"
        )
    if count is None and duration is None and isinstance(workload, Trace):
        count = max(len(workload) - warmup, 1)
    if (count is None) == (duration is None):
        raise InvalidArgument(
            f"give either count or duration, got count={count!r}, duration={duration!r}"
        )
    if count is not None:
        whole("count", count, 1)
    if duration is not None:
        real("duration", duration, 0, above=True)
    return count, duration


def _check_kinds(
    subject: Subject,
    workload: Popularity,
    arrivals: ClosedLoop | OpenLoop | None,
    check: Callable[[], int] | None,
    expected: tuple[type[Exception], ...],
    clock: Clock | None,
) -> None:
    function("subject", subject)
    if isinstance(workload, Mapping) or not callable(getattr(workload, "keys", None)):
        raise InvalidArgument(
            f"workload must be a workload, such as Uniform(1000), not {shown(workload)}"
        )
    if arrivals is not None:
        instance("arrivals", arrivals, ClosedLoop | OpenLoop, "a ClosedLoop or an OpenLoop")
    if check is not None:
        function("check", check)
    instance("expected", expected, tuple, "a tuple of exceptions")
    for kind in expected:
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            raise InvalidArgument(f"expected must be a tuple of exceptions, not {shown(expected)}")
    if clock is not None and not callable(getattr(clock, "now", None)):
        raise InvalidArgument(f"clock must be a Clock, not {shown(clock)}")
