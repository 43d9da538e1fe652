"""`lkmongo web`: a page for talking to the agent, and its token endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lkmongo.cli.command import Cli, Tenant
from lkmongo.model import DEFAULT_TENANT

_LOCAL_LIVEKIT = """\
To try it with a LiveKit server on this machine:
  1. install livekit-server: https://docs.livekit.io/transport/self-hosting/local/
  2. livekit-server --dev
  3. in .env.local: LIVEKIT_URL=ws://localhost:7880, LIVEKIT_API_KEY=devkey, LIVEKIT_API_SECRET=secret
  4. lkmongo agent run --dev --demo, and beside it lkmongo web
In a checkout, make talk does all of this. Without the extra voice, and without speech services (LiveKit Cloud's, or
servers named by LIVEKIT_INFERENCE_URL or LKMONGO_STT_BASE_URL and LKMONGO_TTS_BASE_URL), you type, and the agent
answers in writing."""


async def web(
    cli: Cli,
    host: Annotated[
        str,
        typer.Option("--host", help="Address to listen on; any but a loopback address needs LKMONGO_WEB_AUTH."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 for a free one.")] = 8080,
    tenant: Tenant = DEFAULT_TENANT,
    assets: Annotated[
        Path | None,
        typer.Option(
            "--assets",
            metavar="DIR",
            help="Folder with livekit-client.umd.js; without it the browser fetches that from jsDelivr.",
            show_default=False,
        ),
    ] = None,
    dev: Annotated[
        bool, typer.Option("--dev", help="For development: accept a LIVEKIT_API_SECRET that could be guessed.")
    ] = False,
) -> None:
    """Serve a page for talking to the agent, and the tokens for it.

    POST /api/token is LiveKit's standard token endpoint, for this page and any other client. Callers without a login
    are guests, recognised by a signed cookie. Run lkmongo agent run beside it to answer them. It stops at SIGTERM or
    Ctrl-C.
    """
    from lkmongo.errors import SettingsError
    from lkmongo.web.server import Options, plan, serve

    cli.note_ignored()
    try:
        planned = plan(cli.settings, Options(host, port, tenant, assets, dev))
    except SettingsError as error:
        if cli.settings.livekit is None and not cli.output.is_json and "LIVEKIT" in error.message:
            cli.output.note(_LOCAL_LIVEKIT)
        raise
    if planned.concern:
        cli.output.warn(planned.concern)
    if not planned.client.is_pinned:
        cli.output.warn("livekit-client.umd.js is not the version that the page was written for")

    def ready(url: str) -> None:
        cli.output.record({"url": url, "token_endpoint": f"{url}api/token"}, f"Talk on {url}")
        cli.output.note("Run lkmongo agent run beside this to answer callers. Ctrl-C stops.")

    await serve(cli.settings, planned, on_ready=ready, on_status=cli.output.note)
