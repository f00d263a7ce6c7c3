"""The doctor's report in a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kvlab.workshop.doctor import State, examine

_MARKS = {State.OK: ("ok", "green"), State.NOTE: ("--", "yellow"), State.BROKEN: ("!!", "red")}


def show_doctor() -> int:
    """Print the doctor's report; return 1 when something essential is broken."""
    terminal = Console()
    console = terminal if terminal.is_terminal else Console(width=100)
    console.width = min(console.width, 100)
    report = examine()
    for title, section in report.sections.items():
        table = Table(box=None, show_header=False, padding=(0, 1), pad_edge=False)
        table.add_column(width=2)
        table.add_column(width=15, no_wrap=True)
        table.add_column(overflow="fold")
        for diagnosis in section:
            mark, colour = _MARKS[diagnosis.state]
            table.add_row(Text(mark, style=colour), diagnosis.subject, Text(diagnosis.detail))
        console.print(Text(f"\n{title}", style="bold"))
        console.print(table)
    if report.healthy:
        console.print("\nEverything that the workbook needs works.", style="green")
        return 0
    console.print("\nNot ready. To do:", style="bold red")
    for remedy in report.remedies:
        console.print(f"  - {remedy}", markup=False)
    return 1
