"""``kvlab``, the command of the workbook. Also ``python -m kvlab``.

The logic of each command lies elsewhere; this module parses arguments and prints results.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from kvlab.errors import InvalidArgument, KvlabError
from kvlab.version import __version__

try:
    import typer
except ImportError:
    raise SystemExit('the kvlab command needs typer: pip install "kvlab[lab]"') from None

app = typer.Typer(
    no_args_is_help=True,
    context_settings={"max_content_width": 100},
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich takes [lab] for markup, and keeps the line breaks of a docstring
)
_INTERRUPTED = 130
"""The exit status of a shell's command that Ctrl-C has ended."""
_PASSES_OPTIONS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


def main() -> None:
    """Run the command line; a KvlabError becomes one message and exit status 1, or 2 for usage."""
    try:
        app()
    except KvlabError as error:
        print(f"kvlab: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, InvalidArgument) else 1)


@contextmanager
def _stops_in_one_line() -> Iterator[None]:
    """Around what keeps nothing before its end: Ctrl-C says so."""
    try:
        yield
    except KeyboardInterrupt:
        print("\nkvlab: stopped; nothing was kept", file=sys.stderr)
        raise typer.Exit(_INTERRUPTED) from None


def _show_version(asked: bool) -> None:
    if asked:
        print(f"kvlab {__version__}")
        raise typer.Exit


@app.callback()
def _kvlab(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """The eight common key-value patterns, each shown breaking, then holding."""


@app.command()
def doctor() -> None:
    """Check that everything works here, a kernel and JupyterLab included; say what to do if not."""
    from kvlab.workshop.doctor_screen import show_doctor

    raise typer.Exit(show_doctor())


@app.command(context_settings=_PASSES_OPTIONS_ON)
def lab(
    context: typer.Context,
    folder: Annotated[
        Path | None, typer.Option(help="Where your copy lies. [default: ./kvlab-workbook]")
    ] = None,
    room: Annotated[
        str | None, typer.Option(help="Take part in a trainer's room: http://HOST:PORT/CODE.")
    ] = None,
    name: Annotated[
        str, typer.Option(help="Your name in the room. [default: your login name]")
    ] = "",
) -> None:
    """Open your copy of the workbook in JupyterLab; the first time, make that copy.

    A notebook that you have changed is never overwritten. JupyterLab's own options
    (--no-browser, --port) pass through.
    """
    from kvlab.workshop.lab import open_lab

    raise typer.Exit(open_lab(context.args, folder, room, name))


@app.command()
def reset_notebook(
    name: Annotated[str, typer.Argument(help="How its file name begins, such as 03.")],
    folder: Annotated[
        Path | None, typer.Option(help="Where your copy lies. [default: ./kvlab-workbook]")
    ] = None,
) -> None:
    """Bring back a notebook and its exercise as released; your changed files are renamed."""
    from kvlab.workshop.workbook import WorkingCopy, working_copy

    copy = WorkingCopy(folder) if folder else working_copy(Path.cwd())
    for changed, kept in copy.restore(name):
        print(f"{changed} is as released; yours is {kept} now")
    print(f"the notebooks {name}* in {copy.folder} are as released")


@app.command()
def check(
    chapter: Annotated[
        str | None, typer.Argument(help="A chapter such as 05. [default: the one saved last]")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every chapter, a line each.")] = False,
) -> None:
    """Try your saved exercises in every order and with every fault; exit code 1 when one fails."""
    from kvlab.workshop.learner.saved import check_saved
    from kvlab.workshop.workbook import working_copy

    solved = True
    for report in check_saved(working_copy(Path.cwd()), chapter, every=every):
        print(report.summary if every else f"{report}\n", flush=True)
        solved = solved and report.passed
    raise typer.Exit(int(not solved))


@app.command()
def room(
    host: Annotated[
        str, typer.Option(help="The address to listen on; participants elsewhere need one.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.")] = 8765,
    folder: Annotated[Path, typer.Option(help="Where the room is kept.")] = Path("kvlab-room"),
    server: Annotated[
        str | None,
        typer.Option(help="One server for all: its URL, with a user that may use ACL."),
    ] = None,
) -> None:
    """Open a room for a workshop: who has solved what, hints and solutions, a clock."""
    from kvlab.workshop.room.command import serve

    serve(folder, host, port, server)


@app.command()
def progress() -> None:
    """Show which exercises of this working copy are solved."""
    from kvlab.workshop.learner.progress import added_up, log_of
    from kvlab.workshop.workbook import working_copy

    print(added_up(log_of(working_copy(Path.cwd())).events()))


@app.command()
def rest(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on; 0: a free one.")] = 8079,
) -> None:
    """Serve the REST protocol of Vercel KV and Upstash over the embedded Valkey, or KVLAB_URL.

    Prints the variables that @vercel/kv and @upstash/redis read. The tokens are random, unless
    KV_REST_API_TOKEN and KV_REST_API_READ_ONLY_TOKEN are set.
    """
    from kvlab.rest_gateway.serve import serve

    serve(host, port)


@app.command()
def site(
    folder: Annotated[Path, typer.Argument(help="An empty folder, or one with a site.")] = Path(
        "site"
    ),
) -> None:
    """Write the executed chapters, the games and the findings as a static site."""
    with _stops_in_one_line():
        from kvlab.workshop.site.build import write

        pages = write(folder)
    print(f"{len(pages)} pages; begin with {pages[0]}")


@app.command(context_settings=_PASSES_OPTIONS_ON)
def load(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(help="rate-limiter (the default) or leaderboard; may stand anywhere."),
    ] = None,
    naive: Annotated[
        bool, typer.Option("--naive", help="Load the tutorial's version, which must fail.")
    ] = False,
    time: Annotated[str, typer.Option(help="How long: 30s, 2m, 1h30m.")] = "30s",
    users: Annotated[int, typer.Option(help="Concurrent users.")] = 20,
    reports: Annotated[str, typer.Option(help="Where the folder of the run goes.")] = "loads",
    web: Annotated[
        bool, typer.Option("--web", help="Start the runs from Locust's web page, on loopback.")
    ] = False,
    find_rate: Annotated[
        bool, typer.Option("--find-rate", help="Search the highest rate that holds the --slo.")
    ] = False,
    slo: Annotated[
        list[str] | None, typer.Option(help="p99=5ms, p99.9=20ms; repeatable, for --find-rate.")
    ] = None,
) -> None:
    """Load a pattern with Locust and judge what happened.

    Each run leaves a folder with a report. Other options go to the load test and to Locust:

    \b
    --rate 2000                 open loop: arrivals a second
    --shape step|spike|…        also flash-sale, daily-peak, retry-storm
    --fault pause@5:2           also cut@8, flush@10, restart@12:1; repeatable
    --lose-replies 100          every 100th reply is lost
    --app                       load the pattern through the sample web app
    --processes 2               two processes of users
    --host valkey://…           another server; http://… for a running app
    --algorithm --limit --window --keys --control      of the rate limiter
    --members --skew --mode --ties                     of the leaderboard
    --print-stats               Locust's own tables too, before the verdict
    --master --expect-workers 2 a run that waits for two workers
    --worker --master-host HOST a worker of that run, in another shell or on another machine
    --find-rate --slo p99=5ms   the highest rate that holds; --time is of each rate

    The whole list: kvlab load leaderboard -- --help

    \b
    Exit code: 0 the promise held    1 the promise broke    2 wrong usage
               3 no server or no app    4 no report could be written
               5 the run shows nothing, such as no denial to judge
    """
    from kvlab.load import command as loads

    chosen, more = loads.chosen([*([name] if name else []), *context.args])
    more += ["--naive"] if naive else []
    length = loads.seconds(time)
    if slo and not find_rate:
        raise InvalidArgument("--slo is for --find-rate: a run alone is judged by its promises")
    if find_rate:
        with _stops_in_one_line():
            from kvlab.load.find_rate import command as search
            from kvlab.load.find_rate.slo import parsed

            length = search.SECONDS if time == "30s" else length
            limits = parsed(slo or ())
            code = search.run(
                chosen, limits, users=users, seconds=length, more=more, reports=reports
            )
        raise typer.Exit(code)
    raise typer.Exit(
        loads.run(chosen, users=users, length=length, more=more, reports=reports, web=web)
    )


@app.command()
def bench(
    names: Annotated[
        list[str] | None, typer.Argument(help="Which benchmarks; all without a name.")
    ] = None,
    short: Annotated[
        bool, typer.Option("--short", help="A minute or two, wider intervals.")
    ] = False,
    save: Annotated[
        Path | None, typer.Option(help="A new folder for the run. [default: benches/<time>]")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="The folder of an older run: say what became of each row.")
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="A server instead of a private Valkey of the run.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the orders within the turns.")] = 1,
    fail_on_slower: Annotated[
        bool, typer.Option("--fail-on-slower", help="Exit code 1 when a row became slower.")
    ] = False,
) -> None:
    """Measure the patterns against their peers, in turns; keep the run, compare it with an older.

    Each run leaves a folder: run.json, rows.csv, turns.csv, and report.html to look at. The peers:
    pip install "kvlab[peers]"
    """
    with _stops_in_one_line():
        from kvlab.bench.command import Asked
        from kvlab.bench.command import bench as measured
        from kvlab.core.server_url import server_url
        from kvlab.workshop.workbook import released

        where = server_url(url) if url else ""
        asked = Asked(names or (), short, save, against, where, seed, fail_on_slower)
        code = measured(released(), asked)
    raise typer.Exit(code)


@app.command()
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


@app.command()
def reset(
    prefix: Annotated[
        str | None, typer.Option(help="The namespace to empty. [default: KVLAB_PREFIX or kvlab:]")
    ] = None,
    exercises: Annotated[
        bool, typer.Option("--exercises", help="Bring the exercises back as released, instead.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove the keys under the prefix, and no others, from the server in use."""
    import kvlab

    if exercises:
        from kvlab.workshop.workbook import working_copy

        copy = working_copy(Path.cwd())
        if not yes:
            typer.confirm(f"Bring every exercise in {copy.folder} back as released?", abort=True)
        for changed, kept in copy.restore("", "exercises"):
            print(f"{changed} is as released; yours is {kept} now")
        return
    with kvlab.connect() if prefix is None else kvlab.connect(prefix=prefix) as kv:
        if not yes:
            typer.confirm(
                f"Remove every key that begins with {kv.prefix} on {kv.where}?", abort=True
            )
        print(f"{kv.clear()} keys removed")
