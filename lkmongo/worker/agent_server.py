"""The worker as LiveKit's SDK knows it: which functions a job runs, and how its processes are made."""

from __future__ import annotations

import functools
import math
import multiprocessing
import multiprocessing.forkserver
import os
import signal
import sys
from typing import Any

from livekit.agents import AgentServer, Plugin

from lkmongo import deadlines
from lkmongo.aio import handling
from lkmongo.settings import Settings
from lkmongo.worker import job
from lkmongo.worker.prewarm import MODULES

PORT = 8081
"""Where the health of the worker is told: `GET /` is 200 or 503, `GET /worker` tells jobs and load."""
_MOST_IDLE = 4
_OWN_MODULES = (job.__name__, *MODULES)
_SDK_MODULES = ("livekit.agents.ipc._preload", "livekit.agents.ipc._preload_freeze")


def create_server(
    settings: Settings,
    *,
    dev: bool = False,
    demo: bool = False,
    host: str | None = None,
    port: int | None = None,
    metrics_port: int | None = None,
    drain_seconds: int = 20,
) -> AgentServer:
    """Make the worker's server; nothing is started.

    Args:
        settings: the LiveKit project and the agent's name.
        dev: for development: sessions can be looked into, processes are made when a job comes, and the port is free.
        demo: let the demo responder answer where there is no language model.
        host: where health and metrics listen; None for every interface, since probes come from outside a container,
            and with `dev` for this machine alone.
        port: of the health endpoint; None for `PORT`, and with `dev` for a free one.
        metrics_port: of Prometheus' metrics; None for none.
        drain_seconds: how long calls may go on when the worker is to end.

    Raises:
        SettingsError: some of the LiveKit variables are set and others are missing.
    """
    livekit = settings.livekit
    idle = 0 if dev else min(_MOST_IDLE, math.ceil(os.cpu_count() or 1))
    server = AgentServer(
        ws_url=livekit.url if livekit else None,
        api_key=livekit.api_key if livekit else None,
        api_secret=livekit.api_secret.get_secret_value() if livekit else None,
        setup_fnc=functools.partial(job.setup, dev=dev, demo=demo),
        preload_modules=list(_OWN_MODULES),
        num_idle_processes=idle,
        initialize_process_timeout=30.0,
        drain_timeout=drain_seconds,
        session_end_timeout=deadlines.SESSION_END,
        host=("127.0.0.1" if dev else "") if host is None else host,
        port=(0 if dev else PORT) if port is None else port,
        prometheus_port=metrics_port,
    )
    server.rtc_session(job.entrypoint, agent_name=settings.agent_name, on_session_end=job.on_session_end)
    return server


def start_forkserver() -> None:
    """Start the process that all jobs are forked from, deaf to the signals that end the worker.

    A signal to the whole process group, as systemd, a shell or a terminal sends it, would end it, and with it every
    call before its record is written. What is ignored when a process starts stays ignored. It must know what to import
    before it starts, and the SDK would tell it when it is too late: hence the SDK's own list.
    """
    if not sys.platform.startswith("linux"):
        return  # the processes are spawned there
    plugins: list[Any] = [plugin.package for plugin in Plugin.registered_plugins]
    modules = [*dict.fromkeys([*plugins, *_OWN_MODULES]), *_SDK_MODULES]
    multiprocessing.get_context("forkserver").set_forkserver_preload(modules)
    with handling(dict.fromkeys((signal.SIGTERM, signal.SIGHUP), signal.SIG_IGN)):
        multiprocessing.forkserver.ensure_running()
