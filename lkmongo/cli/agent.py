"""`lkmongo agent`: talk to the agent, or have it serve rooms."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from lkmongo.cli.command import DEFAULT_TENANT, Cli, Tenant, command

app = typer.Typer(help="Talk to the agent, or have it take calls.", no_args_is_help=True, rich_markup_mode=None)


@command(app, "console", data=True)
async def console(
    cli: Cli,
    user: Annotated[
        str | None,
        typer.Option("--user", help="Id of the person who talks; by default your login.", show_default=False),
    ] = None,
    tenant: Tenant = DEFAULT_TENANT,
    guest: Annotated[bool, typer.Option("--guest", help="Talk as nobody: what you say is not remembered.")] = False,
    script: Annotated[
        Path | None, typer.Option("--script", help="Say the lines of this file, then hang up.", show_default=False)
    ] = None,
    voice: Annotated[
        bool, typer.Option("--voice", help="Talk aloud, by microphone and loudspeaker; Enter to type, and back.")
    ] = False,
    input_device: Annotated[
        str | None,
        typer.Option(help="Microphone, by its number or a part of its name.", metavar="DEVICE", show_default=False),
    ] = None,
    output_device: Annotated[
        str | None,
        typer.Option(help="Loudspeaker, likewise.", metavar="DEVICE", show_default=False),
    ] = None,
    list_devices: Annotated[bool, typer.Option("--list-devices", help="List microphones and loudspeakers.")] = False,
) -> None:
    """Talk to the agent, here in the terminal: in text, or aloud.

    It is the agent that callers talk to, with the same tools and the same memory. End with Ctrl-D. Lines can be piped
    in; with --json each message, tool call and tool output is a JSON object on a line of its own.
    """
    from lkmongo.cli import console as one
    from lkmongo.errors import UsageError
    from lkmongo.model import UserScope

    if list_devices:
        await one.show_devices(cli)
        return
    if (input_device or output_device) and not voice:
        raise UsageError("--input-device and --output-device are for a conversation aloud", hint="add --voice")
    if guest and user is not None:
        raise UsageError("--guest and --user exclude each other", hint="a guest has no id; leave one of them out")
    scope = (
        UserScope.guest(tenant) if guest else UserScope(tenant_id=tenant, user_id=_login() if user is None else user)
    )
    conversation = one.Console(cli, scope, guest=guest, script=script)
    if voice:
        await conversation.aloud(input_device, output_device)
    else:
        await conversation.in_text()


@command(app, "run")
def run(
    cli: Cli,
    dev: Annotated[
        bool,
        typer.Option(
            "--dev", help="For development: end without waiting for calls, and let anybody in a room look into them."
        ),
    ] = False,
    demo: Annotated[
        bool,
        typer.Option("--demo", help="Answer callers by fixed rules where there is no language model."),
    ] = False,
    log_level: Annotated[Literal["debug", "info", "warning", "error"], typer.Option(help="What is logged.")] = "info",
    log_format: Annotated[
        Literal["text", "json"], typer.Option(help="How it is logged, on stderr: lines, or a JSON object a line.")
    ] = "text",
    drain_timeout: Annotated[
        str, typer.Option(help="How long calls may go on after SIGTERM, such as 20s or 15m; 0s ends them at once.")
    ] = "20s",
    host: Annotated[
        str | None,
        typer.Option(
            help="Where health and metrics listen; by default everywhere, with --dev on this machine.",
            show_default=False,
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            help="Port of the health endpoint; by default 8081, with --dev a free one.",
            min=0,
            max=65535,
            show_default=False,
        ),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            help="Port of Prometheus' metrics; by default there are none.", min=0, max=65535, show_default=False
        ),
    ] = None,
) -> None:
    """Serve the rooms of a LiveKit server.

    It registers under LKMONGO_AGENT_NAME and takes the calls that tokens dispatch to that name. SIGTERM or Ctrl-C: it
    takes no more calls, lets those that go on end for the time of --drain-timeout, and stores their records; a second
    signal ends it at once.
    """
    from lkmongo.times import parse_duration
    from lkmongo.worker import runner
    from lkmongo.worker.runner import Options
    from lkmongo.worker.runner import run as run_worker

    options = Options(dev, parse_duration(drain_timeout), host, port, metrics_port, demo)
    runner.configure("debug" if cli.debug else log_level, log_format, cli.settings.secrets)
    run_worker(cli.settings, options)


@command(app, "download-files")
def download_files(cli: Cli) -> None:
    """Fetch the model that LKMONGO_TURN_DETECTION=multilingual needs.

    Everything else comes with the installation and works offline. The files go into Hugging Face's cache, which
    HF_HOME names.
    """
    from lkmongo.agent.models import MULTILINGUAL, download_multilingual

    if cli.settings.turn_detection != "multilingual":
        cli.output.note("LKMONGO_TURN_DETECTION is bundled: nothing has to be fetched for it. Fetching all the same.")
    cli.output.note(f"Fetching {MULTILINGUAL}, about 400 MB, from Hugging Face ...")
    download_multilingual()
    cli.output.note("It is here: LKMONGO_TURN_DETECTION=multilingual can be used.")


def _login() -> str:
    """The operating system's name for whoever runs this, so that a stranger who comes back is known."""
    import getpass

    from lkmongo.errors import UsageError

    try:
        return getpass.getuser()
    except (OSError, KeyError) as error:
        raise UsageError("this system does not tell who you are", hint="add --user ID, or --guest") from error
