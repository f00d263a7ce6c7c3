"""``predict``: a question that the reader answers before the next cell shows what is measured.

::

    stuck = predict("05-stuck", "When can the next worker take the lock?",
                    ["at once", "after 10 s", "never"])
    …
    stuck.measured("never")

The question and its choices are an output of their own, which a page without a kernel shows too.
The widget under them takes the answer and keeps it in the progress of the working copy. Nobody is
waited for: without an answer ``measured`` says so and shows what was measured.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from string import ascii_lowercase
from typing import Any

from kvlab.core.checks import instance, text
from kvlab.errors import InvalidArgument
from kvlab.workshop.learner.progress import Log, log_here

Answer = str | float
_CLOSE = 0.25
"""A number is right when it is at most this share away from what was measured."""


def predict(name: str, question: str, choices: Sequence[str] = (), *, unit: str = "") -> Prediction:
    """Show a question with its choices, or one for a number with its ``unit``; keep the answer.

    ``name`` is the question's own in the whole workbook. Raises InvalidArgument for a choice that
    stands twice, and for one choice alone.
    """
    if len(choices) == 1 or len(set(choices)) < len(choices):
        raise InvalidArgument(f"choices must be several, each another one, not {choices!r:.80}")
    text("name", name)
    instance("question", question, str, "a text")
    asked = Prediction(name, question, tuple(choices), unit, log_here())
    asked.show()
    return asked


@dataclass(slots=True)
class Prediction:
    """One question. ``answer`` is None until somebody has answered."""

    name: str
    question: str
    choices: tuple[str, ...]
    unit: str
    log: Log | None
    answer: Answer | None = field(init=False)

    def __post_init__(self) -> None:
        events = self.log.events() if self.log else ()
        mine = [e for e in events if e["kind"] == "prediction" and e.get("question") == self.name]
        self.answer = mine[-1].get("answer") if mine else None

    def __str__(self) -> str:
        lines = [f"Predict: {self.question}"]
        lines += [f"  {letter}) {choice}" for letter, choice in self._lettered.items()]
        return "\n".join(lines + ([] if self.choices else [f"  a number{self._in_unit}"]))

    __repr__ = __str__

    def _repr_markdown_(self) -> str:
        rows = [f"- **{letter})** {choice}" for letter, choice in self._lettered.items()]
        asked = "" if self.choices else f" *A number{self._in_unit}.*"
        return f"**Predict.** {self.question}{asked}\n\n" + "\n".join(rows)

    def show(self) -> None:
        """Display the question, and under it what takes the answer."""
        from IPython.display import display

        question = {"text/markdown": self._repr_markdown_(), "text/plain": str(self)}
        display(question, raw=True)  # type: ignore[no-untyped-call]
        display(self._widget())  # type: ignore[no-untyped-call]

    def answered(self, answer: Answer) -> None:
        """Keep an answer; the last one counts. Raises InvalidArgument for none of the choices."""
        if self.choices and answer not in self.choices:
            raise InvalidArgument(f"answer must be one of {self.choices}, not {answer!r:.80}")
        self.answer = answer
        if self.log:
            self.log.note("prediction", **self._asked, answer=self.answer)

    def measured(self, value: Answer) -> Comparison:
        """The answer beside what was measured; a number is right within a quarter of it."""
        value = value if isinstance(value, str) else float(value)  # numpy's numbers are no JSON
        compared = Comparison(self.answer, value, self.unit)
        if self.log and self.answer is not None:
            facts = {"answer": self.answer, "measured": value, "right": compared.right}
            self.log.note("prediction", **self._asked, **facts)
        return compared

    @property
    def _lettered(self) -> dict[str, str]:
        return dict(zip(ascii_lowercase, self.choices, strict=False))

    @property
    def _asked(self) -> dict[str, str]:
        return {"question": self.name, "words": self.question}

    @property
    def _in_unit(self) -> str:
        return f" in {self.unit}" if self.unit else ""

    def _widget(self) -> Any:
        import ipywidgets

        if not self.choices:
            return self._box()
        letters = self._lettered
        chosen = next((one for one, choice in letters.items() if choice == self.answer), None)
        buttons = ipywidgets.ToggleButtons(options=list(letters), value=chosen)
        buttons.observe(lambda change: self.answered(letters[change["new"]]), "value")
        return buttons

    def _box(self) -> Any:
        """Takes a number, and says so when it is none. Empty at first: 0 is an answer too."""
        import ipywidgets

        kept = "" if self.answer is None else f"{self.answer:g}"
        box = ipywidgets.Text(
            value=kept, placeholder="a number, then Enter", continuous_update=False
        )
        remark = ipywidgets.Label(self.unit)

        def take(change: Mapping[str, Any]) -> None:
            answer = _number(change["new"])
            remark.value = f"{self.unit} ({'not a number' if answer is None else 'kept'})"
            if answer is not None:
                self.answered(answer)

        box.observe(take, "value")
        return ipywidgets.HBox([box, remark])


def _number(typed: str) -> float | None:
    """The number in "1,000", "67 %" or "2.5 ms"; None when there is none."""
    found = re.match(r"[+-]?\d[\d,]*(\.\d+)?|[+-]?\.\d+", typed.strip())
    return float(found[0].replace(",", "")) if found else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """An answer beside what was measured. ``right`` is None without an answer."""

    answer: Answer | None
    value: Answer
    unit: str

    @property
    def right(self) -> bool | None:
        if self.answer is None:
            return None
        if isinstance(self.value, str) or isinstance(self.answer, str):
            return self.answer == self.value
        return abs(self.answer - self.value) <= abs(self.value) * _CLOSE

    def __str__(self) -> str:
        measured = f"Measured: {self._shown(self.value)}"
        if self.answer is None:
            return f"Not answered. {measured}"
        words = "right" if self.right else "not right"
        return f"You said {self._shown(self.answer)}: {words}. {measured}"

    __repr__ = __str__

    def _shown(self, value: Answer) -> str:
        if isinstance(value, str):
            return value
        plain = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
        return f"{plain} {self.unit}".rstrip()
