"""Processes that hold several calls each, every call in a thread with an event loop of its own.

The SDK (1.8.9) gives each job a process, or runs all of them in threads of the worker's own process. The one costs
80 MB and 2 % of a core for each call that only waits; with the other all calls share one core and one fate. Here the
SDK's thread executor runs its thread in a process that a few calls share. What is imported, the models, and the threads
of WebRTC and of the MongoDB driver exist once for them. A process that dies ends its own calls only, which the worker
takes up again. A call's thread has its own event loop, MongoDB client and memory: calls share no data of ours.

The worker keeps a socket to each process, over which it sends the socket of a new call, and reads that call's end.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from livekit.agents import AgentServer, JobContext, JobProcess
from livekit.agents.ipc import job_proc_lazy_main, job_thread_executor
from livekit.agents.ipc.job_executor import JobStatus
from livekit.agents.ipc.log_queue import LogQueueHandler, LogQueueListener
from livekit.agents.job import RunningJobInfo
from livekit.agents.log import _add_global_log_fields
from livekit.agents.telemetry import metrics
from livekit.agents.utils.aio import duplex_unix

from lkmongo import deadlines
from lkmongo.child_process import end_after_parent
from lkmongo.worker import call_events

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess


logger = logging.getLogger(__name__)

MAX_CALLS_EVER = 200
"""Calls after which a process takes no more and ends with its last one, so that nothing that leaks stays for ever."""
_GONE_WITHIN = 0.2
"""Seconds between the end of a process's sockets and of itself."""
_CLOSING = 30.0
"""Seconds beyond the end of its session after which a thread that does not end is ended with its process."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a process of calls runs: all of it can be pickled.

    Attributes:
        prepare: loads what all calls of the process share, in its main thread, before there is a call.
        setup, entrypoint, session_end, session_end_timeout: as of an AgentServer, for each call.
    """

    prepare: Callable[[], None]
    setup: Callable[[JobProcess], None]
    entrypoint: Callable[[JobContext], Awaitable[None]]
    session_end: Callable[[JobContext], Awaitable[None]]
    session_end_timeout: float


@dataclass(slots=True, eq=False)
class CallProcess:
    """A process of calls, as the worker sees it."""

    process: BaseProcess
    control: socket.socket
    log: LogQueueListener
    calls: int = 0
    begun: int = 0
    exit_code: int | None = None
    has_ended: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        """Wait for its end in a thread; only here, as two that ask multiprocessing at once read one code."""

        def wait() -> None:
            self.process.join()
            self.log.stop()
            self.exit_code = self.process.exitcode
            self.has_ended.set()

        threading.Thread(target=wait, name="calls-watch", daemon=True).start()

    def begin(self, call: socket.socket) -> None:
        """Give it a call to hold. Raises OSError if it has ended."""
        socket.send_fds(self.control, [b"1"], [call.fileno()])
        self.calls += 1
        self.begun += 1

    def has_died(self) -> bool:
        """Whether it ended otherwise than by itself; waits a moment, as its sockets close before it is gone."""
        return self.has_ended.wait(_GONE_WITHIN) and self.exit_code != 0

    def dismiss(self) -> None:
        """Let it end with its last call."""
        self.control.close()


@dataclass(slots=True)
class CallProcesses:
    """The processes of a worker, each with at most `calls_each` calls."""

    calls_each: int
    beginning: Beginning
    _processes: list[CallProcess] = field(default_factory=list)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _ending: set[asyncio.Task[None]] = field(default_factory=set)

    async def place(self, call: socket.socket) -> CallProcess:
        """Give a call, or one to come, to the fullest process that has room, or to a new one. Raises OSError."""
        async with self._lock:
            room = [each for each in self._processes if each.calls < self.calls_each and each.begun < MAX_CALLS_EVER]
            for process in sorted(room, key=lambda each: -each.calls):
                with suppress(OSError):  # it has died, which its calls notice
                    process.begin(call)
                    return process
            process = await asyncio.to_thread(_start, self.beginning)
            self._processes.append(process)
            process.begin(call)
            return process

    def leave(self, process: CallProcess) -> None:
        """A call has ended; the process ends too if it takes no more, or has died."""
        process.calls -= 1
        is_done = process.begun >= MAX_CALLS_EVER and not process.calls
        if process in self._processes and (is_done or process.has_ended.is_set()):
            self._end(process)

    async def close(self) -> None:
        """Let all processes end, and wait for that; one that does not end is killed."""
        for process in list(self._processes):
            self._end(process)
        await asyncio.gather(*self._ending)

    def _end(self, process: CallProcess) -> None:
        self._processes.remove(process)
        process.dismiss()

        def wait() -> None:
            if not process.has_ended.wait(_CLOSING):
                logger.error("a process of calls does not end: killed", extra={"pid": process.process.pid})
                process.process.kill()

        task = asyncio.create_task(asyncio.to_thread(wait))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


def _start(beginning: Beginning) -> CallProcess:
    """Start a process; returns before it is ready, and what is sent to it meanwhile waits."""
    control, theirs = socket.socketpair()
    log, their_log = socket.socketpair()
    loggers = {"root": logging.getLogger()} | logging.Logger.manager.loggerDict
    levels = {name: each.level for name, each in loggers.items() if isinstance(each, logging.Logger)}
    arguments = (beginning, levels, theirs, their_log)
    process = multiprocessing.get_context("forkserver").Process(target=hold_calls, args=arguments, name="job_proc")
    process.start()
    theirs.close()
    their_log.close()

    def say_whose(record: logging.LogRecord) -> None:
        record.pid = process.pid

    listener = LogQueueListener(duplex_unix._Duplex.open(log), say_whose)  # noqa: SLF001
    listener.start()
    started = CallProcess(process, control, listener)
    started.watch()
    return started


class SharedProcessExecutor(job_thread_executor.ThreadJobExecutor):
    """The SDK's executor of a job in a thread, whose thread is in another process."""

    def __init__(self, *, processes: CallProcesses, **options: Any) -> None:
        super().__init__(**options)
        self._processes = processes
        self._process: CallProcess | None = None

    async def _start(self) -> None:
        async with self._lock:
            ours, theirs = socket.socketpair()
            try:
                self._pch = await duplex_unix._AsyncDuplex.open(ours)  # noqa: SLF001
                self._process = await self._processes.place(theirs)
            except BaseException:
                ours.close()
                raise
            finally:
                theirs.close()
            self._join_fut = asyncio.get_running_loop().create_future()
            self._main_atask = asyncio.create_task(self._main_task())

    async def _monitor_task(self) -> None:
        """Read what the call sends, until its end of the socket closes: then its thread, or its process, has ended."""
        try:
            await super()._monitor_task()
        finally:
            if not self._join_fut.done():
                self._join_fut.set_result(None)

    async def _main_task(self) -> None:
        assert self._process is not None  # noqa: S101 - `_start` has set it
        await super()._main_task()
        if await asyncio.to_thread(self._process.has_died):
            self._job_status = JobStatus.FAILED
            logger.error("the process of this call has died", extra=self.logging_extra())
        if self._running_job:
            metrics.job_ended()
        self._processes.leave(self._process)

    async def launch_job(self, info: RunningJobInfo) -> None:
        await super().launch_job(info)
        metrics.job_started()

    async def aclose(self) -> None:
        """Close the call; with its process, if its thread does not end."""
        try:
            async with asyncio.timeout(self._opts.session_end_timeout + 2 * self._opts.close_timeout + _CLOSING):
                await super().aclose()
        except TimeoutError:
            logger.error("a call does not end: its process is killed", extra=self.logging_extra())  # noqa: TRY400
            if self._process:
                self._process.process.kill()

    def logging_extra(self) -> dict[str, Any]:
        extra = super().logging_extra()
        del extra["tid"]
        return extra | {"pid": self._process.process.pid if self._process else None}


class SharedProcessServer(AgentServer):
    """An AgentServer whose calls share processes; it must be made with `JobExecutorType.THREAD`."""

    def __init__(self, *, processes: CallProcesses, **options: Any) -> None:
        super().__init__(**options)
        self._processes = processes

    async def run(self, **options: Any) -> None:
        """Serve; see `AgentServer.run`."""
        with _executor(self._processes):
            await super().run(**options)

    async def aclose(self) -> None:
        """Close the calls, and then their processes."""
        await super().aclose()
        await self._processes.close()


@contextmanager
def _executor(processes: CallProcesses) -> Iterator[None]:
    """Have the SDK's pool make our executors: it looks the class up by its name whenever it needs one."""
    theirs = job_thread_executor.ThreadJobExecutor

    def make(**options: Any) -> SharedProcessExecutor:
        return SharedProcessExecutor(processes=processes, **options)

    vars(job_thread_executor)["ThreadJobExecutor"] = make
    try:
        yield
    finally:
        vars(job_thread_executor)["ThreadJobExecutor"] = theirs


# ---------------------------------------------------------------- in the process


def hold_calls(beginning: Beginning, levels: dict[str, int], control: socket.socket, log: socket.socket) -> None:
    """Hold the calls whose sockets come, until the worker closes `control`, and then until the last one has ended."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the worker decides when calls end
        signal.signal(number, signal.SIG_IGN)
    for name, level in levels.items():
        logging.getLogger(None if name == "root" else name).setLevel(level)
    handler = LogQueueHandler(duplex_unix._Duplex.open(log))  # noqa: SLF001
    _add_global_log_fields(handler)
    logging.getLogger().addHandler(handler)
    end_after_parent(deadlines.SESSION_END)
    threads: list[threading.Thread] = []
    try:
        beginning.prepare()
        call_events.share()
        while True:
            said, sockets, _, _ = socket.recv_fds(control, 1, 1)
            if not said:
                break
            threads = [each for each in threads if each.is_alive()]
            threads.append(_begin_call(beginning, socket.socket(fileno=sockets[0])))
    except Exception:
        logger.exception("a process of calls cannot begin")
    for thread in threads:
        thread.join()
    logging.getLogger().removeHandler(handler)
    handler.close()
    handler.thread.join()


def _begin_call(beginning: Beginning, call: socket.socket) -> threading.Thread:
    arguments = job_proc_lazy_main.ThreadStartArgs(
        initialize_process_fnc=beginning.setup,
        job_entrypoint_fnc=beginning.entrypoint,
        session_end_fnc=beginning.session_end,
        session_end_timeout=beginning.session_end_timeout,
        join_fnc=lambda: None,
        mp_cch=call,
        user_arguments=None,
    )

    def hold() -> None:
        try:
            job_proc_lazy_main.thread_main(arguments)
        except Exception:
            logger.exception("a call cannot begin")
        finally:
            call.close()  # by which the worker knows its end

    thread = threading.Thread(target=hold, name="call")
    thread.start()
    return thread
