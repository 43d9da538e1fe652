"""`lkmongo agent`: talk to the agent, or run the worker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from lkmongo.cli.command import Cli, Tenant, command
from lkmongo.model import DEFAULT_TENANT

app = typer.Typer(help="Talk to the agent, or have it take calls.", no_args_is_help=True, rich_markup_mode=None)


@command(app, "console", data=True)
async def console(
    cli: Cli,
    user: Annotated[
        str | None,
        typer.Option("--user", help="Id of the caller; by default your login.", show_default=False),
    ] = None,
    tenant: Tenant = DEFAULT_TENANT,
    guest: Annotated[bool, typer.Option("--guest", help="Talk as a guest: what you say is not remembered.")] = False,
    script: Annotated[
        Path | None, typer.Option("--script", help="Say the lines of this file, then hang up.", show_default=False)
    ] = None,
    voice: Annotated[
        bool, typer.Option("--voice", help="Talk aloud, by microphone and loudspeaker; press Enter to type.")
    ] = False,
    wav: Annotated[
        list[Path] | None,
        typer.Option(
            "--wav",
            metavar="FILE",
            help="Talk aloud without any device: say this WAV file, then hang up. Repeat it for one after the other.",
            show_default=False,
        ),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(
            "--record",
            metavar="FILE",
            help="With --wav: record what the agent says to this WAV file.",
            show_default=False,
        ),
    ] = None,
    input_device: Annotated[
        str | None,
        typer.Option(help="Microphone, by number or part of its name.", metavar="DEVICE", show_default=False),
    ] = None,
    output_device: Annotated[
        str | None,
        typer.Option(help="Loudspeaker, likewise.", metavar="DEVICE", show_default=False),
    ] = None,
    list_devices: Annotated[bool, typer.Option("--list-devices", help="List microphones and loudspeakers.")] = False,
) -> None:
    """Talk to the agent in the terminal, in text or aloud.

    It is the agent that callers talk to, with the same tools and the same memory. End with Ctrl-D. Lines can be piped
    in; with --json each message, tool call and tool output is one line of JSON.
    """
    from lkmongo.cli import console as one
    from lkmongo.errors import UsageError
    from lkmongo.model import UserScope

    cli.declare()
    if list_devices:
        await one.show_devices(cli)
        return
    cli.note_ignored()
    if wav and (script or input_device or output_device):
        raise UsageError(
            "--wav excludes --script, --input-device and --output-device",
            why="the files are all that is said, and no device is used",
            hint="leave them out",
        )
    if record and not wav:
        raise UsageError("--record needs --wav", hint="add --wav with a file to say")
    if (input_device or output_device) and not voice:
        raise UsageError("--input-device and --output-device need --voice", hint="add --voice")
    if guest and user is not None:
        raise UsageError("--guest and --user exclude each other", hint="a guest has no id; leave one of them out")
    scope = (
        UserScope.guest(tenant) if guest else UserScope(tenant_id=tenant, user_id=_login() if user is None else user)
    )
    conversation = one.Console(cli, scope, guest=guest, script=script)
    if wav:
        await conversation.by_wav(wav, record)
    elif voice:
        await conversation.aloud(input_device, output_device)
    else:
        await conversation.in_text()


@command(app, "run")
def run(
    cli: Cli,
    dev: Annotated[
        bool,
        typer.Option(
            "--dev",
            help="For development: stop without waiting for calls, let anyone in a room inspect them, and accept a "
            "LIVEKIT_API_SECRET that could be guessed.",
        ),
    ] = False,
    demo: Annotated[
        bool,
        typer.Option("--demo", help="Answer callers by fixed rules if there is no language model."),
    ] = False,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], typer.Option(help="Lowest level logged.")
    ] = "info",
    log_format: Annotated[
        Literal["text", "json"], typer.Option(help="Format of the log on stderr: text, or one JSON object per line.")
    ] = "text",
    drain_timeout: Annotated[
        str, typer.Option(help="How long calls may continue after SIGTERM, such as 20s or 15m; 0s ends them at once.")
    ] = "20s",
    max_calls: Annotated[
        int | None,
        typer.Option(
            help="How many calls it takes at once; by default 20 for each processor core, 10 where each has a process "
            "of its own, 3 aloud, 1.5 where it hears and speaks itself, and with --dev any number. Callers beyond that "
            "wait for it or another worker.",
            min=1,
            show_default=False,
        ),
    ] = None,
    calls_per_process: Annotated[
        int | None,
        typer.Option(
            help="How many calls share a process, each in a thread of its own; by default 8, and 1 with an "
            "LKMONGO_AGENT of your own or elsewhere than on Linux.",
            min=1,
            show_default=False,
        ),
    ] = None,
    load_threshold: Annotated[
        float,
        typer.Option(
            help="The load it reports when it is full: the agents.target_load of the LiveKit server.",
            min=0.01,
            max=0.99,
        ),
    ] = 0.7,
    host: Annotated[
        str | None,
        typer.Option(
            help="Listen address for health and metrics; by default localhost, 0.0.0.0 for every interface.",
            show_default=False,
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            help="Port of the health endpoint; by default 8081, with --dev any free port.",
            min=0,
            max=65535,
            show_default=False,
        ),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(help="Port of the Prometheus metrics; by default none.", min=0, max=65535, show_default=False),
    ] = None,
) -> None:
    """Run the worker that serves the rooms of a LiveKit server.

    It registers as LKMONGO_AGENT_NAME and takes the calls that tokens dispatch to that name. On SIGTERM or Ctrl-C it
    takes no new calls, waits up to --drain-timeout for the others to end, and stores their records; a second signal
    stops it at once.
    """
    from lkmongo.times import parse_duration
    from lkmongo.worker import runner
    from lkmongo.worker.runner import Options
    from lkmongo.worker.runner import run as run_worker

    options = Options(
        dev=dev,
        drain=parse_duration(drain_timeout),
        host=host,
        port=port,
        metrics_port=metrics_port,
        demo=demo,
        max_calls=max_calls,
        load_threshold=load_threshold,
        calls_per_process=calls_per_process,
    )
    cli.declare()
    cli.note_ignored()
    runner.configure("debug" if cli.debug else log_level, log_format, cli.settings.secrets)
    run_worker(cli.settings, options)


@command(app, "download-files")
def download_files(cli: Cli) -> None:
    """Download the model for LKMONGO_TURN_DETECTION=multilingual.

    Everything else is installed with lkmongo and works offline. The files go into Hugging Face's cache (HF_HOME).
    """
    from lkmongo.speech.turn_detection import MULTILINGUAL, download_multilingual

    if cli.settings.turn_detection != "multilingual":
        cli.output.note("LKMONGO_TURN_DETECTION is bundled and needs no download. Downloading anyway.")
    cli.output.note(f"Downloading {MULTILINGUAL}, about 400 MB, from Hugging Face ...")
    download_multilingual()
    cli.output.note("Done: LKMONGO_TURN_DETECTION=multilingual can be used.")


def _login() -> str:
    """The login name, so that a first-time user is recognised the next time."""
    import getpass

    from lkmongo.errors import UsageError

    try:
        return getpass.getuser()
    except (OSError, KeyError) as error:
        raise UsageError("the login name cannot be determined", hint="add --user ID, or --guest") from error
