"""The schedule of one run: the key and the intended start of every request."""

from __future__ import annotations

from typing import Any

from kvlab.errors import InvalidArgument
from kvlab.instruments.measure.workload import ClosedLoop, OpenLoop, Popularity, Seconds, Trace


class Schedule:
    """The key and the intended start of each request, and the ends of warm-up and run.

    ``times``: intended starts in seconds from the start of the run; None in a closed loop. Requests
    0…warm-1 are warm-up; a closed loop that is bounded by seconds has deadlines instead of ``warm``
    and ``end``.
    """

    def __init__(
        self,
        workload: Popularity,
        arrivals: ClosedLoop | OpenLoop | None,
        seed: int,
        count: int | None,
        duration: float | None,
        warmup: int,
        warmup_seconds: float,
    ) -> None:
        self._workload, self._seed, self._arrivals = workload, seed, arrivals
        self._warmup = f"{warmup_seconds:g} s" if warmup_seconds else f"{warmup} calls"
        self.times: Seconds | None = None
        self.warm: int | None = warmup
        self.warm_time = warmup_seconds
        self.warm_deadline: float | None = None
        self.end: int | None = None if count is None else warmup + count
        if isinstance(arrivals, ClosedLoop):
            if warmup_seconds:
                self.warm, self.warm_deadline, self.end = None, warmup_seconds, None
                if count is not None:
                    raise InvalidArgument("a closed loop with warmup_seconds needs duration")
        else:
            self._schedule(arrivals, count, duration, warmup, warmup_seconds)
        self._keys = workload.keys(self._ahead(), seed)

    def _schedule(
        self,
        arrivals: OpenLoop | None,
        count: int | None,
        duration: float | None,
        warmup: int,
        warmup_seconds: float,
    ) -> None:
        def first(n: int) -> Seconds:
            if arrivals is not None:
                return arrivals.times(count=n, seed=self._seed)
            return self._trace_times[:n]

        def until(moment: float) -> Seconds:
            if arrivals is not None:
                return arrivals.times(duration=moment, seed=self._seed)
            return self._trace_times[self._trace_times < moment]

        warm_times = until(warmup_seconds) if warmup_seconds else first(warmup)
        warm = len(warm_times)
        if not warmup_seconds and warm:
            self.warm_time = float(warm_times[-1])
        if count is not None:
            times = first(warm + count)
        else:
            times = until(self.warm_time + (duration or 0.0))
        if len(times) <= warm:
            raise InvalidArgument(f"the schedule has no request after its warm-up of {warm}")
        self.warm, self.end, self.times = warm, len(times), times

    @property
    def _trace_times(self) -> Seconds:
        assert isinstance(self._workload, Trace)
        return self._workload.times

    @property
    def open(self) -> bool:
        """Whether the requests have intended starts."""
        return self.times is not None

    def describe(self) -> dict[str, Any]:
        """What a result says of its load: loop, seed, workload and warm-up."""
        loop, of = "open" if self.open else "closed", self._workload
        return {
            "loop": f"{loop}, {self._arrivals or 'trace'}",
            "seed": self._seed,
            "workload": f"Trace of {len(of)}" if isinstance(of, Trace) else repr(of),
            "warmup": self._warmup,
        }

    def _ahead(self) -> int:
        if self.end is not None:
            return self.end
        return len(self._workload) if isinstance(self._workload, Trace) else 1 << 16

    def key(self, i: int) -> int:
        """The key that request i asks for."""
        while i >= len(self._keys):  # a short draw is a prefix of a longer one
            self._keys = self._workload.keys(2 * len(self._keys), self._seed)
        return int(self._keys[i])
