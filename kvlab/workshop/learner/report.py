"""What a check found, as a short list, with the shortest failing schedule as a picture."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from html import escape

from kvlab.instruments.explorer.timeline.diagram import Diagram

_REPLAY = [
    'The words after "replay it" are the choices of the run, in order. In a test of your own,',
    'replay("0 1 …", [your clients], invariant=…) of kvlab.instruments makes the same run again.',
]


@dataclass(frozen=True, slots=True)
class Schedule:
    """The shortest run that breaks a promise: as text, and as a diagram that can be drawn."""

    text: str
    diagram: Diagram

    def png(self) -> tuple[bytes, dict[str, int]]:
        """The diagram as a PNG, and its width and height on the page."""
        from kvlab.instruments.explorer.timeline.drawing import drawn  # no matplotlib before
        from kvlab.instruments.picture import png_of

        return png_of(drawn(self.diagram))


@dataclass(frozen=True, slots=True)
class Check:
    """One promise, tried. ``seen``: what the trial saw; ``schedule``: None for a promise that
    holds, or whose trial explores nothing. ``tried`` is False after a check that had to be
    stopped."""

    name: str
    passed: bool
    promised: str
    seen: str
    schedule: Schedule | None = None
    tried: bool = True


@dataclass(frozen=True, slots=True)
class Report:
    """All checks of one exercise. As the last value of a cell it shows itself."""

    exercise: str
    title: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def shown(self) -> Check | None:
        """The check whose schedule is shown: of those that failed, the one with fewest lines."""
        drawn = [c for c in self.checks if not c.passed and c.schedule is not None]
        return min(drawn, key=_length, default=None)

    @property
    def _below(self) -> list[str]:
        """Whose run the shown run is, where several promises are broken; what replay does."""
        broken = sum(check.tried and not check.passed for check in self.checks)
        which = f'Of the {broken} broken promises, "{self.shown and self.shown.name}" is shown: '
        return [f"{which}its run is the shortest."] * (broken > 1) + _REPLAY

    @property
    def summary(self) -> str:
        """One line."""
        kept = sum(check.passed for check in self.checks)
        promises = f"{kept} of {len(self.checks)} promises hold"
        return f"Exercise {self.exercise}, {self.title}: {'solved, ' * self.passed}{promises}"

    def __str__(self) -> str:
        lines = [self.summary]
        for check in self.checks:
            mark = "ok" if check.passed else "!!" if check.tried else "--"
            lines.append(f"  {mark}  {check.name}")
            if not check.passed:
                lines += [f"      promised: {check.promised}", f"      seen:     {check.seen}"]
        if self.shown is not None and self.shown.schedule is not None:
            lines += ["", f'The shortest run that breaks "{self.shown.name}":', ""]
            lines += [self.shown.schedule.text, "", *self._below]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = "".join(map(_row, self.checks))
        table = f'<table style="text-align:left">{rows}</table>'
        return f"<p><b>{escape(self.summary)}</b></p>{table}{self._picture()}"

    def _picture(self) -> str:
        if self.shown is None or self.shown.schedule is None:
            return ""
        image, size = self.shown.schedule.png()
        data = base64.b64encode(image).decode()
        below = "<br>".join(map(escape, self._below))
        return (
            f"<p>The shortest run that breaks <b>{escape(self.shown.name)}</b>:</p>"
            f'<img width="{size["width"]}" height="{size["height"]}" '
            f'alt="{escape(self.shown.schedule.text)}" src="data:image/png;base64,{data}">'
            f"<p>{below}</p>"
        )


def _length(check: Check) -> int:
    return check.schedule.text.count("\n") if check.schedule else 0


def _row(check: Check) -> str:
    left = '<td style="text-align:left;vertical-align:top">'
    mark = "✓" if check.passed else "✗" if check.tried else "–"
    cell = f"<b>{escape(check.name)}</b>"
    if not check.passed:
        cell += f"<br>promised: {escape(check.promised)}<br>seen: {escape(check.seen)}"
    return f"<tr>{left}{mark}</td>{left}{cell}</td></tr>"
