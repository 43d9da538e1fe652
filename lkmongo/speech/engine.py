"""A speech model of this process: loaded once, run by one thread, used by all sessions of the process."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from heapq import heappop, heappush
from pathlib import Path
from typing import Any, Generic, TypeVar

from lkmongo.errors import LkmongoError

Model = TypeVar("Model")
Result = TypeVar("Result")
_Entry = tuple[bool, int, "Future[Any]", Callable[[Any], Any]]


class Engine(Generic[Model]):
    """One model and the thread that runs it, so that it takes one core at most.

    Work is done in the order in which it was asked for, except that what somebody waits for in silence is done before
    what only follows a speaker. Work that is cancelled before its turn costs nothing; what is being done is done to its
    end, for the models cannot be interrupted.
    """

    def __init__(self, what: str, load: Callable[[], Model], unload: Callable[[Model], None]) -> None:
        """Does not load the model yet.

        Args:
            what: the subject of a message, such as "the recogniser".
            load: loads the model, within seconds.
            unload: gives its memory back.
        """
        self._what = what
        self._load = load
        self._unload = unload
        self._loading = threading.Lock()
        self._model: Model | None = None
        self._running = threading.Lock()
        self._lock = threading.Lock()
        self._worker: ThreadPoolExecutor | None = None
        self._waiting: list[_Entry] = []
        self._numbers = itertools.count()

    @property
    def loaded(self) -> bool:
        """Whether the model is in memory."""
        return self._model is not None

    @property
    def waiting(self) -> int:
        """How much work has not begun, cancelled work included."""
        return len(self._waiting)

    def load(self) -> None:
        """Load the model unless it is loaded; this blocks for about a second.

        Raises:
            MissingExtraError: it is not installed.
        """
        self._loaded()

    def load_soon(self) -> None:
        """Have the engine's thread load the model; a failure is told by the first work."""
        if not self.loaded:
            self._submit(lambda _: None, urgent=True)

    def unload(self) -> None:
        """Finish what is being done, cancel what waits, and give the memory back. Work that comes later loads again."""
        with self._lock:
            worker, self._worker = self._worker, None
            waiting, self._waiting = self._waiting, []
        for _, _, future, _ in waiting:
            future.cancel()
        if worker is not None:
            worker.shutdown(wait=True, cancel_futures=True)
        with self._running, self._loading:  # work that came meanwhile may have begun in a thread of its own
            model, self._model = self._model, None
            if model is not None:
                self._unload(model)

    async def do(self, work: Callable[[Model], Result], *, urgent: bool) -> Result:
        """Run `work` with the model in the engine's thread, loading the model before if need be.

        Raises:
            APIError: the model cannot be loaded, which no repetition helps, or it failed. The message says where it
                failed, but holds nothing of what was said.
        """
        from livekit.agents import APIConnectionError

        try:
            return await asyncio.wrap_future(self._submit(work, urgent=urgent))
        except LkmongoError as error:
            message = "; ".join(filter(None, (error.message, error.why, error.hint)))
            raise APIConnectionError(message, retryable=False) from None
        except Exception as error:  # noqa: BLE001 - the libraries below raise what they like
            # Without its own message and context, which may quote what was said.
            raise APIConnectionError(f"{self._what} failed: {_place_of(error)}") from None

    def _submit(self, work: Callable[[Model], Result], *, urgent: bool) -> Future[Result]:
        future: Future[Result] = Future()
        with self._lock:
            if self._worker is None:
                self._worker = ThreadPoolExecutor(1, f"lkmongo-{self._what.rpartition(' ')[2]}")
            heappush(self._waiting, (not urgent, next(self._numbers), future, work))
            self._worker.submit(self._do_next)
        return future

    def _do_next(self) -> None:
        with self._lock:
            if not self._waiting:
                return
            _, _, future, work = heappop(self._waiting)
        with self._running:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = work(self._loaded())
            except BaseException as error:  # noqa: BLE001 - whoever waits for it gets it
                future.set_exception(error)
            else:
                future.set_result(result)

    def _loaded(self) -> Model:
        with self._loading:
            if self._model is None:
                self._model = self._load()
            return self._model


def _place_of(error: BaseException) -> str:
    """The kind of an error and the line that raised it: `ValueError at tts.py:120`."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f" at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else ""
    return f"{type(error).__name__}{where}"
