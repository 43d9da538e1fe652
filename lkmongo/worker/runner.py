"""Run the worker: check before it starts, hold the database for its jobs, log, and drain when it is told to stop."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import signal
import sys
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from lkmongo.aio import running
from lkmongo.embed.choose import embedder_for
from lkmongo.errors import LkmongoError, SettingsError, UnreachableError
from lkmongo.livekit_api import call_livekit
from lkmongo.outbox.recovery import recover_periodically
from lkmongo.redact import RedactingFormatter
from lkmongo.store.indexes.backfill import backfill
from lkmongo.store.open import Store, open_store
from lkmongo.store.seed.seeding import prepare
from lkmongo.worker.resume import resume_lost_sessions

if TYPE_CHECKING:
    from livekit.agents import AgentServer

    from lkmongo.embed.base import Embedder
    from lkmongo.settings import LiveKitCredentials, Settings

LEVELS = ("debug", "info", "warning", "error")
LogFormat = Literal["text", "json"]

_OWN = ("lkmongo", "livekit")
"""Loggers that follow the level asked for. Below warning, those of other libraries log requests and documents."""
_STANDARD = set(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_SHOWN = ("room", "job_id")


def configure(level: str, log_format: LogFormat, secrets: Sequence[str]) -> None:
    """Send everything that is logged to stderr, from `level` on; the SDK brings what jobs log to the worker."""
    handler = logging.StreamHandler(sys.stderr)
    template = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    handler.setFormatter(JsonLines(secrets=secrets) if log_format == "json" else Text(template, secrets=secrets))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    wanted = logging.getLevelName(level.upper())
    root.setLevel(max(logging.WARNING, wanted))
    for name in _OWN:
        logging.getLogger(name).setLevel(wanted)
    # Named, so that the SDK hands the level to each job's process: at debug they log documents.
    logging.getLogger("pymongo").setLevel(max(logging.WARNING, wanted))


class Text(RedactingFormatter):
    """A line for people: when, how grave, who, what, and which room."""

    def write(self, record: logging.LogRecord) -> str:
        """The line, with what the record tells beside it."""
        about = [f"{name}={value}" for name in _SHOWN if (value := getattr(record, name, None))]
        if error := getattr(record, "error", None):
            about.append(f"error={error}")
        head, newline, rest = super().write(record).partition("\n")
        return f"{head}{f' [{chr(32).join(about)}]' if about else ''}{newline}{rest}"


class JsonLines(RedactingFormatter):
    """One object a line: time, level, logger, message, what the record has beside, and the exception."""

    def write(self, record: logging.LogRecord) -> str:
        """The object, without what the SDK marks as being about a person."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {
            name: value
            for name, value in record.__dict__.items()
            if name not in _STANDARD and name not in line and "pii" not in name.split(".")
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


logger = logging.getLogger(__name__)

DRAIN = timedelta(seconds=20)
"""How long calls may go on after SIGTERM: with the time their records take it fits Kubernetes' 30 seconds."""
CONNECT_TIMEOUT = 15.0
"""Seconds in which LiveKit must have answered; it may start at the same time as we do."""
REGISTER_TIMEOUT = 60.0
"""Seconds in which the worker must have registered: it imports models and starts processes before."""
_CONNECT_RETRY = 1.0
_SIGNAL_ECHO = 0.3
"""Seconds in which a second signal is the first one's echo: `timeout` signals its child and then the child's group."""
_BACKFILL_RETRY = 60.0


class ListenError(LkmongoError):
    """The port of the health endpoint is taken."""

    code = "port_in_use"


@dataclass(frozen=True, slots=True)
class Options:
    """How the worker runs; see `lkmongo.worker.agent_server.create_server` for `host` and the ports.

    `demo` lets the demo responder answer where there is no language model.
    """

    dev: bool = False
    drain: timedelta = DRAIN
    host: str | None = None
    port: int | None = None
    metrics_port: int | None = None
    demo: bool = False


def run(settings: Settings, options: Options) -> None:
    """Serve rooms until a signal says stop; the signal after that one ends the process at once.

    Raises:
        SettingsError: LiveKit's variables are not set, there is no language model, or a setting does not fit.
        AuthenticationError: LiveKit refused the key.
        UnreachableError: LiveKit cannot be reached, or lets no worker register.
        EmbeddedError: the embedded mongod cannot run here.
        ListenError: the port is taken.
    """
    credentials = settings.livekit
    if credentials is None:
        raise SettingsError(
            "LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET are not set",
            why="the worker registers with a LiveKit server, which sends it the calls",
            hint="set all three in .env.local; lkmongo agent console needs none of them",
        )
    if not options.demo:
        from lkmongo.agent.models import check_language_model

        check_language_model(settings)
    asyncio.run(_run(settings, credentials, options))


async def _run(settings: Settings, credentials: LiveKitCredentials, options: Options) -> None:
    stop = _on_signals()
    if not await _run_until_signal(stop, _check_livekit(credentials, patience=0.0 if options.dev else CONNECT_TIMEOUT)):
        return
    logger.info("LiveKit at %s takes the key (LIVEKIT_URL: %s)", credentials.url, settings.source("LIVEKIT_URL"))
    server = await asyncio.to_thread(_prepare, settings, options)
    async with _database(settings, credentials):
        from lkmongo.worker.agent_server import start_forkserver

        start_forkserver()
        await _serve(server, stop, options)


# ---------------------------------------------------------------------- before


async def _check_livekit(credentials: LiveKitCredentials, *, patience: float) -> None:
    """See that LiveKit is there and takes the key: the SDK would try for minutes, and drop the cause.

    A server that cannot be reached is tried again for `patience` seconds.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + patience
    logged = False
    while True:
        try:
            await call_livekit(credentials)
        except UnreachableError as error:
            if loop.time() + _CONNECT_RETRY >= until:
                raise
            if not logged:
                logger.warning("%s (%s); trying again for %g s", error.message, error.why, patience)
            logged = True
            await asyncio.sleep(_CONNECT_RETRY)
        else:
            return


def _prepare(settings: Settings, options: Options) -> AgentServer:
    """Check what the jobs will need, and say what they will be; takes seconds, for it imports the SDK."""
    from lkmongo.agent import models
    from lkmongo.agent.custom_agent import check_assistant, unused_tools_warning
    from lkmongo.worker.agent_server import create_server

    aloud = models.has_speech(settings)
    if aloud and not settings.llm_base_url:
        models.check_inference_llm(settings)
    agent = check_assistant(settings)
    models.import_plugins(settings)
    embedder_for(settings)
    if not aloud:
        logger.warning(models.TEXT_ONLY)
        if not settings.llm_base_url:
            logger.warning("callers are answered by the demo responder: there is no language model")
            if unused := unused_tools_warning(agent):
                logger.warning(unused)
        models.skip_model_preload()
    return create_server(
        settings,
        dev=options.dev,
        demo=options.demo,
        host=options.host,
        port=options.port,
        metrics_port=options.metrics_port,
        drain_seconds=int(options.drain.total_seconds()),
    )


@asynccontextmanager
async def _database(settings: Settings, credentials: LiveKitCredentials) -> AsyncIterator[None]:
    """Hold the embedded mongod open for the jobs, and see in the background to what every start sees to."""
    async with AsyncExitStack() as stack:
        embedder = embedder_for(settings)
        stack.push_async_callback(embedder.close)
        store = await stack.enter_async_context(open_store(settings, on_status=logger.info))
        if store.embedded:
            await prepare(store.db, embedder, on_status=logger.info)
        await stack.enter_async_context(running(_backfill(store, embedder)))
        await stack.enter_async_context(running(recover_periodically(settings, store)))
        await stack.enter_async_context(running(resume_lost_sessions(store, credentials, settings.agent_name)))
        yield


async def _backfill(store: Store, embedder: Embedder) -> None:
    """Make the vectors that are missing, as soon as MongoDB and the embedder answer."""
    logged = False
    while True:
        try:
            await store.ping()
            filled = await backfill(store.db, embedder)
        except LkmongoError as error:
            if not logged:
                said = "%s (%s); calls go on without what it holds, and it is tried again every minute"
                logger.warning(said, error.message, error.why)
            logged = True
        except Exception:
            logger.exception("vectors that are missing could not be made")
            return
        else:
            if made := sum(each.embedded for each in filled):
                logger.info("%d vectors that were missing are made", made)
            elif logged:
                logger.info("MongoDB answers")
            return
        await asyncio.sleep(_BACKFILL_RETRY)


# ---------------------------------------------------------------------- meanwhile


async def _serve(server: AgentServer, stop: asyncio.Event, options: Options) -> None:
    registered = asyncio.Event()
    server.on("worker_registered", lambda *_: registered.set())
    running = asyncio.create_task(server.run(devmode=options.dev))
    try:
        await _wait_for_any({running}, stop, registered, within=REGISTER_TIMEOUT)
        if not (running.done() or stop.is_set() or registered.is_set()):
            raise UnreachableError(
                "LiveKit takes the key, and the worker could not register",
                why=f"it did not succeed within {REGISTER_TIMEOUT:g} s; the log says what was tried",
                hint="check that LIVEKIT_URL lets websockets through",
            )
        await _wait_for_any({running}, stop)
        if running.done():
            running.result()
        elif registered.is_set():
            await _drain(server, options)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise ListenError(why=str(error), hint="choose another with --port or --metrics-port") from error
    except RuntimeError as error:  # the SDK's, when it has given up reconnecting
        raise UnreachableError("the connection to LiveKit is lost", why=str(error), hint="check LIVEKIT_URL") from error
    finally:
        if not registered.is_set():
            running.cancel()  # its processes end with this one
        await server.aclose()
        await asyncio.gather(running, return_exceptions=True)
    logger.info("the worker has ended")


async def _drain(server: AgentServer, options: Options) -> None:
    """Take no new calls, and let those that go on end by themselves as long as they may."""
    seconds = 0 if options.dev else int(options.drain.total_seconds())
    active = len(server.active_jobs)
    if not (seconds and active):
        return
    logger.info("%d calls go on; they have %d s to end", active, seconds)
    try:
        await server.drain(seconds)
    except asyncio.TimeoutError:  # noqa: UP041 - what the SDK says it raises
        logger.warning("%d calls are ended by the worker", len(server.active_jobs))


# ---------------------------------------------------------------------- signals


def _on_signals() -> asyncio.Event:
    """Set the event at the first signal that says stop, and leave the next one to the operating system."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def leave_to_the_system() -> None:
        for number in numbers:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    def received(number: signal.Signals) -> None:
        if not stop.is_set():
            logger.info("%s: ending; once more to end at once", number.name)
            stop.set()
            loop.call_later(_SIGNAL_ECHO, leave_to_the_system)

    for number in numbers:
        loop.add_signal_handler(number, received, number)
    return stop


async def _run_until_signal(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do `work` to its end, and return True; when a signal comes first, stop it, and return False."""
    task = asyncio.create_task(work)
    await _wait_for_any({task}, stop)
    if not task.done():
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return False
    task.result()
    return True


async def _wait_for_any(tasks: set[asyncio.Task[None]], *events: asyncio.Event, within: float | None = None) -> None:
    """Wait until one of the tasks is done or one of the events is set; neither is touched."""
    waiting = {asyncio.create_task(event.wait()) for event in events}
    await asyncio.wait(tasks | waiting, timeout=within, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
