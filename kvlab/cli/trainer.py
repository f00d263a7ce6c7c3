"""What a trainer makes: a room for a workshop, a folder to hand round, a site."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kvlab.cli.app import app, keeps_nothing_before_its_end
from kvlab.cli.options import HIGHEST_PORT, check_answers, number


@app.command(short_help="Open a room for a workshop.")
def room(
    host: Annotated[
        str, typer.Option(help="The address to listen on; participants elsewhere need one.")
    ] = "127.0.0.1",
    port: Annotated[
        int, number(0, HIGHEST_PORT, help="The port to listen on; 0: a free one.")
    ] = 8765,
    folder: Annotated[Path, typer.Option(help="Where the room is kept.")] = Path("kvlab-room"),
    server: Annotated[
        str | None,
        typer.Option(help="One server for all: its URL, with a user that may use ACL."),
    ] = None,
) -> None:
    """Open a room for a workshop: who has solved what, hints and solutions, a clock.

    Prints the address of your page, and the line that participants type. Ctrl-C closes the room;
    the same folder opens it again.
    """
    from kvlab.workshop.room.command import serve

    if server is not None:
        check_answers(server, "--server", allow_remote=True)
    serve(folder, host, port, server)


@app.command(short_help="Make a folder to install from without a network.")
def pack(
    folder: Annotated[Path, typer.Argument(help="The folder to make, for a stick or a share.")],
    python: Annotated[str, typer.Option(help="Which Pythons, with commas.")] = "3.11,3.12,3.13",
    platform: Annotated[
        str, typer.Option(help="Of linux, linux-arm, macos, macos-intel, windows.")
    ] = "linux,macos,windows",
    check: Annotated[
        bool, typer.Option("--check", help="Make nothing: prove a folder that was made.")
    ] = False,
) -> None:
    """Make a folder to hand round: the workbook and all wheels, to be installed without a network.

    Where this machine is one of the platforms, the folder is proved: it is installed without an
    index into a new environment, and kvlab doctor runs there.
    """
    from kvlab.workshop.pack import command, target

    if check:
        command.prove(folder)
    else:
        command.pack(folder, target.targets(platform, python))


@app.command(short_help="Write the chapters and the games as a static site.")
def site(
    folder: Annotated[Path, typer.Argument(help="An empty folder, or one with a site.")] = Path(
        "site"
    ),
) -> None:
    """Write the executed chapters, the games and the findings as a static site."""
    with keeps_nothing_before_its_end():
        from kvlab.workshop.site.build import write

        pages = write(folder)
    print(f"{len(pages)} pages; begin with {pages[0]}")
