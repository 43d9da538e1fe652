"""The log of LiveKit's native library, which is listened to only while a room of this process is not connected.

The library (livekit 1.1) calls Python for each of its records, those for debugging WebRTC and websockets too, and the
SDK throws these away: 18 a second for a room in which nothing happens, which is two thirds of what such a room costs.
What operators read of it is about connecting. Its own filter, which decides while nobody listens, is RUST_LOG; only
where that names something it writes to stderr itself, and past the redaction of our log.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from livekit import rtc

logger = logging.getLogger(__name__)

_lock = threading.Lock()
_unconnected: set[rtc.Room] = set()


def prepare() -> None:
    """Let the library write nothing itself; to be called before it is loaded."""
    os.environ.setdefault("RUST_LOG", "off")
    logging.getLogger("livekit").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """It says that it is initialised, each time."""
    return "initializing ffi server" not in record.getMessage()


def follow(room: rtc.Room) -> None:
    """Listen until a room is connected, and whenever it connects anew, until `leave`; always at log level debug."""
    from livekit import rtc

    if logging.getLogger("livekit").isEnabledFor(logging.DEBUG):
        return

    def on_state(state: int) -> None:
        _is(room, connected=state != rtc.ConnectionState.CONN_RECONNECTING)

    room.on("connection_state_changed", on_state)
    _is(room, connected=room.isconnected())


def leave(room: rtc.Room) -> None:
    """The room is not used any more."""
    if room in _unconnected:
        _is(room, connected=True)


def _is(room: rtc.Room, *, connected: bool) -> None:
    with _lock:
        (_unconnected.discard if connected else _unconnected.add)(room)
        _listen(bool(_unconnected))


def _listen(wanted: bool) -> None:
    """Begin or end to listen; initialising the library once more changes nothing else."""
    try:
        from livekit.rtc._ffi_client import FfiClient, ffi_event_callback
        from livekit.rtc.version import __version__

        initialize = FfiClient.instance._ffi_lib.livekit_ffi_initialize  # noqa: SLF001 - the SDK has no switch
    except (ImportError, AttributeError) as error:
        logger.debug("LiveKit's native library is listened to all the time: %s", error)
        return
    initialize(ffi_event_callback, wanted, b"python", __version__.encode("ascii"))
