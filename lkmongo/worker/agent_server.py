"""LiveKit's AgentServer for the worker: which functions a job runs, and how job processes are started."""

from __future__ import annotations

import functools
import math
import multiprocessing
import multiprocessing.forkserver
import signal
import sys
from collections.abc import Callable
from typing import Any

from livekit.agents import AgentServer, JobExecutorType, Plugin

from lkmongo import deadlines
from lkmongo.aio import handling
from lkmongo.errors import SettingsError
from lkmongo.memory.memory import MODULES
from lkmongo.settings import Settings
from lkmongo.speech.choose import speech_source
from lkmongo.worker import job
from lkmongo.worker.capacity import Capacity, take
from lkmongo.worker.shared_processes import Beginning, CallProcesses, SharedProcessServer

PORT = 8081
"""Port of the health endpoint: `GET /` answers 200 or 503, `GET /worker` with jobs and load."""
_MOST_IDLE, _MOST_IDLE_ALOUD = 12, 3
"""Processes that wait for a job: as many callers may come at once without waiting for one to start. With the engines of
this machine loaded, each takes some hundred megabytes, and starting one some seconds."""
CALLS_PER_PROCESS = 8
"""Calls of our own agent that share a process: their Python code takes turns, and they end together if it dies."""
_OWN_MODULES = (job.__name__, *MODULES)
_SHARED = "lkmongo.worker.preload"
_SDK_MODULES = ("livekit.agents.ipc._preload", "livekit.agents.ipc._preload_freeze")


def create_server(
    settings: Settings,
    *,
    capacity: Capacity,
    dev: bool = False,
    demo: bool = False,
    host: str | None = None,
    port: int | None = None,
    metrics_port: int | None = None,
    drain_seconds: int = 20,
    calls_per_process: int = 1,
) -> AgentServer:
    """Create the server without starting it.

    Args:
        settings: the LiveKit project and the agent's name.
        capacity: how many calls it takes at once.
        dev: for development: sessions can be inspected by anyone in the room, and hardly any process waits for a job.
        demo: let the demo responder answer if there is no language model.
        host: listen address for health and metrics; None for localhost.
        port: port of the health endpoint; None for `PORT`, or with `dev` for a free one.
        metrics_port: port of the Prometheus metrics; None for no metrics.
        drain_seconds: how long sessions may continue after the worker was told to stop.
        calls_per_process: how many calls share a process; 1 is the SDK's own way.

    Raises:
        SettingsError: some of the LiveKit variables are set and others are missing.
    """
    livekit = settings.livekit
    setup = functools.partial(job.setup, dev=dev, demo=demo)
    make: Callable[..., AgentServer] = AgentServer
    if calls_per_process > 1:
        prepare = functools.partial(job.prepare, demo=demo)
        beginning = Beginning(prepare, setup, job.entrypoint, job.on_session_end, deadlines.SESSION_END)
        processes = CallProcesses(calls_per_process, beginning)
        make = functools.partial(SharedProcessServer, processes=processes, job_executor_type=JobExecutorType.THREAD)
    server = make(
        ws_url=livekit.url if livekit else None,
        api_key=livekit.api_key if livekit else None,
        api_secret=livekit.api_secret.get_secret_value() if livekit else None,
        setup_fnc=setup,
        preload_modules=list(_OWN_MODULES),
        num_idle_processes=_idle(settings, capacity, dev=dev, shared=calls_per_process > 1),
        load_fnc=capacity.load,
        load_threshold=math.inf if dev and capacity.max_calls == math.inf else capacity.threshold,
        initialize_process_timeout=30.0,
        drain_timeout=drain_seconds,
        session_end_timeout=deadlines.SESSION_END,
        host="127.0.0.1" if host is None else host,
        port=(0 if dev else PORT) if port is None else port,
        prometheus_port=metrics_port,
    )
    server.rtc_session(
        job.entrypoint, agent_name=settings.agent_name, on_request=take, on_session_end=job.on_session_end
    )
    return server


def _idle(settings: Settings, capacity: Capacity, *, dev: bool, shared: bool) -> int:
    """How many calls are prepared for; for development none, or one where there are engines to load."""
    is_local = speech_source(settings) == "local"
    if dev:
        return int(is_local)
    return int(min(_MOST_IDLE_ALOUD if is_local and not shared else _MOST_IDLE, capacity.max_calls))


def calls_per_process(settings: Settings, wanted: int | None) -> int:
    """How many calls share a process: so many as are wanted, or several of our own agent.

    Ours keeps nothing outside its session. An agent of somebody's own may hold a caller's data in a module, and then no
    other call may be in that process.

    Raises:
        SettingsError: they cannot share one here.
    """
    on_linux = sys.platform.startswith("linux")
    if wanted and wanted > 1 and not on_linux:
        raise SettingsError(
            f"--calls-per-process is {wanted}, which is possible on Linux only",
            why="elsewhere there is no process to fork prepared ones from",
            hint="leave it out: each call gets a process of its own",
        )
    return wanted or (CALLS_PER_PROCESS if on_linux and not settings.agent else 1)


def start_forkserver() -> None:
    """Start the process that all jobs are forked from, with the signals that end the worker ignored.

    A signal to the whole process group, as sent by systemd, a shell or a terminal, would kill it, and every session
    with it before its record is written. Signals ignored when a process starts stay ignored. The list of
    modules to preload must be set before it starts, which the SDK does too late: hence the copy of the SDK's list.
    """
    if not sys.platform.startswith("linux"):
        return  # elsewhere job processes are spawned
    plugins: list[Any] = [plugin.package for plugin in Plugin.registered_plugins]
    modules = [*dict.fromkeys([*plugins, *_OWN_MODULES, _SHARED]), *_SDK_MODULES]
    multiprocessing.get_context("forkserver").set_forkserver_preload(modules)
    with handling(dict.fromkeys((signal.SIGTERM, signal.SIGHUP), signal.SIG_IGN)):
        multiprocessing.forkserver.ensure_running()
