"""The command line as a whole: its version, and how a command ends.

Exit code: 0; 1 for a failure; 2 for wrong usage; 130 after Ctrl-C; 143 after SIGTERM.
``kvlab load`` has further ones. Whatever goes wrong on purpose is one line on stderr.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Any

from kvlab.core.server_url import with_advice
from kvlab.errors import InvalidArgument, KvlabError
from kvlab.version import __version__

try:
    import typer
    from typer.core import TyperGroup
    from typer.exceptions import Abort, TyperException
except ImportError:
    raise SystemExit('the kvlab command needs typer: pip install "kvlab[lab]"') from None

INTERRUPTED = 130
"""The exit status of a shell's command that Ctrl-C has ended."""
TERMINATED = 143
"""The exit status of a shell's command that SIGTERM has ended."""


class Commands(TyperGroup):
    """Ends a command that Ctrl-C stops with one line."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that the words name."""
        try:
            if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # since ``kvlab_command``
                signal.signal(signal.SIGINT, signal.default_int_handler)
            return super().invoke(ctx)
        except (KeyboardInterrupt, Abort):  # Abort: at a question
            raise _stopped("stopped") from None


app = typer.Typer(
    cls=Commands,
    context_settings={"max_content_width": 100},
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich takes [lab] for markup, and keeps the line breaks of a docstring
)


def main() -> None:
    """Run the command line."""
    with ends_in_order():
        sys.exit(_run())


def _run() -> int:
    try:
        code: int = app(prog_name="kvlab", standalone_mode=False)
    except TyperException as wrong:  # of usage: an unknown option, a missing argument
        context = getattr(wrong, "ctx", None)
        where = context.command_path if context else "kvlab"
        say(f"{wrong.format_message().rstrip('.?')}; see {where} --help")
        code = wrong.exit_code
    except KvlabError as problem:
        say(with_advice(problem))
        code = 2 if isinstance(problem, InvalidArgument) else 1
    return code


@contextmanager
def ends_in_order() -> Iterator[None]:
    """In the block SIGTERM raises SystemExit, so that a command removes what it has made.

    A command may have a handler of its own. A child that is forked in the block ends at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    def end(number: int, frame: FrameType | None) -> None:
        if os.getpid() == owner:
            signal.signal(number, signal.SIG_IGN)  # a second one would cut the cleanup short
            raise SystemExit(TERMINATED)
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def say(line: str) -> None:
    """Print a line that is no result of a command."""
    print(f"kvlab: {line}", file=sys.stderr)


@contextmanager
def keeps_nothing_before_its_end() -> Iterator[None]:
    """Around such a command: Ctrl-C says so."""
    try:
        yield
    except KeyboardInterrupt:
        raise _stopped("stopped; nothing was kept") from None


def _stopped(line: str) -> typer.Exit:
    """Say so below a question or a line of progress."""
    print(file=sys.stderr)
    say(line)
    return typer.Exit(INTERRUPTED)


def _show_version(asked: bool) -> None:
    if asked:
        print(f"kvlab {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _kvlab(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """The eight common key-value patterns, each shown breaking, then holding.

    Begin with kvlab lab.
    """
    if context.invoked_subcommand is None:
        print(context.get_help())
