"""The titles of load-run charts: the verdict of the same run first, then its speed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd

from kvlab.instruments.charts.latency import title_percentile
from kvlab.load.record.drawing import excess
from kvlab.load.record.recovery import recoveries
from kvlab.load.record.run import LoadRun
from kvlab.load.record.words import duration, printable

_NAMED = 3
"""The most runs that a title names one by one."""
_VERBS = {"HOLDS": ("holds", "hold"), "BROKEN": ("is broken", "are broken")}


def throughput_title(run: LoadRun) -> str:
    """Verdict, calls a second, errors, and how long the slowest recovery took."""
    title = f"{run.verdict}: {run.rate:,.0f} calls/s"
    if run.open_loop:
        title += f" of {run.timeline['due'].sum() / run.seconds:,.0f} due"
    title += f", {run.errors_total:,} error{'' if run.errors_total == 1 else 's'}"
    low = [recovery for recovery in recoveries(run) if recovery.lowest is not None]
    if lasting := [recovery for recovery in low if recovery.seconds is None]:
        return f"{title}; not back after the {lasting[-1].fault.kind}"
    if low:
        slowest = max(low, key=lambda recovery: recovery.seconds or 0)
        title += f"; back {slowest.seconds:.3g} s after the {slowest.fault.kind} began"
    return title


def latency_title(run: LoadRun) -> str:
    """Verdict, p99 of the run, and the worst interval."""
    if not run.calls:
        return "Nothing was called"
    title = f"{run.verdict}: p99 {duration(run.latency_all.percentile(99))} over the run"
    worst = run.worst_interval()
    if worst is not None:
        title += f", {duration(worst['p99_us'] / 1e6)} in the worst interval"
        title += f", at {round(worst['second'], 2):,.10g} s"
    return title


def names_title(run: LoadRun) -> str:
    """Verdict, and p99 by name of call; the medians where a curve ends before p99."""
    called = {name: recorder for name, recorder in run.latency.items() if recorder.count}
    if not called:
        return "Nothing was called"
    quantity, percent = title_percentile(called.values())
    ends = [
        f"{printable(name, 24)} {duration(recorder.percentile(percent))}"
        for name, recorder in called.items()
    ]
    return f"{run.verdict}: {quantity} {', '.join(ends)}"


def admissions_title(run: LoadRun, windows: pd.DataFrame) -> str:
    """Verdict, and the windows over their bound; naive keys beside others are counted apart."""
    if not len(windows):
        return "Nothing was admitted"
    if windows["bound"].isna().all():
        most = windows["admitted"].max()
        return f"{run.verdict}: up to {most:,} admitted in a window, no bound is stated"
    beyond = excess(windows)
    over = beyond > 0
    naive = windows["key"].str.startswith("naive-")
    if naive.any() and not naive.all():
        return (
            f"{run.verdict}: over the bound of their limiter are {over[~naive].sum():,} of "
            f"{(~naive).sum():,} hardened windows and {over[naive].sum():,} of {naive.sum():,} "
            "windows of the naive control"
        )
    title = f"{run.verdict}: {over.sum() or 'none'} of {len(windows):,} windows over the bound, "
    if not over.any():
        return title + f"the fullest holds {windows['admitted'].max():,}"
    worst = windows.loc[beyond[over].idxmax()]
    if worst["admitted"] > worst["bound"]:
        return (
            title + f"the worst holds {worst['admitted']:,} where {worst['bound']:,g} are allowed"
        )
    most = f"{worst['busiest']:,} where {worst['busiest_bound']:,g} are allowed"
    return title + f"the busiest interval of a window's length holds {most}"


def comparison_title(
    runs: Mapping[str, LoadRun],
    values: Mapping[str, float],
    quantity: str,
    written: Callable[[float], str],
) -> str:
    """The verdict of each run, then its value; of many runs only the lowest and the highest.

    The title ranks no runs, and says why: one run of each is no comparison.
    """
    if len(runs) > _NAMED:
        low, high = written(min(values.values())), written(max(values.values()))
        title = f"{_verdicts(runs)}; {quantity} from {low} to {high}"
    else:
        ends = ", ".join(f"{printable(name, 24)} {written(v)}" for name, v in values.items())
        title = f"{_verdicts(runs)}; {quantity}: {ends}"
    return f"{title} (one run each)" if len(runs) > 1 else title


def _verdicts(runs: Mapping[str, LoadRun]) -> str:
    verdicts = {run.verdict for run in runs.values()}
    if len(verdicts) > 1:
        return ", ".join(f"{printable(n, 24)} {_verb(r.verdict)}" for n, r in runs.items())
    (verdict,) = verdicts
    if len(runs) == 1:
        return verdict
    who = "Both" if len(runs) == 2 else f"All {len(runs)}"
    return f"{who} {_verb(verdict, many=True)}"


def _verb(verdict: str, *, many: bool = False) -> str:
    return _VERBS.get(verdict, ("shows nothing", "show nothing"))[many]
