"""What somebody measures: a pattern under load, the patterns against their peers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kvlab.cli.app import app, keeps_nothing_before_its_end
from kvlab.cli.options import PASSES_OPTIONS_ON, check_answers, check_ports, number
from kvlab.errors import InvalidArgument


@app.command(context_settings=PASSES_OPTIONS_ON)
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
    users: Annotated[int, number(1, help="Concurrent users.")] = 20,
    reports: Annotated[str, typer.Option(help="Where the folder of the run goes.")] = "loads",
    web: Annotated[
        bool, typer.Option("--web", help="Start the runs from Locust's web page, on loopback.")
    ] = False,
    find_rate: Annotated[
        bool, typer.Option("--find-rate", help="Search for the highest rate that holds the --slo.")
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
    Ctrl-C, or SIGINT, cuts a run short: the run says so, and is judged with these codes.
    Before there is a run: 130, and nothing is kept.
    """
    from kvlab.load import command as loads

    chosen, more = loads.chosen([*([name] if name else []), *context.args])
    check_ports(more)
    more += ["--naive"] if naive else []
    length = loads.seconds(time)
    if slo and not find_rate:
        raise InvalidArgument("--slo is for --find-rate: a run alone is judged by its promises")
    if find_rate and not {"-h", "--help"} & {*more}:
        more += ["--web"] if web else []
        with keeps_nothing_before_its_end():
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


@app.command(short_help="Measure the patterns against their peers.")
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
    seed: Annotated[int, number(0, help="The seed of the orders within the turns.")] = 1,
    fail_on_slower: Annotated[
        bool, typer.Option("--fail-on-slower", help="Exit code 1 when a row became slower.")
    ] = False,
) -> None:
    """Measure the patterns against their peers, in turns; keep the run, compare it with an older.

    Each run leaves a folder: run.json, rows.csv, turns.csv, and report.html to look at. The peers:
    pip install "kvlab[peers]"
    """
    with keeps_nothing_before_its_end():
        from kvlab.bench.command import Asked
        from kvlab.bench.command import bench as measured
        from kvlab.core.server_url import server_url
        from kvlab.workshop.workbook import released

        where = server_url(url) if url else ""
        if url:
            check_answers(url, "--url")
        asked = Asked(names or (), short, save, against, where, seed, fail_on_slower)
        code = measured(released(), asked)
    raise typer.Exit(code)
