"""What the clients of another language use: the store behind HTTP."""

from __future__ import annotations

from typing import Annotated

import typer

from kvlab.cli.app import app
from kvlab.cli.options import HIGHEST_PORT, number


@app.command(short_help="Serve the REST protocol of Vercel KV and Upstash.")
def rest(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, number(0, HIGHEST_PORT, help="The port to listen on; 0: a free one.")
    ] = 8079,
) -> None:
    """Serve the REST protocol of Vercel KV and Upstash over the embedded Valkey, or KVLAB_URL.

    Prints the variables that @vercel/kv and @upstash/redis read. The tokens are random, unless
    KV_REST_API_TOKEN and KV_REST_API_READ_ONLY_TOKEN are set. Ctrl-C ends the gateway.
    """
    from kvlab.rest_gateway.serve import serve

    serve(host, port)
