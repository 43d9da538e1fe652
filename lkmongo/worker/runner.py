"""Run the worker: check LiveKit and the settings, hold the database for the jobs, log, and drain on a signal."""

from __future__ import annotations

import asyncio
import errno
import importlib
import json
import logging
import math
import signal
import sys
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from lkmongo.aio import running
from lkmongo.api_secret import check_secret, silence_pyjwt
from lkmongo.embed.choose import embedder_for
from lkmongo.errors import LkmongoError, SettingsError, UnreachableError
from lkmongo.invisible import safe_json
from lkmongo.livekit_api import call_livekit
from lkmongo.memory.memory import Memory
from lkmongo.redact import RedactingFormatter
from lkmongo.search.rerank import check_reranker
from lkmongo.store.indexes.backfill import backfill
from lkmongo.store.open import Store
from lkmongo.store.seed.seeding import prepare
from lkmongo.worker.capacity import LOAD_THRESHOLD, Capacity, WaitingCallers, calls_per_core
from lkmongo.worker.resume import resume_lost_sessions

if TYPE_CHECKING:
    from livekit.agents import AgentServer

    from lkmongo.embed.base import Embedder
    from lkmongo.settings import LiveKitCredentials, Settings

logger = logging.getLogger(__name__)

LogFormat = Literal["text", "json"]

_OWN_LOGGERS = ("lkmongo", "livekit")
"""Loggers that follow the requested level. Below warning, other libraries log requests and documents."""
_STANDARD_FIELDS = set(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_SHOWN_FIELDS = ("room", "job_id")


def configure(level: str, log_format: LogFormat, secrets: Sequence[str]) -> None:
    """Log to stderr from `level` on; the SDK forwards the logs of jobs to the worker."""
    handler = logging.StreamHandler(sys.stderr)
    template = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    handler.setFormatter(
        JsonFormatter(secrets=secrets) if log_format == "json" else TextFormatter(template, secrets=secrets)
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    wanted = logging.getLevelName(level.upper())
    root.setLevel(max(logging.WARNING, wanted))
    for name in _OWN_LOGGERS:
        logging.getLogger(name).setLevel(wanted)
    # Set explicitly, so that the SDK passes the level on to the job processes: at debug, pymongo logs documents.
    logging.getLogger("pymongo").setLevel(max(logging.WARNING, wanted))


class TextFormatter(RedactingFormatter):
    """A line of text: time, level, logger, message, room and error."""

    def write(self, record: logging.LogRecord) -> str:
        """Format the record, with room, job and error appended."""
        about = [f"{name}={value}" for name in _SHOWN_FIELDS if (value := getattr(record, name, None))]
        if error := getattr(record, "error", None):
            about.append(f"error={error}")
        head, newline, rest = super().write(record).partition("\n")
        return f"{head}{f' [{chr(32).join(about)}]' if about else ''}{newline}{rest}"


class JsonFormatter(RedactingFormatter):
    """One JSON object per line: time, level, logger, message, extra fields and the exception."""

    def write(self, record: logging.LogRecord) -> str:
        """Format the record, without fields that the SDK marks as personal data."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {
            name: value
            for name, value in record.__dict__.items()
            if name not in _STANDARD_FIELDS and name not in line and "pii" not in name.split(".")
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return safe_json(json.dumps(line, ensure_ascii=False, default=str))


DRAIN = timedelta(seconds=20)
"""How long sessions may continue after SIGTERM: with the time to store their records it fits Kubernetes' 30 seconds."""
CONNECT_TIMEOUT = 15.0
"""Seconds within which LiveKit must answer; it may be starting at the same time."""
REGISTER_TIMEOUT = 60.0
"""Seconds within which the worker must register: before that it imports models and starts processes."""
_CONNECT_RETRY = 1.0
_SIGNAL_ECHO = 0.3
"""Seconds within which a second signal is an echo: `timeout` signals its child and then the child's group."""
_BACKFILL_RETRY = 60.0


class ListenError(LkmongoError):
    """The port of the health endpoint is taken."""

    code = "port_in_use"


@dataclass(frozen=True, slots=True)
class Options:
    """How the worker runs; see `lkmongo.worker.agent_server.create_server`."""

    dev: bool = False
    drain: timedelta = DRAIN
    host: str | None = None
    port: int | None = None
    metrics_port: int | None = None
    demo: bool = False
    max_calls: int | None = None
    load_threshold: float = LOAD_THRESHOLD
    calls_per_process: int | None = None


def run(settings: Settings, options: Options) -> None:
    """Serve rooms until a signal; a second signal kills the process.

    Raises:
        SettingsError: LiveKit's variables are not set, its secret could be guessed, there is no language model, or a
            setting is wrong.
        AuthenticationError: LiveKit refused the key.
        UnreachableError: LiveKit cannot be reached, or the worker could not register.
        EmbeddedError: the embedded mongod cannot run here.
        ListenError: the port is taken.
    """
    credentials = settings.livekit
    if credentials is None:
        raise SettingsError(
            "LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET are not set",
            why="the worker registers with a LiveKit server, which assigns calls to it",
            hint="set all three in .env.local; lkmongo agent console needs none of them",
        )
    if concern := check_secret(credentials.secrets[0], permitted=options.dev or credentials.is_local):
        logger.warning(concern)
    silence_pyjwt()
    if not options.demo:
        from lkmongo.agent.models import check_language_model

        check_language_model(settings)
    asyncio.run(_run(settings, credentials, options))


async def _run(settings: Settings, credentials: LiveKitCredentials, options: Options) -> None:
    stop = _stop_on_signal()
    if not await _run_until_signal(stop, _check_livekit(credentials, patience=0.0 if options.dev else CONNECT_TIMEOUT)):
        return
    logger.info("LiveKit at %s accepts the key (LIVEKIT_URL: %s)", credentials.url, settings.source("LIVEKIT_URL"))
    await asyncio.to_thread(_import_sdk, settings)
    from lkmongo.agent.models import import_plugins

    import_plugins(settings)  # here, as the SDK lets only the main thread register them
    server, capacity = await asyncio.to_thread(_create_server, settings, options)
    async with _background_work(settings, credentials):
        from lkmongo.worker.agent_server import start_forkserver

        start_forkserver()
        waiting = WaitingCallers(credentials, settings.agent_name, server, capacity)
        await _serve(server, stop, options, waiting)


async def _check_livekit(credentials: LiveKitCredentials, *, patience: float) -> None:
    """Check that LiveKit answers and accepts the key: the SDK would retry for minutes, and hide the cause.

    An unreachable server is retried for `patience` seconds.
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
                logger.warning("%s (%s); retrying for %g s", error.message, error.why, patience)
            logged = True
            await asyncio.sleep(_CONNECT_RETRY)
        else:
            return


def _import_sdk(settings: Settings) -> None:
    """Import what takes seconds, in a thread, so that a signal is heard meanwhile."""
    import lkmongo.worker.agent_server  # noqa: F401
    from lkmongo.worker.prewarm import MODELS_MODULES

    if settings.llm_base_url or settings.stt_base_url or settings.tts_base_url:
        with suppress(ImportError):  # it is reported when the plugin is imported
            for name in MODELS_MODULES:
                importlib.import_module(name)


def _create_server(settings: Settings, options: Options) -> tuple[AgentServer, Capacity]:
    """Check what the jobs need, warn about what is missing, and create the server."""
    from lkmongo.agent import models
    from lkmongo.agent.assistant import check_assistant, unused_tools_warning
    from lkmongo.speech.choose import describe, spare_what_speech_needs, speech_source, why_no_speech
    from lkmongo.worker.agent_server import calls_per_process, create_server

    silent_because = why_no_speech(settings)
    if settings.inference and not settings.llm_base_url:
        models.check_inference_llm(settings)
    agent = check_assistant(settings)
    embedder_for(settings)
    check_reranker(settings)
    _ = settings.webhook
    if silent_because:
        logger.warning("the agent joins in text only, without speech, because %s", silent_because)
        spare_what_speech_needs()
    else:
        logger.info("callers are heard and answered aloud: %s", describe(settings))
    if not settings.has_language_model:
        logger.warning("callers are answered by the demo responder, because there is no language model")
        if unused := unused_tools_warning(agent):
            logger.warning(unused)
    at_once = calls_per_process(settings, options.calls_per_process)
    capacity = _capacity(options, calls_per_core(speech_source(settings), shared=at_once > 1))
    if capacity.max_calls < math.inf:
        logger.info("this worker takes up to %g calls at once (--max-calls)", capacity.max_calls)
    server = create_server(
        settings,
        capacity=capacity,
        dev=options.dev,
        demo=options.demo,
        host=options.host,
        port=options.port,
        metrics_port=options.metrics_port,
        drain_seconds=int(options.drain.total_seconds()),
        calls_per_process=at_once,
    )
    return server, capacity


def _capacity(options: Options, per_core: float) -> Capacity:
    if options.max_calls:
        return Capacity(options.max_calls, options.load_threshold)
    if options.dev:
        return Capacity(math.inf)
    return Capacity.of_this_machine(per_core, options.load_threshold)


@asynccontextmanager
async def _background_work(settings: Settings, credentials: LiveKitCredentials) -> AsyncIterator[None]:
    """Hold the memory open for the jobs; run recovery, backfill and resumption in the background."""
    memory = Memory(settings, on_status=logger.info)
    memory.furnish = lambda store: prepare(store.db, memory.embedder, on_status=logger.info)
    async with memory:
        store = await memory.store()
        resuming = resume_lost_sessions(store, credentials, settings.agent_name)
        async with running(_backfill(store, memory.embedder)), running(resuming):
            yield


async def _backfill(store: Store, embedder: Embedder) -> None:
    """Make missing vectors as soon as MongoDB and the embedder answer."""
    logged = False
    while True:
        try:
            await store.ping()
            filled = await backfill(store.db, embedder)
        except LkmongoError as error:
            if not logged:
                message = "%s (%s); sessions continue without it, and it is retried every minute"
                logger.warning(message, error.message, error.why)
            logged = True
        except Exception:
            logger.exception("missing vectors could not be made")
            return
        else:
            if made := sum(each.embedded for each in filled):
                logger.info("made %d missing vectors", made)
            elif logged:
                logger.info("MongoDB answers")
            return
        await asyncio.sleep(_BACKFILL_RETRY)


async def _serve(server: AgentServer, stop: asyncio.Event, options: Options, waiting: WaitingCallers) -> None:
    registered = asyncio.Event()
    server.on("worker_registered", lambda *_: registered.set())
    serving = asyncio.create_task(server.run(devmode=options.dev))
    try:
        await _wait_for_any({serving}, stop, registered, within=REGISTER_TIMEOUT)
        if not (serving.done() or stop.is_set() or registered.is_set()):
            raise UnreachableError(
                "LiveKit accepts the key, but the worker could not register",
                why=f"it did not succeed within {REGISTER_TIMEOUT:g} s; the log shows the attempts",
                hint="check that nothing between here and LIVEKIT_URL blocks WebSockets",
            )
        async with running(waiting.serve()):
            await _wait_for_any({serving}, stop)
        if serving.done():
            serving.result()
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
            serving.cancel()  # its processes end with this one
        await server.aclose()
        await asyncio.gather(serving, return_exceptions=True)
    logger.info("the worker has stopped")


async def _drain(server: AgentServer, options: Options) -> None:
    """Take no new jobs, and wait for active sessions until the drain timeout."""
    seconds = 0 if options.dev else int(options.drain.total_seconds())
    active = len(server.active_jobs)
    if not (seconds and active):
        return
    logger.info("draining %d sessions; they have %d s to end", active, seconds)
    try:
        await server.drain(seconds)
    except asyncio.TimeoutError:  # noqa: UP041 - what the SDK says it raises
        logger.warning("the worker ends %d sessions", len(server.active_jobs))


def _stop_on_signal() -> asyncio.Event:
    """Set the event at the first signal to stop; the next one gets its default handler, which kills the process."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def leave_to_the_system() -> None:
        for number in numbers:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    def received(number: signal.Signals) -> None:
        if not stop.is_set():
            logger.info("%s: stopping; send it again to stop at once", number.name)
            stop.set()
            loop.call_later(_SIGNAL_ECHO, leave_to_the_system)

    for number in numbers:
        loop.add_signal_handler(number, received, number)
    return stop


async def _run_until_signal(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Run `work` and return True; if a signal comes first, cancel it and return False."""
    task = asyncio.create_task(work)
    await _wait_for_any({task}, stop)
    if not task.done():
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return False
    task.result()
    return True


async def _wait_for_any(tasks: set[asyncio.Task[None]], *events: asyncio.Event, within: float | None = None) -> None:
    """Wait until one of the tasks is done or one of the events is set; cancels neither."""
    waiting = {asyncio.create_task(event.wait()) for event in events}
    await asyncio.wait(tasks | waiting, timeout=within, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
