"""Each event of WebRTC goes to the call that it belongs to, where several calls share a process.

The SDK (livekit 1.1) hands each event to every room of a process, which looks whose it is, and each frame of sound to
every call's ears. With eight calls in a process that wakes seven event loops in vain for each. Here the loop that made
a request is the one that its answer goes to, and all events of the room or the stream of sound that came of it. What
nothing is known of goes to all of them, as in the SDK.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from livekit.rtc._ffi_client import FfiClient, FfiQueue
from livekit.rtc._proto.ffi_pb2 import FfiEvent, FfiRequest, FfiResponse
from livekit.rtc._utils import Queue

Loop = asyncio.AbstractEventLoop


class CallEvents(FfiQueue[FfiEvent]):
    """The subscribers of a process, by the event loop of their call."""

    def __init__(self) -> None:
        """Know of no call yet."""
        super().__init__()
        self._calls: dict[Loop, FfiQueue[FfiEvent]] = {}
        self._asked: dict[int, Loop] = {}
        self._owners: dict[int, Loop] = {}
        self._changing = threading.RLock()

    def subscribe(
        self, loop: Loop | None = None, filter_fn: Callable[[FfiEvent], bool] | None = None
    ) -> Queue[FfiEvent]:
        """As of FfiQueue; the subscriber gets the events of its loop's call, and those that may be of any."""
        loop = loop or asyncio.get_running_loop()
        with self._changing:
            if loop not in self._calls:
                self._forget_closed()
                self._calls[loop] = FfiQueue()
            return self._calls[loop].subscribe(loop, filter_fn)

    def unsubscribe(self, queue: Queue[FfiEvent]) -> None:
        """As of FfiQueue."""
        with self._changing:
            for call in self._calls.values():
                call.unsubscribe(queue)

    def put(self, item: FfiEvent) -> None:
        """Hand an event to its call, or to all of them if it is not known whose it is."""
        with self._changing:
            owner = self._owner(item)
            calls = [self._calls[owner]] if owner in self._calls else list(self._calls.values())
        for call in calls:
            call.put(item)

    def answered(self, response: FfiResponse, loop: Loop) -> None:
        """Note that this call has made a request, and what it was given for it."""
        message = _message(response)
        with self._changing:
            if number := getattr(message, "async_id", 0):
                self._asked[number] = loop
            if stream := getattr(message, "stream", None):
                self._owners[stream.handle.id] = loop

    def _owner(self, event: FfiEvent) -> Loop | None:
        match event.WhichOneof("message"):
            case "room_event":
                return self._owners.get(event.room_event.room_handle)
            case "audio_stream_event":
                return self._owners.get(event.audio_stream_event.stream_handle)
            case "rpc_method_invocation":
                return self._owners.get(event.rpc_method_invocation.local_participant_handle)
        owner = self._asked.pop(getattr(_message(event), "async_id", 0), None)
        if owner and event.connect.HasField("result"):
            given = event.connect.result
            self._owners |= {given.room.handle.id: owner, given.local_participant.handle.id: owner}
        return owner

    def _forget_closed(self) -> None:
        """Forget the calls that have ended."""
        for loop in [each for each in self._calls if each.is_closed()]:
            del self._calls[loop]
        self._asked = {number: loop for number, loop in self._asked.items() if not loop.is_closed()}
        self._owners = {handle: loop for handle, loop in self._owners.items() if not loop.is_closed()}


class CallsClient(FfiClient):
    """The client of WebRTC of a process whose calls each have an event loop of their own."""

    def __init__(self) -> None:
        """Start it."""
        super().__init__()
        self._queue: CallEvents = CallEvents()

    def request(self, req: FfiRequest) -> FfiResponse:
        """As of FfiClient."""
        response = super().request(req)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # a thread that is no call's: all may hear of it
            return response
        self._queue.answered(response, loop)
        return response


def share() -> None:
    """Have the calls of this process share one client; to be called before there is any."""
    FfiClient._instance = CallsClient()  # noqa: SLF001 - threads that need it at once would each make one


def _message(of: FfiEvent | FfiResponse) -> Any:
    """The message that it holds, or None."""
    which = of.WhichOneof("message")
    return which and getattr(of, which)
