"""The ``kvlab`` command. It stands outside the package, so that it begins before the imports.

Ctrl-C amid the imports ends the process without a word, and without their traceback. Each command
says how Ctrl-C has ended it: see ``kvlab.cli``.
"""

import signal


def main() -> None:
    """Import the command line, and run it."""
    begin()
    from kvlab.cli import main as run

    run()


def begin() -> None:
    """From now on Ctrl-C ends the process without a word."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell may have it ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)
