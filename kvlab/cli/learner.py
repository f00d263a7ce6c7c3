"""What a learner does: look whether all works, open the workbook, check exercises, begin anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import Abort

from kvlab.cli.app import app
from kvlab.cli.options import HIGHEST_PORT, PASSES_OPTIONS_ON, check_ports, number
from kvlab.errors import KvlabError

_Folder = Annotated[
    Path | None, typer.Option(help="Where your copy lies. [default: ./kvlab-workbook]")
]


@app.command(short_help="Check that everything works here.")
def doctor() -> None:
    """Check that everything works here, a kernel and JupyterLab included; say what to do if not."""
    from kvlab.workshop.doctor_screen import show_doctor

    raise typer.Exit(show_doctor())


@app.command(
    context_settings=PASSES_OPTIONS_ON, short_help="Open your copy of the workbook in JupyterLab."
)
def lab(
    context: typer.Context,
    folder: _Folder = None,
    port: Annotated[
        int | None, number(0, HIGHEST_PORT, help="JupyterLab's port. [default: 8888, or the next]")
    ] = None,
    room: Annotated[
        str | None, typer.Option(help="Take part in a trainer's room: http://HOST:PORT/CODE.")
    ] = None,
    name: Annotated[
        str, typer.Option(help="Your name in the room. [default: your login name]")
    ] = "",
) -> None:
    """Open your copy of the workbook in JupyterLab; the first time, make that copy.

    A notebook that you have changed is never overwritten. JupyterLab's own options, such as
    --no-browser, pass through. Ctrl-C ends JupyterLab and its kernels.
    """
    check_ports(context.args)
    from kvlab.workshop.lab import open_lab

    more = [] if port is None else [f"--port={port}"]
    raise typer.Exit(open_lab([*more, *context.args], folder, room, name))


@app.command(short_help="Try your saved exercises.")
def check(
    exercises: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="05|05-short ...",
            help="Chapters, or single exercises. [default: the notebook saved last]",
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every chapter, a line each.")] = False,
) -> None:
    """Try your saved exercises in every order and with every fault; exit code 1 when one fails."""
    from kvlab.workshop.learner.saved import check_saved
    from kvlab.workshop.workbook import working_copy

    solved = True
    for report in check_saved(working_copy(Path.cwd()), exercises or (), every=every):
        print(report.summary if every else f"{report}\n", flush=True)
        solved = solved and report.passed
    raise typer.Exit(int(not solved))


@app.command()
def progress() -> None:
    """Show which exercises of this working copy are solved."""
    from kvlab.workshop.learner.progress import added_up, log_of
    from kvlab.workshop.workbook import working_copy

    copy = working_copy(Path.cwd())
    if not copy.exists:
        raise KvlabError(f"there is no copy of the workbook in {copy.folder}; kvlab lab makes one")
    print(added_up(log_of(copy).events()))


@app.command(short_help="Bring back a notebook as released.")
def reset_notebook(
    name: Annotated[str, typer.Argument(help="How its file name begins, such as 03.")],
    folder: _Folder = None,
) -> None:
    """Bring back a notebook and its exercise as released; your changed files are renamed."""
    from kvlab.workshop.workbook import WorkingCopy, working_copy

    copy = WorkingCopy(folder) if folder else working_copy(Path.cwd())
    for changed, kept in copy.restore(name):
        print(f"{changed} is as released; yours is {kept} now")
    print(f"the notebooks {name}* in {copy.folder} are as released")


@app.command(short_help="Remove the keys of the workbook, or reset its exercises.")
def reset(
    prefix: Annotated[
        str | None, typer.Option(help="The namespace to empty. [default: KVLAB_PREFIX or kvlab:]")
    ] = None,
    exercises: Annotated[
        bool,
        typer.Option(
            "--exercises",
            help="Bring every exercise back as released, instead; your changed files are renamed.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove the keys under the prefix, and no others, from the server in use."""
    if exercises:
        _reset_exercises(yes)
    else:
        _reset_keys(prefix, yes)


def _reset_exercises(yes: bool) -> None:
    from kvlab.workshop.workbook import working_copy

    copy = working_copy(Path.cwd())
    if not yes:
        _ask(f"Bring every exercise in {copy.folder} back as released?", "nothing was changed")
    renamed = copy.restore("", "exercises")
    for changed, kept in renamed:
        print(f"{changed} is as released; yours is {kept} now")
    print(f"the exercises in {copy.folder} are as released; {len(renamed)} had changed")


def _reset_keys(prefix: str | None, yes: bool) -> None:
    import kvlab

    with kvlab.connect() if prefix is None else kvlab.connect(prefix=prefix) as kv:
        if not yes:
            question = f"Remove every key that begins with {kv.prefix} on {kv.where}?"
            _ask(question, "nothing was removed")
        print(f"{kv.clear()} keys removed")


def _ask(question: str, otherwise: str) -> None:
    """Raises KvlabError, which says ``otherwise``, unless the answer is yes."""
    try:
        agreed = typer.confirm(question)
    except Abort as stopped:
        if not isinstance(stopped.__context__, EOFError):
            raise
        agreed = False  # nobody is there to answer
        print()
    if not agreed:
        raise KvlabError(otherwise)
